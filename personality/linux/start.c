/* The start and thread_start upcalls, and what the personality keeps outside the heap.
 *
 * Everything here runs once in a sandbox, in its first picoprocess; all others are clones and find the heap laid out. */
#include "libos/abi.h"
#include "libos/park.h"
#include "personality/linux/entry.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/init.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/process.h"
#include "personality/linux/process/suspend.h"

const struct bly_abi *bly;
const struct bly_start_info *start_info;
struct lx_local lx_local;
struct lx_kernel *lx_kernel;

/* Subsystems, in the order in which they begin. */
#define SUBSYSTEMS_BEFORE_ROOT(X) X(process) X(mm) X(patch) X(futex) X(timer) X(vfs) X(host_watch) X(pipe) X(wake) X(epoll) X(tty)
#define SUBSYSTEMS_WITH_ROOT(X) X(dev) X(net) X(ipc) X(inotify) X(proc) X(sysfs)
#define DECLARE(name) int lx_##name##_init(void);
SUBSYSTEMS_BEFORE_ROOT(DECLARE)
SUBSYSTEMS_WITH_ROOT(DECLARE)

struct subsystem { const char *name; int (*init)(void); };
#define ENTRY(name) {#name, lx_##name##_init},
static const struct subsystem before_root[] = {SUBSYSTEMS_BEFORE_ROOT(ENTRY)};
static const struct subsystem with_root[] = {SUBSYSTEMS_WITH_ROOT(ENTRY)};

static void begin_subsystems(const struct subsystem *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int error = list[i].init();
        if (error < 0)
            panic("%s could not begin: error %d", list[i].name, -error);
    }
}

/* Locks are taken before there is a thread object that fits: on behalf of nobody in particular. */
void lx_become_boot_thread(struct lx_process *process)
{
    static struct lx_thread boot;
    struct bly_thread_block *block = thread_block();
    boot.base.process_id = block->process_id;
    boot.base.thread_id = block->thread_id;
    boot.base.state = THREAD_IN_KERNEL;
    boot.process = process;
    block->personality_thread = &boot;
}

void lx_set_host_name(void)
{
    const char *name = bly_start_string(start_info, start_info->host_name);
    memset(lx_kernel->host_name, 0, sizeof lx_kernel->host_name);
    memcpy(lx_kernel->host_name, name, strnlen(name, sizeof lx_kernel->host_name - 1));
}

static void make_kernel(void)
{
    heap_init(start_info->memory_limit);
    lx_kernel = heap_alloc(sizeof *lx_kernel);
    if (!lx_kernel)
        panic("no memory for the kernel");
    heap_set_root(lx_kernel);
    lx_kernel->next_id = 1;
    list_init(&lx_kernel->services);
    lx_kernel->trace_flags = start_info->flags & (BLY_START_TRACE_SYSCALLS | BLY_START_TRACE_ABI);
    lx_set_host_name();
    memcpy(lx_kernel->domain_name, "(none)", 7);
    if (lx_cpuid_init() < 0)
        panic("no memory for the kernel");
}

static void start(uint64_t argument)
{
    lx_become_boot_thread(NULL);
    if (start_info->flags & BLY_START_RESUME)
        sandbox_resume();
    make_kernel();
    begin_subsystems(before_root, sizeof before_root / sizeof *before_root);
    int error = vfs_mount_start(start_info);
    if (error < 0)
        panic("the root could not be mounted: error %d", -error);
    begin_subsystems(with_root, sizeof with_root / sizeof *with_root);
    init_run();
}

void lx_start(const struct bly_abi *abi, const struct bly_start_info *info)
{
    bly = abi;
    start_info = info;
    thread_block()->entry = (uint64_t)lx_entry;
    lx_begin(start, 0);
}

static void thread_start(uint64_t argument)
{
    if (init_is_service(argument))
        init_thread_started(argument);
    if (argument & INIT_RESUMED)
        park_resume((struct thread *)(argument & ~(uint64_t)INIT_RESUMED));
    process_thread_started(argument);
}

void lx_thread_start(uint64_t argument)
{
    lx_begin(thread_start, argument);
}
