/* dist.c: opening a distributed checkpoint: .metadata, the files it names, what is not
 * sharded (args, iteration), and the hyperparameters that other trainers keep beside it.
 *
 *   common.pt                    Megatron-core up to 0.18
 *   common_state/shard_0_1       an object in .metadata, from 0.19 on: a list of one dict
 *   args, iteration, ..          objects of plain DCP, one a key
 *
 * Source: megatron/core/dist_checkpointing/serialization.py, strategies/common.py,
 *         strategies/torch.py; torch/distributed/checkpoint/default_planner.py */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/json.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/value.h"

#include <string.h>

/* ---- files -------------------------------------------------------------------------- */

static int open_one(void *arg, unsigned worker, uint64_t i)
{
    (void)worker;
    struct sl_ckpt *c = arg;
    struct sl_ckpt_file *f = &c->opened[i];
    struct sl_error why = { 0 };
    f->iteration = -1;
    f->version = -1;
    f->code = sl_file_open(c->files[i].path, &f->file, &why);
    ckpt_part_keep(f, &why);
    f->identified = !f->code;
    if (f->code)
        f->file.fd = -1;
    else
        sl_file_close(&f->file);         /* opened again when it is read */
    return 0;
}

static int open_files(struct dist *d, struct sl_error *err)
{
    struct sl_ckpt *c = d->c;
    int code = ckpt_files_new(c, d->dcp.file_count, err);
    for (uint32_t i = 0; i < d->dcp.file_count && !code; i++) {
        c->files[i].name = d->dcp.files[i];
        c->files[i].path = ckpt_join(&c->arena, c->folder, d->dcp.files[i]);
        if (!c->files[i].path)
            code = sl_fail_memory(err, 1);
    }
    if (code)
        return code;
    sl_parallel(sl_processors(), c->file_count, open_one, c);
    for (size_t i = 0; i < c->file_count; i++) {
        c->files[i].size = c->opened[i].identified ? c->opened[i].file.size : 0;
        c->files[i].mtime_ns = c->opened[i].identified ? c->opened[i].file.mtime_ns : 0;
    }
    return SL_OK;
}

static int read_metadata(struct dist *d, struct sl_error *err)
{
    struct sl_ckpt *c = d->c;
    struct sl_file file;
    const char *path = ckpt_join(&c->arena, c->folder, ".metadata");
    if (!path)
        return sl_fail_memory(err, 1);
    int code = ckpt_note(c, path, err);
    if (!code)
        code = sl_file_open(path, &file, err);
    if (code)
        return code;
    code = sl_dcp_open(&file, &c->arena, &d->dcp, err);
    sl_file_close(&file);
    return code ? code : ckpt_files_few(d->dcp.file_count, path, err);
}

/* ---- what it is --------------------------------------------------------------------------- */

/* ShardedObjects are Megatron's: KEY/shard_{offsets}_{shape}. */
static bool has_sharded_objects(const struct sl_dcp *dcp)
{
    for (uint32_t i = 0; i < dcp->object_count; i++)
        if (strstr(dcp->objects[i].key, "/shard_"))
            return true;
    return false;
}

static bool has_core_keys(const struct sl_dcp *dcp)
{
    for (uint32_t i = 0; i < dcp->tensor_count; i++)
        if (ckpt_is_core_name(ckpt_bare_name(dcp->tensors[i].key)))
            return true;
    return false;
}

static void tell_marker(struct dist *d)
{
    const char *path = ckpt_join(&d->c->arena, d->c->folder, "metadata.json");
    const bool is_there = path && sl_path_exists(path);
    sl_problem_add(&d->c->problems, "dist-marker", "metadata.json", NULL,
                   "%s, which Megatron writes last and without which it does not load the folder",
                   is_there ? "it is no JSON that names the \"sharded_backend\"" : "there is no metadata.json");
}

/* Without metadata.json a folder is plain DCP, or a save of Megatron that was not finished. */
static void recognise(struct dist *d)
{
    struct sl_ckpt *c = d->c;
    const char *backend = d->found->backend;
    if (d->zarrs) {
        c->container = SL_MEGATRON_ZARR;
        d->megatron = true;
        if (!backend)
            tell_marker(d);
        return;
    }
    const bool looks = !d->dcp.nested && has_core_keys(&d->dcp) && has_sharded_objects(&d->dcp);
    d->megatron = backend ? !strcmp(backend, "torch_dist") : looks;
    c->container = d->megatron ? SL_MEGATRON_TORCH_DIST : SL_TORCH_DCP;
    if (!backend && looks)
        tell_marker(d);
}

/* Ranks that wrote files: __{rank}_{n}.distcp. */
static size_t count_writers(const struct sl_ckpt *c)
{
    struct sl_map seen = { 0 };
    for (size_t i = 0; i < c->file_count; i++) {
        const char *p = strchr(c->files[i].name, '/') ? NULL : strstr(c->files[i].name, "__");
        const size_t len = p ? strcspn(p + 2, "_") : 0;
        uint64_t value = 0;
        bool added;
        if (len)
            sl_map_add(&seen, p + 2, len, &value, &added);
    }
    const size_t count = seen.count;
    sl_map_free(&seen);
    return count;
}

static int tell_storage(struct dist *d, struct sl_error *err)
{
    struct sl_ckpt *c = d->c;
    struct sl_buf b = { 0 };
    const size_t writers = count_writers(c);
    sl_buf_printf(&b, "%u array%s in %llu chunk%s", d->dcp.tensor_count, d->dcp.tensor_count == 1 ? "" : "s",
                  (unsigned long long)d->dcp.chunk_count, d->dcp.chunk_count == 1 ? "" : "s");
    if (d->stacked_keys)
        sl_buf_printf(&b, ", %llu stack the layers", (unsigned long long)d->stacked_keys);
    if (d->expert_keys)
        sl_buf_printf(&b, ", %llu the experts", (unsigned long long)d->expert_keys);
    if (d->half_keys)
        sl_buf_printf(&b, ", %llu halves of gate and up", (unsigned long long)d->half_keys);
    if (d->state_keys)
        sl_buf_printf(&b, ", %llu of the optimizer and the like", (unsigned long long)d->state_keys);
    if (d->dcp.object_count)
        sl_buf_printf(&b, "; %u object%s", d->dcp.object_count, d->dcp.object_count == 1 ? "" : "s");
    if (d->zarrs)
        sl_buf_str(&b, "; zarr");
    sl_buf_printf(&b, "; %zu file%s", c->file_count, c->file_count == 1 ? "" : "s");
    if (writers)
        sl_buf_printf(&b, " of %zu writer%s", writers, writers == 1 ? "" : "s");
    c->storage = b.failed ? NULL : sl_arena_str(&c->arena, b.data);
    sl_buf_free(&b);
    return c->storage ? SL_OK : sl_fail_memory(err, 256);
}

/* ---- all together ------------------------------------------------------------------------------ */

/* Names that the pickle asks for are told as for any torch file. */
static void tell_globals(struct dist *d)
{
    struct sl_buf harmful = { 0 };
    for (uint32_t i = 0; i < d->dcp.global_count; i++)
        if (d->dcp.globals[i].risk == 2)
            sl_buf_printf(&harmful, "%s%s", harmful.len ? ", " : "", d->dcp.globals[i].name);
    if (harmful.len)
        sl_problem_add(&d->c->problems, "pickle-call", ".metadata", NULL, "its pickle asks for %s; nothing was run", harmful.data);
    sl_buf_free(&harmful);
}

static void tell_state(struct dist *d)
{
    char bytes[32];
    uint64_t total = 0, count = 0;
    for (size_t i = 0; i < d->c->tensor_count; i++) {
        const struct sl_tensor *t = &d->c->tensors[i];
        if (!(t->flags & SL_TENSOR_OPTIMIZER) || sl_text_starts(t->path, "rng_state"))
            continue;
        total += t->bytes;
        count++;
    }
    if (count)
        sl_problem_add(&d->c->problems, "optimizer-ignored", "", NULL, "%llu optimizer tensors (%s) are listed and not converted",
                       (unsigned long long)count, sl_text_bytes(total, bytes, sizeof bytes));
}

/* {"algorithm": "sha256", "files": {name: hex}}, from Megatron-core 0.18 on. */
static void read_integrity(struct dist *d)
{
    struct sl_ckpt *c = d->c;
    const struct sl_value *json = NULL;
    struct sl_error why = { 0 };
    const char *path = ckpt_join(&c->arena, c->folder, "integrity.json");
    if (!path || !sl_path_exists(path))
        return;
    const int code = ckpt_json(c, path, SL_LIMIT_JSON_BYTES, &json, &why);
    const char *algorithm = code ? NULL : sl_value_str(sl_value_get(json, "algorithm"));
    const struct sl_value *files = code ? NULL : sl_value_get(json, "files");
    if (code || !algorithm || strcmp(algorithm, "sha256") || !files || files->kind != SL_VALUE_DICT)
        sl_problem_add(&c->problems, "config-damaged", "integrity.json", NULL, "%s",
                       code ? why.message : "it is no {\"algorithm\": \"sha256\", \"files\": {..}}");
    else
        c->integrity = files;
}

int ckpt_open_dist(struct sl_ckpt *c, const struct found *found, struct sl_error *err)
{
    struct dist *d = SL_ARENA_NEW(&c->arena, struct dist, 1);
    if (!d)
        return sl_fail_memory(err, sizeof *d);
    d->c = c;
    d->found = found;
    c->iteration = found->iteration;
    c->release = found->release;
    bool plain = false;                  /* a .metadata; zarr has a .zarray in each array's folder */
    for (size_t i = 0; i < found->name_count; i++)
        plain = plain || !strcmp(found->names[i], ".metadata");
    const bool zarr = found->backend ? !strcmp(found->backend, "zarr") : !plain;
    int code = zarr ? dist_zarr(d, err) : read_metadata(d, err);
    if (!code)
        code = open_files(d, err);
    if (code)
        return code;
    if (zarr)
        dist_zarr_lengths(d);
    recognise(d);
    code = dist_tensors(d, err);
    code = code ? code : dist_tell(d, err);
    code = code ? code : dist_state(d, err);
    code = code ? code : tell_storage(d, err);
    if (code)
        return code;
    if (!d->dcp.tensor_count)
        return sl_fail(err, SL_INPUT, c->folder, "%s: not a checkpoint of a model",
                       zarr ? "it has no folder with a .zarray" : "its .metadata names no tensor");
    tell_globals(d);
    tell_state(d);
    read_integrity(d);
    return SL_OK;
}
