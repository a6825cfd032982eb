/* distzarr.c: a folder of zarr arrays, one a key, told as .metadata tells chunks: KEY/.zarray
 * has the shapes, and which chunks there are is seen by their files.
 *
 * Source: megatron/core/dist_checkpointing/strategies/zarr.py (0.4 to 0.15) */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/map.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

/* Chunks are told by their files, and one that has none costs nothing to claim. */
#define CHUNKS_MOST ((uint64_t)SL_LIMIT_FOLDER_ENTRIES)

struct arrays {
    struct dist *d;
    struct sl_dcp_tensor *tensors;
    struct sl_zarr *zarrs;
    const char **files; size_t file_count, file_room;    /* owned while it grows */
    struct sl_error *err;
};

static int add_file(struct arrays *w, const char *key, const char *name, int32_t *number)
{
    if (w->file_count == w->file_room) {
        const size_t room = w->file_room ? 2 * w->file_room : 256;
        const char **grown = room > INT32_MAX ? NULL : realloc(w->files, room * sizeof *grown);
        if (!grown)
            return sl_fail_memory(w->err, room * sizeof *grown);
        w->files = grown;
        w->file_room = room;
    }
    const char *file = sl_arena_printf(&w->d->c->arena, "%s/%s", key, name);
    if (!file)
        return sl_fail_memory(w->err, strlen(key));
    *number = (int32_t)w->file_count;
    w->files[w->file_count++] = file;
    return SL_OK;
}

/* Offset and size of a chunk by its number in the grid; the last of an axis may be cut off. */
static int place_chunk(struct arrays *w, const struct sl_zarr *z, uint64_t number, struct sl_dcp_chunk *chunk)
{
    int64_t *numbers = SL_ARENA_NEW(&w->d->c->arena, int64_t, 2 * (uint64_t)z->ndim);
    if (!numbers)
        return sl_fail_memory(w->err, z->ndim * sizeof *numbers);
    for (uint32_t a = z->ndim; a-- > 0; number /= z->grid[a]) {
        numbers[a] = (int64_t)(number % z->grid[a]) * z->chunk[a];
        numbers[z->ndim + a] = sl_min_i64(z->chunk[a], z->shape[a] - numbers[a]);
    }
    chunk->offset = numbers;
    chunk->size = numbers + z->ndim;
    chunk->place.file = -1;
    return SL_OK;
}

/* Chunks that are there get their file, the others stand for the fill value, if there is one. */
static int find_files(struct arrays *w, const char *key, const struct sl_zarr *z, struct sl_dcp_chunk *chunks)
{
    struct sl_ckpt *c = w->d->c;
    const char *const *names;
    size_t count;
    int32_t zarray = -1;
    const char *folder = ckpt_join(&c->arena, c->folder, key);
    int code = folder ? sl_folder_list(folder, SL_LIMIT_FOLDER_ENTRIES, &c->arena, &names, &count, w->err) : sl_fail_memory(w->err, 1);
    for (size_t i = 0; !code && i < count; i++) {
        uint64_t number;
        if (!sl_zarr_chunk_number(z, names[i], &number))
            continue;
        code = add_file(w, key, names[i], &chunks[number].place.file);
        chunks[number].place.length = z->zlib ? 1 : z->chunk_bytes;
    }
    for (uint64_t i = 0; !code && z->has_fill && i < z->chunk_count; i++) {
        if (chunks[i].place.file >= 0)
            continue;
        if (zarray < 0)
            code = add_file(w, key, ".zarray", &zarray);
        chunks[i].place = (struct sl_dcp_place){ .file = zarray };
    }
    return code;
}

static int add_array(struct arrays *w, const char *key, const char *zarray)
{
    struct dist *d = w->d;
    struct sl_zarr *z = &w->zarrs[d->dcp.tensor_count];
    int code = ckpt_note(d->c, zarray, w->err);
    if (!code)
        code = sl_zarr_open(zarray, &d->c->arena, z, w->err);
    if (code)
        return code;
    if (z->chunk_count > CHUNKS_MOST - d->dcp.chunk_count)
        return sl_fail(w->err, SL_INPUT, zarray, "it describes %llu chunks; more than %llu in one checkpoint are not read",
                       (unsigned long long)z->chunk_count, (unsigned long long)CHUNKS_MOST);
    struct sl_dcp_chunk *chunks = SL_ARENA_NEW(&d->c->arena, struct sl_dcp_chunk, z->chunk_count);
    if (!chunks)
        return sl_fail_memory(w->err, z->chunk_count * sizeof *chunks);
    for (uint64_t i = 0; i < z->chunk_count && !code; i++)
        code = place_chunk(w, z, i, &chunks[i]);
    if (!code)
        code = find_files(w, key, z, chunks);
    w->tensors[d->dcp.tensor_count++] = (struct sl_dcp_tensor){ .key = key, .dtype = z->dtype, .ndim = z->ndim, .shape = z->shape,
                                                                .chunks = chunks, .chunk_count = (uint32_t)z->chunk_count };
    d->dcp.chunk_count += z->chunk_count;
    return code;
}

int dist_zarr(struct dist *d, struct sl_error *err)
{
    struct sl_ckpt *c = d->c;
    const struct found *found = d->found;
    struct arrays w = { .d = d, .err = err };
    w.tensors = SL_ARENA_NEW(&c->arena, struct sl_dcp_tensor, found->name_count);
    w.zarrs = SL_ARENA_NEW(&c->arena, struct sl_zarr, found->name_count);
    int code = w.tensors && w.zarrs ? SL_OK : sl_fail_memory(err, found->name_count * sizeof *w.zarrs);
    for (size_t i = 0; i < found->name_count && !code; i++) {
        const char *zarray = sl_arena_printf(&c->arena, "%s/%s/.zarray", c->folder, found->names[i]);
        if (!zarray)
            code = sl_fail_memory(err, 1);
        else if (sl_path_exists(zarray))
            code = add_array(&w, found->names[i], zarray);
    }
    if (!code && w.file_count) {
        d->dcp.files = sl_arena_copy(&c->arena, w.files, w.file_count * sizeof *w.files);
        if (!d->dcp.files)
            code = sl_fail_memory(err, w.file_count * sizeof *w.files);
    }
    d->dcp.file_count = (uint32_t)w.file_count;
    d->dcp.tensors = w.tensors;
    d->zarrs = w.zarrs;
    free(w.files);
    return code;
}

void dist_zarr_lengths(struct dist *d)
{
    for (uint32_t i = 0; i < d->dcp.tensor_count; i++) {
        struct sl_dcp_chunk *chunks = (struct sl_dcp_chunk *)(uintptr_t)d->dcp.tensors[i].chunks;     /* our own */
        for (uint32_t k = 0; d->zarrs[i].zlib && k < d->dcp.tensors[i].chunk_count; k++)
            if (chunks[k].place.file >= 0 && chunks[k].place.length)
                chunks[k].place.length = sl_max_u64(1, d->c->files[chunks[k].place.file].size);
    }
}
