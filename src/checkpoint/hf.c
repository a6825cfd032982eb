/* hf.c: Hugging Face folders (index, shards, config.json) and single files. */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/json.h"
#include "base/map.h"
#include "base/value.h"

#include <ctype.h>
#include <string.h>

#define TOLD_AT_MOST 8

/* The ways a model is stored, best first. Source: transformers
 * modeling_utils.py (SAFE_WEIGHTS_NAME, WEIGHTS_NAME and their index names). */
struct hf_set {
    enum sl_container container;
    const char *index, *any_index, *single, *shards, *any;
};
static const struct hf_set sets[] = {
    { SL_HF_SAFETENSORS, "model.safetensors.index.json", "*.safetensors.index.json", "model.safetensors",
      "model-*-of-*.safetensors", "*.safetensors" },
    { SL_HF_BIN, "pytorch_model.bin.index.json", "*.bin.index.json", "pytorch_model.bin", "pytorch_model-*-of-*.bin",
      "pytorch_model*.bin" },
};

struct hf {
    struct sl_ckpt *c;
    const struct found *found;
    const struct hf_set *set;
    const char *index_name;
    const struct sl_value *weight_map;   /* DICT, NULL without index */
    const char **files;                  /* names to open */
    size_t file_count;
};

static const char *first_like(const struct found *found, const char *pattern)
{
    for (size_t i = 0; i < found->name_count; i++)
        if (sl_text_glob(pattern, found->names[i]))
            return found->names[i];
    return NULL;
}

static bool is_there(const struct hf *h, const char *name)
{
    const char *path = ckpt_join(&h->c->arena, h->found->folder, name);
    return path && sl_path_exists(path) && !sl_path_is_folder(path);
}

/* ---- config.json --------------------------------------------------------------- */

static const struct sl_value *load_json(struct sl_ckpt *c, const char *folder, const char *name, uint64_t limit)
{
    const struct sl_value *json = NULL;
    struct sl_error err = { 0 };
    const char *path = ckpt_join(&c->arena, folder, name);
    if (!path || !sl_path_exists(path))
        return NULL;
    if (ckpt_json(c, path, limit, &json, &err))
        sl_problem_add(&c->problems, "config-damaged", name, NULL, "%s", err.message);
    else if (json->kind != SL_VALUE_DICT)
        sl_problem_add(&c->problems, "config-damaged", name, NULL, "it holds no object {..}");
    return json && json->kind == SL_VALUE_DICT ? json : NULL;
}

static void load_config(struct sl_ckpt *c, const char *folder)
{
    c->hf_config = load_json(c, folder, "config.json", SL_LIMIT_JSON_BYTES);
    c->hf_generation = load_json(c, folder, "generation_config.json", SL_LIMIT_JSON_BYTES);
}

/* ---- which files ------------------------------------------------------------------ */

static bool is_usable(const struct found *found, const struct hf_set *set)
{
    return first_like(found, set->any_index) || first_like(found, set->any);
}

static int new_files(struct hf *h, size_t room, struct sl_error *err)
{
    h->files = SL_ARENA_NEW(&h->c->arena, const char *, room);
    return h->files ? SL_OK : sl_fail_memory(err, room * sizeof *h->files);
}

static const char *in_folder(const struct hf *h, const char *name)
{
    const char *path = ckpt_join(&h->c->arena, h->found->folder, name);
    return path ? path : name;
}

/* The files of the weight_map, each once. */
static int files_of_index(struct hf *h, struct sl_error *err)
{
    struct sl_map seen = { 0 }, missing = { 0 };
    int code = new_files(h, h->weight_map->len, err);
    size_t lost = 0;
    for (size_t i = 0; !code && i < h->weight_map->len; i++) {
        const struct sl_value *file = h->weight_map->items[i];
        const char *name = sl_value_str(file);
        uint64_t at = 0;
        bool added = false;
        if (!name || !sl_path_is_inside(name, file->len)) {
            code = sl_fail(err, SL_INPUT, in_folder(h, h->index_name), "it names the file \"%.100s\"; expected a name inside the folder",
                           name ? name : "(not a text)");
            break;
        }
        if (!sl_map_add(&seen, name, file->len, &at, &added)) {
            code = sl_fail_memory(err, 64);
            break;
        }
        if (added && is_there(h, name))
            h->files[h->file_count++] = name;
        else if (added && !sl_map_put(&missing, name, file->len, 0))
            code = sl_fail_memory(err, 64);
        lost += sl_map_get(&missing, name, file->len, &at);
    }
    for (size_t i = 0; !code && i < missing.room; i++)
        if (missing.slots[i].key)
            sl_problem_add(&h->c->problems, "hf-missing-file", missing.slots[i].key, NULL,
                           "%s names it, and it is not in the folder (%zu of %zu tensors are in missing files)", h->index_name,
                           lost, h->weight_map->len);
    sl_map_free(&seen);
    sl_map_free(&missing);
    return code;
}

/* name-00002-of-00005.ext */
static bool shard_number(const char *name, int *number, int *of, size_t *prefix)
{
    const char *mark = strstr(name, "-of-");
    if (!mark || mark - name < 6 || mark[-6] != '-')
        return false;
    *number = *of = 0;
    for (int i = -5; i < 0; i++) {
        if (!isdigit((unsigned char)mark[i]))
            return false;
        *number = *number * 10 + (mark[i] - '0');
    }
    for (int i = 4; i < 9; i++) {
        if (!isdigit((unsigned char)mark[i]))
            return false;
        *of = *of * 10 + (mark[i] - '0');
    }
    *prefix = (size_t)(mark - name) - 5;
    return true;
}

/* Shards without an index: their names say how many there are. */
static void tell_missing_shards(struct hf *h)
{
    int number, of;
    size_t prefix;
    if (!h->file_count || !shard_number(h->files[0], &number, &of, &prefix))
        return;
    for (int want = 1; want <= of; want++) {
        const char *name = sl_arena_printf(&h->c->arena, "%.*s%05d%s", (int)prefix, h->files[0], want, h->files[0] + prefix + 5);
        if (name && !is_there(h, name))
            sl_problem_add(&h->c->problems, "hf-missing-file", name, NULL, "the names of the others say that there are %d files", of);
    }
}

static int files_of_names(struct hf *h, struct sl_error *err)
{
    const struct found *found = h->found;
    const char *pattern = h->set->single;
    if (!first_like(found, pattern))
        pattern = first_like(found, h->set->shards) ? h->set->shards : h->set->any;
    const int code = new_files(h, found->name_count, err);
    for (size_t i = 0; !code && i < found->name_count; i++)
        if (sl_text_glob(pattern, found->names[i]) && is_there(h, found->names[i]))
            h->files[h->file_count++] = found->names[i];
    if (!code)
        tell_missing_shards(h);
    return code;
}

static void load_index(struct hf *h)
{
    h->index_name = first_like(h->found, h->set->index);
    if (!h->index_name)
        h->index_name = first_like(h->found, h->set->any_index);
    if (!h->index_name)
        return;
    h->c->hf_index = load_json(h->c, h->found->folder, h->index_name, SL_LIMIT_INDEX_BYTES);
    const struct sl_value *map = sl_value_get(h->c->hf_index, "weight_map");
    if (map && map->kind == SL_VALUE_DICT)
        h->weight_map = map;
    else if (h->c->hf_index)
        sl_problem_add(&h->c->problems, "config-damaged", h->index_name, NULL, "it has no weight_map; the files themselves were read");
}

static int tell_extra(struct hf *h, struct sl_error *err)
{
    struct sl_buf names = { 0 };
    struct sl_map used = { 0 };
    size_t count = 0;
    int code = SL_OK;
    for (size_t k = 0; k < h->file_count && !code; k++)
        if (!sl_map_put(&used, h->files[k], strlen(h->files[k]), k))
            code = sl_fail_memory(err, h->file_count * sizeof *used.slots);
    for (size_t i = 0; i < h->found->name_count && !code; i++) {
        const char *name = h->found->names[i];
        uint64_t at;
        if (sl_text_glob(h->set->any, name) && !sl_map_get(&used, name, strlen(name), &at) && count++ < TOLD_AT_MOST)
            sl_buf_printf(&names, "%s%s", count > 1 ? ", " : "", name);
    }
    if (count)
        sl_problem_add(&h->c->problems, "extra-file", "", NULL, "%zu %s not part of the model: %s%s", count,
                       count == 1 ? "file is" : "files are", names.data, count > TOLD_AT_MOST ? ", .." : "");
    sl_map_free(&used);
    sl_buf_free(&names);
    return code;
}

/* ---- tensors against the index ---------------------------------------------------------- */

static void tell_duplicates(struct sl_ckpt *c)
{
    struct sl_map seen = { 0 };
    size_t told = 0;
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        uint64_t at = i;
        bool added = true;
        if (!sl_map_add(&seen, t->name, strlen(t->name), &at, &added))
            break;
        if (!added && told++ < TOLD_AT_MOST)
            sl_problem_add(&c->problems, "duplicate-tensor", t->name, NULL, "it is in %s and in %s",
                           c->files[c->tensors[at].file].name, c->files[t->file].name);
    }
    sl_map_free(&seen);
}

static void compare_index(struct hf *h)
{
    struct sl_ckpt *c = h->c;
    struct sl_map listed = { 0 }, stored = { 0 }, twice = { 0 }, damaged = { 0 };
    size_t wrong = 0, unlisted = 0, absent = 0;
    const char *first_wrong = NULL, *first_unlisted = NULL, *first_absent = NULL;

    for (size_t i = 0; i < h->weight_map->len; i++) {
        const char *name = sl_value_str(h->weight_map->keys[i]);
        if (name)
            sl_map_put(&listed, name, strlen(name), i);
    }
    for (size_t i = 0; i < c->file_count; i++)
        if (!c->opened[i].code)
            sl_map_put(&damaged, c->files[i].name, strlen(c->files[i].name), i);
    for (size_t i = 0; i < c->tensor_count; i++) {
        const char *name = c->tensors[i].name;
        if (sl_map_get(&stored, name, strlen(name), &(uint64_t){ 0 }))
            sl_map_put(&twice, name, strlen(name), i);
        sl_map_put(&stored, name, strlen(name), i);
    }
    for (size_t i = 0; i < c->tensor_count; i++) {
        const char *name = c->tensors[i].name;
        uint64_t at;
        if (sl_map_get(&twice, name, strlen(name), &at))        /* told as that */
            continue;
        if (!sl_map_get(&listed, name, strlen(name), &at)) {
            first_unlisted = unlisted++ ? first_unlisted : name;
        } else if (strcmp(sl_value_str(h->weight_map->items[at]), c->files[c->tensors[i].file].name)) {
            first_wrong = wrong++ ? first_wrong : name;
        }
    }
    for (size_t i = 0; i < h->weight_map->len; i++) {
        const char *name = sl_value_str(h->weight_map->keys[i]), *file = sl_value_str(h->weight_map->items[i]);
        uint64_t at;
        if (name && sl_map_get(&damaged, file, strlen(file), &at) && !sl_map_get(&stored, name, strlen(name), &at))
            first_absent = absent++ ? first_absent : name;
    }
    if (wrong)
        sl_problem_add(&c->problems, "index-mismatch", h->index_name, NULL, "%zu tensors are in another file than it says, first %s",
                       wrong, first_wrong);
    if (unlisted)
        sl_problem_add(&c->problems, "index-mismatch", h->index_name, NULL, "%zu tensors of the files are not in it, first %s",
                       unlisted, first_unlisted);
    if (absent)
        sl_problem_add(&c->problems, "index-mismatch", h->index_name, NULL, "%zu of its tensors are not in the file that it names, first %s",
                       absent, first_absent);
    sl_map_free(&listed);
    sl_map_free(&twice);
    sl_map_free(&stored);
    sl_map_free(&damaged);
}

static void tell_damaged(struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->file_count; i++)
        if (c->opened[i].code) {
            const char *what, *code = ckpt_damage_code(&c->opened[i], &what);
            sl_problem_add(&c->problems, code, c->files[i].name, NULL, "%s", what);
        }
}

static void set_flat(struct sl_ckpt *c, enum sl_container container)
{
    c->container = container;
    c->parallel = (struct sl_parallel){ 1, 1, 1, 1, 1 };
    c->iteration = -1;
    c->checkpoint_version = -1;
}

int ckpt_open_hf(struct sl_ckpt *c, const struct found *found, struct sl_error *err)
{
    struct hf h = { .c = c, .found = found, .set = is_usable(found, &sets[0]) ? &sets[0] : &sets[1] };
    load_config(c, found->folder);
    load_index(&h);
    int code = h.weight_map ? files_of_index(&h, err) : files_of_names(&h, err);
    if (code)
        return code;
    if (!h.file_count && h.index_name && !h.weight_map)
        return sl_fail(err, SL_INPUT, in_folder(&h, h.index_name), "%s, and no files of weights are beside it; get it again",
                       c->hf_index ? "it has no weight_map" : "it can't be read as JSON");
    if (!h.file_count)
        return sl_fail(err, SL_INPUT, found->folder, "none of the files that %s names is there",
                       h.index_name ? h.index_name : "the folder");
    code = ckpt_files_few(h.file_count, found->folder, err);
    if (!code)
        code = tell_extra(&h, err);
    if (!code)
        code = ckpt_files_new(c, h.file_count, err);
    for (size_t i = 0; !code && i < h.file_count; i++) {
        c->files[i].name = h.files[i];
        c->files[i].path = ckpt_join(&c->arena, found->folder, h.files[i]);
        if (!c->files[i].path)
            code = sl_fail_memory(err, 1);
    }
    if (!code)
        code = ckpt_parts_open(c, false, err);
    if (!code)
        code = ckpt_parts_merge(c, err);
    if (code)
        return code;
    set_flat(c, h.set->container);
    tell_damaged(c);
    ckpt_parts_tell(c);
    if (ckpt_hf_is_sharded(c))
        return ckpt_hf_shards(c, err);
    tell_duplicates(c);
    if (h.weight_map)
        compare_index(&h);
    return SL_OK;
}

/* ---- one file ------------------------------------------------------------------------------ */

static void tell_one_file(struct sl_ckpt *c)
{
    int number, of;
    size_t prefix;
    if (shard_number(c->files[0].name, &number, &of, &prefix) && of > 1)
        sl_problem_add(&c->problems, "one-file", c->files[0].name, NULL, "one of %d files; open %s for the whole", of, c->folder);
}

int ckpt_open_file(struct sl_ckpt *c, const struct found *found, struct sl_error *err)
{
    int code = ckpt_files_new(c, 1, err);
    if (code)
        return code;
    c->files[0].path = found->file;
    const char *slash = strrchr(found->file, '/');
    c->files[0].name = slash ? slash + 1 : found->file;
    code = ckpt_parts_open(c, false, err);
    if (code)
        return code;
    if (c->opened[0].megatron) {
        const char *name = ckpt_folder_name(&c->arena, c->folder);
        return name ? ckpt_lone_rank(c, name, err) : sl_fail_memory(err, 1);
    }
    code = ckpt_parts_merge(c, err);
    if (code)
        return code;
    set_flat(c, c->opened[0].is_torch ? SL_TORCH : SL_SAFETENSORS);
    load_config(c, c->folder);
    tell_one_file(c);
    ckpt_parts_tell(c);
    return SL_OK;
}
