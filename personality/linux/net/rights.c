/* Descriptors in flight: passed by SCM_RIGHTS and not received yet. A socket that lies in its own queue, or two in each other's, would
 * live for ever; whenever a socket closes, those that nobody can reach any more are found and their queues emptied.
 *
 * A socket is suspect when all references to its file are in queues. Suspects that lie in the queue of somebody who is no suspect can
 * still be received, and so can what lies in theirs; the rest is garbage. socket.in_flight is raised before a descriptor is
 * queued and lowered after it left the queue, so that a socket on its way in or out never looks like garbage.
 *
 * Lock order: net_state.flight_lock, then a listener's socket.lock, then those of its pending connections. */
#include "personality/linux/net/socket.h"

enum { LIMIT_OPEN_FILES = 7, CAPABILITY_RESOURCE = 24 };

static struct socket *flying_socket(struct open_file *file)
{
    return file->ops == &socket_ops && socket_of(file)->family == &unix_family ? socket_of(file) : NULL;
}

int rights_allowed(uint32_t count)
{
    if (net()->in_flight + count > lx_process()->limits[LIMIT_OPEN_FILES].soft && !lx_capable(CAPABILITY_RESOURCE))
        return -ETOOMANYREFS;
    return 0;
}

void rights_departed(struct open_file **files, uint32_t count)
{
    if (!count)
        return;
    scoped_lock(&net()->flight_lock);
    net()->in_flight += count;
    for (uint32_t i = 0; i < count; i++) {
        struct socket *socket = flying_socket(files[i]);
        if (socket && socket->in_flight++ == 0) {
            socket->file = files[i];
            list_push(&net()->flying, &socket->flight_node);
        }
    }
}

void rights_arrived(struct open_file **files, uint32_t count)
{
    if (!count)
        return;
    scoped_lock(&net()->flight_lock);
    net()->in_flight -= count;
    for (uint32_t i = 0; i < count; i++) {
        struct socket *socket = flying_socket(files[i]);
        if (socket && --socket->in_flight == 0)
            list_remove(&socket->flight_node);
    }
}

/* ---- Collecting what nobody can receive. flight_lock is held. ---- */

static void visit_packets(struct socket *socket, void (*visit)(struct socket *found))
{
    scoped_lock(&socket->lock);
    list_for_each(node, &socket->packets) {
        struct packet *packet = container_of(node, struct packet, node);
        for (uint32_t i = 0; i < packet->rights_count; i++) {
            struct socket *found = flying_socket(packet->rights[i]);
            if (found && found->suspect)
                visit(found);
        }
    }
}

/* Its own queue and those of connections that wait to be accepted. */
static void visit_queues(struct socket *socket, void (*visit)(struct socket *found))
{
    visit_packets(socket, visit);
    scoped_lock(&socket->lock);
    list_for_each(node, &socket->pending)
        visit_packets(container_of(node, struct socket, pending_node), visit);
}

static void count_inside(struct socket *found)
{
    found->held_by_suspects++;
}

static void acquit(struct socket *found)
{
    found->suspect = false;
    found->to_visit = true;
}

static void find_garbage(void)
{
    list_for_each(node, &net()->flying) {
        struct socket *socket = container_of(node, struct socket, flight_node);
        socket->suspect = socket->file->references == socket->in_flight;
        socket->to_visit = false;
        socket->held_by_suspects = 0;
    }
    list_for_each(node, &net()->flying) {
        struct socket *socket = container_of(node, struct socket, flight_node);
        if (socket->suspect)
            visit_queues(socket, count_inside);
    }
    list_for_each(node, &net()->flying) {
        struct socket *socket = container_of(node, struct socket, flight_node);
        if (socket->suspect && socket->in_flight > socket->held_by_suspects)
            acquit(socket);
    }
    for (bool again = true; again;) {
        again = false;
        list_for_each(node, &net()->flying) {
            struct socket *socket = container_of(node, struct socket, flight_node);
            if (!socket->to_visit)
                continue;
            socket->to_visit = false;
            visit_queues(socket, acquit);
            again = true;
        }
    }
}

static void take_packets(struct socket *socket, struct list *garbage)
{
    scoped_lock(&socket->lock);
    while (!list_empty(&socket->packets)) {
        struct list *first = socket->packets.next;
        list_remove(first);
        list_push(garbage, first);
    }
    socket->received_bytes = 0;
}

void rights_collect(void)
{
    struct list garbage;

    if (list_empty(&net()->flying))
        return;
    list_init(&garbage);
    {
        scoped_lock(&net()->flight_lock);
        find_garbage();
        list_for_each(node, &net()->flying) {
            struct socket *socket = container_of(node, struct socket, flight_node);
            if (!socket->suspect)
                continue;
            take_packets(socket, &garbage);
            scoped_lock(&socket->lock);
            list_for_each(pending, &socket->pending)
                take_packets(container_of(pending, struct socket, pending_node), &garbage);
        }
    }
    list_for_each_safe(node, after, &garbage)
        packet_free(container_of(node, struct packet, node)); /* closes sockets, which collect in their turn */
}
