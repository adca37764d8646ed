/* Fuzzes the reader of tar streams that come out of a sandbox. Checked, beside what the sanitizers
 * see: nothing outside the target changes.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_tar -max_len=16384
 * Built with MAIN defined it reads the files named on the command line, or headers of its own
 * making, without libFuzzer. */
#include "support.h"

#include <cli/tar-format.h>
#include <cli/tar.h>
#include <stdio.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    char *folder, *victim; /* the victim lies beside the folder that is written */
    int place, stream;
} fuzz;

static void set_up(void)
{
    fuzz.folder = test_folder();
    fuzz.victim = path_join(fuzz.folder, "victim");
    test_file(fuzz.victim, "file", "kept");
    char *inner = path_join(fuzz.folder, "inner");
    if (mkdir(inner, 0755) < 0)
        abort();
    fuzz.place = open(inner, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fuzz.stream = memfd_create("stream", MFD_CLOEXEC);
    if (fuzz.place < 0 || fuzz.stream < 0)
        abort();
    free(inner);
}

static void check_victim(void)
{
    char *content = NULL, *path = path_join(fuzz.victim, "file");
    struct stat status;
    if (path_read_file(AT_FDCWD, path, 4096, &content, NULL) < 0 || strcmp(content, "kept") != 0 ||
        stat(path, &status) < 0 || status.st_nlink != 1 || stat(fuzz.victim, &status) < 0 ||
        status.st_nlink != 2)
        abort();
    free(content);
    free(path);
}

/* A fuzzer does not find checksums. */
static void fix_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
        struct tar_header *header = (struct tar_header *)(data + at);
        char sum[8];
        snprintf(sum, sizeof(sum), "%06o", (unsigned)tar_checksum(header));
        memcpy(header->checksum, sum, sizeof(sum));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!fuzz.folder)
        set_up();
    uint8_t *copy = memory_new(size + 1);
    memcpy(copy, data, size);
    fix_checksums(copy, size);
    struct error error = {0};
    if (ftruncate(fuzz.stream, 0) < 0 || pwrite(fuzz.stream, copy, size, 0) != (ssize_t)size)
        abort();
    lseek(fuzz.stream, 0, SEEK_SET);
    tar_read(fuzz.stream, fuzz.place, "source", "target", &error);
    path_remove_tree(fuzz.place, "target");
    check_victim();
    free(copy);
    return 0;
}

#ifdef MAIN
static size_t make_input(uint8_t *input, uint32_t *random)
{
    static const char *const names[] = {"source",
                                        "source/a",
                                        "source/a/b",
                                        "source/../victim/file",
                                        "../victim/file",
                                        "source/a/../../x",
                                        "source/link/file",
                                        "source/link",
                                        "./source/a",
                                        "source//a",
                                        "other"};
    static const char types[] = "0125LKxg73";
    size_t blocks = 1 + (*random >> 28);
    memset(input, 0, blocks * TAR_BLOCK);
    for (size_t i = 0; i < blocks; i++) {
        struct tar_header *header = (struct tar_header *)(input + i * TAR_BLOCK);
        *random = *random * 1103515245u + 12345;
        strcpy(header->name, names[(*random >> 8) % 11]);
        strcpy(header->link, (*random >> 6) & 1 ? "../../victim" : names[(*random >> 12) % 11]);
        header->type = types[(*random >> 16) % 10];
        snprintf(header->size, sizeof(header->size), "%o",
                 (*random >> 20) & 1 ? 0u : (*random >> 21) % 2000);
        memcpy(header->mode, "0000755", 8);
    }
    return blocks * TAR_BLOCK;
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
    int errors = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO); /* what is left out is noted there, thousands of times */
    for (int i = 0; argc == 1 && i < 5000; i++)
        LLVMFuzzerTestOneInput(input, make_input(input, &random));
    dup2(errors, STDERR_FILENO);
    if (fuzz.folder)
        test_remove(fuzz.folder);
    return 0;
}
#endif
