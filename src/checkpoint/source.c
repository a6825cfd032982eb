/* source.c: reading tensor bytes by position, from any thread, with few files
 * open at a time. The lock is held to find a descriptor, never while reading. */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

/* Closes the file that was used longest ago and is not being read. */
static void close_oldest(struct sl_ckpt *c)
{
    unsigned oldest = c->open_count;
    for (unsigned i = 0; i < c->open_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[c->open_files[i]];
        if (!f->users && (oldest == c->open_count || f->last_use < c->opened[c->open_files[oldest]].last_use))
            oldest = i;
    }
    if (oldest < c->open_count) {
        sl_file_close(&c->opened[c->open_files[oldest]].file);
        c->open_files[oldest] = c->open_files[--c->open_count];
    }
}

static bool same_file(const struct sl_file *a, const struct sl_file *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

/* Opens a file again. Two threads may both do it; the second closes its own. */
static int open_again(struct sl_ckpt *c, struct sl_ckpt_file *f, struct sl_error *err)
{
    struct sl_file fresh;
    const int code = sl_file_open(f->file.path, &fresh, err);
    if (code)
        return code;
    if (!same_file(&fresh, &f->file)) {
        sl_file_close(&fresh);
        return sl_fail(err, SL_INPUT, f->file.path,
                       "it is another file, or was changed, since it was opened; start again");
    }
    pthread_mutex_lock(&c->lock);
    if (f->file.fd < 0) {
        if (c->open_count >= c->open_limit)
            close_oldest(c);
        f->file.fd = fresh.fd;
        fresh.fd = -1;
        c->open_files[c->open_count++] = (uint32_t)(f - c->opened);
    }
    pthread_mutex_unlock(&c->lock);
    sl_file_close(&fresh);
    return SL_OK;
}

int ckpt_hold(struct sl_ckpt *c, int32_t index, struct sl_file *out, struct sl_error *err)
{
    if (index < 0 || (size_t)index >= c->file_count)
        return sl_fail(err, SL_INPUT, c->path, "the file of this tensor was never opened");
    if (!c->opened[index].identified)
        return sl_fail(err, SL_INPUT, c->files[index].path, "%s",
                       c->opened[index].why ? c->opened[index].why : "it was never opened");
    struct sl_ckpt_file *f = &c->opened[index];

    for (;;) {
        pthread_mutex_lock(&c->lock);
        const bool open = f->file.fd >= 0;
        if (open) {
            f->users++;
            f->last_use = ++c->uses;
            *out = f->file;
        }
        pthread_mutex_unlock(&c->lock);
        if (open)
            return SL_OK;
        const int code = open_again(c, f, err);
        if (code)
            return code;
    }
}

void ckpt_let_go(struct sl_ckpt *c, int32_t index)
{
    pthread_mutex_lock(&c->lock);
    c->opened[index].users--;
    pthread_mutex_unlock(&c->lock);
}

/* ---- storage order ------------------------------------------------------- */

static int outside(const struct sl_tensor *t, int64_t from, size_t len, struct sl_error *err)
{
    return sl_fail(err, SL_INPUT, t->name,
                   "%zu bytes from byte %lld after its first element on are outside its storage of %llu bytes", len,
                   (long long)from, (unsigned long long)t->storage_bytes);
}

/* Offset of the range in the file, and in its storage; false when it is outside. */
static bool place(const struct sl_tensor *t, int64_t from, size_t len, uint64_t *in_storage)
{
    const uint64_t first = t->offset - t->storage_begin;
    uint64_t end;
    if (from < 0 ? (uint64_t)0 - (uint64_t)from > first : !sl_add_u64(first, (uint64_t)from, in_storage))
        return false;
    if (from < 0)
        *in_storage = first - ((uint64_t)0 - (uint64_t)from);
    return sl_add_u64(*in_storage, len, &end) && end <= t->storage_bytes;
}

/* odd: the item that t stands for, NULL for tensors that lie in their file as they are. */
static int read_storage(struct sl_ckpt *c, const struct sl_ckpt_file *f, const struct sl_file *file, const struct sl_tensor *t,
                        const struct ckpt_item *odd, uint64_t in_storage, void *buf, size_t len, struct sl_error *err)
{
    if (odd && odd->kind == ITEM_ZLIB)
        return ckpt_inflate(c->items, odd, file, in_storage, buf, len, err);
    if (t->flags & SL_TENSOR_DEFLATED && odd)
        return sl_torch_read_deflated(file, odd->chunk->place.at, odd->chunk->place.length, odd->odd->root,
                                      &odd->odd->storage, in_storage, buf, len, err);
    if (t->flags & SL_TENSOR_DEFLATED)
        return sl_torch_read_deflated(file, 0, file->size, f->torch.root, &f->torch.storages[t->storage],
                                      in_storage, buf, len, err);
    return sl_file_read(file, t->storage_begin + in_storage, buf, len, err);
}

static int read_as_stored(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item *odd, int64_t from,
                          void *buf, size_t len, struct sl_error *err)
{
    uint64_t in_storage;
    if (!place(t, from, len, &in_storage))
        return outside(t, from, len, err);
    const uint32_t size = sl_dtype_size(t->dtype);
    const bool swap = t->flags & SL_TENSOR_BIG_ENDIAN && size > 1;
    if (swap && (from % (int64_t)size || len % size))
        return sl_fail(err, SL_USAGE, t->name, "big-endian elements are read whole, in steps of %u bytes", size);
    if (!len)
        return SL_OK;

    struct sl_file file;
    int code = ckpt_hold(c, t->file, &file, err);
    if (code)
        return code;
    code = read_storage(c, &c->opened[t->file], &file, t, odd, in_storage, buf, len, err);
    ckpt_let_go(c, t->file);
    if (!code && swap)
        sl_dtype_swap(t->dtype, buf, len / size);
    return code;
}

static int read_item(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item *item, int64_t from,
                     void *buf, size_t len, struct sl_error *err);

int sl_ckpt_read(struct sl_ckpt *c, const struct sl_tensor *t, int64_t from, void *buf, size_t len,
                 struct sl_error *err)
{
    const struct ckpt_item *item;
    if (t->flags & SL_TENSOR_NO_DATA)
        return sl_fail(err, SL_INPUT, t->name, "it has no bytes in the file");
    const int code = ckpt_item_find(c, t, &item, err);
    if (code)
        return code;
    return item ? read_item(c, t, item, from, buf, len, err) : read_as_stored(c, t, NULL, from, buf, len, err);
}

/* ---- row-major order over strides ---------------------------------------- */

/* A part of a tensor that is a box, read with the axis of smallest stride
 * innermost, so that a transposed matrix is read in runs too. */
struct walk {
    struct sl_ckpt *c;
    const struct sl_tensor *t;
    const struct ckpt_item *odd;        /* as for read_storage() */
    uint32_t size;                      /* bytes of an element */
    unsigned char *window;              /* elements [window_at, + window_count) after element 0 */
    int64_t window_at, window_count;
    uint64_t weight[SL_LIMIT_DIMS];     /* elements per step of an axis, row-major */
};
#define WINDOW_BYTES ((int64_t)64 << 10)

/* Makes the window hold element `at`, and as many after it as fit, at most `want`
 * beyond what fits a few pages when the next is far away. */
static int window_fill(struct walk *w, int64_t at, int64_t want, struct sl_error *err)
{
    const int64_t room = WINDOW_BYTES / w->size;
    const int64_t first = (int64_t)((w->t->offset - w->t->storage_begin) / w->size);
    const int64_t left = (int64_t)(w->t->storage_bytes / w->size) - first - at;
    int64_t count = sl_min_i64(sl_max_i64(want, 4096 / w->size), sl_min_i64(room, left));
    if (count < 1)
        return outside(w->t, at * w->size, w->size, err);
    w->window_count = 0;
    const int code = read_as_stored(w->c, w->t, w->odd, at * w->size, w->window, (size_t)count * w->size, err);
    if (code)
        return code;
    w->window_at = at;
    w->window_count = count;
    return SL_OK;
}

/* Elements at, at + stride, .. to out, out + step, .. */
static int read_run(struct walk *w, int64_t at, int64_t stride, int64_t count, unsigned char *out,
                    uint64_t step, struct sl_error *err)
{
    for (int64_t i = 0; i < count; i++, at += stride, out += step * w->size) {
        if (at < w->window_at || at >= w->window_at + w->window_count) {
            int64_t want = 1;
            if (stride && (count - i - 1) <= (WINDOW_BYTES / w->size) / stride)
                want = (count - i - 1) * stride + 1;
            else if (stride && stride < 512)
                want = WINDOW_BYTES / w->size;
            const int code = window_fill(w, at, want, err);
            if (code)
                return code;
        }
        memcpy(out, w->window + (size_t)(at - w->window_at) * w->size, w->size);
    }
    return SL_OK;
}

/* The box lo..lo+len of the tensor, to `out`, which begins at row-major element `first`. */
static int read_box(struct walk *w, const int64_t *lo, const int64_t *len, uint64_t first, unsigned char *out,
                    struct sl_error *err)
{
    const struct sl_tensor *t = w->t;
    uint32_t inner = t->ndim - 1;
    for (uint32_t a = 0; a < t->ndim; a++)
        if (len[a] > 1 && (len[inner] <= 1 || t->stride[a] < t->stride[inner]))
            inner = a;

    int64_t x[SL_LIMIT_DIMS];
    memcpy(x, lo, t->ndim * sizeof *x);
    for (;;) {
        int64_t at = 0;
        uint64_t to = 0;
        for (uint32_t a = 0; a < t->ndim; a++) {
            at += x[a] * t->stride[a];
            to += (uint64_t)x[a] * w->weight[a];
        }
        const int code = read_run(w, at, t->stride[inner], len[inner], out + (to - first) * w->size,
                                  w->weight[inner], err);
        if (code)
            return code;
        uint32_t a = t->ndim;
        while (a-- > 0) {
            if (a == inner)
                continue;
            if (++x[a] < lo[a] + len[a])
                break;
            x[a] = lo[a];
        }
        if (a == UINT32_MAX)
            return SL_OK;
    }
}

/* The largest box that begins at row-major element `at` and ends before `end`:
 * whole inner axes, a range of one axis, one step of the outer ones. */
static uint64_t next_box(const struct walk *w, uint64_t at, uint64_t end, int64_t *lo, int64_t *len)
{
    const struct sl_tensor *t = w->t;
    uint64_t rest = at;
    for (uint32_t a = 0; a < t->ndim; a++) {
        lo[a] = (int64_t)(rest / w->weight[a]);
        rest %= w->weight[a];
        len[a] = 1;
    }
    uint64_t count = 1;
    for (uint32_t a = t->ndim; a-- > 0; ) {
        const uint64_t fits = (end - at) / w->weight[a];
        len[a] = (int64_t)sl_min_u64(fits, (uint64_t)(t->shape[a] - lo[a]));
        count = (uint64_t)len[a] * w->weight[a];
        if (lo[a] || len[a] < t->shape[a])
            break;
    }
    return count;
}

static int read_strided(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item *odd, uint64_t first,
                        uint64_t count, unsigned char *buf, struct sl_error *err)
{
    struct walk w = { .c = c, .t = t, .odd = odd, .size = sl_dtype_size(t->dtype) };
    uint64_t weight = 1;
    for (uint32_t a = t->ndim; a-- > 0; weight *= (uint64_t)t->shape[a])
        w.weight[a] = weight;
    w.window = malloc((size_t)WINDOW_BYTES);
    if (!w.window)
        return sl_fail_memory(err, (uint64_t)WINDOW_BYTES);

    int code = SL_OK;
    for (uint64_t at = first; !code && at < first + count; ) {
        int64_t lo[SL_LIMIT_DIMS], len[SL_LIMIT_DIMS];
        const uint64_t got = next_box(&w, at, first + count, lo, len);
        code = read_box(&w, lo, len, at, buf + (at - first) * w.size, err);
        at += got;
    }
    free(w.window);
    return code;
}

/* ---- items ------------------------------------------------------------------ */

/* The chunk of an item as it lies there. */
static struct sl_tensor odd_tensor(const struct sl_tensor *t, const struct ckpt_item *item)
{
    static const int64_t one = 1;
    struct sl_tensor x = *t;
    const struct sl_dcp_item *odd = item->odd;
    const bool scalar = !item->tensor->ndim;             /* read as an array of one */
    x.ndim = scalar ? 1 : item->tensor->ndim;
    x.shape = scalar ? &one : item->chunk->size;
    x.stride = scalar ? &one : odd->stride;
    x.offset = odd->offset;
    x.storage_begin = odd->storage_begin;
    x.storage_bytes = odd->storage_bytes;
    x.flags = (odd->storage.deflated ? SL_TENSOR_DEFLATED : 0) | (odd->is_big_endian ? SL_TENSOR_BIG_ENDIAN : 0);
    return x;
}

/* Bytes [at, at + len) of the chunk in row-major order. */
static int read_odd(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item *item, uint64_t at,
                    void *buf, size_t len, struct sl_error *err)
{
    const uint32_t size = sl_dtype_size(t->dtype);
    const struct sl_tensor x = odd_tensor(t, item);
    const uint64_t first = at / size, count = (at + len + size - 1) / size - first;
    if (at % size == 0 && len % size == 0)
        return read_strided(c, &x, item, first, count, buf, err);
    unsigned char *whole = malloc(count * size);         /* elements that are wanted in part */
    if (!whole)
        return sl_fail_memory(err, count * size);
    const int code = read_strided(c, &x, item, first, count, whole, err);
    if (!code)
        memcpy(buf, whole + at % size, len);
    free(whole);
    return code;
}

/* A chunk that is not stored: its array's fill value. */
static int read_fill(const struct ckpt_item *item, uint64_t at, unsigned char *buf, size_t len)
{
    const uint32_t size = sl_dtype_size(item->zarr->dtype);
    for (size_t i = 0; i < len; i++)
        buf[i] = item->zarr->fill[(at + i) % size];
    return SL_OK;
}

static int read_item(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item *item, int64_t from,
                     void *buf, size_t len, struct sl_error *err)
{
    uint64_t in_chunk;
    struct sl_file file;
    if (!place(t, from, len, &in_chunk))
        return outside(t, from, len, err);
    if (!len)
        return SL_OK;
    if (item->kind == ITEM_FILL)
        return read_fill(item, in_chunk, buf, len);
    if (item->odd)
        return read_odd(c, t, item, in_chunk, buf, len, err);
    int code = ckpt_hold(c, t->file, &file, err);
    if (code)
        return code;
    code = sl_file_read(&file, item->offset + in_chunk, buf, len, err);
    ckpt_let_go(c, t->file);
    return code;
}

int sl_ckpt_read_elements(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t first, uint64_t count,
                          void *buf, struct sl_error *err)
{
    uint64_t end, bytes, from;
    const uint32_t size = sl_dtype_size(t->dtype);
    if (!sl_add_u64(first, count, &end) || end > t->count || !sl_mul_u64(count, size, &bytes) || bytes > SIZE_MAX ||
        !sl_mul_u64(first, size, &from) || from > INT64_MAX)
        return sl_fail(err, SL_USAGE, t->name, "elements %llu to %llu were asked for, it has %llu",
                       (unsigned long long)first, (unsigned long long)first + (unsigned long long)count,
                       (unsigned long long)t->count);
    if (!count)
        return SL_OK;
    if (t->flags & SL_TENSOR_SCALED)
        return ckpt_read_scaled(c, t, first, count, buf, err);
    if (t->flags & SL_TENSOR_STRIDED && !(t->flags & SL_TENSOR_NO_DATA))
        return read_strided(c, t, NULL, first, count, buf, err);
    return sl_ckpt_read(c, t, (int64_t)from, buf, (size_t)bytes, err);
}

/* ---- advice, identity, checksums ------------------------------------------ */

static bool advice_range(const struct sl_ckpt *c, const struct sl_tensor *t, int64_t from, uint64_t len, uint64_t *at)
{
    uint64_t in_storage;
    if (t->flags & (SL_TENSOR_NO_DATA | SL_TENSOR_DEFLATED) || len > SIZE_MAX || !place(t, from, (size_t)len, &in_storage))
        return false;
    const struct ckpt_item *item = c->items && t->storage >= 0 ? &c->items->items[t->storage] : NULL;
    if (item && (!atomic_load_explicit(&item->is_known, memory_order_acquire) || item->odd || item->kind == ITEM_FILL))
        return false;
    *at = (item ? item->offset : t->storage_begin) + in_storage;
    return true;
}

void sl_ckpt_place(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t *begin, uint64_t *end)
{
    const struct ckpt_item *item = NULL;
    const int code = ckpt_item_find(c, t, &item, NULL);
    if (item && (code || item->odd || item->kind == ITEM_FILL)) {
        *begin = item->chunk->place.at;
        *end = *begin + item->chunk->place.length;
        return;
    }
    const bool scattered = t->flags & (SL_TENSOR_STRIDED | SL_TENSOR_DEFLATED);
    *begin = item ? item->offset + (t->offset - t->storage_begin) : scattered ? t->storage_begin : t->offset;
    *end = *begin + (scattered && !item ? t->storage_bytes : t->flags & SL_TENSOR_SCALED ? t->count * sl_dtype_size(t->stored) : t->bytes);
}

bool sl_ckpt_repeats(const struct sl_tensor *t)
{
    return (t->flags & SL_TENSOR_STRIDED) && t->bytes > t->storage_bytes && sl_dtype_size(t->dtype);
}

void sl_ckpt_once(const struct sl_tensor *t, struct sl_tensor *once, int64_t *shape, int64_t *stride)
{
    const uint64_t size = sl_dtype_size(t->dtype), count = t->storage_bytes / size;
    *once = *t;
    *shape = (int64_t)count;
    *stride = 1;
    once->ndim = 1;
    once->shape = shape;
    once->stride = stride;
    once->flags &= ~SL_TENSOR_STRIDED;
    once->count = count;
    once->bytes = count * size;
    once->offset = t->storage_begin;
}

void sl_ckpt_will_read(struct sl_ckpt *c, const struct sl_tensor *t, int64_t from, uint64_t len)
{
    uint64_t at;
    struct sl_file file;
    if (!advice_range(c, t, from, len, &at) || ckpt_hold(c, t->file, &file, NULL))
        return;
    sl_file_will_read(&file, at, len);
    ckpt_let_go(c, t->file);
}

void sl_ckpt_drop(struct sl_ckpt *c, int32_t index, uint64_t offset, uint64_t len)
{
    struct sl_file file;
    if (ckpt_hold(c, index, &file, NULL))
        return;
    sl_file_drop(file.fd, offset, len);
    ckpt_let_go(c, index);
}

bool sl_ckpt_cached(struct sl_ckpt *c, int32_t index, uint64_t offset, uint64_t len, uint64_t *pages)
{
    struct sl_file file;
    if (ckpt_hold(c, index, &file, NULL))
        return false;
    const bool known = sl_file_cached(file.fd, offset, len, pages);
    ckpt_let_go(c, index);
    return known;
}

int ckpt_note(struct sl_ckpt *c, const char *path, struct sl_error *err)
{
    struct sl_file was;
    if (!sl_file_identify(path, &was))
        return SL_OK;
    struct ckpt_noted *n = SL_ARENA_NEW(&c->arena, struct ckpt_noted, 1);
    if (!n)
        return sl_fail_memory(err, sizeof *n);
    *n = (struct ckpt_noted){ was, c->noted };
    c->noted = n;
    return SL_OK;
}

int ckpt_json(struct sl_ckpt *c, const char *path, uint64_t limit, const struct sl_value **json, struct sl_error *err)
{
    int code = ckpt_note(c, path, err);
    if (!code)
        code = sl_json_load(path, limit, &c->arena, json, err);
    c->starved = c->starved || code == SL_MEMORY;
    return code;
}

int sl_ckpt_unchanged(struct sl_ckpt *c, struct sl_error *err)
{
    int code = SL_OK;
    for (size_t i = 0; i < c->file_count && !code; i++)
        code = c->opened[i].identified ? sl_file_unchanged(&c->opened[i].file, err) : SL_OK;
    for (const struct ckpt_noted *n = c->noted; n && !code; n = n->next)
        code = sl_file_unchanged(&n->was, err);
    return code;
}

int sl_ckpt_file_unchanged(struct sl_ckpt *c, const struct sl_tensor *t, struct sl_error *err)
{
    const bool known = t->file >= 0 && (size_t)t->file < c->file_count && c->opened[t->file].identified;
    return known ? sl_file_unchanged(&c->opened[t->file].file, err) : SL_OK;
}

bool sl_ckpt_has_inode(const struct sl_ckpt *c, uint64_t dev, uint64_t ino)
{
    for (size_t i = 0; i < c->file_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[i];
        if (f->identified && f->file.dev == dev && f->file.ino == ino)
            return true;
    }
    return false;
}

bool sl_ckpt_storage_crc(struct sl_ckpt *c, const struct sl_tensor *t, uint32_t *crc)
{
    const struct ckpt_item *item;
    if (ckpt_item_find(c, t, &item, NULL))
        return false;
    if (item)
        *crc = item->crc;
    if (item)
        return item->has_crc;
    if (t->file < 0 || (size_t)t->file >= c->file_count || t->storage < 0)
        return false;
    const struct sl_ckpt_file *f = &c->opened[t->file];
    if (!f->is_torch || f->torch.kind != SL_TORCH_ZIP || (uint32_t)t->storage >= f->torch.storage_count)
        return false;
    const struct sl_torch_storage *s = &f->torch.storages[t->storage];
    if (!s->crc && s->bytes)
        return false;
    *crc = s->crc;
    return true;
}
