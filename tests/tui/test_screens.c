/* Screens as functions: keys in, text out, against screens that a person has
 * looked at (golden/). `make golden` writes them again; read the difference. */
#include "base/text.h"
#include "tui/tui.h"
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include <cmocka.h>
#include "golden_file.h"

#define LLAMA "tests/fixtures/llama_tp2_pp2"
#define MINICPM "tests/fixtures/minicpm_tp1_pp2"
#define MOE "tests/fixtures/qwen3moe_tp2_pp1_ep2_etp1"
#define OTHER "tests/fixtures/mixtral_tp1_pp1_ep2_etp1"
#define DOWN_33 "jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj"
#define HF "tests/fixtures/llama.hf"
#define CHUNKS "tests/fixtures/minicpm_vpp2_tp1_pp2"

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
    for (char screen = '1'; screen <= '8'; screen++) {
        char before[2] = { screen, '\0' };
        char *a = render(LLAMA, before, 80, 24, true);
        for (const char *k = keys; *k; k++) {
            char after[16] = { screen, *k, '\0' };
            if (*k == screen || *k == 'q' || (screen == '5' && *k == 'S'))     /* START writes: test_terminal.c */
                continue;
            char *b = render(LLAMA, after, 80, 24, true);
            /* at the edge of a list a move has nothing to show */
            if (!strchr("hjkl", *k) && strcmp(a, b) == 0)
                print_message("key %c on screen %c changed nothing\n", *k, screen);
            if (!strchr("hjkl", *k))
                assert_string_not_equal(a, b);
            free(b);
        }
        free(a);
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

/* What each screen can show, and the way back to the overview. */
static const char *const states[] = {
    "", "f", "<Tab>", "<Tab><Tab>", "b", "<BackTab>", "2jj", "2<Tab>", "2<Tab><Tab>", "2/a", "2/norm<Enter>", "2/qkv<Enter><Enter>", "3v<Right>",
    "2/fc1<Enter><Enter>xxx", "3HH", "3L", "3<Tab>", "4", "4jl", "4<Tab>", "4<Tab><Tab>", "5", "5jj", "5<Enter>", "6", "7", "8", "?", "?jjy", ":over",
};

/* Each state at every small size and at larger ones where what is shown changes: one process, one opening a state. */
static void every_size_can_be_drawn(void **state)
{
    (void)state;
    static const char *const paths[] = { LLAMA, MOE };
    static const int wide[][2] = { { 47, 13 }, { 59, 14 }, { 60, 17 }, { 61, 18 }, { 70, 21 }, { 80, 24 }, { 80, 60 }, { 100, 30 }, { 119, 33 }, { 120, 26 },
                                   { 138, 34 }, { 140, 40 }, { 200, 60 }, { 300, 100 }, { 300, 1 }, { 1, 100 }, { 300, 7 }, { 7, 100 } };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        struct sl_buf keys = { 0 };
        sl_buf_str(&keys, states[i]);
        sl_buf_str(&keys, "<hurry>");              /* nothing is asked for by a resize: no waiting */
        for (int h = 1; h <= 12; h++)
            for (int w = 1; w <= 40; w++)
                sl_buf_printf(&keys, "<%dx%d>", w, h);
        for (size_t k = 0; k < sizeof wide / sizeof wide[0]; k++)
            sl_buf_printf(&keys, "<%dx%d>", wide[k][0], wide[k][1]);
        free(render(paths[i % 2], keys.data, 80, 24, i % 3 == 0));
        sl_buf_free(&keys);
    }
}

/* A text that stands on the screen after keys. */
static void shows(const char *path, const char *keys, const char *want)
{
    char *got = render(path, keys, 80, 24, true);
    if (!strstr(got, want))
        print_message("no \"%s\" in\n%s\n", want, got);
    assert_non_null(strstr(got, want));
    free(got);
}

static void screens_and_keys_have_names_too(void **state)
{
    (void)state;
    shows(LLAMA, ":conv<Enter>", "> convert");
    shows(LLAMA, ":deep<Enter>", "values all read");
    shows(LLAMA, "2:sort<Enter>", "largest first");
    shows(LLAMA, "2:zoom<Enter>", "z looks into a cell of the grid: press 1");
    shows(LLAMA, ":4<Enter>", "> map");
    shows(LLAMA, ":nothing<Enter>", "no screen and no key is called");
}

static void pages_and_half_pages_move_as_in_vi(void **state)
{
    (void)state;
    static const struct { const char *a, *b; } pairs[] = {
        { "?<PgDn>", "?<C-f>" }, { "?<PgDn><PgUp>", "?<C-f><C-b>" }, { "?<C-d>", "?jjjjjjjj" }, { "?<C-d><C-d><C-u>", "?<C-d>" }, { "2jj<BS>", "2jj<Esc>" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *a = render(LLAMA, pairs[i].a, 80, 24, true), *b = render(LLAMA, pairs[i].b, 80, 24, true);
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
}

/* ---- the inspector against torch: the table is printed by tests/fixtures/inspector_numbers.py ------- */

static const struct { const char *path, *tensor, *sums[5], *quantiles[5], *zeros, *mantissa, *rows; } torch_says[] = {
    { "tests/fixtures/llama.expected.safetensors", "model.layers.1.mlp.gate_proj.weight",
      { "0.09221", "0.001216", "0.0922", "-0.3145", "0.3809" },
      { "0.05957", "0.1514", "0.252", "0.3184", "0.3809" },
      "0", "mantissa 8 of 8 bits used", "row rms 0.0438..0.158" },
    { "tests/fixtures/minicpm.expected.safetensors", "model.layers.2.self_attn.q_proj.weight",
      { "0.2479", "-0.003668", "0.2479", "-0.7199", "0.7022" },
      { "0.1813", "0.4028", "0.6051", "0.7022", "0.7199" },
      "0", "mantissa 24 of 24 bits used", "row rms 0.126..0.382" },
    { "tests/fixtures/qkv_bias.expected.safetensors", "model.layers.1.mlp.down_proj.weight",
      { "0.1226", "-0.004875", "0.1225", "-0.3613", "0.4189" },
      { "0.08173", "0.1973", "0.3352", "0.4189", "0.4189" },
      "0", "mantissa 11 of 11 bits used", "row rms 0.0976..0.159" },
};

/* The word after a label that begins a line or a column. */
static void word_after(const char *screen, const char *label, char *out, size_t room)
{
    const char *at = strstr(screen, label);
    out[0] = '\0';
    assert_non_null(at);
    at += strlen(label);
    at += strspn(at, " ");
    snprintf(out, room, "%.*s", (int)strcspn(at, " \n"), at);
}

static void the_inspector_says_what_torch_says(void **state)
{
    (void)state;
    static const char *const sums[] = { "\n rms ", "\n mean ", "\n std ", "\n min ", "\n max " };
    static const char *const quantiles[] = { " p50 ", " p90 ", " p99 ", " p99.9 ", " p99.99 " };
    for (size_t i = 0; i < sizeof torch_says / sizeof torch_says[0]; i++) {
        char keys[160], word[40];
        snprintf(keys, sizeof keys, "2/^%s$<Enter><Enter>HH", torch_says[i].tensor);
        char *got = render(torch_says[i].path, keys, 80, 24, true);
        assert_non_null(strstr(got, torch_says[i].mantissa));
        assert_non_null(strstr(got, torch_says[i].rows));
        for (int k = 0; k < 5; k++) {
            word_after(got, sums[k], word, sizeof word);
            assert_string_equal(word, torch_says[i].sums[k]);
            word_after(got, quantiles[k], word, sizeof word);
            if (strstr(got, "exact: counted value by value"))
                assert_string_equal(word, torch_says[i].quantiles[k]);
            else
                assert_true(fabs(strtod(word, NULL) / strtod(torch_says[i].quantiles[k], NULL) - 1) < 0.0041);
        }
        word_after(got, "\n zeros ", word, sizeof word);
        assert_string_equal(word, torch_says[i].zeros);
        free(got);
    }
}

/* ---- every key on checkpoints of every kind ----------------------------------------------------------- */

/* Those that quit, write a file or begin a conversion are typed by other tests. */
static const char walk[] = " abcdefghjklmnoprstuvxyzABCDEFGHIJKLMNOPQRTUVWXYZ0!\"#$%&'()*+,-.;=>@[\\]^_`{|}~?<Esc>/x<Esc>:x<Esc>i<Esc>"
                           "<Up><Down><Left><Right><PgUp><PgDn><Home><End><C-f><C-b><C-d><C-u><Tab><BackTab><Enter><Esc><BS><Del><C-l><C-z>";

static void every_key_can_be_pressed_on_every_kind_of_checkpoint(void **state)
{
    (void)state;
    char damaged[] = "/tmp/shardlens-walk-XXXXXX", command[64];
    assert_non_null(mkdtemp(damaged));
    struct sl_demo_options small = { .family = "llama", .layout = "damaged", .tp = 2, .pp = 2, .bytes = 1 };
    struct sl_error err = { 0 };
    assert_int_equal(sl_demo_write(damaged, &small, NULL, &err), 0);
    const char *const kinds[] = { damaged, HF, MOE, "tests/fixtures/dist/llama_tp2_pp2", CHUNKS };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct sl_buf keys = { 0 };
        for (char screen = '1'; screen <= '8'; screen++)
            sl_buf_printf(&keys, "%c%s", screen, walk);
        free(render(kinds[i], keys.data, i % 2 ? 80 : 140, i % 2 ? 24 : 40, i % 2 == 0));
        sl_buf_free(&keys);
    }
    snprintf(command, sizeof command, "rm -rf %s", damaged);
    assert_int_equal(system(command), 0);
}

/* ---- names that a terminal must not get ----------------------------------------------------------------- */

static void make_strange_names(const char *path)
{
    static const char *const names[] = { "bell\\u0007", "red\\u001b[31m", "back\\u202ewards", ("e\xcc\x81" "clair.weight"), "\xe5\xb1\x82.\xe6\x9d\x83\xe9\x87\x8d",
                                         "tab\\tnew\\nline", "zero\\u200bwidth", "c1\\u009b2J", "%s%n%d" };
    struct sl_buf head = { 0 };
    const size_t count = sizeof names / sizeof names[0];
    sl_buf_str(&head, "{");
    for (size_t i = 0; i < count; i++)
        sl_buf_printf(&head, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}", i ? "," : "", names[i], 4 * i, 4 * i + 4);
    sl_buf_str(&head, "}");
    const uint64_t len = head.len;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(len >> 8 * i & 0xff), f);
    fwrite(head.data, 1, head.len, f);
    for (size_t i = 0; i < 4 * count; i++)
        fputc(0, f);
    assert_int_equal(fclose(f), 0);
    sl_buf_free(&head);
}

/* Lines of printable characters, none wider than the screen. */
static void assert_printable(const char *screen, int cols)
{
    int width = 0;
    for (const char *s = screen; *s;) {
        wchar_t ch;
        int n = mbtowc(&ch, s, 4);
        assert_true(n > 0);
        s += n;
        if (ch == L'\n') {
            width = 0;
            continue;
        }
        if (wcwidth(ch) < 0 || ch == 0x202e || ch == 0x200b)
            print_message("U+%04x in\n%s\n", (unsigned)ch, screen);
        assert_true(wcwidth(ch) >= 0 && ch != 0x202e && ch != 0x200b);
        width += wcwidth(ch);
        assert_true(width <= cols);
    }
}

static void strange_names_are_shown_and_not_obeyed(void **state)
{
    (void)state;
    char path[] = "/tmp/shardlens-names-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    make_strange_names(path);
    static const int widths[] = { 140, 80, 41, 40, 23, 12, 5 };
    for (int down = 0; down < 9; down++)
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
            char keys[64];
            snprintf(keys, sizeof keys, "2%.*s<%dx24><Enter>", down, "jjjjjjjjjj", widths[w]);
            char *got = render(path, keys, widths[w], 24, w % 2);
            assert_printable(got, widths[w]);
            free(got);
            snprintf(keys, sizeof keys, "2z%.*s", down, "jjjjjjjjjj");
            got = render(path, keys, widths[w], 24, w % 2);
            assert_printable(got, widths[w]);
            free(got);
        }
    char *got = render(path, "2z", 80, 24, false);
    assert_non_null(strstr(got, "\xe6\x9d\x83\xe9\x87\x8d"));       /* what is harmless stays as it is */
    assert_non_null(strstr(got, "e\xcc\x81""clair"));
    free(got);
    unlink(path);
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
        cmocka_unit_test(screens_and_keys_have_names_too),
        cmocka_unit_test(pages_and_half_pages_move_as_in_vi),
        cmocka_unit_test(the_inspector_says_what_torch_says),
        cmocka_unit_test(every_key_can_be_pressed_on_every_kind_of_checkpoint),
        cmocka_unit_test(strange_names_are_shown_and_not_obeyed),
        cmocka_unit_test(nothing_is_written_before_start),
        cmocka_unit_test(the_end_may_come_while_anything_runs),
        cmocka_unit_test(a_wrong_script_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
