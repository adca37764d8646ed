/* The shapes of frames. */
#include "image/frame.h"

int img_frame_allowed(const struct img_frame *frame)
{
    switch (frame->kind) {
    case IMG_FRAME_HELLO:
        return frame->size == sizeof(struct img_hello);
    case IMG_FRAME_PAGES: {
        uint64_t one = sizeof(uint32_t) + BLY_PAGE_SIZE;
        uint64_t rest = (uint64_t)frame->size - sizeof(struct img_frame_pages);
        return frame->size > sizeof(struct img_frame_pages) && frame->size <= IMG_FRAME_MAX &&
               rest % one == 0;
    }
    case IMG_FRAME_INDEX:
        return frame->size > 0 && frame->size <= IMG_INDEX_CHUNK;
    case IMG_FRAME_END:
        return frame->size == sizeof(struct img_header);
    case IMG_FRAME_REFUSED:
        return frame->size <= IMG_REASON_MAX;
    case IMG_FRAME_WANT:
        return frame->size == sizeof(struct img_frame_want);
    case IMG_FRAME_COMPLETE:
    case IMG_FRAME_COMMIT:
    case IMG_FRAME_ACCEPTED:
    case IMG_FRAME_READY:
    case IMG_FRAME_RESUMED:
    case IMG_FRAME_WORKING:
        return frame->size == 0;
    default:
        return 0;
    }
}
