/* Fuzzes what the monitor reads of an image: the records of the sandbox, its policy and its handles. The input is the three, each after its size (32
 * bits); the image around them is made to fit. Checked, beside what the sanitizers see: what is accepted keeps what read.h promises.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_image_records -max_len=65536 */
#include "../linux/fuzz_main.h"

#include <base/cleanup.h>
#include <errno.h>
#include <image/checksum.h>
#include <monitor/suspension/read.h>
#include <monitor/policy/save.h>
#include <monitor/sandbox.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void require(int condition)
{
    if (!condition)
        abort();
}

static void add_record(struct text *index, uint32_t type, const void *data, size_t size)
{
    static const char zeros[8];
    struct img_record_header header = {type, 0, size};
    text_add_size(index, &header, sizeof(header));
    text_add_size(index, data, size);
    text_add_size(index, zeros, img_filled(size) - size);
}

static int make_image(const struct text *index)
{
    int file = memfd_create("image", MFD_CLOEXEC);
    struct img_header header = {.magic = IMG_MAGIC,
                                .version = IMG_VERSION,
                                .page_size = BLY_PAGE_SIZE,
                                .page_count = 1,
                                .index_size = index->size,
                                .index_checksum = img_checksum(0, index->data, index->size),
                                .file_size = img_index_offset(1) + index->size};
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    require(file >= 0 && ftruncate(file, (off_t)header.file_size) == 0);
    require(pwrite(file, &header, sizeof(header), 0) == sizeof(header));
    require(pwrite(file, index->data, index->size, (off_t)img_index_offset(1)) == (ssize_t)index->size);
    return file;
}

static void check(const struct mon_image *image)
{
    uint32_t wake = 0;
    require(image->policy.program && image->policy.arguments.count && image->sandbox.build_id_size <= MON_BUILD_ID_MAX);
    require(image->sandbox.heap_size <= BLY_HEAP_SIZE && image->sandbox.bulk_size <= BLY_BULK_SIZE);
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        require(strlen(image->handles[i].path) == record->path_size && record->role <= MON_IMAGE_EXECUTION_LAST);
        require(i == 0 || (record->handle & 0xfffff) > (image->handles[i - 1].record.handle & 0xfffff));
        require(record->role != MON_IMAGE_STREAM || record->mount <= image->policy.mount_count);
        require(record->role < MON_IMAGE_EXECUTION_0 || record->mount > 0);
        wake += record->role == MON_IMAGE_WAKE;
        require(image->handles[i].contents < image->handle_count);
        require(!image->handles[i].sum || record->kind == BLY_KIND_FILE);
    }
    require(image->input_size <= MON_IMAGE_INPUT_MAX && (image->input_size == 0 || memchr(image->input, 0, image->input_size) != image));
    require(wake == BLY_WAKE_POOL_COUNT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_text struct text index = {0};
    struct {
        struct img_space_header header;
        struct img_extent extent;
    } heap = {{IMG_SPACE_HEAP, 0, 1}, {BLY_HEAP_START, 0, 1}};
    add_record(&index, IMG_RECORD_SPACE, &heap, sizeof(heap));
    for (uint32_t type = MON_IMAGE_SANDBOX; type <= MON_IMAGE_SUMS && size >= 4; type++) {
        if (type == MON_IMAGE_SIZE) /* see below */
            continue;
        uint32_t part;
        memcpy(&part, data, sizeof(part));
        data += 4, size -= 4;
        part = part > size ? (uint32_t)size : part;
        add_record(&index, type, data, part);
        data += part, size -= part;
    }
    struct mon_image image = {.is_offer = index.size % 16 >= 8};
    if (image.is_offer)
        add_record(&index, MON_IMAGE_SIZE, &(struct mon_image_size){1 << 20, 1 << 21}, sizeof(struct mon_image_size));
    struct error error = {0};
    int result = mon_image_open(&image, make_image(&index), "input", /*own=*/true, &error);
    require(result == 0 || (result == -EPROTO && error.code == result && error.message[0]));
    if (result == 0)
        check(&image);
    mon_image_close(&image);
    return 0;
}

#ifdef MAIN
static void add_part(struct text *out, const void *data, size_t size)
{
    uint32_t number = (uint32_t)size;
    text_add_size(out, &number, sizeof(number));
    text_add_size(out, data, size);
}

static void add_handle(struct text *out, bly_handle handle, uint32_t role, uint32_t kind, const char *path)
{
    static const char zeros[8];
    struct mon_image_handle record = {.handle = 1u << 20 | handle,
                                      .role = role,
                                      .kind = kind,
                                      .access = BLY_ACCESS_READ,
                                      .mount = role >= MON_IMAGE_EXECUTION_0 ? 7 : 0,
                                      .flags = kind == BLY_KIND_DIRECTORY ? MON_IMAGE_DIRECTORY : 0,
                                      .path_size = (uint32_t)strlen(path)};
    text_add_size(out, &record, sizeof(record));
    text_add(out, path);
    text_add_size(out, zeros, img_filled(record.path_size) - record.path_size);
}

static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    struct mon_image_sandbox sandbox = {.build_id_size = 20, .monotonic_ns = 5, .boot_time_ns = 3, .heap_size = BLY_HEAP_SIZE, .bulk_size = 1 << 28};
    struct mon_policy policy = {.user = round % 3};
    cleanup_text struct text saved = {0}, handles = {0}, all = {0};
    policy.program = text_copy("true");
    policy.directory = text_copy("/");
    policy.name = text_copy("name");
    policy.host_name = text_copy("host");
    text_list_add(&policy.arguments, "true");
    mon_policy_add_mount(&policy, "/etc", "/etc", BLY_MOUNT_LAYERED);
    require(mon_policy_save(&policy, &saved) == 0);
    mon_policy_free(&policy);
    for (uint32_t i = 0; i < BLY_WAKE_POOL_COUNT; i++)
        add_handle(&handles, i, MON_IMAGE_WAKE, BLY_KIND_FILE, "");
    for (uint32_t role = MON_IMAGE_HEAP; role <= MON_IMAGE_TERMINAL_OUTPUT; role++)
        add_handle(&handles, 32 + role, role, BLY_KIND_FILE, "");
    add_handle(&handles, 60, MON_IMAGE_STREAM, BLY_KIND_FILE, "passwd");
    add_handle(&handles, 61, MON_IMAGE_STREAM, BLY_KIND_DIRECTORY, "");
    for (uint32_t role = MON_IMAGE_EXECUTION_0; role <= MON_IMAGE_EXECUTION_LAST; role++)
        add_handle(&handles, 70 + role, role, BLY_KIND_PIPE, "");
    add_part(&all, &sandbox, sizeof(sandbox));
    add_part(&all, saved.data, saved.size);
    add_part(&all, handles.data, handles.size);
    add_part(&all, "\1\0\0\0\0\0\0\0typed", 13);
    require(all.size <= limit);
    memcpy(data, all.data, all.size);
    return all.size;
}
#endif
