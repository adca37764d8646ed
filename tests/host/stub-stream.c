/* Streams, wait sets, handles, calls to the monitor. Standard input and output are the ends of one
 * pipe; mount 0 is an empty folder. */

#include "stub.h"
#include <bailey/rpc.h>

#define IN info->standard[0].handle
#define OUT info->standard[1].handle

static int64_t put(bly_handle stream, const char *text, size_t size, uint64_t offset,
                   unsigned flags)
{
    struct bly_iovec vector = {(void *)text, size};
    return bly->stream_write(stream, &vector, 1, offset, flags);
}
static int64_t get(bly_handle stream, char *text, size_t size, uint64_t offset, unsigned flags)
{
    struct bly_iovec vector = {text, size};
    return bly->stream_read(stream, &vector, 1, offset, flags);
}
static bly_handle open_file(const char *uri, unsigned options, struct bly_attributes *attributes)
{
    bly_handle handle = 0;
    size_t size = 0;
    while (uri[size])
        size++;
    EXPECT(bly->stream_open(uri, size,
                            BLY_ACCESS_READ | (options & BLY_OPEN_DIRECTORY ? 0 : BLY_ACCESS_WRITE),
                            options, 0600, &handle, attributes),
           0);
    CHECK(handle != BLY_NO_HANDLE);
    return handle;
}

static void pipes_carry_bytes(void)
{
    char text[16];
    EXPECT(get(IN, text, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT), -EAGAIN);
    EXPECT(bly->wait_stream(IN, BLY_WAIT_READ, 0), 0);
    uint64_t start = now_ns();
    EXPECT(bly->wait_stream(IN, BLY_WAIT_READ, start + 20000000), 0);
    CHECK(now_ns() >= start + 20000000);
    EXPECT(bly->wait_stream(OUT, BLY_WAIT_WRITE, BLY_FOREVER), BLY_WAIT_WRITE);
    EXPECT(put(OUT, "hello", 5, BLY_AT_CURRENT, 0), 5);
    EXPECT(bly->wait_stream(IN, BLY_WAIT_READ, BLY_FOREVER), BLY_WAIT_READ);
    EXPECT(get(IN, text, sizeof text, BLY_AT_CURRENT, 0), 5);
    CHECK(text[0] == 'h' && text[4] == 'o');
    EXPECT(get(IN, text, 1, 0, 0), -ESPIPE);
    EXPECT(get(IN, text, 1, -2, 0), -EINVAL);
    EXPECT(get(0, text, 1, 0, 0), -EBADF);
    EXPECT(get(12345, text, 1, 0, 0), -EBADF);
    EXPECT(get(OUT, text, 1, BLY_AT_CURRENT, 0), -EBADF);
    EXPECT(get(IN, text, 1, BLY_AT_CURRENT, 64), -EINVAL);
}

static void wait_sets_tell_who_is_ready(void)
{
    bly_handle set;
    struct bly_wait_event events[4];
    EXPECT(bly->wait_set_create(&set), 0);
    EXPECT(bly->wait_set_control(set, BLY_WAIT_SET_ADD, IN, BLY_WAIT_READ, 11), 0);
    EXPECT(bly->wait_set_control(set, BLY_WAIT_SET_ADD, IN, BLY_WAIT_READ, 11), -EEXIST);
    EXPECT(bly->wait_set_control(set, 9, IN, BLY_WAIT_READ, 11), -EINVAL);
    EXPECT(bly->wait_set_wait(set, events, 4, 0), 0);
    uint64_t start = now_ns();
    EXPECT(bly->wait_set_wait(set, events, 4, start + 3000000), 0);
    CHECK(now_ns() >= start + 3000000);
    EXPECT(put(OUT, "x", 1, BLY_AT_CURRENT, 0), 1);
    EXPECT(bly->wait_set_wait(set, events, 4, BLY_FOREVER), 1);
    CHECK(events[0].events == BLY_WAIT_READ && events[0].cookie == 11);
    EXPECT(bly->wait_set_control(set, BLY_WAIT_SET_CHANGE, IN, BLY_WAIT_READ, 12), 0);
    EXPECT(bly->wait_set_wait(set, events, 4, BLY_FOREVER), 1);
    EXPECT(events[0].cookie, 12);
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        EXPECT(bly->wait_set_wait(set, events, 4, 0), -EBADF); /* local to its maker */
        bly->process_exit(0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
    EXPECT(bly->wait_set_control(set, BLY_WAIT_SET_REMOVE, IN, 0, 0), 0);
    EXPECT(bly->wait_set_wait(set, events, 4, 0), 0);
    EXPECT(bly->handle_close(set), 0);
    EXPECT(bly->handle_close(set), -EBADF);
    EXPECT(bly->wait_set_wait(set, events, 4, 0), -EBADF);
}

static void files_are_opened_by_the_monitor(void)
{
    struct bly_attributes attributes;
    char text[16];
    bly_handle file = open_file("file:0/a", BLY_OPEN_CREATE, &attributes);
    EXPECT(attributes.kind, BLY_KIND_FILE);
    EXPECT(put(file, "0123456789", 10, 0, 0), 10);
    EXPECT(put(file, "ab", 2, BLY_AT_CURRENT, BLY_STREAM_APPEND | BLY_STREAM_SYNC), 2);
    EXPECT(get(file, text, 16, 8, BLY_STREAM_NO_WAIT), 4);
    CHECK(text[0] == '8' && text[3] == 'b');
    EXPECT(bly->stream_set_length(file, 4), 0);
    EXPECT(get(file, text, 16, 2, 0), 2);
    EXPECT(get(file, text, 16, 4, 0), 0);
    EXPECT(bly->stream_allocate(file, 0, 0, 8192), 0);
    EXPECT(bly->stream_allocate(file, 64, 0, 8192), -EOPNOTSUPP);
    EXPECT(bly->stream_seek(file, 0, BLY_SEEK_DATA), 0);
    EXPECT(bly->stream_seek(file, 100000, BLY_SEEK_DATA), -ENXIO);
    EXPECT(bly->stream_seek(file, 0, BLY_SEEK_HOLE + 1), -EINVAL);
    EXPECT(bly->stream_seek(file, (uint64_t)-1, BLY_SEEK_SET), -EINVAL);
    EXPECT(bly->stream_seek(file, 3, BLY_SEEK_SET), 3);
    EXPECT(bly->stream_seek(file, (uint64_t)-1, BLY_SEEK_CURRENT), 2);
    EXPECT(bly->stream_seek(file, 0, BLY_SEEK_SET), 0);
    EXPECT(bly->stream_flush(file, 0), 0);
    EXPECT(bly->stream_flush(file, BLY_FLUSH_DATA_ONLY), 0);
    EXPECT(bly->stream_flush(file, BLY_FLUSH_FILE_SYSTEM), 0);
    EXPECT(bly->stream_flush(file, BLY_FLUSH_DATA_ONLY | BLY_FLUSH_FILE_SYSTEM), -EINVAL);
    EXPECT(bly->stream_flush(file, BLY_FLUSH_BEGIN | BLY_FLUSH_DATA_ONLY), -EINVAL);
    EXPECT(bly->stream_map(file, (void *)0x20000000, 4096, BLY_PROT_READ, BLY_MAP_SHARED, 0), 0);
    CHECK(*(char *)0x20000000 == '0');
    bly_handle none;
    EXPECT(bly->stream_open("file:0/none", 11, BLY_ACCESS_READ, 0, 0, &none, NULL), -ENOENT);
    EXPECT(bly->stream_open("file:0/none", 0, BLY_ACCESS_READ, 0, 0, &none, NULL), -EINVAL);
    EXPECT(bly->handle_close(file), 0);
    sleep_ns(50000000); /* nobody waits for the monitor to drop its own */
    EXPECT(get(file, text, 1, 0, 0), -EBADF);
}

/* A handle opened after the clone is fetched when it is first used, and a closed one is forgotten
 * by all. */
static void handles_are_good_in_every_picoprocess(void)
{
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        for (uint32_t round = 1; round <= 300; round++) {
            char text[4];
            await(&shared->words[5], round);
            bly_handle file = shared->words[6];
            EXPECT(get(file, text, 4, 0, 0), 4);
            CHECK(text[0] == (char)round);
            set(&shared->words[7], round);
        }
        bly->process_exit(0);
    }
    for (uint32_t round = 1; round <= 300; round++) {
        bly_handle file = open_file("file:0/b", BLY_OPEN_CREATE, NULL);
        EXPECT(put(file, (char[]){(char)round, 0, 0, 0}, 4, 0, 0), 4);
        shared->words[6] = file;
        set(&shared->words[5], round);
        await(&shared->words[7], round);
        EXPECT(bly->handle_close(file), 0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
}

/* The launcher allows us 300 descriptors. */
static void the_cache_is_bounded(void)
{
    static bly_handle files[400];
    for (int i = 0; i < 400; i++) {
        files[i] = open_file("file:0/c", BLY_OPEN_CREATE, NULL);
        EXPECT(put(files[i], "z", 1, 0, 0), 1);
    }
    for (int i = 0; i < 400; i++) {
        char text[1];
        EXPECT(get(files[i], text, 1, 0, 0), 1);
    }
    for (int i = 0; i < 400; i++)
        EXPECT(bly->handle_close(files[i]), 0);
}

/* ---- Files that are read again and again ---- */

#define PAGE 4096
#define PAGES 4
#define WARM 100 /* reads after which a file is certainly mapped */
static char page[PAGE];

static bool window_is_mapped(unsigned number)
{
    return bly->memory_advise((char *)BLY_READ_WINDOWS + (uint64_t)number * (64 << 20), PAGE,
                              BLY_ADVICE_POPULATE_READ) == 0;
}
static void fill_page(bly_handle file, unsigned at, char letter)
{
    for (int i = 0; i < PAGE; i++)
        page[i] = letter;
    EXPECT(put(file, page, PAGE, (uint64_t)at * PAGE, 0), PAGE);
}
static void read_page(bly_handle file, unsigned at, char letter, int64_t size)
{
    page[0] = page[PAGE - 1] = 0;
    EXPECT(get(file, page, PAGE, (uint64_t)at * PAGE, 0), size);
    CHECK(size < 1 || page[0] == letter);
    CHECK(size < PAGE || page[PAGE - 1] == letter);
}

/* A part, the end, behind it; and after every change. */
static void what_is_read_again_is_what_the_host_has(void)
{
    bly_handle file = open_file("file:0/d", BLY_OPEN_CREATE, NULL);
    for (unsigned i = 0; i < PAGES; i++)
        fill_page(file, i, (char)('a' + i));
    CHECK(!window_is_mapped(0));
    for (int i = 0; i < WARM; i++)
        for (unsigned at = 0; at < PAGES; at++)
            read_page(file, at, (char)('a' + at), PAGE);
    CHECK(window_is_mapped(0));
    read_page(file, PAGES, 0, 0);
    EXPECT(get(file, page, PAGE, 3 * PAGE - 1, 0), PAGE);
    CHECK(page[0] == 'c' && page[1] == 'd' && page[PAGE - 1] == 'd');
    EXPECT(get(file, page, PAGE, 4 * PAGE - 1, 0), 1);
    EXPECT(get(file, page, 0, PAGE, 0), 0);
    EXPECT(get(file, (char *)16, PAGE, PAGE, 0), -EFAULT);
    fill_page(file, 1, 'x');
    read_page(file, 1, 'x', PAGE);
    EXPECT(bly->stream_set_length(file, PAGE + 7), 0);
    read_page(file, 0, 'a', PAGE);
    read_page(file, 1, 'x', 7);
    read_page(file, 2, 0, 0);
    EXPECT(bly->stream_set_length(file, 5), 0);
    read_page(file, 0, 'a', 5);
    read_page(file, 1, 0, 0);
    for (unsigned i = 0; i < PAGES; i++)
        fill_page(file, i, 'n');
    for (unsigned i = 0; i < PAGES; i++)
        read_page(file, i, 'n', PAGE);

    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        CHECK(!window_is_mapped(0));
        for (int i = 0; i < WARM; i++)
            read_page(file, 2, 'n', PAGE);
        CHECK(window_is_mapped(1));
        bly->process_exit(0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
    EXPECT(end.signal, 0);
    EXPECT(bly->handle_close(file), 0);
    CHECK(!window_is_mapped(0));
}

static void what_is_read_once_is_not_mapped(void)
{
    bly_handle file = open_file("file:0/d", BLY_OPEN_CREATE, NULL);
    for (unsigned i = 0; i < WARM; i++)
        fill_page(file, i, 'o');
    for (unsigned i = 0; i < WARM; i++)
        read_page(file, i, 'o', PAGE);
    CHECK(!window_is_mapped(0));
    EXPECT(bly->handle_close(file), 0);
}

/* More files than windows, which threads take from each other. */
#define WINDOWED 24
static bly_handle windowed[WINDOWED];
static void read_all_of_them(void *argument)
{
    char text[8];
    for (unsigned round = 0; round < 40; round++)
        for (unsigned file = 0; file < WINDOWED; file++)
            for (unsigned i = 0; i < 40; i++) {
                int64_t got = get(windowed[file], text, sizeof text, PAGE + i, 0);
                CHECK(got == sizeof text && text[0] == (char)('A' + file) && text[7] == text[0]);
            }
}
static void windows_are_shared_out(void)
{
    for (unsigned i = 0; i < WINDOWED; i++) {
        char uri[] = "file:0/f000";
        uri[9] = (char)('0' + i / 10);
        uri[10] = (char)('0' + i % 10);
        windowed[i] = open_file(uri, BLY_OPEN_CREATE, NULL);
        for (unsigned at = 0; at < PAGES; at++)
            fill_page(windowed[i], at, (char)('A' + i));
    }
    struct job jobs[3];
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){.function = read_all_of_them};
        job_start(&jobs[i]);
    }
    for (int i = 0; i < 3; i++)
        job_join(&jobs[i]);
    CHECK(window_is_mapped(0) && window_is_mapped(15) && !window_is_mapped(16));
    for (unsigned i = 0; i < WINDOWED; i++)
        EXPECT(bly->handle_close(windowed[i]), 0);
    for (unsigned i = 0; i < 16; i++)
        CHECK(!window_is_mapped(i));
}

#define FILES 300
static void names_of(bly_handle folder)
{
    static unsigned char found[FILES];
    for (int i = 0; i < FILES; i++)
        found[i] = 0;
    char buffer[512];
    uint64_t cursor = 0;
    int64_t size;
    int count = 0;
    while ((size = bly->stream_enumerate(folder, &cursor, buffer, sizeof buffer)) > 0)
        for (int64_t at = 0; at < size; at += *(uint16_t *)(buffer + at + 16)) {
            const char *name = buffer + at + 19;
            if (name[0] != 'f')
                continue;
            int number = 0;
            for (name++; *name; name++)
                number = number * 10 + *name - '0';
            CHECK(number < FILES && !found[number]);
            found[number] = 1;
            count++;
        }
    EXPECT(size, 0);
    EXPECT(count, FILES);
}

static void everybody_reads_the_whole_folder(void)
{
    for (int i = 0; i < FILES; i++) {
        char uri[] = "file:0/f000";
        uri[8] = (char)('0' + i / 100);
        uri[9] = (char)('0' + i / 10 % 10);
        uri[10] = (char)('0' + i % 10);
        EXPECT(bly->handle_close(open_file(uri, BLY_OPEN_CREATE, NULL)), 0);
    }
    bly_handle folder = open_file("dir:0/", BLY_OPEN_DIRECTORY, NULL);
    uint32_t ids[3];
    for (int i = 0; i < 3; i++)
        if (bly->process_clone(0, &ids[i]) == 0) {
            for (int k = 0; k < 20; k++)
                names_of(folder); /* one open file description: one position for all */
            bly->process_exit(0);
        }
    for (int i = 0; i < 3; i++) {
        struct bly_process_end end;
        EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
        EXPECT(end.exit_status, 0);
        EXPECT(end.signal, 0);
    }
}

static void locks_and_slots_of_the_dead_are_released(void)
{
    struct bly_rpc_channel *channel = (struct bly_rpc_channel *)BLY_RPC_CHANNEL;
    bly_handle folder = open_file("dir:0/", BLY_OPEN_DIRECTORY, NULL);
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        for (uint32_t i = 0; i < BLY_RPC_POSITION_LOCKS; i++)
            channel->position_locks[i] = block()->process_id;
        for (uint32_t i = 1; i < BLY_RPC_SLOT_COUNT; i++) {
            channel->slots[i].owner_process = block()->process_id;
            channel->slots[i].state = BLY_RPC_FILLING;
        }
        bly->process_exit(0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        EXPECT(channel->slots[i].state, BLY_RPC_FREE);
    char buffer[256];
    uint64_t cursor = 0;
    CHECK(bly->stream_enumerate(folder, &cursor, buffer, sizeof buffer) > 0);
}

static void call_much(void *argument)
{
    for (int i = 0; i < 200; i++) {
        struct bly_system_info system = {0};
        EXPECT(bly->system_query(&system), 0);
        EXPECT(system.cpu_count, 3);
        block()->interrupt_pending = 0;
    }
}
static void calls_survive_interrupts_and_a_shortage_of_slots(void)
{
    struct job jobs[24];
    for (int i = 0; i < 24; i++) {
        jobs[i] = (struct job){.function = call_much};
        job_start(&jobs[i]);
    }
    for (int round = 0; round < 50; round++)
        for (int i = 0; i < 24; i++)
            bly->thread_interrupt(block()->process_id, jobs[i].thread_id);
    for (int i = 0; i < 24; i++)
        job_join(&jobs[i]);
}

static void wake_descriptors_count(void)
{
    uint64_t value = 3;
    struct bly_iovec vector = {&value, 8};
    EXPECT(bly->stream_read(info->wake_pool, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT),
           -EAGAIN);
    EXPECT(bly->stream_write(info->wake_pool, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT), 8);
    EXPECT(bly->wait_stream(info->wake_pool, BLY_WAIT_READ, BLY_FOREVER), BLY_WAIT_READ);
    EXPECT(bly->stream_read(info->wake_pool, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT), 8);
    EXPECT(value, 3);
}

static void long_log_lines_arrive_in_pieces(void)
{
    static char text[10000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = 'l';
    bly->log(BLY_LOG_INFO, text, sizeof text);
}

const struct test stream_tests[] = {
    {"pipes_carry_bytes", pipes_carry_bytes},
    {"wait_sets_tell_who_is_ready", wait_sets_tell_who_is_ready},
    {"files_are_opened_by_the_monitor", files_are_opened_by_the_monitor},
    {"handles_are_good_in_every_picoprocess", handles_are_good_in_every_picoprocess},
    {"the_cache_is_bounded", the_cache_is_bounded},
    {"what_is_read_again_is_what_the_host_has", what_is_read_again_is_what_the_host_has},
    {"what_is_read_once_is_not_mapped", what_is_read_once_is_not_mapped},
    {"windows_are_shared_out", windows_are_shared_out},
    {"everybody_reads_the_whole_folder", everybody_reads_the_whole_folder},
    {"locks_and_slots_of_the_dead_are_released", locks_and_slots_of_the_dead_are_released},
    {"calls_survive_interrupts_and_a_shortage_of_slots",
     calls_survive_interrupts_and_a_shortage_of_slots},
    {"wake_descriptors_count", wake_descriptors_count},
    {"long_log_lines_arrive_in_pieces", long_log_lines_arrive_in_pieces},
    {NULL, NULL},
};
