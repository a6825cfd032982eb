/* boxes.c: see boxes.h. */
#include "plan/boxes.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define FEW 64    /* pairs that are looked at one by one */

uint64_t box_volume(const struct box *b, uint32_t ndim)
{
    uint64_t v = 1;
    for (uint32_t a = 0; a < ndim; a++)
        v *= (uint64_t)(b->hi[a] - b->lo[a]);
    return v;
}

bool box_meet(const struct box *a, const struct box *b, uint32_t ndim, struct box *out)
{
    for (uint32_t k = 0; k < ndim; k++) {
        out->lo[k] = sl_max_i64(a->lo[k], b->lo[k]);
        out->hi[k] = sl_min_i64(a->hi[k], b->hi[k]);
        if (out->lo[k] >= out->hi[k])
            return false;
    }
    return true;
}

uint32_t box_without(const struct box *a, const struct box *b, uint32_t ndim, struct box out[2 * BOX_AXES])
{
    struct box rest = *a, common;
    uint32_t count = 0;
    if (!box_meet(a, b, ndim, &common)) {
        out[0] = *a;
        return 1;
    }
    for (uint32_t k = 0; k < ndim; k++) {
        if (rest.lo[k] < common.lo[k]) {
            out[count] = rest;
            out[count++].hi[k] = common.lo[k];
        }
        if (common.hi[k] < rest.hi[k]) {
            out[count] = rest;
            out[count++].lo[k] = common.hi[k];
        }
        rest.lo[k] = common.lo[k];
        rest.hi[k] = common.hi[k];
    }
    return count;
}

/* ---- sweeping ---------------------------------------------------------------- */

struct entry { int64_t at; size_t index; };    /* a box by its lower corner on the swept axis */

static int by_place(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    return a->at != b->at ? (a->at > b->at) - (a->at < b->at) : (a->index > b->index) - (a->index < b->index);
}

static void sort_entries(struct entry *e, const struct box *boxes, size_t count, uint32_t axis)
{
    for (size_t i = 0; i < count; i++)
        e[i] = (struct entry){ boxes[i].lo[axis], i };
    qsort(e, count, sizeof *e, by_place);
}

/* The axis on which the lower corners take most values. */
static uint32_t busiest_axis(struct entry *e, const struct box *boxes, size_t count, uint32_t ndim)
{
    uint32_t best = 0;
    size_t most = 0;
    for (uint32_t axis = 0; axis < ndim; axis++) {
        size_t distinct = count > 0;
        sort_entries(e, boxes, count, axis);
        for (size_t i = 1; i < count; i++)
            distinct += e[i].at != e[i - 1].at;
        if (distinct > most) {
            most = distinct;
            best = axis;
        }
    }
    return best;
}

/* Boxes of one side that the sweep is in the middle of. */
struct active { size_t *items, count; };

static void drop_passed(struct active *act, const struct box *boxes, uint32_t axis, int64_t at)
{
    size_t kept = 0;
    for (size_t i = 0; i < act->count; i++)
        if (boxes[act->items[i]].hi[axis] > at)
            act->items[kept++] = act->items[i];
    act->count = kept;
}

struct sweep {
    const struct box *boxes[2];
    struct entry *entries[2];
    size_t counts[2];
    struct active active[2];
    uint32_t axis, ndim;
    bool same;                   /* both sides are one set: give each pair once, no box with itself */
};

static int run_sweep(struct sweep *s, int (*give)(void *arg, size_t i, size_t j), void *arg)
{
    size_t next[2] = { 0, 0 };
    struct box common;
    while (next[0] < s->counts[0] || next[1] < s->counts[1]) {
        const int side = next[0] == s->counts[0] ||
                         (next[1] < s->counts[1] && s->entries[1][next[1]].at < s->entries[0][next[0]].at);
        const struct entry e = s->entries[side][next[side]++];
        const struct box *mine = &s->boxes[side][e.index];
        struct active *others = &s->active[!side];
        drop_passed(others, s->boxes[!side], s->axis, e.at);
        for (size_t k = 0; k < others->count; k++) {
            const size_t other = others->items[k];
            if ((s->same && other == e.index) || !box_meet(mine, &s->boxes[!side][other], s->ndim, &common))
                continue;
            const int rc = side ? give(arg, other, e.index) : give(arg, e.index, other);
            if (rc)
                return rc;
        }
        s->active[side].items[s->active[side].count++] = e.index;
    }
    return 0;
}

int boxes_meet(const struct box *a, size_t a_count, const struct box *b, size_t b_count, uint32_t ndim,
               int (*give)(void *arg, size_t i, size_t j), void *arg)
{
    struct box common;
    if (!a_count || !b_count)
        return 0;
    if (a_count == 1 || b_count == 1 || a_count <= FEW / b_count) {
        for (size_t i = 0; i < a_count; i++)
            for (size_t j = 0; j < b_count; j++) {
                const int rc = box_meet(&a[i], &b[j], ndim, &common) ? give(arg, i, j) : 0;
                if (rc)
                    return rc;
            }
        return 0;
    }
    struct entry *entries = malloc((a_count + b_count) * sizeof *entries);
    size_t *items = malloc((a_count + b_count) * sizeof *items);
    int rc = -1;
    if (entries && items) {
        const bool more_a = a_count >= b_count;
        struct sweep s = { .boxes = { a, b }, .entries = { entries, entries + a_count },
                           .counts = { a_count, b_count }, .active = { { items, 0 }, { items + a_count, 0 } },
                           .ndim = ndim, .same = a == b };
        s.axis = busiest_axis(entries, more_a ? a : b, more_a ? a_count : b_count, ndim);
        sort_entries(s.entries[0], a, a_count, s.axis);
        sort_entries(s.entries[1], b, b_count, s.axis);
        rc = run_sweep(&s, give, arg);
    }
    free(entries);
    free(items);
    return rc;
}

struct pair { size_t i, j; };

static int keep_pair(void *arg, size_t i, size_t j)
{
    struct pair *p = arg;
    if (i == j)
        return 0;
    p->i = i < j ? i : j;
    p->j = i < j ? j : i;
    return 1;
}

int boxes_overlap(const struct box *boxes, size_t count, uint32_t ndim, size_t *i, size_t *j)
{
    struct pair p = { 0, 0 };
    const int rc = count < 2 ? 0 : boxes_meet(boxes, count, boxes, count, ndim, keep_pair, &p);
    *i = p.i;
    *j = p.j;
    return rc;
}

/* ---- gaps ----------------------------------------------------------------------- */

static int by_value(const void *x, const void *y)
{
    const int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

/* Volume of the boxes that span [at, ..) of an axis, over the axes after it. */
static uint64_t section(const struct box *const *set, size_t count, uint32_t axis, uint32_t ndim, int64_t at)
{
    uint64_t v = 0;
    for (size_t i = 0; i < count; i++) {
        if (set[i]->lo[axis] > at || set[i]->hi[axis] <= at)
            continue;
        uint64_t one = 1;
        for (uint32_t a = axis + 1; a < ndim; a++)
            one *= (uint64_t)(set[i]->hi[a] - set[i]->lo[a]);
        v += one;
    }
    return v;
}

/* Narrows the gap on one axis to the first stretch in which the set is not full, and the set to
 * the boxes there. */
static void narrow(struct box *gap, const struct box **set, size_t *count, uint32_t axis, uint32_t ndim,
                   int64_t *edges)
{
    uint64_t full = 1;
    size_t edge_count = 0, kept = 0, e = 0;
    for (uint32_t a = axis + 1; a < ndim; a++)
        full *= (uint64_t)(gap->hi[a] - gap->lo[a]);
    edges[edge_count++] = gap->lo[axis];
    edges[edge_count++] = gap->hi[axis];
    for (size_t i = 0; i < *count; i++) {
        edges[edge_count++] = set[i]->lo[axis];
        edges[edge_count++] = set[i]->hi[axis];
    }
    qsort(edges, edge_count, sizeof *edges, by_value);
    while (e + 1 < edge_count && (edges[e] == edges[e + 1] || section(set, *count, axis, ndim, edges[e]) >= full))
        e++;
    if (e + 1 == edge_count)
        return;
    gap->lo[axis] = edges[e];
    const bool empty = section(set, *count, axis, ndim, edges[e]) == 0;
    do
        gap->hi[axis] = edges[++e];
    while (empty && e + 1 < edge_count && section(set, *count, axis, ndim, edges[e]) == 0);
    for (size_t i = 0; i < *count; i++)
        if (set[i]->lo[axis] <= gap->lo[axis] && set[i]->hi[axis] > gap->lo[axis])
            set[kept++] = set[i];
    *count = kept;
}

int boxes_gap(const struct box *whole, const struct box *boxes, size_t count, uint32_t ndim, struct box *gap)
{
    uint64_t held = 0;
    for (size_t i = 0; i < count; i++)
        held += box_volume(&boxes[i], ndim);
    if (held >= box_volume(whole, ndim))
        return 0;
    const struct box **set = malloc((count + 1) * sizeof *set);
    int64_t *edges = malloc((2 * count + 2) * sizeof *edges);
    if (set && edges) {
        size_t left = count;
        *gap = *whole;
        for (size_t i = 0; i < count; i++)
            set[i] = &boxes[i];
        for (uint32_t axis = 0; axis < ndim && left; axis++)
            narrow(gap, set, &left, axis, ndim, edges);
    }
    const int rc = set && edges ? 1 : -1;
    free(set);
    free(edges);
    return rc;
}
