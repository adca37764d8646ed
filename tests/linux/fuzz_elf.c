/* Fuzzes the ELF reader. Beside what the sanitizers see: what it accepts must hold what elf.h promises to the loader.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude tests/linux/fuzz_elf.c personality/linux/process/elf.c
 * Built with MAIN it runs without libFuzzer (fuzz_main.h). */
#include "personality/linux/process/elf.h"

#include "fuzz_main.h"

#include <bailey/layout.h>
#include <elf.h>
#include <stdbool.h>
#include <string.h>

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

static void check_image(const struct elf_image *image)
{
    REQUIRE(image->segment_count >= 1 && image->segment_count <= ELF_SEGMENT_MAX);
    REQUIRE(image->start < image->end && image->end <= BLY_GUEST_MAX && image->start % 4096 == 0 && image->end % 4096 == 0);
    REQUIRE(image->alignment >= 4096 && !(image->alignment & (image->alignment - 1)) && image->alignment <= 1ull << 30);
    REQUIRE(image->entry < BLY_GUEST_MAX && image->interpreter_size <= ELF_INTERPRETER_MAX && image->interpreter_size != 1);
    REQUIRE(image->movable || (image->start >= BLY_GUEST_MIN && (image->end <= BLY_WINDOW_START || image->start >= BLY_WINDOW_END)));
    uint64_t end = 0;
    for (uint32_t i = 0; i < image->segment_count; i++) {
        const struct elf_segment *segment = &image->segments[i];
        REQUIRE(segment->address >= end && segment->memory_size > 0 && segment->file_size <= segment->memory_size);
        REQUIRE(segment->address <= UINT64_MAX - segment->memory_size && segment->offset <= (uint64_t)INT64_MAX - segment->file_size);
        REQUIRE((segment->address & 4095) == (segment->offset & 4095) && segment->protection < 8);
        end = segment->address + segment->memory_size;
        REQUIRE(segment->address >= image->start && end <= image->end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct elf_image image;
    uint64_t offset;
    uint32_t header_size;
    if (size < ELF_HEADER_SIZE || elf_parse_header(data, &offset, &header_size) != 0)
        return 0;
    REQUIRE(header_size > 0 && header_size <= 65536 && offset <= (uint64_t)INT64_MAX - header_size);
    /* The headers as the loader reads them: a copy of exactly their size, so that a step beyond is seen. */
    uint8_t *headers = calloc(1, header_size);
    if (offset < size)
        memcpy(headers, data + offset, size - offset < header_size ? size - offset : header_size);
    if (elf_parse(data, headers, header_size, &image) == 0)
        check_image(&image);
    free(headers);
    return 0;
}

#ifdef MAIN
static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    static const Elf64_Phdr programs[] = {
        {.p_type = PT_PHDR, .p_offset = 64, .p_vaddr = 64, .p_filesz = 336, .p_memsz = 336, .p_flags = PF_R},
        {.p_type = PT_INTERP, .p_offset = 0x400, .p_filesz = 28, .p_memsz = 28, .p_flags = PF_R},
        {.p_type = PT_LOAD, .p_filesz = 0x1000, .p_memsz = 0x1000, .p_flags = PF_R, .p_align = 4096},
        {.p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0x1000, .p_filesz = 0x800, .p_memsz = 0x800, .p_flags = PF_R | PF_X, .p_align = 4096},
        {.p_type = PT_LOAD, .p_offset = 0x1d00, .p_vaddr = 0x3d00, .p_filesz = 0x300, .p_memsz = 0x9000, .p_flags = PF_R | PF_W, .p_align = 65536},
        {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W},
    };
    bool movable = round % 2;
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = movable ? ET_DYN : ET_EXEC,
                         .e_machine = EM_X86_64, .e_version = 1, .e_phoff = 64, .e_phentsize = sizeof(Elf64_Phdr),
                         .e_phnum = sizeof programs / sizeof programs[0], .e_ehsize = 64, .e_entry = 0x1000};
    memset(data, 0, 1024);
    memcpy(data, &header, sizeof header);
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        Elf64_Phdr program = programs[i];
        program.p_vaddr += movable ? 0 : 0x400000;
        memcpy(data + 64 + i * sizeof program, &program, sizeof program);
    }
    return 1024;
}
#endif
