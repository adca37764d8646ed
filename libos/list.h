/* Intrusive doubly linked list, circular with a head. */
#ifndef LIBOS_LIST_H
#define LIBOS_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list { struct list *next, *prev; };

#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define list_for_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
#define list_for_each_safe(node, after, head) \
    for (struct list *node = (head)->next, *after = node->next; node != (head); node = after, after = node->next)

static inline void list_init(struct list *head) { head->next = head->prev = head; }
static inline bool list_empty(const struct list *head) { return head->next == head; }
static inline void list_insert(struct list *node, struct list *before)
{
    node->next = before;
    node->prev = before->prev;
    before->prev->next = node;
    before->prev = node;
}
static inline void list_push(struct list *head, struct list *node) { list_insert(node, head); }
static inline void list_push_front(struct list *head, struct list *node) { list_insert(node, head->next); }
/* Leaves the node pointing to itself, so that removing it again is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_first(struct list *head) { return list_empty(head) ? NULL : head->next; }

#endif
