/* kill -9 at any moment: the target is absent, or as it was, or whole; and the run that goes
 * on makes it whole. SHARDLENS_KILLS=N kills N times at random moments (200). */
#include "case.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

/* ---- dying at the n-th call ---- */

static struct sl_io_ops real;
static atomic_int calls_left;
static bool after_the_call;
static atomic_uint slowness_us;

static void count_call(bool after)
{
    if (after == after_the_call && atomic_fetch_sub(&calls_left, 1) == 1)
        raise(SIGKILL);
}

static int dying_open(const char *path, int flags, mode_t mode)
{
    count_call(false);
    const int fd = real.open(path, flags, mode);
    count_call(true);
    return fd;
}
static ssize_t dying_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    usleep(atomic_load(&slowness_us));
    count_call(false);
    const ssize_t n = real.pwrite(fd, buf, len, offset);
    count_call(true);
    return n;
}
static int dying_fsync(int fd)
{
    usleep(atomic_load(&slowness_us));
    count_call(false);
    const int rc = real.fsync(fd);
    count_call(true);
    return rc;
}
static int dying_close(int fd)
{
    count_call(false);
    const int rc = real.close(fd);
    count_call(true);
    return rc;
}
static int dying_rename(const char *from, const char *to)
{
    count_call(false);
    const int rc = real.rename(from, to);
    count_call(true);
    return rc;
}
static int dying_fallocate(int fd, off_t offset, off_t len)
{
    count_call(false);
    const int rc = real.fallocate(fd, offset, len);
    count_call(true);
    return rc;
}

/* Runs it in a process of its own that dies at the n-th call; or is killed after us
 * microseconds. True when it was killed. */
static bool run_and_kill(const struct conversion_case *k, const struct sl_run_options *o, int n, bool after, unsigned us)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        real = sl_io;
        after_the_call = after;
        atomic_store(&calls_left, n);
        atomic_store(&slowness_us, us ? 300 : 0);
        sl_io.open = dying_open;
        sl_io.pwrite = dying_pwrite;
        sl_io.fsync = dying_fsync;
        sl_io.close = dying_close;
        sl_io.rename = dying_rename;
        sl_io.fallocate = dying_fallocate;
        struct sl_error err = { .message = "" };
        const int code = case_run(k, o, &err);
        if (code)
            fprintf(stderr, "%s: %s\n", err.where, err.message);
        _exit(code);
    }
    if (us) {
        usleep(us);
        kill(child, SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

/* ---- what must hold afterwards ---- */

static bool is_old(const struct conversion_case *k)
{
    char path[1024];
    return file_holds(join(path, k->target, "mine"), "mine", 4);
}

static void make_old(const struct conversion_case *k)
{
    char path[1024];
    mkdir(k->target, 0777);
    write_bytes(join(path, k->target, "mine"), "mine", 4);
}

static void check_and_go_on(const struct conversion_case *k, const struct sl_run_options *o, const char *when)
{
    if (o->force) {
        if (!is_old(k) && !case_is_whole(k))
            fail_msg("%s: neither the old target nor the new one", when);
    } else if (sl_path_exists(k->target) && !case_is_whole(k)) {
        fail_msg("%s: a target that is not whole", when);
    }
    if (case_is_whole(k) && case_entries(k) == 2)
        return;    /* it was killed after its last act */
    struct sl_run_options on = *o;
    on.resume = true;
    case_must_work(k, &on);
}

static void kill_at_every_call(int kind, bool force)
{
    for (int after = 0; after < 2; after++)
        for (int n = 1;; n++) {
            struct conversion_case k;
            char when[64];
            case_begin(&k, kind);
            if (force)
                make_old(&k);
            const struct sl_run_options o = { .verify = n % 2 ? SL_VERIFY_REREAD : SL_VERIFY_NONE, .force = force };
            const bool killed = run_and_kill(&k, &o, n, after, 0);
            snprintf(when, sizeof when, "%s call %d", after ? "after" : "before", n);
            check_and_go_on(&k, &o, when);
            case_end(&k);
            if (!killed)
                break;
            assert_true(n < 1000);
        }
}

static void a_folder_survives_a_kill_at_every_call(void **state)
{
    (void)state;
    kill_at_every_call(CASE_FOLDER, false);
}

static void a_single_file_survives_a_kill_at_every_call(void **state)
{
    (void)state;
    kill_at_every_call(CASE_FILE, false);
}

static void torch_files_over_an_old_target_survive_a_kill_at_every_call(void **state)
{
    (void)state;
    kill_at_every_call(CASE_TORCH, true);
}

static void items_survive_a_kill_at_every_call(void **state)
{
    (void)state;
    kill_at_every_call(CASE_DIST, false);
}

/* Several kills in a row, each of the run that goes on after the one before. */
static void kills_at_random_moments_are_survived(void **state)
{
    (void)state;
    const char *given = getenv("SHARDLENS_KILLS");
    const int most = given ? atoi(given) : 200;
    for (int i = 0; i < most; i++) {
        struct conversion_case k;
        char when[64];
        case_begin(&k, i % CASE_KINDS);
        struct sl_run_options o = { .verify = SL_VERIFY_REREAD, .force = i % 2 };
        if (o.force)
            make_old(&k);
        for (int again = 0; again < 3; again++) {
            const unsigned us = 500 + (unsigned)random_below(20000);
            snprintf(when, sizeof when, "kill %d.%d after %u us", i, again, us);
            const bool killed = run_and_kill(&k, &o, 0, false, us);
            if (!o.force && sl_path_exists(k.target) && !case_is_whole(&k))
                fail_msg("%s: a target that is not whole", when);
            if (!killed || (case_is_whole(&k) && case_entries(&k) == 2))
                break;
            o.resume = true;
        }
        check_and_go_on(&k, &o, when);
        case_end(&k);
    }
}

/* Two runs on one target, started at once: one makes it, the other is refused. */
static void of_two_at_once_exactly_one_writes(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        struct conversion_case k;
        int go[2], codes[2];
        pid_t child[2];
        char c[2] = { 0 };
        case_begin(&k, i % CASE_KINDS);
        assert_int_equal(pipe(go), 0);
        for (int n = 0; n < 2; n++)
            if ((child[n] = fork()) == 0) {
                if (read(go[0], c, 1) != 1)
                    _exit(99);
                const struct sl_run_options o = { .verify = SL_VERIFY_NONE, .resume = i % 2 };
                _exit(case_run(&k, &o, NULL));
            }
        assert_int_equal(write(go[1], c, 2), 2);
        for (int n = 0; n < 2; n++) {
            int status;
            waitpid(child[n], &status, 0);
            assert_true(WIFEXITED(status));
            codes[n] = WEXITSTATUS(status);
        }
        assert_true((codes[0] == SL_OK && codes[1] == SL_WRITE) || (codes[0] == SL_WRITE && codes[1] == SL_OK));
        assert_true(case_is_whole(&k));
        assert_int_equal(case_entries(&k), 2);
        close(go[0]);
        close(go[1]);
        case_end(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_survives_a_kill_at_every_call),
        cmocka_unit_test(a_single_file_survives_a_kill_at_every_call),
        cmocka_unit_test(torch_files_over_an_old_target_survive_a_kill_at_every_call),
        cmocka_unit_test(items_survive_a_kill_at_every_call),
        cmocka_unit_test(kills_at_random_moments_are_survived),
        cmocka_unit_test(of_two_at_once_exactly_one_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
