/* Intrusive balanced binary tree (AVL). Nodes are ordered by the callers' compare function. */
#ifndef LIBOS_TREE_H
#define LIBOS_TREE_H

#include "libos/list.h"
#include <stdint.h>

struct tree_node { struct tree_node *left, *right, *parent; int32_t height; };
struct tree { struct tree_node *root; };
typedef int (*tree_compare)(const struct tree_node *a, const struct tree_node *b);

/* Returns false (and inserts nothing) when an equal node is there. */
bool tree_insert(struct tree *tree, struct tree_node *node, tree_compare compare);
void tree_remove(struct tree *tree, struct tree_node *node);
struct tree_node *tree_first(const struct tree *tree);
struct tree_node *tree_last(const struct tree *tree);
struct tree_node *tree_next(const struct tree_node *node);
struct tree_node *tree_prev(const struct tree_node *node);
/* The first node that is not less than `key` (key compared as the second argument), or NULL. */
struct tree_node *tree_lower_bound(const struct tree *tree, const struct tree_node *key, tree_compare compare);

#endif
