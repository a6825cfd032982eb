/* test_zipdir.c: zip archives made byte by byte here, honest and lying. */
#include "helper.h"

#include "format/zipdir.h"

#include <libdeflate.h>

/* --- making archives ---------------------------------------------------- */

/* What one record says of itself; fields that lie are set by the tests. */
struct record {
    const char *name;
    const char *payload;
    const char *local_name;      /* NULL: as name */
    uint32_t crc;                /* 0: the true one */
    uint32_t size, packed;       /* 0: the true ones */
    uint16_t method, flags;
    uint32_t header_shift;       /* added to the place that the directory tells */
    uint32_t gap;                /* bytes between it and the next */
};

static void put16(struct sl_buf *b, uint64_t v)
{
    uint8_t p[2];
    sl_store_u16(p, (uint16_t)v);
    sl_buf_add(b, p, 2);
}
static void put32(struct sl_buf *b, uint64_t v)
{
    uint8_t p[4];
    sl_store_u32(p, (uint32_t)v);
    sl_buf_add(b, p, 4);
}

static uint32_t crc_of(const struct record *r)
{
    return r->crc ? r->crc : libdeflate_crc32(0, r->payload, strlen(r->payload));
}
static uint32_t or_length(uint32_t told, const struct record *r)
{
    return told ? told : (uint32_t)strlen(r->payload);
}

static void put_local(struct sl_buf *b, const struct record *r)
{
    const char *name = r->local_name ? r->local_name : r->name;
    put32(b, 0x04034b50);
    put16(b, 20);
    put16(b, r->flags);
    put16(b, r->method);
    put32(b, 0x00210000);                    /* 1980-01-01 */
    put32(b, crc_of(r));
    put32(b, or_length(r->packed, r));
    put32(b, or_length(r->size, r));
    put16(b, strlen(name));
    put16(b, 0);
    sl_buf_str(b, name);
    sl_buf_str(b, r->payload);
    for (uint32_t i = 0; i < r->gap; i++)
        sl_buf_char(b, 0);
}

static void put_central(struct sl_buf *b, const struct record *r, size_t header)
{
    put32(b, 0x02014b50);
    put16(b, 20);
    put16(b, 20);
    put16(b, r->flags);
    put16(b, r->method);
    put32(b, 0x00210000);
    put32(b, crc_of(r));
    put32(b, or_length(r->packed, r));
    put32(b, or_length(r->size, r));
    put16(b, strlen(r->name));
    put16(b, 0);
    put16(b, 0);
    put16(b, 0);
    put16(b, 0);
    put32(b, 0);
    put32(b, header + r->header_shift);
    sl_buf_str(b, r->name);
}

static void put_archive(struct sl_buf *b, const struct record *r, size_t count)
{
    size_t headers[16], start = b->len;
    for (size_t i = 0; i < count; i++) {
        headers[i] = b->len - start;
        put_local(b, &r[i]);
    }
    size_t dir = b->len;
    for (size_t i = 0; i < count; i++)
        put_central(b, &r[i], headers[i]);
    size_t end = b->len;
    put32(b, 0x06054b50);
    put32(b, 0);
    put16(b, count);
    put16(b, count);
    put32(b, end - dir);
    put32(b, dir - start);
    put16(b, 0);
}

struct opened { struct sl_arena arena; struct sl_zip zip; struct sl_error err; struct sl_file file; };

static int open_bytes(struct opened *o, const struct sl_buf *b)
{
    memset(o, 0, sizeof *o);
    o->file = memory_file(b->data, b->len);
    return sl_zip_open(&o->file, 0, b->len, &o->arena, &o->zip, &o->err);
}

/* --- honest ------------------------------------------------------------- */

static void records_are_listed_with_the_place_of_their_bytes(void **state)
{
    const struct record r[] = { { .name = "a/x", .payload = "hello" }, { .name = "a/y", .payload = "" },
                                { .name = "a/z", .payload = "world!" } };
    struct sl_buf b = { 0 };
    struct opened o;
    char got[8] = "";
    (void)state;
    put_archive(&b, r, 3);
    if (open_bytes(&o, &b))
        fail_msg("%s", o.err.message);
    assert_int_equal(o.zip.count, 3);
    const struct sl_zip_entry *e = sl_zip_find(&o.zip, "a/z");
    assert_int_equal(e->size, 6);
    assert_int_equal(sl_file_read(&o.file, e->offset, got, 6, &o.err), 0);
    assert_string_equal(got, "world!");
    assert_int_equal(sl_zip_read(&o.file, 0, b.len, e, 0, got, 6, &o.err), 0);
    assert_int_equal(sl_zip_read(&o.file, 0, b.len, e, 2, got, 3, &o.err), 0);
    assert_memory_equal(got, "rld", 3);
    assert_refused(sl_zip_read(&o.file, 0, b.len, e, 2, got, 5, &o.err), &o.err);
    assert_null(sl_zip_find(&o.zip, "a/Z"));
    assert_null(sl_zip_find(&o.zip, "a/"));
    sl_arena_free(&o.arena);
    sl_buf_free(&b);
}

static void folders_and_gaps_are_allowed(void **state)
{
    const struct record r[] = { { .name = "a/", .payload = "" },
                                { .name = "a/x", .payload = "1", .gap = 100 }, { .name = "a/y", .payload = "2" } };
    struct sl_buf b = { 0 };
    struct opened o;
    (void)state;
    put_archive(&b, r, 3);
    if (open_bytes(&o, &b))
        fail_msg("%s", o.err.message);
    sl_arena_free(&o.arena);
    sl_buf_free(&b);
}

static void deflated_records_are_unpacked_in_any_part(void **state)
{
    size_t len;
    struct opened o;
    struct sl_buf b = { 0 };
    char whole[512], part[64];
    (void)state;
    char *bytes = read_fixture(FIXTURES "torch/deflated.pt", &len);
    sl_buf_add(&b, bytes, len);
    assert_int_equal(open_bytes(&o, &b), 0);
    const struct sl_zip_entry *e = sl_zip_find(&o.zip, "plain/data.pkl");
    assert_true(e && e->deflated && e->size < sizeof whole);
    assert_int_equal(sl_zip_read(&o.file, 0, len, e, 0, whole, e->size, &o.err), 0);
    for (uint64_t from = 0; from + sizeof part < e->size; from += 50) {
        assert_int_equal(sl_zip_read(&o.file, 0, len, e, from, part, sizeof part, &o.err), 0);
        assert_memory_equal(part, whole + from, sizeof part);
    }
    sl_arena_free(&o.arena);
    sl_buf_free(&b);
    free(bytes);
}

static void a_wrong_checksum_is_found_when_all_is_read(void **state)
{
    const struct record r[] = { { .name = "a/x", .payload = "hello", .crc = 0x12345678 } };
    struct sl_buf b = { 0 };
    struct opened o;
    char got[5];
    (void)state;
    put_archive(&b, r, 1);
    assert_int_equal(open_bytes(&o, &b), 0);
    assert_refused(sl_zip_read(&o.file, 0, b.len, &o.zip.entries[0], 0, got, 5, &o.err), &o.err);
    assert_says(&o.err, "its CRC-32 is 3610a686, the directory says 12345678");
    sl_arena_free(&o.arena);
    sl_buf_free(&b);
}

/* --- lying -------------------------------------------------------------- */

static void archives_that_lie_are_refused(void **state)
{
    static const struct { struct record r[2]; const char *words; } rows[] = {
        { { { .name = "a/x", .payload = "1" }, { .name = "a/x", .payload = "2" } }, "two records have the name" },
        { { { .name = "a/x", .payload = "1" }, { .name = "a/X", .payload = "2" } }, "two records have the name" },
        { { { .name = "a/x", .payload = "1", .local_name = "a/w" }, { .name = "a/y", .payload = "2" } }, "another name" },
        { { { .name = "a/x", .payload = "1", .local_name = "a/xx" }, { .name = "a/y", .payload = "2" } }, "another name" },
        { { { .name = "a/x", .payload = "1", .size = 2, .packed = 9 }, { .name = "a/y", .payload = "2" } }, "two sizes" },
        { { { .name = "a/x", .payload = "1", .size = 9, .packed = 9 }, { .name = "a/y", .payload = "2" } }, "overlaps" },
        { { { .name = "a/x", .payload = "1", .flags = 1 }, { .name = "a/y", .payload = "2" } }, "encrypted" },
        { { { .name = "a/x", .payload = "1", .method = 12 }, { .name = "a/y", .payload = "2" } }, "method 12" },
        { { { .name = "a/x", .payload = "1" }, { .name = "a/y", .payload = "2", .header_shift = 1 } }, "no record begins" },
        { { { .name = "a/x", .payload = "1" }, { .name = "a/y", .payload = "2", .header_shift = 1 << 30 } }, "records end" },
        { { { .name = "a/x", .payload = "1" }, { .name = "", .payload = "2" } }, "empty name" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_buf b = { 0 };
        struct opened o;
        put_archive(&b, rows[i].r, 2);
        assert_refused(open_bytes(&o, &b), &o.err);
        assert_says(&o.err, rows[i].words);
        sl_arena_free(&o.arena);
        sl_buf_free(&b);
    }
}

static void bytes_before_and_after_are_refused(void **state)
{
    const struct record r[] = { { .name = "a/x", .payload = "1" } };
    struct sl_buf b = { 0 };
    struct opened o;
    (void)state;
    put_archive(&b, r, 1);
    sl_buf_str(&b, "junk");
    assert_refused(open_bytes(&o, &b), &o.err);
    assert_says(&o.err, "4 bytes follow the end");
    sl_buf_clear(&b);
    sl_buf_str(&b, "junk");
    put_archive(&b, r, 1);
    assert_refused(open_bytes(&o, &b), &o.err);
    assert_says(&o.err, "not a zip archive");
    sl_buf_free(&b);
}

static void an_archive_without_its_end_is_cut_off(void **state)
{
    const struct record r[] = { { .name = "a/x", .payload = "12345" } };
    struct sl_buf b = { 0 };
    struct opened o;
    (void)state;
    put_archive(&b, r, 1);
    for (size_t len = 4; len < b.len; len++) {
        struct sl_buf part = { .data = b.data, .len = len };
        assert_refused(open_bytes(&o, &part), &o.err);
        assert_true(o.zip.cut);
        assert_says(&o.err, "cut off after");
    }
    sl_buf_free(&b);
}

static void a_hundred_thousand_records_open_in_moments(void **state)
{
    enum { COUNT = 100000 };
    struct sl_buf b = { 0 }, dir = { 0 };
    struct opened o;
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/data/%u", i);
        struct record r = { .name = name, .payload = "abcd" };
        put_central(&dir, &r, b.len);
        put_local(&b, &r);
    }
    size_t at = b.len;
    sl_buf_add(&b, dir.data, dir.len);
    size_t end64 = b.len;
    static const uint8_t head[] = { 'P', 'K', 6, 6, 44, 0, 0, 0, 0, 0, 0, 0, 45, 0, 45, 0 };
    sl_buf_add(&b, head, sizeof head);
    put32(&b, 0);
    put32(&b, 0);
    const uint64_t fields[] = { COUNT, COUNT, dir.len, at };
    for (size_t i = 0; i < 4; i++) {
        put32(&b, fields[i]);
        put32(&b, 0);
    }
    put32(&b, 0x07064b50);
    put32(&b, 0);
    put32(&b, end64);
    put32(&b, 0);
    put32(&b, 1);
    put32(&b, 0x06054b50);
    put32(&b, 0);
    put32(&b, UINT32_MAX);
    put32(&b, dir.len);
    put32(&b, at);
    put16(&b, 0);
    if (open_bytes(&o, &b))
        fail_msg("%s", o.err.message);
    assert_int_equal(o.zip.count, COUNT);
    assert_int_equal(sl_zip_find(&o.zip, "a/data/99999")->size, 4);
    assert_true(o.arena.used < 200 * COUNT);
    sl_arena_free(&o.arena);
    sl_buf_free(&b);
    sl_buf_free(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_listed_with_the_place_of_their_bytes),
        cmocka_unit_test(folders_and_gaps_are_allowed),
        cmocka_unit_test(deflated_records_are_unpacked_in_any_part),
        cmocka_unit_test(a_wrong_checksum_is_found_when_all_is_read),
        cmocka_unit_test(archives_that_lie_are_refused),
        cmocka_unit_test(bytes_before_and_after_are_refused),
        cmocka_unit_test(an_archive_without_its_end_is_cut_off),
        cmocka_unit_test(a_hundred_thousand_records_open_in_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
