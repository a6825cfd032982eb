/* test_pool.c: parallel loops. */
#include "testing.h"

#include "base/pool.h"

#include <signal.h>
#include <stdatomic.h>
#include <pthread.h>
#include <time.h>

#define COUNT 5000

struct tally {
    atomic_uint seen[COUNT];
    atomic_uint workers_wrong, calls;
    unsigned threads;
    uint64_t stop_at;
};

static int note(void *arg, unsigned worker, uint64_t i)
{
    struct tally *t = arg;
    if (worker >= t->threads)
        atomic_fetch_add(&t->workers_wrong, 1);
    atomic_fetch_add(&t->calls, 1);
    atomic_fetch_add(&t->seen[i], 1);
    return i == t->stop_at ? 42 : 0;
}

TEST(each_number_is_taken_once)
{
    for (unsigned threads = 1; threads <= 9; threads += 4) {
        static struct tally t;
        memset(&t, 0, sizeof t);
        t.threads = threads;
        t.stop_at = COUNT;
        assert_int_equal(sl_parallel(threads, COUNT, note, &t), 0);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(atomic_load(&t.seen[i]), 1);
        assert_int_equal(atomic_load(&t.workers_wrong), 0);
    }
}

TEST(a_failure_stops_the_rest_and_is_returned)
{
    static struct tally t;
    memset(&t, 0, sizeof t);
    t.threads = 1;
    t.stop_at = 10;
    assert_int_equal(sl_parallel(1, COUNT, note, &t), 42);
    assert_int_equal(atomic_load(&t.calls), 11);
}

TEST(nothing_to_do_is_done_at_once_and_no_threads_means_one)
{
    static struct tally t;
    memset(&t, 0, sizeof t);
    t.threads = 1;
    t.stop_at = COUNT;
    assert_int_equal(sl_parallel(4, 0, note, &t), 0);
    assert_int_equal(atomic_load(&t.calls), 0);
    assert_int_equal(sl_parallel(0, 3, note, &t), 0);
    assert_int_equal(atomic_load(&t.calls), 3);
}

static int look_at_mask(void *arg, unsigned worker, uint64_t i)
{
    (void)i;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (worker > 0 && !sigismember(&mask, SIGINT))
        atomic_fetch_add((atomic_uint *)arg, 1);
    if (worker == 0 && sigismember(&mask, SIGINT))
        atomic_fetch_add((atomic_uint *)arg, 1);
    const struct timespec nap = { .tv_nsec = 100000 };
    nanosleep(&nap, NULL);
    return 0;
}

TEST(signals_go_to_the_caller_and_not_to_the_workers)
{
    atomic_uint wrong = 0;
    assert_int_equal(sl_parallel(4, 100, look_at_mask, &wrong), 0);
    assert_int_equal(atomic_load(&wrong), 0);
}

TEST(there_is_a_processor_and_time_passes)
{
    assert_true(sl_processors() >= 1);
    const uint64_t before = sl_now_ns();
    const struct timespec nap = { .tv_nsec = 1000000 };
    nanosleep(&nap, NULL);
    assert_true(sl_now_ns() >= before + 900000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(each_number_is_taken_once),
        ROW(a_failure_stops_the_rest_and_is_returned),
        ROW(nothing_to_do_is_done_at_once_and_no_threads_means_one),
        ROW(signals_go_to_the_caller_and_not_to_the_workers),
        ROW(there_is_a_processor_and_time_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
