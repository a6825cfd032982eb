/* Screens over what no fixture holds: thousands of ranks, a million tensors,
 * slow reads, a conversion in the middle. */
#include "base/pool.h"
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
#include "../golden_file.h"

static char *render(const char *path, const char *keys, int cols, int rows)
{
    struct sl_tui_options o = { .path = path, .ascii = true, .frozen = true };
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    assert_int_equal(sl_tui_render(&o, keys, cols, rows, &out, &err), 0);
    return out.data;
}

static void shows(const char *path, const char *keys, int cols, int rows, const char *want)
{
    char *got = render(path, keys, cols, rows);
    if (!strstr(got, want))
        print_message("no \"%s\" in\n%s\n", want, got);
    assert_non_null(strstr(got, want));
    free(got);
}

static void eight_thousand_ranks_fit_and_the_bad_one_shows(void **state)
{
    (void)state;
    shows("ranks/8x16x64", "", 80, 24, "ranks a cell");
    shows("ranks/8x16x64", "", 80, 24, "! tp");
    shows("ranks/8x16x64", "", 40, 10, "!");
    shows("ranks/8x16x64", "", 140, 40, "FAULTS, CONVERTIBLE");
    shows("ranks/2x4x4", "", 80, 24, "ep0  ep1  ep2  ep3");
}

static void the_dimensions_of_the_grid_are_chosen(void **state)
{
    (void)state;
    shows("ranks/8x16x64", "d", 80, 24, "rows pp, columns ep x tp");
    shows("ranks/8x16x64", "dd", 80, 24, "rows pp, columns tp, ep folded");
    shows("ranks/8x16x64", "dd", 140, 40, " 1 ! ");
    shows("ranks/8x16x64", "ddddddd", 80, 24, "rows tp, columns pp x ep");
    shows("ranks/2x4x1", "d", 80, 24, "rows pp, columns tp");
    shows("ranks/2x4x1", "dd", 80, 24, "rows tp, columns pp");
}

/* Chunk c of stage p holds layer c * stages + p; chunk 1 of rank 0 is in no file. */
static void virtual_stages_are_rows_of_their_own(void **state)
{
    (void)state;
    shows("ranks/2x2x1x3", "", 140, 40, "v0 pp1  L01      [!]o");
    shows("ranks/2x2x1x3", "", 140, 40, "v1 pp0  L02       - o");
    shows("ranks/2x2x1x3", "", 140, 40, "v2 pp1  L05       ! o");
    shows("ranks/2x4x1x3", "", 80, 24, "pp3            o o");                 /* no room for twelve rows: a cell is a rank */
    shows("ranks/2x4x1x3", "d", 80, 24, "rows pp, columns tp, v folded");
    shows("ranks/2x4x1x3", "ddd", 80, 24, "rows pp, columns v, tp folded");
    shows("ranks/8x16x64x4", "ddd", 80, 24, "rows v x pp, columns tp, ep folded");
    shows("ranks/8x16x64x4", "ddd", 80, 24, "v1 pp0-15 L16-31  - o");
    shows("ranks/8x16x64x4", "dddz", 80, 24, "the 1024 chunks of one cell");
}

static void a_folded_cell_is_looked_into(void **state)
{
    (void)state;
    shows("ranks/8x16x64", "z", 80, 24, "the 256 ranks of one cell");
    shows("ranks/8x16x64", "z", 80, 24, "[!]");           /* the finding's rank stays selected */
    shows("ranks/8x16x64", "zl", 80, 24, "o tp");
    shows("ranks/8x16x64", "z<Esc>", 80, 24, "256 ranks a cell");
    shows("ranks/2x4x1", "z", 80, 24, "every cell is one rank already");
}

/* 1000 layers' worth of tensors with 1000 experts each: a sample of the strip is bounded. */
static void a_million_tensors_are_sampled_by_layer(void **state)
{
    (void)state;
    shows("tensors/1000000", "b", 80, 24, "the rms of every layer was sampled");
}

static void a_finding_is_reached_from_every_screen(void **state)
{
    (void)state;
    for (char screen = '1'; screen <= '7'; screen++) {
        char keys[4] = { screen, 'f', '\0' };
        shows("ranks/2x4x4", keys, 80, 24, "an interrupted copy");
    }
}

static void a_million_tensors_scroll_without_a_pause(void **state)
{
    (void)state;
    struct sl_buf keys = { 0 };
    sl_buf_str(&keys, "2z");
    for (int i = 0; i < 1000; i++)
        sl_buf_str(&keys, i % 10 ? "j" : "<PgDn>");
    uint64_t begin = sl_now_ns();
    char *first = render("tensors/1000000", "2z", 80, 24);
    uint64_t middle = sl_now_ns();
    char *last = render("tensors/1000000", keys.data, 80, 24);
    uint64_t end = sl_now_ns();
    double each = ((double)(end - middle) - (double)(middle - begin)) / 1e6 / 1000;
    print_message("a key in a million tensors: %.2f ms\n", each);
    assert_true(each < 20);
    free(first);
    free(last);
    sl_buf_free(&keys);
}

static void what_is_alike_is_one_row_and_what_differs_stands_out(void **state)
{
    (void)state;
    shows("tensors/48000", "2", 80, 24, "+ 0-47 x48 (48000)");
    shows("odd/48000", "2", 80, 24, "+ 0-2 x3 (3000)");
    shows("odd/48000", "2", 80, 24, "+ 4-47 x44 (44000)");
    shows("odd/48000", "2!", 80, 24, "1 of 48000");
    shows("odd/48000", "2!", 80, 24, "7.weight");
    shows("odd/48000", "2!!", 80, 24, "all tensors");
    shows("odd/48000", "2<Tab>", 80, 24, "+ 4-47 x44 (44000)");           /* the pieces of a file too */
    shows("odd/48000", "2<Tab>", 80, 24, "- file.pt (48000)");
}

static void marks_count_and_stay_through_sorting_and_filters(void **state)
{
    (void)state;
    shows("odd/48000", "2gj ", 80, 24, "3000 marked, 120 KB");
    shows("odd/48000", "2gj sss/!mark<Enter>", 80, 24, "3000 of 48000");
    shows("odd/48000", "2gj y", 80, 24, "copied: the names of the marked tensors");
    shows("odd/48000", "2gj <Esc>", 80, 24, "nothing is marked any more");
}

/* Every word of a filter must hold; - turns one round. */
static void filters_combine(void **state)
{
    (void)state;
    static const struct { const char *filter, *found; } filters[] = {
        { "layer:3-4", "2000 of 48000" },   { "layer:3 expert:7", "1 of 48000" }, { "expert:7", "48 of 48000" },
        { "expert:0-9 -layer:0-45", "20 of 48000" }, { "bytes>1M", "0 of 48000" }, { "bytes<1M kind:experts", "48000 of 48000" },
        { "dtype:bf16 shape:4x* layer:47", "1000 of 48000" }, { "dtype:f32", "0 of 48000" }, { "^layers.47. experts.99.weight$", "1 of 48000" },
        { "split:tp", "0 of 48000" },       { "!fault", "1 of 48000" },           { "-!fault layer:3", "999 of 48000" },
    };
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        char keys[128];
        snprintf(keys, sizeof keys, "2/%s", filters[i].filter);
        for (char *lt = strchr(keys, '<'); lt; lt = NULL) {
            memmove(lt + 4, lt + 1, strlen(lt));
            memcpy(lt, "<lt>", 4);
        }
        shows("odd/48000", keys, 80, 24, filters[i].found);
    }
}

static int mean_shown(const char *keys, const char *tensor)
{
    char *got = render("slow", keys, 80, 24), *at = strstr(got, "\n mean ");
    int mean = -1;
    assert_non_null(strstr(got, tensor));
    if (at)
        sscanf(at + 6, "%d", &mean);
    free(got);
    return mean;
}

static void a_late_result_goes_to_the_tensor_that_asked(void **state)
{
    (void)state;
    /* 13 is asked for and left for 14 while it is being read; back on 13 it is read to its end */
    assert_int_equal(mean_shown("2/experts.13.<Enter><hurry><Enter>2<Esc>/experts.14.<Enter><Enter><wait>", "layers.0.experts.14.weight"), 14);
    assert_int_equal(mean_shown("2/experts.13.<Enter><hurry><Enter>2<Esc>/experts.14.<Enter><Enter>2<Esc>/experts.13.<Enter><Enter><wait>",
                                "layers.0.experts.13.weight"), 13);
}

static void a_running_conversion_is_watched(void **state)
{
    (void)state;
    char *got = render("run/40", "5S", 80, 24);
    static const char *const want[] = { "WRITING", "40%", "203 MB/s read", "layers.0.experts.3.weight", "mismatch", "tensors 20 of 50" };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (!strstr(got, want[i]))
            print_message("no \"%s\" in\n%s\n", want[i], got);
        assert_non_null(strstr(got, want[i]));
    }
    free(got);
    shows("run/40", "5Sp", 80, 24, "PAUSED");
    shows("run/40", "5Sx", 80, 24, "STOPPING AFTER THESE");
    shows("run/40", "5Sxx", 80, 24, "going on after all");
    shows("run/40", "5Sv", 80, 24, "just now, held");
    shows("run/40", "5S", 80, 24, "wait 50% for reads");
    shows("run/40", "5SX", 80, 24, "stop the conversion now?");
    shows("run/40", "5SXn", 80, 24, "the conversion goes on");
    shows("run/40", "5SXy<wait>", 80, 24, "STOPPED");
    shows("run/40", "5Sq", 80, 24, "y yes");
    shows("run/40", "5SR", 80, 24, "not while a conversion reads it");
}

static void the_run_stands_still_and_is_the_one_that_was_looked_at(void **state)
{
    (void)state;
    static const struct { const char *name, *keys; int cols, rows; } cases[] = {
        { "run-80x24", "5S", 80, 24 },              { "run-140x40", "5S", 140, 40 },                { "run-40x10", "5S", 40, 10 },
        { "run-paused-80x24", "5S+p", 80, 24 },     { "run-stopped-80x24", "5SXy<wait>", 80, 24 },
        { "report-80x24", "5SXy<wait>7", 80, 24 },  { "report-140x40", "5SXy<wait>7", 140, 40 },    { "report-40x10", "5SXy<wait>7", 40, 10 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *got = render("run/40", cases[i].keys, cases[i].cols, cases[i].rows);
        compare(cases[i].name, got);
        free(got);
    }
}

static void workers_are_added_and_taken_away_while_it_runs(void **state)
{
    (void)state;
    shows("run/40", "5S+", 80, 24, "5 workers");
    shows("run/40", "5S=+", 80, 24, "6 workers");
    shows("run/40", "5S+++", 80, 24, "6 workers are the most");     /* of this memory, as the made-up library has it */
    shows("run/40", "5S-", 80, 24, "3 workers, once one has done");
    shows("run/40", "5S----", 80, 24, "one worker is the least");
    shows("run/40", "6+", 80, 24, "no conversion runs whose workers");
}

static void a_mismatch_stands_first_in_the_report(void **state)
{
    (void)state;
    char *got = render("run/40", "5SXy<wait>7", 80, 24);
    char *bad = strstr(got, "! layers.0.experts.7.weight"), *good = strstr(got, "layers.0.experts.0.weight");
    assert_non_null(bad);
    assert_true(!good || bad < good);
    free(got);
}

/* Milliseconds of each of `count` keys more, after those that lead there. */
static double each_key(const char *path, const char *there, const char *more, int count)
{
    struct sl_buf keys = { 0 };
    sl_buf_str(&keys, there);
    for (int i = 0; i < count; i++)
        sl_buf_str(&keys, more);
    const uint64_t begin = sl_now_ns();
    free(render(path, there, 80, 24));
    const uint64_t middle = sl_now_ns();
    free(render(path, keys.data, 80, 24));
    const uint64_t end = sl_now_ns();
    sl_buf_free(&keys);
    return ((double)(end - middle) - (double)(middle - begin)) / 1e6 / count;
}

static void a_run_and_a_report_of_many_tensors_take_keys_without_a_pause(void **state)
{
    (void)state;
    shows("run/40x200000", "5S", 80, 24, "of 200000");
    shows("run/40x200000", "5SXy<wait>7", 80, 24, "> ! layers.0.experts.7.weight");
    const double run = each_key("run/40x200000", "5S", "v", 50), report = each_key("run/40x200000", "5SXy<wait>7", "j", 50);
    print_message("a key in a run of 200,000 tensors: %.2f ms, in its report: %.2f ms\n", run, report);
    assert_true(run < 1000 && report < 1000);           /* what a busy machine and a sanitizer leave of some milliseconds */
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_thousand_ranks_fit_and_the_bad_one_shows),
        cmocka_unit_test(the_dimensions_of_the_grid_are_chosen),
        cmocka_unit_test(virtual_stages_are_rows_of_their_own),
        cmocka_unit_test(a_folded_cell_is_looked_into),
        cmocka_unit_test(a_million_tensors_are_sampled_by_layer),
        cmocka_unit_test(a_finding_is_reached_from_every_screen),
        cmocka_unit_test(a_million_tensors_scroll_without_a_pause),
        cmocka_unit_test(what_is_alike_is_one_row_and_what_differs_stands_out),
        cmocka_unit_test(marks_count_and_stay_through_sorting_and_filters),
        cmocka_unit_test(filters_combine),
        cmocka_unit_test(a_late_result_goes_to_the_tensor_that_asked),
        cmocka_unit_test(a_running_conversion_is_watched),
        cmocka_unit_test(the_run_stands_still_and_is_the_one_that_was_looked_at),
        cmocka_unit_test(workers_are_added_and_taken_away_while_it_runs),
        cmocka_unit_test(a_run_and_a_report_of_many_tensors_take_keys_without_a_pause),
        cmocka_unit_test(a_mismatch_stands_first_in_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
