/* test_torchwrite.c: torch zip files as they are laid out. The first test is
 * the vector of a file that real torch writes, byte for byte. */
#include "helper.h"

#include "base/value.h"
#include "format/torchwrite.h"
#include "format/zipdir.h"

#include <libdeflate.h>

/* --- assembling --------------------------------------------------------- */

struct image { struct sl_arena arena; struct sl_torch_layout layout; char *bytes; };

/* Builds the whole file in memory; storage i is filled with `fill`. */
static void assemble(struct image *im, const void *pickle, size_t pickle_len,
                     const uint64_t *sizes, uint32_t count, const char *const *fill)
{
    struct sl_error err;
    struct sl_torch_piece *tail;
    uint32_t tail_count, crc[64];
    memset(im, 0, sizeof *im);
    assert_int_equal(sl_torch_layout(pickle, pickle_len, sizes, count, &im->arena, &im->layout, &err), 0);
    const struct sl_torch_layout *l = &im->layout;
    im->bytes = calloc(1, l->file_size);
    assert_non_null(im->bytes);
    for (uint32_t i = 0; i < l->piece_count; i++)
        memcpy(im->bytes + l->pieces[i].offset, l->pieces[i].bytes, l->pieces[i].len);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(im->bytes + l->storage_offset[i], fill[i], sizes[i]);
        crc[i] = libdeflate_crc32(0, fill[i], sizes[i]);
    }
    assert_int_equal(sl_torch_tail(l, crc, &im->arena, &tail, &tail_count, &err), 0);
    for (uint32_t i = 0; i < tail_count; i++) {
        assert_true(tail[i].offset + tail[i].len <= l->file_size);
        memcpy(im->bytes + tail[i].offset, tail[i].bytes, tail[i].len);
    }
}

static void release(struct image *im)
{
    sl_arena_free(&im->arena);
    free(im->bytes);
}

static void a_file_is_the_one_that_torch_writes(void **state)
{
    static const char hex[] =
        "800263746f7263682e5f7574696c730a5f72656275696c645f74656e736f725f76320a71002828580700"
        "000073746f72616765710163746f7263680a466c6f617453746f726167650a7102580100000030710358"
        "0300000063707571044b0874514b004b024b04864b044b01868963636f6c6c656374696f6e730a4f7264"
        "65726564446963740a7105295274522e";
    (void)state;
    unsigned char pickle[(sizeof hex - 1) / 2];
    for (size_t i = 0; i < sizeof pickle; i++) {
        const char digits[] = { hex[2 * i], hex[2 * i + 1], 0 };
        pickle[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    float data[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    const uint64_t size = sizeof data;
    const char *fill = (const char *)data;
    struct image im;
    assemble(&im, pickle, sizeof pickle, &size, 1, &fill);
    assert_int_equal(im.layout.file_size, 938);
    assert_int_equal(im.layout.storage_offset[0], 448);
    char sum[65];
    sha256_hex(im.bytes, im.layout.file_size, sum);
    assert_string_equal(sum, "4a8fe52a063c4484937e0ca7f864f7eeea2ed292b94b14760418959fd71451eb");
    release(&im);
}

/* --- reading it back ---------------------------------------------------- */

static void what_is_written_reads_back(void **state)
{
    const int64_t shape[] = { 2, 3 }, vector[] = { 4 };
    const uint64_t sizes[] = { 24, 8, 0, 12 };
    const char *const fill[] = { "abcdefghijklmnopqrstuvwx", "12345678", "", "ABCDEFGHIJKL" };
    struct sl_pickler p = { 0 };
    struct image im;
    (void)state;
    sl_pickler_begin(&p);
    sl_pickler_dict_begin(&p, true);
    sl_pickler_str(&p, "w");
    sl_pickler_tensor(&p, SL_F32, 0, 6, 0, shape, 2);
    sl_pickler_str(&p, "h");
    sl_pickler_tensor(&p, SL_BF16, 1, 4, 0, vector, 1);
    sl_pickler_str(&p, "none");
    sl_pickler_tensor(&p, SL_F32, 2, 0, 0, (const int64_t[]){ 0, 5 }, 2);
    sl_pickler_str(&p, "fp8");
    sl_pickler_tensor(&p, SL_F8_E4M3, 3, 12, 4, (const int64_t[]){ 1, 2, 2, 2 }, 4);
    sl_pickler_str(&p, "args");
    sl_pickler_namespace_begin(&p);
    sl_pickler_str(&p, "iteration");
    sl_pickler_int(&p, -70000);
    sl_pickler_str(&p, "lr");
    sl_pickler_double(&p, 0.1);
    sl_pickler_str(&p, "dtype");
    sl_pickler_dtype(&p, SL_BF16);
    sl_pickler_namespace_end(&p);
    sl_pickler_dict_end(&p);
    sl_pickler_end(&p);
    assert_false(p.out.failed);
    assemble(&im, p.out.data, p.out.len, sizes, 4, fill);

    struct sl_file file = memory_file(im.bytes, im.layout.file_size);
    struct sl_torch_file t;
    struct sl_error err;
    if (sl_torch_open(&file, 0, file.size, &im.arena, &t, &err))
        fail_msg("%s", err.message);
    assert_int_equal(t.tensor_count, 4);
    assert_int_equal(t.storage_count, 4);
    assert_false(t.crc_missing);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(t.storages[i].offset, im.layout.storage_offset[i]);
        assert_int_equal(t.storages[i].offset % 64, 0);
        assert_int_equal(t.storages[i].bytes, sizes[i]);
    }
    assert_int_equal(t.tensors[3].dtype, SL_F8_E4M3);
    assert_int_equal(t.tensors[3].storage_offset, 4);
    assert_int_equal(t.tensors[2].stride[0], 5);
    const struct sl_value *args = sl_value_get(t.object, "args");
    assert_string_equal(args->type, "argparse.Namespace");
    assert_int_equal(sl_value_get(args, "iteration")->i, -70000);
    assert_string_equal(sl_value_str(sl_value_get(args, "dtype")), "bfloat16");
    sl_buf_free(&p.out);
    release(&im);
}

static void integers_of_every_width_read_back(void **state)
{
    static const int64_t numbers[] = { 0, 255, 256, 65535, 65536, -1, INT32_MAX, INT32_MIN,
                                       (int64_t)INT32_MAX + 1, (int64_t)INT32_MIN - 1, INT64_MAX,
                                       INT64_MIN, INT64_C(1) << 39, (INT64_C(1) << 39) - 1,
                                       -(INT64_C(1) << 39), -(INT64_C(1) << 39) - 1 };
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sl_pickler p = { 0 };
        struct sl_arena arena = { 0 };
        struct sl_pickle pickle;
        struct sl_error err;
        sl_pickler_begin(&p);
        sl_pickler_int(&p, numbers[i]);
        sl_pickler_end(&p);
        assert_int_equal(sl_pickle_parse(p.out.data, p.out.len, "", &arena, &pickle, &err), 0);
        assert_int_equal(sl_pickle_node(&pickle, pickle.root)->kind, SL_NODE_INT);
        assert_true(sl_pickle_node(&pickle, pickle.root)->u.i == numbers[i]);
        sl_buf_free(&p.out);
        sl_arena_free(&arena);
    }
}

static void values_of_a_file_can_be_written_again(void **state)
{
    size_t len;
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_torch_file t, again;
    struct sl_pickler p = { 0 };
    struct image im;
    (void)state;
    char *bytes = read_fixture(FIXTURES "torch/bare_protocol2.pkl", &len);
    struct sl_file file = memory_file(bytes, len);
    assert_int_equal(sl_torch_open(&file, 0, len, &arena, &t, &err), 0);
    sl_pickler_begin(&p);
    sl_pickler_value(&p, t.object);
    sl_pickler_end(&p);
    assert_false(p.out.failed);
    assemble(&im, p.out.data, p.out.len, NULL, 0, NULL);
    file = memory_file(im.bytes, im.layout.file_size);
    if (sl_torch_open(&file, 0, file.size, &arena, &again, &err))
        fail_msg("%s", err.message);
    static const char *const same[] = { "iteration", "name", "list", "bytes", "text", "args", "set" };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(sl_value_equal(sl_value_get(t.object, same[i]), sl_value_get(again.object, same[i])));
    assert_int_equal(sl_value_get(again.object, "big")->kind, SL_VALUE_NULL);
    sl_buf_free(&p.out);
    sl_arena_free(&arena);
    release(&im);
    free(bytes);
}

/* A text, and 18 lists that each hold the one before twice: as a tree a quarter of a million
 * texts. Written, each is there once, and is fetched again with BINGET or, from the 257th
 * place of the memo on, LONG_BINGET. */
static void shared_parts_are_written_once(void **state)
{
    enum { LEVELS = 18, FILLERS = 300 };
    static const char text[] = "a text that is longer than a fetch";
    struct sl_value leaf = { .kind = SL_VALUE_STR, .s = text, .len = sizeof text - 1 };
    struct sl_value lists[LEVELS], filler[FILLERS], all = { .kind = SL_VALUE_LIST };
    const struct sl_value *pairs[LEVELS][2], *items[2 * FILLERS + 1];
    struct sl_arena arena = { 0 };
    struct sl_torch_file t;
    struct sl_pickler p = { 0 };
    struct sl_error err;
    struct image im;
    (void)state;
    for (size_t i = 0; i < LEVELS; i++) {
        pairs[i][0] = pairs[i][1] = i ? &lists[i - 1] : &leaf;
        lists[i] = (struct sl_value){ .kind = SL_VALUE_LIST, .items = pairs[i], .len = 2 };
    }
    for (size_t i = 0; i < FILLERS; i++) {
        filler[i] = (struct sl_value){ .kind = SL_VALUE_LIST };
        items[2 * i] = items[2 * i + 1] = &filler[i];
    }
    items[2 * FILLERS] = &lists[LEVELS - 1];
    all.items = items;
    all.len = 2 * FILLERS + 1;
    sl_pickler_begin(&p);
    sl_pickler_value(&p, &all);
    sl_pickler_end(&p);
    assert_false(p.out.failed);
    assert_true(p.out.len < 5000);
    assemble(&im, p.out.data, p.out.len, NULL, 0, NULL);
    struct sl_file file = memory_file(im.bytes, im.layout.file_size);
    if (sl_torch_open(&file, 0, file.size, &arena, &t, &err))
        fail_msg("%s", err.message);
    assert_true(sl_value_equal(&all, t.object));
    assert_ptr_equal(t.object->items[0], t.object->items[1]);
    assert_ptr_equal(t.object->items[598], t.object->items[599]);
    assert_ptr_not_equal(t.object->items[0], t.object->items[2]);
    sl_buf_free(&p.out);
    sl_arena_free(&arena);
    release(&im);
}

/* --- 4 GiB and more ----------------------------------------------------- */

static void storages_past_4_gib_get_their_zip64_fields(void **state)
{
    const uint64_t sizes[] = { (UINT64_C(4) << 30) + 4096, 100, (UINT64_C(4) << 30) + 64, 0, 7 };
    const uint32_t crc[5] = { 1, 2, 3, 0, 5 };
    struct sl_arena arena = { 0 };
    struct sl_torch_layout l;
    struct sl_error err;
    struct sl_torch_piece *tail;
    uint32_t tail_count;
    (void)state;
    assert_int_equal(sl_torch_layout("\x80\x02N.", 4, sizes, 5, &arena, &l, &err), 0);
    assert_int_equal(sl_torch_tail(&l, crc, &arena, &tail, &tail_count, &err), 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(l.storage_offset[i] % 64, 0);

    /* a sparse file: headers and directory only */
    int fd = memfd_create("large", 0);
    assert_int_equal(ftruncate(fd, (off_t)l.file_size), 0);
    for (uint32_t i = 0; i < l.piece_count; i++)
        assert_int_equal(sl_write_at(fd, "large", l.pieces[i].offset, l.pieces[i].bytes, l.pieces[i].len, &err), 0);
    for (uint32_t i = 0; i < tail_count; i++)
        assert_int_equal(sl_write_at(fd, "large", tail[i].offset, tail[i].bytes, tail[i].len, &err), 0);
    struct sl_file file = { .fd = fd, .path = "large", .size = l.file_size };
    struct sl_zip zip;
    if (sl_zip_open(&file, 0, l.file_size, &arena, &zip, &err))
        fail_msg("%s", err.message);
    assert_int_equal(zip.count, 8);
    for (uint32_t i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "archive/data/%u", i);
        const struct sl_zip_entry *e = sl_zip_find(&zip, name);
        assert_non_null(e);
        assert_int_equal(e->size, sizes[i]);
        assert_int_equal(e->offset, l.storage_offset[i]);
        assert_int_equal(e->crc, crc[i]);
    }
    close(fd);
    sl_arena_free(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    const uint64_t sizes[] = { UINT64_MAX - 10, 100 };
    struct sl_arena arena = { 0 };
    struct sl_torch_layout l;
    struct sl_error err;
    (void)state;
    assert_int_equal(sl_torch_layout("\x80\x02N.", 4, sizes, 2, &arena, &l, &err), SL_USAGE);
    assert_says(&err, "too large");
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_the_one_that_torch_writes),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(integers_of_every_width_read_back),
        cmocka_unit_test(values_of_a_file_can_be_written_again),
        cmocka_unit_test(shared_parts_are_written_once),
        cmocka_unit_test(storages_past_4_gib_get_their_zip64_fields),
        cmocka_unit_test(sizes_that_overflow_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
