/* test_safetensors.c: headers of safetensors files, read and laid out. Rules
 * and vector: docs of the format and its reference implementation. */
#include "helper.h"

#include "format/safetensors.h"

/* A file: length, header, `data` bytes of zeros. */
static int open_text(const char *header, size_t data, struct sl_arena *arena,
                     struct sl_st_file *out, struct sl_error *err)
{
    size_t len = strlen(header);
    char *bytes = calloc(1, 8 + len + data);
    sl_store_u64(bytes, len);
    memcpy(bytes + 8, header, len);
    struct sl_file file = memory_file(bytes, 8 + len + data);
    free(bytes);
    return sl_st_open(&file, arena, out, err);
}

static void the_vector_of_the_reference_is_read(void **state)
{
    static const char bytes[] =
        "\x38\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\x80\x3f";
    struct sl_arena arena = { 0 };
    struct sl_st_file st;
    struct sl_error err;
    (void)state;
    struct sl_file file = memory_file(bytes, sizeof bytes - 1);
    assert_true(sl_st_is(bytes, sizeof bytes - 1, file.size));
    assert_int_equal(sl_st_open(&file, &arena, &st, &err), 0);
    assert_int_equal(st.count, 1);
    assert_string_equal(st.tensors[0].name, "x");
    assert_int_equal(st.tensors[0].dtype, SL_F32);
    assert_int_equal(st.tensors[0].shape[0], 1);
    assert_int_equal(st.tensors[0].offset, 64);
    assert_int_equal(st.tensors[0].bytes, 4);
    sl_arena_free(&arena);
}

static void odd_but_valid_headers_are_read(void **state)
{
    static const struct { const char *header; size_t data; uint32_t count; } rows[] = {
        { "{}", 0, 0 },
        { "{}      ", 0, 0 },
        { " {}\t\r\n", 0, 0 },
        { "{\"__metadata__\":null}", 0, 0 },
        { "{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"}}", 0, 0 },
        { "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1 },
        { "{\"s\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, 1 },
        { "{\"e\":{\"data_offsets\":[0,0],\"shape\":[3,0],\"dtype\":\"BF16\"}}", 0, 1 },
        { "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3, 2 },
        { "{\"x\":{\"dtype\":\"U8\",\"more\":[1,{\"a\":[-1.5e3,true]}],\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1 },
        { "{\"\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1 },
        { "{\"f\":{\"dtype\":\"F4\",\"shape\":[3,4],\"data_offsets\":[0,6]}}", 6, 1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_arena arena = { 0 };
        struct sl_st_file st;
        struct sl_error err;
        if (open_text(rows[i].header, rows[i].data, &arena, &st, &err))
            fail_msg("%s: %s", rows[i].header, err.message);
        assert_int_equal(st.count, rows[i].count);
        sl_arena_free(&arena);
    }
}

static void names_are_decoded(void **state)
{
    struct sl_arena arena = { 0 };
    struct sl_st_file st;
    struct sl_error err;
    (void)state;
    assert_int_equal(open_text("{\"\\u00e9\\ud83d\\ude00\\n\\/\\\"\":{\"dtype\":\"I8\",\"shape\":[1],"
                               "\"data_offsets\":[0,1]}}", 1, &arena, &st, &err), 0);
    assert_string_equal(st.tensors[0].name, "\xc3\xa9\xf0\x9f\x98\x80\n/\"");
    sl_arena_free(&arena);
}

static void pairs_of_4_bits_count_as_one_element(void **state)
{
    struct sl_arena arena = { 0 };
    struct sl_st_file st;
    struct sl_error err;
    (void)state;
    assert_int_equal(open_text("{\"f\":{\"dtype\":\"F4\",\"shape\":[3,4],\"data_offsets\":[0,6]}}", 6,
                               &arena, &st, &err), 0);
    assert_int_equal(st.tensors[0].shape[1], 2);
    assert_int_equal(st.tensors[0].bytes, 6);
    sl_arena_free(&arena);
}

static void errors_name_the_tensor_and_the_numbers(void **state)
{
#define ONE(offsets) "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" offsets "}}"
    static const struct { const char *header; size_t data; const char *words; } rows[] = {
        { ONE("[0,8]"), 5, "truncated: the file should be" },
        { ONE("[0,8]"), 9, "1 bytes follow the last tensor" },
        { ONE("[0,9]"), 9, "tensor w needs 8 bytes" },
        { ONE("[4,12]"), 12, "the tensor before it ends at 0" },
        { ONE("[0,08]"), 8, "leading 0" },
        { ONE("[0,-8]"), 8, "whole number" },
        { ONE("[0,8.0]"), 8, "without fraction" },
        { ONE("[0]"), 8, "two numbers" },
        { "{\"w\":{\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype \"f32\"" },
        { "{\"w\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, "6 bits" },
        { "{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8, "overflows" },
        { "{\"w\":1}", 0, "'1' was found where '{' was expected" },
        { "{} x", 0, "more text" },
        { "", 0, "ends where '{'" },
    };
#undef ONE
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_arena arena = { 0 };
        struct sl_st_file st;
        struct sl_error err;
        assert_refused(open_text(rows[i].header, rows[i].data, &arena, &st, &err), &err);
        assert_says(&err, rows[i].words);
        sl_arena_free(&arena);
    }
}

/* --- laying out --------------------------------------------------------- */

/* Expected files come from the reference writer (HF expectations of the
 * fixtures): laid out again, their tensors give the same header. */
static void the_reference_writers_files_are_laid_out_the_same(void **state)
{
    static const char *const paths[] = { FIXTURES "llama.expected.safetensors",
                                         FIXTURES "minicpm.expected.safetensors",
                                         FIXTURES "qkv_bias.expected.safetensors" };
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        size_t len;
        struct sl_arena arena = { 0 };
        struct sl_st_file st;
        struct sl_error err;
        struct sl_buf out = { 0 };
        uint64_t size;
        char *bytes = read_fixture(paths[i], &len);
        struct sl_file file = memory_file(bytes, len);
        assert_int_equal(sl_st_open(&file, &arena, &st, &err), 0);
        struct sl_st_tensor *tensors = calloc(st.count, sizeof *tensors);
        for (uint32_t t = 0; t < st.count; t++)       /* in another order */
            tensors[t] = st.tensors[(t * 7 + 3) % st.count];
        if (st.count % 7) {
            assert_int_equal(sl_st_layout(tensors, st.count, &out, &size, &err), 0);
            assert_int_equal(size, len);
            assert_int_equal(out.len, st.data_begin);
            assert_memory_equal(out.data, bytes, out.len);
        }
        sl_buf_free(&out);
        free(tensors);
        free(bytes);
        sl_arena_free(&arena);
    }
}

static void tensors_are_ordered_by_dtype_and_name(void **state)
{
    static const int64_t one[] = { 1 };
    struct sl_st_tensor t[] = {
        { .name = "b", .dtype = SL_BOOL, .ndim = 1, .shape = one },
        { .name = "z", .dtype = SL_F32, .ndim = 1, .shape = one },
        { .name = "a", .dtype = SL_F32, .ndim = 1, .shape = one },
        { .name = "i", .dtype = SL_I64, .ndim = 1, .shape = one },
        { .name = "h\n\"\x01", .dtype = SL_BF16, .ndim = 0, .shape = one },
    };
    static const char want[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
        "\"h\\n\\\"\\u0001\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[16,18]},"
        "\"b\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[18,19]}}";
    struct sl_buf out = { 0 };
    struct sl_error err;
    uint64_t size;
    (void)state;
    assert_int_equal(sl_st_layout(t, 5, &out, &size, &err), 0);
    assert_int_equal(out.len % 8, 0);
    assert_int_equal(sl_load_u64(out.data), out.len - 8);
    assert_memory_equal(out.data + 8, want, sizeof want - 1);
    assert_int_equal(size, out.len + 19);
    assert_int_equal(t[0].offset, out.len);
    sl_buf_free(&out);
}

static void what_safetensors_cannot_hold_is_refused(void **state)
{
    static const int64_t one[] = { 1 };
    struct sl_st_tensor wide[] = { { .name = "c", .dtype = SL_C128, .ndim = 1, .shape = one } };
    struct sl_st_tensor twice[] = { { .name = "c", .dtype = SL_F32, .ndim = 1, .shape = one },
                                    { .name = "c", .dtype = SL_U8, .ndim = 1, .shape = one } };
    struct sl_st_tensor text[] = { { .name = "\xff", .dtype = SL_F32, .ndim = 1, .shape = one } };
    struct sl_buf out = { 0 };
    struct sl_error err;
    uint64_t size;
    (void)state;
    assert_int_equal(sl_st_layout(wide, 1, &out, &size, &err), SL_UNSUPPORTED);
    assert_says(&err, "complex128");
    assert_int_equal(sl_st_layout(twice, 2, &out, &size, &err), SL_USAGE);
    assert_int_equal(sl_st_layout(text, 1, &out, &size, &err), SL_UNSUPPORTED);
    sl_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_of_the_reference_is_read),
        cmocka_unit_test(odd_but_valid_headers_are_read),
        cmocka_unit_test(names_are_decoded),
        cmocka_unit_test(pairs_of_4_bits_count_as_one_element),
        cmocka_unit_test(errors_name_the_tensor_and_the_numbers),
        cmocka_unit_test(the_reference_writers_files_are_laid_out_the_same),
        cmocka_unit_test(tensors_are_ordered_by_dtype_and_name),
        cmocka_unit_test(what_safetensors_cannot_hold_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
