/* Reading ELF: a pure function over bytes, with no allocation and no access to anything else, so that it can be fuzzed.
 *
 * What it accepts can be mapped without further checks: segments are in order, do not overlap, lie within the program's
 * address space, and their file ranges do not overflow. */
#ifndef LX_PROCESS_ELF_H
#define LX_PROCESS_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_SEGMENT_MAX 64
#define ELF_INTERPRETER_MAX 4096

struct elf_segment {
    uint64_t address, memory_size; /* as in the file: not rounded to pages; relative to the load base for a movable image */
    uint64_t offset, file_size;
    unsigned protection;           /* BLY_PROT_* */
};
struct elf_image {
    bool movable;                  /* ET_DYN */
    uint64_t entry;
    uint64_t start, end;           /* page-rounded extent of all segments */
    uint64_t alignment;            /* largest p_align, a power of two, at least a page */
    uint64_t program_headers;      /* address in memory; 0 when no segment holds them */
    uint32_t program_header_count;
    uint64_t interpreter_offset;   /* of the path in the file; size 0: none */
    uint32_t interpreter_size;     /* with the final NUL */
    bool executable_stack;         /* PT_GNU_STACK says so */
    uint32_t segment_count;
    struct elf_segment segments[ELF_SEGMENT_MAX];
};

#define ELF_HEADER_SIZE 64
/* Bytes of program headers, and where they are, from the first ELF_HEADER_SIZE bytes. -ENOEXEC: not a program for this machine. */
int elf_parse_header(const void *header, uint64_t *out_offset, uint32_t *out_size) __attribute__((warn_unused_result));
/* `headers` are the `headers_size` bytes found there. */
int elf_parse(const void *header, const void *headers, size_t headers_size, struct elf_image *out_image) __attribute__((warn_unused_result));

#endif
