/* safetensors.h: reading and writing .safetensors headers.
 *
 *   8 bytes     u64 N, little-endian
 *   N bytes     JSON: {"__metadata__": {str: str}, "name": {"dtype": "BF16",
 *               "shape": [..], "data_offsets": [begin, end]}, ..}, space padded
 *   rest        the data; offsets count from 8 + N
 *
 * The reader is strict: own scanner (cJSON rounds 64-bit integers), duplicate
 * names, holes, overlaps, trailing bytes and overflow are errors. It needs no
 * padding and no order. The writer lays tensors out as the reference does:
 * by dtype rank descending, then by name; header padded to 8.
 */
#ifndef SL_FORMAT_SAFETENSORS_H
#define SL_FORMAT_SAFETENSORS_H

#include "base/arena.h"
#include "base/io.h"
#include "base/text.h"

struct sl_st_tensor {
    const char *name;
    enum sl_dtype dtype;
    uint32_t ndim;
    const int64_t *shape;
    uint64_t offset;              /* in the file (reader) or filled in by the writer */
    uint64_t bytes;
};
struct sl_st_file {
    const struct sl_st_tensor *tensors;   /* in the order of the header */
    uint32_t count;
    uint64_t data_begin;                  /* 8 + N */
    const char *const *meta_keys, *const *meta_values;
    uint32_t meta_count;
};
int sl_st_open(const struct sl_file *file, struct sl_arena *arena,
               struct sl_st_file *out, struct sl_error *err);

/* The same for an image that begins at byte `start` and ends with the file, as .distcp files
 * of torch may hold one. Offsets count from the beginning of the file. */
int sl_st_open_at(const struct sl_file *file, uint64_t start, struct sl_arena *arena,
                  struct sl_st_file *out, struct sl_error *err);

/* Is this how a safetensors file begins? head: the first len >= 9 bytes. */
bool sl_st_is(const void *head, size_t len, uint64_t file_size);

/* Orders tensors as the reference writer does, fills in each offset (in the
 * file), and writes the header (8 + N bytes, with {"format": "pt"} metadata)
 * into out. *file_size is the length of the whole file. SL_UNSUPPORTED names a
 * tensor whose dtype safetensors does not have. */
int sl_st_layout(struct sl_st_tensor *tensors, size_t count, struct sl_buf *out,
                 uint64_t *file_size, struct sl_error *err);

#endif
