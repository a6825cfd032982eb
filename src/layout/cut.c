/* cut.c: slices of a box of a stored array.
 *
 * On one stored axis the elements of a part are those whose digits make an index
 * in [lo, hi). Digits are in lexicographic order of their index, so these are all
 * digit vectors between two given ones, and such an interval is a few boxes:
 *
 *     from 1 2 .     1 [2,e) .    head
 *                    [2,4) . .    middle
 *     to   4 1 .     4 [0,1) .    tail            . any value
 *
 * That is how a cut through the middle of a query group falls apart exactly. The
 * boxes of the axes are multiplied, and each product becomes slices: one for each
 * value of those digits that are not the fastest of their param axis. */
#include "layout/map.h"

#include "base/error.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define BOXES (2 * SL_DIGITS)    /* most boxes of one axis */

void sl_slices_free(struct sl_slices *s)
{
    free(s->items);
    free(s->padding);
    *s = (struct sl_slices){ 0 };
}

/* Makes room for one more of `size` bytes. */
static bool grow(void *items_pointer, size_t count, size_t *room, size_t size)
{
    void **items = items_pointer;
    if (count < *room)
        return true;
    const size_t more = *room ? *room * 2 : 64;
    void *bigger = more > SIZE_MAX / size ? NULL : realloc(*items, more * size);
    if (!bigger)
        return false;
    sl_memory_large((char *)bigger + *room * size, (more - *room) * size);
    *items = bigger;
    *room = more;
    return true;
}

int sl_slices_add(struct sl_slices *out, const struct sl_slice *s, struct sl_error *err)
{
    if (!grow(&out->items, out->count, &out->room, sizeof *s))
        return sl_fail_memory(err, out->room * 2 * sizeof *s);
    out->items[out->count++] = *s;
    return SL_OK;
}

static int add_padding(struct sl_slices *out, const struct sl_padding *p, struct sl_error *err)
{
    if (!grow(&out->padding, out->padding_count, &out->padding_room, sizeof *p))
        return sl_fail_memory(err, out->padding_room * 2 * sizeof *p);
    out->padding[out->padding_count++] = *p;
    return SL_OK;
}

bool sl_block_of(int64_t *lo, int64_t *hi, int32_t index, int32_t count)
{
    const int64_t len = *hi - *lo;
    if (count < 1 || len % count)
        return false;
    *lo += len / count * index;
    *hi = *lo + len / count;
    return true;
}

/* ---- one axis: an interval of indices as boxes of digits ------------------ */

struct digit_box { int64_t from[SL_DIGITS], to[SL_DIGITS]; };

struct interval {
    const struct sl_digit *digits;       /* of one stored axis, slowest first */
    uint32_t count;
    struct digit_box boxes[BOXES];
    uint32_t box_count;
};

/* The first digit vector whose index is at least `index`. After the last one of all comes
 * the vector whose slowest digit is its count. */
static void first_vector(const struct interval *iv, int64_t index, int64_t v[SL_DIGITS])
{
    bool past = false;           /* v is already above: the rest is 0 */
    index = sl_max_i64(index, 0);
    for (uint32_t d = 0; d < iv->count; d++) {
        int64_t inner = 0;       /* highest index of the faster digits */
        for (uint32_t k = d + 1; k < iv->count; k++)
            inner += (iv->digits[k].count - 1) * iv->digits[k].step;
        v[d] = past ? 0 : sl_min_i64(index / iv->digits[d].step, iv->digits[d].count);
        index -= past ? 0 : v[d] * iv->digits[d].step;
        if (!past && (v[d] == iv->digits[d].count || index > inner)) {
            v[d] += v[d] < iv->digits[d].count;
            past = true;
        }
    }
    for (uint32_t d = iv->count; d-- > 1; )
        if (v[d] == iv->digits[d].count) {
            v[d] = 0;
            v[d - 1]++;
        }
}

/* The box of all vectors that begin with prefix[0..d-1] and go on with [from, to). */
static void add_box(struct interval *iv, const int64_t *prefix, uint32_t d, int64_t from, int64_t to)
{
    if (from >= to)
        return;
    struct digit_box *b = &iv->boxes[iv->box_count++];
    for (uint32_t k = 0; k < iv->count; k++) {
        b->from[k] = k < d ? prefix[k] : k == d ? from : 0;
        b->to[k] = k < d ? prefix[k] + 1 : k == d ? to : iv->digits[k].count;
    }
}

/* The slowest digit from `least` on after which v has only zeros. */
static uint32_t last_set(const int64_t *v, uint32_t least, uint32_t count)
{
    uint32_t d = count - 1;
    while (d > least && !v[d])
        d--;
    return d;
}

static void split_interval(struct interval *iv, int64_t lo, int64_t hi)
{
    int64_t a[SL_DIGITS], b[SL_DIGITS];
    uint32_t fork = 0;
    first_vector(iv, lo, a);
    first_vector(iv, hi, b);
    while (fork < iv->count && a[fork] == b[fork])
        fork++;
    if (fork == iv->count)
        return;
    const uint32_t a_end = last_set(a, fork, iv->count), b_end = last_set(b, fork, iv->count);

    for (uint32_t d = a_end; d > fork; d--)
        add_box(iv, a, d, a[d] + (d < a_end), iv->digits[d].count);
    add_box(iv, a, fork, a[fork] + (fork < a_end), b[fork]);
    for (uint32_t d = fork + 1; d <= b_end; d++)
        add_box(iv, b, d, 0, b[d]);
}

/* ---- a box of digits becomes slices --------------------------------------- */

/* A digit with its range here, and its step in elements of the tensor. */
struct range {
    int32_t axis;
    int64_t weight, count, from, to, stride;
};

struct emitter {
    const struct sl_part *part;
    const struct sl_map_names *names;
    struct sl_slices *out;
    struct sl_error *err;
    struct range ranges[SL_DIGITS];
    uint32_t count;
    int64_t base;                /* element of the tensor at all ranges' `from` */
};

static bool slower(const struct range *a, const struct range *b)
{
    return a->axis != b->axis ? a->axis < b->axis
         : a->axis >= 0       ? a->weight > b->weight
                              : a->stride > b->stride;
}

static void sort_ranges(struct emitter *e)
{
    for (uint32_t i = 1; i < e->count; i++)
        for (uint32_t k = i; k > 0 && slower(&e->ranges[k], &e->ranges[k - 1]); k--) {
            const struct range r = e->ranges[k];
            e->ranges[k] = e->ranges[k - 1];
            e->ranges[k - 1] = r;
        }
}

/* Neighbouring digits of one axis (or of padding) that run on as one: the faster one is
 * whole, and one step of the slower one is the whole faster one, on both sides. */
static void join_ranges(struct emitter *e)
{
    for (uint32_t i = e->count; i-- > 1; ) {
        struct range *outer = &e->ranges[i - 1];
        const struct range inner = e->ranges[i];
        const bool same_kind = outer->axis == inner.axis && (outer->axis >= 0 || outer->axis == SL_DIGIT_NONE);
        if (!same_kind || inner.from || inner.to != inner.count || outer->stride != inner.count * inner.stride)
            continue;
        *outer = (struct range){ .axis = inner.axis, .weight = inner.weight, .stride = inner.stride,
                                 .count = outer->count * inner.count,
                                 .from = outer->from * inner.count, .to = outer->to * inner.count };
        memmove(&e->ranges[i], &e->ranges[i + 1], (--e->count - i) * sizeof e->ranges[0]);
    }
}

/* Is range i one whose values lie in one slice? The fastest of each axis is. */
static bool is_inner(const struct emitter *e, uint32_t i)
{
    const struct range *r = &e->ranges[i];
    if (e->part->param)
        return r->axis >= 0 && (i + 1 == e->count || e->ranges[i + 1].axis != r->axis);
    return i + 1 == e->count && r->stride == 1;
}

/* The slice (or run of padding) at one value of each outer range. */
static int emit_one(const struct emitter *e, const int64_t *value)
{
    struct sl_slice s = { .tensor = e->names->tensor, .base = e->base, .op = e->names->op };
    int64_t layer = e->names->layer, expert = e->names->expert, run = 1;
    for (uint32_t a = 0; a < e->part->ndim; a++)
        s.hi[a] = 1;
    for (uint32_t i = 0; i < e->count; i++) {
        const struct range *r = &e->ranges[i];
        const bool inner = is_inner(e, i);
        if (!inner)
            s.base += (value[i] - r->from) * r->stride;
        if (r->axis == SL_DIGIT_LAYER)
            layer += value[i];
        else if (r->axis == SL_DIGIT_EXPERT)
            expert += value[i];
        else if (r->axis >= 0 && !inner) {
            s.lo[r->axis] += value[i] * r->weight;
            s.hi[r->axis] += value[i] * r->weight;
        } else if (r->axis >= 0) {
            s.hi[r->axis] += r->to - 1;
            s.lo[r->axis] += r->from;
            s.stride[r->axis] = r->stride;
        } else if (inner) {
            run = r->to - r->from;
        }
    }
    if (!e->part->param)
        return add_padding(e->out, &(struct sl_padding){ s.tensor, s.base, run }, e->err);

    const int64_t param = e->names->find(e->names->arg, e->part->param, (int32_t)layer, (int32_t)expert);
    if (param < 0)
        return sl_fail(e->err, SL_INPUT, e->part->param, "the model has no such weight for layer %lld, "
                       "expert %lld", (long long)layer, (long long)expert);
    s.param = (uint32_t)param;
    return sl_slices_add(e->out, &s, e->err);
}

static int emit_all(struct emitter *e)
{
    int64_t value[SL_DIGITS];
    sort_ranges(e);
    join_ranges(e);
    for (uint32_t i = 0; i < e->count; i++)
        value[i] = e->ranges[i].from;
    for (;;) {
        const int rc = emit_one(e, value);
        if (rc)
            return rc;
        uint32_t i = e->count;
        while (i > 0 && (is_inner(e, i - 1) || ++value[i - 1] == e->ranges[i - 1].to)) {
            i--;
            value[i] = e->ranges[i].from;
        }
        if (!i)
            return SL_OK;
    }
}

/* ---- a part ---------------------------------------------------------------- */

/* Row-major strides of an array of shape hi - lo. */
static void box_strides(uint32_t ndim, const int64_t *lo, const int64_t *hi, int64_t *stride)
{
    int64_t step = 1;
    for (uint32_t a = ndim; a-- > 0; ) {
        stride[a] = step;
        step *= hi[a] - lo[a];
    }
}

static int part_slices(const struct sl_stored *stored, const struct sl_part *part,
                       const int64_t *lo, const int64_t *hi, const struct sl_map_names *names,
                       struct sl_slices *out, struct sl_error *err)
{
    struct interval iv[SL_AXES];
    int64_t stride[SL_AXES];
    uint32_t pick[SL_AXES] = { 0 };
    box_strides(stored->ndim, lo, hi, stride);
    for (uint32_t a = 0, d = 0; a < stored->ndim; a++) {
        static const struct sl_digit only = { .count = 1, .step = 1, .axis = SL_DIGIT_NONE };
        const uint32_t first_digit = d;
        while (d < part->digit_count && part->digits[d].stored == a)
            d++;
        iv[a].digits = d > first_digit ? &part->digits[first_digit] : &only;
        iv[a].count = d > first_digit ? d - first_digit : 1;
        iv[a].box_count = 0;
        split_interval(&iv[a], lo[a] - part->first[a], hi[a] - part->first[a]);
        if (!iv[a].box_count)
            return SL_OK;
    }

    for (;;) {
        struct emitter e = { .part = part, .names = names, .out = out, .err = err };
        for (uint32_t a = 0; a < stored->ndim; a++) {
            const struct digit_box *box = &iv[a].boxes[pick[a]];
            e.base += (part->first[a] - lo[a]) * stride[a];
            for (uint32_t k = 0; k < iv[a].count; k++) {
                const struct sl_digit *d = &iv[a].digits[k];
                const int64_t step = d->step * stride[a];
                e.base += box->from[k] * step;
                if (d->count > 1)
                    e.ranges[e.count++] = (struct range){ d->axis, d->weight, d->count,
                                                          box->from[k], box->to[k], step };
            }
        }
        const int rc = emit_all(&e);
        if (rc)
            return rc;
        uint32_t a = stored->ndim;
        while (a > 0 && ++pick[a - 1] == iv[a - 1].box_count)
            pick[--a] = 0;
        if (!a)
            return SL_OK;
    }
}

int sl_stored_slices(const struct sl_stored *stored, const int64_t *lo, const int64_t *hi,
                     const struct sl_map_names *names, struct sl_slices *out, struct sl_error *err)
{
    for (size_t i = 0; i < stored->part_count; i++) {
        const int rc = part_slices(stored, &stored->parts[i], lo, hi, names, out, err);
        if (rc)
            return rc;
    }
    return SL_OK;
}
