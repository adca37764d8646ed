/* Fuzzes the policy reader: each input is a policy file. Checked, beside what the sanitizers see: a
 * refusal always has a reason that a person can read, and what was accepted survives
 * being written as a file and read again.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_policy -dict=fuzz_policy.dict
 * Built with MAIN defined it reads the files named on the command line, or mutations of a sound
 * policy, without libFuzzer. */
#include <base/error.h>
#include <base/text.h>
#include <cli/learn.h>
#include <fcntl.h>
#include <monitor/policy/policy.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct mon_policy *policy)
{
    struct text text = {0};
    struct mon_policy again = {0};
    struct error error = {0};
    policy_write_yaml(policy, &text);
    if (mon_policy_read_text(&again, text.data, text.size, "again", "/", &error) < 0) {
        fprintf(stderr, "%s\n%s\n", error.message, text.data);
        abort();
    }
    if (again.mount_count != policy->mount_count ||
        again.arguments.count != policy->arguments.count ||
        again.memory_limit != policy->memory_limit) {
        fprintf(stderr, "read again differently:\n%s\n", text.data);
        abort();
    }
    mon_policy_free(&again);
    text_free(&text);
}

/* What JSON, and so our own writing, cannot carry unchanged. */
static bool is_writable(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] >= 0x80)
            return false;
    return memchr(data, '\\', size) == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mon_policy policy = {0};
    struct error error = {0};
    /* mon_policy_read_file gives a text that ends with NUL. */
    char *text = text_copy_size((const char *)data, size);
    int result = mon_policy_read_text(&policy, text, size, "policy.yaml", "/folder", &error);
    if (result < 0 && (!error.message[0] || error.code != result))
        abort();
    if (result == 0 && is_writable(data, size) && !policy.rootfs)
        check_again(&policy);
    mon_policy_free(&policy);
    free(text);
    return 0;
}

#ifdef MAIN
static const char sound[] =
    "command: [prog, \"a b\"]\nname: n\nhostname: h\nworkdir: /w\nuser: \"7:8\"\nenvironment: "
    "[A=1]\n"
    "volumes:\n  - host: sub\n    guest: /g\n    access: ro\n  - host: /abs\nview: none\nlayer: l\n"
    "read-only: yes\nmemory: 64m\npids: 9\ntty: false\ndetach: true\naudit: a.log\npatching: "
    "false\n";

/* One sound policy with some bytes changed, moved or cut off. */
static size_t make_input(uint8_t *input, uint32_t *random)
{
    static const char characters[] = " \n:-[]{}\"'#&*!|>%@`,?a0/";
    size_t size = sizeof(sound) - 1;
    memcpy(input, sound, size);
    for (int changes = 0; changes < 4; changes++) {
        *random = *random * 1103515245u + 12345;
        size_t place = (*random >> 8) % size;
        switch (*random >> 30) {
        case 0:
            input[place] = (uint8_t)characters[(*random >> 4) % (sizeof(characters) - 1)];
            break;
        case 1:
            input[place] = (uint8_t)(*random >> 20);
            break;
        case 2:
            memmove(input + place, input + place / 2, size - place);
            break;
        default:
            if (changes == 3)
                size = place + 1;
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t input[1 << 20];
    uint32_t random = 1;
    for (int i = 1; i < argc; i++) {
        int file = open(argv[i], O_RDONLY);
        ssize_t size = read(file, input, sizeof(input));
        close(file);
        LLVMFuzzerTestOneInput(input, size > 0 ? (size_t)size : 0);
    }
    for (int i = 0; argc == 1 && i < 5000; i++)
        LLVMFuzzerTestOneInput(input, make_input(input, &random));
    return 0;
}
#endif
