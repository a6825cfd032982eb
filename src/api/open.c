/* open.c: a path becomes a handle: files, model, layout, and one list of
 * problems. */
#include "api/handle.h"

#include "layout/place.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/text.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>

/* ---- sizes ------------------------------------------------------------------ */

static bool is_weight(const struct sl_tensor *t)
{
    return !(t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER));
}

static int count_dtypes(struct sl_checkpoint *ck, struct sl_error *err)
{
    struct sl_dtype_count all[SL_DTYPE_COUNT] = { 0 };
    for (size_t i = 0; i < ck->c->tensor_count; i++) {
        const struct sl_tensor *t = &ck->c->tensors[i];
        if (!is_weight(t))
            continue;
        all[t->dtype].bytes += t->bytes;
        ck->info.bytes += t->bytes;
    }
    for (size_t i = 0; i < ck->logical_count; i++)            /* a weight that is cut is one tensor */
        if (is_weight(&ck->c->tensors[ck->logicals[i].pieces[0]]))
            all[ck->logicals[i].dtype].tensors++;
    struct sl_dtype_count *found = SL_ARENA_NEW(&ck->arena, struct sl_dtype_count, SL_DTYPE_COUNT);
    if (!found)
        return sl_fail_memory(err, sizeof all);
    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        if (all[d].tensors || all[d].bytes) {
            all[d].dtype = (enum sl_dtype)d;
            found[ck->info.dtype_count++] = all[d];
        }
    for (size_t i = 1; i < ck->info.dtype_count; i++)         /* most bytes first */
        for (size_t k = i; k > 0 && found[k].bytes > found[k - 1].bytes; k--) {
            const struct sl_dtype_count swap = found[k];
            found[k] = found[k - 1];
            found[k - 1] = swap;
        }
    ck->info.dtypes = found;
    return SL_OK;
}

/* Is it a second copy of a weight that another tensor holds (a tied embedding on the
 * last stage)? seen: by param, whether one before holds it. */
static bool is_replica(const struct sl_checkpoint *ck, const struct sl_logical *l, bool *seen)
{
    const size_t tensor = l->pieces[0];
    const size_t first = ck->slice_first[tensor], end = ck->slice_first[tensor + 1];
    bool again = first < end;
    for (size_t i = first; i < end; i++) {
        const uint32_t param = ck->layout.slices[ck->slice_order[i]].param;
        again = again && seen[param];
        seen[param] = true;
    }
    return again;
}

/* Logical tensors that are weights, and their bytes, replicas once. */
static int count_unique(struct sl_checkpoint *ck, struct sl_error *err)
{
    bool *seen = calloc(ck->layout.param_count + 1, sizeof *seen);
    if (!seen)
        return sl_fail_memory(err, ck->layout.param_count);
    const int code = ck->has_layout ? sl_slices_index(ck, err) : SL_OK;
    for (size_t i = 0; !code && i < ck->logical_count; i++) {
        const struct sl_logical *l = &ck->logicals[i];
        if (!is_weight(&ck->c->tensors[l->pieces[0]]))
            continue;
        ck->info.tensors++;
        if (!ck->has_layout || !is_replica(ck, l, seen))
            ck->info.unique_bytes += l->bytes;
    }
    free(seen);
    return code;
}

/* ---- problems ----------------------------------------------------------------- */

/* What the layout had to leave out without a reason to: names no rule knows. */
static void tell_unknown(struct sl_checkpoint *ck)
{
    size_t count = 0;
    const char *first = NULL;
    for (size_t i = 0; i < ck->layout.unused_count; i++) {
        const struct sl_tensor *t = &ck->c->tensors[ck->layout.unused[i].tensor];
        if (!is_weight(t) || !strstr(ck->layout.unused[i].why, "no rule"))
            continue;
        first = first ? first : t->name;
        count++;
    }
    if (count)
        sl_problem_add(&ck->problems, "unknown-tensor", first, NULL,
                       "%zu stored tensor%s no rule of the family %s knows; a conversion leaves %s out", count,
                       count == 1 ? "" : "s", ck->m->family->name, count == 1 ? "it" : "them");
}

/* Weights that the model has and no tensor holds: count, the first, and are all of experts? */
struct absent { size_t count, first; bool experts; };

static struct absent find_absent(const struct sl_layout *l)
{
    struct absent a = { .experts = true };
    for (size_t i = l->param_count; i-- > 0; )
        if (l->param_first[i] == l->param_first[i + 1]) {
            a.count++;
            a.first = i;
            a.experts = a.experts && l->params[i].expert >= 0;
        }
    return a;
}

/* Where a file is missing or only a part was opened that is no news. */
static void tell_absent(struct sl_checkpoint *ck)
{
    const struct absent a = find_absent(&ck->layout);
    for (size_t i = 0; i < ck->problems.count; i++)
        if (ck->problems.items[i].severity == SL_ERROR || !strncmp(ck->problems.items[i].code, "one-", 4))
            return;
    if (!a.count)
        return;
    const struct sl_param *p = &ck->layout.params[a.first];
    const struct sl_problem_text more = {
        .expected = a.experts ? "all experts of the router, an equal share on each expert parallel rank" : "every weight of the family in some tensor",
        .cause = a.experts ? "a file was written at another expert parallel size, or experts were renamed or taken out"
                           : "the tensor was renamed or left out when the file was written",
        .damage = "conversion is refused; listing, statistics and checks work" };
    const char *code = a.experts ? "expert-count" : "layer-incomplete";
    if (a.count == 1)
        sl_problem_add(&ck->problems, code, p->name, &more, "no tensor holds %s", p->name);
    else if (a.experts)
        sl_problem_add(&ck->problems, code, p->name, &more, "%zu weights of experts are in no tensor, first %s: expert %d of layer %d",
                       a.count, p->name, p->expert, p->layer);
    else
        sl_problem_add(&ck->problems, code, p->name, &more, "%zu weights of the model are in no tensor, first %s", a.count, p->name);
}

/* The folder of the rank whose file has that name, else the name. */
static const char *place_of(const struct sl_ckpt *c, const char *file)
{
    for (size_t i = 0; i < c->rank_count; i++)
        if (c->ranks[i].file >= 0 && !strcmp(c->files[c->ranks[i].file].name, file))
            return c->ranks[i].path;
    return file;
}

/* Why the tensors have no layout; but what ranks say against each other is enough, and so is what is wrong with the
 * whole rank: that a shape does not fit follows from it. */
static void tell_misfit(struct sl_checkpoint *ck, const struct sl_error *err)
{
    const char *place = place_of(ck->c, err->where);
    const char *code = ck->layout.misfit_counts ? "expert-count" : err->code == SL_INPUT ? "shape-unexpected" : "config-contradiction";
    const struct sl_tensor *t = ck->layout.misfit;
    char where[512];
    if (sl_problems_explain(&ck->problems, SL_EXPLAINS_SHAPES, NULL) || sl_problems_explain(&ck->problems, SL_EXPLAINS_RANK_SHAPES, place))
        return;
    if (!t || !sl_text_starts(err->message, t->name)) {
        sl_problem_add(&ck->problems, code, place, NULL, "%s", err->message);
        return;
    }
    snprintf(where, sizeof where, "%.200s %.300s", place, t->name);
    sl_problem_add(&ck->problems, code, where, NULL, "it%s", err->message + strlen(t->name));
}

static int add_layout(struct sl_checkpoint *ck, struct sl_error *err)
{
    struct sl_error why = { 0 };
    if (!ck->m->family || ck->m->missing)
        return SL_OK;
    const int code = sl_layout_source(ck->m, ck->c, &ck->arena, &ck->layout, &why);
    if (code == SL_MEMORY)
        return sl_fail(err, SL_MEMORY, why.where, "%s", why.message);
    if (code) {
        tell_misfit(ck, &why);
        sl_layout_free(&ck->layout);
        ck->layout = (struct sl_layout){ 0 };
        return SL_OK;
    }
    ck->has_layout = true;
    tell_unknown(ck);
    tell_absent(ck);
    return SL_OK;
}

/* ---- info ----------------------------------------------------------------------- */

static const char *names_text(const struct sl_model *m)
{
    if (!m->family)
        return NULL;
    return m->dialect == SL_DIALECT_MEGATRON ? m->spec : sl_dialect_name(m->dialect);
}

static void info_fill(struct sl_checkpoint *ck)
{
    const struct sl_ckpt *c = ck->c;
    const struct sl_model *m = ck->m;
    struct sl_checkpoint_info *info = &ck->info;
    info->path = c->path;
    info->folder = c->folder;
    info->container = c->container;
    info->names = names_text(m);
    info->family = m->family ? m->family->name : NULL;
    info->family_title = m->family ? m->family->title : NULL;
    info->model = m->name;
    info->confidence = m->confidence;
    info->evidence = m->evidence;
    info->evidence_count = m->evidence_count;
    info->params = m->params;
    info->files = c->files;
    info->file_count = c->file_count;
    info->config = m->config;
    info->config_count = m->config_count;
    info->parallel = m->parallel;
    info->moe = m->moe;
    info->iteration = c->iteration;
    info->release = c->release;
    info->checkpoint_version = c->checkpoint_version;
    info->ranks = c->ranks;
    info->rank_count = c->rank_count;
    info->torch_container = c->torch_container;
    info->storage = c->storage;
    sl_problems_place(&ck->problems, ck->c, ck->has_layout ? &ck->layout : NULL);
    sl_problems_sort(&ck->problems);
    info->problems = ck->problems.items;
    info->problem_count = ck->problems.count;
}

/* Global layers of each rank, which only the model knows. */
static void rank_layers(struct sl_checkpoint *ck)
{
    for (size_t r = 0; r < ck->c->rank_count; r++) {
        struct sl_rank *rank = &ck->c->ranks[r];
        rank->layer_first = rank->layer_last = -1;
        for (size_t i = 0; i < ck->m->stage_count; i++) {
            const struct sl_stage_layers *s = &ck->m->stages[i];
            if (s->pp != rank->pp || !s->count || rank->status == SL_RANK_MISSING || rank->status == SL_RANK_DAMAGED)
                continue;
            if (rank->layer_first < 0 || s->first < rank->layer_first)
                rank->layer_first = s->first;
            if (s->first + s->count - 1 > rank->layer_last)
                rank->layer_last = s->first + s->count - 1;
        }
    }
}

/* What the checkpoint was opened with, for the command that a plan shows. */
static int keep_options(struct sl_checkpoint *ck, const struct sl_open_options *o, struct sl_error *err)
{
    struct sl_buf b = { 0 };
    const struct { const char *name, *value; } single[] = { { "--model", o->model }, { "--family-file", o->family_file } };
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (single[i].value) {
            sl_buf_printf(&b, " %s", single[i].name);
            sl_buf_shell_word(&b, single[i].value);
        }
    for (size_t i = 0; i < o->set_count; i++) {
        sl_buf_str(&b, " --set");
        sl_buf_shell_word(&b, o->set[i]);
    }
    ck->options = b.failed ? NULL : sl_arena_str(&ck->arena, b.data ? b.data : "");
    sl_buf_free(&b);
    return ck->options ? SL_OK : sl_fail_memory(err, 256);
}

static int open_parts(struct sl_checkpoint *ck, const char *path, const struct sl_open_options *o, struct sl_error *err)
{
    const struct sl_model_options mo = { .model = o->model, .set = o->set, .set_count = o->set_count, .hf_config = o->hf_config };
    int code = sl_families_load(o->family_file, &ck->families, err);
    if (!code)
        code = sl_ckpt_open(path, &ck->c, err);
    if (!code)
        code = sl_model_detect(ck->c, &ck->families, &mo, &ck->m, err);
    if (!code) {
        sl_problems_copy(&ck->problems, &ck->c->problems);
        sl_problems_copy(&ck->problems, &ck->m->problems);
        rank_layers(ck);
        code = add_layout(ck, err);
    }
    if (!code)
        code = sl_logicals_make(ck, err);
    if (!code)
        code = count_dtypes(ck, err);
    if (!code)
        code = count_unique(ck, err);
    if (!code)
        code = sl_ckpt_unchanged(ck->c, err);
    return code ? code : keep_options(ck, o, err);
}

int sl_open(const char *path, const struct sl_open_options *options, struct sl_checkpoint **out, struct sl_error *err)
{
    static const struct sl_open_options plain = { 0 };
    struct sl_checkpoint *ck = calloc(1, sizeof *ck);
    *out = NULL;
    if (!ck)
        return sl_fail_memory(err, sizeof *ck);
    ck->problems.arena = &ck->arena;
    pthread_mutex_init(&ck->lock, NULL);
    int code = open_parts(ck, path, options ? options : &plain, err);
    if (!code)
        info_fill(ck);
    if (!code && ck->arena.starved)
        code = sl_fail_memory(err, ck->arena.used);
    if (code) {
        sl_close(ck);
        return code;
    }
    *out = ck;
    return SL_OK;
}

void sl_close(struct sl_checkpoint *ck)
{
    if (!ck)
        return;
    sl_layout_free(&ck->hf);
    sl_layout_free(&ck->layout);
    sl_map_free(&ck->by_name);
    free(ck->logical_of);
    sl_model_free(ck->m);
    sl_ckpt_close(ck->c);
    sl_families_free(&ck->families);
    sl_arena_free(&ck->arena);
    pthread_mutex_destroy(&ck->lock);
    free(ck);
}

const struct sl_checkpoint_info *sl_info(const struct sl_checkpoint *ck)
{
    return &ck->info;
}

const struct sl_setting *sl_config_get(const struct sl_checkpoint *ck, const char *key)
{
    return sl_model_get(ck->m, key);
}

size_t sl_tensor_count(const struct sl_checkpoint *ck)
{
    return ck->c->tensor_count;
}

const struct sl_tensor *sl_tensor_at(const struct sl_checkpoint *ck, size_t index)
{
    return index < ck->c->tensor_count ? &ck->c->tensors[index] : NULL;
}
