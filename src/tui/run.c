/* run.c: the conversion as it goes: bars, rates, what was verified. */
#include "tui/app.h"
#include "base/pool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- starting -------------------------------------------------------------------------- */

struct start_task { struct task task; struct sl_plan *plan; struct sl_run_options options; struct sl_job *job; int code; struct sl_error error; };

static void start_work(struct task *task)
{
    struct start_task *t = (struct start_task *)task;
    t->code = sl_convert_start(t->plan, &t->options, &t->job, &t->error);
}

static void start_apply(struct app *app, struct task *task)
{
    struct start_task *t = (struct start_task *)task;
    struct run_state *r = &app->run;
    if (t->code) {
        r->state = RUN_FAILED;
        r->error = t->error;
        app_say(app, STYLE_BAD, "it did not start, nothing was written: %s", t->error.message);
        return;
    }
    r->job = t->job;
    t->job = NULL;
    snprintf(r->target, sizeof r->target, "%s", r->plan.info->target ? r->plan.info->target : "");
    r->state = RUN_GOING;
    r->seen_count = sl_result_count(r->job);
    r->seen = calloc(r->seen_count + 1, 1);
    r->file_written = calloc(r->plan.info->file_count + 1, sizeof *r->file_written);
    r->file_verified = calloc(r->plan.info->file_count + 1, sizeof *r->file_verified);
    sl_job_progress(r->job, &r->progress);
}

static void start_drop(struct app *app, struct task *task)
{
    struct start_task *t = (struct start_task *)task;
    (void)app;
    sl_job_free(t->job);
    free(t);
}

void run_begin(struct app *app)
{
    struct start_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    run_forget(app);
    struct run_state *r = &app->run;
    r->opened = opened_use(app->opened);
    r->plan = app->plan;                 /* the run owns the plan from here */
    app->plan = (struct planned){ 0 };
    app->plan_state = PLAN_NONE;
    convert_options(app, &t->options);
    r->state = RUN_STARTING;
    r->verify = t->options.verify;
    t->task = (struct task){ .work = start_work, .apply = start_apply, .drop = start_drop };
    t->plan = r->plan.plan;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
    app_go(app, SCREEN_RUN);
}

bool run_going(const struct app *app)
{
    return !app->run.attached && (app->run.state == RUN_STARTING || app->run.state == RUN_GOING);
}

void run_forget(struct app *app)
{
    struct run_state *r = &app->run;
    sl_job_free(r->job);
    if (app->map.traced_plan == r->plan.plan)
        map_forget(app);
    planned_free(&r->plan);
    opened_drop(r->opened);
    free(r->seen);
    free(r->file_written);
    free(r->file_verified);
    free(r->place);
    *r = (struct run_state){ 0 };
    free(app->report.worst);
    app->report = (struct report_state){ .all = true };
}

/* ---- watching ------------------------------------------------------------------------------- */

#define SECONDS_BETWEEN_SAMPLES 1.0

static void sample_workers(struct run_state *r, double past)
{
    for (uint32_t i = 0; i < r->progress.workers && i < SL_MAX_WORKERS; i++) {
        const uint64_t moved = r->progress.worker[i].moved;
        r->worker_rate[i] = moved > r->worker_moved[i] ? (double)(moved - r->worker_moved[i]) / past : 0;
        r->worker_moved[i] = moved;
    }
}

static void sample_waits(struct run_state *r)
{
    const double now[WAITS] = { r->progress.read_wait, r->progress.write_wait, r->progress.working };
    for (int i = 0; i < WAITS; i++) {
        r->waits_now[i] = now[i] > r->waits[i] ? now[i] - r->waits[i] : 0;
        r->waits[i] = now[i];
    }
}

void run_sample(struct run_state *r)
{
    const double past = r->progress.seconds - r->history_seconds;
    const uint64_t moved = r->progress.read_bytes + r->progress.written_bytes, through = r->progress.all_done;
    if (past < SECONDS_BETWEEN_SAMPLES)
        return;
    if (r->history_count == HISTORY) {
        memmove(r->history, r->history + 1, (HISTORY - 1) * sizeof r->history[0]);
        memmove(r->history_all, r->history_all + 1, (HISTORY - 1) * sizeof r->history_all[0]);
    } else {
        r->history_count++;
    }
    r->history[r->history_count - 1] = moved > r->history_bytes ? (double)(moved - r->history_bytes) / past : 0;
    r->history_all[r->history_count - 1] = through > r->history_through ? (double)(through - r->history_through) / past : 0;
    r->history_seconds = r->progress.seconds;
    r->history_bytes = moved;
    r->history_through = through;
    sample_workers(r, past);
    sample_waits(r);
}

static void note(size_t *list, size_t *count, size_t result)
{
    memmove(list + 1, list, (TICKER - 1) * sizeof list[0]);
    list[0] = result;
    *count += *count < TICKER;
}

static void count_in_file(struct run_state *r, size_t i, enum sl_result_status before, enum sl_result_status now)
{
    const int32_t file = i < r->plan.info->target_count ? sl_plan_target(r->plan.plan, i)->file : -1;
    if (file < 0 || (size_t)file >= r->plan.info->file_count || !r->file_written || !r->file_verified)
        return;
    r->file_written[file] += before == SL_RESULT_PENDING;
    r->file_verified[file] += now == SL_RESULT_VERIFIED;
}

/* What became verified, written or bad since the last look. */
static void look_at_results(struct run_state *r)
{
    for (size_t i = 0; r->seen && i < r->seen_count; i++) {
        const struct sl_result *result = sl_result_at(r->job, i);
        if (!result || r->seen[i] == (uint8_t)result->status)
            continue;
        count_in_file(r, i, (enum sl_result_status)r->seen[i], result->status);
        r->seen[i] = (uint8_t)result->status;
        if (result_sign(result->status) == '!')
            note(r->bad, &r->bad_count, i);
        else
            note(r->ticker, &r->ticker_count, i);
    }
}

static void finished(struct app *app)
{
    struct run_state *r = &app->run;
    int code = sl_job_wait(r->job, &r->error);
    look_at_results(r);
    r->state = code ? RUN_FAILED : RUN_DONE;
    report_ready(app);
    if (!code)
        app_say(app, STYLE_GOOD, "done: the folder is whole; 7 shows the report");
    else if (code == SL_INTERRUPTED)
        app_say(app, STYLE_WARN, "stopped in order; the state is kept: 5 offers to go on with it");
    else
        app_say(app, STYLE_BAD, "the conversion failed: %s", r->error.message);
}

bool run_update(struct app *app)
{
    struct run_state *r = &app->run;
    struct sl_progress before = r->progress;
    if (r->attached)
        return attach_update(app);
    if (r->state != RUN_GOING)
        return false;
    sl_job_progress(r->job, &r->progress);
    run_sample(r);
    look_at_results(r);
    if (sl_job_finished(r->job)) {
        finished(app);
        return true;
    }
    return memcmp(&before, &r->progress, sizeof before) != 0;
}

const char *run_rate(const struct app *app, char *out, size_t room)
{
    const struct run_state *r = &app->run;
    return rate_text(r->progress.seconds > 0 ? (double)r->progress.written_bytes / r->progress.seconds : 0, out, room);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static void move(struct app *app, int rows, int cols, bool page)
{
    (void)rows; (void)cols; (void)page;
    app_say(app, STYLE_DIM, app->run.state == RUN_DONE ? "7 lists every tensor that was written" : "nothing to move through here; p pauses, x stops, d detaches");
}
static void end(struct app *app, bool last)
{
    (void)last;
    move(app, 0, 0, false);
}

static void enter(struct app *app)
{
    if (app->run.attached)
        app_say(app, STYLE_DIM, "the report of another process's run lies in its target: open that");
    else if (app->run.state == RUN_DONE || app->run.state == RUN_FAILED)
        app_go(app, SCREEN_REPORT);
    else
        app_say(app, STYLE_DIM, run_going(app) ? "the report is on screen 7 once it is done" : "press 5 to choose a conversion");
}

void act_pause(struct app *app)
{
    struct run_state *r = &app->run;
    if (app->screen == SCREEN_DIFF) {
        diff_pause(app);
        return;
    }
    if (r->attached) {
        app_say(app, STYLE_DIM, "another process runs it: pausing is for the terminal that began it; x stops it in order");
        return;
    }
    if (r->state != RUN_GOING) {
        app_say(app, STYLE_DIM, "no conversion runs that could be paused");
        return;
    }
    sl_job_pause(r->job, !r->progress.paused);
    app_say(app, STYLE_TEXT, r->progress.paused ? "going on" : "paused; p goes on");
    sl_job_progress(r->job, &r->progress);
}

static void change_workers(struct app *app, int by)
{
    struct run_state *r = &app->run;
    if (r->state != RUN_GOING || r->attached) {
        app_say(app, STYLE_DIM, r->attached ? "another process runs it: its workers are for the terminal that began it" : "no conversion runs whose workers could be changed");
        return;
    }
    const uint32_t before = r->workers ? r->workers : r->progress.workers, wanted = before + (uint32_t)by;
    if (wanted < 1) {
        app_say(app, STYLE_DIM, "one worker is the least; p pauses");
        return;
    }
    r->workers = sl_job_workers(r->job, wanted);
    if (r->workers < wanted)
        app_say(app, STYLE_WARN, "%u workers are the most: the memory field of screen 5 is what their buffers come from", r->workers);
    else
        app_say(app, STYLE_TEXT, by > 0 ? "%u workers" : "%u workers, once one has done what it is at", r->workers);
    sl_job_progress(r->job, &r->progress);
}
void act_more_workers(struct app *app) { change_workers(app, 1); }
void act_fewer_workers(struct app *app) { change_workers(app, -1); }

static void stop_answer(struct app *app, const char *text, bool accepted)
{
    (void)text;
    if (!accepted || app->run.state != RUN_GOING) {
        app_say(app, STYLE_TEXT, accepted ? "it had ended already" : "the conversion goes on");
        return;
    }
    app->run.stopping = true;
    sl_job_cancel(app->run.job, SL_INTERRUPTED);
    app_say(app, STYLE_WARN, "stopping in order");
}

void act_stop_now(struct app *app)
{
    if (app->run.attached)
        attach_stop(app);
    else if (app->run.state == RUN_GOING)
        prompt_ask(app, "stop the conversion now? what is done is kept, resume goes on with it", stop_answer);
    else
        app_say(app, STYLE_DIM, "no conversion runs that could be stopped");
}

/* Nothing is lost by it, and it can be taken back: so it does not ask. */
void act_stop(struct app *app)
{
    struct run_state *r = &app->run;
    if (app->screen == SCREEN_DIFF) {
        diff_stop(app);
    } else if (r->attached) {
        attach_stop(app);
    } else if (r->state != RUN_GOING) {
        app_say(app, STYLE_DIM, "no conversion runs that could be stopped");
    } else {
        sl_job_drain(r->job, !r->progress.draining);
        if (r->progress.paused && !r->progress.draining)
            sl_job_pause(r->job, false);
        app_say(app, STYLE_WARN, r->progress.draining ? "going on after all" : "stopping after the tensors in work; x again takes it back, X stops now");
        sl_job_progress(r->job, &r->progress);
    }
}

void act_detach(struct app *app)
{
    struct run_state *r = &app->run;
    if (r->attached)
        app->quit = true;                /* it never hung on this terminal */
    else if (r->state != RUN_GOING)
        app_say(app, STYLE_DIM, r->state == RUN_STARTING ? "it is just starting" : "no conversion runs that could be left alone");
    else
        app->quit = app->detach = true;
}

void act_freeze(struct app *app)
{
    struct run_state *r = &app->run;
    r->held = !r->held;
    memcpy(r->held_ticker, r->ticker, sizeof r->ticker);
    r->held_count = r->ticker_count;
    app_say(app, STYLE_TEXT, r->held ? "the list stands still; v lets it go on" : "the list goes on");
}

static void command(const struct app *app, struct sl_buf *out)
{
    if (app->run.attached) {
        sl_buf_str(out, "attach ");
        shell_word(out, app->run.target);
        return;
    }
    sl_buf_str(out, "convert ");
    convert_command(app, out);
}

const struct screen_ops run_ops = { .draw = run_draw, .move = move, .end = end, .enter = enter, .command = command };
