/* zarr.h: an array of the zarr format, version 2, as older Megatron-core stores tensors:
 * a folder KEY with
 *
 *   .zarray    JSON: shape, chunks (the shape of a chunk), dtype, compressor, fill_value, ..
 *   0.0, 0.1   one file a chunk, named by its place in the grid of chunks; without a header,
 *              row-major, always of a whole chunk, also where the array ends inside of it
 *
 * A chunk whose file is not there holds fill_value everywhere.
 * dtype is numpy's ("<f4"); bfloat16, which numpy does not have, is stored as V2 and called
 * "bfloat16" by Megatron.
 *
 * Source: zarr-specs v2; megatron/core/dist_checkpointing/strategies/zarr.py (0.4 to 0.15)
 *         checked against tests/fixtures/dist/zarr* (made by the zarr package)
 */
#ifndef SL_FORMAT_ZARR_H
#define SL_FORMAT_ZARR_H

#include "base/arena.h"
#include "base/io.h"
#include "base/limits.h"

struct sl_zarr {
    enum sl_dtype dtype;
    bool big_endian;
    uint32_t ndim;
    const int64_t *shape, *chunk;        /* elements */
    const uint64_t *grid;                /* chunks on each axis */
    uint64_t chunk_count, chunk_bytes;   /* of the grid; of one chunk, unpacked */
    bool zlib;                           /* each file is a zlib or gzip stream */
    bool has_fill;
    unsigned char fill[16];              /* one element, little-endian */
};

/* Reads KEY/.zarray. SL_INPUT when it is no such JSON or its numbers make no array;
 * SL_UNSUPPORTED for other compressors (by name), filters, column-major order, chunks in
 * folders of folders, version 3. */
int sl_zarr_open(const char *path, struct sl_arena *arena, struct sl_zarr *out, struct sl_error *err);

/* "0.3.1" -> its number in the grid, counted in row-major order; false: no name of a chunk. */
bool sl_zarr_chunk_number(const struct sl_zarr *z, const char *name, uint64_t *number);

#endif
