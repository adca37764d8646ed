/* AVL tree. Invariant: the heights of a node's two subtrees differ by at most one, and node->height
 * is exact. */
#include "libos/tree.h"

static int32_t height_of(const struct tree_node *node)
{
    return node ? node->height : 0;
}

static void update_height(struct tree_node *node)
{
    int32_t left = height_of(node->left), right = height_of(node->right);

    node->height = (left > right ? left : right) + 1;
}

static void replace_child(struct tree *tree, struct tree_node *parent, struct tree_node *old,
                          struct tree_node *new)
{
    if (!parent)
        tree->root = new;
    else if (parent->left == old)
        parent->left = new;
    else
        parent->right = new;
    if (new)
        new->parent = parent;
}

static struct tree_node *rotate_left(struct tree *tree, struct tree_node *node)
{
    struct tree_node *up = node->right;

    replace_child(tree, node->parent, node, up);
    node->right = up->left;
    if (node->right)
        node->right->parent = node;
    up->left = node;
    node->parent = up;
    update_height(node);
    update_height(up);
    return up;
}

static struct tree_node *rotate_right(struct tree *tree, struct tree_node *node)
{
    struct tree_node *up = node->left;

    replace_child(tree, node->parent, node, up);
    node->left = up->right;
    if (node->left)
        node->left->parent = node;
    up->right = node;
    node->parent = up;
    update_height(node);
    update_height(up);
    return up;
}

static void rebalance_upwards(struct tree *tree, struct tree_node *node)
{
    while (node) {
        int32_t before = node->height;
        int32_t balance = height_of(node->left) - height_of(node->right);

        if (balance > 1) {
            if (height_of(node->left->left) < height_of(node->left->right))
                rotate_left(tree, node->left);
            node = rotate_right(tree, node);
        } else if (balance < -1) {
            if (height_of(node->right->right) < height_of(node->right->left))
                rotate_right(tree, node->right);
            node = rotate_left(tree, node);
        } else {
            update_height(node);
            if (node->height == before)
                return;
        }
        node = node->parent;
    }
}

bool tree_insert(struct tree *tree, struct tree_node *node, tree_compare compare)
{
    struct tree_node *parent = NULL, **link = &tree->root;

    while (*link) {
        int order = compare(node, *link);
        if (order == 0)
            return false;
        parent = *link;
        link = order < 0 ? &parent->left : &parent->right;
    }
    *node = (struct tree_node){.parent = parent, .height = 1};
    *link = node;
    rebalance_upwards(tree, parent);
    return true;
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
    struct tree_node *start; /* deepest node whose subtree shrank */

    if (node->left && node->right) {
        struct tree_node *heir = node->right;
        while (heir->left)
            heir = heir->left;
        start = heir->parent == node ? heir : heir->parent;
        replace_child(tree, heir->parent, heir, heir->right);
        heir->left = node->left;
        if (heir->left)
            heir->left->parent = heir;
        heir->right = node->right;
        if (heir->right)
            heir->right->parent = heir;
        heir->height = node->height;
        replace_child(tree, node->parent, node, heir);
    } else {
        start = node->parent;
        replace_child(tree, node->parent, node, node->left ? node->left : node->right);
    }
    rebalance_upwards(tree, start);
    *node = (struct tree_node){0};
}

struct tree_node *tree_first(const struct tree *tree)
{
    struct tree_node *node = tree->root;

    while (node && node->left)
        node = node->left;
    return node;
}

struct tree_node *tree_last(const struct tree *tree)
{
    struct tree_node *node = tree->root;

    while (node && node->right)
        node = node->right;
    return node;
}

struct tree_node *tree_next(const struct tree_node *node)
{
    if (node->right) {
        node = node->right;
        while (node->left)
            node = node->left;
        return (struct tree_node *)node;
    }
    while (node->parent && node->parent->right == node)
        node = node->parent;
    return node->parent;
}

struct tree_node *tree_prev(const struct tree_node *node)
{
    if (node->left) {
        node = node->left;
        while (node->right)
            node = node->right;
        return (struct tree_node *)node;
    }
    while (node->parent && node->parent->left == node)
        node = node->parent;
    return node->parent;
}

struct tree_node *tree_lower_bound(const struct tree *tree, const struct tree_node *key,
                                   tree_compare compare)
{
    struct tree_node *node = tree->root, *found = NULL;

    while (node) {
        if (compare(node, key) < 0) {
            node = node->right;
        } else {
            found = node;
            node = node->left;
        }
    }
    return found;
}
