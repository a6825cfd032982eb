/* group.c: folds what is numbered and alike. Two are alike when all below
 * them has the same names, dtypes, shapes, splits and expert ranks in the same
 * order, and no finding tells them apart. */
#include "tui/tree.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a node looks like, as a number ------------------------------------------------ */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);      /* 2^64 / golden ratio: spreads every bit */
    return h ^ h >> 29;
}

static uint64_t mix_text(uint64_t h, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = mix(h, (unsigned char)s[i]);
    return mix(h, len);
}

static uint64_t leaf_look(const struct tree *t, const struct sl_checkpoint *ck, const struct tree_node *n)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    uint64_t h = mix(1, strchr("~!-", n->sign) ? (uint64_t)n->sign : 0);
    if (t->mode != TREE_LOGICAL) {
        const struct sl_tensor *s = sl_tensor_at(ck, n->leaf);
        h = mix(h, s->dtype);
        for (uint32_t i = 0; i < s->ndim; i++)
            h = mix(h, (uint64_t)s->shape[i]);
        return h;
    }
    const struct sl_logical *l = sl_logical_at(ck, n->leaf);
    h = mix_text(mix(h, l->dtype), l->split_text, strlen(l->split_text));
    for (uint32_t i = 0; i < l->ndim; i++)
        h = mix(h, (uint64_t)l->shape[i]);
    if (l->expert >= 0 && l->piece_count && info->parallel.ep > 1) {
        int32_t rank = sl_tensor_at(ck, l->pieces[0])->rank;
        h = mix(h, rank >= 0 && (size_t)rank < info->rank_count ? (uint64_t)info->ranks[rank].ep : UINT64_MAX);
    }
    return h;
}

/* Children have larger numbers than their parent, so one walk from the end sees them first. */
static uint64_t *looks_of(const struct tree *t, const struct sl_checkpoint *ck)
{
    uint64_t *look = calloc(t->count + 1, sizeof *look);
    for (uint32_t i = t->count; look && i-- > 1;) {
        const struct tree_node *n = &t->nodes[i];
        if (n->group)
            continue;
        if (n->leaf != TREE_NONE)
            look[i] = leaf_look(t, ck, n);
        if (n->leaves && n->parent != TREE_NONE)
            look[n->parent] = mix(look[n->parent], mix_text(look[i], n->name, n->name_len));
    }
    return look;
}

/* The number at the end of a name, -1 where it is not one that counts: a name that is a number, or
 * weight7 and bias7 of grouped experts. *prefix: bytes before it. */
static long number_of(const struct tree_node *n, uint32_t *prefix)
{
    static const char *const words[] = { "", "weight", "bias" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        uint32_t len = (uint32_t)strlen(words[i]);
        long v = 0;
        if (n->name_len <= len || n->name_len - len > 9 || memcmp(n->name, words[i], len))
            continue;
        for (*prefix = len; len < n->name_len && n->name[len] >= '0' && n->name[len] <= '9'; len++)
            v = v * 10 + (n->name[len] - '0');
        if (len == n->name_len)
            return v;
    }
    return -1;
}

/* ---- old groups away ------------------------------------------------------------------------ */

/* The members of each group go back to their folder; what was open stays so in them. */
static void flatten(struct tree *t, bool *was_open)
{
    for (uint32_t f = 0; f < t->count; f++) {
        struct tree_node *folder = &t->nodes[f];
        uint32_t *link = &folder->first, last = TREE_NONE;
        for (uint32_t c = folder->first; c != TREE_NONE && !folder->group; c = *link) {
            struct tree_node *n = &t->nodes[c];
            if (!n->group) {
                last = c;
                link = &n->next;
                continue;
            }
            for (uint32_t m = n->first; m != TREE_NONE; m = t->nodes[m].next) {
                t->nodes[m].parent = f;
                was_open[m] = n->open;
            }
            t->nodes[n->last].next = n->next;
            *link = n->first;
            n->first = n->last = TREE_NONE;
        }
        if (!folder->group)
            folder->last = last;
    }
}

/* ---- new ones ---------------------------------------------------------------------------------- */

struct regroup {
    struct tree *t;
    const uint64_t *look;
    const bool *was_open;
    struct tree_node *nodes;     /* the new array */
    uint32_t count, room;
    uint32_t *now;               /* old number -> new */
    uint32_t *group;             /* new number of the group that an old node belongs to, TREE_NONE */
};

static uint32_t emit(struct regroup *r, const struct tree_node *like, uint32_t parent)
{
    uint32_t id = r->count++;
    struct tree_node *n = &r->nodes[id], *p = parent == TREE_NONE ? NULL : &r->nodes[parent];
    *n = *like;
    n->parent = parent;
    n->first = n->last = n->next = TREE_NONE;
    n->depth = p ? (uint16_t)(p->depth + 1) : 0;
    if (!p)
        return id;
    if (p->last == TREE_NONE)
        p->first = id;
    else
        r->nodes[p->last].next = id;
    p->last = id;
    return id;
}

/* Length of the run of like folders that begins at n. */
static size_t run_from(const struct regroup *r, uint32_t n)
{
    const struct tree_node *nodes = r->t->nodes;
    size_t length = 1;
    uint32_t prefix = 0, other = 0;
    long number = number_of(&nodes[n], &prefix);
    if (number < 0)
        return 1;
    for (uint32_t c = nodes[n].next; c != TREE_NONE; c = nodes[c].next, length++)
        if ((nodes[c].leaf == TREE_NONE) != (nodes[n].leaf == TREE_NONE) || number_of(&nodes[c], &other) != number + (long)length ||
            prefix != other || memcmp(nodes[c].name, nodes[n].name, prefix) || r->look[c] != r->look[n])
            break;
    return length;
}

static bool begin_group(struct regroup *r, uint32_t n, size_t length)
{
    struct tree *t = r->t;
    struct tree_node g = { .leaf = TREE_NONE, .sign = ' ', .match = t->nodes[n].match, .group = true, .open = r->was_open[n] };
    uint32_t c = n, id = emit(r, &g, r->now[t->nodes[n].parent]);
    for (size_t i = 0; i < length; i++, c = t->nodes[c].next) {
        const struct tree_node *m = &t->nodes[c];
        r->group[c] = id;
        g.leaves += m->leaves;
        g.bytes += m->bytes;
        g.marked += m->marked;
        g.match |= m->match;
        g.sign = m->sign;
    }
    struct tree_node *made = &r->nodes[id];
    made->leaves = g.leaves;
    made->bytes = g.bytes;
    made->marked = g.marked;
    made->match = g.match;
    made->sign = g.sign;
    uint32_t prefix = 0;
    const long first = number_of(&t->nodes[n], &prefix);
    made->name = sl_arena_printf(&t->arena, "%.*s%ld-%ld", (int)prefix, t->nodes[n].name, first, first + (long)length - 1);
    made->name_len = made->name ? (uint32_t)strlen(made->name) : 0;
    return made->name != NULL;
}

static bool rebuild(struct regroup *r)
{
    struct tree *t = r->t;
    r->now[0] = emit(r, &t->nodes[0], TREE_NONE);
    for (uint32_t n = tree_below(t, 0, 0); n != TREE_NONE; n = tree_below(t, 0, n)) {
        size_t length = r->group[n] == TREE_NONE ? run_from(r, n) : 1;
        if (length > 1 && !begin_group(r, n, length))
            return false;
        r->now[n] = emit(r, &t->nodes[n], r->group[n] != TREE_NONE ? r->group[n] : r->now[t->nodes[n].parent]);
    }
    return true;
}

bool tree_group(struct tree *t, const struct sl_checkpoint *ck)
{
    enum tree_order order = t->order;
    if (!t->count || (order != ORDER_MODEL && !tree_sort(t, ORDER_MODEL)))
        return t->count == 0;
    struct regroup r = { .t = t, .room = t->count + t->count / 2 + 1 };     /* a group has two members or more */
    bool *was_open = calloc(t->count, sizeof *was_open);
    uint64_t *look = NULL;
    r.nodes = calloc(r.room, sizeof *r.nodes);
    r.now = calloc(t->count, sizeof *r.now);
    r.group = malloc(t->count * sizeof *r.group);
    uint32_t *rows = calloc(r.room, sizeof *rows), selected = t->rows ? tree_selected(t) : TREE_NONE;
    bool good = was_open && r.nodes && r.now && r.group && rows;
    if (good) {
        if (selected != TREE_NONE && t->nodes[selected].group)
            selected = t->nodes[selected].first;
        flatten(t, was_open);
        memset(r.group, 0xff, t->count * sizeof *r.group);
        r.look = look = looks_of(t, ck);
        r.was_open = was_open;
        good = look && rebuild(&r);
    }
    if (good) {
        free(t->nodes);
        free(t->rows);
        t->nodes = r.nodes;
        t->count = r.count;
        t->rows = rows;
        t->list = (struct list){ 0 };
        r.nodes = NULL;
        rows = NULL;
        if (order != ORDER_MODEL)
            good = tree_sort(t, order);
        if (t->built) {
            tree_rows(t);
            uint32_t at = selected == TREE_NONE ? TREE_NONE : r.now[selected];
            for (; at != TREE_NONE && at; at = t->nodes[at].parent)      /* itself, or the folder that hides it */
                for (size_t i = 0; i < t->list.count; i++)
                    if (t->rows[i] == at) {
                        t->list.selected = i;
                        at = 0;
                        break;
                    }
        }
    }
    free(was_open);
    free(look);
    free(r.nodes);
    free(r.now);
    free(r.group);
    free(rows);
    return good;
}
