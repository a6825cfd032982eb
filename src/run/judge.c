/* judge.c: what is wrong with the values of one tensor. */
#include "run/judge.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- findings --------------------------------------------------------------------- */

void judge_place(const struct sl_ckpt *c, const struct sl_tensor *t, char *out, size_t room)
{
    const char *where = t->rank >= 0 ? c->ranks[t->rank].path : t->file >= 0 ? c->files[t->file].name : "";
    snprintf(out, room, "%s%s%s", where, *where ? " " : "", t->name);
}

void judge_tell(struct judge *j, const struct finding *f, const char *format, ...)
{
    static const enum sl_severity severities[] = { [AS_NOTE] = SL_NOTE, [AS_WARNING] = SL_WARNING, [AS_ERROR] = SL_ERROR };
    char where[512] = "", message[768];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (f->t)
        judge_place(j->c, f->t, where, sizeof where);
    else if (f->where)
        snprintf(where, sizeof where, "%s", f->where);
    pthread_mutex_lock(&j->lock);
    const size_t before = j->problems->count;
    sl_problem_add(j->problems, f->code, where, &f->more, "%s", message);
    if (f->severity != AS_IN_TABLE && j->problems->count > before)
        j->problems->items[before].severity = severities[f->severity];
    pthread_mutex_unlock(&j->lock);
}

/* ---- preparing ---------------------------------------------------------------------- */

/* A hash of every box that a tensor holds, in the order of params. */
static int hash_boxes(struct judge *j, struct sl_arena *arena, struct sl_error *err)
{
    const struct sl_layout *l = j->layout;
    uint64_t *holds = SL_ARENA_NEW(arena, uint64_t, j->c->tensor_count);
    if (!holds)
        return sl_fail_memory(err, j->c->tensor_count * sizeof *holds);
    for (size_t i = 0; l && i < l->slice_count; i++) {
        const struct sl_slice *s = &l->slices[i];
        int64_t box[1 + 2 * SL_AXES] = { s->param };
        const uint32_t n = l->params[s->param].ndim;
        memcpy(box + 1, s->lo, n * sizeof *box);
        memcpy(box + 1 + n, s->hi, n * sizeof *box);
        holds[s->tensor] = XXH3_64bits_withSeed(box, (1 + 2 * n) * sizeof *box, holds[s->tensor]) | 1;
    }
    j->holds = holds;
    return SL_OK;
}

int judge_prepare(struct judge *j, struct sl_arena *arena, struct sl_error *err)
{
    const size_t runs = j->layout ? j->layout->padding_count : 0;
    j->readings = SL_ARENA_NEW(arena, struct reading, j->count);
    j->padding_differs = SL_ARENA_NEW(arena, bool, runs);
    if (!j->readings || !j->padding_differs)
        return sl_fail_memory(err, j->count * sizeof *j->readings);
    return hash_boxes(j, arena, err);
}

/* ---- values --------------------------------------------------------------------------- */

/* What the shape and the name say a weight is for; equal values mean another thing in each. */
enum role { ROLE_MATRIX, ROLE_NORM, ROLE_BIAS, ROLE_OTHER };
static enum role role_of(const struct sl_tensor *t)
{
    if (sl_text_ends(t->name, "bias"))
        return ROLE_BIAS;
    if (t->ndim > 1)
        return ROLE_MATRIX;
    return strstr(t->name, "norm") ? ROLE_NORM : ROLE_OTHER;
}

/* Norms whose weight is added to one begin at zero.
 * Source: Megatron-LM megatron/training/arguments.py (--apply-layernorm-1p) */
static bool norms_begin_at_zero(const struct judge *j)
{
    const struct sl_setting *s = j->m ? sl_model_get(j->m, "apply_layernorm_1p") : NULL;
    bool yes = false;
    return s && sl_value_bool(s->value, &yes) && yes;
}

static bool is_only_padding(const struct judge *j, uint32_t tensor)
{
    if (!j->layout || j->holds[tensor])
        return false;
    for (size_t i = 0; i < j->layout->padding_count; i++)
        if (j->layout->padding[i].tensor == tensor)
            return true;
    return false;
}

static void tell_not_finite(struct judge *j, const struct sl_tensor *t, const char *code, const char *what, uint64_t bad, uint64_t count)
{
    const struct finding f = { .code = code, .t = t };
    judge_tell(j, &f, "%" PRIu64 " of %" PRIu64 " values are %s", bad, count, what);
}

static void tell_zero(struct judge *j, const struct sl_tensor *t, enum role role, uint64_t count)
{
    const bool as_it_began = role == ROLE_BIAS || (role == ROLE_NORM && norms_begin_at_zero(j));
    const struct finding as_begun = {
        .code = "all-zero", .t = t, .severity = AS_NOTE,
        .more = { .expected = "zeros, if it was never trained: this is the value it begins with",
                  .cause = "it was not trained, or the model has no use for it", .damage = "nothing",
                  .next = "Nothing, if that is known; else look at the training script." } };
    const struct finding wrong = {
        .code = "all-zero", .t = t, .severity = AS_WARNING,
        .more = { .expected = "values around zero, not zeros: a weight begins with random numbers or ones",
                  .cause = "the tensor was never written: a save with skipped data, a file system that lost a block, or a hole",
                  .damage = "its layer passes nothing on; a conversion carries the zeros over",
                  .next = "Copy the file again from its source, or use an earlier iteration." } };
    judge_tell(j, as_it_began ? &as_begun : &wrong, "all %" PRIu64 " values are zero", count);
}

static void tell_constant(struct judge *j, const struct sl_tensor *t, enum role role, uint64_t count, double value)
{
    const struct finding vector = {
        .code = "constant", .t = t, .severity = AS_NOTE,
        .more = { .expected = role == ROLE_NORM ? "ones, if it was never trained; different values after training" : "different values after training",
                  .cause = "it was not trained", .damage = "nothing", .next = "Nothing, if that is known." } };
    const struct finding matrix = {
        .code = "constant", .t = t, .severity = AS_WARNING,
        .more = { .expected = "different values: a matrix begins with random numbers",
                  .cause = "it was filled and never loaded or trained, or was overwritten",
                  .damage = "all outputs of its layer are the same number",
                  .next = "Copy the file again from its source, or use an earlier iteration." } };
    judge_tell(j, role == ROLE_MATRIX ? &matrix : &vector, "all %" PRIu64 " values are %g", count, value);
}

void judge_values(struct judge *j, size_t weight)
{
    const struct sl_stats *s = &j->readings[weight].stats;
    const struct sl_tensor *t = &j->c->tensors[j->tensors[weight]];
    if (s->nan)
        tell_not_finite(j, t, "nan", "NaN", s->nan, s->count);
    if (s->inf)
        tell_not_finite(j, t, "inf", "infinite", s->inf, s->count);
    if (s->nan || s->inf || s->count < 2 || s->min < s->max || is_only_padding(j, j->tensors[weight]))
        return;
    if (s->zeros == s->count)
        tell_zero(j, t, role_of(t), s->count);
    else
        tell_constant(j, t, role_of(t), s->count, s->min);
}

/* ---- fp32 that is bf16 ---------------------------------------------------------------- */

bool judge_is_bf16(const void *elements, size_t count)
{
    const unsigned char *p = elements;
    uint32_t bits = 0;
    for (size_t i = 0; i < count; i++)
        bits |= sl_load_u32(p + 4 * i);
    return !(bits & 0xffff);
}

/* Equal values say nothing: ones and zeros are in every type. */
static bool is_widened(const struct reading *r)
{
    return r->whole && r->bf16 && r->stats.min < r->stats.max;
}

void judge_bf16(struct judge *j)
{
    size_t all = 0, widened = 0;
    const struct sl_tensor *first = NULL;
    for (size_t i = 0; i < j->count; i++) {
        const struct sl_tensor *t = &j->c->tensors[j->tensors[i]];
        if (t->dtype != SL_F32 || !j->readings[i].whole || !(j->readings[i].stats.min < j->readings[i].stats.max))
            continue;
        all++;
        if (!is_widened(&j->readings[i]))
            continue;
        widened++;
        first = first ? first : t;
    }
    if (!widened)
        return;
    const struct finding f = {
        .code = "bf16-in-fp32", .t = first,
        .more = { .expected = "fp32 values with all 24 bits of precision in use",
                  .cause = "weights that were bf16 once and were widened when they were loaded, merged or saved",
                  .damage = "nothing is wrong; the file is twice as large as its content",
                  .next = "Convert with --dtype bf16 to halve it: not one value changes." } };
    if (widened == all && all > 1)
        judge_tell(j, &f, "all %zu fp32 tensors hold only values that bf16 has too", all);
    else
        judge_tell(j, &f, "%zu of %zu fp32 tensors hold%s only values that bf16 has too", widened, all, widened == 1 ? "s" : "");
}

/* ---- padding of the vocabulary ----------------------------------------------------------- */

/* The rows of one run, read one at a time. */
struct rows {
    struct judge *j;
    const struct sl_tensor *t;
    uint64_t columns, first, count;      /* elements in a row; rows */
    size_t bytes;                        /* of a row */
    unsigned char *row, *start, *real;   /* this row, the run's first, the last that is no padding */
};

static bool rows_of(struct judge *j, const struct sl_worker *w, const struct sl_padding *p, struct rows *out)
{
    const struct sl_tensor *t = &j->c->tensors[p->tensor];
    if (t->ndim != 2 || t->shape[1] < 2 || p->count < 1 || p->base % t->shape[1] || p->count % t->shape[1])
        return false;
    const uint64_t columns = (uint64_t)t->shape[1], bytes = columns * sl_dtype_size(t->dtype);
    if (bytes > w->buffer_len / 2 || t->flags & SL_TENSOR_NO_DATA || sl_ckpt_repeats(t))
        return false;
    *out = (struct rows){ .j = j, .t = t, .columns = columns, .first = (uint64_t)p->base / columns, .count = (uint64_t)p->count / columns,
                          .bytes = (size_t)bytes, .row = w->buffer, .start = w->scratch, .real = w->scratch + bytes };
    return true;
}

static int read_row(const struct rows *r, uint64_t row, unsigned char *to, struct sl_error *err)
{
    return sl_ckpt_read_elements(r->j->c, r->t, row * r->columns, r->columns, to, err);
}

/* One value from its first element to its last? */
static bool is_uniform(const struct rows *r, const unsigned char *row)
{
    const size_t size = sl_dtype_size(r->t->dtype);
    return !memcmp(row, row + size, r->bytes - size);
}

int judge_padding(struct sl_run *run, struct sl_worker *w, struct judge *j, size_t index, struct sl_error *err)
{
    struct rows r;
    if (!rows_of(j, w, &j->layout->padding[index], &r))
        return SL_OK;
    bool uniform = true, same = true, real = r.first > 0;
    int code = real ? read_row(&r, r.first - 1, r.real, err) : SL_OK;
    for (uint64_t i = 0; !code && i < r.count && (uniform || same || real); i++) {
        code = sl_run_step(run, err);
        if (!code)
            code = read_row(&r, r.first + i, r.row, err);
        if (code)
            break;
        if (i == 0)
            memcpy(r.start, r.row, r.bytes);
        const bool as_start = !memcmp(r.row, r.start, r.bytes);
        uniform = uniform && as_start && is_uniform(&r, r.row);
        same = same && as_start;
        real = real && !memcmp(r.row, r.real, r.bytes);
    }
    if (!code)
        j->padding_differs[index] = !uniform && !(same && r.count > 1) && !real;
    return code == SL_INPUT ? SL_OK : code;      /* told when the tensor was read */
}

/* Padding rows of this name that hold different values, on all ranks. */
static uint64_t differing_rows(const struct judge *j, const char *name)
{
    const struct sl_layout *l = j->layout;
    uint64_t rows = 0;
    for (size_t i = 0; i < l->padding_count; i++) {
        const struct sl_tensor *t = &l->tensors[l->padding[i].tensor];
        if (j->padding_differs[i] && !strcmp(t->name, name))
            rows += (uint64_t)(l->padding[i].count / t->shape[1]);
    }
    return rows;
}

/* One finding, however many ranks have padding, and for the embedding and the head together. */
void judge_paddings(struct judge *j)
{
    const struct sl_layout *l = j->layout;
    const struct sl_tensor *first = NULL, *other = NULL;
    for (size_t i = 0; l && i < l->padding_count; i++) {
        const struct sl_tensor *t = &l->tensors[l->padding[i].tensor];
        if (!j->padding_differs[i])
            continue;
        first = first ? first : t;
        other = !other && strcmp(t->name, first->name) ? t : other;
    }
    if (!first)
        return;
    const uint64_t rows = differing_rows(j, first->name);
    const struct finding f = {
        .code = "padding-not-constant", .t = first,
        .more = { .expected = "zeros, one value, or copies of the last real row",
                  .cause = "Megatron begins padding rows at random like all others; or the vocabulary is larger than is said",
                  .damage = "nothing if the vocabulary size is right; if it is not, tokens are lost when padding is left out",
                  .next = "Compare the vocabulary size (inspect) with the tokenizer; state another with --set vocab_size=N." } };
    judge_tell(j, &f, "%" PRIu64 " padding row%s beyond the vocabulary of %" PRId64 " hold%s values like real rows%s%s", rows,
               rows == 1 ? "" : "s", j->m ? j->m->vocab : -1, rows == 1 ? "s" : "", other ? "; so it is in " : "",
               other ? other->name : "");
}
