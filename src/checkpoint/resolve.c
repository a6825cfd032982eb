/* resolve.c: a path -> what to read. Follows Megatron's tracker file, names
 * what a folder is when it is something else.
 * Source: Megatron-LM megatron/training/checkpointing.py (get_checkpoint_name,
 * read_metadata) */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "base/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Files of a rank that hold the model, best first; those that never do. */
static const char *const model_files[] = { "model_optim_rng.pt", "model_rng.pt", "model.pt" };
static const char *const other_files[] = { "distrib_optim.pt", "optim.pt", "layer_wise_optimizer_*.pt",
                                           "train_dataloader_dprank*.pt", "optimizer*.pt", "rng*.pt" };

const char *ckpt_join(struct sl_arena *arena, const char *folder, const char *name)
{
    const size_t len = strlen(folder);
    return sl_arena_printf(arena, "%s%s%s", folder, len && folder[len - 1] == '/' ? "" : "/", name);
}

bool ckpt_rank_name(const char *name, struct rank_name *out)
{
    *out = (struct rank_name){ 0 };
    if (!sl_text_starts(name, "mp_rank_"))
        return false;
    const char *p = name + strlen("mp_rank_");
    for (;;) {
        int64_t n = 0;
        const char *digits = p;
        for (; isdigit((unsigned char)*p) && n <= CKPT_MAX_RANK; p++)
            n = n * 10 + (*p - '0');
        if (p == digits || n > CKPT_MAX_RANK || out->count == 3)
            return false;
        out->number[out->count++] = (int32_t)n;
        if (!*p)
            return true;
        if (*p++ != '_')
            return false;
    }
}

static bool is_other_file(const char *name)
{
    for (size_t i = 0; i < sizeof other_files / sizeof *other_files; i++)
        if (sl_text_glob(other_files[i], name))
            return true;
    return false;
}

const char *ckpt_model_file(struct sl_arena *arena, const char *rank_folder)
{
    for (size_t i = 0; i < sizeof model_files / sizeof *model_files; i++) {
        const char *path = ckpt_join(arena, rank_folder, model_files[i]);
        if (path && sl_path_exists(path))
            return path;
    }
    /* another name: taken when it is the only one that can be meant */
    const char *const *names;
    size_t count;
    const char *only = NULL;
    if (sl_folder_list(rank_folder, SL_LIMIT_FOLDER_ENTRIES, arena, &names, &count, NULL))
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (!sl_text_ends(names[i], ".pt") || is_other_file(names[i]))
            continue;
        if (only)
            return NULL;
        only = names[i];
    }
    return only ? ckpt_join(arena, rank_folder, only) : NULL;
}

/* ---- looking at a folder ---------------------------------------------------- */

struct folder {
    const char *path;
    const char *const *names;
    size_t count;
};

static bool has(const struct folder *d, const char *name)
{
    for (size_t i = 0; i < d->count; i++)
        if (!strcmp(d->names[i], name))
            return true;
    return false;
}

static const char *first_like(const struct folder *d, const char *pattern)
{
    for (size_t i = 0; i < d->count; i++)
        if (sl_text_glob(pattern, d->names[i]))
            return d->names[i];
    return NULL;
}

static int list(struct sl_ckpt *c, const char *path, struct folder *d, struct sl_error *err)
{
    d->path = path;
    return sl_folder_list(path, SL_LIMIT_FOLDER_ENTRIES, &c->arena, &d->names, &d->count, err);
}

/* iter_NNNNNNN: its number, or -1. */
static int64_t iteration_of(const char *name)
{
    int64_t n;
    return sl_text_starts(name, "iter_") && isdigit((unsigned char)name[5]) && sl_text_parse_i64(name + 5, &n) ? n : -1;
}

static bool is_iteration(const struct folder *d, size_t i)
{
    return iteration_of(d->names[i]) >= 0 || !strcmp(d->names[i], "release");
}

/* "iter_0000300, iter_0000200, release": newest first, a few of them. */
static void tell_iterations(const struct folder *d, struct sl_buf *out)
{
    size_t told = 0;
    for (size_t i = d->count; i-- > 0; ) {
        if (!is_iteration(d, i))
            continue;
        if (told < 8)
            sl_buf_printf(out, "%s%s", told ? ", " : "", d->names[i]);
        told++;
    }
    if (told > 8)
        sl_buf_printf(out, " and %zu more", told - 8);
}

/* ---- the tracker --------------------------------------------------------------- */

/* Reads the tracker: the name of the folder it means. */
static int read_tracker(struct sl_ckpt *c, const struct folder *d, const char **name, struct sl_error *err)
{
    char *text;
    size_t len;
    const char *path = ckpt_join(&c->arena, d->path, TRACKER_NAME);
    if (!path)
        return sl_fail_memory(err, 1);
    int code = ckpt_note(c, path, err);
    if (!code)
        code = sl_file_slurp(path, SL_LIMIT_TRACKER_BYTES, &c->arena, &text, &len, err);
    if (code)
        return code;
    while (isspace((unsigned char)*text))
        text++;
    for (size_t end = strlen(text); end && isspace((unsigned char)text[end - 1]); )
        text[--end] = '\0';

    int64_t n;
    if (!strcmp(text, "release"))
        *name = text;
    else if (sl_text_parse_i64(text, &n) && n >= 0)
        *name = sl_arena_printf(&c->arena, "iter_%07lld", (long long)n);
    else
        return sl_fail(err, SL_INPUT, path, "it says \"%.60s\"; expected an iteration number or the word release", text);
    return *name ? SL_OK : sl_fail_memory(err, 16);
}

static void tell_newer(struct sl_ckpt *c, const struct folder *d, const char *name)
{
    const int64_t tracked = iteration_of(name);
    int64_t newest = -1;
    for (size_t i = 0; tracked >= 0 && i < d->count; i++)
        newest = sl_max_i64(newest, iteration_of(d->names[i]));
    if (newest <= tracked)
        return;
    struct sl_buf command = { 0 };
    const char *newer = sl_arena_printf(&c->arena, "%s/iter_%07lld", d->path, (long long)newest);
    sl_buf_str(&command, "To look at the newer one: shardlens check");
    sl_buf_shell_word(&command, newer ? newer : "");
    sl_buf_char(&command, '\0');
    sl_problem_add(&c->problems, "newer-iteration", TRACKER_NAME, &(struct sl_problem_text){ .next = command.failed ? NULL : command.data },
                   "the tracker names iteration %lld; iter_%07lld is newer and may be unfinished", (long long)tracked, (long long)newest);
    sl_buf_free(&command);
}

static int no_target(const struct folder *d, const char *name, struct sl_error *err)
{
    struct sl_buf found = { 0 };
    tell_iterations(d, &found);
    const int code = found.len
        ? sl_fail(err, SL_INPUT, d->path, "%s names %s, which is not there; found %s: open one of these", TRACKER_NAME, name, found.data)
        : sl_fail(err, SL_INPUT, d->path, "%s names %s, which is not there, and there is no other iteration", TRACKER_NAME, name);
    sl_buf_free(&found);
    return code;
}

/* Iteration folders without a tracker: the only one is taken. */
static int choose_iteration(struct sl_ckpt *c, const struct folder *d, const char **name, struct sl_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++) {
        if (is_iteration(d, i)) {
            *name = d->names[i];
            count++;
        }
    }
    if (count == 1) {
        sl_problem_add(&c->problems, "tracker", TRACKER_NAME, NULL,
                       "there is no tracker file; %s, the only iteration, was opened", *name);
        return SL_OK;
    }
    struct sl_buf found = { 0 };
    tell_iterations(d, &found);
    sl_fail(err, SL_INPUT, d->path, "no %s, and %zu iterations: %s; open one of these", TRACKER_NAME, count,
            found.data ? found.data : "");
    sl_buf_free(&found);
    return SL_INPUT;
}

/* ---- what else a folder may be ---------------------------------------------------- */

/* metadata.json of a distributed checkpoint names its backend. */
static const char *dist_backend(struct sl_ckpt *c, const struct folder *d)
{
    const struct sl_value *json;
    if (!has(d, "metadata.json"))
        return NULL;
    const char *path = ckpt_join(&c->arena, d->path, "metadata.json");
    if (!path || ckpt_json(c, path, SL_LIMIT_JSON_BYTES, &json, NULL))
        return NULL;
    return sl_value_str(sl_value_get(json, "sharded_backend"));
}

/* Is there a folder with a .zarray in it? */
static bool has_zarr(struct sl_ckpt *c, const struct folder *d)
{
    for (size_t i = 0; i < d->count; i++) {
        const char *child = strchr(d->names[i], '.') ? ckpt_join(&c->arena, d->path, d->names[i]) : NULL;
        const char *mark = child ? ckpt_join(&c->arena, child, ".zarray") : NULL;
        if (mark && sl_path_exists(mark))
            return true;
    }
    return false;
}

/* Backends of Megatron's dist_checkpointing, and what each must have.
 * Source: megatron/core/dist_checkpointing/core.py (CheckpointingConfig) */
static int check_backend(const struct folder *d, const char *backend, struct sl_error *err)
{
    if (strcmp(backend, "torch_dist") && strcmp(backend, "zarr") && strcmp(backend, "fsdp_dtensor") && strcmp(backend, "torch_dcp"))
        return sl_fail(err, SL_INPUT, d->path, "metadata.json names the backend \"%.60s\"; expected torch_dist, zarr or fsdp_dtensor", backend);
    if (strcmp(backend, "zarr") && !has(d, ".metadata"))
        return sl_fail(err, SL_INPUT, d->path, "metadata.json says %s, but there is no .metadata, which tells where tensors are%s",
                       backend, first_like(d, "*.distcp") ? ": the save ended before it was finished; use the iteration before" : "");
    return SL_OK;
}

/* A distributed checkpoint: *yes. Refused when it can't be whole. */
static int find_distributed(struct sl_ckpt *c, const struct folder *d, struct found *out, bool *yes, struct sl_error *err)
{
    *yes = false;
    out->backend = dist_backend(c, d);
    if (out->backend) {
        *yes = true;
        return check_backend(d, out->backend, err);
    }
    *yes = has(d, ".metadata");
    if (!*yes && first_like(d, "*.distcp"))
        return sl_fail(err, SL_INPUT, d->path,
                       ".distcp files without .metadata: the save ended before it was finished; use the iteration before");
    return SL_OK;
}

struct near_miss { const char *pattern; int code; const char *words; };
static const struct near_miss near_misses[] = {
    { "mp_rank_*_model_states.pt", SL_UNSUPPORTED, "a DeepSpeed checkpoint; expected mp_rank_* folders of Megatron-LM" },
    { "zero_pp_rank_*", SL_UNSUPPORTED, "a DeepSpeed ZeRO checkpoint; expected mp_rank_* folders of Megatron-LM" },
    { "global_step*", SL_UNSUPPORTED, "the folder of a DeepSpeed run; expected mp_rank_* folders of Megatron-LM" },
    { "mp_rank_*.pth", SL_UNSUPPORTED, "gradients saved for debugging (mp_rank_*.pth); expected mp_rank_* folders" },
    { "latest_train_state.pt", SL_UNSUPPORTED, "the folder of a Megatron-Bridge run; open one of its iter_* folders" },
    { "*.nemo", SL_UNSUPPORTED, "it holds a .nemo archive; unpack it and open the folder inside" },
    { "*.gguf", SL_UNSUPPORTED, "it holds a GGUF file; expected safetensors or torch files" },
    { "consolidated.*.pth", SL_UNSUPPORTED, "Meta's Llama shards (consolidated.*.pth); expected the Hugging Face form" },
    { "*.index", SL_UNSUPPORTED, "a TensorFlow checkpoint; expected safetensors or torch files" },
};

static int refuse_folder(const struct folder *d, struct sl_error *err)
{
    if (!d->count)
        return sl_fail(err, SL_INPUT, d->path, "the folder is empty");
    for (size_t i = 0; i < sizeof near_misses / sizeof *near_misses; i++)
        if (first_like(d, near_misses[i].pattern))
            return sl_fail(err, near_misses[i].code, d->path, "%s", near_misses[i].words);
    const char *const inside[] = { "weights", "model_weights", "hf" };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (has(d, inside[i]))
            return sl_fail(err, SL_INPUT, d->path, "no checkpoint itself; look into its folder %s", inside[i]);
    return sl_fail(err, SL_INPUT, d->path,
                   "no checkpoint: expected mp_rank_* folders, iter_* folders, .metadata, *.safetensors or pytorch_model*.bin; found %s%s%s%s%s",
                   d->names[0], d->count > 1 ? ", " : "", d->count > 1 ? d->names[1] : "", d->count > 2 ? ", " : "",
                   d->count > 2 ? ".." : "");
}

/* ---- which it is --------------------------------------------------------------------- */

static const char *last_part(struct sl_arena *arena, const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t begin = len;
    while (begin && path[begin - 1] != '/')
        begin--;
    return sl_arena_strn(arena, path + begin, len - begin);
}

const char *ckpt_folder_name(struct sl_arena *arena, const char *path)
{
    const char *name = last_part(arena, path);
    if (!name || (strcmp(name, ".") && strcmp(name, "..") && *name))
        return name;
    char *real = realpath(path, NULL);
    name = real ? last_part(arena, real) : name;
    free(real);
    return name;
}

static bool has_rank_folder(struct sl_ckpt *c, const struct folder *d)
{
    struct rank_name rank;
    for (size_t i = 0; i < d->count; i++) {
        if (!ckpt_rank_name(d->names[i], &rank))
            continue;
        const char *child = ckpt_join(&c->arena, d->path, d->names[i]);
        if (child && sl_path_is_folder(child))
            return true;
    }
    return false;
}

static bool has_model_files(const struct folder *d)
{
    return first_like(d, "*.safetensors") || first_like(d, "*.safetensors.index.json") ||
           first_like(d, "pytorch_model*.bin") || has(d, "pytorch_model.bin.index.json");
}

static void take(struct found *out, enum found_kind kind, const struct folder *d)
{
    out->kind = kind;
    out->folder = d->path;
    out->names = d->names;
    out->name_count = d->count;
}

/* A folder that is no root: one iteration, or loose rank folders, or HF. */
static int resolve_inside(struct sl_ckpt *c, const struct folder *d, struct found *out, struct sl_error *err)
{
    struct rank_name rank;
    const char *name = ckpt_folder_name(&c->arena, d->path);
    if (!name)
        return sl_fail_memory(err, 1);
    out->iteration = iteration_of(name);
    out->release = !strcmp(name, "release");

    bool distributed;
    const int code = find_distributed(c, d, out, &distributed, err);
    if (code)
        return code;
    if (distributed || (!has_rank_folder(c, d) && !has_model_files(d) && has_zarr(c, d))) {
        take(out, FOUND_DIST, d);
        return SL_OK;
    }
    if (has_rank_folder(c, d)) {
        take(out, FOUND_RANKS, d);
        return SL_OK;
    }
    if (ckpt_rank_name(name, &rank) && ckpt_model_file(&c->arena, d->path)) {
        take(out, FOUND_ONE_RANK, d);
        out->file = name;
        return SL_OK;
    }
    if (has_model_files(d)) {
        take(out, FOUND_HF, d);
        return SL_OK;
    }
    return refuse_folder(d, err);
}

/* NeMo keeps the distributed checkpoint in a folder of its own beside its settings. */
static const char *nemo_weights(struct sl_ckpt *c, const struct folder *d)
{
    static const char *const names[] = { "weights", "model_weights" };
    static const char *const marks[] = { "metadata.json", ".metadata" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; has(d, names[i]) && k < sizeof marks / sizeof *marks; k++) {
            const char *mark = sl_arena_printf(&c->arena, "%s/%s/%s", d->path, names[i], marks[k]);
            if (mark && sl_path_exists(mark))
                return names[i];
        }
    return NULL;
}

static int resolve_folder(struct sl_ckpt *c, const char *path, struct found *out, struct sl_error *err)
{
    struct folder d;
    const char *name = NULL;
    int code = list(c, path, &d, err);
    if (code)
        return code;

    const bool loose = has_rank_folder(c, &d);
    if (has(&d, TRACKER_NAME)) {
        code = read_tracker(c, &d, &name, err);
        if (code && !loose)
            return code;
        if (!code && has(&d, name)) {
            tell_newer(c, &d, name);
        } else if (loose) {
            sl_problem_add(&c->problems, "tracker", TRACKER_NAME, NULL,
                           "it names no folder that is there; the rank folders beside it were opened");
            name = NULL;
        } else {
            return no_target(&d, name, err);
        }
    } else if (!loose && !has_model_files(&d)) {
        bool any = false;
        for (size_t i = 0; i < d.count && !any; i++)
            any = is_iteration(&d, i);
        code = any ? choose_iteration(c, &d, &name, err) : SL_OK;
        if (code)
            return code;
        name = any ? name : nemo_weights(c, &d);
    }
    if (!name)
        return resolve_inside(c, &d, out, err);

    const char *inner = ckpt_join(&c->arena, path, name);
    if (!inner)
        return sl_fail_memory(err, strlen(path));
    if (!sl_path_is_folder(inner))
        return sl_fail(err, SL_INPUT, inner, "expected a folder of rank folders");
    code = list(c, inner, &d, err);
    return code ? code : resolve_inside(c, &d, out, err);
}

int ckpt_resolve(struct sl_ckpt *c, struct found *out, struct sl_error *err)
{
    *out = (struct found){ .iteration = -1 };
    struct stat st;
    if (!*c->path)
        return sl_fail(err, SL_USAGE, "", "the path is empty; expected a folder or a file");
    if (stat(c->path, &st)) {
        if (errno == ENOENT)
            return sl_fail(err, SL_INPUT, c->path, "no such file or folder");
        return sl_fail_errno(err, SL_INPUT, c->path, "it can't be looked at");
    }
    if (S_ISDIR(st.st_mode))
        return resolve_folder(c, c->path, out, err);
    if (!S_ISREG(st.st_mode)) {          /* says what it is instead */
        struct sl_file file;
        return sl_file_open(c->path, &file, err);
    }
    const char *name = last_part(&c->arena, c->path);
    if (name && !strcmp(name, TRACKER_NAME))
        return sl_fail(err, SL_INPUT, c->path, "this is the tracker file; open the folder that it is in");
    if (name && sl_text_ends(name, ".index.json"))
        return sl_fail(err, SL_INPUT, c->path, "this is the index; open the folder that it is in");
    if (name && (!strcmp(name, ".metadata") || sl_text_ends(name, ".distcp")))
        return sl_fail(err, SL_INPUT, c->path, "this is one file of a distributed checkpoint; open the folder that it is in");
    out->kind = FOUND_FILE;
    out->file = c->path;
    const char *slash = strrchr(c->path, '/');
    out->folder = !slash ? "." : slash == c->path ? "/" : sl_arena_strn(&c->arena, c->path, (size_t)(slash - c->path));
    return out->folder ? SL_OK : sl_fail_memory(err, strlen(c->path));
}
