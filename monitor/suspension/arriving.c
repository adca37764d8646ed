/* See arriving.h. Invariant: no page is used before the carrier has said that it is there; and when the carrier goes without having said
 * that all is there, the sandbox ends at once, since whoever sent it goes on with the original then. */
#include "monitor/suspension/arriving.h"

#include "base/cleanup.h"
#include "monitor/suspension/read.h"

#include <errno.h>
#include <image/carrier.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

struct mon_arriving {
    struct mon_sandbox *sandbox;
    uint64_t page_count;
    struct mon_watch watch; /* of the status */
    _Atomic bool is_through;
    int requests;
    pthread_mutex_t lock; /* one request at a time */
};

/* The status has one byte when all is there; nothing but its end when it is broken. */
static void hear_status(struct mon_watch *watch, uint32_t events)
{
    struct mon_arriving *arriving = watch->context;
    struct mon_sandbox *sandbox = arriving->sandbox;
    char byte;
    ssize_t size = recv(watch->descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    mon_watch_remove(&sandbox->loop, watch); /* it stays open: who waits for pages looks at it, too */
    arriving->is_through = size == 1;
    mon_audit_event(sandbox->audit, "arrive", sandbox->policy->name, size == 1 ? 0 : -EPIPE);
    if (size == 1)
        return;
    note("%s ends here: the link to where it came from broke before all its memory was here. It goes on there", sandbox->policy->name);
    mon_kill(sandbox);
}

int mon_arriving_begin(struct mon_sandbox *sandbox, struct error *error)
{
    const struct mon_resume *resume = sandbox->resume;
    if (img_reader_base_count(resume->image->reader) > 0)
        return error_set(error, -EPROTO, "an image that is still arriving cannot be based on others");
    struct mon_arriving *arriving = memory_new(sizeof(*arriving));
    *arriving = (struct mon_arriving){.sandbox = sandbox,
                                      .page_count = img_reader_page_count(resume->image->reader),
                                      .watch = {.descriptor = resume->status, .events = EPOLLIN, .function = hear_status, .context = arriving},
                                      .requests = resume->requests};
    pthread_mutex_init(&arriving->lock, NULL);
    sandbox->arriving = arriving;
    int result = mon_watch_add(&sandbox->loop, &arriving->watch);
    return result < 0 ? error_set_errno(error, result, "cannot follow how the sandbox arrives") : 0;
}

static int ask(const struct mon_arriving *arriving, struct img_frame_want want)
{
    struct img_frame_want answer;
    ssize_t size = send(arriving->requests, &want, sizeof(want), MSG_NOSIGNAL);
    while (size == (ssize_t)sizeof(want)) {
        size = recv(arriving->requests, &answer, sizeof(answer), 0);
        if (size < 0 && errno == EINTR)
            size = sizeof(want);
        else if (size == (ssize_t)sizeof(answer))
            return answer.first == want.first && answer.count == want.count ? 0 : -EIO;
    }
    /* The carrier has ended, well or not. */
    char byte;
    return arriving->is_through || recv(arriving->watch.descriptor, &byte, 1, MSG_PEEK) == 1 ? 0 : -EIO;
}

int mon_arriving_wait(struct mon_arriving *arriving, uint64_t offset, uint64_t size)
{
    if (!arriving)
        return 0;
    if (offset < BLY_PAGE_SIZE || offset % BLY_PAGE_SIZE || size % BLY_PAGE_SIZE)
        return -EINVAL;
    uint64_t first = offset / BLY_PAGE_SIZE - 1, count = size / BLY_PAGE_SIZE;
    if (first >= arriving->page_count || count > arriving->page_count - first)
        return -EINVAL;
    int result = 0;
    while (count && result == 0 && !arriving->is_through) {
        struct img_frame_want want = {.first = first, .count = count < IMG_WANT_MAX ? (uint32_t)count : IMG_WANT_MAX};
        pthread_mutex_lock(&arriving->lock);
        result = ask(arriving, want);
        pthread_mutex_unlock(&arriving->lock);
        first += want.count;
        count -= want.count;
    }
    return result;
}

bool mon_arriving_is_through(struct mon_arriving *arriving)
{
    return arriving->is_through;
}
