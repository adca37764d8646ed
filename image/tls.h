/* The encrypted connection between two Baileys: TLS 1.3 with a pre-shared key (RFC 8446 2.2) and
 * fresh Diffie-Hellman keys, through OpenSSL. Both sides prove that they have the key; there are no
 * certificates and nothing else is agreed to, so whoever lacks it gets no further than the
 * handshake. The socket does not block; whoever calls waits. */
#ifndef IMAGE_TLS_H
#define IMAGE_TLS_H

#include <base/error.h>
#include <image/key.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct img_tls;

/* Takes what it needs of the system (random numbers, memory for its tables) before it returns, so
 * that the process may give up its rights then. The socket stays the caller's. */
int img_tls_open(int socket, bool receives, const unsigned char key[IMG_KEY_SIZE],
                 struct img_tls **out_tls, struct error *error) __attribute__((warn_unused_result));
void img_tls_close(struct img_tls *tls); /* NULL is allowed */

/* 0: done. -EAGAIN: once more, when the socket is ready for img_tls_events. Else it is over, and
 * `error` says why in terms of keys and peers. */
int img_tls_handshake(struct img_tls *tls, struct error *error) __attribute__((warn_unused_result));
/* Bytes, 0 at the end of what the peer says, -EAGAIN, or another negative errno with `error` set.
 */
ssize_t img_tls_read(struct img_tls *tls, void *buffer, size_t size, struct error *error)
    __attribute__((warn_unused_result));
ssize_t img_tls_write(struct img_tls *tls, const void *data, size_t size, struct error *error)
    __attribute__((warn_unused_result));
/* What to wait for after -EAGAIN: POLLIN or POLLOUT. */
short img_tls_events(const struct img_tls *tls);
/* Says that nothing more will be said. */
void img_tls_finish(struct img_tls *tls);

#endif
