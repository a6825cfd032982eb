/* torch.c: targets that are torch files: one flat state dict, the shards of a
 * pytorch_model.bin folder, or the rank files of a Megatron checkpoint. Every
 * tensor has a storage of its own; the pickle and the places of all storages are
 * known here, CRCs come with the bytes (run/convert.c).
 *
 * A rank file holds, as Megatron-LM's megatron/training/checkpointing.py reads it:
 * args, checkpoint_version 3.0, iteration, and `model`, or `model0`, `model1`, ..
 * for virtual pipeline stages, each an OrderedDict of tensors and of the
 * _extra_state entries (None) that strict loading asks for.
 */
#include "plan/parts.h"

#include "base/error.h"
#include "base/value.h"
#include "format/torchwrite.h"
#include "model/args.h"

#include <stdio.h>
#include <string.h>

/* Targets of one file, in order; their storages are numbered the same way. */
struct members { uint32_t *target; uint32_t count; };

static int members_of(struct sl_conversion *p, size_t file, struct members *m, struct sl_error *err)
{
    m->count = 0;
    for (size_t i = 0; i < p->target_count; i++)
        m->count += p->targets[i].file == (int32_t)file;
    m->target = SL_ARENA_NEW(&p->arena, uint32_t, m->count + 1);
    if (!m->target)
        return sl_fail_memory(err, m->count * sizeof *m->target);
    uint32_t at = 0;
    for (size_t i = 0; i < p->target_count; i++)
        if (p->targets[i].file == (int32_t)file)
            m->target[at++] = (uint32_t)i;
    return SL_OK;
}

static void pickle_tensor(struct sl_pickler *k, const struct sl_conversion *p, const struct members *m, uint32_t storage)
{
    const struct sl_tensor *t = &p->targets[m->target[storage]];
    sl_pickler_str(k, t->name);
    sl_pickler_tensor(k, t->dtype, storage, t->count, 0, t->shape, t->ndim);
}

/* Places of the storages of one file, with its pickle, which is given to the arena. */
static int lay_out_file(struct sl_conversion *p, size_t file, const struct members *m, struct sl_pickler *k, struct sl_error *err)
{
    struct sl_out_file *f = &p->files[file];
    struct sl_torch_layout *layout = SL_ARENA_NEW(&p->arena, struct sl_torch_layout, 1);
    uint64_t *bytes = SL_ARENA_NEW(&p->arena, uint64_t, m->count + 1);
    const void *pickle = k->out.failed ? NULL : sl_arena_copy(&p->arena, k->out.data, k->out.len);
    if (!layout || !bytes || !pickle)
        return sl_fail_memory(err, k->out.len);
    for (uint32_t i = 0; i < m->count; i++)
        bytes[i] = p->targets[m->target[i]].bytes;
    const int rc = sl_torch_layout(pickle, k->out.len, bytes, m->count, &p->arena, layout, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < m->count; i++) {
        struct sl_tensor *t = &p->targets[m->target[i]];
        t->offset = t->storage_begin = layout->storage_offset[i];
        t->storage_bytes = t->bytes;
        t->storage = (int32_t)i;
    }
    f->size = layout->file_size;
    f->tensors = m->count;
    f->torch = layout;
    f->storage_target = m->target;
    return SL_OK;
}

int plan_torch_state_dict(struct sl_conversion *p, size_t file, struct sl_error *err)
{
    struct sl_pickler k = { 0 };
    struct members m;
    int rc = members_of(p, file, &m, err);
    if (rc)
        return rc;
    sl_pickler_begin(&k);
    sl_pickler_dict_begin(&k, true);
    for (uint32_t i = 0; i < m.count; i++)
        pickle_tensor(&k, p, &m, i);
    sl_pickler_dict_end(&k);
    sl_pickler_end(&k);
    rc = lay_out_file(p, file, &m, &k, err);
    sl_buf_free(&k.out);
    return rc;
}

/* ---- Megatron ------------------------------------------------------------------------ */

/* What the checkpoint that is written is called and made of. */
struct saving {
    struct sl_conversion *p;
    const struct sl_want *want;
    const struct sl_value *args;
    int64_t iteration;
    bool release;
    const char *folder;                  /* "iter_0000500", "release" */
    struct sl_error *err;
};

static enum sl_dtype main_dtype(const struct sl_conversion *p)
{
    for (size_t i = 0; i < p->target_count; i++)
        if (p->targets[i].ndim > 1)
            return p->targets[i].dtype;
    return SL_BF16;
}

/* Stage strings of Megatron's pipeline_model_parallel_layout ("Ettt|tttt|tttL"): stages run
 * chunk by chunk over the pipeline ranks, layers are numbered in that order. NULL when even.
 * Source: Megatron-LM megatron/core/transformer/pipeline_parallel_layer_layout.py */
static int layout_text(const struct saving *s, const char **text)
{
    const struct sl_target_spec *spec = &s->want->spec;
    const int32_t stages = spec->parallel.pp * spec->parallel.vpp;
    struct sl_buf b = { 0 };
    bool even = true;
    *text = NULL;
    for (int32_t i = 1; spec->stage_layers && i < stages; i++)
        even = even && spec->stage_layers[i] == spec->stage_layers[0];
    if (even)
        return SL_OK;
    for (int32_t i = 0; i < stages; i++) {
        sl_buf_str(&b, i ? "|" : "E");
        for (int32_t k = 0; k < spec->stage_layers[i]; k++)
            sl_buf_char(&b, 't');
    }
    for (int32_t k = 0; k < s->p->model->mtp_layers; k++)
        sl_buf_char(&b, 'm');
    sl_buf_char(&b, 'L');
    *text = b.failed ? NULL : sl_arena_str(&s->p->arena, b.data);
    sl_buf_free(&b);
    return *text ? SL_OK : sl_fail_memory(s->err, 64);
}

static int make_args(struct saving *s)
{
    const struct sl_want *w = s->want;
    struct sl_megatron_run run = { .parallel = w->spec.parallel, .vocab = s->p->model->vocab,
                                   .padded_vocab = w->spec.padded_vocab, .vocab_divisor = w->vocab_divisor,
                                   .dtype = main_dtype(s->p), .iteration = s->iteration, .spec = w->spec.spec, .experts = w->spec.experts };
    const int rc = layout_text(s, &run.pp_layout);
    return rc ? rc : sl_model_megatron_args(s->p->model, s->p->ckpt->args, &run, &s->p->arena, &s->args, s->err);
}

/* The _extra_state entries of the modules that this part of the model has. */
static void pickle_extra_state(struct sl_pickler *k, const struct saving *s, const struct members *m, int32_t chunk)
{
    const struct sl_value *modules = sl_model_extra_state(s->want->spec.spec);
    char module[256], last[256];
    for (size_t n = 0; modules && n < modules->len; n++) {
        last[0] = '\0';
        for (uint32_t i = 0; i < m->count; i++) {
            const struct sl_tensor *t = &s->p->targets[m->target[i]];
            int32_t layer, expert;
            const char *dot = strrchr(t->name, '.');
            const size_t len = dot ? (size_t)(dot - t->name) : 0;
            if (t->chunk != chunk || !len || len >= sizeof module - 16)
                continue;
            memcpy(module, t->name, len);
            module[len] = '\0';
            if (!strcmp(module, last) || !sl_rule_match(sl_value_str(modules->items[n]), module, &layer, &expert))
                continue;
            memcpy(last, module, len + 1);
            memcpy(module + len, "._extra_state", 14);
            sl_pickler_str(k, module);
            sl_pickler_none(k);
        }
    }
}

static void pickle_chunk(struct sl_pickler *k, const struct saving *s, const struct members *m, int32_t chunk)
{
    char key[32] = "model";
    if (s->want->spec.parallel.vpp > 1)
        snprintf(key, sizeof key, "model%d", chunk);
    sl_pickler_str(k, key);
    sl_pickler_dict_begin(k, true);
    for (uint32_t i = 0; i < m->count; i++)
        if (s->p->targets[m->target[i]].chunk == chunk)
            pickle_tensor(k, s->p, m, i);
    pickle_extra_state(k, s, m, chunk);
    sl_pickler_dict_end(k);
}

static int lay_out_rank(struct saving *s, size_t file)
{
    struct sl_pickler k = { 0 };
    struct members m;
    int rc = members_of(s->p, file, &m, s->err);
    if (rc)
        return rc;
    sl_pickler_begin(&k);
    sl_pickler_dict_begin(&k, false);
    sl_pickler_str(&k, "args");
    sl_pickler_value(&k, s->args);
    sl_pickler_str(&k, "checkpoint_version");
    sl_pickler_double(&k, 3.0);
    sl_pickler_str(&k, "iteration");
    sl_pickler_int(&k, s->iteration);
    sl_pickler_str(&k, "num_floating_point_operations_so_far");
    sl_pickler_int(&k, 0);
    for (int32_t chunk = 0; chunk < s->want->spec.parallel.vpp; chunk++)
        pickle_chunk(&k, s, &m, chunk);
    sl_pickler_dict_end(&k);
    sl_pickler_end(&k);
    rc = lay_out_file(s->p, file, &m, &k, s->err);
    sl_buf_free(&k.out);
    return rc;
}

/* mp_rank_TT[_PPP][_EEE], widths are minimum widths.
 * Source: Megatron-LM megatron/training/checkpointing.py (get_checkpoint_name) */
static const char *rank_file_name(const struct saving *s, const struct sl_rank *r)
{
    const struct sl_parallel *p = &s->want->spec.parallel;
    char pp[16] = "", ep[16] = "";
    if (p->pp > 1)
        snprintf(pp, sizeof pp, "_%03d", r->pp);
    if (p->ep > 1)
        snprintf(ep, sizeof ep, "_%03d", r->ep);
    return sl_arena_printf(&s->p->arena, "%s/mp_rank_%02d%s%s/model_optim_rng.pt", s->folder, r->tp, pp, ep);
}

static int add_tracker(struct saving *s)
{
    struct sl_out_extra extra = { .name = "latest_checkpointed_iteration.txt" };
    const char *text = s->release ? "release" : sl_arena_printf(&s->p->arena, "%lld", (long long)s->iteration);
    if (!text)
        return sl_fail_memory(s->err, 32);
    extra.bytes = text;
    extra.len = strlen(text);
    return plan_add_extra(s->p, &extra, s->err);
}

/* The iteration asked for, else the source's, else release. */
static int name_iteration(struct saving *s)
{
    const struct sl_ckpt *c = s->p->ckpt;
    s->release = s->want->release || (s->want->iteration < 0 && (c->iteration < 0 || c->release));
    s->iteration = s->release ? 0 : s->want->iteration >= 0 ? s->want->iteration : c->iteration;
    s->folder = s->release ? "release" : sl_arena_printf(&s->p->arena, "iter_%07lld", (long long)s->iteration);
    return s->folder ? SL_OK : sl_fail_memory(s->err, 32);
}

int plan_megatron_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err)
{
    struct saving s = { .p = p, .want = want, .err = err };
    int rc = name_iteration(&s);
    if (!rc)
        rc = make_args(&s);
    p->file_count = p->target.rank_count;
    p->files = SL_ARENA_NEW(&p->arena, struct sl_out_file, p->file_count);
    if (!rc && !p->files)
        rc = sl_fail_memory(err, p->file_count * sizeof *p->files);
    for (size_t i = 0; i < p->target_count; i++)
        p->targets[i].file = p->targets[i].rank;
    for (size_t i = 0; i < p->file_count && !rc; i++) {
        p->files[i].name = rank_file_name(&s, &p->target.ranks[i]);
        rc = p->files[i].name ? lay_out_rank(&s, i) : sl_fail_memory(err, 64);
    }
    return rc ? rc : add_tracker(&s);
}
