/* fuzz_dcp.c: any bytes as the .metadata of a distributed checkpoint, as an item of a data file
 * and as a .zarray. What opens must keep its promises: places in files that are named, boxes with
 * as many axes as their array, an item whose numbers lie inside of the file. */
#include "fuzz.h"

#include "base/text.h"
#include "checkpoint/tiling.h"
#include "format/dcp.h"
#include "format/zarr.h"

static void look_at_metadata(const struct sl_file *file)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_dcp dcp;
    struct tiling_box boxes[64];
    const int code = sl_dcp_open(file, &arena, &dcp, &err);
    fuzz_refused(code, &err);
    for (uint32_t i = 0; !code && i < dcp.tensor_count; i++) {
        const struct sl_dcp_tensor *t = &dcp.tensors[i];
        struct tiling tiling;
        if (t->ndim > SL_LIMIT_DIMS || t->outer > strlen(t->key))
            abort();
        for (uint32_t k = 0; k < t->chunk_count; k++) {
            char box[64];
            if (t->chunks[k].place.file >= (int32_t)dcp.file_count)
                abort();
            sl_dcp_box_text(t->chunks[k].offset, t->chunks[k].size, t->ndim, box, sizeof box);
            if (k < 64)
                boxes[k] = (struct tiling_box){ t->chunks[k].offset, t->chunks[k].size };
        }
        if (t->chunk_count <= 64 && t->ndim <= 4)
            (void)tiling_check(t->shape, t->ndim, boxes, t->chunk_count, &tiling, &err);
    }
    for (uint32_t i = 0; !code && i < dcp.file_count; i++)
        if (!sl_path_is_inside(dcp.files[i], strlen(dcp.files[i])))
            abort();
    sl_arena_free(&arena);
}

static void look_at_item(const struct sl_file *file)
{
    static const int64_t zeros[2], size[] = { 2, 3 };
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_dcp_item item;
    struct sl_dcp_image image = { .code = 0 };
    const struct sl_dcp_tensor t = { .key = "w", .dtype = SL_F32, .ndim = 2, .shape = size };
    const struct sl_dcp_chunk chunk = { zeros, size, { 0, 0, file->size } };
    pthread_mutex_init(&image.lock, NULL);
    const int code = sl_dcp_item_open(file, &t, &chunk, &image, &arena, &item, &err);
    fuzz_refused(code, &err);
    if (!code && (item.storage_begin > file->size || (!item.storage.deflated && item.storage_bytes > file->size - item.storage_begin)))
        abort();
    sl_dcp_image_free(&image);
    pthread_mutex_destroy(&image.lock);
    sl_arena_free(&arena);
}

static void look_at_zarray(const char *path)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_zarr z;
    uint64_t number;
    const int code = sl_zarr_open(path, &arena, &z, &err);
    fuzz_refused(code, &err);
    if (!code && sl_zarr_chunk_number(&z, "0.1.2", &number) && number >= z.chunk_count)
        abort();
    sl_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    look_at_metadata(&f.file);
    look_at_item(&f.file);
    look_at_zarray(f.path);
    fuzz_close(&f);
    return 0;
}
