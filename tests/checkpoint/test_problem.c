/* test_problem.c: the table of problems, and lists of them. */
#include "../base/testing.h"

#include "checkpoint/problem.h"

#include <ctype.h>

TEST(codes_are_kebab_case_and_no_two_are_equal)
{
    for (size_t i = 0; i < sl_problem_table_count; i++) {
        const struct sl_problem_code *r = &sl_problem_table[i];
        for (const char *p = r->code; *p; p++)
            assert_true(islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(r->code, sl_problem_table[k].code);
        assert_true(*r->title && *r->meaning && *r->expected && *r->cause && *r->damage && *r->advice);
        assert_int_equal(r->meaning[strlen(r->meaning) - 1], '.');
    }
}

TEST(what_explains_others_is_in_the_table_and_found_at_its_place)
{
    struct sl_arena arena = { 0 };
    struct sl_problems p = { .arena = &arena };
    for (size_t i = 0; i < sl_explanation_count; i++) {
        size_t row = 0;
        while (row < sl_problem_table_count && strcmp(sl_problem_table[row].code, sl_explanations[i].code))
            row++;
        assert_true(row < sl_problem_table_count);
    }
    sl_problem_add(&p, "keys-differ", "mp_rank_01", NULL, "x");
    assert_false(sl_problems_explain(&p, SL_EXPLAINS_RANK, NULL));
    sl_problem_add(&p, "misnumbered-rank", "mp_rank_01", NULL, "x");
    assert_true(sl_problems_explain(&p, SL_EXPLAINS_RANK, "mp_rank_01"));
    assert_false(sl_problems_explain(&p, SL_EXPLAINS_RANK, "mp_rank_0"));
    assert_true(sl_problems_explain(&p, SL_EXPLAINS_LAYERS, NULL));
    assert_false(sl_problems_explain(&p, SL_EXPLAINS_SHAPES, NULL));
    sl_arena_free(&arena);
}

TEST(a_finding_has_the_severity_of_its_code_and_printable_texts)
{
    struct sl_arena arena = { 0 };
    struct sl_problems p = { .arena = &arena };
    const struct sl_problem_text more = { .cause = "a\tb" };
    sl_problem_add(&p, "nan", "x\033[31m", &more, "%d values", 3);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.items[0].severity, SL_ERROR);
    assert_string_equal(p.items[0].where, "x\\x1b[31m");
    assert_string_equal(p.items[0].message, "3 values");
    assert_string_equal(p.items[0].cause, "a\\x09b");
    assert_non_null(strstr(p.items[0].damage, "every output"));      /* what the table says */
    assert_int_equal(p.items[0].tp, -1);
    assert_int_equal(p.items[0].offset, -1);
    assert_true(*p.items[0].next);
    sl_arena_free(&arena);
}

TEST(the_worst_come_first_and_equals_stand_as_in_the_table)
{
    struct sl_arena arena = { 0 };
    struct sl_problems p = { .arena = &arena };
    const char *const codes[] = { "padding", "inf", "tracker", "crc-missing", "nan", "all-zero" };
    for (size_t i = 0; i < 6; i++)
        sl_problem_add(&p, codes[i], "", NULL, "x");
    sl_problems_sort(&p);
    const char *const sorted[] = { "nan", "inf", "all-zero", "tracker", "crc-missing", "padding" };
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(p.items[i].code, sorted[i]);
    assert_true(sl_problems_have(&p, SL_ERROR));
    sl_arena_free(&arena);
}

TEST(many_findings_are_all_kept)
{
    struct sl_arena arena = { 0 };
    struct sl_problems p = { .arena = &arena };
    for (int i = 0; i < 1000; i++)
        sl_problem_add(&p, "padding", "", NULL, "%d", i);
    assert_int_equal(p.count, 1000);
    assert_string_equal(p.items[999].message, "999");
    assert_false(sl_problems_have(&p, SL_WARNING));
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(codes_are_kebab_case_and_no_two_are_equal),
        ROW(what_explains_others_is_in_the_table_and_found_at_its_place),
        ROW(a_finding_has_the_severity_of_its_code_and_printable_texts),
        ROW(the_worst_come_first_and_equals_stand_as_in_the_table),
        ROW(many_findings_are_all_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
