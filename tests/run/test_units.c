/* A tensor so large that several workers are at it: the same bytes and numbers as of one worker, and in order when it fails, is
 * stopped or drained in the middle. `large` of the case is 600 KB; with the least memory a buffer holds 64 KiB. */
#include "case.h"
#include "../base/fault.h"

#include "run/convert.h"

#include <time.h>

#define LARGE 6                          /* its number among the targets */
static const size_t buffer = SL_BUFFER_LEAST;

static struct sl_run_options of_workers(uint32_t threads, enum sl_verify_mode verify)
{
    return (struct sl_run_options){ .threads = threads, .memory = threads * 2 * buffer, .verify = verify };
}

/* ---- hooks into writing ---- */

static struct sl_io_ops real_io;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t writers[8];
static unsigned writer_count;
static _Atomic(struct sl_run *) watched;

static struct sl_run *the_run(void)
{
    while (!atomic_load(&watched))
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    return atomic_load(&watched);
}

static bool is_a_share(size_t len) { return len > buffer / 2; }    /* nothing else of the case is as long */

/* The first worker to write a share waits for a second one to do so. */
static ssize_t meeting_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 120;
    pthread_mutex_lock(&lock);
    bool known = !is_a_share(len);
    for (unsigned i = 0; i < writer_count; i++)
        known = known || pthread_equal(writers[i], pthread_self());
    if (!known && writer_count < 8)
        writers[writer_count++] = pthread_self();
    pthread_cond_broadcast(&changed);
    while (is_a_share(len) && writer_count < 2)
        if (pthread_cond_timedwait(&changed, &lock, &limit))
            break;
    pthread_mutex_unlock(&lock);
    return real_io.pwrite(fd, buf, len, offset);
}

static ssize_t draining_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (is_a_share(len))
        sl_run_drain(the_run(), true);
    return real_io.pwrite(fd, buf, len, offset);
}

static ssize_t cancelling_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (is_a_share(len))
        sl_run_cancel(the_run(), SL_TERMINATED);
    return real_io.pwrite(fd, buf, len, offset);
}

static void hook(ssize_t (*pwrite)(int, const void *, size_t, off_t))
{
    real_io = sl_io;
    writer_count = 0;
    sl_io.pwrite = pwrite;
}
static void unhook(void) { sl_io = real_io; }

/* ---- tests ---- */

static void several_workers_write_one_large_tensor(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    hook(meeting_pwrite);
    const struct sl_run_options o = of_workers(2, SL_VERIFY_REREAD);
    case_must_work(&k, &o);
    unhook();
    assert_int_equal(writer_count, 2);
    case_end(&k);
}

static void checksums_and_statistics_do_not_depend_on_the_number_of_workers(void **state)
{
    (void)state;
    for (int kind = 0; kind < CASE_KINDS; kind++) {
        struct sl_result first = { .name = NULL };
        struct conversion_case k;
        case_begin(&k, kind);
        for (uint32_t threads = 1; threads < 7; threads++) {
            struct sl_run *r;
            struct sl_error err = { .message = "" };
            struct sl_run_options o = of_workers(threads, threads % 2 ? SL_VERIFY_REREAD : SL_VERIFY_CHECKSUM);
            o.force = true;
            if (sl_run_convert(&k.plan, k.target, &o, &r, &err) || sl_run_wait(r, &err))
                fail_msg("%u workers: %s: %s", threads, err.where, err.message);
            const struct sl_result *t = sl_run_result_at(r, LARGE);
            assert_string_equal(t->name, "large");
            assert_int_equal(t->status, SL_RESULT_VERIFIED);
            assert_true(t->checksum == XXH3_64bits(k.targets[LARGE].data, (size_t)made_bytes(&k.targets[LARGE])));
            struct sl_progress p;
            sl_run_progress(r, &p);
            assert_int_equal(p.tensors_done, k.target_count);
            assert_int_equal(p.verified, k.target_count);
            assert_true(case_is_whole(&k));
            if (threads == 1)
                first = *t;
            assert_memory_equal(&first.stats, &t->stats, sizeof first.stats);
            sl_run_free(r);
        }
        case_end(&k);
    }
}

static void a_write_that_fails_in_the_middle_of_it_ends_the_run_and_resume_ends_the_work(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth < 24; nth += 2) {
        struct conversion_case k;
        struct sl_error err = { .message = "" };
        case_begin(&k, CASE_FOLDER);
        struct sl_run_options o = of_workers(3, SL_VERIFY_REREAD);
        fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = nth, .number = ENOSPC });
        const int code = case_run(&k, &o, &err);
        fault_end();
        assert_true(code == SL_WRITE || code == SL_OK);
        o.resume = true;
        if (code)
            case_must_work(&k, &o);
        case_end(&k);
    }
}

static void run_hooked(struct conversion_case *k, ssize_t (*pwrite)(int, const void *, size_t, off_t), int expected, enum sl_result_status of_large)
{
    struct sl_error err;
    struct sl_run_options o = of_workers(3, SL_VERIFY_REREAD);
    struct sl_run *r;
    case_begin(k, CASE_TORCH);
    atomic_store(&watched, NULL);
    hook(pwrite);
    assert_int_equal(sl_run_convert(&k->plan, k->target, &o, &r, &err), 0);
    atomic_store(&watched, r);
    assert_int_equal(sl_run_wait(r, &err), expected);
    unhook();
    assert_int_equal(sl_run_result_at(r, LARGE)->status, of_large);
    sl_run_free(r);
    o.resume = true;
    case_must_work(k, &o);
    case_end(k);
}

static void draining_ends_the_tensor_that_was_begun(void **state)
{
    (void)state;
    struct conversion_case k;
    run_hooked(&k, draining_pwrite, SL_INTERRUPTED, SL_RESULT_WRITTEN);
}

static void cancelling_leaves_nobody_waiting_for_its_turn(void **state)
{
    (void)state;
    struct conversion_case k;
    run_hooked(&k, cancelling_pwrite, SL_TERMINATED, SL_RESULT_PENDING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_workers_write_one_large_tensor),
        cmocka_unit_test(checksums_and_statistics_do_not_depend_on_the_number_of_workers),
        cmocka_unit_test(a_write_that_fails_in_the_middle_of_it_ends_the_run_and_resume_ends_the_work),
        cmocka_unit_test(draining_ends_the_tensor_that_was_begun),
        cmocka_unit_test(cancelling_leaves_nobody_waiting_for_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
