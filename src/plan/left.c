/* left.c: what the target does not get, what should be known about the plan, and
 * the line that says what was proved. */
#include "plan/parts.h"

#include "base/dtype.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const char *file_name(const struct sl_conversion *p, const struct sl_tensor *t)
{
    return t->file >= 0 && (size_t)t->file < p->ckpt->file_count ? p->ckpt->files[t->file].name : "";
}

static bool has_slices(const struct sl_layout *l, size_t param)
{
    return l->param_first[param + 1] > l->param_first[param];
}

static void add_left(struct sl_conversion *p, const char *name, const char *where, const char *why, uint64_t bytes)
{
    p->left_out[p->left_out_count++] = (struct sl_plan_left){ name, where, why, bytes };
}

/* All runs of padding of one tensor, which stand together, as one entry. Returns the next run. */
static size_t add_padding(struct sl_conversion *p, size_t run)
{
    const struct sl_padding *first = &p->source.padding[run];
    const struct sl_tensor *t = &p->source.tensors[first->tensor];
    const int64_t row = t->ndim && t->shape[0] ? (int64_t)t->count / t->shape[0] : 1;
    int64_t from = first->base, to = first->base + first->count, count = 0;
    for (; run < p->source.padding_count && p->source.padding[run].tensor == first->tensor; run++) {
        from = p->source.padding[run].base < from ? p->source.padding[run].base : from;
        to = p->source.padding[run].base + p->source.padding[run].count > to
                 ? p->source.padding[run].base + p->source.padding[run].count : to;
        count += p->source.padding[run].count;
    }
    const char *why = sl_arena_printf(&p->arena, "rows %lld..%lld are vocabulary padding",
                                      (long long)(from / row), (long long)((to - 1) / row));
    add_left(p, t->name, file_name(p, t), why ? why : "vocabulary padding",
             (uint64_t)count * sl_dtype_size(t->dtype));
    return run;
}

/* A weight the source has and the target has no tensor for. */
static void add_param(struct sl_conversion *p, size_t param)
{
    const struct sl_param *x = &p->source.params[param];
    const struct sl_tensor *t = &p->source.tensors[p->source.slices[p->source.param_first[param]].tensor];
    const struct box whole = param_box(x);
    add_left(p, x->name, file_name(p, t), "the target's format has no tensor for it",
             box_volume(&whole, x->ndim) * sl_dtype_size(t->dtype));
}

int plan_left_out(struct sl_conversion *p, struct sl_error *err)
{
    const struct sl_layout *s = &p->source;
    const uint64_t room = s->unused_count + s->padding_count + s->param_count;
    p->left_out = SL_ARENA_NEW(&p->arena, struct sl_plan_left, room);
    if (!p->left_out)
        return sl_fail_memory(err, room * sizeof *p->left_out);
    for (size_t i = 0; i < s->unused_count; i++) {
        const struct sl_tensor *t = &s->tensors[s->unused[i].tensor];
        add_left(p, t->name, file_name(p, t), s->unused[i].why, t->bytes);
    }
    for (size_t i = 0; i < s->padding_count; )
        i = add_padding(p, i);
    for (size_t i = 0; i < s->param_count; i++)
        if (has_slices(s, i) && !has_slices(&p->target, i))
            add_param(p, i);
    return SL_OK;
}

/* ---- notes --------------------------------------------------------------------------- */

/* Shards of one target with several element types: all become the target's. */
static void note_mixed(struct sl_conversion *p, size_t target)
{
    enum sl_dtype first = SL_DTYPE_UNKNOWN;
    for (size_t i = p->target_first[target]; i < p->target_first[target + 1]; i++) {
        const uint32_t source = p->copies[i].source;
        const enum sl_dtype has = source == UINT32_MAX ? first : p->source.tensors[source].dtype;
        if (first && has != first) {
            sl_problem_add(&p->notes, "dtype-differs", p->targets[target].name, NULL,
                           "its parts are %s and %s; it will be %s", sl_dtype_name(first), sl_dtype_name(has),
                           sl_dtype_name(p->targets[target].dtype));
            return;
        }
        first = has;
    }
}

static bool can_cast(enum sl_dtype d)
{
    return d == SL_F64 || d == SL_F32 || d == SL_F16 || d == SL_BF16;
}

/* Copies whose elements can't be converted keep the source's bytes: not a plan we can run. */
int plan_check_casts(const struct sl_conversion *p, struct sl_error *err)
{
    for (size_t i = 0; i < p->copy_count; i++) {
        const struct sl_copy *c = &p->copies[i];
        const enum sl_dtype from = c->source == UINT32_MAX ? p->targets[c->target].dtype
                                                           : p->source.tensors[c->source].dtype;
        const enum sl_dtype to = p->targets[c->target].dtype;
        if (from != to && !(can_cast(from) && can_cast(to)))
            return sl_fail(err, SL_UNSUPPORTED, p->source.tensors[c->source].name, "%s can't be converted to %s",
                           sl_dtype_name(from), sl_dtype_name(to));
        if (!sl_op_can(c->op, from, to))
            return sl_fail(err, SL_UNSUPPORTED, p->targets[c->target].name, "a number can't be added to %s",
                           sl_dtype_name(from));
    }
    return SL_OK;
}

/* Targets whose elements are computed, not only moved. */
static size_t count_computed(const struct sl_conversion *p, const struct sl_copy **first)
{
    size_t count = 0;
    uint32_t last = UINT32_MAX;
    for (size_t i = 0; i < p->copy_count; i++) {
        const struct sl_copy *c = &p->copies[i];
        if (c->op.kind == SL_OP_NONE || c->target == last)
            continue;
        *first = count++ ? *first : c;
        last = c->target;
    }
    return count;
}

static void note_computed(struct sl_conversion *p)
{
    const struct sl_copy *c = NULL;
    const size_t count = count_computed(p, &c);
    char op[64];
    if (!count)
        return;
    sl_problem_add(&p->notes, "arithmetic", p->targets[c->target].name, NULL, "%zu target tensors are computed, not only moved (%s): "
                   "the sum is rounded to %s, so converting back may give other last bits", count,
                   sl_op_text(c->op, op, sizeof op), sl_dtype_name(p->targets[c->target].dtype));
}

static void note_scaled(struct sl_conversion *p)
{
    const struct sl_tensor *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < p->source.tensor_count; i++)
        if (p->source.tensors[i].flags & SL_TENSOR_SCALED)
            first = count++ ? first : &p->source.tensors[i];
    if (count)
        sl_problem_add(&p->notes, "fp8-blocks", first->name, NULL, "%zu source tensors are 8-bit floats with a factor for each block"
                       " of %lldx%lld; their products are written", count, (long long)first->block[0], (long long)first->block[1]);
}

/* Does a target get another type than what it is made of has, although none was asked for? That is so where an array
 * of torch_dist is of several layers (layout/dist.c). */
static bool is_widened(const struct sl_conversion *p, size_t target)
{
    for (size_t i = p->target_first[target]; i < p->target_first[target + 1]; i++)
        if (p->copies[i].source != UINT32_MAX && !(p->source.tensors[p->copies[i].source].flags & SL_TENSOR_SCALED) &&
            p->source.tensors[p->copies[i].source].dtype != p->targets[target].dtype)
            return true;
    return false;
}

static void note_widened(struct sl_conversion *p)
{
    size_t count = 0, first = 0;
    for (size_t i = 0; i < p->target_count; i++)
        if (is_widened(p, i))
            first = count++ ? first : i;
    if (count)
        sl_problem_add(&p->notes, "dtype-widened", p->targets[first].name, NULL, "%zu chunks become %s, as others of the same array are: "
                       "in torch_dist all layers of a weight have one element type", count, sl_dtype_name(p->targets[first].dtype));
}

void plan_notes(struct sl_conversion *p, const struct sl_want *want)
{
    size_t unknown = 0;
    const char *first = NULL;
    for (size_t i = 0; i < p->target_count; i++)
        note_mixed(p, i);
    note_computed(p);
    note_scaled(p);
    if (want->out == SL_OUT_DIST && !want->dtype)
        note_widened(p);
    for (size_t i = 0; i < p->source.unused_count; i++) {
        const struct sl_tensor *t = &p->source.tensors[p->source.unused[i].tensor];
        if (strncmp(p->source.unused[i].why, "no rule", 7))
            continue;
        unknown++;
        first = first ? first : t->name;
    }
    if (unknown)
        sl_problem_add(&p->notes, "unknown-tensor", first, NULL, "%zu tensors that no rule of the family knows are "
                       "left out, the first is %s", unknown, first);
    if (want->dialect == SL_DIALECT_HF && p->model->family && p->model->vocab < 0 && p->model->padded_vocab > 0)
        sl_problem_add(&p->notes, "vocab-unknown", "", NULL, "the true vocabulary size is not known: all %lld rows "
                       "are kept, padding among them; state it with --set vocab_size=N or --hf-config DIR",
                       (long long)p->model->padded_vocab);
    sl_problems_sort(&p->notes);
}

/* ---- proof ------------------------------------------------------------------------------- */

int plan_proof_text(struct sl_conversion *p, struct sl_error *err)
{
    const struct sl_layout *s = &p->source;
    unsigned char *use = SL_ARENA_NEW(&p->arena, unsigned char, s->tensor_count);    /* 1: held, 2: read */
    size_t held = 0, read = 0, params = 0;
    const struct sl_copy *first = NULL;
    const size_t computed = count_computed(p, &first);
    char op[64] = "", text[160] = "";
    if (computed)
        snprintf(text, sizeof text, "; %zu are computed (%s)", computed, sl_op_text(first->op, op, sizeof op));
    if (!use)
        return sl_fail_memory(err, s->tensor_count);
    for (size_t i = 0; i < s->slice_count; i++)
        use[s->slices[i].tensor] = 1;
    for (size_t i = 0; i < p->copy_count; i++)
        if (p->copies[i].source != UINT32_MAX)
            use[p->copies[i].source] = 2;
    for (size_t i = 0; i < s->tensor_count; i++) {
        held += use[i] != 0;
        read += use[i] == 2;
    }
    for (size_t i = 0; i < s->param_count; i++)
        params += has_slices(s, i);
    p->source_use = use;
    p->proof = sl_arena_printf(&p->arena, "all %zu weights are complete; every element of %zu target tensors is "
                               "written exactly once%s; of %zu source tensors %zu are read, %zu are replicas, %zu hold "
                               "no weight", params, p->target_count, text, s->tensor_count, read, held - read,
                               s->tensor_count - held);
    return p->proof ? SL_OK : sl_fail_memory(err, 256);
}
