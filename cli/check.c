/* bailey check: what this host offers, what Bailey uses of it, and what is weaker without. */
#include <cli/command.h>

#include <asm/hwcap2.h>
#include <bailey/layout.h>
#include <base/json.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <monitor/monitor.h>
#include <monitor/processor-features.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct option_help options[] = {
    {0, "json", NULL, "print JSON"},
    {0, NULL, NULL, NULL},
};

/* What is not a wall but a part: without it Bailey is slower, or cannot run at all. */
struct feature {
    const char *name;
    bool (*probe)(void);
    bool required;
    const char *without;
};

static bool has_fsgsbase(void)
{
    return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
}

static bool has_membarrier(void)
{
    long supported = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    return supported > 0 && (supported & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
}

static bool has_memfd(void)
{
    int descriptor = memfd_create("bailey-check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0)
        return false;
    close(descriptor);
    return true;
}

static bool has_openat2(void)
{
    /* An empty `how` is refused by a kernel that knows the call, and unknown to others. */
    return syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0) < 0 && errno != ENOSYS;
}

static bool has_window(void)
{
    /* The address that Bailey's own memory lies at must be free: it is, unless the host runs with
     * other address-space rules. */
    void *place = (void *)BLY_IMAGE_START;
    void *got =
        mmap(place, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != MAP_FAILED)
        munmap(got, 4096);
    return got == place;
}

static bool has_low_addresses(void)
{
    char *text = NULL;
    if (path_read_file(AT_FDCWD, "/proc/sys/vm/mmap_min_addr", 64, &text, NULL) < 0)
        return true;
    unsigned long minimum = strtoul(text, NULL, 10);
    free(text);
    return minimum <= 65536;
}

static const struct feature features[] = {
    {"FSGSBASE instructions", has_fsgsbase, true,
     "Bailey cannot run: a kernel from 5.9 on and a processor from 2012 on are needed"},
    {"address window", has_window, true,
     "Bailey cannot run: the kernel does not give 47-bit addresses"},
    {"sealed memory files", has_memfd, true, "Bailey cannot run: memfd_create is missing"},
    {"openat2", has_openat2, true, "Bailey cannot run: a kernel from 5.6 on is needed"},
    {"code barriers (membarrier)", has_membarrier, false,
     "call sites are not patched: system calls of programs are slower"},
    {"CPUID faulting", mon_processor_can_fault, false,
     "--migratable holds for programs' files only, not for code they make (see docs/policy.md)"},
    {"low addresses", has_low_addresses, false, "programs linked below 64 KiB do not run"},
};
#define FEATURE_COUNT (sizeof(features) / sizeof(features[0]))

static void print_item(const char *name, bool present, const char *reason, const char *without)
{
    printf("  %-30s %s\n", name, present ? "yes" : "no");
    if (present)
        return;
    if (reason && *reason)
        printf("  %-30s   (%s)\n", "", reason);
    if (without)
        printf("  %-30s   %s\n", "", without);
}

static void write_item(struct json *json, const char *name, bool present, const char *reason,
                       const char *without)
{
    json_object(json);
    json_key_string(json, "name", name);
    json_key_boolean(json, "present", present);
    if (!present && reason && *reason)
        json_key_string(json, "reason", reason);
    if (!present)
        json_key_string(json, "without", without);
    json_object_end(json);
}

/* Whether every limit is kept by the host's kernel; one that is not is soft. */
static bool limits_are_hard(const struct mon_wall *walls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (text_starts_with(walls[i].name, "hard limit") && !walls[i].present)
            return false;
    return true;
}

static int run(int argc, char **argv, struct error *error)
{
    bool as_json = false;
    struct option_reader reader = {.command = &command_check, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        as_json = true;
    if (error->code || reader.helped || command_expect_words(&reader, 0, 0, error) < 0)
        return error->code;
    struct mon_wall walls[MON_WALL_MAX];
    size_t wall_count = mon_check_walls(walls);
    struct utsname system;
    uname(&system);
    bool present[FEATURE_COUNT], usable = true;
    for (size_t i = 0; i < FEATURE_COUNT; i++) {
        present[i] = features[i].probe();
        usable &= present[i] || !features[i].required;
    }
    bool hard = limits_are_hard(walls, wall_count);
    if (as_json) {
        cleanup_text struct text text = {0};
        struct json json = json_to(&text);
        json_object(&json);
        json_key_boolean(&json, "usable", usable);
        json_key_string(&json, "kernel", system.release);
        json_key_boolean(&json, "root", geteuid() == 0);
        json_key(&json, "walls");
        json_array(&json);
        for (size_t i = 0; i < wall_count; i++)
            write_item(&json, walls[i].name, walls[i].present, walls[i].reason, walls[i].without);
        json_array_end(&json);
        json_key(&json, "parts");
        json_array(&json);
        for (size_t i = 0; i < FEATURE_COUNT; i++)
            write_item(&json, features[i].name, present[i], NULL, features[i].without);
        json_array_end(&json);
        json_key_boolean(&json, "hard_limits", hard);
        json_object_end(&json);
        printf("%s\n", text.data);
        return usable ? 0 : EXIT_BAILEY;
    }
    printf("Linux %s on %s, as %s\n\nWalls around a sandbox:\n", system.release, system.machine,
           geteuid() == 0 ? "root" : "an ordinary user");
    for (size_t i = 0; i < wall_count; i++)
        print_item(walls[i].name, walls[i].present, walls[i].reason, walls[i].without);
    printf("\nParts that Bailey uses:\n");
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        print_item(features[i].name, present[i], NULL, features[i].without);
    printf("\nLimits (--memory, --pids):\n  %s.\n",
           hard ? "hard: the host's kernel keeps them"
                : "soft where a hard limit is missing above: kept by the sandbox's own kernel");
    printf("\n%s\n", usable ? "Bailey can run here." : "Bailey cannot run here.");
    return usable ? 0 : EXIT_BAILEY;
}

const struct command command_check = {
    .name = "check",
    .arguments = "",
    .summary = "Say what this host offers, what Bailey uses, and what stays soft",
    .run = run,
    .options = options,
};
