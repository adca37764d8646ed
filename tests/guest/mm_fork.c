/* After a fork, what parent and child map, unmap, protect and advise is each one's own, in either order and however many there are. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) do { if (!(x)) { printf("%d: %s (errno %d)\n", __LINE__, #x, errno); exit(1); } } while (0)
#define PAGE 4096ul
enum { CHILDREN = 6 };

static char *area;

static int mapped(const void *address)
{
    unsigned long start, end, wanted = (unsigned long)address;
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= wanted && wanted < end)
            found = 1;
    fclose(maps);
    return found;
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void change(int which)
{
    char *page = area + 2 * PAGE * (unsigned long)which;
    switch (which % 3) {
    case 0:
        CHECK(munmap(page, PAGE) == 0 && !mapped(page) && mapped(page + PAGE));
        break;
    case 1:
        CHECK(mprotect(page, PAGE, PROT_READ) == 0);
        CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
        CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 64 * PAGE) == area + 64 * PAGE);
        CHECK(!mapped(page) && mapped(area + 64 * PAGE));
        break;
    default:
        CHECK(mmap(page, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page && *page == 0);
        CHECK(mlock(page, PAGE) == 0 && munlock(page, PAGE) == 0);
        break;
    }
}

/* All are alive at once; they and the parent change in turns. */
static void several(void)
{
    int go[CHILDREN][2], done[2];
    pid_t children[CHILDREN];
    char byte = 0;
    CHECK(pipe(done) == 0);
    for (int i = 0; i < CHILDREN; i++) {
        CHECK(pipe(go[i]) == 0);
        if ((children[i] = fork()) == 0) {
            CHECK(read(go[i][0], &byte, 1) == 1);
            for (int k = 0; k < 16; k++)
                CHECK(area[2 * PAGE * (unsigned long)k] == (char)(k + 1) && mapped(area + 2 * PAGE * (unsigned long)k));
            change(i);
            CHECK(write(done[1], &byte, 1) == 1);
            CHECK(read(go[i][0], &byte, 1) == 1);
            _exit(0);
        }
        CHECK(children[i] > 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        CHECK(write(go[i][1], &byte, 1) == 1 && read(done[0], &byte, 1) == 1);
        if (i == CHILDREN / 2) { /* the first half is unaffected by the parent, and so is the second */
            CHECK(munmap(area + 40 * PAGE, PAGE) == 0 && !mapped(area + 40 * PAGE));
            CHECK(mmap(area + 40 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + 40 * PAGE);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        CHECK(write(go[i][1], &byte, 1) == 1);
        wait_for(children[i]);
        CHECK(mapped(area + 2 * PAGE * (unsigned long)i) && area[2 * PAGE * (unsigned long)i] == (char)(i + 1));
        close(go[i][0]);
        close(go[i][1]);
    }
    close(done[0]);
    close(done[1]);
}

/* A grandchild keeps what its parent, which has ended, had. */
static void grandchild(void)
{
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            CHECK(mapped(area) && munmap(area, PAGE) == 0 && !mapped(area) && area[2 * PAGE] == 2);
            _exit(0);
        }
        int status;
        CHECK(wait(&status) > 0 && status == 0 && mapped(area));
        CHECK(munmap(area, PAGE) == 0);
        _exit(0);
    }
    wait_for(child);
    CHECK(mapped(area) && *area == 1);
}

static void not_inherited(void)
{
    CHECK(madvise(area + 48 * PAGE, PAGE, MADV_DONTFORK) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(!mapped(area + 48 * PAGE) && mapped(area + 49 * PAGE));
        _exit(0);
    }
    wait_for(child);
    CHECK(mapped(area + 48 * PAGE) && madvise(area + 48 * PAGE, PAGE, MADV_DOFORK) == 0);
    if ((child = fork()) == 0) {
        CHECK(mapped(area + 48 * PAGE));
        _exit(0);
    }
    wait_for(child);
}

static void attachments_are_counted(void)
{
    struct shmid_ds status;
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    CHECK(id >= 0);
    char *memory = shmat(id, NULL, 0);
    CHECK(memory != (void *)-1);
    pid_t child = fork();
    if (child == 0) {
        CHECK(shmctl(id, IPC_STAT, &status) == 0 && status.shm_nattch == 2);
        _exit(0);
    }
    wait_for(child);
    CHECK(shmctl(id, IPC_STAT, &status) == 0 && status.shm_nattch == 1);
    CHECK(shmdt(memory) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
}

/* Without change of the parent's in between, and with. */
static void again_and_again(void)
{
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i % 3 == 0)
                CHECK(munmap(area + 50 * PAGE, PAGE) == 0);
            if (i % 3 == 1)
                execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        if (i % 5 == 0) {
            void *more = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(more != MAP_FAILED && munmap((char *)more + PAGE, PAGE) == 0);
        }
        wait_for(child);
        CHECK(mapped(area + 50 * PAGE));
    }
}

int main(void)
{
    area = mmap(NULL, 128 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    for (int k = 0; k < 16; k++)
        area[2 * PAGE * (unsigned long)k] = (char)(k + 1);
    several();
    grandchild();
    not_inherited();
    attachments_are_counted();
    again_and_again();
    return 0;
}
