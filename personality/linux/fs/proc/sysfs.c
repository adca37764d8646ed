/* /sys: the little that programs look for: processors, memory nodes, the loopback interface. Argument 0 is a CPU number + 1. */
#include "personality/linux/fs/proc/proc.h"
#include <linux/magic.h>
#include <linux/mount.h>

static uint32_t cpu_count(void)
{
    struct bly_system_info info;
    return bly->system_query(&info) == 0 && info.cpu_count ? info.cpu_count : 1;
}

static int show_cpu_list(const struct pseudo_node *node, struct text *out)
{
    uint32_t count = cpu_count();
    text_add(out, count > 1 ? "0-%u\n" : "%u\n", count - 1);
    return 0;
}

static int show_cpu_mask(const struct pseudo_node *node, struct text *out)
{
    uint32_t count = cpu_count();
    text_add(out, "%x\n", count >= 32 ? ~0u : (1u << count) - 1);
    return 0;
}

static int show_own_cpu(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%lu\n", (unsigned long)node->argument[0] - 1);
    return 0;
}

static int show_own_mask(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%lx\n", 1ul << ((node->argument[0] - 1) % 64));
    return 0;
}

static const struct pseudo_entry topology_entries[] = {
    PSEUDO_FILE("core_id", 0444, show_own_cpu), PSEUDO_TEXT("physical_package_id", "0\n"), PSEUDO_FILE("thread_siblings", 0444, show_own_mask), PSEUDO_FILE("thread_siblings_list", 0444, show_own_cpu),
    PSEUDO_FILE("core_cpus", 0444, show_own_mask), PSEUDO_FILE("core_cpus_list", 0444, show_own_cpu), PSEUDO_FILE("core_siblings", 0444, show_cpu_mask), PSEUDO_FILE("core_siblings_list", 0444, show_cpu_list),
    PSEUDO_FILE("package_cpus_list", 0444, show_cpu_list),
};
static const struct pseudo_entry one_cpu_entries[] = { PSEUDO_TEXT("online", "1\n"), PSEUDO_DIRECTORY("topology", topology_entries) };
static const struct pseudo_entry one_cpu = PSEUDO_DIRECTORY("cpu", one_cpu_entries);

static int find_cpu(const struct pseudo_node *directory, const char *name, struct pseudo_node *out_node)
{
    uint64_t number;
    size_t length = strlen(name);
    if (strncmp(name, "cpu", 3) != 0 || parse_number(name + 3, length - 3, &number) != length - 3 || length == 3 || number >= cpu_count())
        return -ENOENT;
    out_node->entry = &one_cpu;
    out_node->argument[0] = number + 1;
    return 0;
}

static int list_cpus(const struct pseudo_node *directory, uint64_t *cursor, char *name, size_t size)
{
    if (*cursor >= cpu_count())
        return 0;
    format(name, size, "cpu%lu", (unsigned long)(*cursor)++);
    return 1;
}

static const struct pseudo_entry cpu_entries[] = {
    PSEUDO_FILE("online", 0444, show_cpu_list), PSEUDO_FILE("possible", 0444, show_cpu_list), PSEUDO_FILE("present", 0444, show_cpu_list), PSEUDO_TEXT("offline", "\n"), PSEUDO_TEXT("kernel_max", "8191\n"),
    PSEUDO_TEXT("isolated", "\n"),
};

static int show_node_memory(const struct pseudo_node *node, struct text *out)
{
    struct bly_system_info info;
    int problem = bly->system_query(&info);
    if (!problem)
        text_add(out, "Node 0 MemTotal:       %lu kB\nNode 0 MemFree:        %lu kB\n", (unsigned long)(info.memory_limit / 1024), (unsigned long)(info.memory_free / 1024));
    return problem;
}
static const struct pseudo_entry node0_entries[] = {
    PSEUDO_FILE("cpulist", 0444, show_cpu_list), PSEUDO_FILE("cpumap", 0444, show_cpu_mask), PSEUDO_FILE("meminfo", 0444, show_node_memory), PSEUDO_TEXT("distance", "10\n"),
};
static const struct pseudo_entry node_entries[] = {
    PSEUDO_TEXT("online", "0\n"), PSEUDO_TEXT("possible", "0\n"), PSEUDO_TEXT("has_cpu", "0\n"), PSEUDO_TEXT("has_memory", "0\n"), PSEUDO_TEXT("has_normal_memory", "0\n"), PSEUDO_DIRECTORY("node0", node0_entries),
};
static const struct pseudo_entry device_system_entries[] = {
    { .name = "cpu", .mode = S_IFDIR | 0555, .entries = cpu_entries, .entry_count = sizeof cpu_entries / sizeof *cpu_entries, .find = find_cpu, .list = list_cpus },
    PSEUDO_DIRECTORY("node", node_entries),
};
static const struct pseudo_entry lo_entries[] = {
    PSEUDO_TEXT("address", "00:00:00:00:00:00\n"), PSEUDO_TEXT("mtu", "65536\n"), PSEUDO_TEXT("flags", "0x9\n"), PSEUDO_TEXT("ifindex", "1\n"), PSEUDO_TEXT("iflink", "1\n"), PSEUDO_TEXT("type", "772\n"),
    PSEUDO_TEXT("operstate", "unknown\n"), PSEUDO_TEXT("carrier", "1\n"), PSEUDO_TEXT("tx_queue_len", "1000\n"),
};
static const struct pseudo_entry net_entries[] = { PSEUDO_DIRECTORY("lo", lo_entries) };
static const struct pseudo_entry nothing[] = { PSEUDO_TEXT("uevent", "") };
static const struct pseudo_entry class_entries[] = { PSEUDO_DIRECTORY("net", net_entries), { .name = "block", .mode = S_IFDIR | 0555 }, { .name = "tty", .mode = S_IFDIR | 0555 } };
static const struct pseudo_entry device_entries[] = { PSEUDO_DIRECTORY("system", device_system_entries), { .name = "virtual", .mode = S_IFDIR | 0555, .entries = nothing, .entry_count = 1 } };
static const struct pseudo_entry huge_entries[] = {
    PSEUDO_TEXT("enabled", "always [madvise] never\n"), PSEUDO_TEXT("defrag", "always defer defer+madvise [madvise] never\n"), PSEUDO_TEXT("shmem_enabled", "always within_size advise [never] deny force\n"),
    PSEUDO_TEXT("hpage_pmd_size", "2097152\n"), PSEUDO_TEXT("use_zero_page", "1\n"),
};
static const struct pseudo_entry kernel_mm_entries[] = { PSEUDO_DIRECTORY("transparent_hugepage", huge_entries), { .name = "hugepages", .mode = S_IFDIR | 0555 } };
static const struct pseudo_entry kernel_entries[] = { PSEUDO_DIRECTORY("mm", kernel_mm_entries), { .name = "security", .mode = S_IFDIR | 0555 }, { .name = "debug", .mode = S_IFDIR | 0500 } };
static const struct pseudo_entry fs_entries[] = { { .name = "cgroup", .mode = S_IFDIR | 0555 }, { .name = "fuse", .mode = S_IFDIR | 0555 } };
static const struct pseudo_entry root_entries[] = {
    PSEUDO_DIRECTORY("class", class_entries), PSEUDO_DIRECTORY("devices", device_entries), PSEUDO_DIRECTORY("fs", fs_entries), PSEUDO_DIRECTORY("kernel", kernel_entries),
    { .name = "block", .mode = S_IFDIR | 0555 }, { .name = "bus", .mode = S_IFDIR | 0555 }, { .name = "dev", .mode = S_IFDIR | 0555 }, { .name = "firmware", .mode = S_IFDIR | 0555 },
    { .name = "module", .mode = S_IFDIR | 0555 }, { .name = "power", .mode = S_IFDIR | 0555 },
};
static const struct pseudo_entry root_entry = PSEUDO_DIRECTORY("sysfs", root_entries);

static int sysfs_mount(const char *source, const char *options, struct superblock **out_superblock);
static const struct filesystem_type sysfs_type = { .name = "sysfs", .magic = SYSFS_MAGIC, .flags = FILESYSTEM_USER_MOUNT | FILESYSTEM_NO_DEVICE, .mount = sysfs_mount };

static int sysfs_mount(const char *source, const char *options, struct superblock **out_superblock)
{
    return pseudo_mount(&sysfs_type, &root_entry, out_superblock);
}

int lx_sysfs_init(void)
{
    struct superblock *superblock;
    int problem = filesystem_register(&sysfs_type);
    if (!problem)
        problem = sysfs_mount(NULL, NULL, &superblock);
    if (!problem)
        problem = vfs_mount_at("/sys", superblock, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "sysfs");
    return problem;
}
