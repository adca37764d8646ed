/* Moving images: what one side says the other takes, over a real connection; a peer without the
 * key, one that is silent, no Bailey or of another version gets nowhere and is told of in one line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bailey/abi.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <image/arrival.h>
#include <image/carrier.h>
#include <image/checksum.h>
#include <image/departure.h>
#include <image/key.h>
#include <image/reader.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/bailey-move-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static int remove_folder(void **state)
{
    path_remove_tree(AT_FDCWD, folder);
    return 0;
}

/* ---- Keys ---- */

static void expect_refused(const char *path, int code, const char *why)
{
    unsigned char key[IMG_KEY_SIZE];
    struct error error = {0};
    assert_int_equal(img_key_read(path, key, &error), code);
    assert_non_null(strstr(error.message, why));
}

static void write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write_fully(file, text, strlen(text)), 0);
    close(file);
}

static void keys_are_private_and_well_formed(void **state)
{
    char path[128];
    unsigned char key[IMG_KEY_SIZE], again[IMG_KEY_SIZE];
    struct error error = {0};
    struct stat status;
    snprintf(path, sizeof(path), "%s/key", folder);
    expect_refused(path, -ENOENT, "cannot read the key file");
    assert_int_equal(img_key_make(path, &error), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(img_key_read(path, key, &error), 0);
    assert_int_equal(img_key_make(path, &error), -EEXIST);
    assert_int_equal(img_key_read(path, again, &error), 0);
    assert_memory_equal(key, again, sizeof(key));
    chmod(path, 0640);
    expect_refused(path, -EACCES, "others than you");
    chmod(path, 0600);
    write_file(path, "0123");
    expect_refused(path, -EINVAL, "64 hexadecimal digits");
    write_file(path, "zz23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
    expect_refused(path, -EINVAL, "64 hexadecimal digits");
    write_file(path, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\n");
    expect_refused(path, -EINVAL, "64 hexadecimal digits");
    write_file(path, "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef");
    assert_int_equal(img_key_read(path, key, &error), 0);
    assert_int_equal(key[0], 1);
    assert_int_equal(key[7], 0xef);
    expect_refused(folder, -EINVAL, "is no file");
}

/* ---- Connections ---- */

static void connect_pair(int sockets[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    sockets[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(sockets[0], (struct sockaddr *)&address, size), 0);
    sockets[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(sockets[1] >= 0);
    fcntl(sockets[0], F_SETFL, O_NONBLOCK);
    fcntl(sockets[1], F_SETFL, O_NONBLOCK);
    close(listener);
}

struct pair {
    struct img_carrier source, receiver;
    int data, offer, image;
};

static struct img_hello hello_of(const char *name, uint32_t version)
{
    struct img_hello hello = {.magic = IMG_MOVE_MAGIC, .version = version};
    snprintf(hello.name, sizeof(hello.name), "%s", name);
    return hello;
}

static struct pair start_pair(unsigned char key, uint32_t version)
{
    struct pair pair;
    struct error error = {0};
    int sockets[2], data[2];
    connect_pair(sockets);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data), 0);
    pair.data = data[0];
    pair.offer = memfd_create("offer", MFD_CLOEXEC);
    pair.image = memfd_create("image", MFD_CLOEXEC);
    struct img_carrier_job source = {.socket = sockets[0],
                                     .data = data[1],
                                     .offer = -1,
                                     .image = -1,
                                     .requests = -1,
                                     .status = -1,
                                     .patience_ms = 10000,
                                     .hello = hello_of("moving", version)};
    struct img_carrier_job receiver = {.socket = sockets[1],
                                       .receives = true,
                                       .data = -1,
                                       .offer = pair.offer,
                                       .image = pair.image,
                                       .requests = -1,
                                       .status = -1,
                                       .patience_ms = 10000,
                                       .hello = hello_of("", IMG_MOVE_VERSION)};
    memset(source.key, 7, sizeof(source.key));
    memset(receiver.key, key, sizeof(receiver.key));
    assert_int_equal(img_carrier_start(&source, &pair.source, &error), 0);
    assert_int_equal(img_carrier_start(&receiver, &pair.receiver, &error), 0);
    close(sockets[0]);
    close(sockets[1]);
    close(data[1]);
    return pair;
}

static void end_pair(struct pair *pair)
{
    img_carrier_end(&pair->source);
    img_carrier_end(&pair->receiver);
    close(pair->offer);
    close(pair->image);
}

static void expect(struct img_carrier *carrier, uint32_t kind, const char *text)
{
    struct img_event event;
    do {
        img_carrier_next(carrier, &event);
    } while (event.kind == IMG_EVENT_PROGRESS);
    if (event.kind != kind || (text && !strstr(event.text, text)))
        fail_msg("event %u, %s; expected %u, %s", event.kind,
                 event.kind == IMG_FRAME_HELLO ? event.hello.name : event.text, kind,
                 text ? text : "");
}

static void send_frame(int data, uint32_t kind, const void *payload, size_t size)
{
    struct img_frame frame = {.kind = kind, .size = (uint32_t)size};
    assert_int_equal(write_fully(data, &frame, sizeof(frame)), 0);
    assert_int_equal(write_fully(data, payload, size), 0);
}

#define PAGE_COUNT 700u

static uint32_t sums[PAGE_COUNT + 1]; /* one more, to fill up */

static void fill(unsigned char *page, unsigned seed)
{
    for (size_t i = 0; i < BLY_PAGE_SIZE; i++)
        page[i] = (unsigned char)((seed + i) * 2654435761u >> 13);
}

static void send_pages(int data, uint64_t first, uint32_t count, unsigned seed, bool damaged)
{
    size_t size = img_frame_pages_size(count);
    unsigned char *payload = calloc(1, size), *pages = payload + size - count * BLY_PAGE_SIZE;
    struct img_frame_pages head = {.first = first, .count = count};
    memcpy(payload, &head, sizeof(head));
    for (uint32_t i = 0; i < count; i++) {
        fill(pages + i * BLY_PAGE_SIZE, seed + i);
        sums[first + i] = img_checksum(0, pages + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
        memcpy(payload + sizeof(head) + 4 * i, &sums[first + i], 4);
    }
    if (damaged)
        pages[5000] ^= 1;
    send_frame(data, IMG_FRAME_PAGES, payload, size);
    free(payload);
}

/* One space of all the pages. */
static void send_end(int data, uint32_t page_count, uint64_t told)
{
    struct {
        struct img_record_header record;
        struct img_space_header space;
        struct img_extent extent;
    } index = {{IMG_RECORD_SPACE, 0, sizeof(index.space) + sizeof(index.extent)},
               {IMG_SPACE_PRIVATE, 5, 1},
               {0x10000000, 0, page_count}};
    size_t index_size = page_count ? sizeof(index) : 0;
    struct img_header header = {.magic = IMG_MAGIC,
                                .version = IMG_VERSION,
                                .page_size = BLY_PAGE_SIZE,
                                .abi_version = BLY_ABI_VERSION,
                                .index_checksum = img_checksum(0, &index, index_size),
                                .table_checksum = img_checksum(0, sums, img_filled(page_count * 4)),
                                .page_count = told,
                                .index_size = index_size,
                                .file_size = img_index_offset(page_count) + index_size};
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    if (page_count)
        send_frame(data, IMG_FRAME_INDEX, &index, sizeof(index));
    send_frame(data, IMG_FRAME_END, &header, sizeof(header));
}

static void an_image_arrives_whole(void **state)
{
    struct pair pair = start_pair(7, IMG_MOVE_VERSION);
    struct error error = {0};
    struct img_reader *reader;
    unsigned char page[BLY_PAGE_SIZE], expected[BLY_PAGE_SIZE];
    expect(&pair.source, IMG_FRAME_HELLO, NULL);
    expect(&pair.receiver, IMG_FRAME_HELLO, NULL);
    send_end(pair.data, 0, 0);
    expect(&pair.receiver, IMG_FRAME_END, NULL);
    assert_int_equal(img_reader_open(pair.offer, "offer", &reader, &error), 0);
    img_reader_close(reader);
    assert_int_equal(img_carrier_allow(&pair.receiver, PAGE_COUNT), 0);
    assert_int_equal(img_carrier_say(&pair.receiver, IMG_FRAME_ACCEPTED, NULL), 0);
    expect(&pair.source, IMG_FRAME_ACCEPTED, NULL);
    for (uint32_t first = 0; first < PAGE_COUNT; first += 100)
        send_pages(pair.data, first, 100, first, false);
    send_pages(pair.data, 350, 100, 9000, false); /* once more, as a later round does */
    memset(sums + PAGE_COUNT, 0, sizeof(sums[0]));
    send_end(pair.data, PAGE_COUNT, PAGE_COUNT);
    close(pair.data);
    expect(&pair.source, IMG_EVENT_SENT, NULL);
    expect(&pair.receiver, IMG_FRAME_END, NULL);
    assert_int_equal(img_reader_open(pair.image, "image", &reader, &error), 0);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
    img_reader_close(reader);
    for (unsigned i = 0; i < PAGE_COUNT; i++) {
        fill(expected, i >= 350 && i < 450 ? 9000 + i - 350 : i);
        assert_int_equal(pread(pair.image, page, sizeof(page), (off_t)img_table_offset(i)),
                         sizeof(page));
        assert_memory_equal(page, expected, sizeof(page));
    }
    assert_int_equal(img_carrier_say(&pair.receiver, IMG_FRAME_READY, NULL), 0);
    expect(&pair.source, IMG_FRAME_READY, NULL);
    assert_int_equal(img_carrier_say(&pair.source, IMG_FRAME_COMMIT, NULL), 0);
    expect(&pair.receiver, IMG_FRAME_COMMIT, NULL);
    assert_int_equal(img_carrier_say(&pair.receiver, IMG_FRAME_RESUMED, NULL), 0);
    expect(&pair.source, IMG_FRAME_RESUMED, NULL);
    end_pair(&pair);
}

#define PRIVATE 0x10000000ull

static void give(struct img_writer *writer, unsigned first, unsigned count, unsigned seed)
{
    struct error error = {0};
    unsigned char *pages = malloc(count * BLY_PAGE_SIZE);
    for (unsigned i = 0; i < count; i++)
        if (seed)
            fill(pages + i * BLY_PAGE_SIZE, seed + first + i);
        else
            memset(pages + i * BLY_PAGE_SIZE, 0, BLY_PAGE_SIZE);
    assert_int_equal(
        img_writer_pages(writer, PRIVATE + first * BLY_PAGE_SIZE, pages, count, 0, &error), 0);
    free(pages);
}

static void take_all(int from, struct img_arrival *arrival)
{
    struct error error = {0};
    for (;;) {
        size_t room;
        void *place = img_arrival_room(arrival, &room);
        ssize_t size = recv(from, place, room, MSG_DONTWAIT);
        if (size <= 0)
            return;
        if (img_arrival_take(arrival, (size_t)size, &error) < 0)
            fail_msg("%s", error.message);
    }
}

/* Memory that changed between rounds, was kept, became zero, or vanished with its process. */
static void rounds_add_up_to_the_last_state(void **state)
{
    struct img_writer *writer;
    struct img_reader *reader;
    struct error error = {0};
    int ends[2], offer = memfd_create("offer", MFD_CLOEXEC),
                 image = memfd_create("image", MFD_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    int size = 1 << 22;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    struct img_arrival *arrival = img_arrival_new(offer, image);
    img_arrival_allow(arrival, 1000);
    struct img_hello hello = hello_of("x", IMG_MOVE_VERSION);
    send_frame(ends[0], IMG_FRAME_HELLO, &hello, sizeof(hello));
    send_end(ends[0], 0, 0);
    struct img_sink sink = img_departure(&ends[0]);
    img_writer_open_sink(&sink, &writer);
    img_writer_begin_round(writer);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 5, &error), 0);
    give(writer, 0, 12, 100);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 6, &error), 0);
    give(writer, 3, 2, 50);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 5, &error), -EEXIST);
    take_all(ends[1], arrival);
    img_writer_begin_round(writer);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 5, &error), 0);
    give(writer, 2, 3, 200);
    give(writer, 7, 1, 0); /* zero now */
    give(writer, 9, 1, 300);
    take_all(ends[1], arrival);
    img_writer_begin_round(writer);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 5, &error), 0);
    assert_int_equal(img_writer_keep(writer, PRIVATE, 3), 3);
    give(writer, 3, 1, 400);
    assert_int_equal(img_writer_keep(writer, PRIVATE + 5 * BLY_PAGE_SIZE, 3), 3);
    /* page 8 is gone */
    give(writer, 9, 2, 500);
    assert_int_equal(img_writer_keep(writer, PRIVATE + 11 * BLY_PAGE_SIZE, 3), 1);
    give(writer, 12, 2, 600);
    assert_int_equal(img_writer_finish(writer, &error), 0);
    take_all(ends[1], arrival);

    assert_int_equal(img_reader_open(image, "image", &reader, &error), 0);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
    assert_int_equal(img_reader_space_count(reader), 1);
    const struct img_space *space = img_reader_find_space(reader, IMG_SPACE_PRIVATE, 5);
    const unsigned seeds[14] = {100, 100, 200, 400, 0, 100, 100, 0, 0, 500, 500, 100, 600, 600};
    unsigned found = 0;
    for (size_t i = 0; i < space->extent_count; i++)
        for (uint64_t at = 0; at < space->extents[i].count; at++) {
            unsigned char page[BLY_PAGE_SIZE], expected[BLY_PAGE_SIZE];
            unsigned number =
                (unsigned)((space->extents[i].address - PRIVATE) / BLY_PAGE_SIZE + at);
            assert_true(number < 14 && seeds[number]);
            fill(expected, seeds[number] + number);
            off_t offset = (off_t)img_table_offset(space->extents[i].place + at);
            assert_int_equal(pread(image, page, sizeof(page), offset), sizeof(page));
            assert_memory_equal(page, expected, sizeof(page));
            found++;
        }
    assert_int_equal(found, 11);
    img_reader_close(reader);
    img_arrival_free(arrival);
    close(ends[0]);
    close(ends[1]);
    close(offer);
    close(image);
}

static struct pair start_allowed(uint64_t pages)
{
    struct pair pair = start_pair(7, IMG_MOVE_VERSION);
    expect(&pair.source, IMG_FRAME_HELLO, NULL);
    expect(&pair.receiver, IMG_FRAME_HELLO, NULL);
    send_end(pair.data, 0, 0);
    expect(&pair.receiver, IMG_FRAME_END, NULL);
    if (pages)
        assert_int_equal(img_carrier_allow(&pair.receiver, pages), 0);
    assert_int_equal(img_carrier_say(&pair.receiver, IMG_FRAME_ACCEPTED, NULL), 0);
    expect(&pair.source, IMG_FRAME_ACCEPTED, NULL);
    return pair;
}

static struct pair start_image(void)
{
    return start_allowed(100);
}

static void expect_cut_off(struct pair *pair)
{
    expect(&pair->receiver, IMG_EVENT_BROKEN, "grows larger than");
    expect(&pair->source, IMG_FRAME_REFUSED, "grows larger than");
    close(pair->data);
    end_pair(pair);
}

/* No page before it is allowed, none beyond what is, and the same ones not for ever. */
static void no_more_is_taken_than_allowed(void **state)
{
    struct pair pair = start_allowed(0);
    send_pages(pair.data, 0, 1, 1, false);
    expect_cut_off(&pair);
    pair = start_allowed(25);
    send_pages(pair.data, 0, 20, 1, false);
    send_pages(pair.data, 20, 6, 1, false);
    expect_cut_off(&pair);
    pair = start_allowed(10);
    for (unsigned i = 0; i <= IMG_ROUNDS_MAX; i++)
        send_pages(pair.data, 0, 10, i, false);
    expect_cut_off(&pair);
}

static void damage_and_contradiction_are_refused(void **state)
{
    struct pair pair = start_image();
    send_pages(pair.data, 0, 10, 1, /*damaged=*/true);
    expect(&pair.receiver, IMG_EVENT_BROKEN, "page 1 of the image was damaged");
    expect(&pair.source, IMG_FRAME_REFUSED, "page 1 of the image was damaged");
    close(pair.data);
    end_pair(&pair);

    pair = start_image();
    send_pages(pair.data, 1, 10, 1, false);
    expect(&pair.receiver, IMG_EVENT_BROKEN, "no place in the image");
    close(pair.data);
    end_pair(&pair);

    pair = start_image();
    send_pages(pair.data, 0, 10, 1, false);
    send_end(pair.data, 10, 11);
    expect(&pair.receiver, IMG_EVENT_BROKEN, "not whole");
    close(pair.data);
    end_pair(&pair);

    pair = start_image();
    send_frame(pair.data, IMG_FRAME_COMMIT, "", 0);
    expect(&pair.receiver, IMG_EVENT_BROKEN, "must not say now");
    close(pair.data);
    end_pair(&pair);
}

static void a_reason_reaches_the_other_side(void **state)
{
    struct pair pair = start_image();
    assert_int_equal(img_carrier_say(&pair.receiver, IMG_FRAME_REFUSED, "no place\nno \x1b[1mtime"),
                     0);
    expect(&pair.source, IMG_FRAME_REFUSED, "no place\nno ?[1mtime");
    close(pair.data);
    end_pair(&pair);
}

/* The data that the monitor gave ends in the middle of a frame, or a carrier dies. */
static void a_broken_link_is_noticed(void **state)
{
    struct pair pair = start_image();
    struct img_frame frame = {.kind = IMG_FRAME_PAGES, .size = img_frame_pages_size(1)};
    assert_int_equal(write_fully(pair.data, &frame, sizeof(frame)), 0);
    close(pair.data);
    expect(&pair.source, IMG_EVENT_BROKEN, "stopped in the middle");
    expect(&pair.receiver, IMG_EVENT_BROKEN, "other side ended the connection");
    end_pair(&pair);

    pair = start_image();
    kill(pair.source.process, SIGKILL);
    expect(&pair.source, IMG_EVENT_BROKEN, "has died");
    expect(&pair.receiver, IMG_EVENT_BROKEN, "connection broke");
    close(pair.data);
    end_pair(&pair);
}

static void the_key_decides(void **state)
{
    struct pair pair = start_pair(8, IMG_MOVE_VERSION);
    expect(&pair.source, IMG_EVENT_BROKEN, "keys of the two sides differ");
    expect(&pair.receiver, IMG_EVENT_BROKEN, "keys of the two sides differ");
    close(pair.data);
    end_pair(&pair);
}

static void another_version_is_refused(void **state)
{
    struct pair pair = start_pair(7, IMG_MOVE_VERSION + 1);
    expect(&pair.receiver, IMG_EVENT_BROKEN, "another version");
    expect(&pair.source, IMG_FRAME_HELLO, NULL);
    expect(&pair.source, IMG_FRAME_REFUSED, "another version");
    close(pair.data);
    end_pair(&pair);
}

/* A peer that is no Bailey: what it sends, and what is said of it. */
static void expect_of_stranger(bool receives, const char *says, bool closes, const char *why)
{
    struct img_carrier carrier;
    struct error error = {0};
    int sockets[2];
    connect_pair(sockets);
    struct img_carrier_job job = {.socket = sockets[0],
                                  .receives = receives,
                                  .data = -1,
                                  .offer = -1,
                                  .image = -1,
                                  .requests = -1,
                                  .status = -1,
                                  .patience_ms = 1000,
                                  .hello = hello_of("x", IMG_MOVE_VERSION)};
    if (says)
        assert_int_equal(write_fully(sockets[1], says, strlen(says)), 0);
    if (closes)
        shutdown(sockets[1], SHUT_WR);
    assert_int_equal(img_carrier_start(&job, &carrier, &error), 0);
    close(sockets[0]);
    expect(&carrier, IMG_EVENT_BROKEN, why);
    close(sockets[1]);
    img_carrier_end(&carrier);
}

static void strangers_get_nowhere(void **state)
{
    expect_of_stranger(false, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", false, "no `bailey receive`");
    expect_of_stranger(true, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, "no `bailey migrate`");
    expect_of_stranger(true, "BAILEYMV and then something else that is no greeting at all", false,
                       "no `bailey migrate`");
    expect_of_stranger(false, NULL, true, "closed the connection");
    expect_of_stranger(true, NULL, true, "closed the connection");
    expect_of_stranger(false, NULL, false, "does not answer");
    expect_of_stranger(true, NULL, false, "does not answer");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_are_private_and_well_formed, make_folder,
                                        remove_folder),
        cmocka_unit_test(an_image_arrives_whole),
        cmocka_unit_test(rounds_add_up_to_the_last_state),
        cmocka_unit_test(damage_and_contradiction_are_refused),
        cmocka_unit_test(no_more_is_taken_than_allowed),
        cmocka_unit_test(a_reason_reaches_the_other_side),
        cmocka_unit_test(a_broken_link_is_noticed),
        cmocka_unit_test(the_key_decides),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(strangers_get_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
