/* demo.c: a sample checkpoint with made-up weights. A Hugging Face checkpoint is
 * painted, an element's value depending only on its weight, its canonical index
 * and the seed; every other layout is a conversion of that one, so any TP, PP
 * and EP hold the same model. Also what the benchmarks and the tutorial run on.
 */
#include <shardlens/shardlens.h>
#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/num.h"
#include "base/text.h"
#include "base/value.h"
#include "format/safetensors.h"
#include "layout/layout.h"
#include "model/model.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEMO_ITERATION 1000
#define DEMO_SMALL (UINT64_C(13) << 20)

struct demo {
    struct sl_arena arena;
    struct sl_families families;
    struct sl_model model;
    struct sl_layout layout;
    const char *dir;
    const char *hf;                          /* folder of the Hugging Face checkpoint: dir, or one beside it */
    uint64_t seed;
    int32_t tp, pp;
};

/* ---- a model that is not read but chosen ------------------------------------ */

struct setting_row { const char *key; char kind; int64_t i; double f; const char *s; };

/* The families that there are samples of, with what their sizes do not tell. */
static const struct demo_family {
    const char *name;
    bool tied, moe;
    bool one_rank;                           /* its experts can't be cut over tensor parallel ranks */
    const char *flags[3];                    /* what the family needs beside the usual */
    struct setting_row own[4];
} demo_families[] = {
    { "minicpm", true, false, false, { NULL }, { { "scale_emb", 'f', 0, 12.0, NULL }, { "scale_depth", 'f', 0, 1.4, NULL },
                                      { "dim_model_base", 'i', 256, 0, NULL } } },
    { "llama", false, false, false, { NULL }, { { NULL, 0, 0, 0, NULL } } },
    { "mistral", false, false, false, { NULL }, { { NULL, 0, 0, 0, NULL } } },
    { "qwen2", false, false, false, { "qkv_bias" }, { { "add_qkv_bias", 'b', 1, 0, NULL } } },
    { "qwen3", false, false, false, { "qk_norm" }, { { "qk_layernorm", 'b', 1, 0, NULL } } },
    { "mixtral", false, true, false, { NULL }, { { NULL, 0, 0, 0, NULL } } },
    { "qwen3-moe", false, true, false, { "qk_norm" }, { { "qk_layernorm", 'b', 1, 0, NULL } } },
    { "minicpm-moe", true, true, false, { "mup" }, { { "scale_emb", 'f', 0, 12.0, NULL }, { "scale_depth", 'f', 0, 1.4, NULL },
                                                     { "dim_model_base", 'i', 256, 0, NULL } } },
    { "minicpm-blockffn", true, true, true, { "mup", "block_ffn", "router_norm" },
      { { "scale_emb", 'f', 0, 12.0, NULL }, { "scale_depth", 'f', 0, 1.4, NULL }, { "dim_model_base", 'i', 256, 0, NULL } } },
};
#define DEMO_EXPERTS 8

/* The row of that name in a table whose rows begin with their names; NULL, and err lists them. */
static const void *row_find(const void *rows, size_t row_size, size_t count, const char *name, const char *what, struct sl_error *err)
{
    char known[256] = "";
    for (size_t i = 0; i < count; i++) {
        const void *row = (const char *)rows + i * row_size;
        const char *is = *(const char *const *)row;
        if (strcmp(is, name) == 0)
            return row;
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", is);
    }
    sl_fail(err, SL_USAGE, name, "there is no sample of this %s; there are %s", what, known);
    return NULL;
}
#define ROW_FIND(rows, name, what, err) row_find(rows, sizeof (rows)[0], sizeof (rows) / sizeof (rows)[0], name, what, err)

struct shape { int64_t layers, hidden, ffn, moe_ffn, heads, groups, head, vocab; };

#define FILE_BESIDE 16384u                   /* bytes of a rank file that are no tensor's, about */

/* Sizes in the proportions of a small MiniCPM or Llama, as large as possible up to `bytes` in bf16,
 * beside the smallest. Layers divide over pp, query groups over tp; the vocabulary does not divide,
 * so padding shows. */
static struct shape shape_for(uint64_t bytes, bool moe, int32_t tp, int32_t pp)
{
    struct shape s = { 0 }, best = { 0 };
    for (int64_t hidden = 64; hidden <= 16384; hidden += hidden < 256 ? 64 : 128) {
        bool small = hidden < 1024;
        s.hidden = hidden;
        s.head = small ? 32 : 64;
        s.heads = hidden / s.head;
        s.groups = sl_max_i64(2, tp);
        while (s.heads % s.groups)
            s.heads++;
        s.ffn = (hidden * 5 / 2 + 63) / 64 * 64;
        while (s.ffn % tp)
            s.ffn += 64;
        s.moe_ffn = (hidden / 2 + 63) / 64 * 64;
        while (s.moe_ffn % tp)
            s.moe_ffn += 64;
        s.layers = ((small ? 8 : 24) + pp - 1) / pp * pp;
        s.vocab = small ? 2053 : 32003;
        int64_t attention = s.hidden * s.head * (2 * s.heads + 2 * s.groups);
        int64_t mlp = 3 * s.hidden * (moe ? DEMO_EXPERTS * s.moe_ffn : s.ffn);
        /* the vocabulary as it is padded, on both ends; norms on each rank; what a file has beside its tensors */
        int64_t rows = (s.vocab + 128 * tp - 1) / (128 * tp) * (128 * tp);
        int64_t all = s.layers * (attention + mlp + 2 * hidden * tp) + (2 * rows + tp) * s.hidden;
        if (best.hidden && (uint64_t)all * 2 + (uint64_t)tp * (uint64_t)pp * FILE_BESIDE > bytes)
            break;
        best = s;
    }
    return best;
}

static int settings_add(struct demo *d, const struct setting_row *rows, size_t count)
{
    for (size_t k = 0; k < count && rows[k].key; k++) {
        const struct setting_row *r = &rows[k];
        const struct sl_value *v = r->kind == 'i' ? sl_value_new_int(&d->arena, r->i)
                                 : r->kind == 'f' ? sl_value_new_double(&d->arena, r->f)
                                 : r->kind == 'b' ? sl_value_new_bool(&d->arena, r->i != 0)
                                                  : sl_value_new_str(&d->arena, r->s);
        if (!v)
            return SL_MEMORY;
        d->model.config[d->model.config_count++] = (struct sl_setting){ r->key, v, "demo" };
    }
    return SL_OK;
}

static int settings_make(struct demo *d, const struct demo_family *f, const struct shape *s)
{
    const struct setting_row rows[] = {
        { "num_layers", 'i', s->layers, 0, NULL },
        { "hidden_size", 'i', s->hidden, 0, NULL },
        { "ffn_hidden_size", 'i', s->ffn, 0, NULL },
        { "num_attention_heads", 'i', s->heads, 0, NULL },
        { "num_query_groups", 'i', s->groups, 0, NULL },
        { "kv_channels", 'i', s->head, 0, NULL },
        { "vocab_size", 'i', s->vocab, 0, NULL },
        { "untie_embeddings_and_output_weights", 'b', !f->tied, 0, NULL },
        { "normalization", 's', 0, 0, "RMSNorm" },
        { "norm_epsilon", 'f', 0, 1e-5, NULL },
        { "rotary_base", 'i', 10000, 0, NULL },
        { "max_position_embeddings", 'i', 4096, 0, NULL },
        { "bos_token_id", 'i', 1, 0, NULL },
        { "eos_token_id", 'i', 2, 0, NULL },
    };
    const struct setting_row moe[] = {
        { "num_experts", 'i', DEMO_EXPERTS, 0, NULL },
        { "moe_router_topk", 'i', 2, 0, NULL },
        { "moe_ffn_hidden_size", 'i', s->moe_ffn, 0, NULL },
        { "moe_router_pre_softmax", 'b', 0, 0, NULL },
    };
    int code = settings_add(d, rows, sizeof rows / sizeof rows[0]);
    if (!code && f->moe)
        code = settings_add(d, moe, sizeof moe / sizeof moe[0]);
    return code ? code : settings_add(d, f->own, sizeof f->own / sizeof f->own[0]);
}

/* Every layer has experts. */
static int moe_make(struct demo *d, const struct shape *s)
{
    struct sl_moe *moe = SL_ARENA_NEW(&d->arena, struct sl_moe, 1);
    int32_t *layers = SL_ARENA_NEW(&d->arena, int32_t, (size_t)s->layers);
    if (!moe || !layers)
        return SL_MEMORY;
    for (int32_t i = 0; i < (int32_t)s->layers; i++)
        layers[i] = i;
    *moe = (struct sl_moe){ .num_experts = DEMO_EXPERTS, .topk = 2, .layers = layers, .layer_count = (size_t)s->layers };
    d->model.moe = moe;
    return SL_OK;
}

static int model_choose(struct demo *d, const char *family, uint64_t bytes, struct sl_error *err)
{
    struct sl_model *m = &d->model;
    const struct demo_family *f = ROW_FIND(demo_families, family, "family", err);
    if (!f)
        return SL_USAGE;
    d->tp = d->tp ? d->tp : f->one_rank ? 1 : 2;
    const struct shape s = shape_for(bytes, f->moe, d->tp, d->pp);
    m->family = sl_family_find(&d->families, f->name);
    m->config_room = 64;
    m->config = SL_ARENA_NEW(&d->arena, struct sl_setting, m->config_room);
    const char **flags = SL_ARENA_NEW(&d->arena, const char *, 8);
    if (!m->family || !m->config || !flags || settings_make(d, f, &s) || (f->moe && moe_make(d, &s)))
        return sl_fail_memory(err, 64 * sizeof(struct sl_setting));
    flags[m->flag_count++] = "gqa";
    flags[m->flag_count++] = "swiglu";
    if (f->tied)
        flags[m->flag_count++] = "tied";
    if (f->moe)
        flags[m->flag_count++] = "moe";
    for (size_t i = 0; i < sizeof f->flags / sizeof f->flags[0] && f->flags[i]; i++)
        flags[m->flag_count++] = f->flags[i];
    m->flags = flags;
    m->parallel = (struct sl_parallel){ 1, 1, 1, 1, 1 };
    m->vocab = m->padded_vocab = s.vocab;
    m->problems.arena = &d->arena;
    return SL_OK;
}

/* ---- values ------------------------------------------------------------------ */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t text_hash(const char *s, uint64_t seed)
{
    uint64_t h = mix(seed + UINT64_C(0x9e3779b97f4a7c15));
    for (; *s; s++)
        h = mix(h ^ (unsigned char)*s);
    return h;
}

static uint16_t bf16_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct paint { uint64_t key; float scale, offset; };

/* Norms lie around 1; matrices have a spread that differs by weight, as trained ones do. */
static struct paint paint_of(const struct sl_param *p, uint64_t seed)
{
    uint64_t key = text_hash(p->name, seed);
    float spread = 0.8f + 0.4f * (float)(key >> 40) / (float)(1 << 24);
    if (p->ndim == 1)
        return (struct paint){ key, 0.05f * spread, 1.0f };
    return (struct paint){ key, 0.02f * spread, 0.0f };
}

/* Sum of four 16-bit numbers: near enough to a normal distribution for a sample. */
static uint16_t value_at(const struct paint *p, uint64_t index)
{
    uint64_t r = mix(p->key + index * UINT64_C(0x9e3779b97f4a7c15));
    int32_t sum = (int32_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48)) - 131070;
    return bf16_of(p->offset + p->scale * (float)sum * (1.0f / 37837.0f));
}

static void paint_slice(const struct sl_layout *l, const struct sl_slice *s, uint64_t seed, uint16_t *tensor)
{
    const struct sl_param *p = &l->params[s->param];
    struct paint paint = paint_of(p, seed);
    uint32_t last = p->ndim - 1;
    int64_t at[SL_AXES] = { 0 };
    for (uint32_t a = 0; a < p->ndim; a++) {
        at[a] = s->lo[a];
        if (s->lo[a] >= s->hi[a])
            return;
    }
    for (;;) {
        int64_t element = s->base;
        uint64_t index = 0;
        for (uint32_t a = 0; a < p->ndim; a++) {
            element += (at[a] - s->lo[a]) * s->stride[a];
            index = index * (uint64_t)p->shape[a] + (uint64_t)at[a];
        }
        for (int64_t x = s->lo[last]; x < s->hi[last]; x++, element += s->stride[last], index++)
            tensor[element] = value_at(&paint, index);
        int32_t a = (int32_t)last - 1;
        while (a >= 0 && ++at[a] == s->hi[a]) {
            at[a] = s->lo[a];
            a--;
        }
        if (a < 0)
            return;
    }
}

/* Slices are ordered by param; this is the same by tensor. */
struct by_tensor { uint32_t *slices; size_t *first; };

static int by_tensor_make(const struct sl_layout *l, struct sl_arena *arena, struct by_tensor *t, struct sl_error *err)
{
    t->first = SL_ARENA_NEW(arena, size_t, l->tensor_count + 2);
    t->slices = SL_ARENA_NEW(arena, uint32_t, l->slice_count + 1);
    if (!t->first || !t->slices)
        return sl_fail_memory(err, l->slice_count * sizeof(uint32_t));
    for (size_t i = 0; i < l->slice_count; i++)
        t->first[l->slices[i].tensor + 2]++;
    for (size_t i = 2; i <= l->tensor_count + 1; i++)
        t->first[i] += t->first[i - 1];
    for (size_t i = 0; i < l->slice_count; i++)
        t->slices[t->first[l->slices[i].tensor + 1]++] = (uint32_t)i;
    return SL_OK;
}

static uint16_t *tensor_painted(const struct demo *d, const struct by_tensor *t, size_t tensor)
{
    uint16_t *values = calloc(d->layout.tensors[tensor].count + 1, sizeof *values);
    for (size_t i = t->first[tensor]; values && i < t->first[tensor + 1]; i++)
        paint_slice(&d->layout, &d->layout.slices[t->slices[i]], d->seed, values);
    return values;
}

/* ---- Hugging Face: one safetensors file ---------------------------------------- */

static int hf_files_write(struct demo *d, struct sl_error *err)
{
    struct sl_buf config = { 0 }, generation = { 0 };
    struct sl_problems notes = { .arena = &d->arena };
    char *path = sl_arena_printf(&d->arena, "%s/config.json", d->hf);
    char *second = sl_arena_printf(&d->arena, "%s/generation_config.json", d->hf);
    int code = path && second ? sl_model_hf_config(&d->model, SL_BF16, d->model.vocab, &config, &generation, &notes, err)
                              : sl_fail_memory(err, 128);
    if (!code)
        code = sl_write_new(path, config.data, config.len, err);
    if (!code && generation.len)
        code = sl_write_new(second, generation.data, generation.len, err);
    sl_buf_free(&config);
    sl_buf_free(&generation);
    return code;
}

static int hf_tensors_write(struct demo *d, const struct by_tensor *t, int fd, const char *path, struct sl_error *err)
{
    size_t count = d->layout.tensor_count;
    struct sl_st_tensor *st = SL_ARENA_NEW(&d->arena, struct sl_st_tensor, count + 1);
    struct sl_map index = { 0 };
    struct sl_buf head = { 0 };
    uint64_t size = 0;
    int code = st ? SL_OK : sl_fail_memory(err, count * sizeof *st);
    for (size_t i = 0; !code && i < count; i++) {
        const struct sl_tensor *x = &d->layout.tensors[i];
        st[i] = (struct sl_st_tensor){ .name = x->name, .dtype = x->dtype, .ndim = x->ndim, .shape = x->shape, .bytes = x->bytes };
        if (!sl_map_put(&index, x->name, strlen(x->name), i))
            code = sl_fail_memory(err, count * sizeof(struct sl_map_slot));
    }
    if (!code)
        code = sl_st_layout(st, count, &head, &size, err);
    if (!code)
        code = sl_write_at(fd, path, 0, head.data, head.len, err);
    for (size_t i = 0; !code && i < count; i++) {
        uint64_t tensor = 0;
        sl_map_get(&index, st[i].name, strlen(st[i].name), &tensor);
        uint16_t *values = tensor_painted(d, t, tensor);
        code = values ? sl_write_at(fd, path, st[i].offset, values, st[i].bytes, err) : sl_fail_memory(err, st[i].bytes);
        free(values);
    }
    sl_buf_free(&head);
    sl_map_free(&index);
    return code;
}

static int hf_write(struct demo *d, struct sl_error *err)
{
    struct sl_target_spec spec = { .dialect = SL_DIALECT_HF, .parallel = { 1, 1, 1, 1, 1 }, .padded_vocab = d->model.vocab,
                                   .dtype = SL_BF16 };
    struct by_tensor t;
    char *path = sl_arena_printf(&d->arena, "%s/model.safetensors", d->hf);
    int fd = -1, code = path ? sl_layout_target(&d->model, &spec, &d->arena, &d->layout, err) : sl_fail_memory(err, 128);
    if (!code)
        code = by_tensor_make(&d->layout, &d->arena, &t, err);
    if (!code && (fd = sl_io.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0)
        code = sl_fail_errno(err, SL_WRITE, path, "can't be created");
    if (!code)
        code = hf_tensors_write(d, &t, fd, path, err);
    if (fd >= 0 && sl_io.close(fd) && !code)
        code = sl_fail_errno(err, SL_WRITE, path, "close");
    return code ? code : hf_files_write(d, err);
}

/* ---- every other layout: a conversion ------------------------------------------- */

static const struct demo_layout { const char *name; enum sl_format format; bool damaged; } demo_layouts[] = {
    { "megatron", SL_TO_MEGATRON, false },
    { "hf", SL_TO_HF, false },
    { "torch_dist", SL_TO_TORCH_DIST, false },
    { "damaged", SL_TO_MEGATRON, true },
};

/* Cuts the last file off, as an interrupted copy does. */
static int damage(const struct demo *d, const struct sl_plan_info *info, struct sl_error *err)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", d->dir, info->files[info->file_count - 1].name);
    if (stat(path, &st) || truncate(path, st.st_size * 3 / 5))
        return sl_fail_errno(err, SL_WRITE, path, "can't be cut off");
    return SL_OK;
}

static int run_conversion(struct demo *d, struct sl_plan *plan, struct sl_error *err)
{
    /* the report tells of a source that is not kept */
    char *report = sl_arena_printf(&d->arena, "%s/report", d->hf);
    const struct sl_run_options run = { .verify = SL_VERIFY_NONE, .report = report };
    struct sl_job *job;
    int code = report ? sl_convert_start(plan, &run, &job, err) : sl_fail_memory(err, 64);
    if (code)
        return code;
    code = sl_job_wait(job, err);
    sl_job_free(job);
    return code;
}

static int converted(struct demo *d, const struct demo_layout *layout, int32_t ep, struct sl_error *err)
{
    const struct sl_plan_options want = { .format = layout->format, .tp = d->tp, .pp = d->pp, .ep = ep, .iteration = DEMO_ITERATION };
    struct sl_checkpoint *ck;
    struct sl_plan *plan;
    int code = sl_open(d->hf, NULL, &ck, err);
    if (code)
        return code;
    code = sl_plan_make(ck, d->dir, &want, &plan, err);
    if (!code) {
        code = run_conversion(d, plan, err);
        if (!code && layout->damaged)
            code = damage(d, sl_plan_info(plan), err);
        sl_plan_free(plan);
    }
    sl_close(ck);
    return code;
}

/* ---- all ----------------------------------------------------------------------- */

/* The place of the sample is free: nothing there, or an empty folder. */
static int place_free(struct demo *d, bool keep, struct sl_error *err)
{
    const char *const *names;
    size_t count = 0;
    if (!sl_path_exists(d->dir))
        return keep ? sl_folder_make(d->dir, err) : SL_OK;
    if (!sl_path_is_folder(d->dir))
        return sl_fail(err, SL_WRITE, d->dir, "exists and is no folder");
    int code = sl_folder_list(d->dir, SL_LIMIT_FOLDER_ENTRIES, &d->arena, &names, &count, err);
    if (!code && count)
        code = sl_fail(err, SL_WRITE, d->dir, "exists and is not empty; the demo needs a new or empty folder");
    if (!code && !keep && rmdir(d->dir))
        code = sl_fail_errno(err, SL_WRITE, d->dir, "an empty folder in the place of the sample can't be removed");
    return code;
}

static int demo_make(struct demo *d, const struct sl_demo_options *o, struct sl_error *err)
{
    const struct demo_layout *layout = ROW_FIND(demo_layouts, o->layout ? o->layout : "megatron", "layout", err);
    if (!layout)
        return SL_USAGE;
    if (d->tp > 64 || d->pp > 64)
        return sl_fail(err, SL_USAGE, "", "a demo of TP%d x PP%d: at most 64 each", d->tp, d->pp);
    const bool hf = layout->format == SL_TO_HF;
    int code = sl_families_load(NULL, &d->families, err);
    if (!code)
        code = model_choose(d, o->family ? o->family : "minicpm", o->bytes ? o->bytes : DEMO_SMALL, err);
    if (!code)
        code = place_free(d, hf, err);
    if (!code && !hf) {
        d->hf = sl_arena_printf(&d->arena, "%s.demo-%ld", d->dir, (long)getpid());
        code = d->hf ? sl_folder_make(d->hf, err) : sl_fail_memory(err, 64);
    }
    if (code)
        return code;
    code = hf_write(d, err);
    if (!code && !hf)
        code = converted(d, layout, o->ep, err);
    if (!hf) {
        const int removed = sl_folder_remove(d->hf, code ? NULL : err);
        code = code ? code : removed;
    }
    return code;
}

int sl_demo_write(const char *dir, const struct sl_demo_options *options, char **made, struct sl_error *err)
{
    static const struct sl_demo_options plain = { 0 };
    const struct sl_demo_options *o = options ? options : &plain;
    struct sl_error own;
    struct demo d = { .dir = dir, .hf = dir, .seed = o->seed, .tp = o->tp, .pp = o->pp ? o->pp : 2 };
    int code = demo_make(&d, o, err ? err : &own);
    sl_layout_free(&d.layout);
    sl_families_free(&d.families);
    sl_arena_free(&d.arena);
    if (made)
        *made = code ? NULL : strdup(dir);
    return code;
}
