/* test_family.c: family files: the built-in ones, parents, and refusals that
 * name file, row and reason. */
#include "../base/testing.h"

#include "model/embedded.h"
#include "model/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/shardlens-family-XXXXXX";

static const char *write_file(const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/made.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void refused(const char *text, const char *why)
{
    struct sl_families f;
    struct sl_error err;
    const char *path = write_file(text);
    assert_int_equal(sl_families_load(path, &f, &err), SL_USAGE);
    assert_string_equal(err.where, path);
    if (!strstr(err.message, why))
        fail_msg("message is \"%s\", not \"%s\"", err.message, why);
}

static const struct sl_rule *rule_of(const struct sl_family *f, enum sl_dialect d, const char *name, const char *when)
{
    for (size_t i = 0; i < f->rule_count[d]; i++) {
        const struct sl_rule *r = &f->rules[d][i];
        if (!strcmp(r->name, name) && (!when ? !r->when : r->when && !strcmp(r->when, when)))
            return r;
    }
    return NULL;
}

static void the_built_in_families_are_read_and_the_abstract_one_is_not_listed(void **state)
{
    (void)state;
    struct sl_families f;
    struct sl_error err = {.code = SL_OK};
    assert_int_equal(sl_families_load(NULL, &f, &err), SL_OK);
    assert_non_null(sl_family_find(&f, "llama"));
    assert_non_null(sl_family_find(&f, "minicpm"));
    assert_null(sl_family_find(&f, "base"));
    assert_string_equal(sl_family_find(&f, "minicpm")->hf_architecture, "MiniCPMForCausalLM");
    sl_families_free(&f);
}

static void a_child_has_its_parents_rules_and_needs(void **state)
{
    (void)state;
    struct sl_families f;
    assert_int_equal(sl_families_load(NULL, &f, NULL), SL_OK);
    const struct sl_family *m = sl_family_find(&f, "minicpm");
    const struct sl_rule *qkv = rule_of(m, SL_DIALECT_MEGATRON, "decoder.layers.{layer}.self_attention.linear_qkv.weight", "!mla");
    assert_non_null(qkv);
    assert_string_equal(qkv->map, "(group [attn.q: q_per_group head | attn.k: head | attn.v: head]) hidden");
    assert_string_equal(qkv->cut_over, "tp");
    assert_int_equal(qkv->cut_axis, 0);
    assert_int_equal(qkv->stage, SL_STAGE_LAYER);
    const struct sl_rule *proj = rule_of(m, SL_DIALECT_MEGATRON, "decoder.layers.{layer}.self_attention.linear_proj.weight", "!mla");
    assert_int_equal(proj->cut_axis, 1);
    const struct sl_rule *norm = rule_of(m, SL_DIALECT_MEGATRON, "decoder.layers.{layer}.input_layernorm.weight", "!mla");
    assert_string_equal(norm->spec, "local");
    assert_null(norm->cut_over);
    const struct sl_rule *head = rule_of(m, SL_DIALECT_MEGATRON, "output_layer.weight", "!tied");
    assert_int_equal(head->stage, SL_STAGE_LAST);
    assert_non_null(strstr(m->needs, "gated"));
    assert_non_null(strstr(m->needs, "!qk_norm"));
    sl_families_free(&f);
}

static void families_that_always_have_norms_on_q_and_k_are_these(void **state)
{
    (void)state;
    struct sl_families f;
    assert_int_equal(sl_families_load(NULL, &f, NULL), SL_OK);
    for (size_t i = 0; i < f.count; i++) {
        const bool has = rule_of(&f.items[i], SL_DIALECT_MEGATRON,
                                 "decoder.layers.{layer}.self_attention.q_layernorm.weight", NULL) != NULL;
        static const char *const those[] = {"qwen3", "qwen3-moe", "gemma3", "olmoe"};
        bool one_of_those = false;
        for (size_t k = 0; k < sizeof those / sizeof *those; k++)
            one_of_those |= !strcmp(those[k], f.items[i].name);
        if (has != (one_of_those))
            fail_msg("%s", f.items[i].name);
    }
    sl_families_free(&f);
}

static void a_rule_may_have_aliases_that_are_never_written(void **state)
{
    (void)state;
    struct sl_families f;
    assert_int_equal(sl_families_load(NULL, &f, NULL), SL_OK);
    const struct sl_family *l = sl_family_find(&f, "llama");
    const struct sl_rule *old = rule_of(l, SL_DIALECT_LEGACY, "language_model.transformer.layers.{layer}.input_layernorm.weight", NULL);
    assert_non_null(old);
    assert_true(old->alias);
    const struct sl_rule *now = rule_of(l, SL_DIALECT_LEGACY, "language_model.encoder.layers.{layer}.input_norm.weight", NULL);
    assert_false(now->alias);
    assert_string_equal(old->map, now->map);
    sl_families_free(&f);
}

static void a_family_of_the_users_own_joins_the_others(void **state)
{
    (void)state;
    struct sl_families f;
    struct sl_error err = {.code = SL_OK};
    const char *path = write_file("{\"family\": \"mine\", \"inherits\": \"llama\","
        " \"hf\": {\"architecture\": \"MineForCausalLM\", \"model_type\": \"mine\"},"
        " \"tensors\": {\"hf\": [{\"name\": \"lm_head.weight\", \"map\": \"lm_head: vocab hidden\", \"when\": \"!tied\"}]}}");
    assert_int_equal(sl_families_load(path, &f, &err), SL_OK);
    const struct sl_family *mine = sl_family_find(&f, "mine");
    assert_non_null(mine);
    assert_string_equal(mine->title, "mine");
    size_t heads = 0;
    for (size_t i = 0; i < mine->rule_count[SL_DIALECT_HF]; i++)
        heads += !strcmp(mine->rules[SL_DIALECT_HF][i].name, "lm_head.weight");
    assert_int_equal(heads, 1);                    /* both of the parent's rows are replaced */
    assert_int_equal(mine->param_count, sl_family_find(&f, "llama")->param_count);
    sl_families_free(&f);
}

/* The JSON block of docs/families.md, so that the guide can't go stale. */
static void the_worked_example_of_the_guide_is_a_family(void **state)
{
    (void)state;
    static char guide[65536];
    struct sl_families f;
    struct sl_error err = {.code = SL_OK};
    FILE *in = fopen("docs/families.md", "r");
    assert_non_null(in);
    const size_t len = fread(guide, 1, sizeof guide - 1, in);
    fclose(in);
    guide[len] = '\0';
    char *begin = strstr(guide, "```json\n");
    assert_non_null(begin);
    begin += 8;
    *strstr(begin, "```") = '\0';
    if (sl_families_load(write_file(begin), &f, &err))
        fail_msg("%s: %s", err.where, err.message);
    const struct sl_family *own = sl_family_find(&f, "glm4");
    assert_int_equal(own->rule_count[SL_DIALECT_HF], 16);         /* nothing of the parent's is left */
    assert_true(own->rule_count[SL_DIALECT_MEGATRON] > 16);
    assert_non_null(strstr(own->needs, "!o_bias"));
    assert_null(strstr(own->needs, "!post_norms"));               /* allowed: out of the parents' condition */
    assert_null(strstr(own->needs, "!rope_interleaved"));
    assert_non_null(strstr(own->needs, "!learned_positions"));
    sl_families_free(&f);
}

static void mistakes_are_refused_with_file_row_and_reason(void **state)
{
    (void)state;
    refused("[1]", "a JSON object is expected");
    refused("{\"title\": \"x\"}", "\"family\" (its name) is missing");
    refused("{\"family\": \"x\", \"colour\": 1}", "\"colour\" is not known here");
    refused("{\"family\": \"x\", \"replaces\": [\"tensors\"]}", "\"replaces\" is \"tensors\", which is not known");
    refused("{\"family\": \"x\", \"inherits\": \"nobody\"}", "there is no family \"nobody\"");
    refused("{\"family\": \"x\", \"inherits\": \"x\", \"abstract\": true}", "circle");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"hf\": {\"architecture\": 3}}", "\"architecture\" must be a text");
    refused("{\"family\": \"x\"}", "\"architecture\" is missing");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"needs\": \"gated |\"}", "\"&\" is expected");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"dims\": {\"head\": \"hidden_sice/2\"}}",
            "dims, row 5 (head): expression \"hidden_sice/2\": \"hidden_sice\" is not known");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"params\": {\"embed\": \"vocab hiden\"}}",
            "params, row 1 (embed): expression \"hiden\": \"hiden\" is not known");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"megatron\": [{\"map\": \"embed: vocab\"}]}}",
            "tensors.megatron, row 1 (no name): \"name\" is missing");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"megatron\": [{\"name\": \"a\"}]}}",
            "tensors.megatron, row 1 (a): \"map\" is missing");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"hf\": [{\"name\": \"a\", \"map\": \"embet: vocab\"}]}}",
            "\"embet\" is no param");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"hf\": [{\"name\": \"a\", \"map\": \"norm: hidden\"}]}}",
            "\"norm\" may be several params");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"hf\": [{\"name\": \"a\", \"map\": \"embed: vocab\","
            " \"cut\": \"pp:0\"}]}}", "\"cut\" must be \"tp:AXIS\" or \"etp:AXIS\"");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"tensors\": {\"hf\": [{\"name\": \"a\", \"map\": \"embed: vocab\","
            " \"stage\": \"middle\"}]}}", "\"stage\" is \"middle\", which is not known");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"config\": [{\"hf\": \"a\", \"megatron\": \"nothing\"}]}",
            "no setting is called \"nothing\"");
    refused("{\"family\": \"x\", \"inherits\": \"llama\", \"detect\": [{\"says\": \"a\", \"weight\": 5}]}",
            "\"when\" or \"key\" is missing");
}

static void a_file_that_is_no_json_is_refused(void **state)
{
    (void)state;
    struct sl_families f;
    struct sl_error err;
    assert_int_not_equal(sl_families_load(write_file("{\"family\": "), &f, &err), SL_OK);
    assert_int_not_equal(sl_families_load("/nowhere/at/all.json", &f, &err), SL_OK);
}

static void the_table_of_facts_is_whole(void **state)
{
    (void)state;
    const struct sl_facts *f = sl_facts();
    bool invert;
    assert_true(f->name_count > 100 && f->setting_count > 40 && f->look_count > 30);
    for (size_t i = 0; i < f->name_count; i++)
        assert_true(*f->names[i].name);
    for (size_t i = 0; i < f->setting_count; i++)
        assert_ptr_equal(sl_setting_rule_find(f->settings[i].key, &invert), &f->settings[i]);
    for (size_t i = 0; i < f->flag_count; i++)
        if (!sl_setting_rule_find(f->flags[i].key, &invert))
            fail_msg("flag %s looks at %s, which is no setting", f->flags[i].flag, f->flags[i].key);
    assert_non_null(sl_setting_rule_find("untie_embeddings_and_output_weights", &invert));
    assert_true(invert);
    assert_string_equal(sl_setting_rule_find("num_key_value_heads", &invert)->key, "num_query_groups");
    assert_string_equal(sl_setting_nearest("kv_chanels"), "kv_channels");
    assert_null(sl_setting_nearest("xyzzyplugh"));
}

static int make_folder(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", "/nowhere", 1);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/made.json", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_families_are_read_and_the_abstract_one_is_not_listed),
        cmocka_unit_test(a_child_has_its_parents_rules_and_needs),
        cmocka_unit_test(families_that_always_have_norms_on_q_and_k_are_these),
        cmocka_unit_test(a_rule_may_have_aliases_that_are_never_written),
        cmocka_unit_test(a_family_of_the_users_own_joins_the_others),
        cmocka_unit_test(the_worked_example_of_the_guide_is_a_family),
        cmocka_unit_test(mistakes_are_refused_with_file_row_and_reason),
        cmocka_unit_test(a_file_that_is_no_json_is_refused),
        cmocka_unit_test(the_table_of_facts_is_whole),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
