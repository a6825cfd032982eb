/* zipdir.c: two readings of a zip directory that must agree.
 *
 *   1  our walk: end records, central directory, each local header
 *   2  libzip's, with its consistency checks, over the same descriptor
 *
 * Everything is relative to the start of the archive until the very end, where
 * `start` is added.
 *
 * Source   PKWARE's APPNOTE 6.3.9 (4.3.7, 4.3.12 to 4.3.16, 4.5.3 for zip64);
 *          how torch fills the fields: caffe2/serialize/inline_container.cc
 */
#include "format/zipdir.h"

#include "base/error.h"
#include "base/limits.h"
#include "base/num.h"
#include "format/torchfile.h"
#include "format/window.h"
#include "format/zipsource.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_LEN = 30, CENTRAL_LEN = 46, END_LEN = 22, LOCATOR_LEN = 20, END64_LEN = 56,
    COMMENT_MOST = 65535,
    FLAG_ENCRYPTED = 1 << 0, FLAG_DESCRIPTOR = 1 << 3, FLAG_STRONG = 1 << 6, FLAG_MASKED = 1 << 13,
    METHOD_STORED = 0, METHOD_DEFLATE = 8,
    EXTRA_ZIP64 = 1
};
#define FULL32 UINT32_MAX     /* "the value is in the zip64 field" */

/* A record while the directory is being read. */
struct record { uint64_t header; uint16_t method, flags; };

struct walk {
    const struct sl_file *file;
    uint64_t start, length;
    struct sl_arena *arena;
    struct sl_error *err;
    struct sl_zip *zip;
    uint64_t entries, dir_at, dir_len;   /* what the end records say */
    uint8_t *tail;                       /* owned: bytes [dir_at, length) */
    struct sl_zip_entry *entry;          /* in the arena */
    struct record *record;               /* owned, parallel to entry */
    uint32_t *order;                     /* owned: by header offset */
    bool is_late_and_wide;               /* sizes past 4 GiB behind the payload: see compare_with_libzip */
};

#define damaged(w, ...) (sl_fail((w)->err, SL_INPUT, (w)->file->path, __VA_ARGS__), (int)SL_INPUT)
#define ULL(x) ((unsigned long long)(x))

/* --- the end records ---------------------------------------------------- */

static bool has_magic(const uint8_t *p, uint32_t magic) { return sl_load_u32(p) == magic; }
#define MAGIC_LOCAL   0x04034b50u
#define MAGIC_CENTRAL 0x02014b50u
#define MAGIC_END     0x06054b50u
#define MAGIC_END64   0x06064b50u
#define MAGIC_LOCATOR 0x07064b50u

static int no_end_record(struct walk *w)
{
    w->zip->cut = true;
    return damaged(w, "cut off after %llu bytes: a zip archive ends in its directory, and there "
                   "is none", ULL(w->length));
}

/* The last end record in the last 64 KiB, which must be the very end of the
 * archive, and the only one that could be. *at is its offset in `tail`. */
static int find_end(struct walk *w, const uint8_t *tail, size_t len, size_t *at)
{
    size_t found = SIZE_MAX;
    bool is_stray = false;                   /* a record that is no end, behind the one that is */
    const uint8_t *p = tail + (len - END_LEN + 1);
    while ((p = memrchr(tail, MAGIC_END & 0xff, (size_t)(p - tail)))) {
        const size_t i = (size_t)(p - tail);
        if (!has_magic(p, MAGIC_END))
            continue;
        size_t record_len = END_LEN + (size_t)sl_load_u16(tail + i + 20);
        bool is_whole = record_len == len - i;
        if (found == SIZE_MAX && !is_whole && record_len < len - i)
            return damaged(w, "%zu bytes follow the end of the zip archive", len - i - record_len);
        if (is_whole && (found != SIZE_MAX || is_stray))
            return damaged(w, "two end records: the archive can be read in two ways");
        if (is_whole)
            found = i;
        else if (found == SIZE_MAX)
            is_stray = true;
    }
    if (found == SIZE_MAX)
        return no_end_record(w);
    *at = found;
    return SL_OK;
}

/* 32-bit fields of the end record must say what the 64-bit ones say, or that
 * they can't. */
static bool agrees(uint64_t narrow, uint64_t full, uint64_t wide)
{
    return narrow == full || narrow == wide;
}

static int take_end64(struct walk *w, const uint8_t *end, const uint8_t *end64, uint64_t at)
{
    if (!has_magic(end64, MAGIC_END64) || sl_load_u64(end64 + 4) != END64_LEN - 12 ||
        sl_load_u32(end64 + 16) || sl_load_u32(end64 + 20) ||
        sl_load_u64(end64 + 24) != sl_load_u64(end64 + 32))
        return damaged(w, "damaged zip64 end record at byte %llu", ULL(at));
    w->entries = sl_load_u64(end64 + 32);
    w->dir_len = sl_load_u64(end64 + 40);
    w->dir_at = sl_load_u64(end64 + 48);
    if (!agrees(sl_load_u16(end + 10), UINT16_MAX, w->entries) ||
        !agrees(sl_load_u32(end + 12), FULL32, w->dir_len) ||
        !agrees(sl_load_u32(end + 16), FULL32, w->dir_at))
        return damaged(w, "the two end records of the zip archive contradict each other");
    return SL_OK;
}

/* Fills entries, dir_at, dir_len and checks that directory and end records
 * touch each other. */
static int read_end(struct walk *w)
{
    size_t len = (size_t)sl_min_u64(w->length, END_LEN + COMMENT_MOST + LOCATOR_LEN + END64_LEN);
    if (len < END_LEN)
        return no_end_record(w);
    uint8_t *tail = malloc(len);
    if (!tail)
        return sl_fail_memory(w->err, len);
    uint64_t tail_at = w->length - len;
    size_t at = 0;
    int code = sl_file_read(w->file, w->start + tail_at, tail, len, w->err);
    if (!code)
        code = find_end(w, tail, len, &at);
    if (code)
        goto out;

    const uint8_t *end = tail + at;
    uint64_t after_dir = tail_at + at;
    w->entries = sl_load_u16(end + 10);
    w->dir_len = sl_load_u32(end + 12);
    w->dir_at = sl_load_u32(end + 16);
    if (sl_load_u16(end + 4) || sl_load_u16(end + 6) ||
        sl_load_u16(end + 8) != sl_load_u16(end + 10)) {
        code = damaged(w, "a zip archive in several volumes");
        goto out;
    }
    if (at >= LOCATOR_LEN && has_magic(end - LOCATOR_LEN, MAGIC_LOCATOR)) {
        uint64_t end64_at = sl_load_u64(end - LOCATOR_LEN + 8);
        if (at < LOCATOR_LEN + END64_LEN || end64_at != after_dir - LOCATOR_LEN - END64_LEN ||
            sl_load_u32(end - LOCATOR_LEN + 4) || sl_load_u32(end - LOCATOR_LEN + 16) > 1) {
            code = damaged(w, "the zip64 locator points to byte %llu, where no end record can be",
                           ULL(end64_at));
            goto out;
        }
        after_dir = end64_at;
        code = take_end64(w, end, end - LOCATOR_LEN - END64_LEN, end64_at);
    }
    uint64_t dir_end;
    if (!code && (!sl_add_u64(w->dir_at, w->dir_len, &dir_end) || dir_end != after_dir))
        code = damaged(w, "the zip directory should be %llu bytes at byte %llu and end at byte %llu",
                       ULL(w->dir_len), ULL(w->dir_at), ULL(after_dir));
out:
    free(tail);
    return code;
}

static int read_directory(struct walk *w)
{
    if (!w->entries)
        return damaged(w, "a zip archive without records");
    if (w->entries > w->dir_len / CENTRAL_LEN)
        return damaged(w, "%llu records can't be in a directory of %llu bytes", ULL(w->entries),
                       ULL(w->dir_len));
    if (w->entries > SL_LIMIT_ZIP_ENTRIES || w->dir_len > SL_LIMIT_ZIP_DIRECTORY)
        return damaged(w, "a zip directory of %llu records in %llu bytes; at most %llu bytes are "
                       "read", ULL(w->entries), ULL(w->dir_len), ULL(SL_LIMIT_ZIP_DIRECTORY));
    uint64_t len = w->length - w->dir_at;
    w->tail = malloc(len);
    w->record = calloc(w->entries, sizeof *w->record);
    w->order = calloc(w->entries, sizeof *w->order);
    w->entry = SL_ARENA_NEW(w->arena, struct sl_zip_entry, w->entries);
    if (!w->tail || !w->record || !w->order || !w->entry)
        return sl_fail_memory(w->err, len + w->entries * sizeof *w->entry);
    return sl_file_read(w->file, w->start + w->dir_at, w->tail, len, w->err);
}

/* --- one entry of the directory ----------------------------------------- */

/* Values that the 32-bit fields leave to the zip64 field, in its fixed order;
 * a value that was not asked for is not taken. */
struct wide { uint64_t *value; bool is_asked; };

static int take_zip64(struct walk *w, const char *name, const uint8_t *extra, size_t len,
                      const struct wide *wide, size_t count)
{
    size_t at = 0, next = 0;
    while (len - at >= 4) {
        uint16_t id = sl_load_u16(extra + at);
        size_t field = sl_load_u16(extra + at + 2);
        at += 4;
        if (field > len - at)
            return damaged(w, "record %s: an extra field runs over its end", name);
        for (size_t used = 0; id == EXTRA_ZIP64 && next < count; next++) {
            if (!wide[next].is_asked)
                continue;
            if (field - used < 8)
                return damaged(w, "record %s: its zip64 field is too short", name);
            *wide[next].value = sl_load_u64(extra + at + used);
            used += 8;
        }
        at += field;
    }
    while (next < count && !wide[next].is_asked)
        next++;
    if (next < count)
        return damaged(w, "record %s: a size or place of 4 GiB or more without its zip64 field",
                       name);
    return SL_OK;
}

static int check_entry(struct walk *w, const struct sl_zip_entry *e, const struct record *r)
{
    uint64_t end;
    if (r->flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED))
        return damaged(w, "record %s is encrypted", e->name);
    if (r->method != METHOD_STORED && r->method != METHOD_DEFLATE)
        return damaged(w, "record %s is compressed by method %u; only stored and deflated ones "
                       "can be read", e->name, r->method);
    if (!e->deflated && e->size != e->packed)
        return damaged(w, "record %s is stored, but has two sizes, %llu and %llu", e->name,
                       ULL(e->size), ULL(e->packed));
    if (!sl_add_u64(r->header, LOCAL_LEN, &end) || !sl_add_u64(end, e->packed, &end) ||
        end > w->dir_at)
        return damaged(w, "record %s should be %llu bytes from byte %llu on, but the records end "
                       "at byte %llu", e->name, ULL(e->packed), ULL(r->header), ULL(w->dir_at));
    return SL_OK;
}

/* Entry i begins at p, `left` bytes before the end of the directory. */
static int take_entry(struct walk *w, uint64_t i, const uint8_t *p, uint64_t left, uint64_t *used)
{
    struct sl_zip_entry *e = &w->entry[i];
    struct record *r = &w->record[i];
    if (left < CENTRAL_LEN || !has_magic(p, MAGIC_CENTRAL))
        return damaged(w, "the zip directory is damaged at its entry %llu of %llu", ULL(i + 1),
                       ULL(w->entries));
    size_t name_len = sl_load_u16(p + 28), extra_len = sl_load_u16(p + 30);
    *used = CENTRAL_LEN + name_len + extra_len + sl_load_u16(p + 32);
    if (*used > left)
        return damaged(w, "entry %llu of %llu runs over the end of the zip directory", ULL(i + 1),
                       ULL(w->entries));
    const char *name = (const char *)p + CENTRAL_LEN;
    if (!name_len || name_len > SL_LIMIT_ZIP_NAME || memchr(name, 0, name_len))
        return damaged(w, "entry %llu of the zip directory has an empty name, or one with a NUL "
                       "byte, or one of over %d bytes", ULL(i + 1), SL_LIMIT_ZIP_NAME);
    e->name = sl_arena_strn(w->arena, name, name_len);
    if (!e->name)
        return sl_fail_memory(w->err, name_len);
    r->flags = sl_load_u16(p + 8);
    r->method = sl_load_u16(p + 10);
    r->header = sl_load_u32(p + 42);
    e->deflated = r->method == METHOD_DEFLATE;
    e->crc = sl_load_u32(p + 16);
    e->packed = sl_load_u32(p + 20);
    e->size = sl_load_u32(p + 24);
    if (sl_load_u16(p + 34))
        return damaged(w, "record %s lies in another volume", e->name);
    const struct wide wide[] = { {&e->size, e->size == FULL32}, {&e->packed, e->packed == FULL32},
                                 {&r->header, r->header == FULL32} };
    int code = take_zip64(w, e->name, p + CENTRAL_LEN + name_len, extra_len, wide, 3);
    return code ? code : check_entry(w, e, r);
}

static int walk_directory(struct walk *w)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < w->entries; i++) {
        uint64_t used = 0;
        int code = take_entry(w, i, w->tail + at, w->dir_len - at, &used);
        if (code)
            return code;
        at += used;
    }
    if (at != w->dir_len)
        return damaged(w, "the zip directory has %llu bytes more than its %llu entries",
                       ULL(w->dir_len - at), ULL(w->entries));
    return SL_OK;
}

/* --- local headers ------------------------------------------------------ */

static int by_header(const void *a, const void *b, void *arg)
{
    const struct record *record = arg;
    uint64_t x = record[*(const uint32_t *)a].header, y = record[*(const uint32_t *)b].header;
    return x < y ? -1 : x > y;
}

/* CRC and sizes in a record's own header: those of the directory, or 0 where they follow behind
 * the payload, or "in the zip64 field". */
static bool local_agrees(const uint8_t *p, const struct sl_zip_entry *e)
{
    const bool late = sl_load_u16(p + 6) & FLAG_DESCRIPTOR;
    const uint32_t said[] = { sl_load_u32(p + 14), sl_load_u32(p + 18), sl_load_u32(p + 22) };
    const uint64_t is[] = { e->crc, e->packed, e->size };
    for (int i = 0; i < 3; i++)
        if (said[i] != is[i] && !(late && !said[i]) && !(i && said[i] == FULL32 && is[i] >= FULL32))
            return false;
    return true;
}

/* The header of entry i says where its bytes begin; they must end before
 * `next`, where the next record or the directory begins. */
static int take_local(struct walk *w, struct sl_window *window, uint32_t i, uint64_t next)
{
    struct sl_zip_entry *e = &w->entry[i];
    const struct record *r = &w->record[i];
    if (next - r->header < LOCAL_LEN)
        return damaged(w, "record %s overlaps the one behind it", e->name);
    size_t name_len = strlen(e->name);
    size_t len = LOCAL_LEN + name_len;
    if (len > next - r->header)
        len = LOCAL_LEN;
    const uint8_t *p;
    int code = sl_window_get(window, w->start + r->header, len, &p, w->err);
    if (code)
        return code;
    if (!has_magic(p, MAGIC_LOCAL))
        return damaged(w, "record %s: the directory places it at byte %llu, but no record begins "
                       "there", e->name, ULL(r->header));
    if (sl_load_u16(p + 26) != name_len || len == LOCAL_LEN ||
        memcmp(p + LOCAL_LEN, e->name, name_len))
        return damaged(w, "record %s has another name in its own header: the archive can be read "
                       "in two ways", e->name);
    if (sl_load_u16(p + 8) != r->method)
        return damaged(w, "record %s: directory and header disagree how it is compressed",
                       e->name);
    if (!local_agrees(p, e))
        return damaged(w, "record %s: directory and header disagree on its size or CRC-32", e->name);
    if (sl_load_u16(p + 6) & FLAG_DESCRIPTOR && (e->size >= FULL32 || e->packed >= FULL32))
        w->is_late_and_wide = true;
    e->offset = r->header + LOCAL_LEN + name_len + sl_load_u16(p + 28);
    if (e->offset > next || e->packed > next - e->offset)
        return damaged(w, "record %s (%llu bytes from byte %llu on) overlaps what begins at byte "
                       "%llu", e->name, ULL(e->packed), ULL(e->offset), ULL(next));
    return SL_OK;
}

static int walk_records(struct walk *w)
{
    for (uint32_t i = 0; i < w->entries; i++)
        w->order[i] = i;
    qsort_r(w->order, w->entries, sizeof *w->order, by_header, w->record);
    uint64_t first = w->record[w->order[0]].header;
    if (first)
        return damaged(w, "%llu bytes stand before the first record of the zip archive", ULL(first));
    struct sl_window window = { .file = w->file, .end = w->start + w->dir_at };
    int code = SL_OK;
    for (uint64_t i = 0; i < w->entries && !code; i++) {
        uint64_t next = i + 1 < w->entries ? w->record[w->order[i + 1]].header : w->dir_at;
        code = take_local(w, &window, w->order[i], next);
    }
    sl_window_free(&window);
    return code;
}

/* --- names -------------------------------------------------------------- */

static int lower(unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

/* torch finds names whatever their case, so two that differ in case only
 * would be two readings of one file. */
static int compare_names(const char *a, const char *b)
{
    while (*a && lower((unsigned char)*a) == lower((unsigned char)*b)) {
        a++;
        b++;
    }
    return lower((unsigned char)*a) - lower((unsigned char)*b);
}

static int by_name(const void *a, const void *b, void *arg)
{
    const struct sl_zip_entry *entry = arg;
    return compare_names(entry[*(const uint32_t *)a].name, entry[*(const uint32_t *)b].name);
}

static int index_names(struct walk *w)
{
    uint32_t *index = SL_ARENA_NEW(w->arena, uint32_t, w->entries);
    if (!index)
        return sl_fail_memory(w->err, w->entries * sizeof *index);
    for (uint32_t i = 0; i < w->entries; i++)
        index[i] = i;
    qsort_r(index, w->entries, sizeof *index, by_name, w->entry);
    for (uint64_t i = 1; i < w->entries; i++)
        if (!compare_names(w->entry[index[i - 1]].name, w->entry[index[i]].name))
            return damaged(w, "two records have the name %s: the archive can be read in two ways",
                           w->entry[index[i]].name);
    w->zip->by_name = index;
    return SL_OK;
}

const struct sl_zip_entry *sl_zip_find(const struct sl_zip *zip, const char *name)
{
    uint64_t lo = 0, hi = zip->count;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        const struct sl_zip_entry *e = &zip->entries[zip->by_name[mid]];
        int order = compare_names(name, e->name);
        if (!order)
            return strcmp(name, e->name) ? NULL : e;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* --- the second reading ------------------------------------------------- */

static bool is_same(const struct sl_zip_entry *e, const zip_stat_t *st)
{
    return st->valid & ZIP_STAT_SIZE && st->size == e->size && st->comp_size == e->packed &&
           st->crc == e->crc && !strcmp(st->name, e->name) &&
           st->comp_method == (e->deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
}

/* torch writes 64-bit sizes behind a payload of 4 GiB whose header has 32-bit zeros and a zip64
 * field. libzip 1.10 and later take them for 32-bit ones and call the archive inconsistent;
 * then its checks are left out, and local_agrees stands for them. */
static int compare_with_libzip(struct walk *w)
{
    zip_t *za;
    int code = sl_zip_source_open(w->file, w->start, w->length, w->tail, w->dir_at,
                                  ZIP_RDONLY | (w->is_late_and_wide ? 0 : ZIP_CHECKCONS), &za, w->err);
    if (code)
        return code;
    zip_int64_t count = zip_get_num_entries(za, 0);
    if (count < 0 || (uint64_t)count != w->entries)
        code = damaged(w, "%llu records by our reading, %lld by libzip's", ULL(w->entries),
                       (long long)count);
    for (uint64_t i = 0; i < w->entries && !code; i++) {
        zip_stat_t st;
        if (zip_stat_index(za, i, ZIP_FL_ENC_RAW, &st) || !is_same(&w->entry[i], &st))
            code = damaged(w, "record %s reads differently by libzip: the archive can be read in "
                           "two ways", w->entry[i].name);
    }
    zip_discard(za);
    return code;
}

/* --- opening ------------------------------------------------------------ */

static int check_start(struct walk *w)
{
    uint8_t head[512];
    size_t len = (size_t)sl_min_u64(w->length, sizeof head);
    int code = sl_file_read(w->file, w->start, head, len, w->err);
    if (code)
        return code;
    if (len >= 4 && has_magic(head, MAGIC_LOCAL))
        return SL_OK;
    const char *words = sl_sniff(head, len);
    if (words)
        return damaged(w, "not a zip archive but %s", words);
    return damaged(w, "not a zip archive: it does not begin with PK");
}

int sl_zip_open(const struct sl_file *file, uint64_t start, uint64_t length,
                struct sl_arena *arena, struct sl_zip *zip, struct sl_error *err)
{
    *zip = (struct sl_zip){0};
    struct walk w = { .file = file, .start = start, .length = length, .arena = arena,
                      .err = err, .zip = zip };
    uint64_t end;
    if (!sl_add_u64(start, length, &end) || end > file->size)
        return damaged(&w, "an archive of %llu bytes at byte %llu, but the file has %llu",
                       ULL(length), ULL(start), ULL(file->size));
    int (*const steps[])(struct walk *) = { check_start, read_end, read_directory, walk_directory,
                                            walk_records, index_names, compare_with_libzip };
    int code = SL_OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !code; i++)
        code = steps[i](&w);
    for (uint64_t i = 0; i < w.entries && !code; i++)
        w.entry[i].offset += start;
    if (!code) {
        zip->entries = w.entry;
        zip->count = w.entries;
    }
    free(w.tail);
    free(w.record);
    free(w.order);
    return code;
}

/* --- reading ------------------------------------------------------------ */

static int check_crc(const struct sl_file *file, const struct sl_zip_entry *e, const void *bytes,
                     struct sl_error *err)
{
    uint32_t crc = libdeflate_crc32(0, bytes, e->size);
    if (!e->crc || crc == e->crc)
        return SL_OK;
    return sl_fail(err, SL_INPUT, file->path, "record %s is damaged: its CRC-32 is %08x, the "
                   "directory says %08x", e->name, crc, e->crc);
}

/* libzip can't seek in a deflated record: what stands before is unpacked too. */
static bool skip(zip_file_t *zf, uint64_t len)
{
    char waste[65536];
    while (len) {
        zip_int64_t n = zip_fread(zf, waste, sl_min_u64(len, sizeof waste));
        if (n <= 0)
            return false;
        len -= (uint64_t)n;
    }
    return true;
}

static bool read_all(zip_file_t *zf, char *buf, uint64_t len)
{
    while (len) {
        zip_int64_t n = zip_fread(zf, buf, len);
        if (n <= 0)
            return false;
        buf += n;
        len -= (uint64_t)n;
    }
    return true;
}

static int read_deflated(const struct sl_file *file, uint64_t start, uint64_t length,
                         const struct sl_zip_entry *e, uint64_t from, void *buf, size_t len,
                         struct sl_error *err)
{
    zip_t *za;
    struct sl_error reading = { .code = SL_OK };
    int code = sl_zip_source_open(file, start, length, NULL, 0, ZIP_RDONLY, &za, &reading);
    if (code) {
        if (err)
            *err = reading;
        return code;
    }
    zip_int64_t index = zip_name_locate(za, e->name, ZIP_FL_ENC_RAW);
    zip_file_t *zf = index < 0 ? NULL : zip_fopen_index(za, (zip_uint64_t)index, 0);
    if (zf && skip(zf, from) && read_all(zf, buf, len))
        code = SL_OK;
    else if (reading.code && err)            /* not the data: the file could not be read */
        code = (int)(*err = reading).code;
    else
        code = sl_fail(err, SL_INPUT, file->path, "record %s can't be unpacked: its compressed "
                       "data is damaged", e->name);
    if (zf)
        zip_fclose(zf);
    zip_discard(za);
    return code;
}

int sl_zip_read(const struct sl_file *file, uint64_t start, uint64_t length,
                const struct sl_zip_entry *entry, uint64_t from, void *buf, size_t len,
                struct sl_error *err)
{
    if (from > entry->size || len > entry->size - from)
        return sl_fail(err, SL_INPUT, file->path, "record %s has %llu bytes; bytes %llu to %llu "
                       "were wanted", entry->name, ULL(entry->size), ULL(from), ULL(from + len));
    int code = entry->deflated
             ? read_deflated(file, start, length, entry, from, buf, len, err)
             : sl_file_read(file, entry->offset + from, buf, len, err);
    if (!code && !from && len == entry->size)
        code = check_crc(file, entry, buf, err);
    return code;
}
