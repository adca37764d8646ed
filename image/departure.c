/* Frames of an image into a socket. */
#include "image/departure.h"

#include <errno.h>
#include <image/frame.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int send_parts(const int *socket, struct iovec *parts, size_t count, struct error *error)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    while (message.msg_iovlen) {
        ssize_t size = sendmsg(*socket, &message, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return error_set(error, -ETIMEDOUT, "the other side does not take the image");
        if (size < 0)
            return error_set_errno(error, -errno, "cannot send the image");
        for (size_t left = (size_t)size; message.msg_iovlen;) {
            struct iovec *part = message.msg_iov;
            size_t step = left < part->iov_len ? left : part->iov_len;
            part->iov_base = (char *)part->iov_base + step;
            part->iov_len -= step;
            left -= step;
            if (part->iov_len)
                break;
            message.msg_iov++;
            message.msg_iovlen--;
        }
    }
    return 0;
}

static int send_pages(void *context, uint64_t first, const void *data, const uint32_t *checksums,
                      size_t count, struct error *error)
{
    for (size_t done = 0; done < count;) {
        size_t step = count - done < IMG_PAGES_AT_ONCE ? count - done : IMG_PAGES_AT_ONCE;
        struct img_frame frame = {.kind = IMG_FRAME_PAGES,
                                  .size = (uint32_t)img_frame_pages_size(step)};
        struct img_frame_pages head = {.first = first + done, .count = (uint32_t)step};
        struct iovec parts[] = {
            {&frame, sizeof(frame)},
            {&head, sizeof(head)},
            {(void *)(checksums + done), step * sizeof(*checksums)},
            {(char *)data + done * BLY_PAGE_SIZE, step * BLY_PAGE_SIZE},
        };
        int result = send_parts(context, parts, 4, error);
        if (result < 0)
            return result;
        done += step;
    }
    return 0;
}

static int send_end(void *context, const struct img_header *header, const void *index,
                    size_t index_size, struct error *error)
{
    int result = 0;
    for (size_t done = 0; done < index_size && result == 0;) {
        size_t step = index_size - done < IMG_INDEX_CHUNK ? index_size - done : IMG_INDEX_CHUNK;
        struct img_frame frame = {.kind = IMG_FRAME_INDEX, .size = (uint32_t)step};
        struct iovec parts[] = {{&frame, sizeof(frame)}, {(char *)index + done, step}};
        result = send_parts(context, parts, 2, error);
        done += step;
    }
    struct img_frame frame = {.kind = IMG_FRAME_END, .size = sizeof(*header)};
    struct iovec parts[] = {{&frame, sizeof(frame)}, {(void *)header, sizeof(*header)}};
    return result < 0 ? result : send_parts(context, parts, 2, error);
}

struct img_sink img_departure(const int *socket)
{
    return (struct img_sink){
        .pages = send_pages, .end = send_end, .context = (void *)socket, .name = "on its way"};
}
