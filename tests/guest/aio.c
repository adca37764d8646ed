/* Linux AIO: io_setup(2) and its family, as libaio calls them. */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static long setup(unsigned count, aio_context_t *context) { return syscall(SYS_io_setup, count, context); }
static long destroy(aio_context_t context) { return syscall(SYS_io_destroy, context); }
static long submit(aio_context_t context, long count, struct iocb **list) { return syscall(SYS_io_submit, context, count, list); }
static long get(aio_context_t context, long minimum, long count, struct io_event *events, struct timespec *timeout)
{
    return syscall(SYS_io_getevents, context, minimum, count, events, timeout);
}

static int file_with(const char *text)
{
    int fd = open("aio-file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
    CHECK_EQUAL(unlink("aio-file"), 0);
    return fd;
}

static void results_carry_data_and_the_request(void)
{
    aio_context_t context = 0;
    char text[16] = "";
    int fd = file_with("0123456789"), counter = eventfd(0, EFD_NONBLOCK);
    CHECK_EQUAL(setup(8, &context), 0);
    CHECK(context != 0);
    struct iocb write_request = {.aio_data = 7, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_buf = (uint64_t)"ab", .aio_nbytes = 2, .aio_offset = 3};
    struct iocb read_request = {.aio_data = 9, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uint64_t)text, .aio_nbytes = sizeof text,
                                .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = counter};
    struct iocb *list[] = {&write_request};
    struct io_event events[4];
    CHECK_EQUAL(submit(context, 1, list), 1);
    CHECK_EQUAL(get(context, 1, 4, events, NULL), 1);
    CHECK(events[0].data == 7 && events[0].obj == (uint64_t)&write_request && events[0].res == 2 && events[0].res2 == 0);
    list[0] = &read_request;
    CHECK_EQUAL(submit(context, 1, list), 1);
    uint64_t count = 0;
    struct timespec wait = {5, 0};
    CHECK_EQUAL(get(context, 1, 4, events, &wait), 1);
    CHECK(events[0].data == 9 && events[0].res == 10 && !memcmp(text, "012ab56789", 10));
    CHECK_EQUAL(read(counter, &count, sizeof count), sizeof count);
    CHECK_EQUAL(count, 1);
    struct iovec parts[2] = {{text, 2}, {text + 2, 3}};
    struct iocb vector = {.aio_lio_opcode = IOCB_CMD_PREADV, .aio_fildes = fd, .aio_buf = (uint64_t)parts, .aio_nbytes = 2, .aio_offset = 5};
    struct iocb sync = {.aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = fd};
    struct iocb *two[] = {&vector, &sync};
    CHECK_EQUAL(submit(context, 2, two), 2);
    CHECK_EQUAL(get(context, 2, 4, events, NULL), 2);
    CHECK(!memcmp(text, "56789", 5));
    CHECK_EQUAL(destroy(context), 0);
    CHECK_ERROR(destroy(context), EINVAL);
    close(counter);
    close(fd);
}

static void pipes_have_no_offset(void)
{
    aio_context_t context = 0;
    char text[8];
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(setup(2, &context), 0);
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = ends[0], .aio_buf = (uint64_t)text, .aio_nbytes = sizeof text, .aio_rw_flags = RWF_NOWAIT};
    struct iocb *list[] = {&request};
    struct io_event events[2];
    CHECK_EQUAL(submit(context, 1, list), 1);
    CHECK_EQUAL(get(context, 1, 2, events, NULL), 1);
    CHECK_EQUAL(events[0].res, -EAGAIN);
    CHECK_EQUAL(write(ends[1], "hello", 5), 5);
    CHECK_EQUAL(submit(context, 1, list), 1);
    CHECK_EQUAL(get(context, 1, 2, events, NULL), 1);
    CHECK(events[0].res == 5 && !memcmp(text, "hello", 5));
    CHECK_EQUAL(destroy(context), 0);
    context = 0;
    CHECK_ERROR(setup(-1u, &context), EINVAL);
    close(ends[0]);
    close(ends[1]);
}

static void bad_requests_are_refused(void)
{
    aio_context_t context = 1, none = 0;
    struct io_event event;
    CHECK_ERROR(setup(1, &context), EINVAL);
    context = 0;
    CHECK_ERROR(setup(0, &context), EINVAL);
    CHECK_ERROR(setup(1, NULL), EFAULT);
    CHECK_EQUAL(setup(1, &context), 0);
    int fd = file_with("x"), read_only = open("/dev/null", O_RDONLY);
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = read_only, .aio_buf = (uint64_t)&event, .aio_nbytes = 1};
    struct iocb *list[] = {&request};
    CHECK_ERROR(submit(context, 1, list), EBADF);
    request.aio_fildes = -1;
    CHECK_ERROR(submit(context, 1, list), EBADF);
    request.aio_fildes = fd;
    request.aio_lio_opcode = 99;
    CHECK_ERROR(submit(context, 1, list), EINVAL);
    request.aio_lio_opcode = IOCB_CMD_PWRITE;
    request.aio_reserved2 = 1;
    CHECK_ERROR(submit(context, 1, list), EINVAL);
    request.aio_reserved2 = 0;
    CHECK_ERROR(submit(none, 1, list), EINVAL);
    CHECK_ERROR(submit(context, -1, list), EINVAL);
    CHECK_EQUAL(submit(context, 0, list), 0);
    CHECK_ERROR(submit(context, 1, NULL), EFAULT);
    struct timespec bad = {0, 1000000000}, zero = {0, 0};
    CHECK_ERROR(get(context, 2, 1, &event, NULL), EINVAL);
    CHECK_EQUAL(get(context, 1, 1, &event, &zero), 0);
    CHECK_ERROR(get(none, 1, 1, &event, NULL), EINVAL);
    CHECK_EQUAL(get(context, 0, 1, &event, &bad), 0);
    CHECK_EQUAL(destroy(context), 0);
    close(fd);
    close(read_only);
}

static void *submit_later(void *argument)
{
    void **both = argument;
    struct iocb *list[] = {both[1]};
    usleep(20000);
    CHECK_EQUAL(submit(*(aio_context_t *)both[0], 1, list), 1);
    return NULL;
}

static void one_thread_waits_for_what_another_submits(void)
{
    aio_context_t context = 0;
    char byte;
    int fd = file_with("z");
    CHECK_EQUAL(setup(4, &context), 0);
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uint64_t)&byte, .aio_nbytes = 1};
    void *both[] = {&context, &request};
    pthread_t thread;
    struct io_event event;
    CHECK_EQUAL(pthread_create(&thread, NULL, submit_later, both), 0);
    CHECK_EQUAL(get(context, 1, 1, &event, NULL), 1);
    CHECK(event.res == 1 && byte == 'z');
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        struct timespec zero = {0, 0};
        _exit(get(context, 0, 1, &event, &zero) == -1 && errno == EINVAL ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(destroy(context), 0);
    close(fd);
}

static const struct guest_case cases[] = {
    GUEST_CASE(results_carry_data_and_the_request),
    GUEST_CASE(pipes_have_no_offset), GUEST_CASE(bad_requests_are_refused),
    GUEST_CASE(one_thread_waits_for_what_another_submits),
};
GUEST_MAIN(cases)
