/* test_familycheck.c: the families that are built in are whole, and so is the worked example of the guide; a mistake in it is
 * found, and said with its line. */
#include "../base/testing.h"

#include "base/io.h"
#include "plan/familycheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAMILIES "src/model/families"

static char folder[256], path[300];
static char *example;                    /* the JSON of docs/families.md */

TEST(every_family_that_is_built_in_is_whole)
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count, tried = 0;
    struct sl_error err;
    assert_int_equal(sl_folder_list(FAMILIES, 1000, &arena, &names, &count, &err), SL_OK);
    for (size_t i = 0; i < count; i++) {
        struct sl_family_verdict v;
        char file[300];
        snprintf(file, sizeof file, FAMILIES "/%s", names[i]);
        if (sl_family_try(file, &v, &err))
            fail_msg("%s: %s", file, err.message);
        if (v.count)
            fail_msg("%s:%ld: %s: %s", file, v.findings[0].line, v.findings[0].place, v.findings[0].message);
        if (!v.abstract && v.layouts < 6)
            fail_msg("%s: only %zu layouts were compared", file, v.layouts);
        tried += !v.abstract;
        sl_family_verdict_free(&v);
    }
    assert_true(tried >= 20);
    sl_arena_free(&arena);
}

/* Tries the example with one text put for another (NULL: as it is). */
static void try_changed(const char *from, const char *to, struct sl_family_verdict *v)
{
    struct sl_error err = { .code = SL_OK };
    const char *at = from ? strstr(example, from) : NULL;
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(!from || at);
    if (at)
        fprintf(out, "%.*s%s%s", (int)(at - example), example, to, at + strlen(from));
    else
        fputs(example, out);
    fclose(out);
    if (sl_family_try(path, v, &err))
        fail_msg("%s: %s", err.where, err.message);
}

TEST(the_worked_example_is_whole)
{
    struct sl_family_verdict v;
    try_changed(NULL, NULL, &v);
    assert_int_equal(v.count, 0);
    assert_string_equal(v.family, "glm4");
    assert_int_equal(v.params, 33);                      /* 31 of base, and two norms */
    assert_int_equal(v.rules[SL_DIALECT_HF], 16);
    assert_int_equal(v.layouts, 12);                     /* two spellings, three forms, with and without what may be absent */
    sl_family_verdict_free(&v);
}

/* The line of the text that was changed. */
static long line_of(const char *text)
{
    long line = 1;
    for (const char *p = example; p < strstr(example, text); p++)
        line += *p == '\n';
    return line;
}

TEST(a_mistake_is_said_with_its_line_and_its_place)
{
    static const struct { const char *from, *to, *line, *place, *says; } cases[] = {
        { "\"attn.post_norm: hidden\"", "\"attn.post_nrm: hidden\"", "post_self_attn", "tensors.hf", "\"attn.post_nrm\" is no param" },
        { "\"map\": \"final_norm: hidden\"", "\"mop\": \"final_norm: hidden\"", "model.norm.weight", "tensors.hf", "\"mop\" is not known here" },
        { "& !o_bias", "& !obias", "\"needs\"", "needs", "no flag \"obias\"" },
        { "\"when\": \"!tied\"", "\"when\": \"!tyed\"", "lm_head.weight", "tensors.hf (lm_head.weight)", "no flag \"tyed\"" },
        { "\"when\": \"!tied\"", "\"when\": \"!tied |\"", "lm_head.weight", "tensors.hf", "\"&\" is expected" },
        { "[mlp.gate: ffn | mlp.up: ffn] hidden", "mlp.gate: ffn hidden", "\"hf\": [", "tensors.hf", "no row holds the param layers.0.mlp.up" },
        { "[mlp.gate: ffn | mlp.up: ffn] hidden", "[mlp.gate: ffn | mlp.up: ffn/2] hidden", "gate_up_proj.weight", "tensors.hf ([mlp.gate: ffn", "'ffn/2' has a divisor" },
        { "attn.q: (group q_per_group head) hidden", "attn.q: (group head) hidden", "q_proj.weight", "tensors.hf (attn.q: (group head) hidden)", "'q_per_group' is missing" },
        { "attn.k: (group head) hidden", "attn.q: (group q_per_group head) hidden", "\"hf\": [", "tensors.hf", "layers.0.attn.k" },
        { "post_attn_norm.weight\", \"map\": \"attn.post_norm: hidden\"", "post_attn_norm.weight\", \"map\": \"attn.post_norm: hidden\", \"cut\": \"tp:1\"",
          "decoder.layers.{layer}.post_attn_norm.weight", "tensors.megatron", "cut at axis 1, and its map has 1 axes" },
        { "\"rotary_percent\", \"kind\"", "\"rotary_persent\", \"kind\"", "partial_rotary_factor", "config (partial_rotary_factor)", "rotary_persent" },
        { "\"key\": \"vocab\"", "\"key\": \"vocab_sise\"", "the vocabulary has", "detect", "vocab_sise" },
        { "\"weight\": 60", "\"weight\": 6000", "the vocabulary has", "detect", "from -1000 to 1000" },
        { "\"inherits\": \"base\"", "\"inherits\": \"bass\"", NULL, "inherits", "no family \"bass\"" },
        { "\"architecture\": \"Glm4ForCausalLM\", ", "", "\"hf\": {", "hf", "is missing" },
        { "\"params\": {", "\"params\": [", NULL, "file", "not JSON: line" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_family_verdict v;
        try_changed(cases[i].from, cases[i].to, &v);
        if (!v.count || v.findings[0].severity != SL_ERROR)
            fail_msg("\"%s\" was not found wrong", cases[i].to);
        const struct sl_family_finding *f = &v.findings[0];
        if (!strstr(f->place, cases[i].place) || !strstr(f->message, cases[i].says))
            fail_msg("\"%s\": %s: %s", cases[i].to, f->place, f->message);
        if (cases[i].line && f->line != line_of(cases[i].line))
            fail_msg("\"%s\": line %ld, not %ld", cases[i].to, f->line, line_of(cases[i].line));
        sl_family_verdict_free(&v);
    }
}

TEST(a_file_that_is_not_there_is_an_error)
{
    struct sl_family_verdict v;
    struct sl_error err;
    assert_int_not_equal(sl_family_try("/nowhere/family.json", &v, &err), SL_OK);
    sl_family_verdict_free(&v);
}

static int begin(void **state __attribute__((unused)))
{
    static char guide[65536];
    snprintf(folder, sizeof folder, "/tmp/shardlens-family-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/glm4.json", folder);
    FILE *in = fopen("docs/families.md", "r");
    if (!in)
        return -1;
    guide[fread(guide, 1, sizeof guide - 1, in)] = '\0';
    fclose(in);
    example = strstr(guide, "```json\n");
    if (!example)
        return -1;
    example += 8;
    *strstr(example, "```") = '\0';
    return 0;
}

static int end(void **state __attribute__((unused)))
{
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_family_that_is_built_in_is_whole),
        ROW(the_worked_example_is_whole),
        ROW(a_mistake_is_said_with_its_line_and_its_place),
        ROW(a_file_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
