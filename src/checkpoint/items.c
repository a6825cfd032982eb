/* items.c: items of distributed checkpoints. A file of items has no index of its own
 * and its .metadata does not say where in an item the numbers begin: that is looked up
 * when an item is first read, so that opening reads none of them. */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <string.h>

int ckpt_items_new(struct sl_ckpt *c, size_t count, struct sl_error *err)
{
    struct ckpt_items *all = SL_ARENA_NEW(&c->arena, struct ckpt_items, 1);
    if (count > INT32_MAX)
        return sl_fail(err, SL_INPUT, c->folder, "%zu chunks are more than can be told apart", count);
    if (!all)
        return sl_fail_memory(err, sizeof *all);
    all->items = SL_ARENA_NEW(&c->arena, struct ckpt_item, count);
    all->images = SL_ARENA_NEW(&c->arena, struct sl_dcp_image, c->file_count);
    if (!all->items || !all->images)
        return sl_fail_memory(err, count * sizeof *all->items);
    all->count = count;
    pthread_mutex_init(&all->lock, NULL);
    for (size_t i = 0; i < c->file_count; i++)
        pthread_mutex_init(&all->images[i].lock, NULL);
    c->items = all;
    return SL_OK;
}

void ckpt_items_free(struct sl_ckpt *c)
{
    if (!c->items)
        return;
    for (size_t i = 0; i < c->file_count; i++) {
        sl_dcp_image_free(&c->items->images[i]);
        pthread_mutex_destroy(&c->items->images[i].lock);
    }
    ckpt_inflate_free(c->items);
    pthread_mutex_destroy(&c->items->lock);
    sl_arena_free(&c->items->arena);
}

/* A CRC is of use when it is of the bytes of the chunk, all of them and no others. */
static bool keeps_crc(const struct ckpt_item *item, const struct sl_dcp_item *found)
{
    uint64_t count, bytes;
    return item->kind == ITEM_DCP && found->root && found->is_plain && (found->storage.crc || !found->storage.bytes) &&
           found->offset == found->storage_begin && sl_shape_count(item->chunk->size, item->tensor->ndim, &count) &&
           sl_mul_u64(count, sl_dtype_size(item->tensor->dtype), &bytes) && bytes == found->storage_bytes;
}

/* Keeps what was found. Two threads may look at one item; the first is believed. */
static int fill_in(struct ckpt_items *all, struct ckpt_item *item, const struct sl_dcp_item *found, struct sl_error *err)
{
    struct sl_dcp_item *odd = NULL;
    int code = SL_OK;
    pthread_mutex_lock(&all->lock);
    if (!atomic_load_explicit(&item->is_known, memory_order_relaxed)) {
        item->offset = found->offset;
        item->has_crc = keeps_crc(item, found);
        item->crc = found->storage.crc;
        if (!found->is_plain) {
            odd = sl_arena_copy(&all->arena, found, sizeof *found);
            const char *root = odd ? sl_arena_str(&all->arena, found->root ? found->root : "") : NULL;
            const char *key = odd ? sl_arena_str(&all->arena, found->storage.key ? found->storage.key : "") : NULL;
            if (!root || !key) {
                code = sl_fail_memory(err, sizeof *found);
            } else {
                odd->root = root;
                odd->storage.key = key;
                item->odd = odd;
            }
        }
        if (!code)
            atomic_store_explicit(&item->is_known, true, memory_order_release);
    }
    pthread_mutex_unlock(&all->lock);
    return code;
}

/* A chunk of zarr is the file, row-major over the whole chunk also where the array ends inside. */
static struct sl_dcp_item zarr_item(const struct ckpt_item *item)
{
    const struct sl_zarr *z = item->zarr;
    struct sl_dcp_item found = { .storage_bytes = z->chunk_bytes, .is_big_endian = z->big_endian };
    int64_t step = 1;
    bool clipped = false;
    for (uint32_t a = z->ndim; a-- > 0; step *= z->chunk[a]) {      /* their product is known to fit */
        found.stride[a] = step;
        clipped = clipped || (a > 0 && item->chunk->size[a] != z->chunk[a]);
    }
    found.is_plain = item->kind == ITEM_FILL || (item->kind == ITEM_RAW && !clipped && !z->big_endian);
    return found;
}

static int look_up(struct sl_ckpt *c, struct ckpt_item *item, struct sl_error *err)
{
    struct sl_arena scratch = { 0 };
    struct sl_dcp_item found;
    if (item->zarr) {
        found = zarr_item(item);
        return fill_in(c->items, item, &found, err);
    }
    struct sl_file file;
    const int32_t index = item->chunk->place.file;
    int code = ckpt_hold(c, index, &file, err);
    if (code)
        return code;
    code = sl_dcp_item_open(&file, item->tensor, item->chunk, &c->items->images[index], &scratch, &found, err);
    ckpt_let_go(c, index);
    if (!code)
        code = fill_in(c->items, item, &found, err);
    sl_arena_free(&scratch);
    return code;
}

int ckpt_item_find(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item **out, struct sl_error *err)
{
    *out = NULL;
    if (!c->items || t->storage < 0 || (size_t)t->storage >= c->items->count)
        return SL_OK;
    struct ckpt_item *item = &c->items->items[t->storage];
    *out = item;
    if (atomic_load_explicit(&item->is_known, memory_order_acquire))
        return SL_OK;
    return look_up(c, item, err);
}

int sl_ckpt_look(struct sl_ckpt *c, const struct sl_tensor *t, struct sl_error *err)
{
    const struct ckpt_item *item;
    return ckpt_item_find(c, t, &item, err);
}
