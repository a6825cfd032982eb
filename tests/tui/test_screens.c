/* Screens as functions: keys in, text out, against screens that a person has
 * looked at (golden/). `make golden` writes them again; read the difference. */
#include "base/text.h"
#include "tui/tui.h"
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LLAMA "tests/fixtures/llama_tp2_pp2"
#define MINICPM "tests/fixtures/minicpm_tp1_pp2"
#define MOE "tests/fixtures/qwen3moe_tp2_pp1_ep2_etp1"
#define OTHER "tests/fixtures/mixtral_tp1_pp1_ep2_etp1"
#define DOWN_33 "jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj"
#define HF "tests/fixtures/llama.hf"
#define CHUNKS "tests/fixtures/minicpm_vpp2_tp1_pp2"

static char *file_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = calloc(1, 200001);
    size_t n = text ? fread(text, 1, 200000, f) : 0;
    if (text)
        text[n] = '\0';
    fclose(f);
    return text;
}

/* The golden file must hold exactly this text; with SHARDLENS_GOLDEN set it is written. */
static void compare(const char *name, const char *got)
{
    char path[256];
    snprintf(path, sizeof path, "tests/tui/golden/%s.txt", name);
    if (getenv("SHARDLENS_GOLDEN")) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fputs(got, f);
        assert_int_equal(fclose(f), 0);
        return;
    }
    char *want = file_text(path);
    if (!want || strcmp(want, got))
        print_message("%s differs; make golden writes it again. Now:\n%s\n", path, got);
    assert_non_null(want);
    assert_string_equal(want, got);
    free(want);
}

static char *render(const char *path, const char *keys, int cols, int rows, bool ascii)
{
    struct sl_tui_options o = { .path = path, .ascii = ascii, .frozen = true };
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    int code = sl_tui_render(&o, keys, cols, rows, &out, &err);
    if (code)
        print_message("%s: %s\n", err.where, err.message);
    assert_int_equal(code, 0);
    assert_false(out.failed);
    return out.data;
}

static const struct { const char *name, *path, *keys; int cols, rows; bool utf8; } cases[] = {
    { "overview-80x24", LLAMA, "", 80, 24, false },
    { "overview-140x40", LLAMA, "", 140, 40, false },
    { "overview-140x40-utf8", LLAMA, "", 140, 40, true },
    { "overview-40x10", LLAMA, "", 40, 10, false },
    { "overview-20x2", LLAMA, "", 20, 2, false },
    { "overview-evidence-80x24", LLAMA, "<Tab>", 80, 24, false },
    { "overview-settings-80x24", LLAMA, "<Tab><Tab>", 80, 24, false },
    { "overview-card-80x24", LLAMA, "f", 80, 24, false },
    { "overview-minicpm-80x24", MINICPM, "", 80, 24, false },
    { "overview-moe-80x24", MOE, "", 80, 24, false },
    { "overview-moe-140x40", MOE, "", 140, 40, false },
    { "overview-experts-80x24", MOE, "<BackTab>", 80, 24, false },
    { "overview-layers-80x24", LLAMA, "b", 80, 24, false },
    { "overview-hf-80x24", HF, "", 80, 24, false },
    { "overview-missing-path-80x24", "tests/fixtures/no-such-checkpoint", "", 80, 24, false },
    { "tensors-80x24", LLAMA, "2", 80, 24, false },
    { "tensors-140x40", LLAMA, "2jjj<Right>jj", 140, 40, false },
    { "tensors-moe-80x24", MOE, "2/mlp.experts<Enter>", 80, 24, false },
    { "tensors-marked-80x24", LLAMA, "2jjj ", 80, 24, false },
    { "tensors-40x10", LLAMA, "2", 40, 10, false },
    { "tensors-by-file-80x24", LLAMA, "2<Tab><Right>", 80, 24, false },
    { "tensors-by-rank-80x24", LLAMA, "2<Tab><Tab><Right>j<Right>jj<Right>", 80, 24, false },
    { "tensors-search-80x24", LLAMA, "2/qkv layer:1-2<Enter>", 80, 24, false },
    { "tensors-searching-80x24", LLAMA, "2/norm", 80, 24, false },
    { "inspect-80x24", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter>", 80, 24, false },
    { "inspect-140x40", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter><Right>", 140, 40, false },
    { "inspect-140x40-utf8", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter><Right>", 140, 40, true },
    { "inspect-40x10", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter>", 40, 10, false },
    { "inspect-values-80x24", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter>vjj", 80, 24, false },
    { "inspect-blocks-of-fc1-80x24", LLAMA, "2/layers.1.mlp.linear_fc1<Enter><Enter>x", 80, 24, false },
    { "inspect-meaning-80x24", LLAMA, "2/layers.1.mlp.linear_fc1<Enter><Enter><Tab>", 80, 24, false },
    { "inspect-quantiles-80x24", LLAMA, "2/layers.1.mlp.linear_fc2<Enter><Enter>HH", 80, 24, false },
    { "inspect-compare-80x24", LLAMA, "2/layers.1.input_layernorm<Enter><Enter>c", 80, 24, false },
    { "inspect-difference-140x40", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter>xxxc", 140, 40, false },
    { "inspect-copies-80x24", LLAMA, "2/layers.1.input_layernorm<Enter><Enter>", 80, 24, false },
    { "inspect-layout-80x24", LLAMA, "2/layers.1.self_attention.linear_qkv<Enter><Enter>L", 80, 24, false },
    { "overview-chunks-80x24", CHUNKS, "", 80, 24, false },
    { "overview-chunks-folded-80x24", CHUNKS, "d", 80, 24, false },
    { "map-80x24", LLAMA, "4j", 80, 24, false },
    { "map-140x40", LLAMA, "4j", 140, 40, false },
    { "map-40x10", LLAMA, "4j", 40, 10, false },
    { "map-sources-80x24", LLAMA, "4<Tab>jjj", 80, 24, false },
    { "map-left-out-80x24", LLAMA, "4<Tab><Tab>", 80, 24, false },
    { "map-of-tensor-80x24", LLAMA, "2/linear_fc2<Enter>m", 80, 24, false },
    { "map-pieces-80x24", LLAMA, "4j<Enter>j", 80, 24, false },
    { "map-pieces-40x10", LLAMA, "4j<Enter>j", 40, 10, false },
    { "map-range-80x24", LLAMA, "4jjr10:20,4:8<Enter>", 80, 24, false },
    { "map-elements-140x40", LLAMA, "4jjr#15:1000<Enter>", 140, 40, false },
    { "map-bytes-80x24", LLAMA, "4r@30000:40000<Enter>", 80, 24, false },
    { "map-source-range-80x24", LLAMA, "4<Tab>jjjr20:50<Enter>j", 80, 24, false },
    { "map-source-padding-80x24", LLAMA, "4<Tab>/word_emb<Enter>j", 80, 24, false },
    { "map-copies-80x24", LLAMA, "4<Tab>/copy<Enter>", 80, 24, false },
    { "map-no-range-80x24", LLAMA, "4r100:200<Enter>", 80, 24, false },
    { "convert-80x24", LLAMA, "5", 80, 24, false },
    { "convert-140x40", LLAMA, "5", 140, 40, false },
    { "convert-40x10", LLAMA, "5", 40, 10, false },
    { "convert-exists-80x24", LLAMA, "5<Enter><C-u>tests/fixtures/llama.hf<Enter>", 80, 24, false },
    { "convert-bad-size-80x24", LLAMA, "5jjj<Enter><C-u>many<Enter>", 80, 24, false },
    { "convert-megatron-80x24", LLAMA, "5k<Right><Right><Right>", 80, 24, false },
    { "convert-megatron-140x40", LLAMA, "5k<Right><Right><Right>j<Right>", 140, 40, false },
    { "convert-megatron-40x10", LLAMA, "5k<Right><Right><Right>j", 40, 10, false },
    { "convert-misfit-80x24", LLAMA, "5k<Right><Right><Right>j<Enter><C-u>3<Enter>", 80, 24, false },
    { "convert-misfit-140x40", LLAMA, "5k<Right><Right><Right>j<Enter><C-u>3<Enter>", 140, 40, false },
    { "convert-stages-80x24", LLAMA, "5k<Right><Right><Right>jj<Enter><C-u>2<Enter>jj<Enter>1,2<Enter>", 80, 24, false },
    { "convert-moe-80x24", MOE, "5k<Right><Right><Right>jjjj", 80, 24, false },
    { "convert-dist-80x24", LLAMA, "5k<Right><Right><Right><Right>", 80, 24, false },
    { "convert-one-file-80x24", "tests/fixtures/llama.expected.safetensors", "5", 80, 24, false },
    { "convert-13x3", LLAMA, "5", 13, 3, false },
    { "run-none-80x24", LLAMA, "6", 80, 24, false },
    { "report-none-80x24", LLAMA, "7", 80, 24, false },
    { "diff-none-80x24", LLAMA, "8", 80, 24, false },
    { "diff-equal-80x24", LLAMA, "8<Enter>tests/fixtures/llama_tp4_pp2<Enter><wait>", 80, 24, false },
    { "diff-all-80x24", LLAMA, "8<Enter>tests/fixtures/llama_tp4_pp2<Enter><wait>a", 80, 24, false },
    { "diff-80x24", MOE, "8<Enter>" OTHER "<Enter><wait>aG", 80, 24, false },
    { "diff-140x40", MOE, "8<Enter>" OTHER "<Enter><wait>a" DOWN_33, 140, 40, false },
    { "diff-40x10", MOE, "8<Enter>" OTHER "<Enter><wait>", 40, 10, false },
    { "diff-13x3", MOE, "8<Enter>" OTHER "<Enter><wait>", 13, 3, false },
    { "diff-layers-80x24", MOE, "8<Enter>" OTHER "<Enter><wait><Tab>", 80, 24, false },
    { "diff-settings-80x24", MOE, "8<Enter>" OTHER "<Enter><wait><Tab><Tab>", 80, 24, false },
    { "diff-missing-80x24", LLAMA, "8<Enter>tests/fixtures/none<Enter><wait>", 80, 24, false },
    { "help-80x24", LLAMA, "?", 80, 24, false },
    { "help-40x10", LLAMA, "?", 40, 10, false },
    { "reason-80x24", LLAMA, "p", 80, 24, false },
};
#define CASES (sizeof cases / sizeof cases[0])

static void every_screen_is_the_one_that_was_looked_at(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        char *got = render(cases[i].path, cases[i].keys, cases[i].cols, cases[i].rows, !cases[i].utf8);
        compare(cases[i].name, got);
        free(got);
    }
}

static void ascii_screens_hold_only_ascii(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        if (cases[i].utf8)
            continue;
        char *got = render(cases[i].path, cases[i].keys, cases[i].cols, cases[i].rows, true);
        for (const char *s = got; *s; s++)
            assert_true(*s == '\n' || (*s >= ' ' && *s < 127));
        free(got);
    }
}

static void finer_glyphs_stand_in_the_same_cells(void **state)
{
    (void)state;
    char *ascii = render(LLAMA, "", 140, 40, true), *utf8 = render(LLAMA, "", 140, 40, false);
    const char *a = ascii, *u = utf8;
    for (; *a && *u; a++, u++) {                 /* letters and digits are the same, one for one */
        while ((*u & 0xc0) == 0x80)
            u++;
        if ((*a >= 'a' && *a <= 'z') || (*a >= '0' && *a <= '9'))
            assert_int_equal(*a, *u);
    }
    free(ascii);
    free(utf8);
}

/* A key gives an effect or a reason, never nothing: the screen changes, or it could not. */
static void every_key_does_something_or_says_why(void **state)
{
    (void)state;
    static const char keys[] = "abcdefhijklmnopqrstuvwxyzABCDEFHIJKLMNOPRSTUVWXYZ0123456789!@#$%^&*()-_=+[]{};:'\",./\\|`~";
    for (char screen = '1'; screen <= '8'; screen++)
        for (const char *k = keys; *k; k++) {
            char before[2] = { screen, '\0' }, after[16] = { screen, *k, '\0' };
            if (*k == screen || *k == 'q' || (screen == '5' && *k == 'S'))     /* START writes: test_terminal.c */
                continue;
            char *a = render(LLAMA, before, 80, 24, true), *b = render(LLAMA, after, 80, 24, true);
            /* at the edge of a list a move has nothing to show */
            if (!strchr("hjkl", *k) && strcmp(a, b) == 0)
                print_message("key %c on screen %c changed nothing\n", *k, screen);
            if (!strchr("hjkl", *k))
                assert_string_not_equal(a, b);
            free(a);
            free(b);
        }
}

static void any_character_can_be_searched_for(void **state)
{
    (void)state;
    for (int ch = ' '; ch < 127; ch++) {
        char keys[32], want[32];
        snprintf(keys, sizeof keys, ch == '<' ? "2/x<lt>y" : "2/x%cy", ch);
        snprintf(want, sizeof want, "/ x%cy", ch);
        char *got = render(LLAMA, keys, 80, 24, true);
        assert_non_null(strstr(got, want));
        free(got);
    }
}

static void escape_ends_a_search_where_it_began(void **state)
{
    (void)state;
    char *before = render(LLAMA, "2jjjj", 80, 24, true), *after = render(LLAMA, "2jjjj/norm<Esc>", 80, 24, true);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void the_selection_survives_folding_and_resizing(void **state)
{
    (void)state;
    char *before = render(LLAMA, "2jjj<Right>jj", 80, 24, true);
    char *after = render(LLAMA, "2jjj<Right>jj<40x10><120x50><80x24>", 80, 24, true);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void the_key_table_makes_the_document(void **state)
{
    (void)state;
    struct sl_buf out = { 0 };
    sl_tui_keys_markdown(&out);
    if (getenv("SHARDLENS_GOLDEN")) {
        FILE *f = fopen("docs/keys.md", "wb");
        assert_non_null(f);
        fputs(out.data, f);
        assert_int_equal(fclose(f), 0);
    }
    char *text = file_text("docs/keys.md");
    assert_non_null(text);
    assert_string_equal(text, out.data);
    free(text);
    sl_buf_free(&out);
}

static void every_size_can_be_drawn(void **state)
{
    (void)state;
    static const int heights[] = { 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 18, 21, 24, 30, 40, 60, 100 };
    static const int widths[] = { 1, 2, 3, 5, 8, 13, 20, 29, 30, 31, 40, 47, 60, 61, 79, 80, 100, 119, 120, 139, 140, 200, 300 };
    for (size_t h = 0; h < sizeof heights / sizeof heights[0]; h++) {
        struct sl_buf keys = { 0 };
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
            sl_buf_printf(&keys, "<%dx%d>1f<Esc><Tab><Tab><Tab>2jjl/a<Esc>3v<Right>v4jl<Tab><Tab><Tab>5jj6 7 8<Tab><Tab><Tab>?j?y", widths[w], heights[h]);
        char *got = render(LLAMA, keys.data, 80, 24, h % 2 == 0);
        free(got);
        sl_buf_free(&keys);
    }
}

static void nothing_is_written_before_start(void **state)
{
    (void)state;
    char *got = render(LLAMA, "45jj kk<Right><Left>67", 80, 24, true);
    free(got);
    assert_null(file_text("tests/fixtures/llama_tp2_pp2-hf/config.json"));
}

/* Nothing waits for the work of these keys: it ends with the screens it was for. */
static void the_end_may_come_while_anything_runs(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "b", "bbb", "2j3", "2/qkv<Enter><Enter>", "2/qkv<Enter><Enter>c", "2/qkv<Enter><Enter>v<Tab>xc]]", "4", "45<Right><Right>4", "5k<Right><Right><Right>j<Right>R",
        "8<Enter>tests/fixtures/llama_tp4_pp2<Enter>", "8<Enter>tests/fixtures/llama_tp4_pp2<Enter><Tab>R", "8<Enter>tests/fixtures/none<Enter>8<Enter>" MOE "<Enter>",
        "8oa<Enter>tests/fixtures/llama_tp4_pp2<Enter><wait>ao", "D", "DR", "R", "RRR2345", "DD", "yw", "2z3v1b5",
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        for (int settled = 0; settled < 2; settled++) {
            char script[256];
            snprintf(script, sizeof script, "<hurry>%s%s", keys[i], settled ? "<wait>b<hurry>R" : "");
            free(render(i % 2 ? MOE : LLAMA, script, 80, 24, true));
        }
}

static void a_wrong_script_is_named(void **state)
{
    (void)state;
    struct sl_tui_options o = { .path = LLAMA, .ascii = true, .frozen = true };
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    assert_int_equal(sl_tui_render(&o, "2<Nokey>", 80, 24, &out, &err), SL_USAGE);
    assert_non_null(strstr(err.message, "<Nokey>"));
    sl_buf_free(&out);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_screen_is_the_one_that_was_looked_at),
        cmocka_unit_test(ascii_screens_hold_only_ascii),
        cmocka_unit_test(finer_glyphs_stand_in_the_same_cells),
        cmocka_unit_test(every_key_does_something_or_says_why),
        cmocka_unit_test(any_character_can_be_searched_for),
        cmocka_unit_test(escape_ends_a_search_where_it_began),
        cmocka_unit_test(the_selection_survives_folding_and_resizing),
        cmocka_unit_test(the_key_table_makes_the_document),
        cmocka_unit_test(every_size_can_be_drawn),
        cmocka_unit_test(nothing_is_written_before_start),
        cmocka_unit_test(the_end_may_come_while_anything_runs),
        cmocka_unit_test(a_wrong_script_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
