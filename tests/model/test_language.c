/* test_language.c: expressions, conditions and name patterns of family files. */
#include "../base/testing.h"

#include "model/family.h"
#include "model/internal.h"

static bool look(void *arg, const char *name, size_t len, int64_t *value)
{
    (void)arg;
    static const struct { const char *name; int64_t value; } names[] = {
        {"heads", 36}, {"groups", 9}, {"big", INT64_MAX}, {"zero", 0}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == len && !memcmp(names[i].name, name, len)) {
            *value = names[i].value;
            return true;
        }
    return false;
}

static int64_t value_of(const char *text)
{
    int64_t out = -999;
    struct sl_error err;
    assert_int_equal(sl_expression(text, strlen(text), look, NULL, &out, &err), SL_OK);
    return out;
}

static void refused(const char *text, const char *why)
{
    int64_t out;
    struct sl_error err;
    assert_int_equal(sl_expression(text, strlen(text), look, NULL, &out, &err), SL_USAGE);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" gives \"%s\", not \"%s\"", text, err.message, why);
}

static void expressions_follow_the_rules_of_arithmetic(void **state)
{
    (void)state;
    assert_int_equal(value_of("7"), 7);
    assert_int_equal(value_of("heads/groups"), 4);
    assert_int_equal(value_of("1+2*3"), 7);
    assert_int_equal(value_of("(1+2)*3"), 9);
    assert_int_equal(value_of("20-5-3"), 12);
    assert_int_equal(value_of("100/5/2"), 10);
    assert_int_equal(value_of(" ( heads + 2 * groups ) * 64 "), 3456);
    assert_int_equal(value_of("2*(3+(4-1)*2)"), 18);
}

static void a_division_with_a_rest_names_both_numbers(void **state)
{
    (void)state;
    refused("heads/7", "36 is not a multiple of 7");
    refused("heads/zero", "division by zero");
}

static void what_is_no_expression_is_refused_with_the_reason(void **state)
{
    (void)state;
    refused("", "missing");
    refused("1+", "missing");
    refused("kv", "\"kv\" is not known");
    refused("(1", "\"(\" without \")\"");
    refused("1)", "\")\" without \"(\"");
    refused("1 2", "one of + - * / ) is expected");
    refused("*3", "a number, a name or \"(\" is expected");
    refused("big*2", "too large");
    refused("99999999999999999999", "too large");
    refused("((((((((((((((((((((((((((((((((((1", "too deeply nested");
}

static bool has(void *arg, const char *flag, size_t len)
{
    (void)arg;
    return (len == 4 && !memcmp(flag, "tied", 4)) || (len == 3 && !memcmp(flag, "moe", 3));
}

static bool holds(const char *text)
{
    bool out = false;
    assert_int_equal(sl_condition(text, has, NULL, &out, NULL), SL_OK);
    return out;
}

static void a_condition_holds_when_all_its_flags_do(void **state)
{
    (void)state;
    assert_true(holds("tied"));
    assert_false(holds("!tied"));
    assert_true(holds("tied & moe"));
    assert_true(holds("tied&!bias"));
    assert_false(holds("tied & bias"));
    assert_true(holds("!!tied"));
    bool out;
    struct sl_error err;
    assert_int_equal(sl_condition("tied | moe", has, NULL, &out, &err), SL_USAGE);
    assert_non_null(strstr(err.message, "\"&\" is expected"));
    assert_int_equal(sl_condition("tied &", has, NULL, &out, &err), SL_USAGE);
    assert_int_equal(sl_condition("", has, NULL, &out, &err), SL_USAGE);
}

static void a_pattern_binds_layer_and_expert(void **state)
{
    (void)state;
    int32_t layer = 7, expert = 7;
    assert_true(sl_rule_match("decoder.layers.{layer}.mlp.experts.{expert}.w", "decoder.layers.12.mlp.experts.3.w",
                              &layer, &expert));
    assert_int_equal(layer, 12);
    assert_int_equal(expert, 3);
    assert_true(sl_rule_match("output_layer.weight", "output_layer.weight", &layer, &expert));
    assert_int_equal(layer, -1);
    assert_int_equal(expert, -1);
    assert_true(sl_rule_match("fc.weight{expert}", "fc.weight255", NULL, &expert));
    assert_int_equal(expert, 255);
}

static void names_that_only_resemble_a_pattern_do_not_fit(void **state)
{
    (void)state;
    static const char *const names[] = {"a.layers.x.b", "a.layers..b", "a.layers.1.bb", "a.layers.1", "a.layers.01.b",
                                        "a.layers.-1.b", "a.layers.1x.b", "a.layers.12345678901.b", "xa.layers.1.b", ""};
    int32_t layer, expert;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sl_rule_match("a.layers.{layer}.b", names[i], &layer, &expert))
            fail_msg("%s fits", names[i]);
}

static void a_pattern_is_filled_in_and_cut_to_the_room_there_is(void **state)
{
    (void)state;
    char out[64];
    sl_rule_name("decoder.layers.{layer}.e.{expert}.w", 31, 7, out, sizeof out);
    assert_string_equal(out, "decoder.layers.31.e.7.w");
    sl_rule_name("decoder.layers.{layer}.w", 123456, 0, out, 18);
    assert_string_equal(out, "decoder.layers.12");
    sl_rule_name("decoder", 0, 0, out, 1);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_follow_the_rules_of_arithmetic),
        cmocka_unit_test(a_division_with_a_rest_names_both_numbers),
        cmocka_unit_test(what_is_no_expression_is_refused_with_the_reason),
        cmocka_unit_test(a_condition_holds_when_all_its_flags_do),
        cmocka_unit_test(a_pattern_binds_layer_and_expert),
        cmocka_unit_test(names_that_only_resemble_a_pattern_do_not_fit),
        cmocka_unit_test(a_pattern_is_filled_in_and_cut_to_the_room_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
