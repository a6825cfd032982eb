/* test_schema.c: what --json prints is what docs/schema says, for sound, damaged, mixed and unknown
 * checkpoints. The words of JSON Schema that the files use are few; a word that this test does
 * not know fails it, so that a schema never promises what nobody looks at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/value.h"
#include "program.h"

static struct sl_arena arena;
static const struct sl_value *root;          /* of the schema in use: for $ref */

static const struct sl_value *parsed(const char *text, const char *where)
{
    const struct sl_value *v;
    struct sl_error err;
    if (sl_json_parse(text, strlen(text), where, &arena, &v, &err))
        fail_msg("%s: %s", where, err.message);
    return v;
}

static bool is_type(const struct sl_value *v, const char *type)
{
    switch (v->kind) {
    case SL_VALUE_NULL: return !strcmp(type, "null");
    case SL_VALUE_BOOL: return !strcmp(type, "boolean");
    case SL_VALUE_INT: return !strcmp(type, "integer") || !strcmp(type, "number");
    case SL_VALUE_FLOAT: return !strcmp(type, "number") || (!strcmp(type, "integer") && v->f == (double)(int64_t)v->f);
    case SL_VALUE_STR: return !strcmp(type, "string");
    case SL_VALUE_LIST: return !strcmp(type, "array");
    case SL_VALUE_DICT: return !strcmp(type, "object");
    default: return false;
    }
}

static bool is_one_of(const struct sl_value *v, const struct sl_value *list, bool types)
{
    for (size_t i = 0; i < list->len; i++)
        if (types ? is_type(v, list->items[i]->s) : sl_value_equal(v, list->items[i]))
            return true;
    return false;
}

static const struct sl_value *followed(const struct sl_value *schema)
{
    const char *ref = sl_value_str(sl_value_get(schema, "$ref"));
    if (!ref)
        return schema;
    assert_int_equal(strncmp(ref, "#/$defs/", 8), 0);
    const struct sl_value *def = sl_value_get(sl_value_get(root, "$defs"), ref + 8);
    assert_non_null(def);
    return def;
}

static bool known(const char *word)
{
    static const char *const words[] = { "$schema", "title", "description", "$defs", "$ref", "type", "enum", "minimum", "required",
                                         "properties", "items", "additionalProperties" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i]))
            return true;
    return false;
}

static void fits(const struct sl_value *v, const struct sl_value *schema, const char *path);

static void object_fits(const struct sl_value *v, const struct sl_value *schema, const char *path)
{
    const struct sl_value *required = sl_value_get(schema, "required"), *properties = sl_value_get(schema, "properties");
    const struct sl_value *others = sl_value_get(schema, "additionalProperties");
    for (size_t i = 0; required && i < required->len; i++)
        if (!sl_value_get(v, required->items[i]->s))
            fail_msg("%s: %s is missing", path, required->items[i]->s);
    for (size_t i = 0; i < v->len; i++) {
        char below_path[1024];
        const struct sl_value *one = sl_value_get(properties, v->keys[i]->s);
        snprintf(below_path, sizeof below_path, "%.900s.%s", path, v->keys[i]->s);
        /* fields may be added; those that a schema lists are what it says */
        if (one || others)
            fits(v->items[i], one ? one : others, below_path);
        else if (properties)
            fail_msg("%s: the schema says nothing of this field", below_path);
    }
}

static void fits(const struct sl_value *v, const struct sl_value *given, const char *path)
{
    const struct sl_value *schema = followed(given);
    for (size_t i = 0; i < schema->len; i++)
        if (!known(schema->keys[i]->s))
            fail_msg("%s: the word %s is not looked at by this test", path, schema->keys[i]->s);
    const struct sl_value *type = sl_value_get(schema, "type"), *choices = sl_value_get(schema, "enum");
    const struct sl_value *minimum = sl_value_get(schema, "minimum"), *items = sl_value_get(schema, "items");
    double number;
    if (type && !(type->kind == SL_VALUE_STR ? is_type(v, type->s) : is_one_of(v, type, true)))
        fail_msg("%s: of another type", path);
    if (choices && !is_one_of(v, choices, false))
        fail_msg("%s: %s is none of the choices", path, v->kind == SL_VALUE_STR ? v->s : "it");
    if (minimum && sl_value_double(v, &number) && number < (double)minimum->i)
        fail_msg("%s: %g is too small", path, number);
    if (v->kind == SL_VALUE_DICT)
        object_fits(v, schema, path);
    for (size_t i = 0; items && v->kind == SL_VALUE_LIST && i < v->len; i++) {
        char below_path[1024];
        snprintf(below_path, sizeof below_path, "%.900s[%zu]", path, i);
        fits(v->items[i], items, below_path);
    }
}

static void said_fits(const char *text, const char *name)
{
    char path[128];
    struct sl_error err;
    snprintf(path, sizeof path, "docs/schema/%s.json", name);
    if (sl_json_load(path, 1 << 20, &arena, &root, &err))
        fail_msg("%s: %s", path, err.message);
    fits(parsed(text, name), root, name);
}

static void output_fits(const char *name, int code, const char *command)
{
    struct said s = program("%s --json", command);
    if (s.code != code)
        fail_msg("%s: exit %d, %s", command, s.code, s.err);
    said_fits(s.out, name);
    said_free(&s);
}

static const char *const fixtures[] = { "llama_tp2_pp2", "minicpm_vpp2_tp1_pp2", "llama_release_tp1_pp1",
                                        "qwen3moe_tp2_pp1_ep2_etp1", "mixtral_tp1_pp1_ep2_etp1" };

static void questions_about_a_checkpoint_are_answered_as_the_schemas_say(void **state)
{
    (void)state;
    char command[256];
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        static const char *const commands[][2] = { { "inspect", "" }, { "ls", "" }, { "check", "" }, { "check", " --deep" }, { "plan", " --to hf" },
                                                   { "plan", " --to megatron" } };
        for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
            snprintf(command, sizeof command, "%s tests/fixtures/%s%s", commands[k][0], fixtures[i], commands[k][1]);
            output_fits(commands[k][0], 0, command);
        }
    }
    output_fits("show", 0, "show tests/fixtures/llama_tp2_pp2 decoder.layers.0.mlp.linear_fc1.weight");
    output_fits("models", 0, "models");
}

static void a_report_and_comparisons_are_as_the_schemas_say(void **state)
{
    (void)state;
    output_fits("report", 0, "convert tests/fixtures/llama_tp2_pp2 $T/hf --to hf --progress none");
    output_fits("verify", 0, "verify tests/fixtures/llama_tp2_pp2 $T/hf");
    output_fits("diff", 0, "diff tests/fixtures/llama_tp2_pp2 $T/hf");
    output_fits("verify", 1, "verify tests/fixtures/llama_tp2_pp2 tests/fixtures/minicpm_tp1_pp1");
    output_fits("diff", 1, "diff tests/fixtures/llama_tp2_pp2 tests/fixtures/minicpm_tp1_pp1");
    write_text(below("left.partial.journal"), "");       /* killed before its first line */
    output_fits("attach", 0, "attach $T/left");
    write_text(below("jobs.yaml"), "- {source: tests/fixtures/llama_tp2_pp2, target: /proc/none/x, to: hf}\n");
    output_fits("batch", 5, "batch $T/jobs.yaml");
}

static void what_is_damaged_or_unknown_is_described_as_the_schemas_say(void **state)
{
    (void)state;
    struct said s = program("demo $T/damaged --layout damaged");
    assert_int_equal(s.code, 0);
    said_free(&s);
    output_fits("inspect", 3, "inspect $T/damaged");
    output_fits("check", 1, "check $T/damaged --deep");
    output_fits("inspect", 0, "inspect tests/fixtures/llama_noargs_tp2_pp1");
    output_fits("inspect", 0, "inspect tests/fixtures/llama.expected.safetensors");
    output_fits("inspect", 0, "inspect tests/fixtures/dist/llama_tp2_pp2");
    output_fits("ls", 0, "ls tests/fixtures/dist/llama_tp2_pp2");
    output_fits("show", 0, "show tests/fixtures/dist/llama_tp2_pp2 decoder.layers.0.mlp.linear_fc1.weight");
    output_fits("plan", 0, "plan tests/fixtures/dist/llama_tp2_pp2 --to hf");
    output_fits("check", 1, "check tests/fixtures/dist/bad/hole");
    output_fits("ls", 0, "ls tests/fixtures/llama.expected.safetensors");
}

static void every_line_of_progress_is_as_the_schema_says(void **state)
{
    (void)state;
    struct said s = program("convert tests/fixtures/llama_tp2_pp2 $T/again --to hf --progress json");
    assert_int_equal(s.code, 0);
    size_t lines = 0;
    for (char *save, *line = strtok_r(s.err, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (*line == '{') {
            said_fits(line, "progress");
            lines++;
        }
    assert_true(lines >= 1);
    said_free(&s);
}

static void a_field_of_another_type_is_found(void **state)
{
    (void)state;
    root = parsed("{\"type\": \"object\", \"properties\": {\"a\": {\"type\": [\"integer\", \"null\"], \"minimum\": 0}}}", "schema");
    fits(parsed("{\"a\": 3}", "document"), root, "document");
    fits(parsed("{\"a\": null}", "document"), root, "document");
    assert_false(is_type(parsed("[\"x\"]", "document")->items[0], "integer"));
    assert_false(is_one_of(parsed("[true]", "document")->items[0], sl_value_get(sl_value_get(sl_value_get(root, "properties"), "a"), "type"), true));
}

static int end(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    remove_tree(program_tmp);
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_about_a_checkpoint_are_answered_as_the_schemas_say),
        cmocka_unit_test(a_report_and_comparisons_are_as_the_schemas_say),
        cmocka_unit_test(what_is_damaged_or_unknown_is_described_as_the_schemas_say),
        cmocka_unit_test(every_line_of_progress_is_as_the_schema_says),
        cmocka_unit_test(a_field_of_another_type_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
