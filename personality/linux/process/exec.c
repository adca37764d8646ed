/* execve(2): from a path to a program that runs in this picoprocess.
 *
 * Everything that can be refused is decided before anything changes: the file, its interpreters (`#!` and ELF), the sizes. Then
 * the other threads end, a vfork child gets a picoprocess of its own, the old memory goes, and the image is mapped in place. What
 * fails after that can only end the process with SIGSEGV, as on Linux.
 *
 * The strings live in the kernel heap meanwhile; a vfork child that leaves its parent's picoprocess takes them along. */
#include "personality/linux/file.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/elf.h"
#include "personality/linux/process/patch.h"
#include "personality/linux/process/process.h"
#include "personality/linux/process/strings.h"

#include <linux/auxvec.h>
#include <linux/mount.h>
#include <linux/resource.h>

enum {
    SCRIPT_LINE_MAX = 256,        /* BINPRM_BUF_SIZE */
    FILE_START_MAX = 2048,
    INTERPRETER_KEPT = 64,
    SCRIPT_DEPTH_MAX = 5,         /* execve(2): -ELOOP */
    STRING_MAX = 32 * 4096,       /* MAX_ARG_STRLEN */
    ARGUMENT_SPACE_MIN = 32 * 4096, /* ARG_MAX: always granted */
    ARGUMENT_SPACE_MAX = 6 << 20, /* three quarters of _STK_LIM */
};
#define PAGE_MASK (BLY_PAGE_SIZE - 1)
#define PIE_BASE 0x555555554000ull
#define STACK_TOP BLY_GUEST_MAX
#define STACK_MAPPED_MAX (64ull << 20) /* of an unlimited stack; it grows by faults beyond */
#define STACK_GAP_MIN (128ull << 20)   /* room that mmap leaves below the stack's top */

static uint64_t page_up(uint64_t value)
{
    return (value + PAGE_MASK) & ~PAGE_MASK;
}

/* ---- The file --------------------------------------------------------------------------------------------------- */

/* A program or ELF interpreter that has been looked at. */
struct program {
    struct dentry *dentry; /* with a reference; writing is denied */
    struct elf_image image;
    char interpreter_name[INTERPRETER_KEPT]; /* what PT_INTERP says, when it was read along; else empty */
};

static void program_release(struct program *program)
{
    if (!program->dentry)
        return;
    inode_allow_write(program->dentry->inode);
    dentry_unref(program->dentry);
    program->dentry = NULL;
}

static int read_exactly(struct inode *inode, void *buffer, size_t size, uint64_t offset)
{
    int64_t count = inode_read(inode, buffer, size, offset);
    if (count < 0)
        return count == -ENOMEM ? -ENOMEM : -EIO;
    return (size_t)count == size ? 0 : -ENOEXEC;
}

/* The beginning of a file. Most often everything that a loader wants to read lies in it. */
struct file_start {
    size_t size;
    char bytes[FILE_START_MAX];
};

static int64_t read_start(struct inode *inode, struct file_start *out)
{
    int64_t count = inode_read(inode, out->bytes, sizeof out->bytes, 0);
    out->size = count > 0 ? (size_t)count : 0;
    return count;
}

static bool lies_in_start(const struct file_start *start, uint64_t offset, size_t size)
{
    return offset <= start->size && size <= start->size - offset;
}

static int read_image(struct inode *inode, const struct file_start *start, struct elf_image *out_image)
{
    uint64_t offset;
    uint32_t size;
    if (start->size < ELF_HEADER_SIZE)
        return -ENOEXEC;
    int error = elf_parse_header(start->bytes, &offset, &size);
    if (error)
        return error;
    if (lies_in_start(start, offset, size))
        return elf_parse(start->bytes, start->bytes + offset, size, out_image);
    char *headers = heap_alloc(size);
    if (!headers)
        return -ENOMEM;
    error = read_exactly(inode, headers, size, offset);
    if (!error)
        error = elf_parse(start->bytes, headers, size, out_image);
    heap_free(headers);
    return error;
}

static void keep_interpreter_name(struct program *program, const struct file_start *start)
{
    const struct elf_image *image = &program->image;
    if (image->interpreter_size <= sizeof program->interpreter_name && lies_in_start(start, image->interpreter_offset, image->interpreter_size))
        memcpy(program->interpreter_name, start->bytes + image->interpreter_offset, image->interpreter_size);
}

/* The interpreter that PT_INTERP names. load_elf_binary(): its faults are -ELIBBAD. */
static int open_interpreter(struct program *program, struct program *out_interpreter)
{
    char path[ELF_INTERPRETER_MAX];
    const struct elf_image *image = &program->image;
    int error = 0;
    if (program->interpreter_name[0])
        memcpy(path, program->interpreter_name, image->interpreter_size);
    else
        error = read_exactly(program->dentry->inode, path, image->interpreter_size, image->interpreter_offset);
    if (error)
        return error;
    if (path[image->interpreter_size - 1] != '\0')
        return -ENOEXEC;
    error = vfs_open_executable(NULL, path, LOOKUP_FOLLOW, &out_interpreter->dentry);
    if (error) {
        out_interpreter->dentry = NULL;
        return error;
    }
    struct file_start start;
    int64_t count = read_start(out_interpreter->dentry->inode, &start);
    error = count < 0 ? (int)count : read_image(out_interpreter->dentry->inode, &start, &out_interpreter->image);
    if (error == -ENOEXEC)
        error = -ELIBBAD;
    if (error)
        program_release(out_interpreter);
    return error;
}

/* ---- Scripts ---------------------------------------------------------------------------------------------------- */

/* What the first line of a script says (load_script() in fs/binfmt_script.c). `line` has SCRIPT_LINE_MAX bytes, zero-padded. */
static int parse_script(char *line, size_t size, char **out_interpreter, char **out_argument)
{
    char *end = memchr(line, '\n', size), *at = line + 2;
    if (!end) {
        /* A longer line is cut, but the name of the interpreter must be whole. */
        end = line + size;
        char *name = at;
        while (name < end && (*name == ' ' || *name == '\t'))
            name++;
        while (name < end && *name && *name != ' ' && *name != '\t')
            name++;
        if (name == end && size == SCRIPT_LINE_MAX)
            return -ENOEXEC;
    }
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0'; /* the buffer has a byte more than `size` */
    while (*at == ' ' || *at == '\t')
        at++;
    if (!*at)
        return -ENOEXEC;
    *out_interpreter = at;
    while (*at && *at != ' ' && *at != '\t')
        at++;
    *out_argument = NULL;
    if (*at) {
        *at++ = '\0';
        while (*at == ' ' || *at == '\t')
            at++;
        if (*at)
            *out_argument = at;
    }
    return 0;
}

struct request {
    struct string_list arguments, environment;
    const char *path;         /* to be looked up */
    const char *name;         /* how the program is called: AT_EXECFN, a script's argument */
    char *script_path;        /* owned: path of the interpreter that is now to be run */
    struct dentry *directory; /* what path is relative to; NULL: the working directory */
    unsigned lookup_flags;
    bool path_inaccessible;   /* named by a descriptor that exec closes: scripts cannot be opened again */
    struct program program, interpreter;
};

static int open_program(struct request *request)
{
    for (int depth = 0;; depth++) {
        struct program *program = &request->program;
        const char *path = request->script_path ? request->script_path : request->path;
        int error = vfs_open_executable(depth ? NULL : request->directory, path, depth ? LOOKUP_FOLLOW : request->lookup_flags, &program->dentry);
        if (error) {
            program->dentry = NULL;
            return error;
        }
        struct inode *inode = program->dentry->inode;
        struct file_start start;
        int64_t count = read_start(inode, &start);
        if (count < 0)
            return (int)count;
        if (count < 2 || start.bytes[0] != '#' || start.bytes[1] != '!') {
            error = read_image(inode, &start, &program->image);
            if (!error)
                keep_interpreter_name(program, &start);
            return error;
        }
        char line[SCRIPT_LINE_MAX + 1], *interpreter, *argument;
        size_t line_size = count < SCRIPT_LINE_MAX ? (size_t)count : SCRIPT_LINE_MAX;
        memset(line, 0, sizeof line);
        memcpy(line, start.bytes, line_size);
        error = parse_script(line, line_size, &interpreter, &argument);
        if (error)
            return error;
        if (request->path_inaccessible)
            return -ENOENT;
        if (depth + 1 > SCRIPT_DEPTH_MAX)
            return -ELOOP;
        /* argv becomes: interpreter, its argument, the script's path, the old arguments but the first. */
        error = string_list_replace_first(&request->arguments, depth ? path : request->name);
        if (!error && argument)
            error = string_list_insert_first(&request->arguments, argument);
        if (!error)
            error = string_list_insert_first(&request->arguments, interpreter);
        char *next = error ? NULL : heap_string(interpreter, strlen(interpreter));
        if (!next)
            return error ? error : -ENOMEM;
        heap_free(request->script_path);
        request->script_path = next;
        program_release(program);
    }
}

static void request_release(struct request *request)
{
    program_release(&request->program);
    program_release(&request->interpreter);
    string_list_free(&request->arguments);
    string_list_free(&request->environment);
    heap_free(request->script_path);
    dentry_unref(request->directory);
}

static uint64_t stack_limit(void)
{
    uint64_t limit = lx_process()->limits[RLIMIT_STACK].soft;
    return limit < STACK_MAPPED_MAX ? limit : STACK_MAPPED_MAX;
}

/* execve(2), "Limits on size of arguments and environment". */
static size_t argument_space(void)
{
    uint64_t quarter = lx_process()->limits[RLIMIT_STACK].soft / 4;
    if (quarter > ARGUMENT_SPACE_MAX)
        return ARGUMENT_SPACE_MAX;
    return quarter < ARGUMENT_SPACE_MIN ? ARGUMENT_SPACE_MIN : quarter;
}

static int check_argument_space(const struct request *request)
{
    size_t count = request->arguments.count + request->environment.count;
    size_t size = request->arguments.size + request->environment.size + strlen(request->name) + 1 + count * sizeof(uint64_t);
    return size > argument_space() ? -E2BIG : 0;
}

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

static int map_segment(struct mm *mm, const struct elf_segment *segment, uint64_t base, struct memory_object *object)
{
    uint64_t address = base + segment->address, start = address & ~PAGE_MASK;
    uint64_t file_end = address + segment->file_size, end = page_up(address + segment->memory_size);
    uint64_t mapped_end = segment->file_size ? page_up(file_end) : start;
    if (segment->file_size) {
        int64_t result = mm_map(mm, start, mapped_end - start, segment->protection, 0, object, segment->offset & ~PAGE_MASK, MM_FIXED);
        if (result < 0)
            return (int)result;
        /* The rest of the last page, up to its end: C libraries use what lies past the last variable. */
        if (segment->memory_size > segment->file_size && (segment->protection & BLY_PROT_WRITE) && file_end < mapped_end &&
            guest_zero((void *)file_end, mapped_end - file_end) < 0)
            return -EFAULT;
    }
    if (end > mapped_end) {
        int64_t result = mm_map(mm, mapped_end, end - mapped_end, segment->protection, 0, NULL, 0, MM_FIXED);
        if (result < 0)
            return (int)result;
    }
    return 0;
}

/* Where a movable image goes: `wanted`, or wherever there is room. */
static int64_t choose_base(struct mm *mm, const struct elf_image *image, uint64_t wanted)
{
    if (!image->movable)
        return 0;
    if (wanted)
        return (int64_t)(((wanted + image->alignment - 1) & ~(image->alignment - 1)) - image->start);
    uint64_t size = image->end - image->start, room = size + image->alignment - BLY_PAGE_SIZE;
    uint64_t found = mm_find_room(mm, room);
    if (!found)
        return -ENOMEM;
    return (int64_t)(((found + image->alignment - 1) & ~(image->alignment - 1)) - image->start);
}

static int map_image(struct mm *mm, struct program *program, uint64_t wanted, uint64_t *out_base)
{
    struct memory_object *object;
    int64_t base = choose_base(mm, &program->image, wanted);
    if (base < 0 && base > -4096)
        return (int)base;
    int error = inode_memory_object(program->dentry->inode, &object);
    if (error)
        return error;
    for (uint32_t i = 0; i < program->image.segment_count && !error; i++)
        error = map_segment(mm, &program->image.segments[i], (uint64_t)base, object);
    memory_object_unref(object);
    *out_base = (uint64_t)base;
    return error;
}

/* Of the one that starts the others: the interpreter, or a program without. */
static void patch_image(struct mm *mm, const struct elf_image *image, uint64_t base)
{
    for (uint32_t i = 0; i < image->segment_count; i++) {
        const struct elf_segment *segment = &image->segments[i];
        uint64_t start = (base + segment->address) & ~PAGE_MASK;
        if (segment->protection & BLY_PROT_EXECUTE)
            patch_cpuid(mm, start, page_up(base + segment->address + segment->file_size) - start);
    }
}

/* ---- Stack ------------------------------------------------------------------------------------------------------ */

struct image_addresses {
    uint64_t program_base, interpreter_base; /* interpreter_base 0: none */
};

struct stack_builder {
    char *buffer;     /* the top `size` bytes of the stack */
    uint64_t address; /* of buffer */
    size_t at;        /* next free byte */
};

static uint64_t push_bytes(struct stack_builder *builder, const void *bytes, size_t size)
{
    uint64_t address = builder->address + builder->at;
    memcpy(builder->buffer + builder->at, bytes, size);
    builder->at += size;
    return address;
}

static void push_word(struct stack_builder *builder, uint64_t value)
{
    (void)push_bytes(builder, &value, sizeof value);
}

static void push_pointers(struct stack_builder *builder, const struct string_list *list, uint64_t address)
{
    const char *at = list->bytes;
    for (size_t i = 0; i < list->count; i++) {
        push_word(builder, address + (uint64_t)(at - list->bytes));
        at += strlen(at) + 1;
    }
    push_word(builder, 0);
}

/* The auxiliary vector, but for the addresses of strings. */
static uint32_t fill_auxv(uint64_t *auxv, const struct request *request, const struct image_addresses *at, uint64_t random, uint64_t platform, uint64_t name)
{
    const struct elf_image *image = &request->program.image;
    const struct credentials *credentials = &lx_process()->credentials;
    bool secure = credentials->uid != credentials->euid || credentials->gid != credentials->egid;
    uint64_t values[][2] = {
        {AT_HWCAP, lx_cpuid(1, 0).edx},
        {AT_PAGESZ, BLY_PAGE_SIZE},
        {AT_CLKTCK, 100},
        {AT_PHDR, image->program_headers ? at->program_base + image->program_headers : 0},
        {AT_PHENT, 56},
        {AT_PHNUM, image->program_header_count},
        {AT_BASE, at->interpreter_base},
        {AT_FLAGS, 0},
        {AT_ENTRY, at->program_base + image->entry},
        {AT_UID, credentials->uid},
        {AT_EUID, credentials->euid},
        {AT_GID, credentials->gid},
        {AT_EGID, credentials->egid},
        {AT_SECURE, secure},
        {AT_RANDOM, random},
        {AT_HWCAP2, 0}, /* FSGSBASE is not promised: %gs is ours */
        {AT_EXECFN, name},
        {AT_PLATFORM, platform},
        {51 /* AT_MINSIGSTKSZ */, signal_frame_size()},
        {AT_NULL, 0},
    };
    memcpy(auxv, values, sizeof values);
    return sizeof values / sizeof values[0] * 2;
}

static int build_stack(struct mm *mm, const struct request *request, const struct image_addresses *addresses, uint64_t *out_stack_pointer)
{
    static const char platform[] = "x86_64";
    const struct string_list *arguments = &request->arguments, *environment = &request->environment;
    size_t name_size = strlen(request->name) + 1;
    size_t strings = sizeof platform + 16 + arguments->size + environment->size + name_size + 8;
    size_t words = 1 + arguments->count + 1 + environment->count + 1 + sizeof mm->auxv / sizeof mm->auxv[0];
    uint64_t string_start = (STACK_TOP - strings) & ~15ull;
    uint64_t stack_pointer = (string_start - words * sizeof(uint64_t)) & ~15ull;
    size_t size = STACK_TOP - stack_pointer;
    unsigned char random[16];
    int error = bly->random_read(random, sizeof random); /* what stack protectors and the like rest on */
    if (error < 0)
        return error;
    char *buffer = heap_alloc(size);
    if (!buffer)
        return -ENOMEM;

    struct stack_builder builder = {.buffer = buffer, .address = stack_pointer, .at = string_start - stack_pointer};
    uint64_t random_address = push_bytes(&builder, random, sizeof random);
    uint64_t platform_address = push_bytes(&builder, platform, sizeof platform);
    /* Arguments, environment and name end at the top, where setproctitle and Linux itself look for them. */
    builder.at = size - 8 - name_size - environment->size - arguments->size;
    mm->argument_start = push_bytes(&builder, arguments->bytes, arguments->size);
    mm->argument_end = mm->environment_start = push_bytes(&builder, environment->bytes, environment->size);
    mm->environment_end = push_bytes(&builder, request->name, name_size);
    mm->auxv_count = fill_auxv(mm->auxv, request, addresses, random_address, platform_address, mm->environment_end);

    builder.at = 0;
    push_word(&builder, arguments->count);
    push_pointers(&builder, arguments, mm->argument_start);
    push_pointers(&builder, environment, mm->environment_start);
    (void)push_bytes(&builder, mm->auxv, mm->auxv_count * sizeof mm->auxv[0]);
    mm->stack_start = stack_pointer;
    error = guest_write((void *)stack_pointer, buffer, size);
    heap_free(buffer);
    *out_stack_pointer = stack_pointer;
    return error;
}

/* ---- Past the point of no return -------------------------------------------------------------------------------- */

static int map_program(struct mm *mm, struct request *request, struct image_addresses *out_addresses, uint64_t *out_stack_pointer)
{
    struct elf_image *image = &request->program.image;
    uint64_t limit = stack_limit(), space = argument_space() + (2u << 20);
    uint64_t stack_size = page_up(limit > space ? limit : space);
    unsigned protection = BLY_PROT_READ | BLY_PROT_WRITE | (image->executable_stack ? BLY_PROT_EXECUTE : 0u);
    int64_t stack = mm_map(mm, STACK_TOP - stack_size, stack_size, protection, REGION_STACK | REGION_GROWS_DOWN | REGION_NO_RESERVE, NULL, 0, MM_FIXED);
    if (stack < 0)
        return (int)stack;
    mm->mmap_top = STACK_TOP - (stack_size + (1u << 20) > STACK_GAP_MIN ? stack_size + (1u << 20) : STACK_GAP_MIN);

    int error = map_image(mm, &request->program, PIE_BASE, &out_addresses->program_base);
    if (error)
        return error;
    mm->brk_start = mm->brk_end = page_up(out_addresses->program_base + image->end);
    const struct elf_segment *first = &image->segments[0], *last = &image->segments[image->segment_count - 1];
    mm->code_start = out_addresses->program_base + first->address;
    mm->data_end = out_addresses->program_base + last->address + last->file_size;
    mm->data_start = out_addresses->program_base + last->address;
    for (uint32_t i = 0; i < image->segment_count; i++) {
        const struct elf_segment *segment = &image->segments[i];
        if (segment->protection & BLY_PROT_EXECUTE)
            mm->code_end = out_addresses->program_base + segment->address + segment->file_size;
    }
    if (request->interpreter.dentry)
        error = map_image(mm, &request->interpreter, 0, &out_addresses->interpreter_base);
    if (error)
        return error;
    if (request->interpreter.dentry)
        patch_image(mm, &request->interpreter.image, out_addresses->interpreter_base);
    else
        patch_image(mm, image, out_addresses->program_base);
    return build_stack(mm, request, out_addresses, out_stack_pointer);
}

static void change_credentials(const struct dentry *dentry)
{
    struct lx_process *process = lx_process();
    const struct inode *inode = dentry->inode;
    scoped_lock(&lx_kernel->table.lock);
    struct credentials *credentials = &process->credentials;
    if (!(dentry->mount->flags & MS_NOSUID) && !credentials->no_new_privs) {
        if (inode->mode & S_ISUID)
            credentials->euid = inode->owner;
        if ((inode->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
            credentials->egid = inode->group;
    }
    credentials->suid = credentials->fsuid = credentials->euid;
    credentials->sgid = credentials->fsgid = credentials->egid;
    /* capabilities(7), "Capabilities and execution of programs by root". */
    bool root = credentials->euid == 0 || credentials->uid == 0;
    credentials->cap_permitted = root ? credentials->cap_inheritable | credentials->cap_bounding : credentials->cap_ambient;
    credentials->cap_effective = credentials->euid == 0 ? credentials->cap_permitted : credentials->cap_ambient;
}

static void name_process(const struct request *request)
{
    struct lx_process *process = lx_process();
    struct lx_thread *thread = lx_current();
    const char *slash = strrchr(request->name, '/'), *name = slash ? slash + 1 : request->name;
    size_t size = strnlen(name, sizeof thread->name - 1);
    memset(thread->name, 0, sizeof thread->name);
    memcpy(thread->name, name, size);
    memcpy(process->name, thread->name, sizeof process->name);

    char *line = heap_alloc(request->arguments.size + 1);
    if (!line)
        return;
    memcpy(line, request->arguments.bytes, request->arguments.size);
    lock_acquire(&lx_kernel->table.lock);
    char *old = process->command_line;
    process->command_line = line;
    process->command_line_size = request->arguments.size;
    lock_release(&lx_kernel->table.lock);
    heap_free(old);
}

/* Descriptors are not shared with anyone any more, and those marked so are closed. */
static int settle_files(struct lx_process *process)
{
    if (process->files->references > 1) {
        struct fd_table *own = fd_table_copy(process->files), *old = process->files;
        if (!own)
            return -ENOMEM;
        lock_acquire(&lx_kernel->table.lock);
        process->files = own;
        lock_release(&lx_kernel->table.lock);
        fd_table_unref(old);
    }
    fd_table_close_on_exec(process->files);
    return 0;
}

static void set_registers(uint64_t entry, uint64_t stack_pointer)
{
    struct lx_thread *thread = lx_current();
    struct bly_context *registers = lx_registers();
    memset(registers, 0, sizeof *registers);
    registers->rip = entry;
    registers->rsp = stack_pointer;
    registers->rflags = 0x202;
    thread->registers = registers;
    thread->restore_full = 1;
    thread->syscall_number = ~0u;
    bly->segment_base_set(BLY_SEGMENT_FS, 0);
    signal_reset_vector_registers();
}

/* The old memory goes, the new one comes. */
static int replace_memory(struct request *request)
{
    struct lx_process *process = lx_process();
    struct mm *mm = mm_create();
    if (!mm)
        return -ENOMEM;
    lock_acquire(&lx_kernel->table.lock);
    struct mm *old = process->mm; /* of a vfork child: its parent's, which stays */
    process->mm = mm;
    process->has_no_memory = 0;
    lock_release(&lx_kernel->table.lock);
    mm_reset_address_space();
    if (old)
        mm_unref(old);

    struct image_addresses addresses = {0, 0};
    uint64_t stack_pointer = 0;
    mutex_acquire(&mm->mutex);
    int error = map_program(mm, request, &addresses, &stack_pointer);
    mutex_release(&mm->mutex);
    if (error)
        return error;
    /* With the denial of writing: until mm_drop_references. */
    mm->executable_dentry = request->program.dentry;
    mm->executable = inode_ref(request->program.dentry->inode);
    request->program.dentry = NULL;
    uint64_t entry = request->interpreter.dentry ? addresses.interpreter_base + request->interpreter.image.entry
                                                 : addresses.program_base + request->program.image.entry;
    set_registers(entry, stack_pointer);
    return 0;
}

/* Takes over what `request` holds. 0: the registers are the new program's. > 0: the caller is a vfork parent again. */
static long run(struct request *request)
{
    int error = open_program(request);
    if (!error)
        error = check_argument_space(request);
    if (!error && request->program.image.interpreter_size)
        error = open_interpreter(&request->program, &request->interpreter);
    if (error) {
        request_release(request);
        return error;
    }
    long left = process_leave_vfork();
    if (left > 0)
        return left; /* the copy has the strings and the files */
    if (left == 0)
        left = process_kill_other_threads();
    if (left == 0)
        left = settle_files(lx_process());
    if (left < 0) {
        request_release(request);
        return left;
    }
    change_credentials(request->program.dentry);
    error = replace_memory(request);
    if (error) {
        log_line(BLY_LOG_WARNING, "execve of %s failed with error %d past the point of no return", request->name, -error);
        process_end(SIGSEGV);
    }
    name_process(request);
    signal_flush_exec(lx_process());
    process_exec_done();
    request_release(request);
    return 0;
}

/* ---- Entries ---------------------------------------------------------------------------------------------------- */

int exec_load(struct dentry *directory, const char *path, struct exec_arguments *arguments, unsigned flags)
{
    struct request request = {.path = path, .name = path, .directory = directory ? dentry_ref(directory) : NULL, .lookup_flags = flags ? flags : LOOKUP_FOLLOW};
    int error = 0;
    for (size_t i = 0; i < arguments->argument_count && !error; i++)
        error = string_list_add(&request.arguments, arguments->arguments[i]);
    for (size_t i = 0; i < arguments->environment_count && !error; i++)
        error = string_list_add(&request.environment, arguments->environment[i]);
    if (error) {
        request_release(&request);
        return error;
    }
    return (int)run(&request);
}

/* `request` says which file; the program's lists are read here. */
static long execute(struct request *request, const uint64_t *arguments, const uint64_t *environment)
{
    size_t space = argument_space();
    int error = string_list_read_guest(&request->arguments, arguments, space, STRING_MAX);
    if (!error)
        error = string_list_read_guest(&request->environment, environment, space, STRING_MAX);
    /* execve(2): since 5.18 an empty list gets an empty first argument. */
    if (!error && request->arguments.count == 0)
        error = string_list_add(&request->arguments, "");
    if (error) {
        request_release(request);
        return error;
    }
    long result = run(request);
    if (result > 0) {
        struct lx_thread *thread = lx_current();
        thread->registers->rax = (uint64_t)result;
        thread->restore_full = 1;
        thread->syscall_number = ~0u;
    }
    return result;
}

LX_SYSCALL(execve, const char *guest_path, const uint64_t *arguments, const uint64_t *environment)
{
    char path[LX_PATH_MAX];
    int64_t size = vfs_get_path(path, guest_path);
    if (size < 0)
        return size;
    struct request request = {.path = path, .name = path, .lookup_flags = LOOKUP_FOLLOW};
    return execute(&request, arguments, environment);
}

static bool closes_on_exec(int fd)
{
    struct fd_table *table = lx_process()->files;
    scoped_lock(&table->lock);
    return fd >= 0 && (uint32_t)fd < table->size && table->entries[fd].close_on_exec;
}

LX_SYSCALL(execveat, int directory_fd, const char *guest_path, const uint64_t *arguments, const uint64_t *environment, unsigned flags)
{
    char path[LX_PATH_MAX], name[LX_PATH_MAX + 32];
    if (flags & ~(unsigned)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        return -EINVAL;
    int64_t size = vfs_get_path(path, guest_path);
    if (size < 0)
        return size;
    if (size == 0 && !(flags & AT_EMPTY_PATH))
        return -ENOENT;
    struct request request = {
        .path = path, .name = path,
        .lookup_flags = (flags & AT_SYMLINK_NOFOLLOW ? 0u : LOOKUP_FOLLOW) | (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0u),
    };
    if (path[0] == '/' || directory_fd == AT_FDCWD)
        return execute(&request, arguments, environment);
    int error = vfs_base_at(directory_fd, &request.directory);
    if (error)
        return error;
    /* execveat(2), NOTES: what the program is called, and why a script cannot be given by a descriptor that is closed. */
    format(name, sizeof name, size ? "/dev/fd/%d/%s" : "/dev/fd/%d", directory_fd, path);
    request.name = name;
    request.path_inaccessible = closes_on_exec(directory_fd);
    return execute(&request, arguments, environment);
}
