/* /proc/PID: what is known of one process, and of its threads (task/). */
#include "personality/linux/fs/proc/proc.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/tty/tty.h"
#include <linux/mount.h>

enum { CLOCK_TICKS = 100 };
static unsigned long ticks(uint64_t ns) { return (unsigned long)(ns / (1000000000u / CLOCK_TICKS)); }

/* R running, S sleeping, T stopped, Z zombie: of the node's thread (argument 1); of a process, that of its leader. */
static char state_of(struct lx_process *process, uint64_t tid)
{
    if (process->state == PROCESS_ZOMBIE || process->state == PROCESS_DEAD)
        return 'Z';
    if (process->state == PROCESS_STOPPED)
        return 'T';
    int32_t wanted = tid ? (int32_t)tid : process->pid;
    list_for_each(node, &process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        uint32_t state = thread->base.state;
        /* A sleeper that was told of something runs, as far as anybody can see. */
        if (thread->tid == wanted)
            return state == THREAD_IN_GUEST || state == THREAD_IN_KERNEL || thread->base.work_pending ? 'R' : 'S';
    }
    return 'S';
}

/* One consistent copy of the small facts, taken under the table's lock. */
struct facts {
    int32_t pid, tid, parent, group, session, foreground, nice, priority, policy, exit_signal;
    uint64_t tty, start_ns, vector;
    uint32_t threads;
    char state, name[17];
    struct credentials credentials;
    uint64_t pending, shared_pending, blocked, ignored, caught;
};

static int gather(const struct pseudo_node *node, struct facts *facts)
{
    memset(facts, 0, sizeof *facts);
    scoped_lock(&lx_kernel->table.lock);
    struct lx_process *process = process_find((int)node->argument[0]);
    if (!process)
        return -ESRCH;
    facts->pid = process->pid;
    facts->tid = node->argument[1] ? (int32_t)node->argument[1] : process->pid;
    facts->parent = process->parent ? process->parent->pid : 0;
    facts->group = process->group_id;
    facts->session = process->session_id;
    facts->tty = process->tty ? tty_device(process->tty) : 0;
    facts->foreground = process->tty ? tty_foreground_group(process->tty) : -1;
    facts->nice = process->nice;
    facts->policy = (int32_t)process->scheduler_policy;
    facts->exit_signal = (int32_t)process->exit_signal;
    facts->start_ns = process->start_ns;
    facts->threads = process->thread_count;
    facts->state = state_of(process, node->argument[1]);
    facts->credentials = process->credentials;
    memcpy(facts->name, process->name, sizeof process->name);
    scoped_lock(&process->signals.lock);
    facts->shared_pending = process->signals.pending.set;
    for (int i = 0; i < LX_SIGNAL_COUNT; i++) {
        uint64_t handler = process->signals.actions[i].handler;
        if (handler == 1)
            facts->ignored |= 1ull << i;
        else if (handler)
            facts->caught |= 1ull << i;
    }
    list_for_each(at, &process->threads) {
        struct lx_thread *thread = container_of(at, struct lx_thread, process_node);
        if (thread->tid != facts->tid)
            continue;
        facts->pending = thread->signals.pending.set;
        facts->blocked = thread->signals.blocked;
        memcpy(facts->name, thread->name, sizeof thread->name);
        break;
    }
    return 0;
}

static void memory_of(const struct pseudo_node *node, struct mm_statistics *out)
{
    memset(out, 0, sizeof *out);
    scoped_process process = proc_process(node);
    if (process && process->mm && process->state != PROCESS_ZOMBIE)
        mm_statistics(process->mm, out);
}

static int show_stat(const struct pseudo_node *node, struct text *out)
{
    struct facts facts;
    struct mm_statistics memory;
    uint64_t user = 0, system = 0, children_user = 0, children_system = 0, brk = 0, stack = 0;
    int problem = gather(node, &facts);
    if (problem)
        return problem;
    memory_of(node, &memory);
    scoped_process process = proc_process(node);
    if (process) {
        process_cpu_times(process, &user, &system);
        children_user = process->children_user_ns;
        children_system = process->children_system_ns;
        if (process->mm) {
            brk = process->mm->brk_start;
            stack = process->mm->stack_start;
        }
    }
    text_add(out, "%d (%s) %c %d %d %d %d %d 4194304 0 0 0 0 ", facts.tid, facts.name, facts.state, facts.parent, facts.group, facts.session, (int)facts.tty, facts.foreground);
    text_add(out, "%lu %lu %ld %ld %d %d %u 0 %lu ", ticks(user), ticks(system), (long)ticks(children_user), (long)ticks(children_system), 20 + facts.nice, facts.nice,
             facts.threads, ticks(facts.start_ns > start_info->boot_time_ns ? facts.start_ns - start_info->boot_time_ns : 0));
    text_add(out, "%lu %lu 18446744073709551615 0 0 %lu 0 0 %lu %lu %lu %lu 0 0 0 %d 0 0 %d 0 0 0 0 0 %lu 0 0 0 0 0\n", (unsigned long)memory.total,
             (unsigned long)(memory.resident / BLY_PAGE_SIZE), (unsigned long)stack, (unsigned long)facts.pending, (unsigned long)facts.blocked, (unsigned long)facts.ignored,
             (unsigned long)facts.caught, facts.exit_signal ? facts.exit_signal : 17, facts.policy, (unsigned long)brk);
    return 0;
}

static int show_statm(const struct pseudo_node *node, struct text *out)
{
    struct mm_statistics memory;
    memory_of(node, &memory);
    text_add(out, "%lu %lu %lu %lu 0 %lu 0\n", (unsigned long)(memory.total / BLY_PAGE_SIZE), (unsigned long)(memory.resident / BLY_PAGE_SIZE),
             (unsigned long)(memory.shared / BLY_PAGE_SIZE), (unsigned long)(memory.text / BLY_PAGE_SIZE), (unsigned long)(memory.data / BLY_PAGE_SIZE));
    return 0;
}

static const char *state_text(char state)
{
    return state == 'R' ? "R (running)" : state == 'T' ? "T (stopped)" : state == 'Z' ? "Z (zombie)" : "S (sleeping)";
}

static int show_status(const struct pseudo_node *node, struct text *out)
{
    struct facts facts;
    struct mm_statistics memory;
    struct bly_system_info info;
    int problem = gather(node, &facts);
    if (problem || (problem = bly->system_query(&info)))
        return problem;
    memory_of(node, &memory);
    const struct credentials *who = &facts.credentials;
    uint32_t umask = 022, files = 64;
    {
        scoped_process process = proc_process(node);
        if (process && process->fs)
            umask = process->fs->umask;
        if (process && process->files)
            files = process->files->size;
    }
    text_add(out, "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", facts.name, umask, state_text(facts.state), facts.pid, facts.tid, facts.parent);
    text_add(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%u\nGroups:\t", who->uid, who->euid, who->suid, who->fsuid, who->gid, who->egid, who->sgid, who->fsgid, files);
    for (uint32_t i = 0; i < who->group_count; i++)
        text_add(out, "%u ", who->groups[i]);
    text_add(out, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", facts.pid, facts.tid, facts.group, facts.session);
    if (facts.state != 'Z') {
        const struct { const char *name; uint64_t bytes; } lines[] = {
            { "VmPeak", memory.peak }, { "VmSize", memory.total }, { "VmLck", memory.locked }, { "VmPin", 0 }, { "VmHWM", memory.resident }, { "VmRSS", memory.resident },
            { "RssAnon", memory.anonymous }, { "RssFile", memory.text }, { "RssShmem", memory.shared }, { "VmData", memory.data }, { "VmStk", memory.stack },
            { "VmExe", memory.text }, { "VmLib", 0 }, { "VmPTE", 0 }, { "VmSwap", 0 },
        };
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
            text_add(out, "%s:\t%8lu kB\n", lines[i].name, (unsigned long)(lines[i].bytes / 1024));
    }
    text_add(out, "Threads:\t%u\nSigQ:\t0/%u\nSigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n", facts.threads, 95000u,
             (unsigned long)facts.pending, (unsigned long)facts.shared_pending, (unsigned long)facts.blocked, (unsigned long)facts.ignored, (unsigned long)facts.caught);
    text_add(out, "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\nNoNewPrivs:\t%u\nSeccomp:\t0\nSeccomp_filters:\t0\n",
             (unsigned long)who->cap_inheritable, (unsigned long)who->cap_permitted, (unsigned long)who->cap_effective, (unsigned long)who->cap_bounding, (unsigned long)who->cap_ambient, who->no_new_privs);
    text_add(out, "Cpus_allowed:\t%lx\nCpus_allowed_list:\t0", info.cpu_count >= 64 ? ~0ul : (1ul << info.cpu_count) - 1);
    if (info.cpu_count > 1)
        text_add(out, "-%u", info.cpu_count - 1);
    text_add(out, "\nMems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    return 0;
}

static int show_comm(const struct pseudo_node *node, struct text *out)
{
    struct facts facts;
    int problem = gather(node, &facts);
    if (!problem)
        text_add(out, "%s\n", facts.name);
    return problem;
}

static int64_t store_comm(const struct pseudo_node *node, const char *text, size_t size)
{
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = thread_find((int)(node->argument[1] ? node->argument[1] : node->argument[0]));
    if (!thread)
        return -ESRCH;
    if (thread->process != lx_process())
        return -EINVAL;
    size_t length = size && text[size - 1] == '\n' ? size - 1 : size;
    if (length > sizeof thread->name - 1)
        length = sizeof thread->name - 1;
    memset(thread->name, 0, sizeof thread->name);
    memcpy(thread->name, text, length);
    if (thread->tid == thread->process->pid)
        memcpy(thread->process->name, thread->name, sizeof thread->name);
    return (int64_t)size;
}

/* A piece of the own process's memory (the arguments, the environment): other processes' is read by nobody. */
static void own_memory(struct text *out, uint64_t start, uint64_t end)
{
    char piece[512];
    while (start < end) {
        size_t size = end - start < sizeof piece ? end - start : sizeof piece;
        size = guest_read_some(piece, (const void *)start, size);
        if (!size)
            return;
        text_bytes(out, piece, size);
        start += size;
    }
}

static int show_cmdline(const struct pseudo_node *node, struct text *out)
{
    scoped_process process = proc_process(node);
    if (!process)
        return -ESRCH;
    if (process == lx_process() && process->mm) {
        own_memory(out, process->mm->argument_start, process->mm->argument_end);
        return 0;
    }
    scoped_lock(&lx_kernel->table.lock);
    if (process->command_line && process->state != PROCESS_ZOMBIE)
        text_bytes(out, process->command_line, process->command_line_size);
    return 0;
}

static int show_environ(const struct pseudo_node *node, struct text *out)
{
    scoped_process process = proc_process(node);
    if (!process)
        return -ESRCH;
    if (process != lx_process())
        return -EACCES;
    if (process->mm)
        own_memory(out, process->mm->environment_start, process->mm->environment_end);
    return 0;
}

static int show_auxv(const struct pseudo_node *node, struct text *out)
{
    scoped_process process = proc_process(node);
    if (process && process->mm)
        text_bytes(out, process->mm->auxv, process->mm->auxv_count * sizeof *process->mm->auxv);
    return 0;
}

struct maps_text { struct mm_text text; struct text *out; };
static void emit_maps(struct mm_text *text, const char *piece, size_t size) { text_bytes(container_of(text, struct maps_text, text)->out, piece, size); }

static int with_maps(const struct pseudo_node *node, struct text *out, void (*format_them)(struct mm *, struct mm_text *))
{
    scoped_process process = proc_process(node);
    struct maps_text text = { { emit_maps }, out };
    if (process && process->mm && process->state != PROCESS_ZOMBIE)
        format_them(process->mm, &text.text);
    return process ? 0 : -ESRCH;
}
static int show_maps(const struct pseudo_node *node, struct text *out) { return with_maps(node, out, mm_format_maps); }
static int show_smaps(const struct pseudo_node *node, struct text *out) { return with_maps(node, out, mm_format_smaps); }

static int show_limits(const struct pseudo_node *node, struct text *out)
{
    static const struct { const char *name, *unit; } names[16] = {
        { "Max cpu time", "seconds" }, { "Max file size", "bytes" }, { "Max data size", "bytes" }, { "Max stack size", "bytes" }, { "Max core file size", "bytes" },
        { "Max resident set", "bytes" }, { "Max processes", "processes" }, { "Max open files", "files" }, { "Max locked memory", "bytes" }, { "Max address space", "bytes" },
        { "Max file locks", "locks" }, { "Max pending signals", "signals" }, { "Max msgqueue size", "bytes" }, { "Max nice priority", "" }, { "Max realtime priority", "" },
        { "Max realtime timeout", "us" },
    };
    scoped_process process = proc_process(node);
    if (!process)
        return -ESRCH;
    text_add(out, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (int i = 0; i < 16; i++) {
        char soft[24], hard[24];
        uint64_t s = process->limits[i].soft, h = process->limits[i].hard;
        format(soft, sizeof soft, s == ~0ull ? "unlimited" : "%lu", (unsigned long)s);
        format(hard, sizeof hard, h == ~0ull ? "unlimited" : "%lu", (unsigned long)h);
        text_add(out, "%-25s %-20s %-20s %-10s\n", names[i].name, soft, hard, names[i].unit);
    }
    return 0;
}

/* ---- Links ---- */

static int path_text(struct dentry *dentry, struct text *out)
{
    char *path = heap_alloc(LX_PATH_MAX);
    if (!path)
        return -ENOMEM;
    int size = dentry_path(dentry, NULL, path, LX_PATH_MAX, true);
    if (size >= 0)
        text_bytes(out, path, (size_t)size);
    heap_free(path);
    return size < 0 ? size : 0;
}

static int jump_exe(const struct pseudo_node *node, struct dentry **out_dentry)
{
    scoped_process process = proc_process(node);
    if (!process || !process->mm || process->state == PROCESS_ZOMBIE || !process->mm->executable_dentry)
        return -ENOENT;
    *out_dentry = dentry_ref(process->mm->executable_dentry);
    return 0;
}

static int jump_context(const struct pseudo_node *node, struct dentry **out_dentry, bool root)
{
    scoped_process process = proc_process(node);
    if (!process || !process->fs || process->state == PROCESS_ZOMBIE)
        return -ENOENT;
    scoped_lock(&process->fs->lock);
    *out_dentry = dentry_ref(root ? process->fs->root : process->fs->directory);
    return 0;
}
static int jump_cwd(const struct pseudo_node *node, struct dentry **out_dentry) { return jump_context(node, out_dentry, false); }
static int jump_root(const struct pseudo_node *node, struct dentry **out_dentry) { return jump_context(node, out_dentry, true); }

static int link_by(const struct pseudo_node *node, struct text *out, int (*jump)(const struct pseudo_node *, struct dentry **))
{
    struct dentry *found;
    int problem = jump(node, &found);
    if (problem)
        return problem;
    scoped_dentry dentry = found;
    return path_text(dentry, out);
}
static int link_exe(const struct pseudo_node *node, struct text *out) { return link_by(node, out, jump_exe); }
static int link_cwd(const struct pseudo_node *node, struct text *out) { return link_by(node, out, jump_cwd); }
static int link_root(const struct pseudo_node *node, struct text *out) { return link_by(node, out, jump_root); }

/* ---- fd/ and fdinfo/: argument 1 is the descriptor + 1 ---- */

static struct open_file *descriptor_file(const struct pseudo_node *node)
{
    scoped_process process = proc_process(node);
    if (!process || process->state == PROCESS_ZOMBIE)
        return NULL;
    struct fd_table *files;
    {
        scoped_lock(&lx_kernel->table.lock);
        files = process->files;
        if (!files)
            return NULL;
        files->references++;
    }
    struct open_file *file = NULL;
    {
        scoped_lock(&files->lock);
        uint64_t fd = node->argument[1] - 1;
        if (fd < files->size && files->entries[fd].file)
            file = file_ref(files->entries[fd].file);
    }
    fd_table_unref(files);
    return file;
}

static int jump_descriptor(const struct pseudo_node *node, struct dentry **out_dentry)
{
    scoped_file file = descriptor_file(node);
    if (!file)
        return -ENOENT;
    *out_dentry = dentry_ref(file->dentry);
    return 0;
}

static int link_descriptor(const struct pseudo_node *node, struct text *out)
{
    scoped_file file = descriptor_file(node);
    if (!file)
        return -ENOENT;
    char *path = heap_alloc(LX_PATH_MAX);
    if (!path)
        return -ENOMEM;
    size_t size = file_path(file, path, LX_PATH_MAX);
    text_bytes(out, path, size);
    heap_free(path);
    return 0;
}

static void refresh_descriptor(const struct pseudo_node *node, struct inode *inode)
{
    scoped_file file = descriptor_file(node);
    if (!file)
        return;
    unsigned access = file->flags & O_ACCMODE;
    inode->mode = S_IFLNK | (access == O_RDONLY ? 0500 : access == O_WRONLY ? 0300 : 0700);
    inode->size = 64;
}

static int show_descriptor(const struct pseudo_node *node, struct text *out)
{
    scoped_file file = descriptor_file(node);
    if (!file)
        return -ENOENT;
    text_add(out, "pos:\t%ld\nflags:\t0%o\nmnt_id:\t%u\nino:\t%lu\n", (long)file->position, file->flags, file->dentry->mount ? file->dentry->mount->id : 0, (unsigned long)file->inode->number);
    if (file->ops->describe) {
        char *more = heap_alloc(BLY_PAGE_SIZE);
        if (!more)
            return -ENOMEM;
        file->ops->describe(file, more, BLY_PAGE_SIZE);
        text_bytes(out, more, strnlen(more, BLY_PAGE_SIZE));
        heap_free(more);
    }
    return 0;
}

static const struct pseudo_entry descriptor_link = { .name = "fd", .mode = S_IFLNK | 0700, .link = link_descriptor, .jump = jump_descriptor, .refresh = refresh_descriptor };
static const struct pseudo_entry descriptor_info = PSEUDO_FILE("fdinfo", 0444, show_descriptor);

static int find_descriptor(const struct pseudo_node *directory, const char *name, struct pseudo_node *out_node)
{
    uint64_t fd;
    size_t length = strlen(name);
    if (*name < '0' || *name > '9' || (name[0] == '0' && length > 1) || parse_number(name, length, &fd) != length || fd > INT32_MAX)
        return -ENOENT;
    out_node->entry = strcmp(directory->entry->name, "fd") == 0 ? &descriptor_link : &descriptor_info;
    out_node->argument[1] = fd + 1;
    struct open_file *file = descriptor_file(out_node);
    if (!file)
        return -ENOENT;
    file_unref(file);
    return 0;
}

static int list_descriptors(const struct pseudo_node *directory, uint64_t *cursor, char *name, size_t size)
{
    scoped_process process = proc_process(directory);
    if (!process || process->state == PROCESS_ZOMBIE)
        return 0;
    scoped_lock(&lx_kernel->table.lock);
    struct fd_table *files = process->files;
    if (!files)
        return 0;
    scoped_lock(&files->lock);
    for (uint64_t fd = *cursor; fd < files->size; fd++) {
        if (!files->entries[fd].file)
            continue;
        *cursor = fd + 1;
        format(name, size, "%lu", (unsigned long)fd);
        return 1;
    }
    return 0;
}

/* ---- Settings and the rest ---- */

static int show_oom_score_adj(const struct pseudo_node *node, struct text *out)
{
    scoped_process process = proc_process(node);
    text_add(out, "%d\n", process ? process->oom_score_adj : 0);
    return process ? 0 : -ESRCH;
}

static int64_t store_oom_score_adj(const struct pseudo_node *node, const char *text, size_t size)
{
    uint64_t value;
    bool negative = size && text[0] == '-';
    if (!parse_number(text + negative, size - negative, &value) || value > 1000)
        return -EINVAL;
    scoped_process process = proc_process(node);
    if (!process)
        return -ESRCH;
    process->oom_score_adj = negative ? -(int32_t)value : (int32_t)value;
    return (int64_t)size;
}

static int show_personality(const struct pseudo_node *node, struct text *out)
{
    scoped_process process = proc_process(node);
    text_add(out, "%08x\n", process ? (unsigned)process->personality_flags : 0);
    return process ? 0 : -ESRCH;
}

static int show_syscall(const struct pseudo_node *node, struct text *out)
{
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = thread_find((int)(node->argument[1] ? node->argument[1] : node->argument[0]));
    if (!thread)
        return -ESRCH;
    if (thread->syscall_number == ~0u)
        text_add(out, "running\n");
    else
        text_add(out, "%u 0x%lx 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", thread->syscall_number, (unsigned long)thread->syscall_argument0);
    return 0;
}

static int64_t accept_setting(const struct pseudo_node *node, const char *text, size_t size) { return (int64_t)size; }

static int show_children(const struct pseudo_node *node, struct text *out)
{
    scoped_lock(&lx_kernel->table.lock);
    struct lx_process *process = process_find((int)node->argument[0]);
    if (!process)
        return -ESRCH;
    list_for_each(at, &process->children)
        text_add(out, "%d ", container_of(at, struct lx_process, sibling)->pid);
    return 0;
}

struct namespace_link { const char *name, *text; };
static const struct pseudo_entry namespace_entries[] = {
#define NAMESPACE(name_, number) { .name = name_, .mode = S_IFLNK | 0777, .text = name_ ":[" number "]" }
    NAMESPACE("cgroup", "4026531835"), NAMESPACE("ipc", "4026531839"), NAMESPACE("mnt", "4026531840"), NAMESPACE("net", "4026531992"),
    NAMESPACE("pid", "4026531836"), NAMESPACE("time", "4026531834"), NAMESPACE("user", "4026531837"), NAMESPACE("uts", "4026531838"),
};

static const struct pseudo_entry net_entries[] = {
    PSEUDO_TEXT("dev", "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
                       "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"),
    PSEUDO_TEXT("if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"),
    PSEUDO_TEXT("route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"),
    PSEUDO_TEXT("ipv6_route", "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 80200001       lo\n"),
    PSEUDO_TEXT("tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"),
    PSEUDO_TEXT("tcp6", "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"),
    PSEUDO_TEXT("udp", "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"),
    PSEUDO_TEXT("udp6", "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"),
    PSEUDO_TEXT("unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"),
    PSEUDO_TEXT("protocols", ""),
    PSEUDO_TEXT("snmp", ""),
};

#define TASK_ENTRIES \
    { .name = "comm", .mode = S_IFREG | 0644, .show = show_comm, .store = store_comm }, \
    { .name = "exe", .mode = S_IFLNK | 0777, .link = link_exe, .jump = jump_exe }, \
    { .name = "cwd", .mode = S_IFLNK | 0777, .link = link_cwd, .jump = jump_cwd }, \
    { .name = "root", .mode = S_IFLNK | 0777, .link = link_root, .jump = jump_root }, \
    PSEUDO_FILE("auxv", 0400, show_auxv), PSEUDO_FILE("cmdline", 0444, show_cmdline), PSEUDO_FILE("environ", 0400, show_environ), \
    PSEUDO_FILE("limits", 0444, show_limits), PSEUDO_FILE("maps", 0444, show_maps), PSEUDO_FILE("smaps", 0444, show_smaps), \
    PSEUDO_FILE("mountinfo", 0444, proc_show_mountinfo), PSEUDO_FILE("mounts", 0444, proc_show_mounts), \
    PSEUDO_FILE("personality", 0400, show_personality), PSEUDO_FILE("stat", 0444, show_stat), PSEUDO_FILE("statm", 0444, show_statm), \
    PSEUDO_FILE("status", 0444, show_status), PSEUDO_FILE("syscall", 0400, show_syscall), PSEUDO_FILE("children", 0444, show_children), \
    { .name = "oom_score_adj", .mode = S_IFREG | 0644, .show = show_oom_score_adj, .store = store_oom_score_adj }, \
    PSEUDO_TEXT("cgroup", "0::/\n"), PSEUDO_TEXT("oom_score", "666\n"), PSEUDO_TEXT("sessionid", "4294967295\n"), PSEUDO_TEXT("loginuid", "4294967295"), \
    PSEUDO_TEXT("schedstat", "0 0 0\n"), PSEUDO_TEXT("wchan", "0"), \
    PSEUDO_TEXT("io", "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"), \
    PSEUDO_TEXT("uid_map", "         0          0 4294967295\n"), PSEUDO_TEXT("gid_map", "         0          0 4294967295\n"), PSEUDO_TEXT("setgroups", "allow\n"), \
    { .name = "coredump_filter", .mode = S_IFREG | 0644, .text = "00000033\n", .store = accept_setting }, \
    { .name = "clear_refs", .mode = S_IFREG | 0200, .text = "", .store = accept_setting }, \
    { .name = "fd", .mode = S_IFDIR | 0500, .find = find_descriptor, .list = list_descriptors }, \
    { .name = "fdinfo", .mode = S_IFDIR | 0555, .find = find_descriptor, .list = list_descriptors }, \
    PSEUDO_DIRECTORY("net", net_entries), PSEUDO_DIRECTORY("ns", namespace_entries)

static const struct pseudo_entry task_entries[] = { TASK_ENTRIES };
static const struct pseudo_entry task_entry = PSEUDO_DIRECTORY("task", task_entries);

static int find_task(const struct pseudo_node *directory, const char *name, struct pseudo_node *out_node)
{
    uint64_t tid;
    size_t length = strlen(name);
    if (*name < '1' || *name > '9' || parse_number(name, length, &tid) != length || tid > INT32_MAX)
        return -ENOENT;
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = thread_find((int)tid);
    if (!thread || thread->process->pid != (int32_t)directory->argument[0])
        return -ENOENT;
    out_node->entry = &task_entry;
    out_node->argument[1] = tid;
    return 0;
}

static int list_tasks(const struct pseudo_node *directory, uint64_t *cursor, char *name, size_t size)
{
    int32_t best = INT32_MAX;
    scoped_lock(&lx_kernel->table.lock);
    struct lx_process *process = process_find((int)directory->argument[0]);
    if (!process)
        return 0;
    list_for_each(at, &process->threads) {
        int32_t tid = container_of(at, struct lx_thread, process_node)->tid;
        if (tid > (int32_t)*cursor && tid < best)
            best = tid;
    }
    if (best == INT32_MAX)
        return 0;
    *cursor = (uint64_t)best;
    format(name, size, "%d", best);
    return 1;
}

/* proc(5), /proc/pid: files belong to the effective user, but to root where the process is not dumpable; open directories do not hide. */
static void refresh_owner(const struct pseudo_node *node, struct inode *inode)
{
    scoped_process process = proc_process(node);
    if (!process)
        return;
    bool own = process->dumpable == 1 || node->entry->mode == (S_IFDIR | 0555);
    inode->owner = own ? process->credentials.euid : 0;
    inode->group = own ? process->credentials.egid : 0;
}

static void refresh_process(const struct pseudo_node *node, struct inode *inode)
{
    inode->link_count = 9;
    refresh_owner(node, inode);
}

static const struct pseudo_entry process_entries[] = {
    TASK_ENTRIES,
    { .name = "task", .mode = S_IFDIR | 0555, .find = find_task, .list = list_tasks },
};

const struct pseudo_entry proc_process_entry = {
    .name = "process", .mode = S_IFDIR | 0555, .entries = process_entries, .entry_count = sizeof process_entries / sizeof *process_entries, .refresh = refresh_process,
    .refresh_below = refresh_owner,
};

bool proc_is_process_directory(const struct open_file *file, struct lx_process **out_process)
{
    const struct pseudo_node *node = pseudo_node_of(file->inode);
    if (!node || node->entry != &proc_process_entry || (file->flags & O_PATH))
        return false;
    *out_process = proc_process(node);
    return true;
}

/* ---- Mounts ---- */

enum { MOUNTS_SHOWN = 128 };
struct shown_mount { struct dentry *root; uint32_t id, parent, flags; uint64_t device; const char *type; char source[128], options[128]; };

static int show_mount_list(struct text *out, bool info)
{
    struct shown_mount *shown = heap_alloc(MOUNTS_SHOWN * sizeof *shown);
    char *path = heap_alloc(LX_PATH_MAX);
    size_t count = 0;
    if (!shown || !path) {
        heap_free(shown);
        heap_free(path);
        return -ENOMEM;
    }
    {
        scoped_lock(&vfs()->tree_lock);
        list_for_each(node, &vfs()->mounts) {
            struct mount *mount = container_of(node, struct mount, all);
            if (count == MOUNTS_SHOWN || mount == vfs()->anonymous_mount)
                continue;
            struct shown_mount *one = &shown[count++];
            *one = (struct shown_mount){ .root = dentry_ref(mount->root), .id = mount->id, .parent = mount->parent_id, .flags = mount->flags,
                                         .device = mount->superblock->device, .type = mount->superblock->type->name };
            format(one->source, sizeof one->source, "%s", mount->source ? mount->source : "none");
            if (mount->options)
                format(one->options, sizeof one->options, ",%s", mount->options);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct shown_mount *one = &shown[i];
        int size = dentry_path(one->root, NULL, path, LX_PATH_MAX, false);
        char flags[64];
        format(flags, sizeof flags, "%s%s%s%s", one->flags & MS_RDONLY ? "ro" : "rw", one->flags & MS_NOSUID ? ",nosuid" : "", one->flags & MS_NODEV ? ",nodev" : "",
               one->flags & MS_NOEXEC ? ",noexec" : "");
        if (size > 0 && info)
            text_add(out, "%u %u %u:%u / %s %s,relatime - %s %s %s%s\n", one->id, one->parent, lx_major(one->device), lx_minor(one->device), path, flags, one->type, one->source,
                     one->flags & MS_RDONLY ? "ro" : "rw", one->options);
        else if (size > 0)
            text_add(out, "%s %s %s %s,relatime%s 0 0\n", one->source, path, one->type, flags, one->options);
        dentry_unref(one->root);
    }
    heap_free(shown);
    heap_free(path);
    return 0;
}
int proc_show_mounts(const struct pseudo_node *node, struct text *out) { return show_mount_list(out, false); }
int proc_show_mountinfo(const struct pseudo_node *node, struct text *out) { return show_mount_list(out, true); }
