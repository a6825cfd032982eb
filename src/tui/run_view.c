/* run_view.c: a conversion as it goes: how far, how fast, how long still, what it
 * waits for, who is at what, what was just verified. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- how long still ------------------------------------------------------------------ */

#define SAMPLES_FOR_RANGE 8
/* Seconds left over all phases, by the fastest and the slowest of the last samples. */
static bool seconds_left(const struct run_state *r, double *least, double *most)
{
    const struct sl_progress *g = &r->progress;
    double slow = 0, fast = 0;
    int first = r->history_count > SAMPLES_FOR_RANGE ? r->history_count - SAMPLES_FOR_RANGE : 0;
    for (int i = first; i < r->history_count; i++) {
        slow = slow <= 0 || r->history_all[i] < slow ? r->history_all[i] : slow;
        fast = r->history_all[i] > fast ? r->history_all[i] : fast;
    }
    if (r->history_count < 2 || fast <= 0 || g->all_done > g->all_total || !g->all_total)
        return false;
    const double left = (double)(g->all_total - g->all_done);
    *least = left / fast;
    *most = slow > 0 ? left / slow : 10 * left / fast;
    return true;
}

static void left_text(const struct app *app, char *out, size_t room)
{
    double least, most;
    char a[32], b[32], at[16] = "";
    if (!seconds_left(&app->run, &least, &most)) {
        snprintf(out, room, "left: not known yet");
        return;
    }
    const time_t end = time(NULL) + (time_t)((least + most) / 2);
    struct tm tm;
    if (!app->options->frozen && most > 60 && localtime_r(&end, &tm))
        strftime(at, sizeof at, ", at %H:%M", &tm);
    snprintf(out, room, "left %s .. %s%s", duration_text(least, a, sizeof a), duration_text(most, b, sizeof b), at);
}

/* What most of the workers' time of the last second went to. */
static void bound_text(const struct run_state *r, char *out, size_t room)
{
    static const char *const words[WAITS] = { "reading", "writing", "computing (checksums, statistics, casts)" };
    double sum = 0;
    int most = 0;
    for (int i = 0; i < WAITS; i++) {
        sum += r->waits_now[i];
        most = r->waits_now[i] > r->waits_now[most] ? i : most;
    }
    if (sum <= 0) {
        snprintf(out, room, "%s", r->progress.paused ? "paused" : "not known yet");
        return;
    }
    snprintf(out, room, "%s: workers wait %d%% for reads, %d%% for writes, compute %d%%", words[most], (int)(100 * r->waits_now[WAIT_READ] / sum + 0.5),
             (int)(100 * r->waits_now[WAIT_WRITE] / sum + 0.5), (int)(100 * r->waits_now[WAIT_WORK] / sum + 0.5));
}

/* ---- overall -------------------------------------------------------------------------- */

#define LABEL 9
static void draw_bars(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    const struct sl_progress *g = &r->progress;
    char percent[8], a[32], b[32];
    double part = g->all_total ? (double)g->all_done / (double)g->all_total : 0;
    part = r->state == RUN_DONE ? 1 : part > 1 ? 1 : part;
    pane_text(p, 0, 0, STYLE_HEAD, "all");
    pane_bar(p, 0, LABEL, p.cols - LABEL - 6, r->state == RUN_FAILED ? STYLE_BAD : STYLE_GOOD, part);
    snprintf(percent, sizeof percent, "%d%%", (int)(part * 100));
    pane_right(p, 0, p.cols, STYLE_TEXT, percent);

    const uint64_t all = r->state == RUN_DONE && r->plan.info ? r->plan.info->write_bytes : g->bytes_total;
    const uint64_t so_far = r->state == RUN_DONE ? all : g->bytes_done;
    const uint64_t tensors = r->state == RUN_DONE ? r->seen_count : g->tensors_done;
    pane_textw(p, 1, 0, LABEL - 1, STYLE_HEAD, sl_phase_name(g->phase));
    pane_printf(p, 1, LABEL, STYLE_TEXT, "%s of %s   tensors %llu of %zu   verified %llu", sl_text_bytes(so_far, a, sizeof a), sl_text_bytes(all, b, sizeof b),
                (unsigned long long)tensors, r->seen_count, (unsigned long long)g->verified);
}

static void draw_overall(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    const struct sl_progress *g = &r->progress;
    char a[32], b[32], left[96], bound[160], took[32];
    draw_bars(app, p);
    pane_text(p, 2, 0, STYLE_HEAD, "speed");
    const double seconds = g->seconds > 0 ? g->seconds : 1e9;
    left_text(app, left, sizeof left);
    int col = LABEL + pane_printf(p, 2, LABEL, STYLE_TEXT, "%s read  %s written", rate_text((double)g->read_bytes / seconds, a, sizeof a),
                                  rate_text((double)g->written_bytes / seconds, b, sizeof b));
    if (r->state == RUN_GOING)
        pane_printf(p, 2, col + 3, STYLE_TEXT, "%s", g->paused ? "PAUSED: p goes on" : left);
    else
        pane_printf(p, 2, col + 3, STYLE_TEXT, "took %s", duration_text(g->seconds, took, sizeof took));
    bound_text(r, bound, sizeof bound);
    pane_text(p, 3, 0, STYLE_HEAD, "bound by");
    pane_text(p, 3, LABEL, STYLE_TEXT, r->state == RUN_GOING ? bound : "nothing: it has ended");
}

static void draw_history(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    double samples[HISTORY], most = 1;
    char rate[40];
    int room = p.cols - LABEL - 18, first = r->history_count > room ? r->history_count - room : 0;
    for (int i = first; i < r->history_count; i++)
        most = r->history[i] > most ? r->history[i] : most;
    for (int i = first; i < r->history_count; i++)
        samples[i - first] = r->history[i] / most;
    pane_text(p, 0, 0, STYLE_HEAD, "by second");
    if (r->history_count && room > 0) {
        pane_spark(p, 0, LABEL + 1, STYLE_ACCENT, samples, r->history_count - first);
        snprintf(rate, sizeof rate, "top %s", rate_text(most, (char[32]){ 0 }, 32));
        pane_right(p, 0, p.cols, STYLE_DIM, rate);
    } else {
        pane_text(p, 0, LABEL + 1, STYLE_DIM, "no sample yet");
    }
}

/* ---- workers ----------------------------------------------------------------------------- */

static void draw_workers(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    const struct sl_progress *g = &r->progress;
    char rate[32];
    int bar = p.cols >= 100 ? 22 : p.cols >= 60 ? 12 : 0;
    for (int row = 0; row < p.rows && (uint32_t)row < g->workers && row < SL_MAX_WORKERS; row++) {
        const struct sl_worker_progress *w = &g->worker[row];
        if (row == p.rows - 1 && g->workers > (uint32_t)p.rows) {
            pane_printf(p, row, 0, STYLE_DIM, ".. %u more workers", g->workers - (uint32_t)row);
            return;
        }
        double part = w->total ? (double)w->done / (double)w->total : 0;
        pane_printf(p, row, 0, STYLE_HEAD, "%2d", row + 1);
        pane_bar(p, row, 3, bar, STYLE_ACCENT, part > 1 ? 1 : part);
        if (!w->tensor[0]) {
            pane_text(p, row, 4 + bar, STYLE_DIM, "idle");
            continue;
        }
        pane_name(p, row, 4 + bar, p.cols - bar - 4 - 18, STYLE_TEXT, w->tensor);
        pane_textw(p, row, p.cols - 17, 6, STYLE_DIM, g->paused ? "paused" : sl_doing_name(w->doing));
        pane_right(p, row, p.cols, STYLE_TEXT, rate_text(r->worker_rate[row], rate, sizeof rate));
    }
}

/* ---- what was just written or verified ------------------------------------------------------ */

struct tick { const char *name; enum sl_result_status status; uint64_t bytes, checksum; };

/* The i-th line: what is bad first, then the newest. */
static bool tick_at(const struct run_state *r, size_t i, struct tick *t)
{
    if (!r->job) {
        const struct sl_place *p = r->place;
        if (!p || i >= p->recent_count)
            return false;
        *t = (struct tick){ p->recent[i].name, (enum sl_result_status)p->recent[i].status, p->recent[i].bytes, p->recent[i].checksum };
        return true;
    }
    const size_t *list = r->held ? r->held_ticker : r->ticker, count = r->held ? r->held_count : r->ticker_count;
    const struct sl_result *result = i < r->bad_count ? sl_result_at(r->job, r->bad[i]) : i - r->bad_count < count ? sl_result_at(r->job, list[i - r->bad_count]) : NULL;
    if (!result)
        return false;
    *t = (struct tick){ result->name, result->status, result->bytes, result->checksum };
    return true;
}

static void draw_tick(struct pane p, int row, const struct tick *t)
{
    char text[96], bytes[32], sign[2] = { result_sign(t->status), '\0' };
    pane_text(p, row, 0, sign_style(sign[0]), sign);
    if (t->checksum)
        snprintf(text, sizeof text, "%s  %04llx..%02llx", sl_result_status_name(t->status), (unsigned long long)(t->checksum >> 48),
                 (unsigned long long)(t->checksum & 0xff));
    else
        snprintf(text, sizeof text, "%s", sl_result_status_name(t->status));
    int note_width = p.cols >= 60 ? 20 : 10, name = p.cols - note_width - 14;
    pane_name(p, row, 2, name, STYLE_TEXT, t->name);
    pane_right(p, row, 2 + name + 10, STYLE_TEXT, sl_text_bytes(t->bytes, bytes, sizeof bytes));
    pane_right(p, row, p.cols, STYLE_DIM, text);
}

static void draw_ticker(struct app *app, struct pane p)
{
    struct tick t;
    int row = 0;
    for (; row < p.rows && tick_at(&app->run, (size_t)row, &t); row++)
        draw_tick(p, row, &t);
    if (!row)
        pane_text(p, 0, 0, STYLE_DIM, "nothing written yet");
}

/* ---- files, or who runs it --------------------------------------------------------------------- */

static void draw_file(struct app *app, struct pane p, int row)
{
    const struct run_state *r = &app->run;
    const struct sl_plan_info *info = r->plan.info;
    const size_t written = r->file_written ? r->file_written[row] : 0, verified = r->file_verified ? r->file_verified[row] : 0;
    size_t all = info->files[row].tensors ? info->files[row].tensors : 1;
    pane_name(p, row, 0, p.cols - 26, STYLE_TEXT, info->files[row].name);
    pane_bar(p, row, p.cols - 24, 12, verified == all ? STYLE_GOOD : STYLE_ACCENT, (double)written / (double)all);
    pane_text(p, row, p.cols - 11, STYLE_DIM, verified == all ? "verified" : written == all ? "written" : written ? "writing" : "to come");
}

static void draw_files(struct app *app, struct pane p)
{
    const struct sl_plan_info *info = app->run.plan.info;
    for (int row = 0; row < p.rows && (size_t)row < info->file_count; row++) {
        if (row == p.rows - 1 && info->file_count > (size_t)p.rows) {
            pane_printf(p, row, 0, STYLE_DIM, ".. %zu more files", info->file_count - (size_t)row);
            return;
        }
        draw_file(app, p, row);
    }
}

static void draw_holder(struct app *app, struct pane p)
{
    const struct sl_place *place = app->run.place;
    char ago[32];
    if (!place)
        return;
    pane_text(p, 0, 0, STYLE_HEAD, "source");
    pane_name(p, 0, LABEL, p.cols - LABEL, STYLE_TEXT, place->source);
    pane_text(p, 1, 0, STYLE_HEAD, "process");
    pane_printf(p, 1, LABEL, STYLE_TEXT, "%lld on %s", (long long)place->pid, place->host);
    pane_text(p, 2, 0, STYLE_HEAD, "heard of");
    if (!app->options->frozen && place->age >= 0)
        pane_printf(p, 2, LABEL, place->age > 10 ? STYLE_WARN : STYLE_TEXT, "%s ago", duration_text(place->age, ago, sizeof ago));
    pane_text(p, 3, 0, STYLE_HEAD, "plan");
    pane_name(p, 3, LABEL, p.cols - LABEL, STYLE_DIM, place->plan);
}

/* ---- the screen ------------------------------------------------------------------------------------ */

static const char *state_word(const struct run_state *r, char *sign)
{
    *sign = r->progress.mismatched || r->state == RUN_FAILED ? '!' : r->state == RUN_STARTING ? '.' : r->progress.paused || r->progress.draining ? '~' : '=';
    switch (r->state) {
    case RUN_STARTING: return r->attached ? "looking" : "starting";
    case RUN_GOING: return r->stopping ? "STOPPING" : r->progress.draining ? "STOPPING AFTER THESE" : r->progress.paused ? "PAUSED" : "WRITING";
    case RUN_DONE: return "DONE";
    default: return r->error.code == SL_INTERRUPTED || r->error.code == SL_TERMINATED || r->error.code == SL_HANGUP ? "STOPPED" : "FAILED";
    }
}

static void draw_status(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    char took[32], sign;
    const char *word = state_word(r, &sign);
    int col = pane_printf(p, 0, 0, sign_style(sign), "%c %s", sign, word);
    col += pane_printf(p, 0, col, r->progress.mismatched ? STYLE_BAD : STYLE_TEXT, "  %llu of %llu verified, %llu mismatch",
                       (unsigned long long)r->progress.verified, (unsigned long long)r->seen_count, (unsigned long long)r->progress.mismatched);
    snprintf(took, sizeof took, "%s", duration_text(r->progress.seconds, (char[32]){ 0 }, 32));
    col += pane_printf(p, 0, col, STYLE_TEXT, "  %s  ", took);
    pane_name(p, 0, col, p.cols - col, STYLE_DIM, r->target);
}

static void draw_wide(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    struct pane box = pane_box(pane_take(&p, 7), "overall");
    draw_overall(app, box);
    draw_history(app, pane_part(box, 4, 0, 1, box.cols));
    int workers = (int)r->progress.workers + 2, most = p.rows / 2;
    workers = workers < 6 ? 6 : workers > most ? most : workers;
    struct pane middle = pane_take(&p, workers);
    int left = middle.cols * 64 / 100;
    draw_workers(app, pane_box(pane_part(middle, 0, 0, middle.rows, left), "workers"));
    struct pane right = pane_part(middle, 0, left, middle.rows, middle.cols - left);
    if (r->attached)
        draw_holder(app, pane_box(right, "who runs it"));
    else
        draw_files(app, pane_box(right, "files"));
    struct pane stops = pane_part(p, p.rows - 5, 0, 5, p.cols);
    const bool told = p.rows > 12;
    p.rows -= told ? 5 : 0;
    draw_ticker(app, pane_box(p, r->held ? "just now, held: v lets it go on" : "just now; what differs stays on top"));
    if (!told)
        return;
    stops = pane_box(stops, "if this stops");
    pane_text(stops, 0, 0, STYLE_TEXT, "a stop, a crash, a kill, lost power: --resume goes on, and screen 5 offers it; nothing has the target's name yet");
    pane_text(stops, 1, 0, STYLE_TEXT, "a lost terminal: it goes on alone; d leaves it running on purpose; shardlens attach TARGET comes back to it");
    pane_name(stops, 2, 0, stops.cols, STYLE_DIM, r->target);
}

static void draw_middle(struct app *app, struct pane p)
{
    const struct run_state *r = &app->run;
    draw_overall(app, pane_take(&p, p.rows > 6 ? 4 : 3));
    if (p.rows > 5)
        draw_history(app, pane_take(&p, 1));
    if (p.rows > 10 && r->attached)
        draw_holder(app, pane_take(&p, 3));
    if (p.rows > 8)
        pane_take(&p, 1);
    int workers = (int)r->progress.workers, most = p.rows > 4 ? p.rows * 3 / 5 : p.rows;
    draw_workers(app, pane_take(&p, workers < most ? workers : most));
    if (p.rows > 3) {
        pane_take(&p, 1);
        pane_text(pane_take(&p, 1), 0, 0, STYLE_HEAD, r->held ? "just now, held" : "just now");
    }
    draw_ticker(app, p);
}

void run_draw(struct app *app, struct pane p)
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
    if (!r->job && !(r->attached && r->place && r->place->told))
        return;
    if (p.cols >= 118 && p.rows >= 22)
        draw_wide(app, p);
    else
        draw_middle(app, p);
}
