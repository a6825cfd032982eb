/* diff.c: this checkpoint (A) against another one (B), in whatever layouts:
 * opened and compared in the background; rows appear as they are done. */
#include "tui/diff.h"
#include "base/error.h"
#include "base/io.h"
#include "base/pool.h"
#include "base/arena.h"
#include "tui/export.h"
#include "tui/opening.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- starting -------------------------------------------------------------------- */

struct diff_task {
    struct task task;
    struct opened *opened;
    char *path;
    struct sl_open_options options;      /* of A: for learning from B */
    char *model, *hf_config, *sets[64];
    struct sl_checkpoint *a, *b;
    struct sl_job *job;
    int code;
    struct sl_error error;
};

static char *copy_of(const char *s) { return s ? strdup(s) : NULL; }

/* What one does not tell and the other one does goes both ways, as for the command line. */
static int open_both(struct diff_task *t)
{
    int code = sl_open(t->path, NULL, &t->b, &t->error);
    if (!code)
        code = sl_learn(&t->b, NULL, t->opened->ck, &t->error);
    if (!code && sl_can_learn(t->opened->ck, t->b)) {
        code = sl_open(t->opened->info->path, &t->options, &t->a, &t->error);
        if (!code)
            code = sl_learn(&t->a, &t->options, t->b, &t->error);
    }
    return code;
}

static void diff_work(struct task *task)
{
    struct diff_task *t = (struct diff_task *)task;
    t->code = open_both(t);
    if (!t->code)
        t->code = sl_diff_start(t->a ? t->a : t->opened->ck, t->b, NULL, &t->job, &t->error);
}

static void diff_apply(struct app *app, struct task *task)
{
    struct diff_task *t = (struct diff_task *)task;
    struct diff_state *d = &app->diff;
    if (t->code) {
        d->state = DIFF_FAILED;
        d->error = t->error;
        return;
    }
    d->opened = t->opened;
    d->a = t->a;
    d->b = t->b;
    d->job = t->job;
    t->opened = NULL;
    t->a = t->b = NULL;
    t->job = NULL;
    d->state = DIFF_GOING;
    sl_job_progress(d->job, &d->progress);
}

static void diff_drop(struct app *app, struct task *task)
{
    struct diff_task *t = (struct diff_task *)task;
    if (app && app->diff.starting == task)
        app->diff.starting = NULL;
    sl_job_free(t->job);
    sl_close(t->a);
    sl_close(t->b);
    opened_drop(t->opened);
    for (size_t i = 0; i < t->options.set_count; i++)
        free(t->sets[i]);
    free(t->model);
    free(t->hf_config);
    free(t->path);
    free(t);
}

void diff_forget(struct app *app)
{
    struct diff_state *d = &app->diff;
    const bool all = d->all;
    const enum diff_order by = d->by;
    if (d->starting)
        task_cancel(d->starting);
    sl_job_free(d->job);
    sl_close(d->a);
    sl_close(d->b);
    opened_drop(d->opened);
    free(d->order);
    *d = (struct diff_state){ .all = all, .by = by };
}

static void begin(struct app *app, const char *path)
{
    struct diff_task *t = calloc(1, sizeof *t);
    char kept[LONGEST_FIELD];
    if (!t)
        return;
    snprintf(kept, sizeof kept, "%s", path);
    diff_forget(app);
    snprintf(app->diff.path, sizeof app->diff.path, "%s", kept);
    t->task = (struct task){ .work = diff_work, .apply = diff_apply, .drop = diff_drop };
    t->opened = opened_use(app->opened);
    t->path = copy_of(kept);
    t->model = copy_of(app->open.model);
    t->hf_config = copy_of(app->open.hf_config);
    t->options = (struct sl_open_options){ .model = t->model, .hf_config = t->hf_config, .set = (const char *const *)t->sets };
    for (size_t i = 0; i < app->open.set_count && i < 64; i++)
        t->sets[t->options.set_count++] = copy_of(app->open.set[i]);
    app->diff.state = DIFF_STARTING;
    app->diff.starting = &t->task;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}

bool diff_going(const struct app *app)
{
    return app->diff.state == DIFF_STARTING || app->diff.state == DIFF_GOING;
}

/* ---- choosing the other one -------------------------------------------------------- */

/* What lies near: the target of the last conversion, another iteration of the same run. */
static void suggestion(const struct app *app, char *out, size_t room)
{
    const char *target = app->run.state == RUN_DONE && app->run.plan.info ? app->run.plan.info->target : NULL;
    struct sl_arena arena = { 0 };
    const char *folder = app->opened ? app->opened->info->folder : "", *slash = strrchr(folder, '/'), *const *names;
    char parent[LONGEST_FIELD];
    size_t count = 0;
    out[0] = '\0';
    if (target)
        snprintf(out, room, "%s", target);
    if (target || !slash || !sl_text_starts(slash + 1, "iter_"))
        return;
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - folder), folder);
    if (sl_folder_list(parent, 10000, &arena, &names, &count, NULL))
        count = 0;
    for (size_t i = 0; i < count; i++)           /* in natural order: the last one before ours, else the last */
        if (sl_text_starts(names[i], "iter_") && strcmp(names[i], slash + 1) && (!*out || sl_text_natural(names[i], slash + 1) < 0))
            snprintf(out, room, "%.700s/%.255s", parent, names[i]);
    sl_arena_free(&arena);
}

static void chosen(struct app *app, const char *path, bool accepted)
{
    if (!accepted || !*path)
        app_say(app, STYLE_TEXT, "nothing was compared");
    else
        begin(app, path);
}

void diff_choose(struct app *app)
{
    char text[LONGEST_FIELD];
    if (!app->opened) {
        app_say(app, STYLE_DIM, app->load == LOAD_BUSY ? "the headers are still being read" : "nothing is open that could be compared");
        return;
    }
    if (*app->diff.path)
        snprintf(text, sizeof text, "%s", app->diff.path);
    else
        suggestion(app, text, sizeof text);
    prompt_line(app, "compare with (folder or file)", text, NULL, chosen);
}

/* ---- rows ---------------------------------------------------------------------------- */

struct diff_counts diff_counts(const struct app *app)
{
    struct diff_counts n = { 0 };
    for (size_t i = 0; app->diff.job && i < sl_result_count(app->diff.job); i++)
        switch (sl_result_at(app->diff.job, i)->status) {
        case SL_RESULT_EQUAL: n.equal++; break;
        case SL_RESULT_ONLY_A: n.only_a++; break;
        case SL_RESULT_ONLY_B: n.only_b++; break;
        case SL_RESULT_SHAPE: n.shape++; break;
        case SL_RESULT_PENDING: n.pending++; break;
        default: n.different++; break;
        }
    return n;
}

#define FAR 0.1            /* relative difference that is marked as far */
char diff_sign(const struct sl_result *r)
{
    switch (r->status) {
    case SL_RESULT_EQUAL: return '=';
    case SL_RESULT_PENDING: return '.';
    case SL_RESULT_DIFFERENT: return r->relative >= FAR || r->different > r->stats.count ? '!' : '~';
    default: return '!';
    }
}

const struct sl_result *diff_row(const struct app *app, size_t i)
{
    return sl_result_at(app->diff.job, app->diff.order[i]);
}

/* What only one side has stands above what differs, and that above what is equal. */
static int rank_of(const struct sl_result *r)
{
    return r->status == SL_RESULT_SHAPE ? 3 : r->status == SL_RESULT_ONLY_A || r->status == SL_RESULT_ONLY_B ? 2 : r->status == SL_RESULT_DIFFERENT;
}

static int by_order(const void *x, const void *y, void *arg)
{
    const struct app *app = arg;
    const struct sl_result *a = sl_result_at(app->diff.job, *(const size_t *)x), *b = sl_result_at(app->diff.job, *(const size_t *)y);
    const double p = app->diff.by == DIFF_BY_MAX ? a->max_abs : a->relative, q = app->diff.by == DIFF_BY_MAX ? b->max_abs : b->relative;
    if (app->diff.by == DIFF_BY_NAME)
        return sl_text_natural(a->name, b->name);
    if (rank_of(a) != rank_of(b))
        return rank_of(b) - rank_of(a);
    if (p > q || p < q)
        return p > q ? -1 : 1;
    return sl_text_natural(a->name, b->name);
}

static void rows_make(struct app *app)
{
    struct diff_state *d = &app->diff;
    const size_t count = d->job ? sl_result_count(d->job) : 0;
    if (!count)
        return;                          /* it has not begun: there is nothing yet to make room for */
    const size_t selected = d->list.selected < d->order_count ? d->order[d->list.selected] : SIZE_MAX;
    if (!d->order)
        d->order = calloc(count + 1, sizeof *d->order);
    d->order_count = 0;
    for (size_t i = 0; d->order && i < count; i++) {
        const enum sl_result_status status = sl_result_at(d->job, i)->status;
        if (status != SL_RESULT_PENDING && (d->all || status != SL_RESULT_EQUAL))
            d->order[d->order_count++] = i;
    }
    if (d->order_count)
        qsort_r(d->order, d->order_count, sizeof *d->order, by_order, app);
    list_count(&d->list, d->order_count);
    for (size_t i = 0; i < d->order_count; i++)      /* the selection stays on its row */
        if (d->order[i] == selected && d->list.selected)
            d->list.selected = i;
}

/* Ordering a million rows takes a while: it may have a twentieth of the time, so that keys never wait long for it. */
#define SECONDS_BETWEEN_ORDERS 0.5
#define TIMES_BETWEEN_ORDERS 20
bool diff_update(struct app *app)
{
    struct diff_state *d = &app->diff;
    const struct sl_progress before = d->progress;
    if (d->state != DIFF_GOING)
        return false;
    sl_job_progress(d->job, &d->progress);
    const bool ended = sl_job_finished(d->job);
    if (ended) {
        const int code = sl_job_wait(d->job, &d->error);
        d->state = code && code != SL_NO ? DIFF_FAILED : DIFF_DONE;
    }
    if (ended || d->progress.seconds >= d->order_after || !d->order) {
        const uint64_t began = sl_now_ns();
        rows_make(app);
        const double took = (double)(sl_now_ns() - began) / 1e9;
        d->order_after = d->progress.seconds + (took * TIMES_BETWEEN_ORDERS > SECONDS_BETWEEN_ORDERS ? took * TIMES_BETWEEN_ORDERS : SECONDS_BETWEEN_ORDERS);
    }
    return ended || before.bytes_done != d->progress.bytes_done || before.tensors_done != d->progress.tensors_done;
}

/* ---- saving ----------------------------------------------------------------------------- */

static const char *const columns[] = { "status", "name", "dtype", "shape", "elements", "different", "max_abs", "mean_abs", "relative", "cosine",
                                       "a_file", "a_offset", "b_file", "b_offset" };
enum { COLUMN_STATUS, COLUMN_NAME, COLUMN_DTYPE, COLUMN_SHAPE, COLUMN_ELEMENTS, COLUMN_DIFFERENT, COLUMN_MAX, COLUMN_MEAN, COLUMN_RELATIVE, COLUMN_COSINE,
       COLUMN_A_FILE, COLUMN_A_OFFSET, COLUMN_B_FILE, COLUMN_B_OFFSET, COLUMN_COUNT };

static void cell(const void *arg, size_t row, size_t column, struct sl_buf *out)
{
    const struct sl_result *r = diff_row(arg, row);
    const bool compared = r->status == SL_RESULT_EQUAL || r->status == SL_RESULT_DIFFERENT;
    const double numbers[COLUMN_COUNT] = { [COLUMN_MAX] = r->max_abs, [COLUMN_MEAN] = r->mean_abs, [COLUMN_RELATIVE] = r->relative, [COLUMN_COSINE] = r->cosine };
    char shape[160];
    switch (column) {
    case COLUMN_STATUS: sl_buf_str(out, sl_result_status_name(r->status)); break;
    case COLUMN_NAME: sl_buf_printable(out, r->name, strlen(r->name)); break;
    case COLUMN_DTYPE: sl_buf_str(out, sl_dtype_label(r->dtype)); break;
    case COLUMN_SHAPE: sl_buf_str(out, sl_text_shape(r->shape, r->ndim, shape, sizeof shape)); break;
    case COLUMN_ELEMENTS: sl_buf_printf(out, "%llu", (unsigned long long)r->stats.count); break;
    case COLUMN_DIFFERENT: sl_buf_printf(out, "%llu", (unsigned long long)r->different); break;
    case COLUMN_A_FILE: sl_buf_printable(out, r->a_file ? r->a_file : "", r->a_file ? strlen(r->a_file) : 0); break;
    case COLUMN_B_FILE: sl_buf_printable(out, r->b_file ? r->b_file : "", r->b_file ? strlen(r->b_file) : 0); break;
    case COLUMN_A_OFFSET: case COLUMN_B_OFFSET:
        if (column == COLUMN_A_OFFSET ? r->a_file : r->b_file)
            sl_buf_printf(out, "%llu", (unsigned long long)(column == COLUMN_A_OFFSET ? r->a_offset : r->b_offset));
        break;
    default:
        if (compared)
            sl_buf_printf(out, "%.9g", numbers[column]);
    }
}

static void table_of(const struct app *app, struct export_table *t)
{
    const struct diff_counts n = diff_counts(app);
    *t = (struct export_table){ .title = "Two checkpoints compared", .cell = cell, .arg = app, .row_count = app->diff.order_count, .column_count = COLUMN_COUNT };
    memcpy(t->columns, columns, sizeof columns);
    export_fact(t, "program", "shardlens %s", sl_version());
    export_fact(t, "A", "%s", app->options->path);
    export_fact(t, "B", "%s", app->diff.path);
    export_fact(t, "weights", "%zu equal, %zu different, %zu of other shape, %zu only in A, %zu only in B%s", n.equal, n.different, n.shape, n.only_a, n.only_b,
                n.pending ? ", not all compared" : "");
    export_fact(t, "settings", "%zu differ", sl_config_differences(app->diff.a ? app->diff.a : app->diff.opened->ck, app->diff.b, NULL, 0));
    export_fact(t, "rows", "%s", app->diff.all ? "all" : "what is not equal");
    export_fact(t, "again", "shardlens diff %s %s", app->options->path, app->diff.path);
}

void diff_text(const struct app *app, struct sl_buf *out, size_t most_rows)
{
    struct export_table t;
    table_of(app, &t);
    if (most_rows && t.row_count > most_rows) {
        export_fact(&t, "shown", "the first %zu of %zu", most_rows, t.row_count);
        t.row_count = most_rows;
    }
    export_write(&t, EXPORT_TEXT, out);
}

void diff_save(struct app *app, const char *path)
{
    struct sl_buf text = { 0 };
    struct export_table t;
    const enum export_format format = export_format_of(path);
    if (diff_going(app) && format == EXPORT_JSON) {
        app_say(app, STYLE_DIM, "it is still being compared: JSON when that is done; .txt .md .csv hold what is known now");
        return;
    }
    char *json = format == EXPORT_JSON ? sl_job_report_json(app->diff.job) : NULL;
    if (json) {
        sl_buf_str(&text, json);
    } else {
        table_of(app, &t);
        export_write(&t, format, &text);
    }
    free(json);
    save_text(app, path, &text, "the comparison");
}

/* ---- keys ----------------------------------------------------------------------------------- */

const char *const *diff_orders(void)
{
    static const char *const names[] = { "worst relative first", "largest |d| first", "as in the model", NULL };
    return names;
}

void act_order(struct app *app)
{
    app->diff.by = (app->diff.by + 1) % DIFF_ORDERS;
    rows_make(app);
    app_say(app, STYLE_TEXT, "%s", diff_orders()[app->diff.by]);
}

void diff_all(struct app *app)
{
    app->diff.all = !app->diff.all;
    rows_make(app);
    app_say(app, STYLE_TEXT, app->diff.all ? "all weights" : "only what is not equal");
}

void diff_pause(struct app *app)
{
    if (app->diff.state != DIFF_GOING) {
        app_say(app, STYLE_DIM, "nothing is being compared that could be paused");
        return;
    }
    sl_job_pause(app->diff.job, !app->diff.progress.paused);
    app_say(app, STYLE_TEXT, app->diff.progress.paused ? "going on" : "paused; p goes on");
    sl_job_progress(app->diff.job, &app->diff.progress);
}

void diff_stop(struct app *app)
{
    if (app->diff.state != DIFF_GOING) {
        app_say(app, STYLE_DIM, "nothing is being compared that could be stopped");
        return;
    }
    sl_job_cancel(app->diff.job, SL_INTERRUPTED);
    app_say(app, STYLE_WARN, "stopping; what was compared stays");
}

static struct list *list_of(struct app *app)
{
    struct diff_state *d = &app->diff;
    return d->view == DIFF_LAYERS ? &d->layers : d->view == DIFF_CONFIG ? &d->config : &d->list;
}

static void move(struct app *app, int rows, int cols, bool page)
{
    (void)cols;
    list_move(list_of(app), rows * (page ? (app->canvas.rows > 16 ? app->canvas.rows - 14 : 1) : 1));
}

static void end(struct app *app, bool last)
{
    struct list *l = list_of(app);
    list_move(l, last ? (ptrdiff_t)l->count : -(ptrdiff_t)l->count);
}

/* The tensor of A in which the first difference lies, -1. */
static ptrdiff_t tensor_of(const struct app *app, const struct sl_result *r)
{
    const struct sl_checkpoint *ck = app->opened->ck;
    for (size_t i = 0; r->a_file && i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        for (size_t k = 0; k < l->piece_count; k++) {
            const struct sl_tensor *t = sl_tensor_at(ck, l->pieces[k]);
            if (r->a_offset >= t->offset && r->a_offset < t->offset + t->bytes && t->file >= 0 &&
                !strcmp(app->opened->info->files[t->file].name, r->a_file))
                return (ptrdiff_t)i;
        }
    }
    return -1;
}

/* Enter: chooses the other one, or shows this weight on the tensor screen. */
static void enter(struct app *app)
{
    const struct diff_state *d = &app->diff;
    if (d->state == DIFF_NONE || d->state == DIFF_FAILED || d->view != DIFF_WEIGHTS || !d->order_count) {
        diff_choose(app);
        return;
    }
    const ptrdiff_t logical = d->opened == app->opened ? tensor_of(app, diff_row(app, d->list.selected)) : -1;
    if (logical < 0) {
        app_say(app, STYLE_DIM, "only a weight that differs has a place to go to; / on screen 2 finds the others");
        return;
    }
    app_go(app, SCREEN_INSPECT);
    inspect_show(app, logical);
}

static void space(struct app *app) { act_report_all(app); }

static void tab(struct app *app, int step)
{
    app->diff.view = (enum diff_view)(((int)app->diff.view + step + DIFF_VIEWS) % DIFF_VIEWS);
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "diff ");
    shell_word(out, app->options->path);
    sl_buf_char(out, ' ');
    shell_word(out, *app->diff.path ? app->diff.path : "OTHER");
}

const struct screen_ops diff_ops = { .draw = diff_draw, .move = move, .end = end, .enter = enter, .space = space, .tab = tab, .command = command };
