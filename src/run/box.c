/* box.c: the arithmetic of boxes, and reading them in few, large pieces. */
#include "run/box.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/num.h"

#include <inttypes.h>
#include <string.h>

#define GAP_BYTES 4096       /* a read costs about as much time as copying this much */
#define RUN_BYTES 32768      /* runs from here on are read straight to their place */

/* ---- making ---- */

/* The axis of the tensor along which a row-major step moves: the outermost one whose own
 * step is not larger. UINT32_MAX when the step is no multiple of it. */
static uint32_t axis_of_step(const struct sl_tensor *t, const int64_t *row_step, int64_t step)
{
    for (uint32_t j = 0; j < t->ndim; j++)
        if (t->shape[j] > 1 && row_step[j] <= step)
            return step % row_step[j] == 0 ? j : UINT32_MAX;
    return UINT32_MAX;
}

/* Turns row-major steps into steps of the storage, for tensors that are views. Where a box
 * axis runs over the end of a tensor axis that can't be done: row_major stays set. */
static void follow_strides(struct sl_box *b, const struct sl_tensor *t)
{
    int64_t row_step[SL_LIMIT_DIMS], last[SL_LIMIT_DIMS];
    b->row_major = true;
    int64_t step = 1;
    for (uint32_t j = t->ndim; j-- > 0; step *= t->shape[j])
        row_step[j] = step;

    int64_t from = 0, rest = b->from;
    for (uint32_t j = 0; j < t->ndim; j++) {
        last[j] = rest / row_step[j];
        rest %= row_step[j];
        from += last[j] * t->stride[j];
    }
    int64_t steps[SL_AXES] = { 0 };
    for (uint32_t a = 0; a < b->ndim; a++) {
        if (b->count[a] <= 1 || b->from_step[a] == 0)
            continue;
        const uint32_t j = axis_of_step(t, row_step, b->from_step[a]);
        if (j == UINT32_MAX)
            return;
        const int64_t k = b->from_step[a] / row_step[j];
        last[j] += (b->count[a] - 1) * k;
        if (last[j] >= t->shape[j])
            return;
        steps[a] = k * t->stride[j];
    }
    memcpy(b->from_step, steps, sizeof steps);
    b->from = from;
    b->row_major = false;
}

static void swap_axes(struct sl_box *b, uint32_t i, uint32_t j)
{
    const int64_t count = b->count[i], from = b->from_step[i], to = b->to_step[i];
    b->count[i] = b->count[j], b->from_step[i] = b->from_step[j], b->to_step[i] = b->to_step[j];
    b->count[j] = count, b->from_step[j] = from, b->to_step[j] = to;
}

/* Insertion sort of a handful of axes by their step, largest first. */
static void sort_axes(struct sl_box *b, bool by_source)
{
    const int64_t *step = by_source ? b->from_step : b->to_step;
    for (uint32_t i = 1; i < b->ndim; i++)
        for (uint32_t j = i; j > 0 && step[j - 1] < step[j]; j--)
            swap_axes(b, j - 1, j);
}

/* Drops axes of length one and joins neighbours that continue each other on both sides. */
static void merge_axes(struct sl_box *b)
{
    uint32_t n = 0;
    for (uint32_t a = 0; a < b->ndim; a++) {
        if (b->count[a] == 1)
            continue;
        if (n > 0 && b->from_step[n - 1] == b->count[a] * b->from_step[a] &&
            b->to_step[n - 1] == b->count[a] * b->to_step[a]) {
            b->count[n - 1] *= b->count[a];
            b->from_step[n - 1] = b->from_step[a];
            b->to_step[n - 1] = b->to_step[a];
            continue;
        }
        b->count[n] = b->count[a];
        b->from_step[n] = b->from_step[a];
        b->to_step[n] = b->to_step[a];
        n++;
    }
    b->ndim = n;
}

static bool is_nested(const struct sl_box *b)
{
    int64_t extent = 1;
    for (uint32_t a = b->ndim; a-- > 0;) {
        int64_t more;
        if (b->to_step[a] < extent || !sl_mul_i64(b->count[a] - 1, b->to_step[a], &more) ||
            !sl_add_i64(extent, more, &extent))
            return false;
    }
    return true;
}

int sl_box_make(const struct sl_copy *copy, const struct sl_tensor *source, struct sl_box *out,
                struct sl_error *err)
{
    const char *name = source && source->name ? source->name : "padding";
    if (copy->ndim > SL_AXES)
        return sl_fail(err, SL_INPUT, name, "a copy with %u axes; at most %d are known", copy->ndim, SL_AXES);
    *out = (struct sl_box){ .ndim = copy->ndim, .from = copy->source_base, .to = copy->target_base };
    bool empty = false;
    for (uint32_t a = 0; a < copy->ndim; a++) {
        if (copy->count[a] < 0 || copy->source_stride[a] < 0)
            return sl_fail(err, SL_INPUT, name, "a copy with a negative length or step on axis %u", a);
        empty |= copy->count[a] == 0;
        out->count[a] = copy->count[a];
        out->from_step[a] = source ? copy->source_stride[a] : 0;
        out->to_step[a] = copy->target_stride[a];
    }
    if (empty) {
        *out = (struct sl_box){ .ndim = 1, .count = { 0 }, .from_step = { 1 }, .to_step = { 1 } };
        return SL_OK;
    }
    if (source && source->flags & SL_TENSOR_STRIDED)
        follow_strides(out, source);
    if (source && source->flags & SL_TENSOR_SCALED)
        out->row_major = true;           /* no bytes to move: the checkpoint's reader computes them */
    sort_axes(out, false);
    merge_axes(out);
    if (!is_nested(out))
        return sl_fail(err, SL_INPUT, name, "a copy whose steps in the target are not nested");
    return SL_OK;
}

uint64_t sl_box_size(const struct sl_box *b)
{
    uint64_t size = 1;
    for (uint32_t a = 0; a < b->ndim; a++)
        size *= (uint64_t)b->count[a];
    return size;
}

/* ---- ranges ---- */

uint64_t sl_box_before(const struct sl_box *b, int64_t at)
{
    int64_t rest = at - b->to;
    if (rest <= 0)
        return 0;
    uint64_t before = 0, size = sl_box_size(b);
    for (uint32_t a = 0; a < b->ndim && size; a++) {
        size /= (uint64_t)b->count[a];
        const int64_t steps = rest / b->to_step[a];
        if (steps >= b->count[a])
            return before + size * (uint64_t)b->count[a];
        before += (uint64_t)steps * size;
        rest -= steps * b->to_step[a];
    }
    return before + (size && rest > 0);
}

bool sl_box_next(const struct sl_box *b, uint64_t *at, uint64_t end, struct sl_box *part)
{
    if (*at >= end)
        return false;

    /* the innermost axes that are taken whole: `size` elements of axes k.. */
    uint32_t k = b->ndim;
    uint64_t size = 1;
    while (k > 0) {
        const uint64_t more = size * (uint64_t)b->count[k - 1];
        if (*at % more || more > end - *at)
            break;
        size = more;
        k--;
    }
    *part = (struct sl_box){ .from = b->from, .to = b->to, .row_major = b->row_major };
    uint64_t rest = *at / size;
    for (uint32_t a = k; a-- > 0;) {
        const int64_t index = (int64_t)(rest % (uint64_t)b->count[a]);
        rest /= (uint64_t)b->count[a];
        part->from += index * b->from_step[a];
        part->to += index * b->to_step[a];
    }
    uint64_t steps = 1;
    if (k > 0) {    /* and several steps of the axis around them, as far as it goes */
        const uint64_t length = (uint64_t)b->count[k - 1];
        steps = sl_min_u64((end - *at) / size, length - *at / size % length);
        part->count[0] = (int64_t)steps;
        part->from_step[0] = b->from_step[k - 1];
        part->to_step[0] = b->to_step[k - 1];
        part->ndim = 1;
    }
    for (uint32_t a = k; a < b->ndim; a++, part->ndim++) {
        part->count[part->ndim] = b->count[a];
        part->from_step[part->ndim] = b->from_step[a];
        part->to_step[part->ndim] = b->to_step[a];
    }
    *at += steps * size;
    merge_axes(part);
    return true;
}

/* ---- moving elements in memory ---- */

/* One step of the first `axes` axes, last of them fastest. False after the last. */
static bool step_axes(const struct sl_box *b, uint32_t axes, int64_t *index, int64_t *from, int64_t *to)
{
    for (uint32_t a = axes; a-- > 0;) {
        *from += b->from_step[a];
        *to += b->to_step[a];
        if (++index[a] < b->count[a])
            return true;
        *from -= b->count[a] * b->from_step[a];
        *to -= b->count[a] * b->to_step[a];
        index[a] = 0;
    }
    return false;
}

/* Is its last axis a run: dense on both sides? */
static bool ends_in_run(const struct sl_box *b)
{
    return b->ndim > 0 && b->from_step[b->ndim - 1] == 1 && b->to_step[b->ndim - 1] == 1;
}

#define TILE 32    /* square of elements that stays in the first cache on both sides */

struct plane { int64_t rows, columns, from_row, from_column, to_row, to_column; };

#define MOVE_PLANE(SIZE)                                                                                   \
    for (int64_t r0 = 0; r0 < p->rows; r0 += TILE)                                                         \
        for (int64_t c0 = 0; c0 < p->columns; c0 += TILE) {                                                \
            const int64_t r1 = sl_min_i64(p->rows, r0 + TILE), c1 = sl_min_i64(p->columns, c0 + TILE);     \
            for (int64_t r = r0; r < r1; r++)                                                              \
                for (int64_t c = c0; c < c1; c++)                                                          \
                    memcpy(to + (r * p->to_row + c * p->to_column) * (SIZE),                               \
                           from + (r * p->from_row + c * p->from_column) * (SIZE), (size_t)(SIZE));        \
        }

static void move_plane(const struct plane *p, int64_t size, const unsigned char *from, unsigned char *to)
{
    switch (size) {
    case 1:  MOVE_PLANE(1) break;
    case 2:  MOVE_PLANE(2) break;
    case 4:  MOVE_PLANE(4) break;
    case 8:  MOVE_PLANE(8) break;
    default: MOVE_PLANE(size) break;
    }
}

/* A box without runs: a transpose. The last axis (fastest in the target) and the axis that
 * is fastest in the source make planes, which are moved in tiles. */
static void move_transposed(struct sl_box b, int64_t size, const unsigned char *from, unsigned char *to)
{
    struct plane p = { .rows = 1, .columns = 1 };
    uint32_t outer = 0;
    if (b.ndim > 0) {
        const uint32_t column = b.ndim - 1;
        uint32_t row = column;
        for (uint32_t a = 0; a < column; a++)
            if (row == column || b.from_step[a] < b.from_step[row])
                row = a;
        p.columns = b.count[column];
        p.from_column = b.from_step[column];
        p.to_column = b.to_step[column];
        if (row != column) {
            p.rows = b.count[row];
            p.from_row = b.from_step[row];
            p.to_row = b.to_step[row];
            swap_axes(&b, row, column - 1);
            outer = column - 1;
        }
    }
    int64_t index[SL_AXES] = { 0 }, f = 0, t = 0;
    do
        move_plane(&p, size, from + f * size, to + t * size);
    while (step_axes(&b, outer, index, &f, &t));
}

/* Moves a box from memory to memory; from and to point at its first element. */
static void move_box(const struct sl_box *b, size_t element_size, const unsigned char *from,
                     unsigned char *to)
{
    const int64_t size = (int64_t)element_size;
    if (!ends_in_run(b)) {
        move_transposed(*b, size, from, to);
        return;
    }
    const size_t run = (size_t)(b->count[b->ndim - 1] * size);
    int64_t index[SL_AXES] = { 0 }, f = 0, t = 0;
    do
        memcpy(to + t * size, from + f * size, run);
    while (step_axes(b, b->ndim - 1, index, &f, &t));
}

void sl_fill_box(const struct sl_box *part, size_t element_size, unsigned char *out, int64_t first)
{
    const int64_t size = (int64_t)element_size;
    const bool run = part->ndim > 0 && part->to_step[part->ndim - 1] == 1;
    const uint32_t outer = run ? part->ndim - 1 : part->ndim;
    const size_t bytes = run ? (size_t)(part->count[outer] * size) : element_size;
    int64_t index[SL_AXES] = { 0 }, from = 0, to = 0;
    do
        memset(out + (part->to - first + to) * size, 0, bytes);
    while (step_axes(part, outer, index, &from, &to));
}

/* ---- reading ---- */

static int read_span(struct sl_fetch *f, int64_t from, void *buf, int64_t count, struct sl_error *err)
{
    const int64_t size = (int64_t)sl_dtype_size(f->tensor->dtype);
    f->read += (uint64_t)(count * size);
    return sl_ckpt_read(f->ckpt, f->tensor, from * size, buf, (size_t)(count * size), err);
}

/* Do bytes of the source become bytes of the target as they are? */
static bool is_plain(const struct sl_fetch *f)
{
    return f->tensor->dtype == f->dtype && f->op.kind == SL_OP_NONE;
}

/* The op and the cast of neighbouring elements of the source. */
static int cast(struct sl_fetch *f, const void *in, void *out, size_t count, struct sl_error *err)
{
    if (!sl_op_apply(f->op, f->tensor->dtype, in, f->dtype, out, count))
        return sl_fail(err, SL_UNSUPPORTED, f->tensor->name, "%s can't be cast to %s%s",
                       sl_dtype_name(f->tensor->dtype), sl_dtype_name(f->dtype),
                       f->op.kind == SL_OP_NONE ? "" : " with arithmetic on the way");
    return SL_OK;
}

static unsigned char *place_of(const struct sl_fetch *f, int64_t to)
{
    return f->out + (to - f->first) * (int64_t)sl_dtype_size(f->dtype);
}

/* Dense on both sides. */
static int fetch_run(struct sl_fetch *f, int64_t from, int64_t to, int64_t count, struct sl_error *err)
{
    if (is_plain(f))
        return read_span(f, from, place_of(f, to), count, err);
    const int64_t room = (int64_t)(f->scratch_len / sl_dtype_size(f->tensor->dtype));
    for (int64_t done = 0; done < count;) {
        const int64_t n = sl_min_i64(count - done, room);
        int code = read_span(f, from + done, f->scratch, n, err);
        if (!code)
            code = cast(f, f->scratch, place_of(f, to + done), (size_t)n, err);
        if (code)
            return code;
        done += n;
    }
    return SL_OK;
}

/* One run after the other through the checkpoint's own element reader. */
static int fetch_row_major(struct sl_fetch *f, const struct sl_box *part, struct sl_error *err)
{
    const bool run = ends_in_run(part);
    const uint32_t outer = run ? part->ndim - 1 : part->ndim;
    const int64_t length = run ? part->count[outer] : 1;
    const uint32_t size = sl_dtype_size(f->tensor->dtype);
    const int64_t room = (int64_t)(f->scratch_len / size);
    int64_t index[SL_AXES] = { 0 }, from = part->from, to = part->to;
    do {
        for (int64_t done = 0; done < length;) {
            const int64_t n = sl_min_i64(length - done, room);
            int code = sl_ckpt_read_elements(f->ckpt, f->tensor, (uint64_t)(from + done), (uint64_t)n,
                                             f->scratch, err);
            if (!code && is_plain(f))
                memcpy(place_of(f, to + done), f->scratch, (size_t)n * size);
            else if (!code)
                code = cast(f, f->scratch, place_of(f, to + done), (size_t)n, err);
            if (code)
                return code;
            f->read += (uint64_t)n * size;
            done += n;
        }
    } while (step_axes(part, outer, index, &from, &to));
    return SL_OK;
}

/* How a box is read. Axes are sorted by their step in the source; the last `inner` of them
 * are read as one span, of the first of these only `steps` at a time. */
struct reading { struct sl_box box; uint32_t inner; int64_t steps; int64_t span; };

static struct reading plan_reading(const struct sl_box *part, int64_t element_size, int64_t room)
{
    struct reading r = { .box = *part, .steps = 1, .span = 1 };
    sort_axes(&r.box, true);
    const uint32_t last = r.box.ndim - 1;
    if (ends_in_run(&r.box) && r.box.count[last] * element_size >= RUN_BYTES) {
        r.inner = 1;
        r.steps = r.span = r.box.count[last];
        return r;
    }
    for (uint32_t a = r.box.ndim; a-- > 0;) {
        const int64_t step = r.box.from_step[a], count = r.box.count[a];
        if ((step - r.span) * element_size > GAP_BYTES)
            break;
        const int64_t most = step == 0 ? count : sl_min_i64(count, (room - r.span) / step + 1);
        if (most == 1)
            break;
        r.inner++;
        r.steps = most;
        r.span += (most - 1) * step;
        if (most < count)
            break;
    }
    return r;
}

/* Reads a span of the source that holds `box` (from is its first element) and moves it. */
static int fetch_span(struct sl_fetch *f, const struct sl_box *box, int64_t span, size_t raw_len,
                      struct sl_error *err)
{
    int code = read_span(f, box->from, f->scratch, span, err);
    const unsigned char *held = f->scratch;
    if (!code && !is_plain(f)) {
        code = cast(f, f->scratch, f->scratch + raw_len, (size_t)span, err);
        held = f->scratch + raw_len;
    }
    if (!code)
        move_box(box, sl_dtype_size(f->dtype), held, place_of(f, box->to));
    return code;
}

/* The axes inside a span, from the target's side: sorted by its steps and merged. */
static struct sl_box inner_box(const struct reading *r, int64_t steps)
{
    struct sl_box b = { .ndim = r->inner };
    const uint32_t outer = r->box.ndim - r->inner;
    for (uint32_t a = 0; a < r->inner; a++) {
        b.count[a] = a == 0 ? steps : r->box.count[outer + a];
        b.from_step[a] = r->box.from_step[outer + a];
        b.to_step[a] = r->box.to_step[outer + a];
    }
    sort_axes(&b, false);
    merge_axes(&b);
    return b;
}

/* Every span at one place of the outer axes. */
static int fetch_spans(struct sl_fetch *f, const struct reading *r, int64_t from, int64_t to,
                       size_t raw_len, struct sl_error *err)
{
    const uint32_t split = r->box.ndim - r->inner;
    const int64_t count = r->inner ? r->box.count[split] : 1;
    int code = SL_OK;
    for (int64_t done = 0; !code && done < count;) {
        const int64_t steps = sl_min_i64(r->steps, count - done);
        const int64_t less = r->inner ? (r->steps - steps) * r->box.from_step[split] : 0;
        struct sl_box b = inner_box(r, steps);
        b.from = from + (r->inner ? done * r->box.from_step[split] : 0);
        b.to = to + (r->inner ? done * r->box.to_step[split] : 0);
        if (b.ndim == 0 || (b.ndim == 1 && ends_in_run(&b)))
            code = fetch_run(f, b.from, b.to, b.ndim ? b.count[0] : 1, err);
        else
            code = fetch_span(f, &b, r->span - less, raw_len, err);
        done += steps;
    }
    return code;
}

int sl_fetch_box(struct sl_fetch *f, const struct sl_box *part, struct sl_error *err)
{
    if (part->row_major)
        return fetch_row_major(f, part, err);
    if (part->ndim == 0)
        return fetch_run(f, part->from, part->to, 1, err);
    if (part->ndim == 1 && ends_in_run(part))
        return fetch_run(f, part->from, part->to, part->count[0], err);

    /* with a cast or an op the scratch holds elements of both types, each part aligned */
    const size_t from_size = sl_dtype_size(f->tensor->dtype), to_size = sl_dtype_size(f->dtype);
    const size_t both = is_plain(f) ? from_size : from_size + to_size;
    const size_t room = f->scratch_len / both & ~(size_t)7;
    const size_t raw_len = room * from_size;
    const struct reading r = plan_reading(part, (int64_t)from_size, (int64_t)room);
    const uint32_t outer = r.box.ndim - r.inner;
    int64_t index[SL_AXES] = { 0 }, from = part->from, to = part->to;
    int code;
    do
        code = fetch_spans(f, &r, from, to, raw_len, err);
    while (!code && step_axes(&r.box, outer, index, &from, &to));
    return code;
}
