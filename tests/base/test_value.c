/* test_value.c: the JSON-like values of pickles, configs and --set. */
#include "testing.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/value.h"

#include <math.h>

static struct sl_arena arena;

static int teardown(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return 0;
}

#define VALUE_ROW(name) cmocka_unit_test_teardown(name, teardown)

static const struct sl_value *json(const char *text)
{
    const struct sl_value *v = NULL;
    assert_int_equal(sl_json_parse(text, strlen(text), "text", &arena, &v, NULL), SL_OK);
    return v;
}

static const char *line(const struct sl_value *v, size_t limit)
{
    struct sl_buf b = { 0 };
    sl_value_print(v, limit, &b);
    const char *s = sl_arena_strn(&arena, b.data ? b.data : "", b.len);
    sl_buf_free(&b);
    return s;
}

TEST(members_are_found_by_name)
{
    const struct sl_value *v = json("{\"hidden_size\": 2304, \"tie\": true, \"name\": \"x\"}");
    int64_t i;
    bool b;
    assert_true(sl_value_int(sl_value_get(v, "hidden_size"), &i) && i == 2304);
    assert_true(sl_value_bool(sl_value_get(v, "tie"), &b) && b);
    assert_string_equal(sl_value_str(sl_value_get(v, "name")), "x");
    assert_null(sl_value_get(v, "hidden"));
    assert_null(sl_value_get(NULL, "x"));
    assert_null(sl_value_get(sl_value_get(v, "name"), "x"));
}

TEST(the_last_of_equal_keys_wins_and_keys_that_are_no_text_are_passed_over)
{
    const struct sl_value *one = sl_value_new_int(&arena, 1), *two = sl_value_new_int(&arena, 2);
    const struct sl_value *key = sl_value_new_str(&arena, "k");
    const struct sl_value *keys[] = { key, one, key, NULL };
    const struct sl_value *items[] = { one, one, two, one };
    const struct sl_value dict = { .kind = SL_VALUE_DICT, .len = 4, .keys = keys, .items = items };
    assert_ptr_equal(sl_value_get(&dict, "k"), two);
}

TEST(a_whole_float_is_an_integer_and_a_bool_is_not)
{
    int64_t i = 9;
    double d;
    bool b;
    assert_true(sl_value_int(sl_value_new_double(&arena, 32.0), &i) && i == 32);
    assert_false(sl_value_int(sl_value_new_double(&arena, 32.5), &i));
    assert_false(sl_value_int(sl_value_new_double(&arena, 1e19), &i));
    assert_false(sl_value_int(sl_value_new_double(&arena, 9223372036854775808.0), &i));
    assert_true(sl_value_int(sl_value_new_double(&arena, -9223372036854775808.0), &i));
    assert_true(i == INT64_MIN);
    assert_false(sl_value_int(sl_value_new_double(&arena, (double)NAN), &i));
    assert_false(sl_value_int(sl_value_new_bool(&arena, true), &i));
    assert_false(sl_value_int(NULL, &i));
    assert_true(sl_value_double(sl_value_new_int(&arena, 3), &d) && d == 3.0);
    assert_false(sl_value_double(sl_value_new_str(&arena, "3"), &d));
    assert_false(sl_value_bool(sl_value_new_int(&arena, 1), &b));
    assert_null(sl_value_str(sl_value_new_int(&arena, 1)));
}

TEST(the_text_of_set_becomes_a_value)
{
    static const struct { const char *text; enum sl_value_kind kind; const char *shown; } rows[] = {
        { "128", SL_VALUE_INT, "128" },          { "-5", SL_VALUE_INT, "-5" },
        { "1e-5", SL_VALUE_FLOAT, "1e-05" },     { "1.4", SL_VALUE_FLOAT, "1.4" },
        { ".5", SL_VALUE_FLOAT, "0.5" },         { "10000.", SL_VALUE_FLOAT, "10000.0" },
        { "true", SL_VALUE_BOOL, "true" },       { "False", SL_VALUE_BOOL, "false" },
        { "null", SL_VALUE_NULL, "null" },       { "None", SL_VALUE_NULL, "null" },
        { "[1, 2]", SL_VALUE_LIST, "[1, 2]" },   { "{\"a\": 1}", SL_VALUE_DICT, "{a: 1}" },
        { "llama", SL_VALUE_STR, "llama" },      { "", SL_VALUE_STR, "" },
        { "[1, 2", SL_VALUE_STR, "[1, 2" },      { "1e", SL_VALUE_STR, "1e" },
        { "0x10", SL_VALUE_STR, "0x10" },        { "inf", SL_VALUE_STR, "inf" },
        { "nan", SL_VALUE_STR, "nan" },          { "1e999", SL_VALUE_STR, "1e999" },
        { "1.5.2", SL_VALUE_STR, "1.5.2" },      { ".", SL_VALUE_STR, "." },
        { "99999999999999999999", SL_VALUE_FLOAT, "1e+20" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct sl_value *v = sl_value_parse(&arena, rows[i].text);
        assert_non_null(v);
        if (v->kind != rows[i].kind)
            fail_msg("\"%s\" became kind %d", rows[i].text, (int)v->kind);
        assert_string_equal(line(v, 100), rows[i].shown);
    }
}

TEST(equal_values_are_equal_across_int_and_float)
{
    assert_true(sl_value_equal(json("[1, {\"a\": null}]"), json("[1.0, {\"a\": null}]")));
    assert_false(sl_value_equal(json("[1]"), json("[1, 2]")));
    assert_false(sl_value_equal(json("{\"a\": 1}"), json("{\"b\": 1}")));
    assert_false(sl_value_equal(json("\"1\""), json("1")));
    assert_false(sl_value_equal(json("true"), json("1")));
    assert_false(sl_value_equal(json("9007199254740993"), json("9007199254740992.0")));
    assert_true(sl_value_equal(NULL, NULL));
    assert_false(sl_value_equal(NULL, json("null")));
}

TEST(a_value_is_one_printable_line)
{
    assert_string_equal(line(json("{\"a\\u001b\": [true, null, 1.5, \"x\\ny\"]}"), 100),
                        "{a\\x1b: [true, null, 1.5, x\\x0ay]}");
    const struct sl_value bytes = { .kind = SL_VALUE_BYTES, .s = "abc", .len = 3 };
    const struct sl_value opaque = { .kind = SL_VALUE_OPAQUE, .s = "os.system\n" };
    const struct sl_value tensor = { .kind = SL_VALUE_TENSOR, .i = 7 };
    assert_string_equal(line(&bytes, 100), "<3 bytes>");
    assert_string_equal(line(&opaque, 100), "<os.system\\x0a>");
    assert_string_equal(line(&tensor, 100), "<tensor 7>");
    assert_string_equal(line(sl_value_new_double(&arena, -(double)INFINITY), 100), "-inf");
    assert_string_equal(line(sl_value_new_double(&arena, (double)NAN), 100), "nan");
    assert_string_equal(line(NULL, 100), "null");
}

TEST(a_long_value_is_cut_at_the_limit)
{
    struct sl_buf b = { 0 };
    sl_buf_char(&b, '[');
    for (int i = 0; i < 100000; i++)
        sl_buf_printf(&b, "%s%d", i ? "," : "", i);
    sl_buf_char(&b, ']');
    const struct sl_value *v = json(b.data);
    sl_buf_free(&b);
    assert_string_equal(line(v, 20), "[0, 1, 2, 3, 4, 5...");
    assert_string_equal(line(json("\"\\u5c42\\u5c42\\u5c42\""), 8), "\xe5\xb1\x82...");
    for (size_t limit = 0; limit < 30; limit++)
        assert_true(strlen(line(v, limit)) <= limit);
}

TEST(nesting_is_shown_to_a_few_levels_and_a_value_inside_itself_ends)
{
    assert_string_equal(line(json("[[[[[[1]]]]]]"), 100), "[[[[[...]]]]]");
    struct sl_value self = { .kind = SL_VALUE_LIST, .len = 1 };
    const struct sl_value *items[] = { &self };
    self.items = items;
    assert_string_equal(line(&self, 100), "[[[[[...]]]]]");
    struct sl_value other = self;
    const struct sl_value *other_items[] = { &other };
    other.items = other_items;
    assert_false(sl_value_equal(&self, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VALUE_ROW(members_are_found_by_name),
        VALUE_ROW(the_last_of_equal_keys_wins_and_keys_that_are_no_text_are_passed_over),
        VALUE_ROW(a_whole_float_is_an_integer_and_a_bool_is_not),
        VALUE_ROW(the_text_of_set_becomes_a_value),
        VALUE_ROW(equal_values_are_equal_across_int_and_float),
        VALUE_ROW(a_value_is_one_printable_line),
        VALUE_ROW(a_long_value_is_cut_at_the_limit),
        VALUE_ROW(nesting_is_shown_to_a_few_levels_and_a_value_inside_itself_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
