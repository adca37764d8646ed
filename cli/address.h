/* HOST:PORT on the network. */
#ifndef CLI_ADDRESS_H
#define CLI_ADDRESS_H

#include <base/error.h>
#include <stdint.h>

/* Sockets that do not block. [HOST]:PORT for the numbers of IPv6. */
int address_connect(const char *where, uint32_t patience_ms, struct error *error)
    __attribute__((warn_unused_result));
int address_listen(const char *where, struct error *error) __attribute__((warn_unused_result));

/* "127.0.0.1:7000": who is at the other end, or at this one. */
#define ADDRESS_TEXT_SIZE 80
const char *address_text(int socket, int peer, char out_text[ADDRESS_TEXT_SIZE]);

#endif
