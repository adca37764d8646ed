/* mremap, madvise, mlock and relatives, memfd and seals, process_vm_*, membarrier. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <linux/membarrier.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static char *map(size_t size, int flags)
{
    char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    CHECK(area != MAP_FAILED);
    return area;
}

/* Is it mapped? */
static int mapped(void *address)
{
    unsigned char vector;
    return mincore(address, PAGE, &vector) == 0;
}

static void mremap_grows_shrinks_and_moves(void)
{
    char *area = map(16 * PAGE, MAP_PRIVATE);
    for (int i = 0; i < 16; i++)
        area[i * PAGE] = i + 1;
    CHECK(mremap(area, 16 * PAGE, 8 * PAGE, 0) == area);
    CHECK(!mapped(area + 8 * PAGE));
    CHECK(mremap(area, 8 * PAGE, 12 * PAGE, 0) == area);
    CHECK_EQUAL(area[8 * PAGE], 0);
    char *wall =
        mmap(area + 12 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == area + 12 * PAGE);
    CHECK(mremap(area, 12 * PAGE, 20 * PAGE, 0) == MAP_FAILED && errno == ENOMEM);
    char *moved = mremap(area, 12 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved != area);
    CHECK(!mapped(area));
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(moved[i * PAGE], i + 1);
    CHECK_EQUAL(moved[299 * PAGE], 0);
    moved[299 * PAGE] = 1;
    munmap(wall, PAGE);
    munmap(moved, 300 * PAGE);
}

static void mremap_to_a_fixed_place_replaces_it(void)
{
    char *area = map(4 * PAGE, MAP_PRIVATE), *target = map(8 * PAGE, MAP_PRIVATE);
    memset(area, 1, 4 * PAGE);
    memset(target, 2, 8 * PAGE);
    CHECK(mremap(area, 4 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE) ==
          target + PAGE);
    CHECK(target[0] == 2 && target[PAGE] == 1 && target[2 * PAGE] == 1 && target[3 * PAGE] == 2);
    CHECK(!mapped(area) && !mapped(area + 2 * PAGE));
    munmap(target, 8 * PAGE);
}

static void mremap_errors_are_linuxs(void)
{
    char *area = map(4 * PAGE, MAP_PRIVATE);
    CHECK(mremap(area + 1, PAGE, PAGE, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(area, PAGE, 0, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(area, PAGE, PAGE, 8) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(area, PAGE, PAGE, MREMAP_FIXED, area) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, area + PAGE) ==
              MAP_FAILED &&
          errno == EINVAL);
    CHECK(mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, area + 1) == MAP_FAILED &&
          errno == EINVAL);
    CHECK(mremap(area, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    CHECK(mremap(area, 0, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(area, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED &&
          errno == EINVAL);
    munmap(area, 4 * PAGE);
    CHECK(mremap(area, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
}

static void mremap_of_shared_memory_stays_shared(void)
{
    char *area = map(4 * PAGE, MAP_SHARED);
    area[PAGE] = 5;
    char *view = mremap(area, 0, 4 * PAGE, MREMAP_MAYMOVE);
    CHECK(view != MAP_FAILED && view != area && view[PAGE] == 5);
    view[PAGE] = 6;
    CHECK_EQUAL(area[PAGE], 6);
    char *moved =
        mremap(area, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(4 * PAGE, MAP_PRIVATE));
    CHECK(moved != MAP_FAILED && moved[PAGE] == 6);
    if (fork() == 0) {
        moved[PAGE] = 7;
        _exit(0);
    }
    wait(NULL);
    CHECK_EQUAL(view[PAGE], 7);
    munmap(view, 4 * PAGE);
    munmap(moved, 4 * PAGE);
}

static void mremap_dontunmap_leaves_empty_pages(void)
{
    char *area = map(2 * PAGE, MAP_PRIVATE);
    memset(area, 9, 2 * PAGE);
    char *moved = mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    CHECK(moved != MAP_FAILED && moved != area);
    CHECK(moved[0] == 9 && moved[PAGE] == 9 && area[0] == 0 && area[PAGE] == 0);
    munmap(area, 2 * PAGE);
    munmap(moved, 2 * PAGE);
}

static void madvise_discards(void)
{
    char *area = map(4 * PAGE, MAP_PRIVATE), *shared = map(4 * PAGE, MAP_SHARED);
    memset(area, 3, 4 * PAGE);
    memset(shared, 3, 4 * PAGE);
    CHECK_EQUAL(madvise(area + PAGE, PAGE, MADV_DONTNEED), 0);
    CHECK(area[0] == 3 && area[PAGE] == 0 && area[2 * PAGE] == 3);
    CHECK_EQUAL(madvise(shared, 4 * PAGE, MADV_DONTNEED), 0);
    CHECK_EQUAL(shared[0], 3);
    CHECK_EQUAL(madvise(shared + PAGE, PAGE, MADV_REMOVE), 0);
    CHECK(shared[0] == 3 && shared[PAGE] == 0);
    CHECK_ERROR(madvise(area, PAGE, MADV_REMOVE), EINVAL);
    CHECK_ERROR(madvise(area + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_ERROR(madvise(area, PAGE, 12345), EINVAL);
    CHECK_EQUAL(madvise(area, 0, MADV_DONTNEED), 0);
    CHECK_EQUAL(madvise(area, PAGE, MADV_FREE), 0);
    CHECK_ERROR(madvise(shared, PAGE, MADV_FREE), EINVAL);
    munmap(area + PAGE, PAGE);
    memset(area + 2 * PAGE, 3, PAGE);
    CHECK_ERROR(madvise(area, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK_EQUAL(area[2 * PAGE], 0); /* what lies behind the hole too */
    CHECK_EQUAL(madvise(area, PAGE, MADV_NORMAL), 0);
    CHECK_EQUAL(madvise(area, PAGE, MADV_SEQUENTIAL), 0);
    munmap(area, 4 * PAGE);
    munmap(shared, 4 * PAGE);
}

static void madvise_says_what_fork_does(void)
{
    char *gone = map(PAGE, MAP_PRIVATE), *wiped = map(PAGE, MAP_PRIVATE),
         *kept = map(PAGE, MAP_PRIVATE), *shared = map(PAGE, MAP_SHARED);
    *gone = *wiped = *kept = 4;
    CHECK_EQUAL(madvise(gone, PAGE, MADV_DONTFORK), 0);
    CHECK_EQUAL(madvise(wiped, PAGE, MADV_WIPEONFORK), 0);
    CHECK_ERROR(madvise(shared, PAGE, MADV_WIPEONFORK), EINVAL);
    pid_t child = fork();
    if (child == 0) {
        CHECK(!mapped(gone));
        CHECK(*wiped == 0 && *kept == 4);
        *wiped = 1;
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(*wiped == 0 ? 0 : 2);
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    CHECK(*gone == 4 && *wiped == 4);
    munmap(gone, PAGE);
    munmap(wiped, PAGE);
    munmap(kept, PAGE);
    munmap(shared, PAGE);
}

static void locking_has_limits_and_errors(void)
{
    char *area = map(4 * PAGE, MAP_PRIVATE);
    unsigned char vector[4];
    CHECK_EQUAL(mlock(area, 2 * PAGE), 0);
    CHECK_EQUAL(mincore(area, 2 * PAGE, vector), 0);
    CHECK((vector[0] & 1) && (vector[1] & 1));
    CHECK_ERROR(madvise(area, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_ERROR(msync(area, PAGE, MS_INVALIDATE), EBUSY);
    CHECK_EQUAL(munlock(area, 2 * PAGE), 0);
    CHECK_EQUAL(madvise(area, PAGE, MADV_DONTNEED), 0);
    CHECK_ERROR(mlockall(0), EINVAL);
    CHECK_ERROR(mlockall(64), EINVAL);
    CHECK_ERROR(syscall(SYS_mlock2, area, PAGE, 2), EINVAL);
    CHECK_ERROR(msync(area, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERROR(msync(area + 1, PAGE, MS_SYNC), EINVAL);
    CHECK_ERROR(mincore(area + 1, PAGE, vector), EINVAL);
    CHECK_ERROR(mincore(area, PAGE, (void *)8), EFAULT);
    munmap(area + PAGE, PAGE);
    CHECK_ERROR(mlock(area, 4 * PAGE), ENOMEM);
    CHECK_ERROR(munlock(area, 4 * PAGE), ENOMEM);
    CHECK_ERROR(mincore(area, 4 * PAGE, vector), ENOMEM);
    CHECK_ERROR(msync(area, 4 * PAGE, MS_SYNC), ENOMEM);
    munmap(area, 4 * PAGE);
}

static void memfd_is_a_file_in_memory(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    struct stat status;
    char text[8] = "";
    CHECK(fd >= 0);
    CHECK_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(ftruncate(fd, 3 * PAGE), 0);
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK(S_ISREG(status.st_mode) && (size_t)status.st_size == 3 * PAGE);
    CHECK_EQUAL(pwrite(fd, "abc", 3, 100), 3);
    char *area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED && memcmp(area + 100, "abc", 3) == 0);
    if (fork() == 0) {
        area[101] = 'x';
        _exit(0);
    }
    wait(NULL);
    CHECK_EQUAL(pread(fd, text, 3, 100), 3);
    CHECK(strcmp(text, "axc") == 0);
    CHECK_EQUAL(lseek(fd, 0, SEEK_END), 3 * PAGE);
    CHECK_EQUAL(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERROR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    char link[64] = "", name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    CHECK(readlink(name, link, sizeof link - 1) > 0);
    CHECK(strcmp(link, "/memfd:test (deleted)") == 0);
    munmap(area, 3 * PAGE);
    close(fd);
    CHECK_ERROR(memfd_create("x", 0x100), EINVAL);
    char long_name[300];
    memset(long_name, 'n', 299);
    long_name[299] = 0;
    CHECK_ERROR(memfd_create(long_name, 0), EINVAL);
    CHECK_ERROR(memfd_create((char *)8, 0), EFAULT);
}

static void seals_hold(void)
{
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    CHECK_EQUAL(fcntl(fd, F_GET_SEALS), 0);
    CHECK_EQUAL(ftruncate(fd, 2 * PAGE), 0);
    CHECK_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    CHECK_ERROR(ftruncate(fd, PAGE), EPERM);
    CHECK_ERROR(ftruncate(fd, 3 * PAGE), EPERM);
    CHECK_EQUAL(ftruncate(fd, 2 * PAGE), 0);
    CHECK_ERROR(pwrite(fd, "x", 1, 2 * PAGE), EPERM);
    CHECK_EQUAL(pwrite(fd, "x", 1, 0), 1);
    char *area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    CHECK_ERROR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    munmap(area, PAGE);
    CHECK_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    CHECK_ERROR(pwrite(fd, "x", 1, 0), EPERM);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
          errno == EPERM);
    area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(area != MAP_FAILED);
    area[0] = 1;
    munmap(area, PAGE);
    CHECK_ERROR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), EPERM);
    CHECK_EQUAL(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    CHECK_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
    CHECK_ERROR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    CHECK_ERROR(fcntl(fd, F_ADD_SEALS, 0x1000), EINVAL);
    close(fd);
}

static void process_vm_copies_within_and_between(void)
{
    char from[300], to[300];
    for (int i = 0; i < 300; i++)
        from[i] = (char)i;
    struct iovec local[2] = {{to, 100}, {to + 100, 200}},
                 remote[3] = {{from, 10}, {from + 10, 0}, {from + 10, 290}};
    CHECK_EQUAL(process_vm_readv(getpid(), local, 2, remote, 3, 0), 300);
    CHECK(memcmp(from, to, 300) == 0);
    memset(from, 1, 300);
    CHECK_EQUAL(process_vm_writev(getpid(), local, 2, remote, 3, 0), 300);
    CHECK(memcmp(from, to, 300) == 0);
    CHECK_ERROR(process_vm_readv(getpid(), local, 2, remote, 3, 1), EINVAL);
    CHECK_ERROR(process_vm_readv(getpid(), local, 2000, remote, 3, 0), EINVAL);
    remote[0].iov_base = (void *)8;
    CHECK_ERROR(process_vm_readv(getpid(), local, 2, remote, 3, 0), EFAULT);
    remote[0].iov_base = from;
    remote[2].iov_base = (void *)8;
    CHECK_EQUAL(process_vm_readv(getpid(), local, 2, remote, 3, 0), 10);
    CHECK_ERROR(process_vm_readv(99999999, local, 2, remote, 3, 0), ESRCH);
    CHECK_EQUAL(process_vm_readv(getpid(), local, 0, remote, 0, 0), 0);
}

static void membarrier_wants_registration(void)
{
    long offered = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    CHECK(offered > 0 && (offered & MEMBARRIER_CMD_PRIVATE_EXPEDITED));
    pid_t child = fork();
    if (child == 0) {
        CHECK_ERROR(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
        CHECK_EQUAL(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
        CHECK_EQUAL(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
        CHECK_ERROR(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 1 << 20, 0), EINVAL);
        CHECK_ERROR(syscall(SYS_membarrier, 1 << 20, 0, 0), EINVAL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void what_may_only_be_written_is_locked(void)
{
    int fd = memfd_create("pages", 0);
    CHECK(ftruncate(fd, 2 * PAGE) == 0);
    char *area = mmap(NULL, 2 * PAGE, PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED && mlock(area, 2 * PAGE) == 0);
    munmap(area, 2 * PAGE);
    close(fd);
}

static void file_pages_are_remapped(void)
{
    int fd = memfd_create("pages", 0);
    CHECK(ftruncate(fd, 4 * PAGE) == 0);
    volatile char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    for (int i = 0; i < 4; i++)
        area[i * PAGE] = (char)('0' + i);
    CHECK(remap_file_pages((void *)area, PAGE, 0, 3, 0) == 0 && area[0] == '3' && area[PAGE] == '1');
    area[0] = 'x';
    CHECK(area[3 * PAGE] == 'x');
    CHECK(remap_file_pages((char *)area + PAGE, 2 * PAGE, 0, 0, 0) == 0 && area[PAGE] == '0' && area[2 * PAGE] == '1');
    CHECK_ERROR(remap_file_pages((void *)area, PAGE, PROT_READ, 0, 0), EINVAL);
    CHECK_ERROR(remap_file_pages((void *)area, 8 * PAGE, 0, 0, 0), EINVAL);
    char *private = map(PAGE, MAP_PRIVATE);
    CHECK_ERROR(remap_file_pages(private, PAGE, 0, 0, 0), EINVAL);
    munmap(private, PAGE);
    munmap((void *)area, 4 * PAGE);
    close(fd);
}

static const struct guest_case cases[] = {
    GUEST_CASE(mremap_grows_shrinks_and_moves),
    GUEST_CASE(mremap_to_a_fixed_place_replaces_it),
    GUEST_CASE(mremap_errors_are_linuxs),
    GUEST_CASE(mremap_of_shared_memory_stays_shared),
    GUEST_CASE(mremap_dontunmap_leaves_empty_pages),
    GUEST_CASE(madvise_discards),
    GUEST_CASE(madvise_says_what_fork_does),
    GUEST_CASE(locking_has_limits_and_errors),
    GUEST_CASE(memfd_is_a_file_in_memory),
    GUEST_CASE(seals_hold),
    GUEST_CASE(process_vm_copies_within_and_between),
    GUEST_CASE(membarrier_wants_registration),
    GUEST_CASE(what_may_only_be_written_is_locked),
    GUEST_CASE(file_pages_are_remapped),
};
GUEST_MAIN(cases)
