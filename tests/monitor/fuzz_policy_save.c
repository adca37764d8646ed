/* Fuzzes the reader of saved policies, as an image from a stranger holds one. Checked, beside what
 * the sanitizers see: what is refused leaves nothing behind and has a reason; what is accepted is
 * saved again to the same bytes.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_policy_save -max_len=65536 */
#include "../linux/fuzz_main.h"

#include <base/cleanup.h>
#include <monitor/policy/save.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mon_policy policy;
    struct error error = {0};
    cleanup_text struct text again = {0};
    int result = mon_policy_load(&policy, data, size, &error);
    if (result < 0) {
        if (!error.message[0] || error.code != result || policy.mounts || policy.program)
            abort();
        return 0;
    }
    if (mon_policy_save(&policy, &again) < 0 || again.size != size ||
        memcmp(again.data, data, size) != 0)
        abort();
    mon_policy_free(&policy);
    return 0;
}

#ifdef MAIN
static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    struct mon_policy policy = {.user = round % 3,
                                .memory_limit = round % 5 << 30,
                                .terminal = round & 1,
                                .detach = round & 2};
    cleanup_text struct text saved = {0};
    policy.program = text_copy("true");
    policy.directory = text_copy("/");
    policy.name = text_copy("name");
    policy.host_name = text_copy("host");
    policy.rootfs = round & 4 ? text_copy("/r") : NULL;
    text_list_add(&policy.arguments, "true");
    text_list_add(&policy.environment, "A=b");
    mon_policy_add_mount(&policy, "/etc", "/etc", BLY_MOUNT_LAYERED | MON_MOUNT_DEFAULT_VIEW);
    mon_policy_add_mount(&policy, "/usr", "/usr", BLY_MOUNT_READ_ONLY);
    mon_policy_add_node(&policy, BLY_NODE_SYMLINK, "/bin", 0777, "usr/bin");
    mon_policy_add_node(&policy, BLY_NODE_DIRECTORY, "/tmp", 01777, NULL);
    mon_policy_add_node(&policy, BLY_NODE_TEXT, "/x", 0644, "text");
    if (mon_policy_save(&policy, &saved) < 0 || saved.size > limit)
        abort();
    mon_policy_free(&policy);
    memcpy(data, saved.data, saved.size);
    return saved.size;
}
#endif
