/* torchwrite.c: where every byte of a torch zip file goes.
 *
 *   local header   30 bytes, name, extra: [zip64 field] "FB" padding field;
 *                  sizes and CRC are 0 (they follow in the descriptor)
 *   payload        at a multiple of 64
 *   descriptor     50 4B 07 08, crc, csize, usize: 16 bytes, or 24 where the
 *                  local extra has a zip64 field; none behind empty payloads
 *   ...            central directory, zip64 end record, locator, end record
 *
 * Byte for byte what torch 2.x writes for the same records, thresholds (>=
 * FFFFFFFF) and the odd zip64 field of late local headers included.
 *
 * Source   caffe2/serialize/inline_container.cc, third_party/miniz
 */
#include "format/torchwrite.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <libdeflate.h>
#include <stdio.h>
#include <string.h>

enum {
    ALIGNMENT = 64, LOCAL_LEN = 30, CENTRAL_LEN = 46,
    FLAG_UTF8 = 0x0800, FLAG_DESCRIPTOR = 0x0008,
    FIRST_STORAGE = 2                       /* records before: data.pkl, byteorder */
};
#define FULL32 UINT64_C(0xffffffff)
static const char byteorder[] = "little", version[] = "3\n";

/* A record, by number: data.pkl, byteorder, data/0 .., version. */
struct record { char name[32]; uint64_t size; const void *payload; };

static struct record record_at(const struct sl_torch_layout *l, uint32_t i)
{
    struct record r = {0};
    if (i == 0) {
        r = (struct record){ .name = "archive/data.pkl", .size = l->pickle_len,
                             .payload = l->pickle };
    } else if (i == 1) {
        r = (struct record){ .name = "archive/byteorder", .size = sizeof byteorder - 1,
                             .payload = byteorder };
    } else if (i == FIRST_STORAGE + l->storage_count) {
        r = (struct record){ .name = "archive/version", .size = sizeof version - 1,
                             .payload = version };
    } else {
        snprintf(r.name, sizeof r.name, "archive/data/%u", i - FIRST_STORAGE);
        r.size = l->storage_bytes[i - FIRST_STORAGE];
    }
    return r;
}

static uint32_t record_count(const struct sl_torch_layout *l)
{
    return FIRST_STORAGE + l->storage_count + 1;
}

/* --- lengths ------------------------------------------------------------ */

/* Of the zip64 field, both in local headers and in the directory. */
static size_t zip64_len(uint64_t header, uint64_t size)
{
    if (size < FULL32 && header < FULL32)
        return 0;
    return 4 + (size >= FULL32 ? 16u : 0u) + (header >= FULL32 ? 8u : 0u);
}

static uint64_t payload_at(const struct record *r, uint64_t header)
{
    uint64_t at = header + LOCAL_LEN + strlen(r->name) + zip64_len(header, r->size) + 4;
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t descriptor_len(const struct record *r, uint64_t header)
{
    return !r->size ? 0 : zip64_len(header, r->size) ? 24 : 16;
}

/* --- bytes -------------------------------------------------------------- */

static void put16(struct sl_buf *b, uint64_t v)
{
    uint8_t p[2];
    sl_store_u16(p, (uint16_t)v);
    sl_buf_add(b, p, sizeof p);
}
static void put32(struct sl_buf *b, uint64_t v)
{
    uint8_t p[4];
    sl_store_u32(p, (uint32_t)v);
    sl_buf_add(b, p, sizeof p);
}
static void put64(struct sl_buf *b, uint64_t v)
{
    uint8_t p[8];
    sl_store_u64(p, v);
    sl_buf_add(b, p, sizeof p);
}
static uint64_t narrow32(uint64_t v) { return v < FULL32 ? v : FULL32; }

/* csize: 0 in local headers, where torch does not know it yet. */
static void put_zip64(struct sl_buf *b, uint64_t header, uint64_t size, uint64_t csize)
{
    size_t len = zip64_len(header, size);
    if (!len)
        return;
    put16(b, 1);
    put16(b, len - 4);
    if (size >= FULL32) {
        put64(b, size);
        put64(b, csize);
    }
    if (header >= FULL32)
        put64(b, header);
}

static void put_local(struct sl_buf *b, const struct record *r, uint64_t header)
{
    size_t name_len = strlen(r->name);
    uint64_t bare = header + LOCAL_LEN + name_len;
    size_t extra_len = (size_t)(payload_at(r, header) - bare);
    size_t padding = extra_len - zip64_len(header, r->size) - 4;
    put32(b, 0x04034b50);
    put16(b, 0);
    put16(b, r->size ? FLAG_UTF8 | FLAG_DESCRIPTOR : FLAG_UTF8);
    for (int i = 0; i < 4; i++)
        put32(b, 0);                        /* method, time; date, crc.. */
    put16(b, 0);
    put16(b, name_len);
    put16(b, extra_len);
    sl_buf_add(b, r->name, name_len);
    put_zip64(b, header, r->size, 0);
    sl_buf_add(b, "FB", 2);
    put16(b, padding);
    while (padding--)
        sl_buf_char(b, 'Z');
}

static void put_descriptor(struct sl_buf *b, const struct record *r, uint64_t header, uint32_t crc)
{
    size_t len = descriptor_len(r, header);
    if (!len)
        return;
    put32(b, 0x08074b50);
    put32(b, crc);
    for (int i = 0; i < 2; i++) {
        if (len == 24)
            put64(b, r->size);
        else
            put32(b, r->size);
    }
}

static void put_central(struct sl_buf *b, const struct record *r, uint64_t header, uint32_t crc)
{
    put32(b, 0x02014b50);
    put32(b, 0);                            /* made by, needed */
    put16(b, r->size ? FLAG_UTF8 | FLAG_DESCRIPTOR : FLAG_UTF8);
    put16(b, 0);                            /* method: stored */
    put32(b, 0);                            /* time, date */
    put32(b, crc);
    put32(b, narrow32(r->size));
    put32(b, narrow32(r->size));
    put16(b, strlen(r->name));
    put16(b, zip64_len(header, r->size));
    put16(b, 0);                            /* comment */
    put16(b, 0);                            /* disk */
    put16(b, 0);                            /* internal attributes */
    put32(b, 0);                            /* external attributes */
    put32(b, narrow32(header));
    sl_buf_add(b, r->name, strlen(r->name));
    put_zip64(b, header, r->size, r->size);
}

static void put_end(struct sl_buf *b, uint64_t count, uint64_t dir_at, uint64_t dir_len)
{
    uint64_t narrow_count = count < 0xffff ? count : 0xffff;
    put32(b, 0x06064b50);
    put64(b, 44);
    put16(b, 0x031e);
    put16(b, 0x002d);
    put64(b, 0);                            /* disks */
    put64(b, count);
    put64(b, count);
    put64(b, dir_len);
    put64(b, dir_at);
    put32(b, 0x07064b50);
    put32(b, 0);
    put64(b, dir_at + dir_len);
    put32(b, 1);
    put32(b, 0x06054b50);
    put32(b, 0);
    put16(b, narrow_count);
    put16(b, narrow_count);
    put32(b, narrow32(dir_len));
    put32(b, narrow32(dir_at));
    put16(b, 0);
}
enum { END_LEN = 56 + 20 + 22 };

/* --- layout ------------------------------------------------------------- */

/* Bytes known before the data, in file order, cut where storages lie. */
struct pieces {
    struct sl_buf bytes;
    struct sl_torch_piece *piece;
    uint64_t *at;                           /* of each piece in bytes */
    uint32_t count;
};

static void piece_begin(struct pieces *p, uint64_t offset)
{
    p->piece[p->count].offset = offset;
    p->at[p->count] = p->bytes.len;
}
static void piece_end(struct pieces *p)
{
    p->piece[p->count].len = p->bytes.len - p->at[p->count];
    p->count++;
}

/* Moves the bytes into the arena and points the pieces at them. */
static int pieces_keep(struct pieces *p, struct sl_arena *arena, struct sl_error *err)
{
    char *kept = p->bytes.failed ? NULL : sl_arena_copy(arena, p->bytes.data, p->bytes.len);
    size_t len = p->bytes.len;
    sl_buf_free(&p->bytes);
    if (!kept)
        return sl_fail_memory(err, len);
    for (uint32_t i = 0; i < p->count; i++)
        p->piece[i].bytes = kept + p->at[i];
    return SL_OK;
}

static bool pieces_room(struct pieces *p, struct sl_arena *arena, uint64_t count)
{
    p->piece = SL_ARENA_NEW(arena, struct sl_torch_piece, count);
    p->at = SL_ARENA_NEW(arena, uint64_t, count);
    return p->piece && p->at;
}

/* Record i: header, and its payload with descriptor, or a hole for a storage. */
static bool lay_record(struct sl_torch_layout *l, struct pieces *p, uint64_t *headers, uint32_t i,
                       uint64_t *at)
{
    struct record r = record_at(l, i);
    uint64_t header = *at, end;
    headers[i] = header;
    put_local(&p->bytes, &r, header);
    uint64_t payload = payload_at(&r, header);
    if (!sl_add_u64(payload, r.size, &end) || end > INT64_MAX)
        return false;
    *at = end + descriptor_len(&r, header);
    if (r.payload) {
        sl_buf_add(&p->bytes, r.payload, (size_t)r.size);
        put_descriptor(&p->bytes, &r, header, libdeflate_crc32(0, r.payload, (size_t)r.size));
        return true;
    }
    l->storage_offset[i - FIRST_STORAGE] = payload;
    if (r.size) {
        piece_end(p);
        piece_begin(p, *at);
    }
    return true;
}

static uint64_t directory_len(const struct sl_torch_layout *l)
{
    uint64_t len = 0;
    for (uint32_t i = 0; i < record_count(l); i++) {
        struct record r = record_at(l, i);
        len += CENTRAL_LEN + strlen(r.name) + zip64_len(l->header[i], r.size);
    }
    return len;
}

int sl_torch_layout(const void *pickle, uint64_t pickle_len, const uint64_t *storage_bytes,
                    uint32_t storage_count, struct sl_arena *arena,
                    struct sl_torch_layout *out, struct sl_error *err)
{
    *out = (struct sl_torch_layout){ .pickle = pickle, .pickle_len = pickle_len,
                                     .storage_bytes = storage_bytes,
                                     .storage_count = storage_count };
    if (storage_count > UINT32_MAX - 8 || !pickle_len)
        return sl_fail(err, SL_USAGE, "", "%u storages and a pickle of %llu bytes make no torch "
                       "file", storage_count, (unsigned long long)pickle_len);
    struct pieces p = {0};
    uint64_t *headers = SL_ARENA_NEW(arena, uint64_t, record_count(out));
    out->storage_offset = SL_ARENA_NEW(arena, uint64_t, storage_count);
    out->header = headers;
    if (!headers || !out->storage_offset || !pieces_room(&p, arena, (uint64_t)storage_count + 1))
        return sl_fail_memory(err, (uint64_t)storage_count * sizeof *p.piece);
    uint64_t at = 0;
    piece_begin(&p, 0);
    for (uint32_t i = 0; i < record_count(out); i++) {
        if (!lay_record(out, &p, headers, i, &at)) {
            sl_buf_free(&p.bytes);
            return sl_fail(err, SL_USAGE, "", "the torch file would be too large");
        }
    }
    piece_end(&p);
    out->pieces = p.piece;
    out->piece_count = p.count;
    out->data_end = at;
    out->file_size = at + directory_len(out) + END_LEN;
    return pieces_keep(&p, arena, err);
}

/* --- tail --------------------------------------------------------------- */

static uint32_t crc_of(const struct record *r, uint32_t i, const uint32_t *storage_crc)
{
    if (r->payload)
        return libdeflate_crc32(0, r->payload, (size_t)r->size);
    return r->size ? storage_crc[i - FIRST_STORAGE] : 0;
}

int sl_torch_tail(const struct sl_torch_layout *layout, const uint32_t *storage_crc,
                  struct sl_arena *arena, struct sl_torch_piece **pieces,
                  uint32_t *piece_count, struct sl_error *err)
{
    struct pieces p = {0};
    struct sl_buf directory = {0};
    if (!pieces_room(&p, arena, (uint64_t)layout->storage_count + 1))
        return sl_fail_memory(err, (uint64_t)layout->storage_count * sizeof *p.piece);
    for (uint32_t i = 0; i < record_count(layout); i++) {
        struct record r = record_at(layout, i);
        uint64_t header = layout->header[i];
        uint32_t crc = crc_of(&r, i, storage_crc);
        put_central(&directory, &r, header, crc);
        if (r.payload || !r.size)
            continue;
        piece_begin(&p, payload_at(&r, header) + r.size);
        put_descriptor(&p.bytes, &r, header, crc);
        piece_end(&p);
    }
    put_end(&directory, record_count(layout), layout->data_end, directory.len);
    piece_begin(&p, layout->data_end);
    sl_buf_add(&p.bytes, directory.data, directory.len);
    piece_end(&p);
    p.bytes.failed |= directory.failed;
    sl_buf_free(&directory);
    *pieces = p.piece;
    *piece_count = p.count;
    return pieces_keep(&p, arena, err);
}

/* --- small files -------------------------------------------------------- */

int sl_torch_layout_tensor(enum sl_dtype dtype, const int64_t *shape, uint32_t ndim, uint64_t bytes,
                           struct sl_arena *arena, struct sl_torch_layout *out, struct sl_error *err)
{
    struct sl_pickler k = {0};
    uint64_t *size = SL_ARENA_NEW(arena, uint64_t, 1);
    const uint32_t element = sl_dtype_size(dtype);
    sl_pickler_begin(&k);
    sl_pickler_tensor(&k, dtype, 0, element ? bytes / element : 0, 0, shape, ndim);
    sl_pickler_end(&k);
    const uint64_t len = k.out.len;
    const void *pickle = k.out.failed ? NULL : sl_arena_copy(arena, k.out.data, k.out.len);
    sl_buf_free(&k.out);
    if (!pickle || !size)
        return sl_fail_memory(err, len);
    *size = bytes;
    return sl_torch_layout(pickle, len, size, 1, arena, out, err);
}

/* Joins pieces that follow one another; they are few. */
static int join_pieces(struct sl_torch_piece *pieces, uint32_t *count, struct sl_arena *arena, struct sl_error *err)
{
    uint32_t kept = 0;
    for (uint32_t i = 1; i < *count; i++)
        for (uint32_t k = i; k > 0 && pieces[k - 1].offset > pieces[k].offset; k--) {
            const struct sl_torch_piece other = pieces[k];
            pieces[k] = pieces[k - 1];
            pieces[k - 1] = other;
        }
    for (uint32_t i = 1; i < *count; i++) {
        struct sl_torch_piece *last = &pieces[kept];
        if (last->offset + last->len != pieces[i].offset) {
            pieces[++kept] = pieces[i];
            continue;
        }
        char *both = sl_arena_new(arena, last->len + pieces[i].len, 1);
        if (!both)
            return sl_fail_memory(err, last->len + pieces[i].len);
        memcpy(both, last->bytes, (size_t)last->len);
        memcpy(both + last->len, pieces[i].bytes, (size_t)pieces[i].len);
        last->bytes = both;
        last->len += pieces[i].len;
    }
    *count = kept + 1;
    return SL_OK;
}

int sl_torch_around(const struct sl_torch_layout *layout, const uint32_t *storage_crc, struct sl_arena *arena,
                    struct sl_torch_piece **pieces, uint32_t *count, struct sl_error *err)
{
    struct sl_torch_piece *tail;
    uint32_t tails;
    const int rc = sl_torch_tail(layout, storage_crc, arena, &tail, &tails, err);
    if (rc)
        return rc;
    *count = layout->piece_count + tails;
    *pieces = SL_ARENA_NEW(arena, struct sl_torch_piece, *count);
    if (!*pieces)
        return sl_fail_memory(err, *count * sizeof **pieces);
    memcpy(*pieces, layout->pieces, layout->piece_count * sizeof **pieces);
    memcpy(*pieces + layout->piece_count, tail, tails * sizeof **pieces);
    return join_pieces(*pieces, count, arena, err);
}

int sl_torch_file_of(const void *pickle, uint64_t pickle_len, struct sl_buf *file, struct sl_error *err)
{
    struct sl_arena arena = {0};
    struct sl_torch_layout layout;
    struct sl_torch_piece *piece;
    uint32_t count;
    int rc = sl_torch_layout(pickle, pickle_len, NULL, 0, &arena, &layout, err);
    if (!rc)
        rc = sl_torch_around(&layout, NULL, &arena, &piece, &count, err);
    if (!rc)
        sl_buf_add(file, piece->bytes, (size_t)piece->len);    /* without storages it is one */
    if (!rc && file->failed)
        rc = sl_fail_memory(err, layout.file_size);
    sl_arena_free(&arena);
    return rc;
}
