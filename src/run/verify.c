/* verify.c: two checkpoints over their layouts, weight by weight, streaming: are
 * they equal bit for bit (verify), or how far are they apart (diff).
 *
 * Each copy of the comparison is walked once, in the order of B's side. Its two
 * sides are seen as boxes that lie, dense, in the same place:
 *
 *     A  strided in its tensor  ->  element 0 .. n-1 of the copy  <-  B, strided too
 *
 * so a range of the copy is gathered from both and compared in memory.
 */
#include "run/box.h"
#include "run/compare.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define BLOCK 1024u                      /* elements turned into doubles at a time */
#define SHOWN_MOST (UINT64_C(1) << 30)   /* bytes that strides may repeat, in any case */
#define SHOWN_TIMES 1024                 /* or this many times what there is */

struct compare {
    struct sl_ckpt *a, *b;
    const struct sl_layout *la, *lb;
    struct sl_comparison c;
    struct sl_arena arena;               /* of c */
    bool measure;                        /* diff */
    uint32_t *params;                    /* params of A that are compared; by result */
    size_t param_count;
};

/* One side of a copy. */
struct side { struct sl_ckpt *ckpt; const struct sl_tensor *tensor; enum sl_dtype dtype; struct sl_box box; };

/* ---- comparing memory ----------------------------------------------------------- */

static uint64_t first_difference(const unsigned char *a, const unsigned char *b, size_t count, size_t size)
{
    size_t i = 0;
    while (i < count && !memcmp(a + i * size, b + i * size, size))
        i++;
    return i;
}

static void note_first(struct sl_sums *s, const struct sl_copy *copy, uint64_t at)
{
    if (s->first != UINT64_MAX)
        return;
    s->first = s->count + at;
    s->copy = copy;
    s->at = at;
}

static void count_differences(struct sl_sums *s, const struct sl_copy *copy, uint64_t at, const unsigned char *a,
                              const unsigned char *b, size_t count, size_t size)
{
    if (!memcmp(a, b, count * size))
        return;
    const uint64_t first = first_difference(a, b, count, size);
    note_first(s, copy, at + first);
    for (size_t i = (size_t)first; i < count; i++)
        s->different += memcmp(a + i * size, b + i * size, size) != 0;
}

static void to_doubles(enum sl_dtype dtype, const unsigned char *in, double *out, size_t count)
{
    if (dtype == SL_F64)
        memcpy(out, in, count * sizeof *out);
    else if (!sl_dtype_cast(dtype, in, SL_F64, out, count))
        for (size_t i = 0; i < count; i++)
            out[i] = sl_dtype_load(dtype, in + i * sl_dtype_size(dtype));
}

static void add_doubles(struct sl_sums *s, const double *x, const double *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i]))
            continue;                    /* counted as different where the bits are */
        const double d = fabs(y[i] - x[i]);
        s->max = d > s->max ? d : s->max;
        s->sum += d;
        s->sum2 += d * d;
        s->a2 += x[i] * x[i];
        s->b2 += y[i] * y[i];
        s->ab += x[i] * y[i];
    }
}

/* Elements of other dtypes differ where their values do. */
static void count_values(struct sl_sums *s, const struct sl_copy *copy, uint64_t at, const double *x, const double *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (x[i] >= y[i] && x[i] <= y[i])
            continue;
        note_first(s, copy, at + i);
        s->different++;
    }
}

static void measure(struct sl_sums *s, const struct sl_copy *copy, uint64_t at, const struct side *a, const unsigned char *p,
                    const struct side *b, const unsigned char *q, size_t count)
{
    const size_t sa = sl_dtype_size(a->dtype), sb = sl_dtype_size(b->dtype);
    double x[BLOCK], y[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        const size_t n = sl_min_u64(BLOCK, count - i);
        to_doubles(a->dtype, p + i * sa, x, n);
        to_doubles(b->dtype, q + i * sb, y, n);
        add_doubles(s, x, y, n);
        if (a->dtype != b->dtype)
            count_values(s, copy, at + i, x, y, n);
    }
}

/* Elements that the two sides store in different ways (a norm weight around zero and around one):
 * an element is equal when converting one side gives the bits of the other, whichever side that is,
 * so that comparing B with A says the same as comparing A with B. */
static int compare_converted(struct sl_sums *s, const struct sl_copy *copy, uint64_t at, const struct side *a, const unsigned char *p,
                             const struct side *b, const unsigned char *q, size_t count, bool how_far, struct sl_error *err)
{
    const size_t sa = sl_dtype_size(a->dtype), sb = sl_dtype_size(b->dtype);
    const struct sl_op back = sl_op_inverse(copy->op);
    unsigned char as_b[BLOCK * sizeof(double)], as_a[BLOCK * sizeof(double)];
    double x[BLOCK], y[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        const size_t n = sl_min_u64(BLOCK, count - i);
        if (!sl_op_apply(copy->op, a->dtype, p + i * sa, b->dtype, as_b, n) ||
            !sl_op_apply(back, b->dtype, q + i * sb, a->dtype, as_a, n))
            return sl_fail(err, SL_UNSUPPORTED, a->tensor->name, "%s and %s can't be compared with arithmetic between them",
                           sl_dtype_name(a->dtype), sl_dtype_name(b->dtype));
        to_doubles(b->dtype, as_b, x, n);
        to_doubles(b->dtype, q + i * sb, y, n);
        for (size_t k = 0; k < n; k++) {
            if (!memcmp(as_b + k * sb, q + (i + k) * sb, sb) || !memcmp(as_a + k * sa, p + (i + k) * sa, sa)) {
                x[k] = y[k];             /* not apart, though one of the two was rounded */
                continue;
            }
            note_first(s, copy, at + i + k);
            s->different++;
        }
        if (how_far)
            add_doubles(s, x, y, n);
    }
    return SL_OK;
}

/* ---- walking a copy ------------------------------------------------------------------ */

static int side_make(struct side *side, struct sl_ckpt *ckpt, const struct sl_tensor *tensor, const struct sl_copy *copy,
                     bool source, struct sl_error *err)
{
    struct sl_copy dense = *copy;
    int64_t step = 1;
    dense.source_base = source ? copy->source_base : copy->target_base;
    dense.target_base = 0;
    for (uint32_t k = copy->ndim; k-- > 0; step *= copy->count[k]) {
        dense.source_stride[k] = source ? copy->source_stride[k] : copy->target_stride[k];
        dense.target_stride[k] = step;
    }
    side->ckpt = ckpt;
    side->tensor = tensor;
    side->dtype = tensor->dtype;
    return sl_box_make(&dense, tensor, &side->box, err);
}

/* Elements [first, end) of the copy, as they lie in the tensor of one side, into out. */
static int side_fetch(struct sl_run *r, struct sl_worker *w, const struct side *side, uint64_t first, uint64_t end,
                      unsigned char *out, struct sl_error *err)
{
    struct sl_fetch f = { .ckpt = side->ckpt, .tensor = side->tensor, .dtype = side->dtype, .out = out,
                          .first = (int64_t)first, .scratch = w->scratch, .scratch_len = w->buffer_len };
    struct sl_box part;
    int code = SL_OK;
    for (uint64_t at = first; !code && sl_box_next(&side->box, &at, end, &part);)
        code = sl_fetch_box(&f, &part, err);
    atomic_fetch_add(&r->read_bytes, f.read);
    return code;
}

/* Products of 8-bit floats and factors are compared in the type they were rounded to on the other side. */
static void as_the_other(struct side *x, const struct side *y)
{
    const bool scaled = x->tensor->flags & SL_TENSOR_SCALED, other = y->tensor->flags & SL_TENSOR_SCALED;
    if (scaled && !other && sl_dtype_row(y->tensor->dtype)->is_float)
        x->dtype = y->tensor->dtype;
}

int sl_compare_copy(struct sl_run *r, struct sl_worker *w, const struct sl_pair *pair, const struct sl_copy *copy,
                    struct sl_sums *s, struct sl_error *err)
{
    struct side a, b;
    int code = side_make(&a, pair->a, pair->ta, copy, true, err);
    if (!code)
        code = side_make(&b, pair->b, pair->tb, copy, false, err);
    if (code)
        return code;
    as_the_other(&a, &b);
    as_the_other(&b, &a);
    const size_t sa = sl_dtype_size(a.dtype), sb = sl_dtype_size(b.dtype);
    const bool same = a.dtype == b.dtype;
    const uint64_t count = sl_box_size(&a.box), piece = w->buffer_len / 2 / sl_max_u64(sl_max_u64(sa, sb), 1);
    unsigned char *p = w->buffer, *q = w->buffer + w->buffer_len / 2;
    for (uint64_t first = 0; first < count; first += piece) {
        const uint64_t n = sl_min_u64(piece, count - first);
        code = sl_run_step(r, err);
        sl_worker_turns_to(w, SL_DOING_READ);
        if (!code)
            code = side_fetch(r, w, &a, first, first + n, p, err);
        if (!code)
            code = side_fetch(r, w, &b, first, first + n, q, err);
        sl_worker_turns_to(w, SL_DOING_WORK);
        if (code)
            return code;
        if (copy->op.kind != SL_OP_NONE && (same || pair->measure))
            code = compare_converted(s, copy, first, &a, p, &b, q, (size_t)n, pair->measure, err);
        else if (same)
            count_differences(s, copy, first, p, q, (size_t)n, sa);
        if (code)
            return code;
        if (copy->op.kind == SL_OP_NONE && pair->measure)
            measure(s, copy, first, &a, p, &b, q, (size_t)n);
        sl_worker_moved(r, w, n * sb);
    }
    if (!same && !pair->measure) {       /* other bits, whatever the values are */
        note_first(s, copy, 0);
        s->different += count;
    }
    s->count += count;
    return SL_OK;
}

/* ---- one param --------------------------------------------------------------------------- */

/* Byte offset of an element of a copy in the file of one side. */
static uint64_t offset_of(const struct sl_tensor *t, const struct sl_copy *copy, uint64_t at, bool source)
{
    int64_t element = source ? copy->source_base : copy->target_base, stored = 0;
    for (uint32_t k = copy->ndim; k-- > 0;) {
        const uint64_t n = (uint64_t)copy->count[k];
        element += (int64_t)(at % n) * (source ? copy->source_stride[k] : copy->target_stride[k]);
        at /= n;
    }
    for (uint32_t d = t->ndim; d-- > 0;) {
        const int64_t n = t->shape[d] > 0 ? t->shape[d] : 1;
        stored += element % n * t->stride[d];
        element /= n;
    }
    return t->offset + (uint64_t)stored * sl_dtype_size(t->flags & SL_TENSOR_SCALED ? t->stored : t->dtype);
}

static void place_first(const struct compare *v, const struct sl_sums *s, struct sl_result *out)
{
    const struct sl_tensor *ta = &v->la->tensors[s->copy->source], *tb = &v->lb->tensors[s->copy->target];
    out->a_file = v->a->files[ta->file].name;
    out->b_file = v->b->files[tb->file].name;
    out->a_offset = offset_of(ta, s->copy, s->at, true);
    out->b_offset = offset_of(tb, s->copy, s->at, false);
}

static void result_fill(const struct compare *v, const struct sl_sums *s, struct sl_result *out)
{
    /* elements that one side does not hold (a rank is missing) are not equal */
    uint64_t all = 0;
    const uint64_t held = s->count;
    const uint64_t missing = sl_shape_count(out->shape, out->ndim, &all) && all > held ? all - held : 0;
    out->status = s->different || missing ? SL_RESULT_DIFFERENT : SL_RESULT_EQUAL;
    out->stats.count = s->count;
    out->different = s->different + missing;
    out->first_different = s->first;
    if (s->first != UINT64_MAX)
        place_first(v, s, out);
    if (!v->measure)
        return;
    const double norms = sqrt(s->a2) * sqrt(s->b2);
    out->max_abs = s->max;
    out->mean_abs = s->count ? s->sum / (double)s->count : 0;
    out->relative = s->a2 > 0 ? sqrt(s->sum2 / s->a2) : s->sum2 > 0 ? HUGE_VAL : 0;
    out->cosine = norms > 0 ? s->ab / norms : s->a2 > 0 || s->b2 > 0 ? 0 : 1;
    if (!s->different)
        out->cosine = 1;
}

static int compare_param(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct compare *v = r->job;
    const uint32_t param = v->params[i];
    struct sl_result result = *sl_run_result_at(r, i);
    struct sl_sums s = { .first = UINT64_MAX };
    int code = SL_OK;
    sl_worker_begin(w, SL_PHASE_VERIFY, result.name, result.bytes);
    for (size_t k = v->c.param_first[param]; k < v->c.param_first[param + 1] && !code; k++) {
        const struct sl_copy *copy = &v->c.copies[k];
        const struct sl_pair pair = { v->a, v->b, &v->la->tensors[copy->source], &v->lb->tensors[copy->target], v->measure };
        code = sl_compare_copy(r, w, &pair, copy, &s, err);
    }
    if (!code) {
        result_fill(v, &s, &result);
        atomic_fetch_add(result.status == SL_RESULT_EQUAL ? &r->verified : &r->mismatched, 1);
        code = sl_run_publish(r, w, i, &result, err);
    }
    sl_worker_end(r, w);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static void count_results(struct sl_run *r)
{
    struct sl_summary *s = &r->summary;
    for (size_t i = 0; i < r->result_count; i++)
        switch (sl_run_result_at(r, i)->status) {
        case SL_RESULT_EQUAL: s->equal++; break;
        case SL_RESULT_ONLY_A: s->only_a++; break;
        case SL_RESULT_ONLY_B: s->only_b++; break;
        default: s->different++; break;
        }
}

/* A file of some hundred bytes may show terabytes, by strides of 0: nobody waits for those to be compared. */
static int refuse_endless(const struct sl_ckpt *c, const struct sl_layout *l, struct sl_error *err)
{
    char told[32], kept[32];
    uint64_t shown = 0, held = 0;
    for (size_t i = 0; i < c->tensor_count; i++)
        if (sl_ckpt_repeats(&l->tensors[i]) && !sl_add_u64(shown, l->tensors[i].bytes, &shown))
            shown = UINT64_MAX;
    for (size_t i = 0; i < c->file_count; i++)
        held += c->files[i].size;
    if (shown < SHOWN_MOST || shown / SHOWN_TIMES < held)
        return SL_OK;
    return sl_fail(err, SL_UNSUPPORTED, c->path, "its tensors show %s of values by strides, of files of %s: too much to be compared one by one",
                   sl_text_bytes(shown, told, sizeof told), sl_text_bytes(held, kept, sizeof kept));
}

static int body(struct sl_run *r, struct sl_error *err)
{
    struct compare *v = r->job;
    uint64_t bytes = 0;
    int code = refuse_endless(v->a, v->la, err);
    if (!code)
        code = refuse_endless(v->b, v->lb, err);
    if (code)
        return code;
    for (size_t i = 0; i < v->param_count; i++)
        bytes += sl_run_result_at(r, i)->bytes;
    sl_run_phase(r, SL_PHASE_VERIFY, bytes, v->param_count);
    code = sl_run_each(r, v->param_count, compare_param, err);
    if (!code)
        code = sl_ckpt_unchanged(v->a, err);
    if (!code)
        code = sl_ckpt_unchanged(v->b, err);
    count_results(r);
    sl_run_sum_up(r, v->param_count, bytes);
    r->summary.verified = !code;
    r->summary.verify = "every element read on both sides and compared";
    return code;
}

static void release(struct sl_run *r)
{
    struct compare *v = r->job;
    sl_arena_free(&v->arena);
}

static struct sl_result result_of(const struct sl_layout *l, uint32_t param, enum sl_result_status status)
{
    const struct sl_param *p = &l->params[param];
    const bool held = l->param_first[param + 1] > l->param_first[param];
    struct sl_result out = { .name = p->name, .ndim = p->ndim, .shape = p->shape, .status = status, .first_different = UINT64_MAX };
    if (held) {
        const struct sl_tensor *t = &l->tensors[l->slices[l->param_first[param]].tensor];
        uint64_t count = 0;
        sl_shape_count(p->shape, p->ndim, &count);
        out.dtype = t->dtype;
        out.bytes = count * sl_dtype_size(t->dtype);
    }
    return out;
}

static enum sl_dtype dtype_in(const struct sl_layout *l, const char *param)
{
    uint64_t at;
    if (!sl_map_get(&l->param_index, param, strlen(param), &at) || l->param_first[at + 1] == l->param_first[at])
        return SL_DTYPE_UNKNOWN;
    return l->tensors[l->slices[l->param_first[at]].tensor].dtype;
}

/* Params that are compared first, then those that can't be. */
static int results_make(struct sl_run *r, struct compare *v, struct sl_error *err)
{
    const struct sl_comparison *c = &v->c;
    v->params = SL_ARENA_NEW(&r->arena, uint32_t, v->la->param_count);
    bool *listed = SL_ARENA_NEW(&r->arena, bool, v->la->param_count);
    if (!v->params || !listed)
        return sl_fail_memory(err, v->la->param_count * sizeof *v->params);
    for (size_t i = 0; i < c->only_a_count; i++)
        listed[c->only_a[i]] = true;
    for (size_t i = 0; i < c->shape_differs_count; i++)
        listed[c->shape_differs[i]] = true;
    for (uint32_t i = 0; i < v->la->param_count; i++)
        if (v->la->param_first[i + 1] > v->la->param_first[i] && !listed[i])
            v->params[v->param_count++] = i;
    size_t at = 0;
    struct sl_result result;
    for (size_t i = 0; i < v->param_count; i++) {
        result = result_of(v->la, v->params[i], SL_RESULT_PENDING);
        result.b_dtype = dtype_in(v->lb, result.name);
        sl_run_result_init(r, at++, &result);
    }
    for (size_t i = 0; i < c->shape_differs_count; i++) {
        result = result_of(v->la, c->shape_differs[i], SL_RESULT_SHAPE);
        result.b_dtype = dtype_in(v->lb, result.name);
        sl_run_result_init(r, at++, &result);
    }
    for (size_t i = 0; i < c->only_a_count; i++) {
        result = result_of(v->la, c->only_a[i], SL_RESULT_ONLY_A);
        sl_run_result_init(r, at++, &result);
    }
    for (size_t i = 0; i < c->only_b_count; i++) {
        result = result_of(v->lb, c->only_b[i], SL_RESULT_ONLY_B);
        sl_run_result_init(r, at++, &result);
    }
    return SL_OK;
}

static size_t count_held(const struct sl_layout *l)
{
    size_t count = 0;
    for (size_t i = 0; i < l->param_count; i++)
        count += l->param_first[i + 1] > l->param_first[i];
    return count;
}

static int compare(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb, bool how_far,
                   const struct sl_run_options *options, struct sl_run **out, struct sl_error *err)
{
    struct compare made = { .a = a, .b = b, .la = la, .lb = lb, .measure = how_far };
    struct sl_run *r = NULL;
    struct compare *v = NULL;
    int code = sl_comparison_make(la, lb, &made.arena, &made.c, err);
    if (!code)
        code = sl_run_new(options, count_held(la) + made.c.only_b_count, &r, err);
    if (!code && !(v = SL_ARENA_NEW(&r->arena, struct compare, 1)))
        code = sl_fail_memory(err, sizeof *v);
    if (code) {
        sl_run_free(r);
        sl_arena_free(&made.arena);
        return code;
    }
    *v = made;
    r->job = v;
    r->body = body;
    r->release = release;
    r->report = sl_report_verify;
    uint64_t largest = 0;
    code = results_make(r, v, err);
    for (size_t i = 0; i < r->result_count && !code; i++)
        largest = sl_max_u64(largest, sl_run_result_at(r, i)->bytes);
    if (!code)
        code = sl_run_buffers(r, 2 * largest, err);
    if (!code)
        code = sl_run_start(r, err);
    if (code) {
        sl_run_free(r);
        return code;
    }
    *out = r;
    return SL_OK;
}

int sl_run_verify(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                  const struct sl_run_options *options, struct sl_run **out, struct sl_error *err)
{
    return compare(a, la, b, lb, false, options, out, err);
}

int sl_run_diff(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                const struct sl_run_options *options, struct sl_run **out, struct sl_error *err)
{
    return compare(a, la, b, lb, true, options, out, err);
}
