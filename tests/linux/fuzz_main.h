/* A fuzzer's target without libFuzzer: over the files named on the command line, else over mutations of a seed that the target makes;
 * with `--seeds FOLDER` these seeds are written there, for libFuzzer to begin with (tests/fuzz.py). */
#ifndef TESTS_LINUX_FUZZ_MAIN_H
#define TESTS_LINUX_FUZZ_MAIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef MAIN
/* Fills `data` with something valid, `round` choosing which; its size. */
static size_t make_seed(uint8_t *data, size_t limit, unsigned round);

static int write_seeds(const char *folder, uint8_t *data, size_t limit)
{
    for (unsigned round = 0; round < 16; round++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/seed-%u", folder, round);
        FILE *file = fopen(name, "wb");
        size_t size = make_seed(data, limit, round);
        if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    enum { LIMIT = 65536, ROUNDS = 30000 };
    uint8_t *data = malloc(LIMIT);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        int failed = write_seeds(argv[2], data, LIMIT);
        free(data);
        return failed;
    }
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 1;
        LLVMFuzzerTestOneInput(data, fread(data, 1, LIMIT, file));
        fclose(file);
    }
    srand(1);
    for (unsigned round = 0; argc == 1 && round < ROUNDS; round++) {
        size_t size = make_seed(data, LIMIT, round);
        for (int changes = rand() % 6; changes > 0 && size; changes--) {
            static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
            data[(size_t)rand() % size] = rand() % 2 ? edges[rand() % 5] : (uint8_t)rand();
        }
        LLVMFuzzerTestOneInput(data, rand() % 8 ? size : size ? (size_t)rand() % size : 0);
    }
    free(data);
    return 0;
}
#endif
#endif
