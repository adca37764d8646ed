/* inotify(7): what is told, to whom, in which order. */
#include "fs.h"
#include <sys/inotify.h>

static int queue;

/* The queued events as text: "WATCH:MASK:NAME ...". */
static const char *events(void)
{
    static char text[1024];
    char buffer[4096] __attribute__((aligned(8)));
    size_t used = 0;
    text[0] = 0;
    for (ssize_t size; (size = read(queue, buffer, sizeof buffer)) > 0;)
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (void *)at;
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%d:%x:%s", used ? " " : "", event->wd, event->mask, event->len ? event->name : "");
            at += sizeof *event + event->len;
        }
    return text;
}

static void expect(const char *wanted, int line)
{
    const char *got = events();
    if (strcmp(got, wanted) != 0) {
        fprintf(stderr, "line %d: events are \"%s\", not \"%s\"\n", line, got, wanted);
        exit(1);
    }
}
#define EXPECT(wanted) expect(wanted, __LINE__)

static void begin(void)
{
    CHECK((queue = inotify_init1(IN_NONBLOCK)) >= 0);
}

static int make(const char *name)
{
    int fd = open(name, O_CREAT | O_RDWR, 0666);
    CHECK(fd >= 0);
    return fd;
}

static void a_file_goes_with_its_last_descriptor(void)
{
    begin();
    int fd = make("f");
    CHECK(inotify_add_watch(queue, "f", IN_ALL_EVENTS) == 1);
    CHECK(unlink("f") == 0);
    EXPECT("1:4:");
    CHECK(close(fd) == 0);
    EXPECT("1:8: 1:400: 1:8000:");
    CHECK_ERROR(inotify_rm_watch(queue, 1), EINVAL);
    close(queue);
}

static void one_of_several_names_is_not_the_last(void)
{
    begin();
    close(make("f"));
    CHECK(link("f", "g") == 0 && inotify_add_watch(queue, "f", IN_ALL_EVENTS) == 1);
    CHECK(unlink("f") == 0);
    EXPECT("1:4:");
    CHECK(unlink("g") == 0);
    EXPECT("1:4: 1:400: 1:8000:");
    close(queue);
}

static void a_folder_goes(void)
{
    begin();
    CHECK(mkdir("d", 0777) == 0 && inotify_add_watch(queue, "d", IN_ALL_EVENTS) == 1 && inotify_add_watch(queue, ".", IN_ALL_EVENTS) == 2);
    CHECK(rmdir("d") == 0);
    const char *got = events();
    CHECK(strcmp(got, "1:400: 1:8000: 2:40000200:d") == 0 || strcmp(got, "2:40000200:d 1:400: 1:8000:") == 0);
    close(queue);
}

static void what_is_renamed_over_goes(void)
{
    begin();
    close(make("a"));
    close(make("b"));
    CHECK(inotify_add_watch(queue, "b", IN_ATTRIB | IN_DELETE_SELF) == 1);
    CHECK(rename("a", "b") == 0);
    EXPECT("1:4: 1:400: 1:8000:");
    close(queue);
}

static void an_unlinked_file_is_heard_of_unless_excluded(void)
{
    for (int excluded = 0; excluded < 2; excluded++) {
        begin();
        int fd = make("f");
        CHECK(inotify_add_watch(queue, ".", IN_MODIFY | (excluded ? IN_EXCL_UNLINK : 0)) == 1);
        CHECK(unlink("f") == 0 && write(fd, "x", 1) == 1);
        EXPECT(excluded ? "" : "1:2:f");
        close(fd);
        close(queue);
    }
}

static void proc_shows_what_was_asked_for(void)
{
    char name[64], text[512];
    unsigned mask = 0;
    begin();
    CHECK(inotify_add_watch(queue, ".", IN_MODIFY | IN_ONESHOT) == 1);
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", queue);
    int fd = open(name, O_RDONLY);
    ssize_t size = read(fd, text, sizeof text - 1);
    CHECK(size > 0);
    text[size] = 0;
    const char *line = strstr(text, "inotify wd:");
    CHECK(line && sscanf(line, "inotify wd:%*d ino:%*x sdev:%*x mask:%x", &mask) == 1);
    CHECK_EQUAL(mask, (unsigned)(IN_MODIFY | IN_ONESHOT));
    close(fd);
    close(queue);
}

static const struct guest_case cases[] = {
    GUEST_CASE(a_file_goes_with_its_last_descriptor),
    GUEST_CASE(one_of_several_names_is_not_the_last),
    GUEST_CASE(a_folder_goes),
    GUEST_CASE(what_is_renamed_over_goes),
    GUEST_CASE(an_unlinked_file_is_heard_of_unless_excluded),
    GUEST_CASE(proc_shows_what_was_asked_for),
};
FS_MAIN(cases)
