/* test_memory.c: each allocation of opening, listing, checking, reading and converting fails once, and from there on:
 * the answer is SL_MEMORY with a sentence, or the same as with it (some can be done without); never another one, and
 * nothing leaks (the sanitizers look). */
#include "../base/memory.h"
#include "../base/testing.h"

#include "base/io.h"
#include <shardlens/shardlens.h>
#include <unistd.h>

#define FIXTURES "tests/fixtures/"

static char target[300];

typedef int attempt(const char *path, struct sl_error *err);

static int load_families(const char *path, struct sl_error *err)
{
    (void)path;
    return sl_families_read(err);
}

/* What a checkpoint says of itself, in one number: it must not be another one for want of memory. */
static uint64_t told(const struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    return info->tensors * 1000003 + info->params * 1009 + info->bytes * 31 + info->config_count * 7 + info->problem_count +
           info->evidence_count * 13 + info->rank_count * 17 + info->dtype_count;
}

static uint64_t expected;      /* told() with enough memory; 0: not known yet */
static char other[128];        /* "" or what was another answer */

static void compare(const struct sl_checkpoint *ck, uint64_t more)
{
    const uint64_t now = told(ck) * 31 + more;
    if (expected && now != expected && !*other)
        snprintf(other, sizeof other, "it says something else: %zu problems", sl_info(ck)->problem_count);
    expected = expected ? expected : now;
}

static int look(const char *path, struct sl_error *err)
{
    struct sl_checkpoint *ck = NULL;
    const int code = sl_open(path, NULL, &ck, err);
    if (!code)
        compare(ck, sl_tensor_count(ck));
    sl_close(ck);
    return code;
}

static int check(const char *path, struct sl_error *err)
{
    const struct sl_run_options o = { .threads = 1 };
    struct sl_checkpoint *ck = NULL;
    struct sl_job *job = NULL;
    int code = sl_open(path, NULL, &ck, err);
    if (!code)
        code = sl_check_start(ck, true, &o, &job, err);
    if (!code)
        code = sl_job_wait(job, err);
    if (!code)
        compare(ck, sl_check_result(job)->problem_count * 1000 + sl_check_result(job)->bytes_read);
    sl_job_free(job);
    sl_close(ck);
    return code;
}

static int convert(const char *path, struct sl_error *err)
{
    const struct sl_run_options o = { .threads = 1, .verify = SL_VERIFY_CHECKSUM, .force = true };
    const struct sl_plan_options want = { .format = SL_TO_HF, .iteration = -1 };
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    int code = sl_open(path, NULL, &ck, err);
    if (!code)
        code = sl_plan_make(ck, target, &want, &plan, err);
    if (!code)
        code = sl_convert_start(plan, &o, &job, err);
    if (!code)
        code = sl_job_wait(job, err);
    if (!code)
        compare(ck, sl_job_summary(job)->bytes);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

static int measure(const char *path, struct sl_error *err)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_stats stats;
    struct sl_histogram bins = { 0 };
    struct sl_profile profile;
    struct sl_layout_report *report = NULL;
    uint64_t sum = 0;
    const size_t first = 0;
    int code = sl_open(path, NULL, &ck, err);
    if (!code)
        code = sl_tensor_stats(ck, &first, 1, &stats, &bins, &sum, NULL, NULL, err);
    if (!code)
        code = sl_tensor_profile(ck, first, NULL, 0, 0, &profile, NULL, NULL, NULL, err);
    if (!code)
        code = sl_layout_look(ck, NULL, &report, err);
    if (!code)
        compare(ck, sum);
    sl_layout_report_free(report);
    sl_close(ck);
    return code;
}

static unsigned allocations(attempt *what, const char *path)
{
    struct sl_error err = { 0 };
    memory_fail(0, false);
    if (what(path, &err))
        fail_msg("%s: %s: %s", path, err.where, err.message);
    return memory_end();
}

/* Under the address sanitizer each piece of an arena is an allocation: tens of thousands, of which some are tried. */
enum { TRIES_MOST = 1000, TRIES_SANITIZED = 50 };
static unsigned step_of(unsigned allocations)
{
    return 1 + allocations / (allocations > 5 * TRIES_MOST ? TRIES_SANITIZED : TRIES_MOST);
}

/* From the first-th on: those before are another test's. Where all fail from one on, every third. */
static void every_allocation(attempt *what, const char *path, unsigned first)
{
    expected = 0;
    const unsigned all = allocations(what, path);
    first = first < all ? first : all / 2;
    for (int on = 0; on < 2; on++)
        for (unsigned n = first; n <= all; n += (on ? 3 : 1) * step_of(all - first)) {
            struct sl_error err = { 0 };
            *other = '\0';
            memory_fail(n, on);
            const int code = what(path, &err);
            memory_end();
            if ((code != SL_MEMORY && code != SL_OK) || (code && !*err.message) || *other)
                fail_msg("%s, allocation %u of %u%s fails: code %d, %s: %s %s", path, n, all, on ? " and all after it" : "", code,
                         err.where, err.message, other);
        }
    print_message("%s: %u allocations\n", path, all);
}

static const char *const sources[] = {
    FIXTURES "deepseek3_fp8", FIXTURES "llama_tp2_pp1", FIXTURES "llama_nozip_tp2_pp1", FIXTURES "dist/llama_tp2_pp2", FIXTURES "dist/zarr_llama",
    FIXTURES "torch/plain.pt",
};
enum { SOURCES = sizeof sources / sizeof *sources };

/* The families are read first, for each of them: those allocations fail once. */
TEST(what_cannot_be_opened_for_want_of_memory_says_so)
{
    const unsigned families = allocations(load_families, "");
    for (size_t i = 0; i < SOURCES; i++)
        every_allocation(look, sources[i], i ? families : 1);
}

TEST(what_cannot_be_checked_for_want_of_memory_says_so)
{
    every_allocation(check, sources[1], allocations(look, sources[1]));
}

TEST(what_cannot_be_measured_for_want_of_memory_says_so)
{
    every_allocation(measure, sources[1], allocations(look, sources[1]));
}

TEST(what_cannot_be_converted_for_want_of_memory_says_so)
{
    every_allocation(convert, sources[1], allocations(look, sources[1]));
}

static int begin(void **state)
{
    (void)state;
    snprintf(target, sizeof target, "%s/shardlens-memory-%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (long)getpid());
    return 0;
}

static int end(void **state)
{
    (void)state;
    return sl_folder_remove(target, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(what_cannot_be_opened_for_want_of_memory_says_so),
        ROW(what_cannot_be_checked_for_want_of_memory_says_so),
        ROW(what_cannot_be_measured_for_want_of_memory_says_so),
        ROW(what_cannot_be_converted_for_want_of_memory_says_so),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
