/* jobs.c: the long work: convert, verify, check; thin over src/run. */
#include "api/handle.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct sl_job *job_new(struct sl_checkpoint *ck)
{
    struct sl_job *job = calloc(1, sizeof *job);
    if (job) {
        job->ck = ck;
        job->problems.arena = &job->arena;
    }
    return job;
}

static void job_release(struct sl_job *job)
{
    sl_layout_free(&job->plain[0]);
    sl_layout_free(&job->plain[1]);
    sl_conversion_part_free(&job->part);
    sl_arena_free(&job->arena);
    free(job);
}

/* Hands the started run to the caller, or undoes what was made. */
static int job_give(struct sl_job *job, int code, struct sl_job **out)
{
    if (code) {
        job_release(job);
        return code;
    }
    *out = job;
    return SL_OK;
}

static int check_parts(const struct sl_plan *plan, const struct sl_run_options *o, struct sl_error *err)
{
    if (plan->p->single_file)
        return sl_fail(err, SL_USAGE, "", "a target of one file is not done in parts; leave --part and --finish out, or say --to hf-bin");
    if (o->parts && o->finish)
        return sl_fail(err, SL_USAGE, "", "--part and --finish are two steps: all parts first, then --finish");
    if (o->parts && (o->part < 1 || o->part > o->parts || o->parts > SL_MAX_PARTS))
        return sl_fail(err, SL_USAGE, "", "--part %u/%u: not a part; parts are counted from 1/N to N/N, and N is at most %d", o->part, o->parts, SL_MAX_PARTS);
    if (o->parts && o->report)
        return sl_fail(err, SL_USAGE, "", "--report belongs to --finish; a part's own report is in its folder");
    return SL_OK;
}

int sl_convert_start(struct sl_plan *plan, const struct sl_run_options *options, struct sl_job **out, struct sl_error *err)
{
    if (!plan->info.target)
        return sl_fail(err, SL_USAGE, "", "the plan was made without a target; give it one");
    struct sl_run_options o = options ? *options : (struct sl_run_options){ 0 };
    if (!o.report && plan->p->single_file)    /* there is no folder that it could be in */
        o.report = sl_arena_printf(&plan->arena, "%s.shardlens-report.json", plan->info.target);
    struct sl_job *job = !o.report && plan->p->single_file ? NULL : job_new(plan->ck);
    if (!job)
        return sl_fail_memory(err, sizeof *job);
    int code = o.parts || o.finish ? check_parts(plan, &o, err) : SL_OK;
    if (!code && o.parts)
        code = sl_conversion_part(plan->p, o.part, o.parts, &job->part, err);
    if (!code)
        code = sl_run_convert(o.parts ? &job->part : plan->p, plan->info.target, &o, &job->run, err);
    return job_give(job, code, out);
}

/* What is wrong with the files themselves; NULL: nothing is. Code that a file asks for is no damage: it is never run. */
static const struct sl_problem *damage_of(const struct sl_checkpoint *ck)
{
    for (size_t i = 0; i < ck->problems.count; i++)
        if (ck->problems.items[i].severity == SL_ERROR && strcmp(ck->problems.items[i].code, "pickle-call"))
            return &ck->problems.items[i];
    return NULL;
}

static int need_layout(const struct sl_checkpoint *ck, struct sl_error *err)
{
    if (ck->has_layout)
        return SL_OK;
    if (ck->m->missing)
        return sl_fail(err, SL_USAGE, ck->c->path, "%s", ck->m->missing);
    const struct sl_problem *damage = damage_of(ck);
    if (damage)
        return sl_fail(err, SL_INPUT, ck->c->path, "%s: %s", damage->where, damage->message);
    return sl_fail(err, SL_UNSUPPORTED, ck->c->path, "%s",
                   ck->m->unsupported ? ck->m->unsupported : "no family is known for it, so its weights can't be compared");
}

typedef int run_pair(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                     const struct sl_run_options *options, struct sl_run **out, struct sl_error *err);

static bool same_names(const struct sl_layout *a, const struct sl_layout *b)
{
    bool same = a->param_count == b->param_count;
    for (size_t i = 0; same && i < a->param_count; i++) {
        uint64_t at;
        same = sl_map_get(&b->param_index, a->params[i].name, strlen(a->params[i].name), &at);
    }
    return same;
}

/* Where one side does not tell its family or its heads, names alone will do if both have the same ones. */
static bool compare_by_names(struct sl_job *job, const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    if ((a->has_layout && b->has_layout) || damage_of(a) || damage_of(b))
        return false;
    return !sl_layout_identity(a->c, &job->arena, &job->plain[0], NULL) && !sl_layout_identity(b->c, &job->arena, &job->plain[1], NULL) &&
           same_names(&job->plain[0], &job->plain[1]);
}

static int pair_start(run_pair *run, bool measures, struct sl_checkpoint *a, struct sl_checkpoint *b, const struct sl_run_options *options,
                      struct sl_job **out, struct sl_error *err)
{
    struct sl_job *job = job_new(a);
    if (!job)
        return sl_fail_memory(err, sizeof *job);
    job->other = b;
    job->measures = measures;
    if (compare_by_names(job, a, b))
        return job_give(job, run(a->c, &job->plain[0], b->c, &job->plain[1], options, &job->run, err), out);
    int code = need_layout(a, err);
    if (!code)
        code = need_layout(b, err);
    if (!code)
        code = run(a->c, &a->layout, b->c, &b->layout, options, &job->run, err);
    return job_give(job, code, out);
}

int sl_verify_start(struct sl_checkpoint *a, struct sl_checkpoint *b, const struct sl_run_options *options, struct sl_job **out,
                    struct sl_error *err)
{
    return pair_start(sl_run_verify, false, a, b, options, out, err);
}

int sl_diff_start(struct sl_checkpoint *a, struct sl_checkpoint *b, const struct sl_run_options *options, struct sl_job **out,
                  struct sl_error *err)
{
    return pair_start(sl_run_diff, true, a, b, options, out, err);
}

int sl_check_start(struct sl_checkpoint *ck, bool deep, const struct sl_run_options *options, struct sl_job **out,
                   struct sl_error *err)
{
    struct sl_job *job = job_new(ck);
    if (!job)
        return sl_fail_memory(err, sizeof *job);
    sl_problems_copy(&job->problems, &ck->problems);
    return job_give(job, sl_run_check(ck->c, ck->has_layout ? &ck->layout : NULL, ck->m, &job->problems, deep, options, &job->run, err),
                    out);
}

const struct sl_check_result *sl_check_result(const struct sl_job *job)
{
    return sl_run_check_result(job->run);
}

void sl_job_progress(const struct sl_job *job, struct sl_progress *out)
{
    sl_run_progress(job->run, out);
}

void sl_job_pause(struct sl_job *job, bool pause)
{
    sl_run_pause(job->run, pause);
}

void sl_job_cancel(struct sl_job *job, int code)
{
    sl_run_cancel(job->run, code);
}

void sl_job_drain(struct sl_job *job, bool drain)
{
    sl_run_drain(job->run, drain);
}

uint32_t sl_job_workers(struct sl_job *job, uint32_t count)
{
    return sl_run_workers(job->run, count);
}

int sl_place_look(const char *dst, struct sl_place *out, struct sl_error *err)
{
    return sl_run_look(dst, out, err);
}

bool sl_job_finished(const struct sl_job *job)
{
    return sl_run_finished(job->run);
}

int sl_job_wait(struct sl_job *job, struct sl_error *err)
{
    return sl_run_wait(job->run, err);
}

int sl_job_follow(struct sl_job *job, unsigned every, sl_job_tell *tell, void *user, struct sl_error *err)
{
    enum { STEP = 10 };      /* milliseconds: an end is seen this soon */
    struct sl_progress p;
    unsigned waited = 0;
    bool cancelled = false;
    every = every ? every : 100;
    while (!sl_job_finished(job)) {
        nanosleep(&(struct timespec){ 0, STEP * 1000000L }, NULL);
        waited += STEP;
        if (waited < every)
            continue;
        waited = 0;
        sl_job_progress(job, &p);
        int code = p.finished ? SL_OK : tell(&p, user);
        if (code && !cancelled) {
            sl_job_cancel(job, code);
            cancelled = true;
        }
    }
    sl_job_progress(job, &p);
    tell(&p, user);
    return sl_job_wait(job, err);
}

void sl_job_free(struct sl_job *job)
{
    if (!job)
        return;
    sl_run_free(job->run);
    job_release(job);
}

size_t sl_result_count(const struct sl_job *job)
{
    return sl_run_result_count(job->run);
}

const struct sl_result *sl_result_at(const struct sl_job *job, size_t index)
{
    return index < sl_run_result_count(job->run) ? sl_run_result_at(job->run, index) : NULL;
}

const struct sl_summary *sl_job_summary(const struct sl_job *job)
{
    return sl_run_summary(job->run);
}

char *sl_job_report_json(const struct sl_job *job)
{
    struct sl_buf b = { 0 };
    if (job->other)
        sl_pair_report(job, &b);
    if ((!job->other && sl_run_report(job->run, &b)) || b.failed) {
        sl_buf_free(&b);
        return NULL;
    }
    return b.data;
}
