/* dcpwrite.c: see dcpwrite.h. */
#include "format/dcpwrite.h"

#include "base/error.h"
#include "format/torchwrite.h"

#include <stdlib.h>

#define METADATA "torch.distributed.checkpoint.metadata"
#define FILESYSTEM "torch.distributed.checkpoint.filesystem"

/* Names that come up for every array or chunk: written once, then fetched. */
enum word {
    W_TENSOR_METADATA, W_BYTES_METADATA, W_PROPERTIES_CLASS, W_CHUNK, W_INDEX, W_INFO, W_SIZE,
    W_LAYOUT, W_MEMORY_FORMAT, W_STRIDED, W_PROPERTIES, W_SIZE_NAME, W_CHUNKS, W_OFFSETS, W_SIZES, W_FQN,
    W_INDEX_NAME, W_OFFSET, W_PATH, W_LENGTH, W_COUNT
};
static const struct { const char *module, *name; } words[W_COUNT] = {
    [W_TENSOR_METADATA] = { METADATA, "TensorStorageMetadata" },
    [W_BYTES_METADATA] = { METADATA, "BytesStorageMetadata" },
    [W_PROPERTIES_CLASS] = { METADATA, "TensorProperties" },
    [W_CHUNK] = { METADATA, "ChunkStorageMetadata" },
    [W_INDEX] = { METADATA, "MetadataIndex" },
    [W_INFO] = { FILESYSTEM, "_StorageInfo" },
    [W_SIZE] = { "torch", "Size" },
    [W_LAYOUT] = { "torch.serialization", "_get_layout" },
    [W_MEMORY_FORMAT] = { METADATA, "_MEM_FORMAT_ENCODING" },
    [W_STRIDED] = { NULL, "torch.strided" },
    [W_PROPERTIES] = { NULL, "properties" },
    [W_SIZE_NAME] = { NULL, "size" },
    [W_CHUNKS] = { NULL, "chunks" },
    [W_OFFSETS] = { NULL, "offsets" },
    [W_SIZES] = { NULL, "sizes" },
    [W_FQN] = { NULL, "fqn" },
    [W_INDEX_NAME] = { NULL, "index" },
    [W_OFFSET] = { NULL, "offset" },
    [W_PATH] = { NULL, "relative_path" },
    [W_LENGTH] = { NULL, "length" },
};
#define UNKNOWN UINT32_MAX

struct writing {
    const struct sl_dcp_listing *l;
    struct sl_pickler k;
    uint32_t word[W_COUNT];              /* numbers in the memo; UNKNOWN: not written yet */
    uint32_t *key;                       /* by array, then by object */
    uint32_t *file;                      /* by file */
};

static void put_word(struct writing *w, enum word word)
{
    if (w->word[word] != UNKNOWN) {
        sl_pickler_fetch(&w->k, w->word[word]);
        return;
    }
    if (words[word].module)
        sl_pickler_global(&w->k, words[word].module, words[word].name);
    else
        sl_pickler_str(&w->k, words[word].name);
    w->word[word] = sl_pickler_keep(&w->k);
}

static void put_size(struct writing *w, const int64_t *numbers, uint32_t count)
{
    put_word(w, W_SIZE);
    sl_pickler_numbers(&w->k, numbers, count);
    sl_pickler_call(&w->k, 1);
}

static void begin_object(struct writing *w, enum word word)
{
    put_word(w, word);
    sl_pickler_object_begin(&w->k);
}

/* A text that comes up twice. */
static void put_known(struct writing *w, uint32_t *number, const char *text)
{
    if (*number != UNKNOWN) {
        sl_pickler_fetch(&w->k, *number);
        return;
    }
    sl_pickler_str(&w->k, text);
    *number = sl_pickler_keep(&w->k);
}

/* ---- state_dict_metadata ---------------------------------------------------------- */

/* Five properties as a tuple: dtype, layout, requires_grad, memory format (0: contiguous),
 * pin_memory. */
static void put_properties(struct writing *w, enum sl_dtype dtype)
{
    put_word(w, W_PROPERTIES_CLASS);
    sl_pickler_new(&w->k);
    sl_pickler_tuple_begin(&w->k);
    sl_pickler_dtype(&w->k, dtype);
    put_word(w, W_LAYOUT);
    put_word(w, W_STRIDED);
    sl_pickler_call(&w->k, 1);
    sl_pickler_bool(&w->k, false);
    put_word(w, W_MEMORY_FORMAT);
    sl_pickler_int(&w->k, 0);
    sl_pickler_call(&w->k, 1);
    sl_pickler_bool(&w->k, false);
    sl_pickler_tuple_end(&w->k);
    sl_pickler_build(&w->k);
}

static void put_chunk(struct writing *w, const struct sl_dcp_array *a, const struct sl_dcp_item *item)
{
    begin_object(w, W_CHUNK);
    put_word(w, W_OFFSETS);
    put_size(w, item->at, a->ndim);
    put_word(w, W_SIZES);
    put_size(w, item->shape, a->ndim);
    sl_pickler_object_end(&w->k);
}

static void put_array(struct writing *w, const struct sl_dcp_array *a, const struct sl_dcp_item *items)
{
    begin_object(w, W_TENSOR_METADATA);
    put_word(w, W_PROPERTIES);
    put_properties(w, a->dtype);
    put_word(w, W_SIZE_NAME);
    put_size(w, a->shape, a->ndim);
    put_word(w, W_CHUNKS);
    sl_pickler_list_begin(&w->k);
    for (size_t i = 0; i < a->item_count; i++)
        put_chunk(w, a, &items[i]);
    sl_pickler_list_end(&w->k);
    sl_pickler_object_end(&w->k);
}

static void put_state_dict_metadata(struct writing *w)
{
    const struct sl_dcp_listing *l = w->l;
    const struct sl_dcp_item *items = l->items;
    sl_pickler_str(&w->k, "state_dict_metadata");
    sl_pickler_dict_begin(&w->k, false);
    for (size_t i = 0; i < l->array_count; items += l->arrays[i++].item_count) {
        put_known(w, &w->key[i], l->arrays[i].key);
        put_array(w, &l->arrays[i], items);
    }
    for (size_t i = 0; i < l->object_count; i++) {
        put_known(w, &w->key[l->array_count + i], l->objects[i].key);
        put_word(w, W_BYTES_METADATA);
        sl_pickler_new(&w->k);
    }
    sl_pickler_dict_end(&w->k);
}

/* ---- storage_data ------------------------------------------------------------------ */

static void put_info(struct writing *w, const struct sl_dcp_item *item)
{
    begin_object(w, W_INFO);
    put_word(w, W_PATH);
    put_known(w, &w->file[item->file], w->l->files[item->file]);
    put_word(w, W_OFFSET);
    sl_pickler_int(&w->k, (int64_t)item->offset);
    put_word(w, W_LENGTH);
    sl_pickler_int(&w->k, (int64_t)item->length);
    sl_pickler_object_end(&w->k);
}

/* Equal and hashed by fqn and offset, which objects do not have; the index is a hint that
 * Megatron does not give either. */
static void put_index(struct writing *w, size_t key, const struct sl_dcp_item *chunk, uint32_t ndim)
{
    begin_object(w, W_INDEX);
    put_word(w, W_FQN);
    sl_pickler_fetch(&w->k, w->key[key]);
    put_word(w, W_INDEX_NAME);
    sl_pickler_none(&w->k);
    if (chunk) {
        put_word(w, W_OFFSET);
        put_size(w, chunk->at, ndim);
    }
    sl_pickler_object_end(&w->k);
}

static void put_storage_data(struct writing *w)
{
    const struct sl_dcp_listing *l = w->l;
    const struct sl_dcp_item *item = l->items;
    sl_pickler_str(&w->k, "storage_data");
    sl_pickler_dict_begin(&w->k, false);
    for (size_t i = 0; i < l->array_count; i++)
        for (size_t chunk = 0; chunk < l->arrays[i].item_count; chunk++, item++) {
            put_index(w, i, item, l->arrays[i].ndim);
            put_info(w, item);
        }
    for (size_t i = 0; i < l->object_count; i++) {
        put_index(w, l->array_count + i, NULL, 0);
        put_info(w, &l->objects[i].item);
    }
    sl_pickler_dict_end(&w->k);
}

/* ---- all of it ------------------------------------------------------------------------ */

static void put_storage_meta(struct writing *w)
{
    static const char *const unknown[] = { "checkpoint_id", "save_id", "load_id" };
    sl_pickler_str(&w->k, "storage_meta");
    sl_pickler_global(&w->k, METADATA, "StorageMeta");
    sl_pickler_object_begin(&w->k);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        sl_pickler_str(&w->k, unknown[i]);
        sl_pickler_none(&w->k);
    }
    sl_pickler_str(&w->k, "modules");
    sl_pickler_list_begin(&w->k);
    sl_pickler_list_end(&w->k);
    sl_pickler_object_end(&w->k);
}

static void put_metadata(struct writing *w)
{
    sl_pickler_begin(&w->k);
    sl_pickler_global(&w->k, METADATA, "Metadata");
    sl_pickler_object_begin(&w->k);
    put_state_dict_metadata(w);
    sl_pickler_str(&w->k, "planner_data");
    sl_pickler_dict_begin(&w->k, false);
    sl_pickler_dict_end(&w->k);
    put_storage_data(w);
    put_storage_meta(w);
    sl_pickler_str(&w->k, "version");
    sl_pickler_str(&w->k, "1.0.0");
    sl_pickler_object_end(&w->k);
    sl_pickler_end(&w->k);
}

static uint32_t *unknown_numbers(size_t count)
{
    uint32_t *numbers = malloc((count + 1) * sizeof *numbers);
    for (size_t i = 0; numbers && i < count; i++)
        numbers[i] = UNKNOWN;
    return numbers;
}

int sl_dcp_write(const struct sl_dcp_listing *l, struct sl_buf *out, struct sl_error *err)
{
    struct writing w = { .l = l };
    for (size_t i = 0; i < W_COUNT; i++)
        w.word[i] = UNKNOWN;
    w.key = unknown_numbers(l->array_count + l->object_count);
    w.file = unknown_numbers(l->file_count);
    if (w.key && w.file) {
        put_metadata(&w);
        sl_buf_add(out, w.k.out.data, w.k.out.len);
    }
    const bool failed = !w.key || !w.file || w.k.out.failed || out->failed;
    const size_t len = w.k.out.len;
    sl_buf_free(&w.k.out);
    free(w.key);
    free(w.file);
    return failed ? sl_fail_memory(err, len) : SL_OK;
}
