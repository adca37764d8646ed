/* For instructions.py. `instruction_lengths` alone reads lines of the bytes of one instruction each, in hexadecimal, and prints the lines whose
 * length it gets wrong; with arguments, of ELF files, it prints the positions of the CPUID instructions that it proves. */
#include "personality/linux/process/instruction.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_line(const char *line)
{
    uint8_t bytes[2 * INSTRUCTION_MAX];
    size_t size = 0;
    char *end;
    for (const char *at = line; size < INSTRUCTION_MAX; at = end) {
        unsigned long byte = strtoul(at, &end, 16);
        if (end == at)
            break;
        bytes[size++] = (uint8_t)byte;
    }
    memset(bytes + size, 0x90, sizeof bytes - size);
    size_t found = instruction_size(bytes, sizeof bytes), cut = instruction_size(bytes, size - 1);
    if (found != size || cut != 0)
        printf("%zu, %zu when cut: %s", found, cut, line);
}

static void search_file(const char *name)
{
    FILE *file = fopen(name, "r");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(name);
        exit(2);
    }
    size_t size = (size_t)ftell(file);
    uint8_t *bytes = malloc(size);
    rewind(file);
    if (!bytes || fread(bytes, 1, size, file) != size)
        exit(2);
    const Elf64_Ehdr *header = (const void *)bytes;
    const Elf64_Phdr *segments = (const void *)(bytes + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        const uint8_t *code = bytes + segments[i].p_offset;
        size_t code_size = segments[i].p_filesz;
        if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X))
            continue;
        uint8_t *sizes = malloc(code_size);
        if (!sizes)
            exit(2);
        memset(sizes, INSTRUCTION_SIZE_UNKNOWN, code_size);
        for (size_t at = 0; at + 1 < code_size; at++)
            if (code[at] == 0x0f && code[at + 1] == 0xa2 && instruction_begins(code, code_size, at, sizes))
                printf("%lx\n", (unsigned long)(segments[i].p_vaddr + at));
        free(sizes);
    }
    free(bytes);
    fclose(file);
}

int main(int argc, char **argv)
{
    char line[256];
    for (int i = 1; i < argc; i++)
        search_file(argv[i]);
    while (argc == 1 && fgets(line, sizeof line, stdin))
        check_line(line);
    return 0;
}
