/* gather.c: see gather.h. */
#include "gather.h"
#include "folder.h"

#include "base/text.h"
#include "format/zipdir.h"

#define SEED_BYTES_MAX ((size_t)1 << 18)
#define DEPTH_MAX 8

static void add(struct fuzz_seeds *out, const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (out->count == out->room) {
        out->room = out->room ? 2 * out->room : 64;
        out->items = realloc(out->items, out->room * sizeof *out->items);
    }
    if (!copy || !out->items)
        abort();
    memcpy(copy, bytes, len);
    out->items[out->count++] = (struct fuzz_seed){ copy, len };
}

/* ---- kinds: one file, a pickle inside of one, or several of a folder ---------------------------- */

struct kind {
    const char *target;
    const char *file;                    /* a glob on the last part of the path */
    bool pickle;                         /* of torch archives: their data.pkl */
    bool header;                         /* of a safetensors file: its header alone */
    const char *parts[FUZZ_PARTS];       /* globs of the other parts, from the same folder */
};
static const struct kind kinds[] = {
    { .target = "zip", .file = "*.pt" }, { .target = "zip", .file = "*.zip" }, { .target = "zip", .file = "*.distcp" },
    { .target = "torch", .file = "*.pt" }, { .target = "torch", .file = "*.pkl" },
    { .target = "open", .file = "*.pt" }, { .target = "open", .file = "*.pkl" }, { .target = "open", .file = "*.safetensors" },
    { .target = "pickle", .file = "*.pkl" }, { .target = "pickle", .file = ".metadata" }, { .target = "pickle", .file = "*.metadata" },
    { .target = "pickle", .file = "*.pt", .pickle = true },
    { .target = "torch_pickle", .file = "*.pkl" }, { .target = "torch_pickle", .file = "*.pt", .pickle = true },
    { .target = "ranks", .file = "model_optim_rng.pt", .pickle = true },
    { .target = "metadata", .file = ".metadata" }, { .target = "metadata", .file = "*.metadata" },
    { .target = "item", .file = "*.distcp" },
    { .target = "safetensors", .file = "*.safetensors" },
    { .target = "json", .file = "*.json" }, { .target = "json", .file = ".zarray" },
    { .target = "yaml", .file = "*.yaml" }, { .target = "yaml", .file = "*.json" },
    { .target = "family", .file = "*.json" },
    { .target = "tracker", .file = "latest_checkpointed_iteration.txt" },
    { .target = "zarr", .file = ".zarray", .parts = { "0*", "1*" } },
    { .target = "dist", .file = ".metadata", .parts = { "__0_0.distcp", "common.pt", "metadata.json", "integrity.json" } },
    { .target = "model", .file = "*.safetensors", .header = true,
      .parts = { "config.json", "model.safetensors.index.json", "generation_config.json" } },
};

static void add_pickle(const char *path, struct fuzz_seeds *out)
{
    struct sl_arena arena = { 0 };
    struct sl_file file;
    struct sl_zip zip;
    if (sl_file_open(path, &file, NULL))
        return;
    const int code = sl_zip_open(&file, 0, file.size, &arena, &zip, NULL);
    for (uint64_t i = 0; !code && i < zip.count; i++) {
        const struct sl_zip_entry *e = &zip.entries[i];
        void *buf = sl_text_ends(e->name, "/data.pkl") && e->size < SEED_BYTES_MAX ? malloc((size_t)e->size + 1) : NULL;
        if (buf && !sl_zip_read(&file, 0, file.size, e, 0, buf, (size_t)e->size, NULL))
            add(out, buf, (size_t)e->size);
        free(buf);
    }
    sl_file_close(&file);
    sl_arena_free(&arena);
}

/* The first file of the folder that fits the pattern; empty when there is none. */
static void add_part(const char *folder, const char *pattern, struct sl_buf *seed)
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count, len;
    char *text;
    if (!sl_folder_list(folder, 10000, &arena, &names, &count, NULL))
        for (size_t i = 0; i < count; i++) {
            const char *path = sl_text_glob(pattern, names[i]) ? sl_arena_printf(&arena, "%s/%s", folder, names[i]) : NULL;
            if (!path || sl_file_slurp(path, SEED_BYTES_MAX, &arena, &text, &len, NULL))
                continue;
            sl_buf_add(seed, text, len);
            break;
        }
    sl_arena_free(&arena);
}

static void add_whole(const struct kind *k, const char *path, struct fuzz_seeds *out)
{
    struct sl_arena arena = { 0 };
    struct sl_buf seed = { 0 };
    char *text;
    size_t len;
    if (!sl_file_slurp(path, SEED_BYTES_MAX, &arena, &text, &len, NULL)) {
        uint64_t header = 0;
        if (k->header && len >= sizeof header)
            memcpy(&header, text, sizeof header);
        if (!k->header)
            sl_buf_add(&seed, text, len);
        else if (header && header <= len - sizeof header)
            sl_buf_add(&seed, text + sizeof header, (size_t)header);
        for (int i = 0; k->parts[i]; i++) {
            const char *folder = sl_arena_printf(&arena, "%.*s", (int)(strrchr(path, '/') - path), path);
            sl_buf_str(&seed, FUZZ_CUT);
            if (folder)
                add_part(folder, k->parts[i], &seed);
        }
        if (seed.data && !seed.failed && seed.len <= SEED_BYTES_MAX)
            add(out, seed.data, seed.len);
    }
    sl_buf_free(&seed);
    sl_arena_free(&arena);
}

/* ---- walking -------------------------------------------------------------------------------------- */

static void take_all(const char *target, const char *path, struct fuzz_seeds *out)
{
    static const struct kind any = { .file = "*" };
    (void)target;
    add_whole(&any, path, out);
}

static void take_kinds(const char *target, const char *path, struct fuzz_seeds *out)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *k = &kinds[i];
        if (strcmp(k->target, target) || !sl_text_glob(k->file, name))
            continue;
        if (k->pickle)
            add_pickle(path, out);
        else
            add_whole(k, path, out);
    }
}

static void walk(const char *target, const char *path, int depth, struct fuzz_seeds *out,
                 void (*take)(const char *target, const char *path, struct fuzz_seeds *out))
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count;
    if (!sl_path_is_folder(path))
        take(target, path, out);
    else if (depth && !sl_folder_list(path, 10000, &arena, &names, &count, NULL))
        for (size_t i = 0; i < count; i++) {
            const char *below = sl_arena_printf(&arena, "%s/%s", path, names[i]);
            if (below)
                walk(target, below, depth - 1, out, take);
        }
    sl_arena_free(&arena);
}

void fuzz_gather_path(const char *path, struct fuzz_seeds *out)
{
    walk(NULL, path, DEPTH_MAX, out, take_all);
}

void fuzz_gather(const char *target, struct fuzz_seeds *out)
{
    char own[256];
    snprintf(own, sizeof own, "tests/fuzz/seeds/%s", target);
    if (sl_path_exists(own))
        fuzz_gather_path(own, out);
    walk(target, strcmp(target, "family") ? "tests/fixtures" : "src/model/families", DEPTH_MAX, out, take_kinds);
}

void fuzz_seeds_free(struct fuzz_seeds *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i].data);
    free(s->items);
    *s = (struct fuzz_seeds){ .count = 0 };
}
