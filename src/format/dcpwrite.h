/* dcpwrite.h: writing the .metadata of a torch.distributed.checkpoint: a pickle
 * that says which arrays there are, of which chunks they are made, and where in
 * the .distcp files each chunk lies. Nothing else maps names to bytes.
 *
 *   Metadata
 *     state_dict_metadata   {key: TensorStorageMetadata(properties, size,
 *                            [ChunkStorageMetadata(offsets, sizes), ..])
 *                            or BytesStorageMetadata}
 *     planner_data          {}: keys are not nested
 *     storage_data          {MetadataIndex(fqn, index, offset of the chunk):
 *                            _StorageInfo(relative_path, offset, length)}
 *     storage_meta          StorageMeta(None, None, None, modules=[])
 *     version               "1.0.0"
 *
 * Protocol 2, memo used for what repeats. torch 2.3 and later read it.
 * Source   torch/distributed/checkpoint/metadata.py and filesystem.py; compared with
 *          what torch itself writes in tests/format/test_dcpwrite.c
 */
#ifndef SL_FORMAT_DCPWRITE_H
#define SL_FORMAT_DCPWRITE_H

#include "base/text.h"
#include <shardlens/types.h>

/* A chunk, or an object: `length` bytes of a file, a whole torch zip file of its own. */
struct sl_dcp_item {
    uint32_t file;                       /* index into files */
    uint64_t offset, length;             /* bytes */
    const int64_t *at, *shape;           /* of a chunk: ndim each, elements of the array */
};
struct sl_dcp_array {
    const char *key;
    enum sl_dtype dtype;
    uint32_t ndim;
    const int64_t *shape;                /* of all chunks together */
    size_t item_count;                   /* the next ones of items */
};
struct sl_dcp_object { const char *key; struct sl_dcp_item item; };

struct sl_dcp_listing {                  /* all borrowed */
    const char *const *files;            size_t file_count;     /* relative paths */
    const struct sl_dcp_array *arrays;   size_t array_count;
    const struct sl_dcp_item *items;                            /* array by array */
    const struct sl_dcp_object *objects; size_t object_count;
};

/* Appends the pickle to *out. SL_MEMORY. */
int sl_dcp_write(const struct sl_dcp_listing *l, struct sl_buf *out, struct sl_error *err);

#endif
