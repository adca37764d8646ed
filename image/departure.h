/* An image that leaves: what an image's writer gives, as the frames that img_arrival takes. */
#ifndef IMAGE_DEPARTURE_H
#define IMAGE_DEPARTURE_H

#include <image/writer.h>

/* Frames go to `socket`, a stream that blocks; -ETIMEDOUT when its SO_SNDTIMEO is over. */
struct img_sink img_departure(const int *socket);

#endif
