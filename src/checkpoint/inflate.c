/* inflate.c: compressed chunks (zlib or gzip, one stream a file). A stream can't be entered
 * in the middle, and a chunk may be larger than memory should be: so half-read streams are
 * kept, and a read that follows the last one goes on with its stream. */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define STREAMS 16               /* kept besides those in use */
#define PACKED_BYTES 65536       /* read at a time */
#define ANY_HEADER (15 + 32)     /* inflateInit2: the largest window, zlib or gzip by its header */

struct ckpt_stream {
    struct ckpt_stream *next;    /* the one used before */
    const struct ckpt_item *item;
    uint64_t at;                 /* unpacked bytes given out so far */
    uint64_t read;               /* of the file */
    bool ended;                  /* the stream's own end was seen, and its checksum is right */
    z_stream z;
    unsigned char packed[PACKED_BYTES];
};

static void stream_free(struct ckpt_stream *s)
{
    if (s)
        inflateEnd(&s->z);
    free(s);
}

void ckpt_inflate_free(struct ckpt_items *all)
{
    while (all->streams) {
        struct ckpt_stream *next = all->streams->next;
        stream_free(all->streams);
        all->streams = next;
    }
}

/* The stream of the item that is nearest before `at`, taken out of the list; NULL: none is. */
static struct ckpt_stream *take(struct ckpt_items *all, const struct ckpt_item *item, uint64_t at)
{
    struct ckpt_stream **best = NULL;
    pthread_mutex_lock(&all->lock);
    for (struct ckpt_stream **s = &all->streams; *s; s = &(*s)->next)
        if ((*s)->item == item && (*s)->at <= at && (!best || (*s)->at > (*best)->at))
            best = s;
    struct ckpt_stream *found = best ? *best : NULL;
    if (found)
        *best = found->next;
    pthread_mutex_unlock(&all->lock);
    return found;
}

/* Puts it back as the newest; the oldest goes when there are too many. */
static void give_back(struct ckpt_items *all, struct ckpt_stream *stream)
{
    struct ckpt_stream *oldest = NULL;
    size_t count = 0;
    pthread_mutex_lock(&all->lock);
    stream->next = all->streams;
    all->streams = stream;
    for (struct ckpt_stream **s = &all->streams; *s; s = &(*s)->next)
        if (++count > STREAMS) {
            oldest = *s;
            *s = NULL;
            break;
        }
    pthread_mutex_unlock(&all->lock);
    stream_free(oldest);
}

static int refuse(const struct ckpt_stream *s, const struct sl_file *file, const char *what, struct sl_error *err)
{
    char box[512];
    return sl_fail(err, SL_INPUT, file->path, "%.300s, chunk %s: %s after %llu bytes, %llu expected", s->item->tensor->key,
                   sl_dcp_box_text(s->item->chunk->offset, s->item->chunk->size, s->item->tensor->ndim, box, sizeof box), what,
                   (unsigned long long)s->at, (unsigned long long)s->item->zarr->chunk_bytes);
}

static int feed(struct ckpt_stream *s, const struct sl_file *file, struct sl_error *err)
{
    const size_t len = (size_t)sl_min_u64(PACKED_BYTES, file->size - s->read);
    if (!len)
        return refuse(s, file, "the compressed data ends", err);
    const int code = sl_file_read(file, s->read, s->packed, len, err);
    s->read += len;
    s->z.next_in = s->packed;
    s->z.avail_in = (uInt)len;
    return code;
}

/* The next len bytes. */
static int unpack(struct ckpt_stream *s, const struct sl_file *file, unsigned char *buf, size_t len, struct sl_error *err)
{
    while (len) {
        const uInt want = (uInt)sl_min_u64(len, 1 << 30);
        s->z.next_out = buf;
        s->z.avail_out = want;
        int code = s->z.avail_in ? SL_OK : feed(s, file, err);
        if (code)
            return code;
        const int rc = inflate(&s->z, Z_NO_FLUSH);
        const size_t got = want - s->z.avail_out;
        s->at += got;
        buf += got;
        len -= got;
        s->ended = rc == Z_STREAM_END;
        if (s->ended && len)
            return refuse(s, file, "the compressed data ends", err);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return rc == Z_MEM_ERROR ? sl_fail_memory(err, PACKED_BYTES) : refuse(s, file, "the compressed data is damaged", err);
    }
    return SL_OK;
}

/* Behind the last byte of a chunk its stream ends: one that goes on is of another chunk, or made to
 * fill the memory of who unpacks all of it. */
static int finish(struct ckpt_stream *s, const struct sl_file *file, struct sl_error *err)
{
    while (!s->ended) {
        unsigned char more;
        int code = s->z.avail_in ? SL_OK : feed(s, file, err);
        if (code)
            return code;
        s->z.next_out = &more;
        s->z.avail_out = 1;
        const int rc = inflate(&s->z, Z_NO_FLUSH);
        if (!s->z.avail_out)
            return refuse(s, file, "the compressed data goes on", err);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return rc == Z_MEM_ERROR ? sl_fail_memory(err, PACKED_BYTES) : refuse(s, file, "the compressed data is damaged", err);
        s->ended = rc == Z_STREAM_END;
    }
    return SL_OK;
}

static struct ckpt_stream *stream_new(const struct ckpt_item *item)
{
    struct ckpt_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->item = item;
    if (inflateInit2(&s->z, ANY_HEADER) == Z_OK)
        return s;
    free(s);
    return NULL;
}

int ckpt_inflate(struct ckpt_items *all, const struct ckpt_item *item, const struct sl_file *file, uint64_t at,
                 void *buf, size_t len, struct sl_error *err)
{
    unsigned char skipped[4096];
    struct ckpt_stream *s = take(all, item, at);
    int code = SL_OK;
    if (!s && !(s = stream_new(item)))
        return sl_fail_memory(err, sizeof *s);
    while (!code && s->at < at)
        code = unpack(s, file, skipped, (size_t)sl_min_u64(sizeof skipped, at - s->at), err);
    if (!code)
        code = unpack(s, file, buf, len, err);
    if (!code && s->at == item->zarr->chunk_bytes)
        code = finish(s, file, err);
    if (code)
        stream_free(s);
    else
        give_back(all, s);
    return code;
}
