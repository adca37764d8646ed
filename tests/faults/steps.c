/* A program whose work can be checked: steps FOLDER. Two processes hand a number to and fro through pipes, a thread keeps shared and private
 * memory in step with it, and each step is one line in FOLDER/steps.GENERATION (of /run/bailey/generation). Ends with 3 when anything in it
 * is not as it was left. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 256

static uint32_t *shared, *own;
static _Atomic uint32_t wanted, done;

static void require(int condition)
{
    if (!condition)
        _exit(3);
}

static void *keep_memory(void *unused)
{
    for (;;) {
        uint32_t number = atomic_load(&wanted), before = atomic_load(&done);
        if (number != before) {
            uint32_t place = number % PAGES * 1024;
            require(shared[place] == own[place]);
            shared[place] = own[place] = number * 2654435761u;
            atomic_store(&done, number);
        }
        nanosleep(&(struct timespec){0, 300000}, NULL);
    }
    return unused;
}

static void answer(int from, int to)
{
    uint32_t number;
    while (read(from, &number, sizeof(number)) == sizeof(number)) {
        number++;
        require(write(to, &number, sizeof(number)) == sizeof(number));
    }
    _exit(0);
}

/* Tried again where the host refuses: faults are injected into what serves it, too. */
static int open_again(const char *name, int flags)
{
    int file = open(name, flags, 0666);
    for (int i = 0; file < 0 && i < 50; i++) {
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        file = open(name, flags, 0666);
    }
    return file;
}

static void note(const char *folder, uint32_t number)
{
    char generation[16] = "", name[256], line[32];
    ssize_t count = -1;
    for (int i = 0; count <= 0 && i < 50; i++) {
        int file = open_again("/run/bailey/generation", O_RDONLY);
        count = read(file, generation, sizeof(generation) - 1);
        close(file);
    }
    require(count > 0);
    snprintf(name, sizeof(name), "%s/steps.%d", folder, atoi(generation));
    int file = open_again(name, O_WRONLY | O_CREAT | O_APPEND);
    size_t size = (size_t)snprintf(line, sizeof(line), "%u\n", number), done = 0;
    for (int i = 0; done < size && i < 50; i++) {
        count = write(file, line + done, size - done);
        done += count > 0 ? (size_t)count : 0;
    }
    require(file >= 0 && done == size);
    close(file);
}

int main(int argc, char **argv)
{
    int forth[2], back[2];
    pthread_t thread;
    require(argc == 2 && pipe(forth) == 0 && pipe(back) == 0);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        close(forth[1]);
        close(back[0]);
        answer(forth[0], back[1]);
    }
    close(forth[0]);
    close(back[1]);
    shared = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    own = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(shared != MAP_FAILED && own != MAP_FAILED && pthread_create(&thread, NULL, keep_memory, NULL) == 0);
    for (uint32_t number = 1;; number++) {
        uint32_t next = 0;
        require(write(forth[1], &number, sizeof(number)) == sizeof(number));
        require(read(back[0], &next, sizeof(next)) == sizeof(next) && next == number + 1);
        atomic_store(&wanted, number);
        while (atomic_load(&done) != number)
            nanosleep(&(struct timespec){0, 300000}, NULL);
        note(argv[1], number);
    }
}
