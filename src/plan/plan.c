/* plan.c: a conversion, step by step: two layouts, their intersection, the proofs,
 * the files. */
#include "plan/parts.h"

#include "base/dtype.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* What a conversion needs while it is made. */
struct making {
    struct sl_conversion *p;
    const struct sl_want *want;
    struct sl_error *err;
};

/* ---- layouts ----------------------------------------------------------------------- */

/* Without a family only what stays as it is can be written: the same tensors, under the same
 * names, in other files. */
static bool is_identity(const struct sl_conversion *p, const struct sl_want *want)
{
    const enum sl_container c = p->ckpt->container;
    return !p->model->family && want->dialect == SL_DIALECT_HF &&
           (c == SL_HF_SAFETENSORS || c == SL_SAFETENSORS || c == SL_HF_BIN || c == SL_TORCH || c == SL_TORCH_DCP);
}

/* Chunks that are missing, cut off or stored twice are findings of the container: rows that are
 * held twice would otherwise pass as copies, as they are in rank folders. */
static int refuse_damaged(const struct making *m)
{
    const struct sl_ckpt *c = m->p->ckpt;
    for (size_t i = 0; c->items && i < c->problems.count; i++) {
        const struct sl_problem *p = &c->problems.items[i];
        if (p->severity == SL_ERROR && strcmp(p->code, "pickle-call"))
            return sl_fail(m->err, SL_INPUT, c->path, "%s: %s", p->where, p->message);
    }
    return SL_OK;
}

/* The types of arrays without elements, which no slice leads to: by param, UNKNOWN of all others. */
static enum sl_dtype *types_of_empty(struct sl_conversion *p)
{
    const struct sl_layout *source = &p->source;
    enum sl_dtype *types = SL_ARENA_NEW(&p->arena, enum sl_dtype, source->param_count);
    for (size_t i = 0; types && i < source->tensor_count; i++) {
        const struct sl_tensor *t = &source->tensors[i];
        uint64_t at;
        if (!t->count && sl_map_get(&source->param_index, t->name, strlen(t->name), &at))
            types[at] = t->dtype;
    }
    return types;
}

static int copy_tensors(struct making *m)
{
    struct sl_conversion *p = m->p;
    struct sl_tensor *t = SL_ARENA_NEW(&p->arena, struct sl_tensor, p->source.param_count);
    const char **rule = SL_ARENA_NEW(&p->arena, const char *, p->source.param_count);
    struct sl_slice *slices = SL_ARENA_NEW(&p->arena, struct sl_slice, p->source.param_count);
    size_t *first = SL_ARENA_NEW(&p->arena, size_t, p->source.param_count + 1);
    const enum sl_dtype *empty = types_of_empty(p);
    if (!t || !rule || !slices || !first || !empty)
        return sl_fail_memory(m->err, p->source.param_count * sizeof *t);
    for (size_t i = 0; i < p->source.param_count; i++) {
        const struct sl_param *param = &p->source.params[i];
        const struct sl_slice *any = &p->source.slices[p->source.param_first[i]];
        const bool held = p->source.param_first[i + 1] > p->source.param_first[i];
        const struct box whole = param_box(param);
        t[i] = (struct sl_tensor){ .name = param->name, .path = param->name, .ndim = param->ndim,
                                   .shape = param->shape, .count = box_volume(&whole, param->ndim),
                                   .dtype = held ? p->source.tensors[any->tensor].dtype : empty[i],
                                   .storage = -1, .file = -1, .rank = -1 };
        if (m->want->dtype && sl_dtype_row(t[i].dtype)->is_float)
            t[i].dtype = m->want->dtype;
        t[i].bytes = t[i].count * sl_dtype_size(t[i].dtype);
        slices[i] = (struct sl_slice){ .param = (uint32_t)i, .tensor = (uint32_t)i };
        memcpy(slices[i].hi, param->shape, sizeof param->shape);
        int64_t step = 1;
        for (uint32_t a = param->ndim; a-- > 0; step *= param->shape[a])
            slices[i].stride[a] = step;
        first[i + 1] = i + 1;
        rule[i] = "copy";
    }
    p->target = (struct sl_layout){ .params = p->source.params, .param_count = p->source.param_count,
                                    .tensors = t, .tensor_count = p->source.param_count, .slices = slices,
                                    .slice_count = p->source.param_count, .param_first = first, .rule = rule };
    return SL_OK;
}

static int lay_out(struct making *m)
{
    struct sl_conversion *p = m->p;
    const int refused = refuse_damaged(m);
    if (refused)
        return refused;
    if (is_identity(p, m->want)) {
        const int rc = sl_layout_identity(p->ckpt, &p->arena, &p->source, m->err);
        return rc ? rc : copy_tensors(m);
    }
    struct sl_target_spec spec = m->want->spec;
    spec.dialect = m->want->dialect;
    spec.dtype = m->want->dtype;
    spec.source = &p->source;
    spec.dist = m->want->out == SL_OUT_DIST;
    spec.indexed = plan_dist_is_indexed(p);
    if (spec.dialect == SL_DIALECT_HF)
        spec.parallel = (struct sl_parallel){ 1, 1, 1, 1, 1 };
    int rc = sl_layout_source(p->model, p->ckpt, &p->arena, &p->source, m->err);
    if (!rc)
        rc = sl_prove_source(&p->source, p->model, p->ckpt, m->err);
    if (!rc)
        rc = sl_layout_target(p->model, &spec, &p->arena, &p->target, m->err);
    return rc;
}

static uint64_t stored_size(const struct sl_tensor *t)
{
    return sl_dtype_size(t->flags & SL_TENSOR_SCALED ? t->stored : t->dtype);
}

/* ---- all together ----------------------------------------------------------------------- */

static int count_bytes(struct making *m)
{
    struct sl_conversion *p = m->p;
    p->targets = sl_arena_copy(&p->arena, p->target.tensors, p->target.tensor_count * sizeof *p->targets);
    p->target_count = p->target.tensor_count;
    if (!p->targets)
        return sl_fail_memory(m->err, p->target_count * sizeof *p->targets);
    p->target.tensors = p->targets;      /* files and offsets are filled in there */
    for (size_t i = 0; i < p->target_count; i++)
        p->write_bytes += p->targets[i].bytes;
    for (size_t i = 0; i < p->copy_count; i++) {
        const struct sl_copy *c = &p->copies[i];
        uint64_t elements = 1;
        for (uint32_t k = 0; k < c->ndim; k++)
            elements *= c->source_stride[k] ? (uint64_t)c->count[k] : 1;
        if (c->source != UINT32_MAX)
            p->read_bytes += elements * stored_size(&p->source.tensors[c->source]);
    }
    return SL_OK;
}

/* A config.json that is there and can't be read is not the same as none: what it says would be guessed. */
static int check_config(const struct making *m)
{
    const struct sl_problems *problems = &m->p->ckpt->problems;
    for (size_t i = 0; i < problems->count; i++)
        if (!strcmp(problems->items[i].code, "config-damaged") && !strcmp(problems->items[i].where, "config.json"))
            return sl_fail(m->err, SL_INPUT, "config.json", "%s; get it again, or move it away to go on without it", problems->items[i].message);
    return SL_OK;
}

static int check_want(const struct making *m)
{
    const struct sl_model *model = m->p->model;
    const int code = check_config(m);
    if (code)
        return code;
    if (is_identity(m->p, m->want))
        return SL_OK;
    if (!model->family && model->unsupported)
        return sl_fail(m->err, SL_UNSUPPORTED, m->p->ckpt->path, "%s; another layout needs to know which rows its weights are made of:"
                       " describe the model in a family file (--family-file; docs/families.md), or name one with --model", model->unsupported);
    if (!model->family)
        return sl_fail(m->err, SL_UNSUPPORTED, m->p->ckpt->path, "no family fits these tensors, so their layout "
                       "can't be changed: name it with --model, or describe it with --family-file");
    if (model->missing)
        return sl_fail(m->err, SL_USAGE, m->p->ckpt->path, "%s", model->missing);
    if (m->want->dialect == SL_DIALECT_LEGACY)
        return sl_fail(m->err, SL_UNSUPPORTED, "", "checkpoints of the older Megatron model are read, not written; "
                       "--to megatron writes the names of Megatron-core");
    return SL_OK;
}

/* The files, and what stands beside the weights. */
static int write_out(struct making *m)
{
    struct sl_conversion *p = m->p;
    if (m->want->out == SL_OUT_MEGATRON)
        return plan_megatron_files(p, m->want, m->err);
    if (m->want->out == SL_OUT_DIST)
        return plan_dist_files(p, m->want, m->err);
    p->single_file = m->want->out == SL_OUT_PT;
    const int rc = plan_hf_files(p, m->want, m->err);
    return rc || p->single_file ? rc : plan_hf_extras(p, m->want, m->err);
}

static int make(struct making *m)
{
    struct sl_conversion *p = m->p;
    int rc = check_want(m);
    if (!rc)
        rc = lay_out(m);
    if (!rc)
        rc = sl_intersect(&p->source, &p->target, p->pad_last, &p->copies, &p->copy_count, &p->target_first, m->err);
    if (!rc)
        rc = sl_prove_coverage(&p->target, p->copies, p->copy_count, p->target_first, m->err);
    if (!rc)
        rc = count_bytes(m);
    if (!rc)
        rc = plan_check_casts(p, m->err);
    if (!rc)
        rc = plan_left_out(p, m->err);
    if (!rc)
        rc = write_out(m);
    if (!rc)
        plan_notes(p, m->want);
    if (!rc)
        rc = plan_proof_text(p, m->err);
    return rc ? rc : plan_hash(p, m->err);
}

int sl_conversion_make(struct sl_ckpt *c, const struct sl_model *m, const struct sl_want *want,
                       struct sl_conversion **out, struct sl_error *err)
{
    struct sl_conversion *p = calloc(1, sizeof *p);
    if (!p)
        return sl_fail_memory(err, sizeof *p);
    p->ckpt = c;
    p->model = m;
    p->pad_last = want->pad_last;
    p->notes.arena = &p->arena;
    struct making making = { .p = p, .want = want, .err = err };
    const int rc = make(&making);
    if (rc) {
        sl_conversion_free(p);
        return rc;
    }
    *out = p;
    return SL_OK;
}

void sl_conversion_free(struct sl_conversion *p)
{
    if (!p)
        return;
    sl_layout_free(&p->source);
    sl_layout_free(&p->target);
    free(p->copies);
    free(p->target_first);
    sl_arena_free(&p->arena);
    free(p);
}
