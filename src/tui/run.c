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
    r->state = RUN_GOING;
    r->seen_count = sl_result_count(r->job);
    r->seen = calloc(r->seen_count + 1, 1);
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
    return app->run.state == RUN_STARTING || app->run.state == RUN_GOING;
}

void run_forget(struct app *app)
{
    struct run_state *r = &app->run;
    sl_job_free(r->job);
    if (app->map.pieces_plan == r->plan.plan)
        map_forget(app);
    planned_free(&r->plan);
    opened_drop(r->opened);
    free(r->seen);
    *r = (struct run_state){ 0 };
    free(app->report.worst);
    app->report = (struct report_state){ .all = true };
}

/* ---- watching ------------------------------------------------------------------------------- */

#define SECONDS_BETWEEN_SAMPLES 1.0

static void sample(struct run_state *r)
{
    double past = r->progress.seconds - r->history_seconds;
    uint64_t moved = r->progress.read_bytes + r->progress.written_bytes;
    if (past < SECONDS_BETWEEN_SAMPLES)
        return;
    if (r->history_count == HISTORY)
        memmove(r->history, r->history + 1, (HISTORY - 1) * sizeof r->history[0]);
    else
        r->history_count++;
    r->history[r->history_count - 1] = moved > r->history_bytes ? (double)(moved - r->history_bytes) / past : 0;
    r->history_seconds = r->progress.seconds;
    r->history_bytes = moved;
}

static void note(size_t *list, size_t *count, size_t result)
{
    memmove(list + 1, list, (TICKER - 1) * sizeof list[0]);
    list[0] = result;
    *count += *count < TICKER;
}

/* What became verified, written or bad since the last look. */
static void look_at_results(struct run_state *r)
{
    for (size_t i = 0; r->seen && i < r->seen_count; i++) {
        const struct sl_result *result = sl_result_at(r->job, i);
        if (!result || r->seen[i] == (uint8_t)result->status)
            continue;
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
        app_say(app, STYLE_WARN, "stopped in order; the state is kept: 5, choose resume, START goes on");
    else
        app_say(app, STYLE_BAD, "the conversion failed: %s", r->error.message);
}

bool run_update(struct app *app)
{
    struct run_state *r = &app->run;
    struct sl_progress before = r->progress;
    if (r->state != RUN_GOING)
        return false;
    sl_job_progress(r->job, &r->progress);
    sample(r);
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

/* Time left as a range: from the slowest and the fastest of the last samples. */
#define SAMPLES_FOR_RANGE 8
static void left_text(const struct run_state *r, char *out, size_t room)
{
    double slow = 0, fast = 0;
    char a[32], b[32];
    int first = r->history_count > SAMPLES_FOR_RANGE ? r->history_count - SAMPLES_FOR_RANGE : 0;
    for (int i = first; i < r->history_count; i++) {
        slow = slow == 0 || r->history[i] < slow ? r->history[i] : slow;
        fast = r->history[i] > fast ? r->history[i] : fast;
    }
    double left = (double)(r->progress.bytes_total - r->progress.bytes_done);
    double both = r->progress.phase == SL_PHASE_COPY ? 2 : 1;     /* a byte copied is read and written */
    if (r->history_count < 2 || slow <= 0 || r->progress.bytes_done > r->progress.bytes_total)
        snprintf(out, room, "left: not known yet");
    else
        snprintf(out, room, "left %s .. %s in this phase", duration_text(left * both / fast, a, sizeof a), duration_text(left * both / slow, b, sizeof b));
}

/* ---- drawing ------------------------------------------------------------------------------------ */

static void draw_overall(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    const struct sl_progress *g = &r->progress;
    char a[32], b[32], left[96], took[32];
    double part = g->bytes_total ? (double)g->bytes_done / (double)g->bytes_total : r->state == RUN_DONE;
    pane_textw(p, 0, 0, 8, STYLE_HEAD, sl_phase_name(g->phase));
    pane_bar(p, 0, 9, p.cols - 9 - 6, r->state == RUN_FAILED ? STYLE_BAD : STYLE_GOOD, part);
    snprintf(a, sizeof a, "%d%%", (int)(part * 100));
    pane_right(p, 0, p.cols, STYLE_TEXT, a);
    pane_text(p, 1, 0, STYLE_HEAD, "bytes");
    uint64_t all = r->state == RUN_DONE ? r->plan.info->write_bytes : g->bytes_total, so_far = r->state == RUN_DONE ? all : g->bytes_done;
    uint64_t tensors = r->state == RUN_DONE ? r->seen_count : g->tensors_done;
    int col = 9 + pane_printf(p, 1, 9, STYLE_TEXT, "%s of %s", sl_text_bytes(so_far, a, sizeof a), sl_text_bytes(all, b, sizeof b));
    pane_printf(p, 1, col, STYLE_TEXT, "   tensors %llu of %zu   verified %llu", (unsigned long long)tensors, r->seen_count, (unsigned long long)g->verified);
    pane_text(p, 2, 0, STYLE_HEAD, "speed");
    double seconds = g->seconds > 0 ? g->seconds : 1e9;
    left_text(r, left, sizeof left);
    col = 9 + pane_printf(p, 2, 9, STYLE_TEXT, "%s read  %s written", rate_text((double)g->read_bytes / seconds, a, sizeof a),
                          rate_text((double)g->written_bytes / seconds, b, sizeof b));
    if (r->state == RUN_GOING)
        pane_printf(p, 2, col + 3, STYLE_TEXT, "%s", g->paused ? "PAUSED: p goes on" : left);
    else
        pane_printf(p, 2, col + 3, STYLE_TEXT, "took %s", duration_text(g->seconds, took, sizeof took));
}

static void draw_history(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    double samples[HISTORY], most = 1;
    char rate[40];
    int room = p.cols - 9 - 18, first = r->history_count > room ? r->history_count - room : 0;
    for (int i = first; i < r->history_count; i++)
        most = r->history[i] > most ? r->history[i] : most;
    for (int i = first; i < r->history_count; i++)
        samples[i - first] = r->history[i] / most;
    pane_text(p, 0, 0, STYLE_HEAD, "by second");
    if (r->history_count && room > 0) {
        pane_spark(p, 0, 10, STYLE_ACCENT, samples, r->history_count - first);
        snprintf(rate, sizeof rate, "top %s", rate_text(most, (char[32]){ 0 }, 32));
        pane_right(p, 0, p.cols, STYLE_DIM, rate);
    } else {
        pane_text(p, 0, 10, STYLE_DIM, "no sample yet");
    }
}

static void draw_workers(struct app *app, struct pane p)
{
    const struct sl_progress *g = &app->run.progress;
    char done[32];
    int bar = p.cols >= 100 ? 22 : p.cols >= 60 ? 12 : 0;
    for (int row = 0; row < p.rows && (uint32_t)row < g->workers && row < SL_MAX_WORKERS; row++) {
        const struct sl_worker_progress *w = &g->worker[row];
        if (row == p.rows - 1 && g->workers > (uint32_t)p.rows) {
            pane_printf(p, row, 0, STYLE_DIM, ".. %u more workers", g->workers - (uint32_t)row);
            return;
        }
        double part = w->total ? (double)w->done / (double)w->total : 0;
        pane_printf(p, row, 0, STYLE_HEAD, "%2d", row + 1);
        pane_bar(p, row, 3, bar, STYLE_ACCENT, part);
        if (!w->tensor[0]) {
            pane_text(p, row, 4 + bar, STYLE_DIM, "idle");
            continue;
        }
        pane_name(p, row, 4 + bar, p.cols - bar - 4 - 18, STYLE_TEXT, w->tensor);
        pane_textw(p, row, p.cols - 17, 7, STYLE_DIM, sl_phase_name(w->phase));
        pane_right(p, row, p.cols, STYLE_TEXT, sl_text_bytes(w->moved, done, sizeof done));
    }
}

static void draw_result(struct app *app, struct pane p, int row, size_t i)
{
    const struct sl_result *result = sl_result_at(app->run.job, i);
    char text[96], bytes[32];
    if (!result)
        return;
    char sign[2] = { result_sign(result->status), '\0' };
    pane_text(p, row, 0, sign_style(sign[0]), sign);
    if (result->checksum)
        snprintf(text, sizeof text, "%s  %04llx..%02llx", sl_result_status_name(result->status), (unsigned long long)(result->checksum >> 48),
                 (unsigned long long)(result->checksum & 0xff));
    else
        snprintf(text, sizeof text, "%s", sl_result_status_name(result->status));
    int note_width = p.cols >= 60 ? 20 : 10, name = p.cols - note_width - 14;
    pane_name(p, row, 2, name, STYLE_TEXT, result->name);
    pane_right(p, row, 2 + name + 10, STYLE_TEXT, sl_text_bytes(result->bytes, bytes, sizeof bytes));
    pane_right(p, row, p.cols, STYLE_DIM, text);
}

static void draw_ticker(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    int row = 0;
    for (size_t i = 0; i < r->bad_count && row < p.rows; i++, row++)
        draw_result(app, p, row, r->bad[i]);
    for (size_t i = 0; i < r->ticker_count && row < p.rows; i++, row++)
        draw_result(app, p, row, r->ticker[i]);
    if (!row)
        pane_text(p, 0, 0, STYLE_DIM, "nothing written yet");
}

/* By file: how many of its tensors are there, and verified. */
static void draw_files(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    const struct sl_plan_info *info = r->plan.info;
    for (int row = 0; row < p.rows && (size_t)row < info->file_count; row++) {
        size_t written = 0, verified = 0;
        for (size_t i = 0; i < info->target_count && i < r->seen_count && info->target_count < 200000; i++)
            if (sl_plan_target(r->plan.plan, i)->file == row) {
                written += r->seen[i] != SL_RESULT_PENDING;
                verified += r->seen[i] == SL_RESULT_VERIFIED;
            }
        size_t all = info->files[row].tensors ? info->files[row].tensors : 1;
        pane_name(p, row, 0, p.cols - 26, STYLE_TEXT, info->files[row].name);
        pane_bar(p, row, p.cols - 24, 12, verified == all ? STYLE_GOOD : STYLE_ACCENT, (double)written / (double)all);
        pane_text(p, row, p.cols - 11, STYLE_DIM, verified == all ? "verified" : written == all ? "written" : written ? "writing" : "to come");
    }
}

static void draw_status(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    char took[32];
    const struct { char sign; const char *word; } states[] = {
        [RUN_NONE] = { '.', "" }, [RUN_STARTING] = { '.', "starting" }, [RUN_GOING] = { r->progress.paused ? '~' : '=', r->progress.paused ? "PAUSED" : "WRITING" },
        [RUN_DONE] = { '=', "DONE" }, [RUN_FAILED] = { '!', r->error.code == SL_INTERRUPTED ? "STOPPED" : "FAILED" },
    };
    char sign = r->progress.mismatched ? '!' : states[r->state].sign;
    int col = pane_printf(p, 0, 0, sign_style(sign), "%c %s", sign, r->stopping && r->state == RUN_GOING ? "STOPPING" : states[r->state].word);
    col += pane_printf(p, 0, col, r->progress.mismatched ? STYLE_BAD : STYLE_TEXT, "  %llu of %llu verified, %llu mismatch",
                       (unsigned long long)r->progress.verified, (unsigned long long)r->seen_count, (unsigned long long)r->progress.mismatched);
    snprintf(took, sizeof took, "%s", duration_text(r->progress.seconds, (char[32]){ 0 }, 32));
    pane_printf(p, 0, col, STYLE_TEXT, "  %s", took);
    if (r->plan.info && r->plan.info->target)
        pane_name(p, 0, col + 10, p.cols - col - 10, STYLE_DIM, r->plan.info->target);
}

static void draw_wide(struct app *app, struct pane p)
{
    struct pane box = pane_box(pane_take(&p, 6), "overall");
    draw_overall(app, box);
    draw_history(app, pane_part(box, 3, 0, 1, box.cols));
    int workers = (int)app->run.progress.workers + 2, most = p.rows / 2;
    workers = workers < 4 ? 4 : workers > most ? most : workers;
    struct pane middle = pane_take(&p, workers);
    int left = middle.cols * 64 / 100;
    draw_workers(app, pane_box(pane_part(middle, 0, 0, middle.rows, left), "workers"));
    draw_files(app, pane_box(pane_part(middle, 0, left, middle.rows, middle.cols - left), "files"));
    draw_ticker(app, pane_box(p, "just now; what differs stays on top"));
}

static void draw_middle(struct app *app, struct pane p)
{
    draw_overall(app, pane_take(&p, 3));
    if (p.rows > 5)
        draw_history(app, pane_take(&p, 1));
    if (p.rows > 8)
        pane_take(&p, 1);
    int workers = (int)app->run.progress.workers, most = p.rows > 4 ? p.rows * 3 / 5 : p.rows;
    draw_workers(app, pane_take(&p, workers < most ? workers : most));
    if (p.rows > 3) {
        pane_take(&p, 1);
        pane_text(pane_take(&p, 1), 0, 0, STYLE_HEAD, "just now");
    }
    draw_ticker(app, p);
}

static void draw(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    if (r->state == RUN_NONE) {
        pane_wrap(p, p.rows > 2 ? 1 : 0, 0, STYLE_DIM, "no conversion runs: press 5 to choose one and START");
        return;
    }
    draw_status(app, pane_take(&p, 1));
    if (r->state == RUN_FAILED) {
        char text[sizeof r->error.where + sizeof r->error.message + 4];
        snprintf(text, sizeof text, "%s%s%s", r->error.where, *r->error.where ? ": " : "", r->error.message);
        pane_take(&p, pane_wrap(pane_part(p, 0, 0, 3, p.cols), 0, 0, STYLE_BAD, text));
    }
    if (!r->job)
        return;
    if (p.cols >= 118 && p.rows >= 22)
        draw_wide(app, p);
    else
        draw_middle(app, p);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static void move(struct app *app, int rows, int cols, bool page)
{
    (void)rows; (void)cols; (void)page;
    app_say(app, STYLE_DIM, app->run.state == RUN_DONE ? "7 lists every tensor that was written" : "nothing to move through here; p pauses, x stops");
}
static void end(struct app *app, bool last)
{
    (void)last;
    move(app, 0, 0, false);
}

static void enter(struct app *app)
{
    if (app->run.state == RUN_DONE || app->run.state == RUN_FAILED)
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
    if (r->state != RUN_GOING) {
        app_say(app, STYLE_DIM, "no conversion runs that could be paused");
        return;
    }
    sl_job_pause(r->job, !r->progress.paused);
    app_say(app, STYLE_TEXT, r->progress.paused ? "going on" : "paused; p goes on");
    sl_job_progress(r->job, &r->progress);
}

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

void act_stop(struct app *app)
{
    if (app->screen == SCREEN_DIFF)
        diff_stop(app);
    else if (app->run.state == RUN_GOING)
        prompt_ask(app, "stop the conversion? what is done is kept, resume goes on with it", stop_answer);
    else
        app_say(app, STYLE_DIM, "no conversion runs that could be stopped");
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "convert ");
    convert_command(app, out);
}

const struct screen_ops run_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .command = command };
