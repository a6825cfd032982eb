/* hf.c: the files of a Hugging Face folder.
 *
 * Shards are filled greedily in module order, as huggingface_hub does it: a tensor
 * that would exceed the limit begins a new shard, one that is larger than the limit
 * has a shard of its own. One shard is model.safetensors; more are numbered and have
 * model.safetensors.index.json.
 * Source: huggingface_hub/serialization/_base.py (split_state_dict_into_shards_factory),
 * transformers/modeling_utils.py (save_pretrained)
 */
#include "plan/parts.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_SHARD UINT64_C(5000000000)

/* ---- shards --------------------------------------------------------------------------- */

/* Gives every target its shard; shards are numbered in the order in which they are full. */
static size_t fill_shards(struct sl_conversion *p, uint64_t limit)
{
    int32_t full = 0;                    /* shards that are closed */
    uint64_t size = 0;
    size_t first = 0;                    /* first target of the open shard */
    for (size_t i = 0; i < p->target_count; i++) {
        struct sl_tensor *t = &p->targets[i];
        t->file = -1;
        if (t->bytes > limit) {
            t->file = full++;
            continue;
        }
        if (size + t->bytes > limit) {
            for (size_t k = first; k < i; k++)
                p->targets[k].file = p->targets[k].file < 0 ? full : p->targets[k].file;
            full++;
            first = i;
            size = 0;
        }
        size += t->bytes;
    }
    bool open = false;
    for (size_t k = first; k < p->target_count; k++)
        if (p->targets[k].file < 0) {
            p->targets[k].file = full;
            open = true;
        }
    return (size_t)full + open;
}

/* Header and offsets of one shard. st has room for all targets. */
static int lay_out_shard(struct sl_conversion *p, size_t shard, struct sl_st_tensor *st, struct sl_map *by_name,
                         struct sl_buf *head, struct sl_error *err)
{
    struct sl_out_file *f = &p->files[shard];
    size_t count = 0;
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        if (t->file == (int32_t)shard)
            st[count++] = (struct sl_st_tensor){ .name = t->name, .dtype = t->dtype, .ndim = t->ndim,
                                                 .shape = t->shape, .bytes = t->bytes };
    }
    const int rc = sl_st_layout(st, count, head, &f->size, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++) {
        uint64_t at = 0;
        (void)sl_map_get(by_name, st[i].name, strlen(st[i].name), &at);
        p->targets[at].offset = p->targets[at].storage_begin = st[i].offset;
        p->targets[at].storage_bytes = st[i].bytes;
    }
    f->tensors = count;
    f->head_len = head->len;
    f->head = sl_arena_copy(&p->arena, head->data, head->len);
    return f->head ? SL_OK : sl_fail_memory(err, head->len);
}

static int name_targets(const struct sl_conversion *p, struct sl_map *by_name, struct sl_error *err)
{
    for (size_t i = 0; i < p->target_count; i++) {
        uint64_t at = i;
        bool added;
        const char *name = p->targets[i].name;
        if (!sl_map_add(by_name, name, strlen(name), &at, &added))
            return sl_fail_memory(err, p->target_count * sizeof(struct sl_map_slot));
        if (!added)
            return sl_fail(err, SL_USAGE, name, "two rules of the family make a tensor of this name");
    }
    return SL_OK;
}

/* ---- index --------------------------------------------------------------------------------- */

static int by_target_name(const void *x, const void *y)
{
    const struct sl_tensor *const *a = x, *const *b = y;
    return strcmp((*a)->name, (*b)->name);
}

static void write_index(const struct sl_conversion *p, const struct sl_tensor *const *sorted, struct sl_buf *out)
{
    struct sl_json j;
    uint64_t params = 0;
    for (size_t i = 0; i < p->target_count; i++)
        params += p->targets[i].count;
    sl_json_begin(&j, out, 2);
    sl_json_object(&j);
    sl_json_key(&j, "metadata");
    sl_json_object(&j);
    sl_json_kuint(&j, "total_parameters", params);
    sl_json_kuint(&j, "total_size", p->write_bytes);
    sl_json_object_end(&j);
    sl_json_key(&j, "weight_map");
    sl_json_object(&j);
    for (size_t i = 0; i < p->target_count; i++)
        sl_json_kstr(&j, sorted[i]->name, p->files[sorted[i]->file].name);
    sl_json_object_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(out, '\n');
}

static int add_text(struct sl_conversion *p, const char *name, const struct sl_buf *text, struct sl_error *err)
{
    struct sl_out_extra extra = { .name = name, .len = text->len };
    if (text->failed)
        return sl_fail_memory(err, text->room);
    extra.bytes = sl_arena_copy(&p->arena, text->data, text->len);
    return extra.bytes ? plan_add_extra(p, &extra, err) : sl_fail_memory(err, text->len);
}

static int add_index(struct sl_conversion *p, const char *name, struct sl_error *err)
{
    const struct sl_tensor **sorted = malloc((p->target_count + 1) * sizeof *sorted);
    struct sl_buf text = { 0 };
    if (!sorted)
        return sl_fail_memory(err, p->target_count * sizeof *sorted);
    for (size_t i = 0; i < p->target_count; i++)
        sorted[i] = &p->targets[i];
    qsort(sorted, p->target_count, sizeof *sorted, by_target_name);
    write_index(p, sorted, &text);
    free(sorted);
    const int rc = add_text(p, name, &text, err);
    sl_buf_free(&text);
    return rc;
}

/* Names of the shards: one alone, and one of many. */
struct shard_names { const char *alone, *stem, *suffix, *index; };
static const struct shard_names safetensors_names = { "model.safetensors", "model", "safetensors", "model.safetensors.index.json" };
static const struct shard_names bin_names = { "pytorch_model.bin", "pytorch_model", "bin", "pytorch_model.bin.index.json" };

int plan_hf_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err)
{
    const struct shard_names *names = want->out == SL_OUT_SAFETENSORS ? &safetensors_names : &bin_names;
    const uint64_t limit = want->out == SL_OUT_PT ? UINT64_MAX : want->max_shard_size ? want->max_shard_size : DEFAULT_SHARD;
    const size_t shards = fill_shards(p, limit);
    struct sl_st_tensor *st = malloc((p->target_count + 1) * sizeof *st);
    struct sl_map by_name = { 0 };
    struct sl_buf head = { 0 };
    p->files = SL_ARENA_NEW(&p->arena, struct sl_out_file, shards);
    p->file_count = shards;
    int rc = st && p->files ? name_targets(p, &by_name, err) : sl_fail_memory(err, p->target_count * sizeof *st);
    for (size_t i = 0; i < shards && !rc; i++) {
        p->files[i].name = shards == 1 ? names->alone
                         : sl_arena_printf(&p->arena, "%s-%05zu-of-%05zu.%s", names->stem, i + 1, shards, names->suffix);
        if (!p->files[i].name)
            rc = sl_fail_memory(err, 64);
        else if (want->out == SL_OUT_SAFETENSORS)
            rc = lay_out_shard(p, i, st, &by_name, &head, err);
        else
            rc = plan_torch_state_dict(p, i, err);
    }
    if (!rc && shards > 1)
        rc = add_index(p, names->index, err);
    sl_map_free(&by_name);
    sl_buf_free(&head);
    free(st);
    return rc;
}

/* ---- files beside the weights ------------------------------------------------------------------ */

int plan_add_extra(struct sl_conversion *p, const struct sl_out_extra *extra, struct sl_error *err)
{
    struct sl_out_extra *more = SL_ARENA_NEW(&p->arena, struct sl_out_extra, p->extra_count + 1);
    if (!more)
        return sl_fail_memory(err, sizeof *more);
    if (p->extra_count)
        memcpy(more, p->extras, p->extra_count * sizeof *more);
    more[p->extra_count] = *extra;
    p->extras = more;
    p->extra_count++;
    return SL_OK;
}

/* What is carried over from a reference folder: tokenizer, chat template, generation settings,
 * code, licence. Never weights, and not config.json, which is made from what is known. */
static const char *const carried[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "*.tiktoken", "tiktoken.model", "spiece.model", "sentencepiece*.model",
    "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json",
    "preprocessor_config.json", "processor_config.json", "generation_config.json",
    "configuration_*.py", "modeling_*.py", "tokenization_*.py", "LICENSE*", "NOTICE*", "USE_POLICY*",
};

static bool is_carried(const char *name)
{
    for (size_t i = 0; i < sizeof carried / sizeof *carried; i++)
        if (sl_text_glob(carried[i], name))
            return true;
    return false;
}

/* One small file of a folder, byte for byte. */
static int carry_file(struct sl_conversion *p, const char *folder, const char *name, struct sl_error *err)
{
    struct sl_file file;
    struct sl_out_extra extra = { .name = name, .from = sl_arena_printf(&p->arena, "%s/%s", folder, name) };
    if (!extra.from)
        return sl_fail_memory(err, strlen(folder));
    if (sl_path_is_folder(extra.from))
        return SL_OK;
    const int rc = sl_file_open(extra.from, &file, err);
    if (rc)
        return rc;
    extra.len = file.size;
    sl_file_close(&file);
    return plan_add_extra(p, &extra, err);
}

static int carry_files(struct sl_conversion *p, const char *folder, struct sl_error *err)
{
    const char *const *names;
    size_t count;
    int rc = sl_folder_list(folder, SL_LIMIT_FOLDER_ENTRIES, &p->arena, &names, &count, err);
    for (size_t i = 0; i < count && !rc; i++)
        if (is_carried(names[i]))
            rc = carry_file(p, folder, names[i], err);
    return rc;
}

/* The element type config.json names: that of most bytes. */
static enum sl_dtype main_dtype(const struct sl_conversion *p)
{
    uint64_t bytes[SL_DTYPE_COUNT] = { 0 };
    enum sl_dtype best = SL_BF16;
    for (size_t i = 0; i < p->target_count; i++)
        if (sl_dtype_row(p->targets[i].dtype)->is_float)
            bytes[p->targets[i].dtype] += p->targets[i].bytes;
    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        if (bytes[d] > bytes[best])
            best = (enum sl_dtype)d;
    return best;
}

/* Rows of the embedding that is written. */
static int64_t vocab_rows(const struct sl_conversion *p)
{
    for (size_t i = 0; i < p->target.param_count; i++) {
        const struct sl_param *x = &p->target.params[i];
        if (x->ndim == 2 && x->layer < 0 && !strcmp(x->axis[0], "vocab"))
            return x->shape[0];
    }
    return p->model->vocab;
}

/* config.json of a model no family knows is carried as it is, if it can be read. */
static int carry_config(struct sl_conversion *p, struct sl_error *err)
{
    const char *path = sl_arena_printf(&p->arena, "%s/config.json", p->ckpt->folder);
    if (!path)
        return sl_fail_memory(err, strlen(p->ckpt->folder));
    if (!sl_path_exists(path))
        return SL_OK;
    if (!p->ckpt->hf_config)
        return sl_fail(err, SL_INPUT, path, "is damaged, and nothing else tells what the model is; mend it, or take it away");
    return carry_file(p, p->ckpt->folder, "config.json", err);
}

/* folder: what is carried over from, NULL: nothing. A generation_config.json there is carried
 * byte for byte, like the tokenizer. */
static int make_configs(struct sl_conversion *p, const char *folder, struct sl_error *err)
{
    struct sl_buf config = { 0 }, generation = { 0 };
    const char *given = folder ? sl_arena_printf(&p->arena, "%s/generation_config.json", folder) : NULL;
    int rc = sl_model_hf_config(p->model, main_dtype(p), vocab_rows(p), &config, &generation, &p->notes, err);
    if (!rc)
        rc = add_text(p, "config.json", &config, err);
    if (!rc && generation.len && !(given && sl_path_exists(given)))
        rc = add_text(p, "generation_config.json", &generation, err);
    sl_buf_free(&config);
    sl_buf_free(&generation);
    return rc;
}

int plan_hf_extras(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err)
{
    const bool from_hf = p->ckpt->container == SL_HF_SAFETENSORS || p->ckpt->container == SL_HF_BIN;
    const char *folder = want->hf_config ? want->hf_config : p->model->hf_reference_folder;
    if (!folder && from_hf)
        folder = p->ckpt->folder;
    const int rc = p->model->family ? make_configs(p, folder, err) : carry_config(p, err);
    return rc || !folder ? rc : carry_files(p, folder, err);
}
