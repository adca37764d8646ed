/* The top of /proc: what is about the whole sandbox, and the list of processes. */
#include "personality/linux/fs/proc/proc.h"
#include "personality/linux/ipc/ipc.h"
#include <linux/magic.h>
#include <linux/mount.h>

static int system_info(struct bly_system_info *info)
{
    memset(info, 0, sizeof *info);
    return bly->system_query(info);
}

static int show_meminfo(const struct pseudo_node *node, struct text *out)
{
    struct bly_system_info info;
    struct heap_usage usage;
    int problem = system_info(&info);
    if (problem)
        return problem;
    heap_usage(&usage);
    uint64_t used = (usage.heap_bytes + usage.bulk_bytes + usage.private_bytes) / 1024, total = info.memory_limit / 1024, host_free = info.memory_free / 1024;
    uint64_t left = total > used ? total - used : 0, free = left < host_free ? left : host_free;
    const struct { const char *name; uint64_t kb; } lines[] = {
        { "MemTotal", total }, { "MemFree", free }, { "MemAvailable", free }, { "Buffers", 0 }, { "Cached", usage.bulk_bytes / 1024 }, { "SwapCached", 0 },
        { "Active", used }, { "Inactive", 0 }, { "Active(anon)", usage.private_bytes / 1024 }, { "Inactive(anon)", 0 }, { "Active(file)", 0 }, { "Inactive(file)", 0 },
        { "Unevictable", 0 }, { "Mlocked", 0 }, { "SwapTotal", 0 }, { "SwapFree", 0 }, { "Dirty", 0 }, { "Writeback", 0 }, { "AnonPages", usage.private_bytes / 1024 },
        { "Mapped", 0 }, { "Shmem", usage.bulk_bytes / 1024 }, { "Slab", usage.heap_bytes / 1024 }, { "SReclaimable", 0 }, { "SUnreclaim", usage.heap_bytes / 1024 },
        { "KernelStack", 0 }, { "PageTables", 0 }, { "CommitLimit", total }, { "Committed_AS", used }, { "VmallocTotal", 34359738367u }, { "VmallocUsed", 0 },
        { "HugePages_Total", ~0ull }, { "HugePages_Free", ~0ull }, { "HugePages_Rsvd", ~0ull }, { "Hugepagesize", 2048 },
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (lines[i].kb == ~0ull) {
            text_add(out, "%s:       0\n", lines[i].name);
            continue;
        }
        char label[32];
        size_t length = (size_t)format(label, sizeof label, "%s:", lines[i].name);
        text_add(out, "%s%*s%8lu kB\n", label, length < 16 ? (int)(16 - length) : 0, "", (unsigned long)lines[i].kb);
    }
    return 0;
}

static uint64_t boot_ns(void) { return lx_monotonic_ns() - start_info->boot_time_ns; }

static int show_uptime(const struct pseudo_node *node, struct text *out)
{
    uint64_t up = boot_ns() / 10000000;
    text_add(out, "%lu.%02lu %lu.%02lu\n", (unsigned long)(up / 100), (unsigned long)(up % 100), (unsigned long)(up / 100), (unsigned long)(up % 100));
    return 0;
}

static int show_loadavg(const struct pseudo_node *node, struct text *out)
{
    struct bly_system_info info;
    int problem = system_info(&info);
    if (problem)
        return problem;
    for (int i = 0; i < 3; i++)
        text_add(out, "%lu.%02lu ", (unsigned long)(info.load_average[i] >> 16), (unsigned long)((info.load_average[i] & 0xffff) * 100 >> 16));
    text_add(out, "1/%u %d\n", lx_kernel->table.thread_count, lx_kernel->table.last_pid);
    return 0;
}

static int show_stat(const struct pseudo_node *node, struct text *out)
{
    struct bly_system_info info;
    int problem = system_info(&info);
    if (problem)
        return problem;
    text_add(out, "cpu  0 0 0 0 0 0 0 0 0 0\n");
    for (uint32_t i = 0; i < info.cpu_count; i++)
        text_add(out, "cpu%u 0 0 0 0 0 0 0 0 0 0\n", i);
    text_add(out, "intr 0\nctxt 0\nbtime %lu\nprocesses %d\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
             (unsigned long)((lx_realtime_ns() - boot_ns()) / 1000000000u), lx_kernel->table.last_pid);
    return 0;
}

static int show_version(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "Linux version " LX_KERNEL_RELEASE " (bailey) (gcc) " LX_KERNEL_VERSION "\n");
    return 0;
}

static int show_filesystems(const struct pseudo_node *node, struct text *out)
{
    for (uint32_t i = 0; i < vfs()->type_count; i++)
        text_add(out, "nodev\t%s\n", vfs()->types[i]->name);
    return 0;
}

static int link_self(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%d", lx_process()->pid);
    return 0;
}

static int link_thread_self(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%d/task/%d", lx_process()->pid, lx_current()->tid);
    return 0;
}

/* ---- System V IPC tables: the header is what ipcs reads ---- */
static int show_sysv_shm(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n");
    return 0;
}
static int show_sysv_sem(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    return 0;
}
static int show_sysv_msg(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n");
    return 0;
}
static const struct pseudo_entry sysvipc_entries[] = {
    PSEUDO_FILE("msg", 0444, show_sysv_msg), PSEUDO_FILE("sem", 0444, show_sysv_sem), PSEUDO_FILE("shm", 0444, show_sysv_shm),
};

static const struct pseudo_entry root_entries[] = {
    { .name = "self", .mode = S_IFLNK | 0777, .link = link_self },
    { .name = "thread-self", .mode = S_IFLNK | 0777, .link = link_thread_self },
    { .name = "mounts", .mode = S_IFLNK | 0777, .text = "self/mounts" },
    { .name = "net", .mode = S_IFLNK | 0777, .text = "self/net" },
    PSEUDO_FILE("cpuinfo", 0444, proc_show_cpuinfo),
    PSEUDO_FILE("filesystems", 0444, show_filesystems),
    PSEUDO_FILE("loadavg", 0444, show_loadavg),
    PSEUDO_FILE("meminfo", 0444, show_meminfo),
    PSEUDO_FILE("stat", 0444, show_stat),
    PSEUDO_FILE("uptime", 0444, show_uptime),
    PSEUDO_FILE("version", 0444, show_version),
    PSEUDO_TEXT("cmdline", "bailey\n"),
    PSEUDO_TEXT("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n"),
    PSEUDO_TEXT("diskstats", ""),
    PSEUDO_TEXT("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"),
    PSEUDO_TEXT("modules", ""),
    PSEUDO_TEXT("partitions", "major minor  #blocks  name\n\n"),
    PSEUDO_TEXT("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    PSEUDO_TEXT("vmstat", "nr_free_pages 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n"),
    PSEUDO_TEXT("interrupts", ""),
    PSEUDO_DIRECTORY("sysvipc", sysvipc_entries),
};

/* The sys table lives in its own file: it is reached by name like a process, before processes are tried. */
static int find_name(const struct pseudo_node *directory, const char *name, struct pseudo_node *out_node)
{
    if (strcmp(name, "sys") == 0) {
        out_node->entry = &proc_sys_entry;
        return 0;
    }
    uint64_t pid;
    size_t length = strlen(name);
    if (*name < '1' || *name > '9' || parse_number(name, length, &pid) != length || pid > INT32_MAX)
        return -ENOENT;
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = NULL;
    if (!process_find((int)pid) && !(thread = thread_find((int)pid)))
        return -ENOENT;
    out_node->entry = &proc_process_entry;
    out_node->argument[0] = thread ? (uint64_t)thread->process->pid : pid;
    return 0;
}

/* Cursor: 1 after "sys", then 2 + the pid that was listed. */
static int list_names(const struct pseudo_node *directory, uint64_t *cursor, char *name, size_t size)
{
    if (*cursor == 0) {
        *cursor = 1;
        format(name, size, "sys");
        return 1;
    }
    int32_t after = *cursor == 1 ? 0 : (int32_t)(*cursor - 2), best = INT32_MAX;
    scoped_lock(&lx_kernel->table.lock);
    list_for_each(node, &lx_kernel->table.processes) {
        int32_t pid = container_of(node, struct lx_process, all)->pid;
        if (pid > after && pid < best)
            best = pid;
    }
    if (best == INT32_MAX)
        return 0;
    *cursor = (uint64_t)best + 2;
    format(name, size, "%d", best);
    return 1;
}

static const struct pseudo_entry root_entry = {
    .name = "proc", .mode = S_IFDIR | 0555, .entries = root_entries, .entry_count = sizeof root_entries / sizeof *root_entries, .find = find_name, .list = list_names,
};

static int proc_mount(const char *source, const char *options, struct superblock **out_superblock);
static const struct filesystem_type proc_type = { .name = "proc", .magic = PROC_SUPER_MAGIC, .flags = FILESYSTEM_USER_MOUNT | FILESYSTEM_NO_DEVICE, .mount = proc_mount };

static int proc_mount(const char *source, const char *options, struct superblock **out_superblock)
{
    return pseudo_mount(&proc_type, &root_entry, out_superblock);
}

int lx_proc_init(void)
{
    struct superblock *superblock;
    int problem = filesystem_register(&proc_type);
    if (!problem)
        problem = proc_mount(NULL, NULL, &superblock);
    if (!problem)
        problem = vfs_mount_at("/proc", superblock, MS_NOSUID | MS_NODEV | MS_NOEXEC, "proc");
    return problem;
}
