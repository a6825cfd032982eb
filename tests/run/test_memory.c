/* Each allocation of a conversion fails, once and from there on: the answer is SL_MEMORY,
 * nothing leaks, the target is absent or whole, and the next try makes it whole. */
#include "case.h"
#include "../base/memory.h"

static void fail_every_allocation(int kind, bool on)
{
    for (unsigned nth = 1;; nth++) {
        struct conversion_case k;
        struct sl_error err = { .message = "" };
        struct sl_run_options o = { .verify = SL_VERIFY_REREAD };
        case_begin(&k, kind);
        memory_fail(nth, on);
        const int code = case_run(&k, &o, &err);
        const unsigned calls = memory_end();
        if (code != SL_OK && code != SL_MEMORY)
            fail_msg("allocation %u: exit %d (%s: %s)", nth, code, err.where, err.message);
        if (code ? sl_path_exists(k.target) && !case_is_whole(&k) : !case_is_whole(&k))
            fail_msg("allocation %u: a target that is not whole", nth);
        if (code) {
            o.resume = true;
            case_must_work(&k, &o);
        }
        case_end(&k);
        if (code == SL_OK && calls < nth)
            return;
        assert_true(nth < 2000);
    }
}

static void a_folder_is_an_answer_or_whole(void **state)
{
    (void)state;
    fail_every_allocation(CASE_FOLDER, false);
    fail_every_allocation(CASE_FOLDER, true);
}

static void a_single_file_is_an_answer_or_whole(void **state)
{
    (void)state;
    fail_every_allocation(CASE_FILE, false);
}

static void torch_files_are_an_answer_or_whole(void **state)
{
    (void)state;
    fail_every_allocation(CASE_TORCH, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_an_answer_or_whole),
        cmocka_unit_test(a_single_file_is_an_answer_or_whole),
        cmocka_unit_test(torch_files_are_an_answer_or_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
