/* Clocks, through the host's vDSO where it can answer; and moving the vDSO into our window.
 *
 * The vDSO is an ELF image with data pages (vvar) right below it; both must keep their distance. */

#include "host.h"
#include <linux/elf.h>
#include <linux/mman.h>
#include <linux/time.h>

#define VVAR_PAGES_MAX ((BLY_HOST_DATA - BLY_HOST_VDSO) / BLY_PAGE_SIZE / 2) /* on either side */

struct gnu_hash {
    uint32_t bucket_count, first_symbol, bloom_count, bloom_shift;
};

static uint32_t symbol_count(const uint32_t *hash, const struct gnu_hash *gnu)
{
    if (hash)
        return hash[1]; /* nchain */
    if (!gnu)
        return 0;
    const uint32_t *buckets = (const uint32_t *)((const uint64_t *)(gnu + 1) + gnu->bloom_count);
    const uint32_t *chains = buckets + gnu->bucket_count;
    uint32_t last = 0;
    for (uint32_t i = 0; i < gnu->bucket_count; i++)
        if (buckets[i] > last)
            last = buckets[i];
    if (!last)
        return gnu->first_symbol;
    while (!(chains[last - gnu->first_symbol] & 1))
        last++;
    return last + 1;
}

static bool equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void *symbol_find(const char *image, const char *name)
{
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Phdr *segments = (const void *)(image + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    const char *base = NULL;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && !base)
            base = image + segments[i].p_offset - segments[i].p_vaddr;
        else if (segments[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(image + segments[i].p_offset);
    }
    if (!base || !dynamic)
        return NULL;
    const Elf64_Sym *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    const struct gnu_hash *gnu = NULL;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        const void *value = base + dynamic->d_un.d_ptr;
        switch (dynamic->d_tag) {
        case DT_SYMTAB:
            symbols = value;
            break;
        case DT_STRTAB:
            strings = value;
            break;
        case DT_HASH:
            hash = value;
            break;
        case 0x6ffffef5 /* DT_GNU_HASH */:
            gnu = value;
            break;
        }
    }
    if (!symbols || !strings)
        return NULL;
    for (uint32_t i = 0; i < symbol_count(hash, gnu); i++)
        if (symbols[i].st_shndx && equal(strings + symbols[i].st_name, name))
            return (void *)(base + symbols[i].st_value);
    return NULL;
}

static bool page_mapped(uint64_t address)
{
    unsigned char resident;
    return sys3(__NR_mincore, address, BLY_PAGE_SIZE, &resident) != -ENOMEM;
}

/* Before the filter is installed. The mappings' bounds are found by trial: no /proc is needed, and
 * the kernel refuses to split these mappings, so that a piece of the wrong size is an error without
 * effect. On any surprise the vDSO is done without. */
void host_vdso_move(uint64_t vdso)
{
    if (!vdso)
        return;
    uint64_t start = vdso, end = vdso;
    while (vdso - start < VVAR_PAGES_MAX * BLY_PAGE_SIZE && page_mapped(start - BLY_PAGE_SIZE))
        start -= BLY_PAGE_SIZE;
    while (end - vdso < VVAR_PAGES_MAX * BLY_PAGE_SIZE && page_mapped(end))
        end += BLY_PAGE_SIZE;
    for (uint64_t at = start; at < end;) {
        uint64_t size = BLY_PAGE_SIZE;
        while (at + size <= end && sys6(__NR_mremap, at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
                                        BLY_HOST_VDSO + (at - start), 0) < 0)
            size += BLY_PAGE_SIZE;
        if (at + size > end)
            return;
        at += size;
    }
    host.vdso_start = BLY_HOST_VDSO;
    host.vdso_end = BLY_HOST_VDSO + (end - start);
    const char *image = (const char *)(BLY_HOST_VDSO + (vdso - start));
    host.vdso_clock_gettime = symbol_find(image, "__vdso_clock_gettime");
    host.vdso_getcpu = symbol_find(image, "__vdso_getcpu");
}

static long clock_get(int clock, uint64_t *out_ns)
{
    struct __kernel_timespec time;
    long result = host.vdso_clock_gettime ? host.vdso_clock_gettime(clock, &time)
                                          : sys2(__NR_clock_gettime, clock, &time);
    if (result == 0)
        *out_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return result;
}

uint64_t host_now_ns(void)
{
    uint64_t now = 0;
    clock_get(CLOCK_MONOTONIC, &now);
    return now + (uint64_t)host_info->clock_offset_ns;
}

/* clock_getcpuclockid(3): a CPU-time clock carries the inverted id of its process or thread. */
#define CPU_CLOCK(id, kind) ((int)(~(id) << 3 | (kind)))
#define CPU_CLOCK_OF_PROCESS 2u
#define CPU_CLOCK_OF_THREAD 6u

int host_clock_read(unsigned clock, uint32_t id, uint64_t *out_ns)
{
    static const int8_t clocks[] = {
        [BLY_CLOCK_REALTIME] = CLOCK_REALTIME,
        [BLY_CLOCK_MONOTONIC] = CLOCK_MONOTONIC,
        [BLY_CLOCK_BOOT_TIME] = CLOCK_BOOTTIME,
        [BLY_CLOCK_PROCESS_CPU] = CLOCK_PROCESS_CPUTIME_ID,
        [BLY_CLOCK_THREAD_CPU] = CLOCK_THREAD_CPUTIME_ID,
        [BLY_CLOCK_MONOTONIC_RAW] = CLOCK_MONOTONIC_RAW,
        [BLY_CLOCK_REALTIME_COARSE] = CLOCK_REALTIME_COARSE,
        [BLY_CLOCK_MONOTONIC_COARSE] = CLOCK_MONOTONIC_COARSE,
    };
    if (clock >= sizeof clocks)
        return -EINVAL;
    int host_clock = clocks[clock];
    if (clock == BLY_CLOCK_PROCESS_CPU || clock == BLY_CLOCK_THREAD_CPU) {
        bool thread = clock == BLY_CLOCK_THREAD_CPU;
        uint32_t own = thread ? host_block()->thread_id : host_process_id();
        if (id && id != own && !thread && !host.in_pid_namespace) {
            struct host_rpc rpc = {.operation = BLY_RPC_CPU_TIME, .u = {id}}; /* the filter lets nothing through: ids are the host's */
            int result = (int)host_rpc_call(&rpc);
            *out_ns = rpc.u[0];
            return result;
        }
        if (id && id != own)
            host_clock = CPU_CLOCK(id, thread ? CPU_CLOCK_OF_THREAD : CPU_CLOCK_OF_PROCESS);
        struct __kernel_timespec time;
        long result = sys2(__NR_clock_gettime, host_clock, &time);
        if (result < 0)
            return result == -EINVAL ? -ESRCH : (int)result;
        *out_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
        return 0;
    }
    int result = (int)clock_get(host_clock, out_ns);
    if (result == 0 && clock != BLY_CLOCK_REALTIME && clock != BLY_CLOCK_REALTIME_COARSE)
        *out_ns += (uint64_t)host_info->clock_offset_ns;
    return result;
}
