/* tree.h: tensors as a tree of names, and the rows of it that are seen.
 *
 * Three trees over one checkpoint: the logical tensors (merged over ranks),
 * and the stored pieces, below their file and below their rank. Nodes stand in the order in which
 * the checkpoint names them, numbers in order of size; a parent stands before
 * its children in the array. Names are borrowed from the checkpoint.
 *
 * What is alike is folded: folders in a row (and weight0, weight1, ..) that differ in nothing
 * but their number hang below one group, "0-47", until one of them differs. A group
 * is a folder like others and no part of a name.
 */
#ifndef SL_TUI_TREE_H
#define SL_TUI_TREE_H

#include "base/arena.h"
#include "tui/list.h"
#include <shardlens/shardlens.h>

enum tree_mode { TREE_LOGICAL, TREE_FILES, TREE_RANKS, TREE_MODES };

#define TREE_NONE UINT32_MAX
struct tree_node {
    const char *name;            /* the part of the name at this level */
    uint32_t name_len;
    uint32_t parent, first, last, next;   /* nodes, TREE_NONE */
    uint32_t leaf;               /* logical or stored tensor, TREE_NONE in a folder */
    uint32_t leaves;             /* tensors below */
    uint64_t bytes;
    uint32_t marked;             /* leaves below that are marked */
    uint16_t depth;
    char sign;                   /* worst below */
    bool open, match, group;
};

enum tree_order { ORDER_MODEL, ORDER_BYTES, ORDER_NAME, ORDER_WORST, ORDERS };

struct tree {
    enum tree_mode mode;
    struct sl_arena arena;
    struct tree_node *nodes;     /* 0 is the root, never shown */
    uint32_t count;
    bool built;
    uint32_t *rows;              /* nodes that are seen now */
    struct list list;            /* over rows */
    bool filtered;
    bool faults_apart;           /* a finding may keep a folder out of a group */
    enum tree_order order;
    size_t matches;              /* leaves that match the filter */
};

/* Builds the tree; runs in a job. False when memory is out. */
bool tree_build(struct tree *t, const struct sl_checkpoint *ck, enum tree_mode mode);
void tree_free(struct tree *t);

/* Sets the sign of each leaf and the worst of its children to each folder. */
void tree_signs(struct tree *t, char (*sign)(const void *arg, uint32_t leaf), const void *arg);
/* Folds what is alike, anew after signs have changed. Nodes get other numbers; the selection, folds and
 * marks stay with their nodes. False when memory is out: then nothing is folded. */
bool tree_group(struct tree *t, const struct sl_checkpoint *ck);
/* Marks the leaves below a node, or unmarks them if all are marked. */
void tree_mark(struct tree *t, uint32_t node);
void tree_unmark(struct tree *t);
/* Folds the rows anew; the selection stays on its node or goes to its folder. */
void tree_rows(struct tree *t);
uint32_t tree_selected(const struct tree *t);          /* node, TREE_NONE if there is no row */
void tree_select(struct tree *t, uint32_t node);       /* opens what must be opened */
/* Opening goes on through folders that hold one folder only. */
void tree_open(struct tree *t, uint32_t node, bool open);
/* Opens folders down to a depth, so that about `rows` rows are seen. */
void tree_unfold(struct tree *t, size_t rows);
void tree_fold_all(struct tree *t, bool open);
/* The order of the children of each folder; ties stay in the order of the model. False when memory is out. */
bool tree_sort(struct tree *t, enum tree_order order);
/* The first leaf at or below a node, TREE_NONE if there is none. */
uint32_t tree_first_leaf(const struct tree *t, uint32_t node);
/* The nodes at and below `top`, in the order of the tree: start with node = top; TREE_NONE ends. */
uint32_t tree_below(const struct tree *t, uint32_t top, uint32_t node);
uint32_t tree_find_leaf(const struct tree *t, uint32_t leaf);
/* Next matching leaf after the selection (step 1 or -1), around the end. */
uint32_t tree_next_match(const struct tree *t, int step);
/* Full name of a node, parts joined by '.'. */
char *tree_path(const struct tree *t, uint32_t node, char *out, size_t room);

/* filter.c: "qkv !fault !mark dtype:bf16 layer:3-5 expert:0-7 split:tp kind:norm shape:64x* bytes>1M
 * rank:tp1"; words combine with a blank, ^ and $ anchor a name, - before a word turns it round. Sets
 * `match` of the leaves. logical_of tells the logical tensor of each piece, UINT32_MAX none. */
void tree_filter(struct tree *t, const struct sl_checkpoint *ck, const uint32_t *logical_of, const char *text);

#endif
