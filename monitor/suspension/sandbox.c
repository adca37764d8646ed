/* The records of the sandbox itself for an image: which Bailey made its memory, on which processor, at what time; and what it was given. */
#include "monitor/suspension/suspend.h"

#include "base/cleanup.h"
#include "monitor/policy/save.h"
#include "monitor/processor-features.h"
#include "monitor/sandbox.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define NOTES_MAX 4096u
#define PROGRAM_HEADER_MAX 16u

/* ---- Build id ---- */

static size_t take_build_id(const unsigned char *notes, size_t size, unsigned char *out_id)
{
    while (size >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, notes, sizeof(note));
        size_t name = sizeof(note), content = name + ((note.n_namesz + 3ull) & ~3ull), end = content + ((note.n_descsz + 3ull) & ~3ull);
        if (content < name || end < content || end > size)
            return 0;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz &&
            note.n_descsz <= MON_BUILD_ID_MAX) {
            memcpy(out_id, notes + content, note.n_descsz);
            return note.n_descsz;
        }
        notes += end;
        size -= end;
    }
    return 0;
}

int mon_build_id(int descriptor, unsigned char *out_id)
{
    Elf64_Ehdr header;
    Elf64_Phdr segments[PROGRAM_HEADER_MAX];
    unsigned char notes[NOTES_MAX];
    if (pread(descriptor, &header, sizeof(header), 0) != (ssize_t)sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_phnum > PROGRAM_HEADER_MAX || header.e_phentsize != sizeof(segments[0]))
        return -ENOEXEC;
    size_t size = header.e_phnum * sizeof(segments[0]);
    if (pread(descriptor, segments, size, (off_t)header.e_phoff) != (ssize_t)size)
        return -ENOEXEC;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        if (segments[i].p_type != PT_NOTE || segments[i].p_filesz > sizeof(notes) ||
            pread(descriptor, notes, segments[i].p_filesz, (off_t)segments[i].p_offset) != (ssize_t)segments[i].p_filesz)
            continue;
        size_t found = take_build_id(notes, segments[i].p_filesz, out_id);
        if (found)
            return (int)found;
    }
    return -ENOEXEC;
}

/* ---- Records ---- */

/* What runs, not what is installed by now. */
static int running_build_id(const struct mon_sandbox *sandbox, struct mon_image_sandbox *record)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)sandbox->child);
    mon_image_become_user(sandbox, true);
    cleanup_close int image = open(path, O_RDONLY | O_CLOEXEC);
    mon_image_become_user(sandbox, false);
    int size = image < 0 ? -errno : mon_build_id(image, record->build_id);
    record->build_id_size = size < 0 ? 0 : (uint32_t)size;
    return size < 0 ? size : 0;
}

static uint64_t realtime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int mon_image_sandbox(const struct mon_sandbox *sandbox, struct img_writer *writer, struct error *error)
{
    struct stat heap, bulk;
    struct mon_image_sandbox record = {.generation = sandbox->generation,
                                       .monotonic_ns = mon_now_ns() + (uint64_t)sandbox->clock_offset_ns,
                                       .realtime_ns = realtime_ns(),
                                       .boot_time_ns = sandbox->boot_time_ns};
    struct mon_features features;
    mon_processor_features(&features);
    mon_processor_limit(&features, sandbox->policy->migratable);
    record.vector_features = features.vector;
    _Static_assert(sizeof(record.processor_features) == sizeof(features.words), "image.h");
    memcpy(record.processor_features, features.words, sizeof(features.words));
    int result = running_build_id(sandbox, &record);
    if (result < 0)
        return error_set_errno(error, result, "cannot read the build id of the running bailey-linux");
    if (getrandom(record.suspend_id, sizeof(record.suspend_id), 0) != (ssize_t)sizeof(record.suspend_id) ||
        fstat(sandbox->heap, &heap) < 0 || fstat(sandbox->bulk, &bulk) < 0)
        return error_set_errno(error, -errno, "cannot describe the sandbox");
    record.heap_size = (uint64_t)heap.st_size;
    record.bulk_size = (uint64_t)bulk.st_size;
    result = img_writer_record(writer, MON_IMAGE_SANDBOX, 0, &record, sizeof(record), error);
    if (result < 0)
        return result;
    cleanup_text struct text policy = {0};
    result = mon_policy_save(sandbox->policy, &policy);
    if (result < 0)
        return error_set_errno(error, result, "cannot save the policy");
    return img_writer_record(writer, MON_IMAGE_POLICY, 0, policy.data, policy.size, error);
}
