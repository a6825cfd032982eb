/* dcpitem.c: one item of a .distcp file: where the numbers of a chunk begin.
 *
 *   a torch.save archive    the item is [at, at + length): one tensor, of the chunk's
 *                           shape, with strides of its own (torch saves a transposed
 *                           matrix as it lies in memory)
 *   a safetensors image     `at` is where the image begins, for all of the file's
 *                           tensors; the tensor is found by its key, and length is
 *                           that of its data alone
 *
 * Source: torch/distributed/checkpoint/filesystem.py (_write_item, SerializationFormat) */
#include "format/dcp.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

struct item {
    const struct sl_file *file;
    const struct sl_dcp_tensor *t;
    const struct sl_dcp_chunk *chunk;
    struct sl_dcp_item *out;
    struct sl_error *err;
};

static int refuse(const struct item *it, const char *what)
{
    char box[512];
    return sl_fail(it->err, SL_INPUT, it->file->path, "%.300s, chunk %s, at byte %llu: %s", it->t->key,
                   sl_dcp_box_text(it->chunk->offset, it->chunk->size, it->t->ndim, box, sizeof box),
                   (unsigned long long)it->chunk->place.at, what);
}

static bool same_shape(const struct item *it, const int64_t *shape, uint32_t ndim)
{
    return ndim == it->t->ndim && (!ndim || !memcmp(shape, it->chunk->size, ndim * sizeof *shape));
}

static int refuse_other(const struct item *it, enum sl_dtype dtype, const int64_t *shape, uint32_t ndim)
{
    char has[128], says[128], text[512];
    sl_text_shape(shape, ndim, has, sizeof has);
    sl_text_shape(it->chunk->size, it->t->ndim, says, sizeof says);
    snprintf(text, sizeof text, "the item holds a tensor %s of %s, .metadata says %s of %s", has, sl_dtype_name(dtype), says,
             sl_dtype_name(it->t->dtype));
    return refuse(it, text);
}

/* ---- a torch archive --------------------------------------------------------------- */

static const struct sl_torch_tensor *only_tensor(const struct sl_torch_file *f)
{
    const struct sl_value *v = f->object;
    return v && v->kind == SL_VALUE_TENSOR && v->i >= 0 && (uint64_t)v->i < f->tensor_count ? &f->tensors[v->i] : NULL;
}

static bool is_row_major(const int64_t *shape, const int64_t *stride, uint32_t ndim)
{
    int64_t step = 1;
    for (uint32_t a = ndim; a-- > 0; )
        if ((shape[a] > 1 && stride[a] != step) || !sl_mul_i64(step, shape[a], &step))
            return false;
    return true;
}

static int take_archive(struct item *it, struct sl_arena *arena)
{
    struct sl_torch_file f;
    struct sl_error err = { 0 };
    const struct sl_dcp_place *p = &it->chunk->place;
    int code = sl_torch_open(it->file, p->at, p->length, arena, &f, &err);
    if (code == SL_INPUT)
        return refuse(it, err.message);
    if (code) {
        if (it->err)
            *it->err = err;
        return code;
    }
    const struct sl_torch_tensor *t = only_tensor(&f);
    if (!t || t->storage < 0 || (uint32_t)t->storage >= f.storage_count || f.storages[t->storage].missing || t->conj || t->neg)
        return refuse(it, "the item is a torch archive, but not of one tensor");
    if (t->dtype != it->t->dtype || !same_shape(it, t->shape, t->ndim))
        return refuse_other(it, t->dtype, t->shape, t->ndim);
    const struct sl_torch_storage *s = &f.storages[t->storage];
    uint64_t first;
    if (!sl_mul_u64(t->storage_offset, sl_dtype_size(t->dtype), &first) || first > s->bytes)
        return refuse(it, "its tensor lies outside of its storage");
    *it->out = (struct sl_dcp_item){ .offset = s->offset + first, .storage_begin = s->offset, .storage_bytes = s->bytes,
                                     .is_big_endian = f.big_endian, .root = f.root, .storage = *s };
    if (t->ndim)
        memcpy(it->out->stride, t->stride, t->ndim * sizeof *t->stride);
    it->out->is_plain = !s->deflated && !f.big_endian && is_row_major(t->shape, t->stride, t->ndim);
    return SL_OK;
}

/* ---- a safetensors image --------------------------------------------------------------- */

/* Reads the header on first use. The lock is held. */
static int read_image(const struct item *it, struct sl_dcp_image *image)
{
    const uint64_t at = it->chunk->place.at;
    if (!image->is_read) {
        image->is_read = true;
        image->at = at;
        image->code = sl_st_open_at(it->file, at, &image->arena, &image->st, &image->err);
        for (uint32_t i = 0; i < image->st.count && !image->code; i++) {
            const char *name = image->st.tensors[i].name;
            if (!sl_map_put(&image->names, name, strlen(name), i))
                image->code = sl_fail_memory(&image->err, image->st.count * sizeof(struct sl_map_slot));
        }
    }
    if (image->code == SL_INPUT || (!image->code && image->at != at))
        return refuse(it, image->code ? image->err.message : "the file has two safetensors images");
    if (image->code && it->err)
        *it->err = image->err;
    return image->code;
}

static int take_image(struct item *it, struct sl_dcp_image *image)
{
    uint64_t at;
    pthread_mutex_lock(&image->lock);
    const int code = read_image(it, image);
    pthread_mutex_unlock(&image->lock);
    if (code)
        return code;
    if (!sl_map_get(&image->names, it->t->key, strlen(it->t->key), &at))
        return refuse(it, "the safetensors image has no tensor of this name");
    const struct sl_st_tensor *t = &image->st.tensors[at];
    if (t->dtype != it->t->dtype || !same_shape(it, t->shape, t->ndim))
        return refuse_other(it, t->dtype, t->shape, t->ndim);
    *it->out = (struct sl_dcp_item){ .offset = t->offset, .storage_begin = t->offset, .storage_bytes = t->bytes, .is_plain = true };
    int64_t step = 1;
    for (uint32_t a = t->ndim; a-- > 0; ) {
        it->out->stride[a] = step;
        if (!sl_mul_i64(step, sl_max_i64(t->shape[a], 1), &step))
            return refuse(it, "its shape is too large");
    }
    return SL_OK;
}

void sl_dcp_image_free(struct sl_dcp_image *image)
{
    sl_map_free(&image->names);
    sl_arena_free(&image->arena);
}

/* ---- either ---------------------------------------------------------------------------- */

/* An archive tells of itself at its beginning and its end: two reads serve all that is asked of it. */
#define HEAD_BYTES 4096                  /* the record of the pickle */
#define TAIL_BYTES ((size_t)68 << 10)    /* where an end record may stand, and a directory before it */

static int hold_tail(const struct item *it, struct sl_held *held, unsigned char *buf, size_t head)
{
    const struct sl_dcp_place *p = &it->chunk->place;
    const uint64_t left = p->length > head ? p->length - head : 0;
    const size_t len = (size_t)sl_min_u64(left, TAIL_BYTES);
    const int code = len ? sl_file_read(it->file, p->at + p->length - len, buf, len, it->err) : SL_OK;
    held->part[1].at = p->at + p->length - len;
    held->part[1].len = len;
    held->part[1].bytes = buf;
    return code;
}

static int open_archive(struct item *it, const unsigned char *head, size_t len, struct sl_arena *arena)
{
    unsigned char *tail = malloc(TAIL_BYTES);
    struct sl_held held = { .part = { { .at = it->chunk->place.at, .len = len, .bytes = head } } };
    struct sl_file file = *it->file;
    if (!tail)
        return sl_fail_memory(it->err, TAIL_BYTES);
    int code = hold_tail(it, &held, tail, len);
    file.held = &held;
    it->file = &file;
    if (!code)
        code = take_archive(it, arena);
    free(tail);
    return code;
}

int sl_dcp_item_open(const struct sl_file *file, const struct sl_dcp_tensor *tensor,
                     const struct sl_dcp_chunk *chunk, struct sl_dcp_image *image,
                     struct sl_arena *arena, struct sl_dcp_item *out, struct sl_error *err)
{
    struct item it = { file, tensor, chunk, out, err };
    const struct sl_dcp_place *p = &chunk->place;
    unsigned char head[HEAD_BYTES];
    uint64_t end;
    *out = (struct sl_dcp_item){ 0 };
    if (!sl_add_u64(p->at, p->length, &end) || end > file->size)
        return refuse(&it, "the file ends before the item does");
    const size_t len = (size_t)sl_min_u64(sl_min_u64(file->size - p->at, sl_max_u64(p->length, 64)), sizeof head);
    const int code = sl_file_read(file, p->at, head, len, err);
    if (code)
        return code;
    if (sl_torch_is(head, len))
        return open_archive(&it, head, len, arena);
    if (sl_st_is(head, len, file->size - p->at))
        return take_image(&it, image);
    const char *what = sl_sniff(head, len);
    char text[128];
    snprintf(text, sizeof text, "the item is %s; expected a torch archive or a safetensors image", what ? what : "of no known form");
    return refuse(&it, text);
}
