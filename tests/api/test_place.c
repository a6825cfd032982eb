/* test_place.c: before and beside a conversion: sizes that can be, what is at a place, what a
 * run tells of itself, and stopping between two tensors. */
#include "golden.h"

#include "base/io.h"
#include "base/text.h"

#include <time.h>
#include <unistd.h>

/* ---- sizes ---- */

static void set_axis(struct sl_plan_options *o, enum sl_axis axis, int32_t n)
{
    int32_t *sizes[SL_AXIS_COUNT] = { &o->tp, &o->pp, &o->vpp, &o->ep, &o->etp };
    *sizes[axis] = n;
}

/* What is called possible can be planned, and what is called impossible can't. */
static void sizes_agree_with_plans(const char *path, struct sl_plan_options base, size_t fits_at_least, size_t misfits_at_least)
{
    struct sl_checkpoint *ck = opened(path);
    struct sl_size_choice c[64];
    size_t fits = 0, misfits = 0;
    base.format = SL_TO_MEGATRON;
    base.iteration = -1;
    for (int axis = 0; axis < SL_AXIS_COUNT; axis++) {
        const size_t count = sl_plan_sizes(ck, &base, (enum sl_axis)axis, c, 64);
        assert_in_range(count, 1, 64);
        assert_int_equal(c[0].size, 1);
        for (size_t i = 0; i < count; i++) {
            struct sl_plan_options o = base;
            struct sl_plan *plan = NULL;
            set_axis(&o, (enum sl_axis)axis, c[i].size);
            const int code = sl_plan_make(ck, NULL, &o, &plan, &err);
            if (c[i].fits != (code == SL_OK))
                fail_msg("%s axis %d size %d: said %s (%s), the plan says %d (%s)", path, axis, c[i].size, c[i].fits ? "fits" : "does not fit",
                         c[i].why, code, err.message);
            assert_true(c[i].fits ? !*c[i].why : *c[i].why != '\0');
            assert_true(i == 0 || c[i].size > c[i - 1].size);
            fits += c[i].fits;
            misfits += !c[i].fits;
            sl_plan_free(plan);
        }
    }
    assert_true(fits >= fits_at_least);
    assert_true(misfits >= misfits_at_least);
    sl_close(ck);
}

TEST(a_size_fits_when_a_plan_can_be_made_of_it)
{
    sizes_agree_with_plans(FIXTURES "llama_tp2_pp2", (struct sl_plan_options){ 0 }, 5, 3);
    sizes_agree_with_plans(FIXTURES "llama_tp2_pp2", (struct sl_plan_options){ .tp = 2, .pp = 3 }, 5, 3);
    sizes_agree_with_plans(FIXTURES "minicpm_tp1_pp2", (struct sl_plan_options){ .pp = 2, .vpp = 2 }, 4, 3);
    sizes_agree_with_plans(FIXTURES "qwen3moe_tp2_pp1_ep2_etp1", (struct sl_plan_options){ .tp = 1, .ep = 1, .etp = 1 }, 8, 2);
    sizes_agree_with_plans(FIXTURES "mixtral_tp1_pp1_ep2_etp1", (struct sl_plan_options){ .tp = 3, .ep = 2, .etp = 1 }, 6, 2);
}

/* llama_tp2_pp2: 4 heads in 2 groups, 3 layers */
TEST(a_size_that_does_not_fit_says_what_it_would_cut)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan_options o = { .tp = 3 };
    struct sl_size_choice c[16];
    const size_t count = sl_plan_sizes(ck, &o, SL_AXIS_TP, c, 16);
    assert_int_equal(count, 4);                          /* 1 2 3 4: the asked one is among them */
    assert_int_equal(c[2].size, 3);
    assert_false(c[2].fits);
    assert_string_equal(c[2].why, "num_attention_heads is 4, which does not divide over 3 ranks");
    assert_true(sl_plan_sizes(ck, &o, SL_AXIS_PP, c, 16) >= 2);
    assert_int_equal(c[1].size, 2);
    assert_non_null(strstr(c[1].why, "3 layers do not divide over 2 stages"));
    sl_plan_sizes(ck, &o, SL_AXIS_EP, c, 16);
    assert_true(c[0].fits);
    assert_int_equal(sl_plan_sizes(ck, &o, SL_AXIS_TP, c, 2), 2);
    sl_close(ck);
}

/* ---- a slow disk: BYTES_PER_SECOND for each read ---- */

#define BYTES_PER_SECOND 1000000.0
static struct sl_io_ops real_io;

static ssize_t slow_pread(int fd, void *buf, size_t len, off_t offset)
{
    const double seconds = (double)len / BYTES_PER_SECOND;
    nanosleep(&(struct timespec){ (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) }, NULL);
    return real_io.pread(fd, buf, len, offset);
}
static void disk_becomes_slow(void)
{
    real_io = sl_io;
    sl_io.pread = slow_pread;
}
static void disk_becomes_fast(void)
{
    sl_io = real_io;
}

static struct sl_place looked(const char *path)
{
    struct sl_place p;
    if (sl_place_look(path, &p, &err))
        fail_msg("%s", err.message);
    return p;
}

TEST(a_place_is_free_or_taken)
{
    struct sl_place p = looked(in("new"));
    assert_int_equal(p.state, SL_PLACE_FREE);
    assert_false(p.exists);
    assert_false(p.parent_missing);
    assert_true(p.free_bytes > 0);
    p = looked(in("no/such/parent"));
    assert_int_equal(p.state, SL_PLACE_FREE);
    assert_true(p.parent_missing);
    assert_true(p.free_bytes > 0);
    p = looked(folder);
    assert_int_equal(p.state, SL_PLACE_EXISTS);
    assert_int_equal(sl_place_look("/", &p, &err), SL_USAGE);
    write_text(in("x.partial.journal"), "nothing of ours\n", 16);
    p = looked(in("x"));
    assert_int_equal(p.tensors_written, 0);
    assert_string_equal(p.plan, "");
}

static struct sl_job *started(struct sl_plan *plan, bool resume)
{
    const struct sl_run_options o = { .threads = 2, .tell = true, .resume = resume };
    struct sl_job *job;
    if (sl_convert_start(plan, &o, &job, &err))
        fail_msg("%s: %s", err.where, err.message);
    return job;
}

static void wait_for_tensors(struct sl_job *job, uint64_t count)
{
    struct sl_progress p = { .phase = SL_PHASE_PREPARE };
    for (int i = 0; i < 2000 && !(p.phase == SL_PHASE_COPY && p.tensors_done >= count); i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        sl_job_progress(job, &p);
    }
    assert_true(p.tensors_done >= count);
}

static size_t with_status(const struct sl_job *job, enum sl_result_status status)
{
    size_t n = 0;
    for (size_t i = 0; i < sl_result_count(job); i++)
        n += sl_result_at(job, i)->status == status;
    return n;
}

TEST(a_run_is_seen_from_outside_drains_between_tensors_and_goes_on)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, in("hf"));
    disk_becomes_slow();                                 /* 91.6 KB: 46 ms with two workers */
    struct sl_job *job = started(plan, false);
    wait_for_tensors(job, 3);
    struct sl_place p = looked(in("hf"));
    assert_int_equal(p.state, SL_PLACE_WRITING);
    assert_int_equal(p.pid, getpid());
    assert_string_equal(p.plan, sl_plan_info(plan)->hash);
    assert_true(p.told);
    assert_false(p.exists);
    assert_true(sl_text_ends(p.source, "llama_tp2_pp2"));
    assert_int_equal(p.progress.workers, 2);
    assert_true(p.progress.all_total > 2 * 91600);       /* copied, synced, read back */

    sl_job_drain(job, true);
    assert_int_equal(sl_job_wait(job, &err), SL_INTERRUPTED);
    disk_becomes_fast();
    assert_says(err, "go on with --resume");
    const size_t written = with_status(job, SL_RESULT_WRITTEN);
    assert_in_range(written, 3, 29);
    p = looked(in("hf"));
    assert_int_equal(p.state, SL_PLACE_UNFINISHED);
    assert_int_equal(p.tensors_written, written);        /* none was left in the middle */
    assert_true(p.ended);
    assert_int_equal(p.code, SL_INTERRUPTED);
    assert_non_null(strstr(p.message, "--resume"));
    assert_int_equal(p.recent_count, written < SL_PLACE_RECENT ? written : SL_PLACE_RECENT);
    assert_int_equal(p.recent[0].status, SL_RESULT_WRITTEN);
    sl_job_free(job);

    job = started(plan, true);
    assert_int_equal(sl_job_wait(job, &err), 0);
    assert_int_equal(with_status(job, SL_RESULT_VERIFIED), 30);
    struct sl_progress g;
    sl_job_progress(job, &g);
    assert_int_equal(g.all_done, g.all_total);
    sl_job_free(job);
    p = looked(in("hf"));
    assert_int_equal(p.state, SL_PLACE_EXISTS);
    assert_false(p.told);
    assert_false(sl_path_exists(in("hf.partial.progress")));
    sl_plan_free(plan);
    sl_close(ck);
}

TEST(waiting_for_a_slow_disk_is_told_as_such)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, in("hf"));
    struct sl_progress p;
    disk_becomes_slow();
    struct sl_job *job = started(plan, false);
    const int code = sl_job_wait(job, &err);
    disk_becomes_fast();
    assert_int_equal(code, 0);
    sl_job_progress(job, &p);
    /* 91.6 KB read twice from the source and once from the target at 1 MB/s */
    assert_true(p.read_wait > 0.25);
    assert_true(p.read_wait > p.write_wait && p.read_wait > p.working);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
}

TEST(a_torn_progress_file_is_not_believed)
{
    static const char text[] = "00000000 shardlens-progress 1\nholder x 1\nstate 0 0 0\nall 5 6\n";
    write_text(in("y.partial.journal"), "", 0);
    write_text(in("y.partial.progress"), text, sizeof text - 1);
    const struct sl_place p = looked(in("y"));
    assert_int_equal(p.state, SL_PLACE_UNFINISHED);
    assert_false(p.told);
    assert_int_equal(p.progress.all_total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_size_fits_when_a_plan_can_be_made_of_it),
        ROW(a_size_that_does_not_fit_says_what_it_would_cut),
        IN_FOLDER(a_place_is_free_or_taken),
        IN_FOLDER(a_run_is_seen_from_outside_drains_between_tensors_and_goes_on),
        IN_FOLDER(waiting_for_a_slow_disk_is_told_as_such),
        IN_FOLDER(a_torn_progress_file_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
