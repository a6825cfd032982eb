/* tree.c: names into a tree, a tree into rows. */
#include "tui/tree.h"
#include "base/map.h"
#include "base/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEEPEST 32     /* parts beyond stay together in the last one */
#define MOST_LEVELS (2 * DEEPEST + 4)   /* groups stand between them */

struct builder {
    struct tree *t;
    struct sl_map seen;              /* folder: prefix of a name, in a group with the group before it -> node */
    struct sl_arena keys;            /* of folders in groups */
    struct sl_buf key;
    size_t room;
    const char *name;                /* the one before: most share its folders */
    uint32_t top, path[DEEPEST];     /* the group it stood in, 0 none; its folders */
    int depth;
};

static uint32_t node_add(struct builder *b, uint32_t parent, const char *name, size_t len)
{
    struct tree *t = b->t;
    if (t->count == b->room) {
        size_t room = b->room ? b->room * 2 : 1024;
        struct tree_node *nodes = room < UINT32_MAX ? realloc(t->nodes, room * sizeof *nodes) : NULL;
        if (!nodes)
            return TREE_NONE;
        t->nodes = nodes;
        b->room = room;
    }
    uint32_t id = t->count++;
    t->nodes[id] = (struct tree_node){ .name = name, .name_len = (uint32_t)len, .parent = parent, .first = TREE_NONE,
                                       .last = TREE_NONE, .next = TREE_NONE, .leaf = TREE_NONE, .sign = ' ', .match = true };
    if (parent != TREE_NONE) {
        struct tree_node *p = &t->nodes[parent];
        t->nodes[id].depth = (uint16_t)(p->depth + 1);
        if (p->last == TREE_NONE)
            p->first = id;
        else
            t->nodes[p->last].next = id;
        p->last = id;
    }
    return id;
}

/* The folder of the group `top` that has the first `prefix` bytes of a name, made if it is new. */
static uint32_t folder(struct builder *b, uint32_t top, uint32_t parent, const char *name, size_t prefix, const char *part, size_t len)
{
    uint64_t id = b->t->count;
    bool added = false;
    const char *key = name;
    if (top) {
        sl_buf_clear(&b->key);
        sl_buf_printf(&b->key, "%u\n%.*s", top, (int)prefix, name);
        if (b->key.failed)
            return TREE_NONE;
        key = b->key.data;
        prefix = b->key.len;
        if (!sl_map_get(&b->seen, key, prefix, &id) && !(key = sl_arena_strn(&b->keys, key, prefix)))
            return TREE_NONE;
    }
    if (!sl_map_add(&b->seen, key, prefix, &id, &added))
        return TREE_NONE;
    if (added)
        return node_add(b, parent, part, len);
    return b->t->nodes[id].leaf == TREE_NONE ? (uint32_t)id : node_add(b, parent, part, len);
}

static bool leaf_add(struct builder *b, uint32_t parent, const char *name, size_t len, size_t leaf, uint64_t bytes)
{
    uint32_t id = node_add(b, parent, name, len);
    if (id == TREE_NONE)
        return false;
    b->t->nodes[id].leaf = (uint32_t)leaf;
    b->t->nodes[id].bytes = bytes;
    b->t->nodes[id].leaves = 1;
    return true;
}

/* A tensor below the node `top`, in a folder for each part of its name. */
static bool add_dotted(struct builder *b, uint32_t top, const char *name, size_t leaf, uint64_t bytes)
{
    uint32_t parent = top;
    const char *part = name, *dot;
    bool same = b->name && top == b->top;                /* in the folders of the one before, so far */
    int depth = 0;
    for (; depth < DEEPEST && (dot = strchr(part, '.')) != NULL; depth++, part = dot + 1) {
        same = same && depth < b->depth && strncmp(name, b->name, (size_t)(dot - name) + 1) == 0;
        if (!same)
            b->path[depth] = folder(b, top, parent, name, (size_t)(dot - name), part, (size_t)(dot - part));
        parent = b->path[depth];
        if (parent == TREE_NONE)
            return false;
    }
    b->name = name;
    b->top = top;
    b->depth = depth;
    return leaf_add(b, parent, part, strlen(part), leaf, bytes);
}

static uint32_t group_add(struct builder *b, const char *name)
{
    return folder(b, 0, 0, name, strlen(name), name, strlen(name));
}

static const char *rank_group(struct tree *t, const struct sl_checkpoint_info *info, int32_t rank)
{
    if (rank < 0 || (size_t)rank >= info->rank_count)
        return "no rank";
    const struct sl_rank *r = &info->ranks[rank];
    return info->parallel.ep > 1 ? sl_arena_printf(&t->arena, "tp%d pp%d ep%d", r->tp, r->pp, r->ep)
                                 : sl_arena_printf(&t->arena, "tp%d pp%d", r->tp, r->pp);
}

static bool add_all(struct builder *b, const struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    if (b->t->mode == TREE_LOGICAL) {
        for (size_t i = 0; i < sl_logical_count(ck); i++)
            if (!add_dotted(b, 0, sl_logical_at(ck, i)->name, i, sl_logical_at(ck, i)->bytes))
                return false;
        return true;
    }
    const char **groups = calloc(info->rank_count + 1, sizeof *groups);
    bool good = groups != NULL;
    for (size_t i = 0; good && i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *s = sl_tensor_at(ck, i);
        const char *group = (size_t)s->file < info->file_count ? info->files[s->file].name : "no file";
        if (b->t->mode == TREE_RANKS) {
            size_t r = s->rank >= 0 && (size_t)s->rank < info->rank_count ? (size_t)s->rank : info->rank_count;
            if (!groups[r])
                groups[r] = rank_group(b->t, info, s->rank);
            group = groups[r];
        }
        uint32_t top = group ? group_add(b, group) : TREE_NONE;
        good = top != TREE_NONE && add_dotted(b, top, s->path, i, s->bytes);
    }
    free(groups);
    return good;
}

static bool is_number(const struct tree_node *n)
{
    for (uint32_t i = 0; i < n->name_len; i++)
        if (n->name[i] < '0' || n->name[i] > '9')
            return false;
    return n->name_len > 0 && n->name_len < 10;
}

struct numbered { long number; uint32_t node; };
static int by_number(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    return x->number != y->number ? (x->number < y->number ? -1 : 1) : (x->node < y->node ? -1 : x->node > y->node);
}

/* Children whose names are all numbers stand in order of size. */
static bool order_numbers(struct tree *t, uint32_t folder_id)
{
    struct tree_node *f = &t->nodes[folder_id];
    size_t count = 0;
    long last = -1;
    bool sorted = true;
    for (uint32_t c = f->first; c != TREE_NONE; c = t->nodes[c].next, count++) {
        if (!is_number(&t->nodes[c]))
            return true;
        long number = strtol(t->nodes[c].name, NULL, 10);
        sorted = sorted && number >= last;
        last = number;
    }
    if (sorted)
        return true;
    struct numbered *children = calloc(count, sizeof *children);
    if (!children)
        return false;
    size_t n = 0;
    for (uint32_t c = f->first; c != TREE_NONE; c = t->nodes[c].next)
        children[n++] = (struct numbered){ strtol(t->nodes[c].name, NULL, 10), c };
    qsort(children, count, sizeof *children, by_number);
    f->first = children[0].node;
    f->last = children[count - 1].node;
    for (size_t i = 0; i < count; i++)
        t->nodes[children[i].node].next = i + 1 < count ? children[i + 1].node : TREE_NONE;
    free(children);
    return true;
}

/* A folder that holds one tensor is shown as that tensor: "linear_qkv.weight".
 * Both parts stand side by side in the one name. */
static void collapse(struct tree *t)
{
    for (uint32_t i = t->count; i-- > 1;) {
        struct tree_node *n = &t->nodes[i];
        bool file_or_rank = t->mode != TREE_LOGICAL && n->parent == 0;
        if (file_or_rank || n->leaf != TREE_NONE || n->leaves != 1)
            continue;
        struct tree_node *child = &t->nodes[n->first];
        n->name_len = (uint32_t)strlen(n->name);
        n->leaf = child->leaf;
        n->first = n->last = TREE_NONE;
        child->leaf = TREE_NONE;
        child->leaves = 0;
    }
}

/* ---- order ------------------------------------------------------------------------------ */

static int badness(char sign);
struct sorted { const struct tree_node *node; uint32_t id; };
static int by_id(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}
static int by_bytes(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    return x->node->bytes != y->node->bytes ? (x->node->bytes > y->node->bytes ? -1 : 1) : by_id(a, b);
}
static int by_name(const void *a, const void *b)
{
    char x[256], y[256];
    const struct tree_node *m = ((const struct sorted *)a)->node, *n = ((const struct sorted *)b)->node;
    snprintf(x, sizeof x, "%.*s", (int)m->name_len, m->name);
    snprintf(y, sizeof y, "%.*s", (int)n->name_len, n->name);
    int order = sl_text_natural(x, y);
    return order ? order : by_id(a, b);
}
static int by_sign(const void *a, const void *b)
{
    int x = badness(((const struct sorted *)a)->node->sign), y = badness(((const struct sorted *)b)->node->sign);
    return x != y ? (x > y ? -1 : 1) : by_id(a, b);
}
static int (*const orders[ORDERS])(const void *, const void *) = {
    [ORDER_MODEL] = by_id, [ORDER_BYTES] = by_bytes, [ORDER_NAME] = by_name, [ORDER_WORST] = by_sign,
};

static bool put_in_order(struct tree *t, enum tree_order order)
{
    struct sorted *children = calloc(t->count + 1, sizeof *children);
    if (!children)
        return false;
    for (uint32_t f = 0; f < t->count; f++) {
        size_t count = 0;
        for (uint32_t c = t->nodes[f].first; c != TREE_NONE; c = t->nodes[c].next)
            children[count++] = (struct sorted){ &t->nodes[c], c };
        if (count < 2)
            continue;
        qsort(children, count, sizeof *children, orders[order]);
        t->nodes[f].first = children[0].id;
        t->nodes[f].last = children[count - 1].id;
        for (size_t i = 0; i < count; i++)
            t->nodes[children[i].id].next = i + 1 < count ? children[i + 1].id : TREE_NONE;
    }
    free(children);
    t->order = order;
    return true;
}

bool tree_sort(struct tree *t, enum tree_order order)
{
    if (!put_in_order(t, order))
        return false;
    tree_rows(t);
    return true;
}

bool tree_build(struct tree *t, const struct sl_checkpoint *ck, enum tree_mode mode)
{
    struct builder b = { .t = t };
    t->mode = mode;
    bool good = node_add(&b, TREE_NONE, "", 0) == 0 && add_all(&b, ck);
    sl_map_free(&b.seen);
    sl_arena_free(&b.keys);
    sl_buf_free(&b.key);
    for (uint32_t i = t->count; good && i-- > 1;) {
        struct tree_node *n = &t->nodes[i], *p = &t->nodes[n->parent];
        p->leaves += n->leaves;
        p->bytes += n->bytes;
        if (n->leaf == TREE_NONE)
            good = order_numbers(t, i);
    }
    if (good)
        collapse(t);
    if (good)
        good = tree_group(t, ck);
    if (good && !t->rows)
        t->rows = calloc(t->count, sizeof *t->rows);
    t->built = good && t->rows;
    if (t->built) {
        t->nodes[0].open = true;
        t->matches = t->nodes[0].leaves;
    }
    return t->built;
}

void tree_free(struct tree *t)
{
    free(t->nodes);
    free(t->rows);
    sl_arena_free(&t->arena);
    *t = (struct tree){ 0 };
}

static int badness(char sign)
{
    static const char order[] = " =o.~-!";
    const char *at = strchr(order, sign);
    return at ? (int)(at - order) : 0;
}

void tree_signs(struct tree *t, char (*sign)(const void *arg, uint32_t leaf), const void *arg)
{
    for (uint32_t i = 0; i < t->count; i++)
        t->nodes[i].sign = t->nodes[i].leaf == TREE_NONE ? ' ' : sign(arg, t->nodes[i].leaf);
    for (uint32_t i = t->count; i-- > 1;) {
        struct tree_node *p = &t->nodes[t->nodes[i].parent];
        if (badness(t->nodes[i].sign) > badness(p->sign))
            p->sign = t->nodes[i].sign;
    }
}

uint32_t tree_below(const struct tree *t, uint32_t top, uint32_t node)
{
    if (t->nodes[node].first != TREE_NONE)
        return t->nodes[node].first;
    while (node != top && t->nodes[node].next == TREE_NONE)
        node = t->nodes[node].parent;
    return node == top ? TREE_NONE : t->nodes[node].next;
}

uint32_t tree_first_leaf(const struct tree *t, uint32_t node)
{
    while (node != TREE_NONE && t->nodes[node].leaf == TREE_NONE)
        node = tree_below(t, node, node);
    return node;
}

void tree_mark(struct tree *t, uint32_t node)
{
    bool mark = t->nodes[node].marked < t->nodes[node].leaves;
    for (uint32_t n = node; n != TREE_NONE; n = tree_below(t, node, n)) {
        struct tree_node *at = &t->nodes[n];
        if (at->leaf == TREE_NONE || (at->marked == 1) == mark)
            continue;
        for (uint32_t p = n; p != TREE_NONE; p = t->nodes[p].parent)
            t->nodes[p].marked += mark ? 1 : UINT32_MAX;      /* UINT32_MAX: one less */
    }
}

void tree_unmark(struct tree *t)
{
    for (uint32_t n = 0; n < t->count; n++)
        t->nodes[n].marked = 0;
}

uint32_t tree_selected(const struct tree *t)
{
    return t->list.count ? t->rows[t->list.selected] : TREE_NONE;
}

static uint32_t next_row(const struct tree *t, uint32_t n)
{
    const struct tree_node *at = &t->nodes[n];
    if (at->first != TREE_NONE && (at->open || t->filtered || n == 0))
        return at->first;
    while (n != TREE_NONE && t->nodes[n].next == TREE_NONE)
        n = t->nodes[n].parent;
    return n == TREE_NONE ? TREE_NONE : t->nodes[n].next;
}

/* Past a node and all below it. */
static uint32_t skip_row(const struct tree *t, uint32_t n)
{
    while (n != TREE_NONE && t->nodes[n].next == TREE_NONE)
        n = t->nodes[n].parent;
    return n == TREE_NONE ? TREE_NONE : t->nodes[n].next;
}

void tree_rows(struct tree *t)
{
    if (!t->built)
        return;
    uint32_t selected = tree_selected(t);
    size_t count = 0, found = SIZE_MAX;
    for (uint32_t n = t->nodes[0].first; n != TREE_NONE;) {
        if (!t->nodes[n].match) {
            n = skip_row(t, n);
            continue;
        }
        if (n == selected)
            found = count;
        t->rows[count++] = n;
        n = next_row(t, n);
    }
    list_count(&t->list, count);
    if (found != SIZE_MAX) {
        t->list.selected = found;
    } else if (selected != TREE_NONE && count) {         /* folded away: the folder that holds it */
        for (size_t i = 0; i < count; i++)
            for (uint32_t p = t->nodes[selected].parent; p != TREE_NONE && p; p = t->nodes[p].parent)
                if (t->rows[i] == p)
                    t->list.selected = i;
    }
}

void tree_select(struct tree *t, uint32_t node)
{
    if (node == TREE_NONE || !t->built)
        return;
    for (uint32_t p = t->nodes[node].parent; p != TREE_NONE && !t->filtered; p = t->nodes[p].parent)
        t->nodes[p].open = true;         /* a filter shows all that match, folded or not */
    tree_rows(t);
    for (size_t i = 0; i < t->list.count; i++)
        if (t->rows[i] == node)
            t->list.selected = i;
}

void tree_open(struct tree *t, uint32_t node, bool open)
{
    t->nodes[node].open = open;
    for (uint32_t c = t->nodes[node].first; open && c != TREE_NONE && t->nodes[c].next == TREE_NONE; c = t->nodes[c].first)
        t->nodes[c].open = true;         /* a lone folder has nothing to choose from */
    tree_rows(t);
}

void tree_fold_all(struct tree *t, bool open)
{
    for (uint32_t i = 1; i < t->count; i++)
        t->nodes[i].open = open;
    tree_rows(t);
}

void tree_unfold(struct tree *t, size_t rows)
{
    for (uint16_t depth = 1; depth < MOST_LEVELS; depth++) {
        size_t here = 0;
        for (uint32_t i = 1; i < t->count && here <= rows; i++)
            here += t->nodes[i].depth <= depth + 1;
        if (here > rows)
            break;
        for (uint32_t i = 1; i < t->count; i++)
            if (t->nodes[i].depth == depth)
                t->nodes[i].open = true;
    }
    tree_rows(t);
}

uint32_t tree_find_leaf(const struct tree *t, uint32_t leaf)
{
    for (uint32_t i = 1; i < t->count; i++)
        if (t->nodes[i].leaf == leaf)
            return i;
    return TREE_NONE;
}

uint32_t tree_next_match(const struct tree *t, int step)
{
    size_t count = t->list.count, at = t->list.selected;
    for (size_t i = 0; i < count; i++) {
        at = step > 0 ? (at + 1) % count : (at + count - 1) % count;
        const struct tree_node *n = &t->nodes[t->rows[at]];
        if (n->leaf != TREE_NONE && n->match)
            return t->rows[at];
    }
    return TREE_NONE;
}

char *tree_path(const struct tree *t, uint32_t node, char *out, size_t room)
{
    uint32_t parts[MOST_LEVELS];
    int count = 0;
    for (uint32_t n = node; n != TREE_NONE && n && count < MOST_LEVELS; n = t->nodes[n].parent)
        parts[count++] = n;
    size_t used = 0;
    out[0] = '\0';
    while (count-- && used < room) {
        const struct tree_node *n = &t->nodes[parts[count]];
        if (n->group && count)
            continue;                    /* no part of a name */
        int more = snprintf(out + used, room - used, "%.*s%s", (int)n->name_len, n->name, count ? "." : "");
        used += more > 0 ? (size_t)more : 0;
    }
    return out;
}
