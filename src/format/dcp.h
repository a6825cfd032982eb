/* dcp.h: reading distributed checkpoints of torch (torch.distributed.checkpoint),
 * which Megatron's torch_dist is too.
 *
 *   .metadata        one pickle: tensors and their chunks, objects, and for each
 *                    chunk and object the file, the byte offset and the length
 *   __R_I.distcp     items back to back, no header: whatever .metadata points at
 *
 * The pickle is read by the safe unpickler: classes of torch.distributed.checkpoint
 * are data here. An item of a tensor is a whole torch.save archive of one tensor, or,
 * with the safetensors serialisation, a place in one safetensors image. Where its
 * numbers begin is in the item, not in .metadata: sl_dcp_item_open() looks.
 *
 * Shapes   of a tensor: the whole array; of a chunk: a box of it, [offset, offset + size)
 * Units    bytes
 * Source   torch/distributed/checkpoint/metadata.py, filesystem.py, planner.py;
 *          megatron/core/dist_checkpointing/strategies/torch.py (MCoreMetadata)
 *          checked against tests/fixtures/dist (made by both)
 */
#ifndef SL_FORMAT_DCP_H
#define SL_FORMAT_DCP_H

#include "base/limits.h"
#include "base/map.h"
#include "format/safetensors.h"
#include "format/torchfile.h"

#include <pthread.h>

struct sl_dcp_place {
    int32_t file;             /* index into files; -1: .metadata names no place */
    uint64_t at, length;      /* of the item in the file */
};
struct sl_dcp_chunk {
    const int64_t *offset, *size;       /* as many as the tensor has axes */
    struct sl_dcp_place place;
};
struct sl_dcp_tensor {
    const char *key;
    enum sl_dtype dtype;
    uint32_t ndim;
    const int64_t *shape;
    const struct sl_dcp_chunk *chunks;  /* in the order of .metadata */
    uint32_t chunk_count;
    uint32_t outer;           /* bytes of the key that are its outermost dict, "model" of
                                 "model.layers.0.weight"; 0: not told, or not nested */
};
struct sl_dcp_object { const char *key; struct sl_dcp_place place; };

struct sl_dcp {
    const struct sl_dcp_tensor *tensors;  uint32_t tensor_count;
    const struct sl_dcp_object *objects;  uint32_t object_count;
    const char *const *files;             uint32_t file_count;    /* relative paths, each once */
    uint64_t chunk_count;                 /* of all tensors */
    bool nested;                          /* it says how keys come from nested dicts, as plain DCP does */
    const struct sl_torch_global *globals;  uint32_t global_count;  /* what the pickle names */
};

/* Reads .metadata. All results live in the arena. SL_INPUT when it is no pickle or not of a
 * Metadata (says what it is instead), when a chunk has another number of axes than its tensor,
 * or a file lies outside of the folder; SL_UNSUPPORTED for items that are compressed or
 * otherwise transformed. Whether chunks fit and are there is not looked at. */
int sl_dcp_open(const struct sl_file *metadata, struct sl_arena *arena, struct sl_dcp *out,
                struct sl_error *err);

/* The safetensors image of a .distcp file: read once, asked often. Zero it and init the lock. */
struct sl_dcp_image {
    pthread_mutex_t lock;
    bool is_read;
    int code;                 /* how reading it went */
    struct sl_error err;
    uint64_t at;
    struct sl_arena arena;
    struct sl_st_file st;
    struct sl_map names;      /* name -> index into st.tensors */
};
void sl_dcp_image_free(struct sl_dcp_image *image);      /* not the lock */

/* Where the numbers of one chunk lie. */
struct sl_dcp_item {
    uint64_t offset;          /* of element 0, in the file */
    uint64_t storage_begin, storage_bytes;
    int64_t stride[SL_LIMIT_DIMS];      /* elements */
    bool is_plain;            /* row-major, stored as it is, little-endian */
    bool is_big_endian;
    const char *root;         /* of the archive, for sl_torch_read_deflated; NULL in an image */
    struct sl_torch_storage storage;
};
/* Looks into the item of a chunk whose place has a file. SL_INPUT when it is cut off by the end
 * of the file, is no archive of one tensor, or that has another shape or element type than
 * .metadata says; `where` is the file, the message names key and chunk. Texts of the item live
 * in the arena. image: of that file. Any thread, with an arena of its own. */
int sl_dcp_item_open(const struct sl_file *file, const struct sl_dcp_tensor *tensor,
                     const struct sl_dcp_chunk *chunk, struct sl_dcp_image *image,
                     struct sl_arena *arena, struct sl_dcp_item *out, struct sl_error *err);

/* "[0:1, 26:52, 0:40]": the box of a chunk, for people. Returns out. */
char *sl_dcp_box_text(const int64_t *offset, const int64_t *size, uint32_t ndim, char *out, size_t room);

#endif
