/* What the system holds for a program while time passes: nothing of it changes by itself. Natively that goes without saying; with
 * run.py --suspend the time that passes is a suspension, and everything here must have been carried. */
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0)
        CHECK_EQUAL(errno, EINTR);
}

static void time_passes(void) { pause_ms(150); }

static int exit_status(pid_t pid)
{
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void vfork_child_holds_its_parent(void)
{
    volatile int changed = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        time_passes();
        changed = 1;
        _exit(7);
    }
    CHECK_EQUAL(changed, 1);
    CHECK_EQUAL(exit_status(pid), 7);
}

static void stopped_process_stays_stopped(void)
{
    volatile int *counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        *counter = 1;
        pause();
    }
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    time_passes();
    CHECK_EQUAL(*counter, 0);
    CHECK_EQUAL(waitpid(pid, &status, WNOHANG | WUNTRACED), 0);
    kill(pid, SIGCONT);
    CHECK_EQUAL(waitpid(pid, &status, WCONTINUED), pid);
    CHECK(WIFCONTINUED(status));
    while (!*counter)
        pause_ms(1);
    kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(WTERMSIG(status), SIGKILL);
}

static void zombie_keeps_its_status(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(42);
    time_passes();
    CHECK_EQUAL(exit_status(pid), 42);
}

static void event_descriptors_and_their_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK_EQUAL(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    int event = eventfd(5, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK), signals = signalfd(-1, &set, SFD_NONBLOCK);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), epoll = epoll_create1(0), fds[] = {event, semaphore, signals, timer};
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLIN | (i == 0 ? EPOLLET : 0), .data.u64 = 0x1234500000000ull + i}), 0);
    CHECK_EQUAL(timerfd_settime(timer, 0, &(struct itimerspec){.it_value = {0, 120000000}}, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 100 + i}), 0);
    struct epoll_event events[8];
    CHECK_EQUAL(epoll_wait(epoll, events, 8, 0), 3);
    time_passes();
    CHECK_EQUAL(poll(&(struct pollfd){.fd = timer, .events = POLLIN}, 1, 5000), 1);
    /* The edge is used up, the three levels are not. */
    CHECK_EQUAL(epoll_wait(epoll, events, 8, 1000), 3);
    for (int i = 0; i < 3; i++)
        CHECK(events[i].data.u64 > 0x1234500000000ull && events[i].data.u64 <= 0x1234500000003ull);
    uint64_t value;
    CHECK_EQUAL(read(event, &value, 8), 8);
    CHECK_EQUAL(value, 5);
    CHECK_EQUAL(read(semaphore, &value, 8), 8);
    CHECK_EQUAL(read(semaphore, &value, 8), 8);
    CHECK_ERROR(read(semaphore, &value, 8), EAGAIN);
    CHECK_EQUAL(read(timer, &value, 8), 8);
    CHECK_EQUAL(value, 1);
    struct signalfd_siginfo info;
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(read(signals, &info, sizeof info), sizeof info);
        CHECK_EQUAL(info.ssi_int, 100 + i);
        CHECK_EQUAL(info.ssi_pid, getpid());
    }
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
    close(epoll);
}

static void inotify_events_stay_and_go_on(void)
{
    char folder[] = "/tmp/held-XXXXXX", name[64], buffer[4096] __attribute__((aligned(8)));
    CHECK(mkdtemp(folder) != NULL);
    int notify = inotify_init1(IN_NONBLOCK), watch = inotify_add_watch(notify, folder, IN_CREATE | IN_DELETE);
    CHECK(watch >= 0);
    snprintf(name, sizeof name, "%s/one", folder);
    close(open(name, O_CREAT | O_WRONLY, 0600));
    time_passes();
    const struct inotify_event *event = (void *)buffer;
    CHECK(read(notify, buffer, sizeof buffer) > 0);
    CHECK(event->wd == watch && event->mask == IN_CREATE && !strcmp(event->name, "one"));
    unlink(name);
    CHECK(read(notify, buffer, sizeof buffer) > 0);
    CHECK(event->wd == watch && event->mask == IN_DELETE && !strcmp(event->name, "one"));
    close(notify);
    rmdir(folder);
}

struct message { long type; char text[64]; };

static void system_v_objects(void)
{
    int memory = shmget(IPC_PRIVATE, 8192, 0600), queue = msgget(IPC_PRIVATE, 0600), semaphores = semget(IPC_PRIVATE, 2, 0600);
    char *area = shmat(memory, NULL, 0);
    CHECK(area != (void *)-1);
    strcpy(area + 5000, "shared");
    CHECK_EQUAL(shmctl(memory, IPC_RMID, NULL), 0);
    for (int i = 1; i <= 3; i++) {
        struct message message = {.type = i};
        snprintf(message.text, sizeof message.text, "message %d", i);
        CHECK_EQUAL(msgsnd(queue, &message, sizeof message.text, 0), 0);
    }
    CHECK_EQUAL(semctl(semaphores, 0, SETVAL, 3), 0);
    pid_t pid = fork();
    if (pid == 0) { /* waits for the other one, with what is to be undone */
        struct sembuf operations[] = {{0, -2, SEM_UNDO}, {1, -1, 0}};
        CHECK_EQUAL(semop(semaphores, operations, 2), 0);
        CHECK(!strcmp(area + 5000, "shared"));
        CHECK_EQUAL(semctl(semaphores, 0, GETVAL), 1);
        _exit(0);
    }
    time_passes();
    CHECK_EQUAL(semctl(semaphores, 0, GETVAL), 3);
    while (semctl(semaphores, 1, GETNCNT) != 1)
        pause_ms(1);
    CHECK_EQUAL(semctl(semaphores, 1, SETVAL, 1), 0);
    CHECK_EQUAL(exit_status(pid), 0);
    CHECK_EQUAL(semctl(semaphores, 0, GETVAL), 3);
    struct message message;
    CHECK_EQUAL(msgrcv(queue, &message, sizeof message.text, 2, IPC_NOWAIT), sizeof message.text);
    CHECK(!strcmp(message.text, "message 2"));
    CHECK_EQUAL(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT), sizeof message.text);
    CHECK(!strcmp(message.text, "message 1"));
    CHECK_EQUAL(msgctl(queue, IPC_RMID, NULL), 0);
    CHECK_EQUAL(semctl(semaphores, 0, IPC_RMID), 0);
    CHECK_EQUAL(shmdt(area), 0);
}

static void posix_message_queue(void)
{
    char name[64], text[128];
    unsigned priority;
    snprintf(name, sizeof name, "/held-%d", getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &(struct mq_attr){.mq_maxmsg = 4, .mq_msgsize = sizeof text});
    CHECK(queue >= 0);
    CHECK_EQUAL(mq_unlink(name), 0);
    CHECK_EQUAL(mq_send(queue, "low", 4, 1), 0);
    CHECK_EQUAL(mq_send(queue, "high", 5, 9), 0);
    time_passes();
    CHECK_EQUAL(mq_receive(queue, text, sizeof text, &priority), 5);
    CHECK(priority == 9 && !strcmp(text, "high"));
    CHECK_EQUAL(mq_receive(queue, text, sizeof text, &priority), 4);
    CHECK(priority == 1 && !strcmp(text, "low"));
    mq_close(queue);
}

static void send_descriptor(int socket, int descriptor, const char *text)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
    struct iovec vector = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    CHECK_EQUAL(sendmsg(socket, &message, 0), strlen(text));
}

static int receive_descriptor(int socket, const char *wanted)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    char text[64] = "";
    int descriptor;
    struct iovec vector = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    CHECK_EQUAL(recvmsg(socket, &message, 0), strlen(wanted));
    CHECK(!strcmp(text, wanted));
    CHECK(CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

static void descriptors_in_flight(void)
{
    int pair[2], pipes[2];
    char text[16] = "";
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    CHECK_EQUAL(pipe(pipes), 0);
    CHECK_EQUAL(write(pipes[1], "in the pipe", 11), 11);
    send_descriptor(pair[0], pipes[0], "first");
    send_descriptor(pair[0], pair[0], "itself"); /* a socket that waits in its own peer */
    close(pipes[0]);
    time_passes();
    int reader = receive_descriptor(pair[1], "first"), again = receive_descriptor(pair[1], "itself");
    CHECK_EQUAL(read(reader, text, sizeof text), 11);
    CHECK(!strcmp(text, "in the pipe"));
    CHECK_EQUAL(write(again, "x", 1), 1);
    CHECK_EQUAL(read(pair[1], text, sizeof text), 1);
    close(pipes[1]);
    CHECK_EQUAL(read(reader, text, sizeof text), 0);
    close(reader), close(again), close(pair[0]), close(pair[1]);
}

static void files_without_a_name(void)
{
    static const char *const folders[] = {"/tmp", "."};
    char name[64], text[16] = "";
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/held-%d", folders[i], getpid());
        int file = open(name, O_CREAT | O_RDWR | O_EXCL, 0600), second = open(name, O_RDONLY);
        CHECK(file >= 0 && second >= 0);
        CHECK_EQUAL(write(file, "some contents", 13), 13);
        char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        CHECK(map != MAP_FAILED);
        CHECK_EQUAL(lseek(file, 5, SEEK_SET), 5);
        CHECK_EQUAL(unlink(name), 0);
        time_passes();
        CHECK_EQUAL(read(file, text, 8), 8);
        CHECK(!memcmp(text, "contents", 8));
        memcpy(map, "SOME", 4);
        CHECK_EQUAL(msync(map, 4096, MS_SYNC), 0);
        CHECK_EQUAL(pread(second, text, 5, 0), 5);
        CHECK(!memcmp(text, "SOME ", 5));
        CHECK_EQUAL(ftruncate(file, 3), 0);
        CHECK_EQUAL(lseek(second, 0, SEEK_END), 3);
        munmap(map, 4096);
        close(file), close(second);
    }
}

static void locks_are_kept(void)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/held-lock-%d", getpid());
    int file = open(name, O_CREAT | O_RDWR, 0600), own = open(name, O_RDWR);
    struct flock record = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    CHECK_EQUAL(fcntl(file, F_SETLK, &record), 0);
    CHECK_EQUAL(flock(own, LOCK_EX), 0);
    int looked[2];
    char byte;
    CHECK_EQUAL(pipe(looked), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int other = open(name, O_RDWR);
        time_passes();
        struct flock probe = record;
        CHECK_EQUAL(fcntl(other, F_GETLK, &probe), 0);
        CHECK_EQUAL(probe.l_pid, getppid());
        CHECK_ERROR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
        CHECK_EQUAL(write(looked[1], "x", 1), 1);
        CHECK_EQUAL(fcntl(other, F_SETLKW, &record), 0); /* until the parent lets go */
        CHECK_EQUAL(flock(other, LOCK_EX), 0);
        _exit(0);
    }
    CHECK_EQUAL(read(looked[0], &byte, 1), 1);
    time_passes();
    record.l_type = F_UNLCK;
    CHECK_EQUAL(fcntl(file, F_SETLK, &record), 0);
    pause_ms(50);
    CHECK_EQUAL(waitpid(pid, NULL, WNOHANG), 0);
    CHECK_EQUAL(flock(own, LOCK_UN), 0);
    CHECK_EQUAL(exit_status(pid), 0);
    unlink(name);
    close(file), close(own), close(looked[0]), close(looked[1]);
}

static void terminals_keep_settings_and_data(void)
{
    int master, slave;
    char text[64] = "";
    struct termios settings;
    CHECK_EQUAL(openpty(&master, &slave, NULL, NULL, &(struct winsize){.ws_row = 33, .ws_col = 99}), 0);
    CHECK_EQUAL(tcgetattr(slave, &settings), 0);
    cfmakeraw(&settings);
    settings.c_cc[VMIN] = 3;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &settings), 0);
    CHECK_EQUAL(write(slave, "to the master\n", 14), 14);
    CHECK_EQUAL(write(master, "keys", 4), 4);
    time_passes();
    struct winsize size;
    CHECK_EQUAL(ioctl(slave, TIOCGWINSZ, &size), 0);
    CHECK(size.ws_row == 33 && size.ws_col == 99);
    CHECK_EQUAL(read(slave, text, sizeof text), 4);
    CHECK(!memcmp(text, "keys", 4));
    CHECK_EQUAL(read(master, text, sizeof text), 14);
    CHECK_EQUAL(tcgetattr(slave, &settings), 0);
    CHECK(!(settings.c_lflag & (ICANON | ECHO)) && settings.c_cc[VMIN] == 3);
    close(slave);
    close(master);
}

static void full_pipe_and_its_writer(void)
{
    int pipes[2];
    enum { SIZE = 300000 };
    CHECK_EQUAL(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        static unsigned char data[SIZE];
        for (int i = 0; i < SIZE; i++)
            data[i] = (unsigned char)(i * 7 + i / 251);
        CHECK_EQUAL(write(pipes[1], data, SIZE), SIZE); /* one call, blocked in the middle */
        _exit(0);
    }
    close(pipes[1]);
    int got = 0;
    unsigned char piece[7001];
    for (ssize_t size; (size = read(pipes[0], piece, sizeof piece)) > 0; got += (int)size) {
        for (int i = 0; i < size; i++)
            CHECK_EQUAL(piece[i], (unsigned char)((got + i) * 7 + (got + i) / 251));
        if (got / 100000 != (got + size) / 100000)
            pause_ms(60);
    }
    CHECK_EQUAL(got, SIZE);
    CHECK_EQUAL(exit_status(pid), 0);
    close(pipes[0]);
}

static void connections_over_the_loopback(void)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), waiting = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char text[32] = "";
    CHECK_EQUAL(bind(listener, (void *)&address, size), 0);
    CHECK_EQUAL(getsockname(listener, (void *)&address, &size), 0);
    CHECK_EQUAL(listen(listener, 5), 0);
    CHECK_EQUAL(connect(client, (void *)&address, size), 0);
    int server = accept(listener, NULL, NULL);
    CHECK_EQUAL(connect(waiting, (void *)&address, size), 0);
    CHECK_EQUAL(write(client, "to the server", 13), 13);
    CHECK_EQUAL(write(waiting, "not accepted", 12), 12);
    time_passes();
    CHECK_EQUAL(read(server, text, sizeof text), 13);
    CHECK_EQUAL(write(server, "answer", 6), 6);
    CHECK_EQUAL(read(client, text, sizeof text), 6);
    int late = accept(listener, NULL, NULL);
    CHECK_EQUAL(read(late, text, sizeof text), 12);
    CHECK(!memcmp(text, "not accepted", 12));
    shutdown(client, SHUT_WR);
    CHECK_EQUAL(read(server, text, sizeof text), 0);
    close(listener), close(client), close(waiting), close(server), close(late);
}

static volatile sig_atomic_t handled, in_handler;
static void slow_handler(int number)
{
    in_handler++;
    pause_ms(40);
    for (volatile int i = 0; i < 20000000; i++)
        ;
    handled++;
}

static void handler_on_a_stack_of_its_own(void)
{
    static char stack[65536];
    CHECK_EQUAL(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL), 0);
    struct sigaction action = {.sa_handler = slow_handler, .sa_flags = SA_ONSTACK};
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < 3; i++)
        raise(SIGUSR1);
    CHECK_EQUAL(handled, 3);
    stack_t state;
    CHECK_EQUAL(sigaltstack(NULL, &state), 0);
    CHECK(state.ss_sp == stack && state.ss_flags == 0);
}

static volatile sig_atomic_t ticks;
static void tick(int number) { ticks++; }

static void interval_timers_go_on(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    signal(SIGUSR2, tick);
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &(struct itimerspec){.it_value = {0, 10000000}, .it_interval = {0, 10000000}}, NULL), 0);
    while (ticks < 20)
        pause_ms(5);
    CHECK_EQUAL(timer_delete(timer), 0);
    signal(SIGALRM, tick);
    ticks = 0;
    alarm(1);
    CHECK_EQUAL(pause(), -1); /* a signal ends it, and nothing else */
    CHECK_EQUAL(ticks, 1);
}

static void time_does_not_jump(void)
{
    struct timespec before, now;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < 30; i++) {
        pause_ms(5);
        clock_gettime(CLOCK_MONOTONIC, &now);
        long long passed = (now.tv_sec - before.tv_sec) * 1000000000ll + now.tv_nsec - before.tv_nsec;
        CHECK(passed >= 5000000);
        before = now;
    }
}

enum { THREADS = 300 };
static pthread_barrier_t all_there;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int is_open, thread_pipe[2];

static void *wait_somehow(void *argument)
{
    long number = (long)argument;
    char byte;
    pthread_barrier_wait(&all_there);
    switch (number % 4) {
    case 0:
        pthread_mutex_lock(&gate);
        while (!is_open)
            pthread_cond_wait(&opened, &gate);
        pthread_mutex_unlock(&gate);
        break;
    case 1:
        CHECK_EQUAL(sem_wait(&semaphore), 0);
        break;
    case 2:
        CHECK_EQUAL(read(thread_pipe[0], &byte, 1), 1);
        break;
    case 3:
        CHECK_EQUAL(poll(&(struct pollfd){.fd = thread_pipe[0], .events = POLLHUP}, 1, 100 + (int)number), 0);
        break;
    }
    return (void *)(number * 3);
}

static void hundreds_of_threads_that_wait(void)
{
    static pthread_t threads[THREADS];
    pthread_attr_t small;
    CHECK_EQUAL(pipe(thread_pipe), 0);
    sem_init(&semaphore, 0, 0);
    pthread_barrier_init(&all_there, NULL, THREADS + 1);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (long i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], &small, wait_somehow, (void *)i), 0);
    pthread_barrier_wait(&all_there);
    time_passes();
    for (int i = 0; i < THREADS / 4; i++) {
        CHECK_EQUAL(sem_post(&semaphore), 0);
        CHECK_EQUAL(write(thread_pipe[1], "x", 1), 1);
    }
    pthread_mutex_lock(&gate);
    is_open = 1;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        CHECK_EQUAL((long)result, i * 3);
    }
}

static void robust_and_shared_mutexes(void)
{
    struct shared { pthread_mutex_t mutex; int value; } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->mutex, &attributes);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_mutex_lock(&shared->mutex);
        shared->value = 1;
        time_passes();
        _exit(0); /* holding it */
    }
    while (!*(volatile int *)&shared->value)
        pause_ms(1);
    CHECK_EQUAL(pthread_mutex_lock(&shared->mutex), EOWNERDEAD);
    CHECK_EQUAL(exit_status(pid), 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(vfork_child_holds_its_parent),
    GUEST_CASE(stopped_process_stays_stopped),
    GUEST_CASE(zombie_keeps_its_status),
    GUEST_CASE(event_descriptors_and_their_set),
    GUEST_CASE(inotify_events_stay_and_go_on),
    GUEST_CASE(system_v_objects),
    GUEST_CASE(posix_message_queue),
    GUEST_CASE(descriptors_in_flight),
    GUEST_CASE(files_without_a_name),
    GUEST_CASE(locks_are_kept),
    GUEST_CASE(terminals_keep_settings_and_data),
    GUEST_CASE(full_pipe_and_its_writer),
    GUEST_CASE(connections_over_the_loopback),
    GUEST_CASE(handler_on_a_stack_of_its_own),
    GUEST_CASE(interval_timers_go_on),
    GUEST_CASE(time_does_not_jump),
    GUEST_CASE(hundreds_of_threads_that_wait),
    GUEST_CASE(robust_and_shared_mutexes),
};
GUEST_MAIN(cases)
