/* ELF headers into struct elf_image; see elf.h. Nothing here believes the file: every sum is checked before it is used. */
#include "personality/linux/process/elf.h"

#include <asm/errno.h>
#include <bailey/abi.h>
#include <linux/elf.h>

#define PAGE_MASK (BLY_PAGE_SIZE - 1)
enum { HEADERS_MAX = 65536 }; /* as Linux: ELF_MIN_ALIGN pages of program headers at most */

_Static_assert(sizeof(Elf64_Ehdr) == ELF_HEADER_SIZE, "ELF header");

static const Elf64_Ehdr *header_of(const void *bytes, Elf64_Ehdr *copy)
{
    __builtin_memcpy(copy, bytes, sizeof *copy);
    return copy;
}

int elf_parse_header(const void *bytes, uint64_t *out_offset, uint32_t *out_size)
{
    Elf64_Ehdr copy;
    const Elf64_Ehdr *header = header_of(bytes, &copy);
    if (header->e_ident[0] != ELFMAG0 || header->e_ident[1] != ELFMAG1 || header->e_ident[2] != ELFMAG2 || header->e_ident[3] != ELFMAG3)
        return -ENOEXEC;
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
        return -ENOEXEC;
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return -ENOEXEC;
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum < 1)
        return -ENOEXEC;
    uint64_t size = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (size > HEADERS_MAX || header->e_phoff > INT64_MAX - size)
        return -ENOEXEC;
    *out_offset = header->e_phoff;
    *out_size = (uint32_t)size;
    return 0;
}

static unsigned protection_of(uint32_t flags)
{
    return (flags & PF_R ? BLY_PROT_READ : 0u) | (flags & PF_W ? BLY_PROT_WRITE : 0u) | (flags & PF_X ? BLY_PROT_EXECUTE : 0u);
}

static bool power_of_two(uint64_t value)
{
    return value && !(value & (value - 1));
}

static int add_segment(struct elf_image *image, const Elf64_Phdr *header)
{
    if (header->p_memsz == 0)
        return 0;
    if (header->p_filesz > header->p_memsz || image->segment_count == ELF_SEGMENT_MAX)
        return -ENOEXEC;
    if (header->p_vaddr >= BLY_GUEST_MAX || header->p_memsz > BLY_GUEST_MAX - header->p_vaddr)
        return -ENOEXEC;
    if (header->p_offset > INT64_MAX - BLY_PAGE_SIZE || header->p_filesz > INT64_MAX - BLY_PAGE_SIZE - header->p_offset)
        return -ENOEXEC;
    if ((header->p_vaddr ^ header->p_offset) & PAGE_MASK)
        return -ENOEXEC; /* cannot be mapped */
    uint64_t start = header->p_vaddr & ~PAGE_MASK, end = (header->p_vaddr + header->p_memsz + PAGE_MASK) & ~PAGE_MASK;
    if (image->segment_count == 0)
        image->start = start;
    else if (header->p_vaddr < image->segments[image->segment_count - 1].address + image->segments[image->segment_count - 1].memory_size)
        return -ENOEXEC; /* PT_LOAD entries ascend (System V ABI) */
    image->end = end;
    image->segments[image->segment_count++] = (struct elf_segment){
        .address = header->p_vaddr, .memory_size = header->p_memsz, .offset = header->p_offset, .file_size = header->p_filesz,
        .protection = protection_of(header->p_flags),
    };
    if (power_of_two(header->p_align) && header->p_align > image->alignment && header->p_align <= 1ull << 30)
        image->alignment = header->p_align;
    return 0;
}

/* Where the program headers are in memory: through PT_PHDR, else through the segment that holds their file range. */
static void find_program_headers(struct elf_image *image, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < image->segment_count && !image->program_headers; i++) {
        const struct elf_segment *segment = &image->segments[i];
        if (offset >= segment->offset && offset - segment->offset < segment->file_size && size <= segment->file_size - (offset - segment->offset))
            image->program_headers = segment->address + (offset - segment->offset);
    }
}

int elf_parse(const void *bytes, const void *headers, size_t headers_size, struct elf_image *image)
{
    Elf64_Ehdr copy;
    uint64_t offset;
    uint32_t size;
    __builtin_memset(image, 0, sizeof *image);
    int error = elf_parse_header(bytes, &offset, &size);
    if (error || headers_size != size)
        return -ENOEXEC;
    const Elf64_Ehdr *header = header_of(bytes, &copy);
    image->movable = header->e_type == ET_DYN;
    image->alignment = BLY_PAGE_SIZE;
    image->program_header_count = header->e_phnum;

    for (uint32_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr program;
        __builtin_memcpy(&program, (const char *)headers + i * sizeof program, sizeof program);
        switch (program.p_type) {
        case PT_LOAD:
            if ((error = add_segment(image, &program)))
                return error;
            break;
        case PT_INTERP:
            if (image->interpreter_size)
                break; /* Linux looks at the first only */
            if (program.p_filesz < 2 || program.p_filesz > ELF_INTERPRETER_MAX || program.p_offset > INT64_MAX - program.p_filesz)
                return -ENOEXEC;
            image->interpreter_offset = program.p_offset;
            image->interpreter_size = (uint32_t)program.p_filesz;
            break;
        case PT_GNU_STACK:
            image->executable_stack = program.p_flags & PF_X;
            break;
        default:
            break;
        }
    }
    if (image->segment_count == 0)
        return -ENOEXEC;
    if (!image->movable && image->start < BLY_GUEST_MIN)
        return -ENOEXEC;
    if (!image->movable && image->start < BLY_WINDOW_END && image->end > BLY_WINDOW_START)
        return -ENOMEM; /* it wants the addresses that are Bailey's */
    find_program_headers(image, offset, size);
    image->entry = header->e_entry;
    if (header->e_entry >= BLY_GUEST_MAX)
        return -ENOEXEC;
    return 0;
}
