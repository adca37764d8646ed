/* The process that talks to the other side of a move: it has the socket, the key, and the files or
 * the pipe for the image, and is confined to them. Its parent decides; between both go orders (say
 * this) and events (that came, or it is over). */
#ifndef IMAGE_CARRIER_H
#define IMAGE_CARRIER_H

#include <base/error.h>
#include <image/frame.h>
#include <image/key.h>
#include <stdbool.h>
#include <sys/types.h>

struct img_carrier {
    pid_t process;
    int orders; /* readable: an event is there */
};

struct img_carrier_job {
    int socket; /* connected, and not blocking */
    bool receives;
    unsigned char key[IMG_KEY_SIZE];
    int data; /* of a source: frames to be sent on as they come; else -1. Back come struct
                 img_frame_want */
    int requests,
        status; /* of a receiver of what comes lazily, else -1. `requests`: struct img_frame_want,
                   each of which comes back when its pages are in the image. `status`: a byte when
                   all are; its end without one: they never will be */
    int offer, image;     /* of a receiver: files for what comes; else -1 */
    uint32_t patience_ms; /* with a peer that says nothing */
    struct img_hello hello;
};

enum img_event_kind { /* beside enum img_frame_kind: that frame came */
                      IMG_EVENT_PROGRESS = 64,
                      IMG_EVENT_SENT,  /* `data` has ended, and all of it is with the peer's system,
                                          or on its way */
                      IMG_EVENT_BROKEN /* code, text: it is over */
};
struct img_event {
    uint32_t kind;
    int32_t code;
    uint64_t bytes; /* sent or received so far */
    union {
        struct img_hello hello; /* IMG_FRAME_HELLO */
        char text[IMG_REASON_MAX + 1];
    };
};

/* The descriptors of the job stay the caller's, who may close them after this. */
int img_carrier_start(const struct img_carrier_job *job, struct img_carrier *out_carrier,
                      struct error *error) __attribute__((warn_unused_result));
/* Says a frame that has no payload, or REFUSED with `text`. */
int img_carrier_say(struct img_carrier *carrier, enum img_frame_kind kind, const char *text)
    __attribute__((warn_unused_result));
/* Pages of the image that may come from now on (image/arrival.h). */
int img_carrier_allow(struct img_carrier *carrier, uint64_t pages)
    __attribute__((warn_unused_result));
/* The next event; waits as long as the carrier works. A carrier that is gone is an event, too. */
void img_carrier_next(struct img_carrier *carrier, struct img_event *out_event);
/* Lets it say what it still has to say, for a moment, and ends it. */
void img_carrier_end(struct img_carrier *carrier);

#endif
