/* bailey image: what is in an image of a suspended sandbox, and whether all of it is whole. The
 * image may be a stranger's: what it says is printed so that a terminal obeys none of it. */
#include <cli/image.h>

#include <cli/command.h>
#include <cli/own-image.h>
#include <cli/progress.h>
#include <cli/resume.h>
#include <cli/unpack.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <errno.h>
#include <fcntl.h>
#include <image/bases.h>
#include <monitor/suspension/read.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct command command_image_inspect, command_image_verify, command_image_pack;

/* `out_lacks` tells which other image is missing, or has changed; NULL: that is an error. */
static int open_image(struct mon_image *image, const struct image_request *request,
                      struct error *out_lacks, struct error *error)
{
    int file = open(request->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0)
        return error_set_errno(error, -errno, "cannot open the image %s", request->path);
    bool own = own_image_is(file);
    /* To look at it, the index will do. */
    if (unpack_image(&file, request->path, /*all=*/!out_lacks, error) < 0) {
        close(file);
        return error->code;
    }
    int result = mon_image_open(image, file, request->path, /*own=*/false, error);
    if (result < 0)
        return result;
    result = img_reader_find_bases(image->reader, request->path, &request->bases, /*follow=*/own,
                                   out_lacks ? out_lacks : error);
    return out_lacks ? 0 : result;
}

/* ---- inspect ---- */

struct totals {
    uint64_t bytes[IMG_SPACE_FILE + 1]; /* by kind */
    uint64_t named[1 + IMG_BASES_MAX];  /* bytes that lie in each of its files */
    size_t processes, extents;
    size_t files, carried, folders; /* carried: with their contents, among the files */
};

static struct totals add_up(const struct mon_image *image)
{
    struct totals totals = {.files = 0};
    for (size_t i = 0; i < img_reader_space_count(image->reader); i++) {
        const struct img_space *space = img_reader_space(image->reader, i);
        totals.bytes[space->kind] += space->page_count * BLY_PAGE_SIZE;
        for (size_t j = 0; j < space->extent_count; j++)
            totals.named[img_place_file(space->extents[j].place)] +=
                space->extents[j].count * BLY_PAGE_SIZE;
        totals.processes += space->kind == IMG_SPACE_PRIVATE;
        totals.extents += space->extent_count;
    }
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        if (record->role != MON_IMAGE_STREAM)
            continue;
        totals.folders += record->flags & MON_IMAGE_DIRECTORY ? 1 : 0;
        totals.carried += record->flags & MON_IMAGE_CONTENTS ? 1 : 0;
        totals.files += !(record->flags & MON_IMAGE_DIRECTORY);
    }
    return totals;
}

/* Where on the host it was. NULL: it has no name. */
static char *host_path(const struct mon_image *image, const struct mon_image_entry *entry)
{
    uint32_t mount = entry->record.mount;
    if (entry->record.flags & MON_IMAGE_DELETED)
        return NULL;
    const char *folder = mount < image->policy.mount_count ? image->policy.mounts[mount].host_path
                                                           : image->policy.layer_path;
    return text_print("%s%s%s", folder, *entry->path && !text_equal(folder, "/") ? "/" : "",
                      entry->path);
}

static void hexadecimal(const unsigned char *data, size_t size, char *out_text)
{
    for (size_t i = 0; i < size; i++)
        sprintf(out_text + 2 * i, "%02x", data[i]);
}

static void write_files(const struct mon_image *image, struct json *json)
{
    json_key(json, "files");
    json_array(json);
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_entry *entry = &image->handles[i];
        if (entry->record.role != MON_IMAGE_STREAM)
            continue;
        cleanup_free char *path = host_path(image, entry);
        json_object(json);
        json_key_string(json, "path", path);
        json_key_boolean(json, "folder", entry->record.flags & MON_IMAGE_DIRECTORY);
        json_key_boolean(json, "written", entry->record.access & BLY_ACCESS_WRITE);
        json_key_number(json, "size", (int64_t)entry->record.size);
        json_key_boolean(json, "carried", entry->record.flags & MON_IMAGE_CONTENTS);
        json_object_end(json);
    }
    json_array_end(json);
}

/* Where base `index` is, or else was. */
static const char *base_path(const struct mon_image *image, size_t index)
{
    const char *found = img_reader_file_name(image->reader, (unsigned)index + 1);
    return found ? found : img_reader_base(image->reader, index)->path;
}

static void write_bases(const struct mon_image *image, const struct totals *totals,
                        struct json *json)
{
    json_key(json, "bases");
    json_array(json);
    for (size_t i = 0; i < img_reader_base_count(image->reader); i++) {
        json_object(json);
        json_key_string(json, "path", base_path(image, i));
        json_key_boolean(json, "found", img_reader_file(image->reader, (unsigned)i + 1) >= 0);
        json_key_number(json, "memory", (int64_t)totals->named[i + 1]);
        json_object_end(json);
    }
    json_array_end(json);
}

static void print_json(const struct mon_image *image, const struct totals *totals,
                       const char *why_not)
{
    char build_id[2 * MON_BUILD_ID_MAX + 1] = "";
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    hexadecimal(image->sandbox.build_id, image->sandbox.build_id_size, build_id);
    json_object(&json);
    json_key_string(&json, "image", image->name);
    json_key_string(&json, "name", image->policy.name);
    json_key_strings(&json, "command", image->policy.arguments.items,
                     image->policy.arguments.count);
    json_key_number(&json, "suspended", (int64_t)(image->sandbox.realtime_ns / 1000000000));
    json_key_number(&json, "generation", image->sandbox.generation);
    json_key_string(&json, "build_id", build_id);
    json_key_boolean(&json, "resumable", !why_not);
    json_key_string(&json, "reason", why_not);
    json_key_number(&json, "size", (int64_t)img_reader_file_size(image->reader));
    json_key(&json, "memory");
    json_object(&json);
    json_key_number(&json, "private", (int64_t)totals->bytes[IMG_SPACE_PRIVATE]);
    json_key_number(&json, "kernel_heap", (int64_t)totals->bytes[IMG_SPACE_HEAP]);
    json_key_number(&json, "shared", (int64_t)totals->bytes[IMG_SPACE_BULK]);
    json_key_number(&json, "carried_files", (int64_t)totals->bytes[IMG_SPACE_FILE]);
    json_key_number(&json, "processes", (int64_t)totals->processes);
    json_key_number(&json, "extents", (int64_t)totals->extents);
    json_object_end(&json);
    write_bases(image, totals, &json);
    write_files(image, &json);
    json_key(&json, "policy");
    json_raw(&json);
    mon_policy_write_json(&image->policy, &text);
    json_object_end(&json);
    printf("%s\n", text.data);
}

static void print_line(const char *key, struct text *value)
{
    text_make_printable(value->data, value->size);
    printf("%-12s %s\n", key, value->data);
    text_free(value);
}

static void print_grants(const struct mon_image *image)
{
    struct text line = {0};
    for (size_t i = 0; i < image->policy.mount_count; i++) {
        const struct mon_mount *mount = &image->policy.mounts[i];
        if (mount->flags & MON_MOUNT_DEFAULT_VIEW)
            continue;
        bool read_only = mount->flags & (BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED);
        text_format(&line, "%s at %s%s", mount->host_path, mount->guest_path,
                    read_only ? ", read-only" : "");
        print_line("grant", &line);
    }
}

static void print_bases(const struct mon_image *image, const struct totals *totals)
{
    char size[SIZE_TEXT_SIZE];
    struct text line = {0};
    for (size_t i = 0; i < img_reader_base_count(image->reader); i++) {
        text_format(&line, "%s, %s of the memory%s", base_path(image, i),
                    size_text(totals->named[i + 1], size),
                    img_reader_file(image->reader, (unsigned)i + 1) >= 0 ? "" : ": not there");
        print_line("based on", &line);
    }
}

static void print_open_files(const struct mon_image *image)
{
    struct text line = {0};
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_entry *entry = &image->handles[i];
        const struct mon_image_handle *record = &entry->record;
        char size[SIZE_TEXT_SIZE];
        uint32_t mount = record->mount;
        bool is_view = mount < image->policy.mount_count &&
                       image->policy.mounts[mount].flags & MON_MOUNT_DEFAULT_VIEW;
        if (record->role != MON_IMAGE_STREAM || is_view)
            continue;
        cleanup_free char *path = host_path(image, entry);
        text_format(&line, "%s", path ? path : "a deleted file, whose contents are in the image");
        if (!(record->flags & MON_IMAGE_DIRECTORY))
            text_format(&line, ", %s%s%s", size_text(record->size, size),
                        record->access & BLY_ACCESS_WRITE ? ", to write" : "",
                        record->flags & MON_IMAGE_CARRIED ? ", with its contents" : "");
        print_line("open", &line);
    }
}

static void print_all(const struct mon_image *image, const struct totals *totals,
                      const char *why_not)
{
    char sizes[4][SIZE_TEXT_SIZE], date[64] = "";
    struct text line = {0};
    time_t seconds = (time_t)(image->sandbox.realtime_ns / 1000000000);
    struct tm local;
    if (localtime_r(&seconds, &local))
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &local);
    text_add(&line, image->policy.name ? image->policy.name : "");
    print_line("sandbox", &line);
    for (size_t i = 0; i < image->policy.arguments.count; i++)
        text_format(&line, "%s%s", i ? " " : "", image->policy.arguments.items[i]);
    text_add(&line, "");
    print_line("command", &line);
    text_format(&line, "%s, after %u resumptions", date, image->sandbox.generation);
    print_line("suspended", &line);
    text_format(&line, "%s in %zu pieces", size_text(img_reader_file_size(image->reader), sizes[0]),
                totals->extents);
    print_line("size", &line);
    text_format(&line, "%s of %zu processes, %s shared and private files, %s kernel heap",
                size_text(totals->bytes[IMG_SPACE_PRIVATE], sizes[0]), totals->processes,
                size_text(totals->bytes[IMG_SPACE_BULK], sizes[1]),
                size_text(totals->bytes[IMG_SPACE_HEAP], sizes[2]));
    if (totals->carried)
        text_format(&line, ", %s of the host's files",
                    size_text(totals->bytes[IMG_SPACE_FILE], sizes[3]));
    print_line("memory", &line);
    print_bases(image, totals);
    text_format(&line, "%zu open on the host, %zu of them carried, and %zu folders", totals->files,
                totals->carried, totals->folders);
    print_line("files", &line);
    print_open_files(image);
    print_grants(image);
    text_add(&line, why_not ? why_not : "by the Bailey installed here, on this processor");
    print_line(why_not ? "not resumable" : "resumable", &line);
}

static int inspect(const struct image_request *request, struct error *error)
{
    struct mon_image image = {.is_offer = false};
    struct error unfit = {0};
    int result = open_image(&image, request, &unfit, error);
    if (result == 0) {
        struct totals totals = add_up(&image);
        const char *why_not = unfit.code || mon_image_fits(&image, /*force=*/false, &unfit) < 0
                                  ? unfit.message
                                  : NULL;
        if (request->as_json)
            print_json(&image, &totals, why_not);
        else
            print_all(&image, &totals, why_not);
    }
    mon_image_close(&image);
    return result;
}

/* ---- verify ---- */

static int verify(const struct image_request *request, struct error *error)
{
    struct mon_image image = {.is_offer = false};
    char size[SIZE_TEXT_SIZE];
    int result = open_image(&image, request, NULL, error);
    if (result == 0) {
        uint64_t memory = img_reader_verify_size(image.reader);
        result = resumption_verify(image.reader, error);
        if (result == 0 && request->as_json)
            command_print_json(image.name, "verified", (int64_t)memory);
        else if (result == 0)
            printf("%s: good, %s of memory\n", image.name, size_text(memory, size));
    }
    mon_image_close(&image);
    return result;
}

/* ---- The command ---- */

static const struct option_help part_options[] = {
    {0, "base", "FILE", "an image that this one was made from (else beside it, or where it was)"},
    {0, "json", NULL, "print JSON"},
    {0, NULL, NULL, NULL},
};
static const struct option_help pack_options[] = {
    {'o', "output", "FILE", "the new image"},
    {0, "compress", "[=LEVEL]", "compress it with Zstandard (1 to 19; default: 3)"},
    {0, "base", "FILE", "an image that this one was made from (else beside it, or where it was)"},
    {0, "json", NULL, "print JSON"},
    {0, NULL, NULL, NULL},
};

static int run_part(const struct command *command, int argc, char **argv,
                    int (*serve)(const struct image_request *request, struct error *error),
                    struct error *error)
{
    struct image_request request = {.as_json = false};
    struct option_reader reader = {.command = command, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (text_equal(option->name, "base"))
            text_list_add(&request.bases, reader.value);
        if (text_equal(option->name, "output"))
            request.output = reader.value;
        if (text_equal(option->name, "compress") &&
            pack_read_level(reader.value, &request.level, error) < 0)
            break;
        request.as_json |= text_equal(option->name, "json");
    }
    if (!error->code && !reader.helped && command_expect_words(&reader, 1, 1, error) == 0) {
        request.path = reader.words[0];
        (void)!serve(&request, error);
    }
    text_list_free(&request.bases);
    return error->code;
}

static int run_inspect(int argc, char **argv, struct error *error)
{
    return run_part(&command_image_inspect, argc, argv, inspect, error);
}

static int run_verify(int argc, char **argv, struct error *error)
{
    return run_part(&command_image_verify, argc, argv, verify, error);
}

static int run_pack(int argc, char **argv, struct error *error)
{
    return run_part(&command_image_pack, argc, argv, image_pack, error);
}

static const struct command command_image_inspect = {
    .name = "image inspect",
    .arguments = "FILE",
    .summary = "Say what an image holds, and whether it can be resumed here",
    .run = run_inspect,
    .options = part_options,
};
static const struct command command_image_verify = {
    .name = "image verify",
    .arguments = "FILE",
    .summary = "Read all of an image and check it against its checksums",
    .run = run_verify,
    .options = part_options,
};

static const struct command command_image_pack = {
    .name = "image pack",
    .arguments = "FILE -o NEW",
    .summary = "Make an image that needs no other, compressed or not",
    .run = run_pack,
    .options = pack_options,
};

static const struct command *const parts[] = {&command_image_inspect, &command_image_verify,
                                              &command_image_pack};

static int run(int argc, char **argv, struct error *error)
{
    if (argc < 2 || text_equal(argv[1], "--help") || text_equal(argv[1], "-h")) {
        printf("Usage: bailey image inspect|verify|pack FILE\n\n%s.\n\n", command_image.summary);
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
            printf("  bailey %s [--json] %s   %s\n", parts[i]->name, parts[i]->arguments,
                   parts[i]->summary);
        return argc < 2 ? EXIT_BAILEY : 0;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (text_equal(parts[i]->name + strlen("image "), argv[1]))
            return parts[i]->run(argc - 1, argv + 1, error);
    return error_set(error, -EINVAL, "image: there is no %s (inspect, verify and pack are)",
                     argv[1]);
}

const struct command command_image = {
    .name = "image",
    .arguments = "inspect|verify|pack FILE",
    .summary = "Say what an image of a sandbox holds, check it, or pack it",
    .run = run,
};
