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
    if (!rc)
        rc = saving_args_of_rank(s, &s->p->target.ranks[file]);
    if (rc)
        return rc;
    sl_pickler_begin(&k);
    sl_pickler_dict_begin(&k, false);
    saving_pickle_common(&k, s);
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

int plan_megatron_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err)
{
    struct saving s = { .p = p, .want = want, .err = err };
    int rc = saving_begin(&s);
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
    return rc ? rc : saving_add_tracker(&s);
}
