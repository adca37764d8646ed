/* Standard streams: what is handed in and what is relayed; everything written arrives; a terminal is put back as it was. */
#include "support.h"

#include <monitor/relay.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct streams {
    struct mon_loop loop;
    struct mon_handles handles;
    struct mon_stdio stdio;
};

static struct streams *streams_open(const int standard[3], bool terminal, bool keep_masters)
{
    struct streams *streams = memory_new(sizeof(*streams));
    assert_int_equal(mon_loop_init(&streams->loop), 0);
    mon_handles_init(&streams->handles, 100);
    assert_int_equal(mon_stdio_open(&streams->stdio, &streams->loop, &streams->handles, standard, terminal, keep_masters), 0);
    return streams;
}

static void streams_close(struct streams *streams)
{
    mon_stdio_close(&streams->stdio, &streams->handles);
    mon_handles_destroy(&streams->handles);
    mon_loop_destroy(&streams->loop);
    free(streams);
}

static void files_pipes_and_null_are_handed_in(void **state)
{
    char path[] = "/tmp/bailey-relay-test-XXXXXX";
    int file = mkstemp(path), ends[2];
    assert_int_equal(write(file, "12345", 5), 5);
    assert_int_equal(pipe(ends), 0);
    int reading = open(path, O_RDONLY), null = open("/dev/null", O_RDWR);
    lseek(reading, 3, SEEK_SET);
    int standard[3] = {reading, ends[1], null};
    struct streams *streams = streams_open(standard, false, false);
    assert_int_equal(streams->stdio.standard[0].kind, BLY_KIND_FILE);
    assert_int_equal(streams->stdio.standard[0].position, 3);
    assert_int_equal(streams->stdio.standard[1].kind, BLY_KIND_PIPE);
    assert_int_equal(streams->stdio.standard[2].kind, BLY_KIND_CHARACTER);
    for (int i = 0; i < 3; i++) {
        assert_true(streams->stdio.given[i] >= 0);
        assert_false(streams->stdio.relays[i].active);
    }
    streams_close(streams);

    /* No more access than wanted; and none at all the wrong way round. */
    standard[0] = file, standard[1] = reading, standard[2] = -1;
    streams = streams_open(standard, false, false);
    assert_int_equal(fcntl(streams->stdio.given[0], F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(lseek(streams->stdio.given[0], 0, SEEK_CUR), 5);
    assert_int_equal(streams->stdio.standard[1].handle, BLY_NO_HANDLE);
    assert_int_equal(streams->stdio.standard[2].handle, BLY_NO_HANDLE);
    streams_close(streams);
    unlink(path);
    close(file), close(reading), close(null), close(ends[0]), close(ends[1]);
}

static void sockets_are_relayed_and_all_arrives(void **state)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    const int standard[3] = {pair[1], pair[1], pair[1]};
    struct streams *streams = streams_open(standard, false, false);
    assert_int_equal(streams->stdio.standard[1].kind, BLY_KIND_PIPE);
    assert_true(streams->stdio.standard[2].flags & BLY_START_STREAM_SAME);
    int input = dup(streams->stdio.given[0]), output = dup(streams->stdio.given[1]);
    assert_int_equal(mon_stdio_start(&streams->stdio), 0);
    assert_false(fcntl(pair[1], F_GETFL) & O_NONBLOCK);

    char text[16];
    assert_int_equal(write(pair[0], "in", 2), 2);
    assert_int_equal(mon_loop_once(&streams->loop, 1000), 0);
    assert_int_equal(read(input, text, sizeof(text)), 2);
    shutdown(pair[0], SHUT_WR);
    assert_int_equal(mon_loop_once(&streams->loop, 1000), 0);
    assert_int_equal(read(input, text, sizeof(text)), 0);

    /* More than any buffer on the way holds, while the reader is slow. */
    static char block[65536];
    size_t written = 0, arrived = 0;
    fcntl(output, F_SETFL, O_NONBLOCK);
    while (written < 4u << 20 || arrived < written) {
        if (written < 4u << 20) {
            ssize_t size = write(output, block, sizeof(block));
            written += size > 0 ? (size_t)size : 0;
        } else if (output >= 0) {
            close(output);
            output = -1;
        }
        assert_int_equal(mon_loop_once(&streams->loop, 0), 0);
        ssize_t size = recv(pair[0], block, 10000, MSG_DONTWAIT);
        arrived += size > 0 ? (size_t)size : 0;
    }
    assert_int_equal(arrived, written);
    mon_stdio_drain(&streams->stdio, 1000);
    streams_close(streams);
    close(input), close(pair[0]), close(pair[1]);
}

static void the_rest_of_the_output_is_delivered_at_the_end(void **state)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    const int standard[3] = {-1, pair[1], -1};
    struct streams *streams = streams_open(standard, false, false);
    int output = dup(streams->stdio.given[1]);
    assert_int_equal(mon_stdio_start(&streams->stdio), 0);
    static char block[50000];
    assert_int_equal(write(output, block, sizeof(block)), sizeof(block));
    close(output);
    mon_stdio_drain(&streams->stdio, 10000);
    streams_close(streams);
    close(pair[1]);
    size_t arrived = 0;
    for (ssize_t size; (size = read(pair[0], block, sizeof(block))) > 0;)
        arrived += (size_t)size;
    assert_int_equal(arrived, sizeof(block));
    close(pair[0]);
}

static void a_terminal_is_raw_while_used_and_then_as_before(void **state)
{
    int master, terminal;
    struct winsize size = {.ws_row = 33, .ws_col = 77};
    struct termios before, during, after;
    uint16_t rows, columns;
    assert_int_equal(openpty(&master, &terminal, NULL, NULL, &size), 0);
    assert_int_equal(tcgetattr(terminal, &before), 0);
    const int standard[3] = {terminal, terminal, terminal};
    struct streams *streams = streams_open(standard, true, false);
    int input = dup(streams->stdio.given[3]), output = dup(streams->stdio.given[4]);
    assert_int_equal(streams->stdio.standard[0].kind, BLY_KIND_TTY);
    assert_int_equal(mon_stdio_start(&streams->stdio), 0);
    mon_stdio_raw(&streams->stdio, true);
    assert_int_equal(tcgetattr(terminal, &during), 0);
    assert_false(during.c_lflag & (ICANON | ECHO | ISIG));
    assert_true(mon_stdio_window_size(&streams->stdio, &rows, &columns));
    assert_int_equal(rows, 33);
    assert_int_equal(columns, 77);

    char text[16];
    assert_int_equal(write(master, "\3", 1), 1); /* Ctrl-C is a byte */
    assert_int_equal(mon_loop_once(&streams->loop, 1000), 0);
    assert_true(mon_stdio_unread(&streams->stdio) == 1);
    assert_int_equal(read(input, text, sizeof(text)), 1);
    assert_int_equal(text[0], 3);
    assert_int_equal(write(output, "a\n", 2), 2);
    assert_int_equal(mon_loop_once(&streams->loop, 1000), 0);
    assert_int_equal(read(master, text, sizeof(text)), 2); /* and a newline stays one */
    close(output);
    streams_close(streams);
    assert_int_equal(tcgetattr(terminal, &after), 0);
    assert_memory_equal(&before, &after, offsetof(struct termios, c_cc) + sizeof(before.c_cc));
    assert_false(fcntl(terminal, F_GETFL) & O_NONBLOCK);
    close(input), close(master), close(terminal);
}

static void programs_started_later_have_masters_to_fetch(void **state)
{
    int ends[2];
    struct mon_handle entry;
    assert_int_equal(pipe(ends), 0);
    const int standard[3] = {-1, ends[1], -1};
    struct streams *streams = streams_open(standard, false, true);
    assert_true(streams->stdio.relays[1].active);
    bly_handle handle = streams->stdio.standard[1].handle;
    assert_int_equal(mon_handle_get(&streams->handles, handle, &entry), 0);
    assert_true(entry.descriptor >= 0);
    assert_int_equal(mon_stdio_start(&streams->stdio), 0);
    assert_int_equal(write(entry.descriptor, "x", 1), 1);
    mon_handle_put(&streams->handles, handle);
    mon_stdio_drain(&streams->stdio, 1000);
    streams_close(streams);
    close(ends[1]);
    char text[4];
    assert_int_equal(read(ends[0], text, sizeof(text)), 1);
    assert_int_equal(read(ends[0], text, sizeof(text)), 0);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_pipes_and_null_are_handed_in),
        cmocka_unit_test(sockets_are_relayed_and_all_arrives),
        cmocka_unit_test(the_rest_of_the_output_is_delivered_at_the_end),
        cmocka_unit_test(a_terminal_is_raw_while_used_and_then_as_before),
        cmocka_unit_test(programs_started_later_have_masters_to_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
