/* A process's memory: regions, and the objects they map. */
#ifndef LX_MM_H
#define LX_MM_H

#include "libos/tree.h"
#include "personality/linux/lx.h"

/* Something that can be mapped: a file of some file system, a memfd, System V shared memory, shared anonymous memory. */
struct memory_object;
struct memory_object_ops {
    /* Makes the host mapping of [offset, offset + size) at `address` (replacing what is there), private copy-on-write or shared. `protection` is BLY_PROT_*. */
    int (*map)(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset);
    void (*destroy)(struct memory_object *object);
    size_t (*path)(struct memory_object *object, char *buffer, size_t size); /* for /proc/PID/maps */
    /* Shared maps: msync and MADV_REMOVE. [0; the host is asked to free the mapped pages] */
    int (*flush)(struct memory_object *object, uint64_t offset, uint64_t size);
    int (*punch)(struct memory_object *object, uint64_t offset, uint64_t size);
    /* A shared writable map of [offset, offset + size) begins or ends to exist (F_SEAL_WRITE counts them). [nothing] */
    int (*map_writable)(struct memory_object *object, int change);
    /* After a bus error: does the object now reach beyond `offset`? Then the page is mapped anew. [no] */
    bool (*covers)(struct memory_object *object, uint64_t offset);
    bool counts_maps; /* the program can see how many maps of the object there are */
};
struct memory_object {
    const struct memory_object_ops *ops;
    _Atomic uint32_t references;
    uint32_t flags;
    struct inode *inode;      /* identity (device, inode) for shared futexes and the patched-page cache; may be NULL */
    uint64_t id;              /* unique in the sandbox: key of shared futexes */
};
enum memory_object_flags { MEMORY_OBJECT_WRITABLE_SHARED = 1 /* shared writable maps are allowed */ };
static inline struct memory_object *memory_object_ref(struct memory_object *object) { object->references++; return object; }
void memory_object_unref(struct memory_object *object);
/* Shared anonymous memory of the bulk segment. */
struct memory_object *memory_object_create_anonymous(uint64_t size);
uint64_t lx_next_id(void); /* sandbox-wide counter */

struct region {
    struct tree_node node;        /* in mm.regions, by start */
    uint64_t start, end;          /* page multiples */
    uint32_t protection;          /* BLY_PROT_* as the program asked */
    uint32_t maximum_protection;  /* what mprotect may set */
    uint32_t flags;               /* enum region_flags */
    uint32_t advice;              /* MADV_DONTFORK and the like that stick */
    struct memory_object *object; /* NULL: private anonymous */
    uint64_t offset;              /* in object */
    uint64_t charged;             /* bytes counted against the memory limit */
};
enum region_flags {
    REGION_SHARED = 1, REGION_GROWS_DOWN = 2, REGION_STACK = 4, REGION_HEAP = 8, REGION_NO_RESERVE = 16, REGION_LOCKED = 32,
    REGION_TRAMPOLINE = 64, /* ours: call-site trampolines; hidden from /proc/PID/maps, refused to munmap */
    REGION_DONT_FORK = 128, REGION_WIPE_ON_FORK = 256, REGION_VDSO = 512,
    REGION_IMAGE = 1024, /* of a resumed process: pieces are private maps of the image; see mm/resume.c */
};

struct mm {
    struct mutex mutex;           /* guards everything below, and the host mappings */
    _Atomic uint32_t references;  /* processes (a vfork child borrows its parent's) */
    struct tree regions;
    struct region_share *share;   /* not NULL: the regions belong to other processes too and must not be changed: mm_own (region.c) */
    uint64_t shared_charge;       /* then: the sum of what they are charged */
    uint64_t mapped_bytes, data_bytes, stack_bytes, locked_bytes;
    uint64_t brk_start, brk_end;  /* end: current break */
    uint64_t mmap_top;            /* search downwards from here */
    uint64_t code_start, code_end, data_start, data_end, stack_start;
    uint64_t argument_start, argument_end, environment_start, environment_end;
    uint64_t auxv[64];
    uint32_t auxv_count;
    struct inode *executable;     /* /proc/PID/exe, with its dentry */
    struct dentry *executable_dentry;
    void *patches;                /* process/patch.c: proven call sites and their trampolines */
    int64_t caught_up;            /* process/patch.c: version of a page that was laid over at a fork */
    uint64_t place_below, place_hole; /* cache of the search for room: see mm/place.c */
    uint64_t grown_start, grown_end;  /* what the last stack growth added */
    uint32_t region_count;
    uint32_t lock_future;         /* mlockall(MCL_FUTURE) */
    uint32_t barrier_registered;  /* membarrier(2): MEMBARRIER_CMD_REGISTER_* that were done */
    uint64_t peak_bytes;          /* largest mapped_bytes: VmPeak */
    struct aio_context *aio;      /* syscall/aio.c */
    struct lock absent_lock;      /* guards the list, and against other uses of addresses in it: mm/absent.c */
    struct absent_map *absent;
};

struct mm *mm_create(void);
struct mm *mm_copy(struct mm *from); /* records only; the host's copy-on-write clone copies the memory */
void mm_unref(struct mm *mm);
/* Unmaps the whole guest address space of this picoprocess and starts afresh. */
void mm_reset_address_space(void);

/* Whether clones of the picoprocess have also what the program keeps from its children (MADV_DONTFORK). The mutex is held, or all threads are
 * at rest. */
void mm_show_all_to_clones(struct mm *mm, bool all);
/* Resume: maps again what the records say, and what the image has of the memory of picoprocess `old_id`. On failure *out_what is what could not be had. */
int mm_resume(struct mm *mm, uint32_t old_id, const char **out_what);

/* All with mm->mutex held, for the mm of this picoprocess. Return an address or negative errno. */
int64_t mm_map(struct mm *mm, uint64_t hint, uint64_t size, unsigned protection, unsigned region_flags, struct memory_object *object, uint64_t offset, unsigned mm_flags);
enum mm_map_flags { MM_FIXED = 1, MM_FIXED_NOREPLACE = 2, MM_LOW_32 = 4, MM_POPULATE = 8, MM_NEAR = 16 /* within 2 GiB of hint or fail */ };
uint64_t mm_find_room(struct mm *mm, uint64_t size); /* where a map of that size would go; 0: no room */
int mm_unmap(struct mm *mm, uint64_t start, uint64_t size);
int mm_protect(struct mm *mm, uint64_t start, uint64_t size, unsigned protection);
struct region *mm_find(struct mm *mm, uint64_t address); /* region containing it, or NULL */
struct region *mm_find_next(struct mm *mm, uint64_t address); /* containing it or the next above */
/* The same with a limit on what mprotect may set later (a file opened read-only). */
int64_t mm_map_limited(struct mm *mm, uint64_t hint, uint64_t size, unsigned protection, unsigned maximum_protection, unsigned region_flags,
                       struct memory_object *object, uint64_t offset, unsigned mm_flags);

/* From the exception upcall, before a signal is sent (and before guest_fault_fixup, so that copies grow stacks too): true when the fault has been
 * cured and the instruction can be tried again. May sleep on mm.mutex; false when the caller holds that itself. */
bool mm_handle_fault(uint64_t address, bool write);     /* BLY_EXCEPTION_MEMORY: stack growth */
bool mm_handle_bus_error(uint64_t address);             /* BLY_EXCEPTION_BUS: a file that has grown since it was mapped */
/* BLY_EXCEPTION_MEMORY: of a resumed process, memory that is not loaded yet. Takes no mutex. */
bool mm_handle_absent(uint64_t address, uint64_t error_code);
/* Before a host call gets these buffers of the program, which would only fail there. */
void mm_make_present(const struct bly_iovec *vector, size_t count);

/* fork under way, in the child, before it returns to the program: nothing to do for mm. exec calls mm_reset_address_space. */

/* Text for /proc: called for each piece of text, with the mm's mutex held (by mm_format_*). */
struct mm_text { void (*emit)(struct mm_text *text, const char *piece, size_t size); };
void mm_format_maps(struct mm *mm, struct mm_text *text);
void mm_format_smaps(struct mm *mm, struct mm_text *text);
/* What statm and status tell, in bytes. resident is an estimate. */
struct mm_statistics { uint64_t total, resident, shared, text, data, stack, locked, peak, anonymous; };
void mm_statistics(struct mm *mm, struct mm_statistics *out_statistics);

/* Bytes of any process's memory to or from the personality's `buffer`: how many were moved, or negative errno. The process is
 * referenced by the caller, who has checked that it may. Memory of other picoprocesses is out of reach: -EPERM. */
int64_t mm_access_process(struct lx_process *process, uint64_t address, void *buffer, size_t size, bool write);

/* Key under which a futex word is known. */
struct futex_key { uint64_t object; uint64_t offset; };
/* To be called before anything changes regions, and before pointers to what will be changed are got: after a fork they are shared.
 * -ENOMEM: nothing changed. */
int mm_own(struct mm *mm) __attribute__((warn_unused_result));
/* A forked child had a newer version of the page of code at `address` laid over its own: those who still share its regions are told, of which the
 * parent takes it at its next fork. The last one told of, or 0. */
void mm_tell_stale_code(struct mm *mm, uint64_t address);
uint64_t mm_take_stale_code(struct mm *mm);
int mm_futex_key(uint64_t address, bool shared, struct futex_key *out_key);

/* futex.c. For a thread that ends: robust list (FUTEX_OWNER_DIED), PI state; clear_child_tid is exit.c's matter: it writes 0 and
 * calls futex_wake_address. */
struct lx_thread;
void lx_futex_thread_exit(struct lx_thread *thread);
/* For a thread whose picoprocess died by force: takes it off all futexes. Its memory is gone, so nothing is
 * marked. process_table.lock is held. */
void lx_futex_thread_abandoned(struct lx_thread *thread);
int futex_wake_address(uint64_t address, int count);
int lx_futex_init(void);
int lx_mm_init(void);

#endif
