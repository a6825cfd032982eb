/* test_json.c: strict JSON in, tidy JSON out. */
#include "testing.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/value.h"

#include <locale.h>
#include <math.h>

static struct sl_arena arena;
static struct sl_error err;

static int teardown(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return 0;
}

#define JSON_ROW(name) cmocka_unit_test_teardown(name, teardown)

static const struct sl_value *parse(const char *text, size_t len)
{
    const struct sl_value *v = NULL;
    if (sl_json_parse(text, len, "config.json", &arena, &v, &err))
        fail_msg("\"%s\" was refused: %s", text, err.message);
    return v;
}
#define PARSE(literal) parse(literal, sizeof(literal) - 1)

static const char *written(const struct sl_value *v, int indent)
{
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, indent);
    sl_json_value(&j, v);
    assert_false(b.failed);
    const char *s = sl_arena_strn(&arena, b.data, b.len);
    sl_buf_free(&b);
    return s;
}

static const char *number(double d)
{
    return written(sl_value_new_double(&arena, d), 0);
}

TEST(a_document_comes_back_as_it_was)
{
    static const char text[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"eps\":1e-05,\"rope_theta\":10000.0,"
        "\"vocab_size\":122753,\"tie\":true,\"x\":null,\"e\":{},\"l\":[],\"n\":-3}";
    assert_string_equal(written(PARSE(text), 0), text);
}

TEST(indented_output_looks_like_pythons)
{
    assert_string_equal(written(PARSE("{\"a\":[1,2],\"b\":{\"c\":{}},\"d\":[]}"), 2),
                        "{\n"
                        "  \"a\": [\n"
                        "    1,\n"
                        "    2\n"
                        "  ],\n"
                        "  \"b\": {\n"
                        "    \"c\": {}\n"
                        "  },\n"
                        "  \"d\": []\n"
                        "}");
}

TEST(any_kind_may_be_the_document_and_blanks_may_stand_around_it)
{
    assert_int_equal(PARSE(" \t\r\n true\n")->kind, SL_VALUE_BOOL);
    assert_int_equal(PARSE("null")->kind, SL_VALUE_NULL);
    assert_int_equal(PARSE("\"\"")->len, 0);
    assert_int_equal(PARSE("[ ]")->len, 0);
    assert_int_equal(PARSE("{ }")->len, 0);
    assert_int_equal(PARSE("[[],[[]],{}]")->len, 3);
}

TEST(whole_numbers_are_taken_from_the_text_and_keep_every_digit)
{
    assert_true(PARSE("9007199254740993")->i == INT64_C(9007199254740993));
    assert_true(PARSE("9223372036854775807")->i == INT64_MAX);
    assert_true(PARSE("-9223372036854775808")->i == INT64_MIN);
    assert_int_equal(PARSE("1.0")->kind, SL_VALUE_FLOAT);
    assert_int_equal(PARSE("1e2")->kind, SL_VALUE_FLOAT);
    assert_int_equal(PARSE("9223372036854775808")->kind, SL_VALUE_FLOAT);
    assert_true(PARSE("9223372036854775808")->f == 9223372036854775808.0);
    const struct sl_value *v = PARSE("[{\"a\": 1, \"b\": [2.5, 3]}, 4]");
    assert_string_equal(written(v, 0), "[{\"a\":1,\"b\":[2.5,3]},4]");
}

TEST(escapes_are_decoded)
{
    assert_string_equal(PARSE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83e\\udd17\"")->s,
                        "\"\\/\b\f\n\r\t\xc3\xa4\xf0\x9f\xa4\x97");
}

static const struct { const char *text; const char *words; } refused[] = {
    { "", "the text ends where a value was expected" },
    { "   ", "the text ends where a value was expected" },
    { "{\"a\":", "line 1, column 6: the text ends where a value was expected" },
    { "{\"a\"", "a colon was expected" },
    { "{\"a\":1", "the text ends inside a list or an object" },
    { "{\n  \"a\": 1,\n}", "line 3, column 1: a name in double quotes was expected" },
    { "{a:1}", "a name in double quotes was expected" },
    { "{\"a\":]", "a value was expected" },
    { "[1,]", "column 4: a value was expected" },
    { "[1}", "a comma or ] was expected" },
    { "{\"a\":1]", "a comma or } was expected" },
    { "[1 2]", "a comma or ] was expected" },
    { "]", "a value was expected" },
    { "04", "a number with a leading zero" },
    { "[-01]", "a number with a leading zero" },
    { "1.", "digits were expected after the point" },
    { ".5", "a value was expected" },
    { "1e", "digits were expected in the exponent" },
    { "+1", "a value was expected" },
    { "-", "a value was expected" },
    { "0x10", "something follows the document" },
    { "1e999", "a number is out of range" },
    { "-1e999", "a number is out of range" },
    { "NaN", "NaN and Infinity are not numbers in JSON" },
    { "[Infinity]", "NaN and Infinity are not numbers in JSON" },
    { "nul", "a value was expected" },
    { "True", "a value was expected" },
    { "'a'", "a value was expected" },
    { "// c\n1", "a value was expected" },
    { "1 2", "something follows the document" },
    { "{} {}", "something follows the document" },
    { "\"a", "the text ends inside a string" },
    { "\"a\\", "a backslash before a character that needs none" },
    { "\"\\x41\"", "a backslash before a character that needs none" },
    { "\"\\u12\"", "\\u without four hexadecimal digits" },
    { "\"\\u0000\"", "\\u0000: text with a NUL in it is not accepted" },
    { "{\"a\\u0000b\":1}", "\\u0000: text with a NUL in it is not accepted" },
    { "\"\\ud800\"", "the first half of a surrogate pair without the second" },
    { "\"\\ud800\\u0041\"", "the first half of a surrogate pair without the second" },
    { "\"\\udc00\"", "the second half of a surrogate pair without the first" },
    { "\"a\x1b[2J\"", "a control character inside a string" },
    { "\"a\nb\"", "a control character inside a string" },
    { "[1,\x0b" "2]", "a value was expected" },
    { "\xef\xbb\xbf{}", "it begins with a byte order mark" },
    { "\"\xff\"", "it is not valid UTF-8" },
    { "\"\xc0\xaf\"", "it is not valid UTF-8" },
    { "\"\xed\xa0\x80\"", "it is not valid UTF-8" },
    { "{\"a\":1,\"b\":2,\"a\":3}", "the name \"a\" is there twice" },
    { "[{\"x\":{\"a\":1,\"\\u0061\":3}}]", "the name \"a\" is there twice" },
    { "1111111111111111111111111111111111111111111111111111111111111111",
      "a number of more than 63 characters" },
};

TEST(what_is_no_json_is_refused_with_its_place_and_reason)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const struct sl_value *v = NULL;
        if (sl_json_parse(refused[i].text, strlen(refused[i].text), "config.json", &arena, &v,
                          &err) != SL_INPUT)
            fail_msg("\"%s\" was accepted", refused[i].text);
        assert_string_equal(err.where, "config.json");
        assert_says(err, refused[i].words);
    }
}

TEST(a_nul_in_the_text_is_refused)
{
    const struct sl_value *v;
    assert_int_equal(sl_json_parse("[1]\0", 4, "f", &arena, &v, &err), SL_INPUT);
    assert_int_equal(sl_json_parse("[\0]", 3, "f", &arena, &v, &err), SL_INPUT);
    assert_int_equal(sl_json_parse("\"a\0b\"", 5, "f", &arena, &v, &err), SL_INPUT);
}

TEST(text_need_not_be_terminated)
{
    char *text = malloc(3);
    memcpy(text, "[1]", 3);
    assert_int_equal(parse(text, 3)->len, 1);
    const struct sl_value *v;
    for (size_t len = 0; len < 3; len++)
        assert_int_equal(sl_json_parse(text, len, "f", &arena, &v, &err), SL_INPUT);
    free(text);
}

TEST(deep_nesting_is_refused_before_it_costs_anything)
{
    char *text = malloc(1000000);
    const struct sl_value *v;
    memset(text, '[', 1000000);
    assert_int_equal(sl_json_parse(text, 1000000, "f", &arena, &v, &err), SL_INPUT);
    assert_says(err, "nested too deeply");
    for (size_t i = 0; i < 1000000; i += 4)
        memcpy(text + i, "{\"\":", 4);
    assert_int_equal(sl_json_parse(text, 1000000, "f", &arena, &v, &err), SL_INPUT);
    assert_says(err, "nested too deeply");
    memset(text, '[', SL_LIMIT_JSON_DEPTH);
    memset(text + SL_LIMIT_JSON_DEPTH, ']', SL_LIMIT_JSON_DEPTH);
    assert_int_equal(parse(text, (size_t)2 * SL_LIMIT_JSON_DEPTH)->len, 1);
    free(text);
}

TEST(a_hundred_thousand_names_are_read_and_checked_for_doubles)
{
    struct sl_buf b = { 0 };
    sl_buf_char(&b, '{');
    for (int i = 0; i < 100000; i++)
        sl_buf_printf(&b, "\"model.layers.%d.w\":\"model-%d.safetensors\",", i, i % 7);
    sl_buf_str(&b, "\"model.layers.5.w\":1}");
    const struct sl_value *v;
    assert_int_equal(sl_json_parse(b.data, b.len, "f", &arena, &v, &err), SL_INPUT);
    assert_says(err, "the name \"model.layers.5.w\" is there twice");
    b.len -= 4;
    sl_buf_str(&b, "x\":1}");
    assert_int_equal(parse(b.data, b.len)->len, 100001);
    sl_buf_free(&b);
}

TEST(names_in_messages_are_made_printable)
{
    const struct sl_value *v;
    static const char text[] = "{\"\\u001b[2J\":1,\"\\u001b[2J\":2}";
    assert_int_equal(sl_json_parse(text, sizeof text - 1, "f", &arena, &v, &err), SL_INPUT);
    assert_string_equal(err.message, "the name \"\\x1b[2J\" is there twice");
}

TEST(doubles_are_written_as_python_writes_them)
{
    static const struct { double d; const char *text; } rows[] = {
        { 0.0, "0.0" },           { -0.0, "-0.0" },
        { 1.0, "1.0" },           { 10000.0, "10000.0" },
        { 1e-5, "1e-05" },        { 0.0001, "0.0001" },
        { 0.00012, "0.00012" },   { 1e15, "1000000000000000.0" },
        { 1e16, "1e+16" },        { 123456789.125, "123456789.125" },
        { 0.1, "0.1" },           { 1.0 / 3, "0.3333333333333333" },
        { 1.5e300, "1.5e+300" },  { 5e-324, "5e-324" },
        { -2.5, "-2.5" },         { 1.7976931348623157e308, "1.7976931348623157e+308" },
        { 1e-10, "1e-10" },       { 1e100, "1e+100" },
        { 9007199254740993.0, "9007199254740992.0" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(number(rows[i].d), rows[i].text);
    assert_string_equal(number((double)NAN), "null");
    assert_string_equal(number(-(double)INFINITY), "null");
}

TEST(every_double_reads_back_as_itself)
{
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        double d;
        bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d))
            continue;
        const char *s = number(d);
        const struct sl_value *v = parse(s, strlen(s));
        assert_int_equal(v->kind, SL_VALUE_FLOAT);
        assert_memory_equal(&v->f, &d, sizeof d);
    }
}

TEST(a_locale_with_a_decimal_comma_changes_nothing)
{
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "de_DE"))
        skip();
    const char *s = number(2.5);
    const double d = PARSE("2.5")->f;
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(s, "2.5");
    assert_true(d == 2.5);
}

TEST(text_is_escaped_so_that_a_terminal_is_safe)
{
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, 0);
    sl_json_array(&j);
    sl_json_str(&j, "a\"b\\c\n\t\x1b\x7f");
    sl_json_str(&j, "\xc3\xa4\xe2\x80\xae\xc2\x9b\xff");
    sl_json_str(&j, NULL);
    sl_json_strn(&j, "x\0y", 3);
    sl_json_array_end(&j);
    assert_string_equal(b.data, "[\"a\\\"b\\\\c\\n\\t\\u001b\\u007f\","
                                "\"\xc3\xa4\\u202e\\u009b\\ufffd\",null,\"x\\u0000y\"]");
    sl_buf_free(&b);
}

TEST(whatever_bytes_a_name_has_the_output_is_json)
{
    for (int a = 0; a < 256; a++)
        for (int c = 0; c < 256; c++) {
            const struct sl_value *v;
            const char pair[2] = { (char)a, (char)c };
            struct sl_buf b = { 0 };
            struct sl_json j;
            sl_json_begin(&j, &b, 0);
            sl_json_strn(&j, pair, 2);
            assert_true(sl_text_is_printable(b.data, b.len));
            if (a && c && sl_json_parse(b.data, b.len, "f", &arena, &v, &err))
                fail_msg("%s: %s", b.data, err.message);
            sl_buf_free(&b);
        }
}

TEST(the_writer_puts_commas_and_keys_in_place)
{
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, 0);
    sl_json_object(&j);
    sl_json_kstr(&j, "s", "x");
    sl_json_kint(&j, "i", INT64_MIN);
    sl_json_kuint(&j, "u", UINT64_MAX);
    sl_json_kdouble(&j, "d", 0.5);
    sl_json_kbool(&j, "b", false);
    sl_json_key(&j, "a");
    sl_json_array(&j);
    sl_json_object(&j);
    sl_json_object_end(&j);
    sl_json_null(&j);
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    assert_false(b.failed);
    assert_string_equal(b.data, "{\"s\":\"x\",\"i\":-9223372036854775808,"
                                "\"u\":18446744073709551615,\"d\":0.5,\"b\":false,\"a\":[{},null]}");
    sl_buf_free(&b);
}

TEST(nesting_past_the_writers_depth_is_a_failure_and_not_an_overrun)
{
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, 0);
    for (int i = 0; i < 200; i++)
        sl_json_array(&j);
    assert_true(b.failed);
    sl_buf_free(&b);
    sl_json_begin(&j, &b, 0);
    sl_json_array_end(&j);
    assert_true(b.failed);
    sl_buf_free(&b);
}

TEST(a_tree_deeper_than_the_writer_is_cut_and_still_json)
{
    char text[202];
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    const char *s = written(parse(text, 200), 0);
    assert_non_null(strstr(s, "[\"...\"]"));
    parse(s, strlen(s));
}

TEST(a_file_is_loaded_and_named_in_errors)
{
    char folder[256], path[512];
    const struct sl_value *v;
    new_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_text(path, "{\"a\": 1}", 8);
    assert_int_equal(sl_json_load(path, 100, &arena, &v, &err), SL_OK);
    assert_int_equal(sl_value_get(v, "a")->i, 1);
    assert_int_equal(sl_json_load(path, 7, &arena, &v, &err), SL_INPUT);
    write_text(path, "{\"a\": 1", 7);
    assert_int_equal(sl_json_load(path, 100, &arena, &v, &err), SL_INPUT);
    assert_string_equal(err.where, path);
    remove(path);
    remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JSON_ROW(a_document_comes_back_as_it_was),
        JSON_ROW(indented_output_looks_like_pythons),
        JSON_ROW(any_kind_may_be_the_document_and_blanks_may_stand_around_it),
        JSON_ROW(whole_numbers_are_taken_from_the_text_and_keep_every_digit),
        JSON_ROW(escapes_are_decoded),
        JSON_ROW(what_is_no_json_is_refused_with_its_place_and_reason),
        JSON_ROW(a_nul_in_the_text_is_refused),
        JSON_ROW(text_need_not_be_terminated),
        JSON_ROW(deep_nesting_is_refused_before_it_costs_anything),
        JSON_ROW(a_hundred_thousand_names_are_read_and_checked_for_doubles),
        JSON_ROW(names_in_messages_are_made_printable),
        JSON_ROW(doubles_are_written_as_python_writes_them),
        JSON_ROW(every_double_reads_back_as_itself),
        JSON_ROW(a_locale_with_a_decimal_comma_changes_nothing),
        JSON_ROW(text_is_escaped_so_that_a_terminal_is_safe),
        JSON_ROW(whatever_bytes_a_name_has_the_output_is_json),
        JSON_ROW(the_writer_puts_commas_and_keys_in_place),
        JSON_ROW(nesting_past_the_writers_depth_is_a_failure_and_not_an_overrun),
        JSON_ROW(a_tree_deeper_than_the_writer_is_cut_and_still_json),
        JSON_ROW(a_file_is_loaded_and_named_in_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
