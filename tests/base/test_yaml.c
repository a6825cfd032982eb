/* YAML run files: the plain part is read, all else is refused with line and column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/value.h"
#include "base/yaml.h"

static struct sl_arena arena;

static const struct sl_value *parse(const char *text)
{
    const struct sl_value *v = NULL;
    struct sl_error err = { 0 };
    if (sl_yaml_parse(text, strlen(text), "run.yaml", &arena, &v, &err))
        fail_msg("%s", err.message);
    return v;
}

static void refused(const char *text, const char *words)
{
    const struct sl_value *v = NULL;
    struct sl_error err = { 0 };
    assert_int_equal(sl_yaml_parse(text, strlen(text), "run.yaml", &arena, &v, &err), SL_INPUT);
    assert_string_equal(err.where, "run.yaml");
    if (!strstr(err.message, words))
        fail_msg("said \"%s\", expected \"%s\"", err.message, words);
}

static void scalars_become_what_they_look_like(void **state)
{
    (void)state;
    const struct sl_value *v = parse("a: 12\nb: 1.5e-5\nc: true\nd: ~\ne: text with blanks\nf: '12'\ng: \"true\"\nh:\n");
    int64_t i;
    double f;
    bool b;
    assert_true(sl_value_int(sl_value_get(v, "a"), &i) && i == 12);
    assert_true(sl_value_double(sl_value_get(v, "b"), &f) && f > 1.49e-5 && f < 1.51e-5);
    assert_true(sl_value_bool(sl_value_get(v, "c"), &b) && b);
    assert_int_equal(sl_value_get(v, "d")->kind, SL_VALUE_NULL);
    assert_string_equal(sl_value_str(sl_value_get(v, "e")), "text with blanks");
    assert_string_equal(sl_value_str(sl_value_get(v, "f")), "12");
    assert_string_equal(sl_value_str(sl_value_get(v, "g")), "true");
    assert_int_equal(sl_value_get(v, "h")->kind, SL_VALUE_NULL);
}

static void lists_and_mappings_nest(void **state)
{
    (void)state;
    const struct sl_value *v = parse("jobs:\n  - {source: a, target: b}\n  - source: c\n    sizes: [7, 8, 9]\n");
    const struct sl_value *jobs = sl_value_get(v, "jobs");
    assert_int_equal(jobs->kind, SL_VALUE_LIST);
    assert_int_equal(jobs->len, 2);
    assert_string_equal(sl_value_str(sl_value_get(jobs->items[0], "target")), "b");
    assert_int_equal(sl_value_get(jobs->items[1], "sizes")->len, 3);
    assert_int_equal(sl_value_get(jobs->items[1], "sizes")->items[2]->i, 9);
}

static void what_is_not_plain_is_refused_with_its_place(void **state)
{
    (void)state;
    refused("a: &x 1\nb: *x\n", "line 1, column 4: anchors and tags");
    refused("a: !!python/object:os.system 1\n", "anchors and tags");
    refused("a: 1\na: 2\n", "line 2, column 1: the name is there twice");
    refused("a: 1\n---\nb: 2\n", "second document");
    refused("a: [1, 2\n", "line ");
    refused("[1]: 2\n", "a name was expected");
    refused("", "is empty");
    refused("a: \xff\n", "UTF-8");
}

static void a_bomb_of_nesting_is_refused(void **state)
{
    (void)state;
    char text[4096];
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    refused(text, "nested too deeply");
}

static int free_arena(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_become_what_they_look_like),
        cmocka_unit_test(lists_and_mappings_nest),
        cmocka_unit_test(what_is_not_plain_is_refused_with_its_place),
        cmocka_unit_test(a_bomb_of_nesting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, free_arena);
}
