/* The clients of the control socket, for the files that serve them: control.c, and
 * suspension/requests.c for all that has to do with suspensions. */
#ifndef MONITOR_CONTROL_CLIENT_H
#define MONITOR_CONTROL_CLIENT_H

#include <monitor/control-console.h>
#include <monitor/control.h>

struct packet {
    struct packet *next;
    struct control_message message;
    char payload[];
};
struct client {
    struct client *next;
    struct mon_control *control;
    struct mon_watch watch;
    uint32_t token; /* of the program it started; 0: none */
    char *program;
    bool awaits_end; /* WAIT, STOP, ATTACH: is told of the main program's end */
    bool attached, gives_input;
    bool wants_list, suspends;
    size_t listed;
    uint32_t trace_flags;
    unsigned lost_lines;
    struct packet *first, **last;
    size_t queued;
    bool closing; /* when the queue is out */
};

struct mon_control {
    struct mon_loop *loop;
    const struct mon_policy *policy;
    const struct mon_control_operations *operations;
    void *context;
    struct mon_watch listener; /* descriptor -1: none */
    struct console_log log;    /* its folder is the state folder, of the socket too */
    struct client *clients;
    unsigned client_count;
    uint32_t last_token;
    bool listing;
    bool has_console;
    struct console console;
    struct screen screen; /* of a detached program with a terminal */
    bool main_ended;
    int main_status;
    char *payload; /* CONTROL_PAYLOAD_MAX bytes, made with the first client */
};

/* Queues one packet; the queue is sent at once as far as possible. False: the client is gone. */
bool control_tell(struct client *client, enum control_kind kind, int32_t value, const void *payload,
                  size_t size);
bool control_tell_error(struct client *client, int code, const char *text);
/* The last answer; the connection ends when it has been read. */
void control_tell_last(struct client *client, enum control_kind kind, int32_t value,
                       const void *payload, size_t size);
/* What clients have not read holds the program's output back; what the program has not read,
 * theirs. */
void control_update_hold(struct mon_control *control);
/* Reads and serves one packet; or sends what is queued. */
void control_serve_client(struct mon_watch *watch, uint32_t events);
void control_close_all(int descriptors[3]);

/* suspension/requests.c */
void control_serve_suspend(struct client *client, const struct control_message *message,
                           const char *payload, int descriptors[3]);
void control_serve_move(struct client *client, const struct control_message *message,
                        const char *payload, int descriptors[3]);
void control_serve_move_order(struct client *client, int32_t order);

#endif
