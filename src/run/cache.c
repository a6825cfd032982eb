/* cache.c: what a conversion leaves in the page cache of its machine: what was there before.
 *
 * Before the first byte is read it is looked what of the source lies in the cache, in blocks of 64 KiB: these are
 * somebody's, and stay. All other pages are there because this run read them, and are given back as soon as nothing
 * needs their tensor any more; what is left between tensors, at the end. What is written goes to the disk
 * some buffers behind, and is given back once it is there.
 *
 * A source that is read twice (to be compared) is kept from one time to the other where there is room for it.
 */
#include "run/convert.h"

#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK (UINT64_C(64) << 10)
#define CHUNK (UINT64_C(4) << 20)              /* asked for first; its halves only where some of it is there */
#define ROOM_SHARE 2u                          /* source and target may take this part of what is available */

struct cached_file {
    uint8_t *theirs;                           /* a bit for each block; NULL: none is */
    uint64_t size;
    bool all_theirs;                           /* or not known */
};

/* ---- what was there ---- */

static bool is_theirs(const struct cached_file *f, uint64_t block)
{
    return f->all_theirs || (f->theirs && f->theirs[block / 8] >> block % 8 & 1);
}

/* Halves what some of is there, down to blocks: headers read before leave single pages all over a file. */
static bool look_at(struct sl_ckpt *c, struct cached_file *f, int32_t file, uint64_t chunk)
{
    uint64_t at = chunk, len = CHUNK;
    const uint64_t end = sl_min_u64(chunk + CHUNK, f->size);
    while (at < end) {
        uint64_t pages;
        if (!sl_ckpt_cached(c, file, at, sl_min_u64(len, end - at), &pages))
            return false;
        if (pages && len > BLOCK) {
            len /= 2;
            continue;
        }
        if (pages)
            f->theirs[at / BLOCK / 8] |= (uint8_t)(1u << at / BLOCK % 8);
        at += len;
        while (len < CHUNK && at % (2 * len) == 0)
            len *= 2;
    }
    return true;
}

static int look_at_file(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    struct cached_file *f = &v->cached[i];
    uint64_t pages;
    (void)w;
    f->size = v->p->ckpt->files[i].size;
    f->all_theirs = true;
    if (!sl_ckpt_cached(v->p->ckpt, (int32_t)i, 0, f->size, &pages))
        return SL_OK;
    if (pages) {
        f->theirs = calloc((size_t)(f->size / BLOCK / 8 + 1), 1);
        if (!f->theirs)
            return sl_fail_memory(err, f->size / BLOCK / 8 + 1);
    }
    for (uint64_t at = 0; pages && at < f->size; at += CHUNK)
        if (!look_at(v->p->ckpt, f, (int32_t)i, at))
            return SL_OK;
    f->all_theirs = false;
    return SL_OK;
}

int cache_look(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    v->cached = SL_ARENA_NEW(&r->arena, struct cached_file, v->p->ckpt->file_count);
    v->readers_left = SL_ARENA_NEW(&r->arena, atomic_uint, v->p->source.tensor_count);
    v->behind = SL_ARENA_NEW(&r->arena, struct behind, SL_MAX_WORKERS);
    if (!v->cached || !v->readers_left || !v->behind)
        return sl_fail_memory(err, v->p->source.tensor_count * sizeof *v->readers_left);
    const uint64_t bytes = v->p->read_bytes + v->p->write_bytes;
    v->keeps_source = r->options.verify == SL_VERIFY_REREAD && bytes < sl_memory_available() / ROOM_SHARE;
    return sl_run_each(r, v->p->ckpt->file_count, look_at_file, err);
}

/* ---- the source ---- */

static void drop_range(struct convert *v, int32_t file, uint64_t begin, uint64_t end)
{
    const struct cached_file *f = &v->cached[file];
    uint64_t block = begin / BLOCK;
    while (!f->all_theirs && block * BLOCK < end) {
        uint64_t last = block;
        while (last * BLOCK < end && !is_theirs(f, last))
            last++;
        const uint64_t from = sl_max_u64(begin, block * BLOCK), to = sl_min_u64(end, last * BLOCK);
        if (last > block)
            sl_ckpt_drop(v->p->ckpt, file, from, to - from);
        for (block = last; block * BLOCK < end && is_theirs(f, block);)
            block++;
    }
}

/* Every copy reads its source once in a phase. */
void cache_expect_readers(struct convert *v)
{
    for (size_t i = 0; i < v->p->source.tensor_count; i++)
        atomic_store(&v->readers_left[i], 0);
    for (size_t i = 0; i < v->p->copy_count; i++)
        if (v->p->copies[i].source != UINT32_MAX)
            atomic_fetch_add(&v->readers_left[v->p->copies[i].source], 1);
}

void cache_target_done(struct convert *v, uint32_t target)
{
    for (size_t i = v->p->target_first[target]; i < v->p->target_first[target + 1]; i++) {
        const uint32_t source = v->p->copies[i].source;
        uint64_t begin, end;
        if (source == UINT32_MAX || atomic_fetch_sub(&v->readers_left[source], 1) != 1)
            continue;
        const struct sl_tensor *t = &v->p->source.tensors[source];
        if (t->file < 0 || t->flags & SL_TENSOR_NO_DATA)
            continue;
        sl_ckpt_place(v->p->ckpt, t, &begin, &end);
        drop_range(v, t->file, begin, sl_min_u64(end, v->cached[t->file].size));
    }
}

void cache_end(struct convert *v)
{
    for (size_t i = 0; v->cached && i < v->p->ckpt->file_count; i++) {
        drop_range(v, (int32_t)i, 0, v->cached[i].size);
        free(v->cached[i].theirs);
        v->cached[i].theirs = NULL;
        v->cached[i].all_theirs = true;
    }
}

/* ---- the target ---- */

int cache_to_disk(const struct sl_file *file, uint64_t offset, uint64_t len, struct sl_error *err)
{
    if (sync_file_range(file->fd, (off_t)offset, (off_t)len,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) &&
        (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        return sl_fail_errno(err, SL_WRITE, file->path, "writing to the disk failed");
    sl_file_drop(file->fd, offset, len);
    return SL_OK;
}

static int end_oldest(struct convert *v, struct behind *b, struct sl_error *err)
{
    const struct written_range w = b->ranges[b->first];
    struct sl_file file;
    b->first = (b->first + 1) % BEHIND_RANGES;
    b->count--;
    b->bytes -= w.len;
    int code = outfile_take(v, w.file, &file, err);
    if (code)
        return code;
    code = cache_to_disk(&file, w.offset, w.len, err);
    return outfile_give(v, w.file, code, err);
}

int cache_written(struct sl_run *r, struct convert *v, const struct sl_worker *w, size_t file, const struct sl_file *at, uint64_t offset,
                  uint64_t len, struct sl_error *err)
{
    struct behind *b = &v->behind[w - r->workers];
    /* starts the disk on it, so that what is waited for later is there */
    sync_file_range(at->fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
    struct written_range *last = &b->ranges[(b->first + b->count + BEHIND_RANGES - 1) % BEHIND_RANGES];
    if (b->count && last->file == file && last->offset + last->len == offset && last->len < CHUNK) {
        last->len += len;
    } else {
        const int code = b->count == BEHIND_RANGES ? end_oldest(v, b, err) : SL_OK;
        if (code)
            return code;
        b->ranges[(b->first + b->count++) % BEHIND_RANGES] = (struct written_range){ file, offset, len };
    }
    b->bytes += len;
    int code = SL_OK;
    while (!code && b->bytes > BEHIND_BYTES && b->count > 1)
        code = end_oldest(v, b, err);
    return code;
}
