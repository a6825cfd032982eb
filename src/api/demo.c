/* demo.c: a sample checkpoint with made-up weights. The same layouts that read
 * a checkpoint place its tensors, so any family, TP and PP hold the same model:
 * an element's value depends only on its weight, its canonical index and the
 * seed. Also what the benchmarks and the tutorial run on.
 */
#include <shardlens/shardlens.h>
#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/num.h"
#include "base/pool.h"
#include "base/text.h"
#include "base/value.h"
#include "format/safetensors.h"
#include "format/torchwrite.h"
#include "layout/layout.h"
#include "model/model.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define DEMO_ITERATION 1000
#define DEMO_SMALL (UINT64_C(12) << 20)

struct demo {
    struct sl_arena arena;
    struct sl_families families;
    struct sl_model model;
    struct sl_layout layout;
    const char *dir;
    uint64_t seed;
    int32_t tp, pp;
};

/* ---- a model that is not read but chosen ------------------------------------ */

struct shape { int64_t layers, hidden, ffn, heads, groups, head, vocab; };

/* Sizes in the proportions of a small MiniCPM or Llama, about `bytes` in bf16. Layers divide
 * over pp, query groups over tp; the vocabulary does not divide, so padding shows. */
static struct shape shape_for(uint64_t bytes, int32_t tp, int32_t pp)
{
    struct shape s = { 0 };
    for (int64_t hidden = 256;; hidden += 128) {
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
        s.layers = ((small ? 8 : 24) + pp - 1) / pp * pp;
        s.vocab = small ? 2053 : 32003;
        int64_t attention = s.hidden * s.head * (2 * s.heads + 2 * s.groups);
        int64_t all = s.layers * (attention + 3 * s.hidden * s.ffn) + 2 * s.vocab * s.hidden;
        if ((uint64_t)all * 2 >= bytes || hidden >= 16384)
            return s;
    }
}

struct setting_row { const char *key; char kind; int64_t i; double f; const char *s; };

static int settings_add(struct demo *d, const struct setting_row *rows, size_t count)
{
    for (size_t k = 0; k < count; k++) {
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

static int64_t padded(int64_t vocab, int32_t tp)
{
    int64_t unit = 128 * (int64_t)tp;
    return (vocab + unit - 1) / unit * unit;
}

static int model_choose(struct demo *d, const char *family, uint64_t bytes, struct sl_error *err)
{
    struct sl_model *m = &d->model;
    struct shape s = shape_for(bytes, d->tp, d->pp);
    bool tied = strcmp(family, "minicpm") == 0;
    m->family = sl_family_find(&d->families, family);
    if (!m->family)
        return sl_fail(err, SL_USAGE, family, "no such family; shardlens models lists them");
    const struct setting_row rows[] = {
        { "num_layers", 'i', s.layers, 0, NULL },
        { "hidden_size", 'i', s.hidden, 0, NULL },
        { "ffn_hidden_size", 'i', s.ffn, 0, NULL },
        { "num_attention_heads", 'i', s.heads, 0, NULL },
        { "group_query_attention", 'b', 1, 0, NULL },
        { "num_query_groups", 'i', s.groups, 0, NULL },
        { "kv_channels", 'i', s.head, 0, NULL },
        { "vocab_size", 'i', s.vocab, 0, NULL },
        { "padded_vocab_size", 'i', padded(s.vocab, d->tp), 0, NULL },
        { "make_vocab_size_divisible_by", 'i', 128, 0, NULL },
        { "untie_embeddings_and_output_weights", 'b', !tied, 0, NULL },
        { "normalization", 's', 0, 0, "RMSNorm" },
        { "norm_epsilon", 'f', 0, 1e-5, NULL },
        { "layernorm_epsilon", 'f', 0, 1e-5, NULL },
        { "swiglu", 'b', 1, 0, NULL },
        { "add_bias_linear", 'b', 0, 0, NULL },
        { "add_qkv_bias", 'b', 0, 0, NULL },
        { "position_embedding_type", 's', 0, 0, "rope" },
        { "rotary_base", 'i', 10000, 0, NULL },
        { "rotary_percent", 'f', 0, 1.0, NULL },
        { "max_position_embeddings", 'i', 4096, 0, NULL },
        { "seq_length", 'i', 4096, 0, NULL },
        { "tensor_model_parallel_size", 'i', d->tp, 0, NULL },
        { "pipeline_model_parallel_size", 'i', d->pp, 0, NULL },
        { "bf16", 'b', 1, 0, NULL },
    };
    const struct setting_row minicpm[] = {
        { "scale_emb", 'f', 0, 12.0, NULL },
        { "scale_depth", 'f', 0, 1.4, NULL },
        { "dim_model_base", 'i', 256, 0, NULL },
    };
    m->config_room = 64;
    m->config = SL_ARENA_NEW(&d->arena, struct sl_setting, m->config_room);
    if (!m->config || settings_add(d, rows, sizeof rows / sizeof rows[0]) ||
        (tied && settings_add(d, minicpm, sizeof minicpm / sizeof minicpm[0])))
        return sl_fail_memory(err, 64 * sizeof(struct sl_setting));
    static const char *const flags_tied[] = { "tied", "gqa", "swiglu" };
    m->flags = tied ? flags_tied : flags_tied + 1;
    m->flag_count = tied ? 3 : 2;
    m->parallel = (struct sl_parallel){ d->tp, d->pp, 1, 1, d->tp };
    m->vocab = s.vocab;
    m->padded_vocab = padded(s.vocab, d->tp);
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

/* ---- Megatron: one torch file a rank ------------------------------------------ */

static void args_pickle(struct sl_pickler *p, const struct sl_model *m)
{
    sl_pickler_namespace_begin(p);
    for (size_t i = 0; i < m->config_count; i++) {
        sl_pickler_str(p, m->config[i].key);
        sl_pickler_value(p, m->config[i].value);
    }
    sl_pickler_str(p, "params_dtype");
    sl_pickler_dtype(p, SL_BF16);
    sl_pickler_str(p, "virtual_pipeline_model_parallel_size");
    sl_pickler_none(p);
    sl_pickler_str(p, "iteration");
    sl_pickler_int(p, DEMO_ITERATION);
    sl_pickler_namespace_end(p);
}

static void rank_pickle(const struct demo *d, const size_t *tensors, uint32_t count, struct sl_pickler *p)
{
    sl_pickler_begin(p);
    sl_pickler_dict_begin(p, false);
    sl_pickler_str(p, "args");
    args_pickle(p, &d->model);
    sl_pickler_str(p, "checkpoint_version");
    sl_pickler_double(p, 3.0);
    sl_pickler_str(p, "iteration");
    sl_pickler_int(p, DEMO_ITERATION);
    sl_pickler_str(p, "model");
    sl_pickler_dict_begin(p, true);
    for (uint32_t i = 0; i < count; i++) {
        const struct sl_tensor *t = &d->layout.tensors[tensors[i]];
        sl_pickler_str(p, t->name);
        sl_pickler_tensor(p, t->dtype, i, t->count, 0, t->shape, t->ndim);
    }
    sl_pickler_dict_end(p);
    sl_pickler_dict_end(p);
    sl_pickler_end(p);
}

static int pieces_write(int fd, const char *path, const struct sl_torch_piece *pieces, uint32_t count, struct sl_error *err)
{
    for (uint32_t i = 0; i < count; i++)
        if (sl_write_at(fd, path, pieces[i].offset, pieces[i].bytes, pieces[i].len, err))
            return (int)err->code;
    return SL_OK;
}

static int rank_tensors_write(const struct demo *d, const struct by_tensor *t, const size_t *tensors, uint32_t count, int fd,
                              const char *path, const struct sl_torch_layout *layout, uint32_t *crc, struct sl_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        uint16_t *values = tensor_painted(d, t, tensors[i]);
        uint64_t bytes = d->layout.tensors[tensors[i]].bytes;
        if (!values)
            return sl_fail_memory(err, bytes);
        crc[i] = (uint32_t)crc32_z(0, (const unsigned char *)values, bytes);
        int code = sl_write_at(fd, path, layout->storage_offset[i], values, bytes, err);
        free(values);
        if (code)
            return code;
    }
    return SL_OK;
}

static int rank_file_write(const struct demo *d, const struct by_tensor *t, const size_t *tensors, uint32_t count, const char *path,
                           struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_pickler p = { 0 };
    struct sl_torch_layout layout;
    struct sl_torch_piece *tail;
    uint32_t tail_count;
    uint64_t *bytes = SL_ARENA_NEW(&arena, uint64_t, count + 1);
    uint32_t *crc = SL_ARENA_NEW(&arena, uint32_t, count + 1);
    int fd = -1, code = bytes && crc ? SL_OK : sl_fail_memory(err, count * sizeof *bytes);
    for (uint32_t i = 0; !code && i < count; i++)
        bytes[i] = d->layout.tensors[tensors[i]].bytes;
    if (!code) {
        rank_pickle(d, tensors, count, &p);
        code = p.out.failed ? sl_fail_memory(err, p.out.len) : SL_OK;
    }
    if (!code)
        code = sl_torch_layout(p.out.data, p.out.len, bytes, count, &arena, &layout, err);
    if (!code && (fd = sl_io.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0)
        code = sl_fail_errno(err, SL_WRITE, path, "can't be created");
    if (!code)
        code = pieces_write(fd, path, layout.pieces, layout.piece_count, err);
    if (!code)
        code = rank_tensors_write(d, t, tensors, count, fd, path, &layout, crc, err);
    if (!code)
        code = sl_torch_tail(&layout, crc, &arena, &tail, &tail_count, err);
    if (!code)
        code = pieces_write(fd, path, tail, tail_count, err);
    if (fd >= 0 && sl_io.close(fd) && !code)
        code = sl_fail_errno(err, SL_WRITE, path, "close");
    sl_buf_free(&p.out);
    sl_arena_free(&arena);
    return code;
}

struct rank_job { const struct demo *d; const struct by_tensor *t; const char *folder; struct sl_error *errors; };

static int rank_write(void *arg, unsigned worker, uint64_t rank)
{
    struct rank_job *j = arg;
    const struct sl_layout *l = &j->d->layout;
    int32_t tp = (int32_t)rank % j->d->tp, pp = (int32_t)rank / j->d->tp;
    char path[4096];
    size_t *tensors = calloc(l->tensor_count + 1, sizeof *tensors);
    uint32_t count = 0;
    (void)worker;
    struct sl_error *err = &j->errors[rank];
    if (!tensors)
        return sl_fail_memory(err, l->tensor_count * sizeof *tensors);
    for (size_t i = 0; i < l->tensor_count; i++)
        if (l->tensors[i].rank == (int32_t)rank)
            tensors[count++] = i;
    int n = j->d->pp > 1 ? snprintf(path, sizeof path, "%s/mp_rank_%02d_%03d", j->folder, tp, pp)
                         : snprintf(path, sizeof path, "%s/mp_rank_%02d", j->folder, tp);
    int code = n > 0 && (size_t)n + 24 < sizeof path ? sl_folder_make(path, err) : sl_fail(err, SL_WRITE, j->folder, "path too long");
    if (!code) {
        snprintf(path + n, sizeof path - (size_t)n, "/model_optim_rng.pt");
        code = rank_file_write(j->d, j->t, tensors, count, path, err);
    }
    free(tensors);
    return code;
}

static int megatron_write(struct demo *d, struct sl_error *err)
{
    struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .parallel = d->model.parallel,
                                   .padded_vocab = d->model.padded_vocab, .dtype = SL_BF16 };
    struct by_tensor t;
    uint64_t ranks = (uint64_t)d->tp * (uint64_t)d->pp;
    int code = sl_layout_target(&d->model, &spec, &d->arena, &d->layout, err);
    if (!code)
        code = by_tensor_make(&d->layout, &d->arena, &t, err);
    if (code)
        return code;
    struct rank_job j = { d, &t, sl_arena_printf(&d->arena, "%s/iter_%07d", d->dir, DEMO_ITERATION),
                          SL_ARENA_NEW(&d->arena, struct sl_error, ranks) };
    if (!j.folder || !j.errors)
        return sl_fail_memory(err, ranks * sizeof *j.errors);
    if (sl_parallel(sl_processors(), ranks, rank_write, &j))
        for (uint64_t i = 0; i < ranks; i++)
            if (j.errors[i].code) {
                *err = j.errors[i];
                return (int)err->code;
            }
    char *tracker = sl_arena_printf(&d->arena, "%s/latest_checkpointed_iteration.txt", d->dir);
    return tracker ? sl_write_new(tracker, "1000", 4, err) : sl_fail_memory(err, 64);
}

/* Cuts the last rank's file off, as an interrupted copy does. */
static int damage(struct demo *d, struct sl_error *err)
{
    char *path = d->pp > 1 ? sl_arena_printf(&d->arena, "%s/iter_%07d/mp_rank_%02d_%03d/model_optim_rng.pt", d->dir, DEMO_ITERATION,
                                             d->tp - 1, d->pp - 1)
                           : sl_arena_printf(&d->arena, "%s/iter_%07d/mp_rank_%02d/model_optim_rng.pt", d->dir, DEMO_ITERATION, d->tp - 1);
    struct stat st;
    if (!path)
        return sl_fail_memory(err, 128);
    if (stat(path, &st) || truncate(path, st.st_size * 3 / 5))
        return sl_fail_errno(err, SL_WRITE, path, "can't be cut off");
    return SL_OK;
}

/* ---- Hugging Face: one safetensors file ---------------------------------------- */

static int hf_files_write(struct demo *d, struct sl_error *err)
{
    struct sl_buf config = { 0 }, generation = { 0 };
    struct sl_problems notes = { .arena = &d->arena };
    char *path = sl_arena_printf(&d->arena, "%s/config.json", d->dir);
    char *second = sl_arena_printf(&d->arena, "%s/generation_config.json", d->dir);
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
    char *path = sl_arena_printf(&d->arena, "%s/model.safetensors", d->dir);
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

/* ---- all ----------------------------------------------------------------------- */

static int folder_ready(struct demo *d, struct sl_error *err)
{
    const char *const *names;
    size_t count = 0;
    if (!sl_path_exists(d->dir))
        return sl_folder_make(d->dir, err);
    if (!sl_path_is_folder(d->dir))
        return sl_fail(err, SL_WRITE, d->dir, "exists and is no folder");
    int code = sl_folder_list(d->dir, SL_LIMIT_FOLDER_ENTRIES, &d->arena, &names, &count, err);
    if (!code && count)
        code = sl_fail(err, SL_WRITE, d->dir, "exists and is not empty; the demo needs a new or empty folder");
    return code;
}

static int demo_make(struct demo *d, const struct sl_demo_options *o, struct sl_error *err)
{
    const char *layout = o->layout ? o->layout : "megatron";
    bool hf = strcmp(layout, "hf") == 0, damaged = strcmp(layout, "damaged") == 0;
    if (!hf && !damaged && strcmp(layout, "megatron") != 0)
        return sl_fail(err, SL_USAGE, layout, "no such demo layout; megatron, hf and damaged are known");
    if (o->ep > 1)
        return sl_fail(err, SL_UNSUPPORTED, "", "--ep %d: the demo families have no experts", o->ep);
    if (d->tp > 64 || d->pp > 64)
        return sl_fail(err, SL_USAGE, "", "a demo of TP%d x PP%d: at most 64 each", d->tp, d->pp);
    int code = sl_families_load(NULL, &d->families, err);
    if (!code)
        code = model_choose(d, o->family ? o->family : "minicpm", o->bytes ? o->bytes : DEMO_SMALL, err);
    if (!code)
        code = folder_ready(d, err);
    if (!code)
        code = hf ? hf_write(d, err) : megatron_write(d, err);
    return code || !damaged ? code : damage(d, err);
}

int sl_demo_write(const char *dir, const struct sl_demo_options *options, char **made, struct sl_error *err)
{
    static const struct sl_demo_options plain = { 0 };
    const struct sl_demo_options *o = options ? options : &plain;
    struct sl_error own;
    struct demo d = { .dir = dir, .seed = o->seed, .tp = o->tp ? o->tp : 2, .pp = o->pp ? o->pp : 2 };
    int code = demo_make(&d, o, err ? err : &own);
    sl_layout_free(&d.layout);
    sl_families_free(&d.families);
    sl_arena_free(&d.arena);
    if (made)
        *made = code ? NULL : strdup(dir);
    return code;
}
