/* System calls as text, one line a call, like strace: `[pid] name(arguments) = result <time>`. A call that does not return, or whose
 * result comes after other lines, is printed when it is done; execve and exit are printed before. */
#include "personality/linux/trace.h"

#include "libos/abi.h"
#include "personality/linux/process/process.h"

#include <asm/fcntl.h>
#include <asm/mman.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/time_types.h>

struct call_description { const char *name, *format; };
static const struct call_description calls[] = {
#define LX_CALL(number, name, format, state, note) [number] = {#name, format},
#include "personality/linux/syscalls.def"
#undef LX_CALL
};
#define CALL_COUNT (sizeof calls / sizeof calls[0])

enum { DIRECTORY_CURRENT = -100, LINE_MAX_SIZE = 1024, TEXT_SHOWN = 48, STRINGS_SHOWN = 8 };
struct line {
    char text[LINE_MAX_SIZE];
    size_t size;
};

#define put(line, ...) ((line)->size += (size_t)format((line)->text + (line)->size, LINE_MAX_SIZE - (line)->size, __VA_ARGS__), clip(line))
static void clip(struct line *line)
{
    if (line->size >= LINE_MAX_SIZE)
        line->size = LINE_MAX_SIZE - 1;
}

const char *trace_syscall_name(uint64_t number)
{
    return number < CALL_COUNT ? calls[number].name : NULL;
}

/* ---- Names of bits ---------------------------------------------------------------------------------------------- */

struct bit_name { uint64_t bits; const char *name; };

static void put_bits(struct line *line, uint64_t value, const struct bit_name *names, size_t count, const char *none)
{
    const char *separator = "";
    for (size_t i = 0; i < count; i++) {
        if ((value & names[i].bits) != names[i].bits)
            continue;
        put(line, "%s%s", separator, names[i].name);
        value &= ~names[i].bits;
        separator = "|";
    }
    if (value)
        put(line, "%s%#llx", separator, (unsigned long long)value);
    else if (!*separator)
        put(line, "%s", none);
}
#define BITS(line, value, names, none) put_bits(line, value, names, sizeof names / sizeof names[0], none)

static const struct bit_name open_names[] = {
    {O_WRONLY, "O_WRONLY"}, {O_RDWR, "O_RDWR"}, {O_CREAT, "O_CREAT"}, {O_EXCL, "O_EXCL"}, {O_NOCTTY, "O_NOCTTY"}, {O_TRUNC, "O_TRUNC"},
    {O_APPEND, "O_APPEND"}, {O_NONBLOCK, "O_NONBLOCK"}, {O_SYNC, "O_SYNC"}, {O_DSYNC, "O_DSYNC"}, {O_TMPFILE, "O_TMPFILE"},
    {O_DIRECTORY, "O_DIRECTORY"}, {O_NOFOLLOW, "O_NOFOLLOW"}, {O_CLOEXEC, "O_CLOEXEC"}, {O_PATH, "O_PATH"}, {O_LARGEFILE, "O_LARGEFILE"},
};
static const struct bit_name protection_names[] = {{PROT_READ, "PROT_READ"}, {PROT_WRITE, "PROT_WRITE"}, {PROT_EXEC, "PROT_EXEC"}};
static const struct bit_name map_names[] = {
    {MAP_SHARED, "MAP_SHARED"}, {MAP_PRIVATE, "MAP_PRIVATE"}, {MAP_FIXED, "MAP_FIXED"}, {MAP_ANONYMOUS, "MAP_ANONYMOUS"},
    {MAP_GROWSDOWN, "MAP_GROWSDOWN"}, {MAP_DENYWRITE, "MAP_DENYWRITE"}, {MAP_NORESERVE, "MAP_NORESERVE"}, {MAP_POPULATE, "MAP_POPULATE"},
    {MAP_STACK, "MAP_STACK"}, {MAP_HUGETLB, "MAP_HUGETLB"}, {MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"},
};
static const struct bit_name clone_names[] = {
    {0x100, "CLONE_VM"}, {0x200, "CLONE_FS"}, {0x400, "CLONE_FILES"}, {0x800, "CLONE_SIGHAND"}, {0x1000, "CLONE_PIDFD"}, {0x4000, "CLONE_VFORK"},
    {0x8000, "CLONE_PARENT"}, {0x10000, "CLONE_THREAD"}, {0x40000, "CLONE_SYSVSEM"}, {0x80000, "CLONE_SETTLS"}, {0x100000, "CLONE_PARENT_SETTID"},
    {0x200000, "CLONE_CHILD_CLEARTID"}, {0x1000000, "CLONE_CHILD_SETTID"},
};

static const char *const signal_names[] = {
    "0", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE",
    "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM",
    "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
};
static const char *const advice_names[] = {"MADV_NORMAL", "MADV_RANDOM", "MADV_SEQUENTIAL", "MADV_WILLNEED", "MADV_DONTNEED", [8] = "MADV_FREE",
                                           "MADV_REMOVE", "MADV_DONTFORK", "MADV_DOFORK", [14] = "MADV_HUGEPAGE", "MADV_NOHUGEPAGE"};
static const char *const fcntl_names[] = {"F_DUPFD", "F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL", "F_GETLK", "F_SETLK", "F_SETLKW", "F_SETOWN", "F_GETOWN"};
static const char *const futex_names[] = {"FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_FD", "FUTEX_REQUEUE", "FUTEX_CMP_REQUEUE", "FUTEX_WAKE_OP", "FUTEX_LOCK_PI",
                                          "FUTEX_UNLOCK_PI", "FUTEX_TRYLOCK_PI", "FUTEX_WAIT_BITSET", "FUTEX_WAKE_BITSET"};
static const char *const how_names[] = {"SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"};
static const char *const whence_names[] = {"SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"};

static void put_name(struct line *line, uint64_t value, const char *const *names, size_t count)
{
    if (value < count && names[value])
        put(line, "%s", names[value]);
    else
        put(line, "%lld", (long long)value);
}
#define NAME(line, value, names) put_name(line, value, names, sizeof names / sizeof names[0])

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

static const char *const errno_names[] = {
#define E(name) [name] = #name
    E(EPERM), E(ENOENT), E(ESRCH), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(ENOEXEC), E(EBADF), E(ECHILD), E(EAGAIN), E(ENOMEM), E(EACCES), E(EFAULT),
    E(ENOTBLK), E(EBUSY), E(EEXIST), E(EXDEV), E(ENODEV), E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE), E(EMFILE), E(ENOTTY), E(ETXTBSY), E(EFBIG),
    E(ENOSPC), E(ESPIPE), E(EROFS), E(EMLINK), E(EPIPE), E(EDOM), E(ERANGE), E(EDEADLK), E(ENAMETOOLONG), E(ENOLCK), E(ENOSYS), E(ENOTEMPTY), E(ELOOP),
    E(ENOMSG), E(EIDRM), E(ENODATA), E(ETIME), E(EOVERFLOW), E(EILSEQ), E(ENOTSOCK), E(EDESTADDRREQ), E(EMSGSIZE), E(EPROTOTYPE), E(ENOPROTOOPT),
    E(EPROTONOSUPPORT), E(ESOCKTNOSUPPORT), E(EOPNOTSUPP), E(EPFNOSUPPORT), E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETDOWN),
    E(ENETUNREACH), E(ECONNABORTED), E(ECONNRESET), E(ENOBUFS), E(EISCONN), E(ENOTCONN), E(ETIMEDOUT), E(ECONNREFUSED), E(EHOSTUNREACH), E(EALREADY),
    E(EINPROGRESS), E(ESTALE), E(EDQUOT), E(ECANCELED), E(EOWNERDEAD), E(ENOTRECOVERABLE), E(ELIBBAD),
#undef E
    [ERESTARTSYS] = "ERESTARTSYS", [ERESTARTNOINTR] = "ERESTARTNOINTR", [ERESTARTNOHAND] = "ERESTARTNOHAND",
    [ERESTART_RESTARTBLOCK] = "ERESTART_RESTARTBLOCK",
};

const char *trace_errno_name(int error)
{
    return error > 0 && (size_t)error < sizeof errno_names / sizeof errno_names[0] ? errno_names[error] : NULL;
}

/* ---- Arguments -------------------------------------------------------------------------------------------------- */

static void put_text(struct line *line, uint64_t address, size_t size, bool is_string)
{
    char text[TEXT_SHOWN + 1];
    if (!address) {
        put(line, "NULL");
        return;
    }
    size_t wanted = size < TEXT_SHOWN ? size : TEXT_SHOWN, count = guest_read_some(text, (const void *)address, wanted);
    if (count == 0 && wanted) {
        put(line, "%#llx", (unsigned long long)address);
        return;
    }
    put(line, "\"");
    bool more = size > count;
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)text[i];
        if (is_string && !c) {
            more = false;
            break;
        }
        if (c == '\n')
            put(line, "\\n");
        else if (c == '"' || c == '\\')
            put(line, "\\%c", c);
        else if (c < ' ' || c > '~')
            put(line, "\\%o", c);
        else
            put(line, "%c", c);
    }
    put(line, more ? "\"..." : "\"");
}

static void put_strings(struct line *line, uint64_t address)
{
    put(line, "[");
    for (int i = 0;; i++, address += sizeof(uint64_t)) {
        uint64_t text;
        if (!address || guest_read(&text, (const void *)address, sizeof text) < 0 || !text)
            break;
        if (i == STRINGS_SHOWN) {
            put(line, ", ...");
            break;
        }
        if (i)
            put(line, ", ");
        put_text(line, text, SIZE_MAX, /*is_string=*/true);
    }
    put(line, "]");
}

static void put_time(struct line *line, uint64_t address)
{
    struct __kernel_timespec time;
    if (!address || guest_read(&time, (const void *)address, sizeof time) < 0)
        put(line, address ? "%#llx" : "NULL", (unsigned long long)address);
    else
        put(line, "{%lld, %lld}", (long long)time.tv_sec, (long long)time.tv_nsec);
}

static void put_argument(struct line *line, char kind, const uint64_t *value, long result)
{
    switch (kind) {
    case 'd':
        put(line, "%d", (int)*value);
        break;
    case 'f':
        put(line, "%d", (int)*value);
        break;
    case 'D':
        if ((int)*value == DIRECTORY_CURRENT)
            put(line, "AT_FDCWD");
        else
            put(line, "%d", (int)*value);
        break;
    case 'u':
        put(line, "%llu", (unsigned long long)*value);
        break;
    case 'o':
        put(line, "0%o", (unsigned)*value);
        break;
    case 's':
        put_text(line, *value, SIZE_MAX, /*is_string=*/true);
        break;
    case 'a':
        put_strings(line, *value);
        break;
    case 'b':
        if (result >= 0)
            put_text(line, *value, (size_t)result, false);
        else
            put(line, "%#llx", (unsigned long long)*value);
        break;
    case 'B':
        put_text(line, *value, value[1], false);
        break;
    case 't':
        put_time(line, *value);
        break;
    case 'O':
        if (!(*value & O_ACCMODE))
            put(line, *value ? "O_RDONLY|" : "O_RDONLY");
        if (*value)
            BITS(line, *value, open_names, "");
        break;
    case 'P':
        BITS(line, *value, protection_names, "PROT_NONE");
        break;
    case 'M':
        BITS(line, *value, map_names, "0");
        break;
    case 'C':
        BITS(line, *value & ~0xffull, clone_names, "0");
        put(line, "|");
        NAME(line, *value & 0xff, signal_names);
        break;
    case 'S':
        NAME(line, (uint32_t)*value, signal_names);
        break;
    case 'A':
        NAME(line, (uint32_t)*value, advice_names);
        break;
    case 'F':
        NAME(line, (uint32_t)*value, fcntl_names);
        break;
    case 'H':
        NAME(line, (uint32_t)*value, how_names);
        break;
    case 'W':
        NAME(line, (uint32_t)*value, whence_names);
        break;
    case 'm':
        NAME(line, *value & 0x7f, futex_names);
        if (*value & FUTEX_PRIVATE_FLAG)
            put(line, "|FUTEX_PRIVATE_FLAG");
        break;
    default: /* x, p, i */
        if (kind == 'p' && !*value)
            put(line, "NULL");
        else
            put(line, "%#llx", (unsigned long long)*value);
    }
}

static void put_call(struct line *line, const struct trace_call *call, long result)
{
    const char *name = trace_syscall_name(call->number);
    const char *letters = name ? calls[call->number].format : "xxxxxx";
    if (call->tid != call->pid)
        put(line, "[%d/%d] ", call->pid, call->tid);
    else
        put(line, "[%d] ", call->pid);
    if (name)
        put(line, "%s(", name);
    else
        put(line, "syscall_%#llx(", (unsigned long long)call->number);
    for (int i = 0; i < 6 && letters[i] && letters[i] != '='; i++) {
        if (i)
            put(line, ", ");
        put_argument(line, letters[i], &call->argument[i], result);
    }
    put(line, ")");
}

static void put_result(struct line *line, const struct trace_call *call, long result)
{
    const char *letters = trace_syscall_name(call->number) ? calls[call->number].format : "";
    const char *error = result < 0 && result > -4096 ? trace_errno_name((int)-result) : NULL;
    uint64_t taken = lx_monotonic_ns() - call->start_ns;
    if (error)
        put(line, " = -1 %s", error);
    else if (result < 0 && result > -4096)
        put(line, " = -1 (error %ld)", -result);
    else
        put(line, strchr(letters, '=') ? " = %#lx" : " = %ld", result);
    put(line, " <%llu.%06llu>", (unsigned long long)(taken / 1000000000u), (unsigned long long)(taken / 1000u % 1000000u));
}

static bool does_not_return(uint64_t number)
{
    const char *name = trace_syscall_name(number);
    return name && (!strcmp(name, "exit") || !strcmp(name, "exit_group") || !strcmp(name, "rt_sigreturn") || !strncmp(name, "execve", 6));
}

void trace_begin(struct trace_call *call, const struct bly_context *context, uint64_t number)
{
    const struct lx_thread *thread = lx_current();
    *call = (struct trace_call){
        .number = number,
        .argument = {context->rdi, context->rsi, context->rdx, context->r10, context->r8, context->r9},
        .pid = thread->process->pid,
        .tid = thread->tid,
    };
    if (does_not_return(number)) {
        struct line line;
        line.size = 0;
        put_call(&line, call, 0);
        bly->log(BLY_LOG_TRACE, line.text, line.size);
    }
    call->start_ns = lx_monotonic_ns();
}

void trace_end(const struct trace_call *call, long result)
{
    struct line line;
    line.size = 0;
    if (does_not_return(call->number)) {
        if (result >= 0)
            return;
        put(&line, "[%d] %s(...)", call->pid, calls[call->number].name);
    } else {
        const struct lx_thread *thread = lx_current();
        struct trace_call shown = *call;
        shown.pid = thread->process->pid; /* fork's child tells its own */
        shown.tid = thread->tid;
        put_call(&line, &shown, result);
    }
    put_result(&line, call, result);
    bly->log(BLY_LOG_TRACE, line.text, line.size);
}
