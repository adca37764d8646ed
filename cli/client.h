/* Talking to a running sandbox's monitor over its control socket. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <base/error.h>
#include <base/text.h>
#include <monitor/control.h>
#include <stdbool.h>
#include <termios.h>

/* A conversation. `payload` has CONTROL_PAYLOAD_MAX bytes. */
struct client {
    int socket;
    const char *name; /* of the sandbox */
    char *payload;
    struct control_message answer; /* the last one received */
};
#define cleanup_client __attribute__((cleanup(client_close)))
int client_open(struct client *client, const char *name, struct error *error);
void client_close(struct client *client);
int client_ask(struct client *client, enum control_kind kind, int32_t value, struct error *error);
int client_send(struct client *client, const struct control_message *message, const void *payload,
                struct error *error);
/* The next answer. CONTROL_ERROR and the end of the connection are errors. */
int client_receive(struct client *client, struct error *error);
/* Receives until `kind`, printing (or collecting) LINES on the way. */
int client_receive_until(struct client *client, enum control_kind kind, struct text *out_lines,
                         struct error *error);

/* After the monitor's last word: until it has ended too, so that what the user does next (rm, a new
 * sandbox of the same name) finds it so. */
void client_wait_until_over(const char *name);
/* Asks (CONTROL_WAIT, CONTROL_STOP) and waits for the end of the sandbox. One that ends just now,
 * or has ended and is still listed, is answered from the state folder. *out_exit_status is as
 * `bailey run` would have ended. */
int client_wait_for_end(const char *name, enum control_kind kind, int32_t value,
                        int *out_exit_status, struct error *error);

/* What `bailey` ends with for a wait status: the program's own code, or 128 + signal. */
int exit_status_of(int wait_status);

/* The user's terminal in raw mode, given back at the end and when `bailey` is stopped or killed by
 * a signal it can catch. */
struct terminal {
    int descriptor; /* -1: none */
    struct termios saved;
};
#define cleanup_terminal __attribute__((cleanup(terminal_restore)))
void terminal_make_raw(struct terminal *terminal, int descriptor);
void terminal_restore(struct terminal *terminal);
void terminal_size(int descriptor, uint16_t *out_rows, uint16_t *out_columns);

/* "TERM", "SIGTERM" or a number; 0: no such signal. */
int signal_number(const char *name);

#endif
