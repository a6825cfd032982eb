/* inspect_jobs.c: what the inspector has read in the background: statistics
 * piece by piece, the histogram, a page of values, the slices. Each result
 * carries the tensor that it belongs to and is stored there, wherever the
 * cursor is by then. */
#include "tui/inspect.h"
#include "base/pool.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- kept results ------------------------------------------------------------------ */

struct stats_result *stats_of(const struct app *app, ptrdiff_t logical)
{
    for (size_t i = 0; i < KEPT_STATS; i++)
        if (app->inspect.kept[i] && app->inspect.kept[i]->logical == logical)
            return app->inspect.kept[i];
    return NULL;
}

static struct stats_result *stats_make(struct app *app, ptrdiff_t logical)
{
    struct inspect_state *s = &app->inspect;
    size_t place = 0;
    for (size_t i = 0; i < KEPT_STATS && s->kept[place]; i++)
        if (!s->kept[i] || s->kept[i]->used < s->kept[place]->used)
            place = i;
    const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)logical);
    struct stats_result *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    free(s->kept[place]);
    s->kept[place] = r;
    r->logical = logical;
    r->piece_count = l->piece_count;
    r->column_count = l->piece_count < MOST_COLUMNS ? l->piece_count : MOST_COLUMNS;
    for (size_t i = 0; i < r->column_count; i++)
        r->columns[i].tensor = l->pieces[i];
    return r;
}

/* ---- which pieces make the whole, once --------------------------------------------------- */

static int32_t tp_of(const struct app *app, size_t tensor)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    const struct sl_checkpoint_info *info = app->opened->info;
    return t->rank >= 0 && (size_t)t->rank < info->rank_count ? info->ranks[t->rank].tp : -1;
}

static uint64_t elements_of(const struct sl_logical *l)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < l->ndim; i++)
        n *= l->shape[i] > 0 ? (uint64_t)l->shape[i] : 0;
    return n;
}

/* All pieces where they add up; else one for each tp rank (the others are
 * copies over ep); 0 where neither does. Indices into r->columns. */
static size_t unique_columns(const struct app *app, const struct stats_result *r, size_t *out)
{
    const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)r->logical);
    uint64_t want = elements_of(l), sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < r->column_count; i++)
        if (sl_tensor_at(app->opened->ck, r->columns[i].tensor)->count == want) {
            out[0] = i;
            return 1;
        }
    for (size_t i = 0; i < r->column_count; i++)
        sum += sl_tensor_at(app->opened->ck, r->columns[i].tensor)->count;
    bool all = sum == want && r->column_count == r->piece_count;
    sum = 0;
    for (size_t i = 0; i < r->column_count; i++) {
        bool fresh = true;
        for (size_t k = 0; k < count && !all; k++)
            fresh &= tp_of(app, r->columns[out[k]].tensor) != tp_of(app, r->columns[i].tensor);
        if (!fresh)
            continue;
        out[count++] = i;
        sum += sl_tensor_at(app->opened->ck, r->columns[i].tensor)->count;
    }
    return sum == want ? count : 0;
}

static void add_stats(struct sl_stats *sum, const struct sl_stats *s)
{
    double a = (double)(sum->count - sum->nan - sum->inf), b = (double)(s->count - s->nan - s->inf);
    if (b > 0) {
        double mean = a + b > 0 ? (a * sum->mean + b * s->mean) / (a + b) : 0;
        double var = (a * (sum->std * sum->std + (sum->mean - mean) * (sum->mean - mean)) +
                      b * (s->std * s->std + (s->mean - mean) * (s->mean - mean))) / (a + b);
        sum->rms = sqrt((a * sum->rms * sum->rms + b * s->rms * s->rms) / (a + b));
        sum->min = a > 0 && sum->min < s->min ? sum->min : s->min;
        sum->max = a > 0 && sum->max > s->max ? sum->max : s->max;
        sum->mean = mean;
        sum->std = sqrt(var);
    }
    sum->count += s->count;
    sum->nan += s->nan;
    sum->inf += s->inf;
    sum->zeros += s->zeros;
}

/* ---- statistics: one task a piece, then one for the histogram -------------------------------- */

struct stats_task {
    struct task task;
    struct opened *opened;
    ptrdiff_t logical;
    bool histogram;
    size_t column;                       /* of a piece */
    size_t tensors[MOST_COLUMNS], count;
    struct sl_stats stats;
    struct sl_histogram bins;
    uint64_t checksum;
    sl_atomic_u64 done;                  /* written by the worker, read by the screen */
    double seconds;
    int code;
    struct sl_error error;
};

static void stats_work(struct task *task)
{
    struct stats_task *t = (struct stats_task *)task;
    uint64_t begin = sl_now_ns();
    t->code = sl_tensor_stats(t->opened->ck, t->tensors, t->count, &t->stats, t->histogram ? &t->bins : NULL,
                              t->histogram ? NULL : &t->checksum, &task->cancel, &t->done, &t->error);
    t->seconds = (double)(sl_now_ns() - begin) / 1e9;
}

uint64_t inspect_reading(const struct app *app)
{
    const struct stats_task *t = (const struct stats_task *)app->inspect.running;
    return t ? atomic_load_explicit(&t->done, memory_order_relaxed) : 0;
}

static void whole_of(const struct app *app, struct stats_result *r)
{
    size_t unique[MOST_COLUMNS], count = unique_columns(app, r, unique);
    r->whole_known = count > 0;
    r->whole = (struct sl_stats){ 0 };
    for (size_t i = 0; i < count; i++)
        add_stats(&r->whole, &r->columns[unique[i]].stats);
}

static void stats_apply(struct app *app, struct task *task)
{
    struct stats_task *t = (struct stats_task *)task;
    struct stats_result *r = t->opened == app->opened ? stats_of(app, t->logical) : NULL;
    if (!r)
        return;
    r->bytes += t->done;
    r->seconds += t->seconds;
    if (t->code) {
        r->failed = true;
        r->error = t->error;
        return;
    }
    if (t->histogram) {
        r->histogram = t->bins;
        r->histogram_done = r->done = true;
        return;
    }
    r->columns[t->column].stats = t->stats;
    r->columns[t->column].checksum = t->checksum;
    r->columns[t->column].done = true;
    for (size_t i = 0; i < r->column_count; i++)
        if (!r->columns[i].done)
            return;
    whole_of(app, r);
    r->done = !r->whole_known || r->whole.count == r->whole.nan + r->whole.inf;
}

static void stats_drop(struct app *app, struct task *task)
{
    struct stats_task *t = (struct stats_task *)task;
    if (app && app->inspect.running == task) {
        app->inspect.running = NULL;
        inspect_want(app);
    }
    opened_drop(t->opened);
    free(t);
}

static void stats_add(struct app *app, struct stats_result *r)
{
    struct stats_task *t = calloc(1, sizeof *t);
    size_t column = 0, unique[MOST_COLUMNS];
    if (!t)
        return;
    while (column < r->column_count && r->columns[column].done)
        column++;
    *t = (struct stats_task){ .task = { .work = stats_work, .apply = stats_apply, .drop = stats_drop },
                              .opened = opened_use(app->opened), .logical = r->logical, .column = column, .count = 1 };
    if (column < r->column_count) {
        t->tensors[0] = r->columns[column].tensor;
    } else {
        t->histogram = true;
        t->count = unique_columns(app, r, unique);
        for (size_t i = 0; i < t->count; i++)
            t->tensors[i] = r->columns[unique[i]].tensor;
        t->bins.lo = r->whole.min;
        t->bins.hi = r->whole.max;
    }
    app->inspect.running = &t->task;
    jobs_add(app->jobs, LANE_STATS, &t->task);
}

static void want_stats(struct app *app)
{
    struct inspect_state *s = &app->inspect;
    struct stats_task *running = (struct stats_task *)s->running;
    struct stats_result *r = stats_of(app, s->logical);
    if (!r)
        r = stats_make(app, s->logical);
    if (!r)
        return;
    r->used = ++s->clock;
    if (running && running->logical != s->logical) {
        task_cancel(s->running);
        s->running = NULL;
    }
    if (!s->running && !r->done && !r->failed)
        stats_add(app, r);
}

/* ---- values -------------------------------------------------------------------------------------- */

struct values_task { struct task task; struct opened *opened; struct values_result *result; };

static void values_work(struct task *task)
{
    struct values_task *t = (struct values_task *)task;
    struct values_result *r = t->result;
    r->failed = sl_tensor_read(t->opened->ck, r->tensor, r->first, r->count, r->bytes, &r->error) != SL_OK;
    r->done = true;
}

static void values_apply(struct app *app, struct task *task)
{
    struct values_task *t = (struct values_task *)task;
    if (t->opened != app->opened)
        return;
    free(app->inspect.shown);
    app->inspect.shown = t->result;
    t->result = NULL;
}

static void values_drop(struct app *app, struct task *task)
{
    struct values_task *t = (struct values_task *)task;
    if (app && app->inspect.reading == task) {
        app->inspect.reading = NULL;
        if (!task->cancel)
            inspect_want(app);
    }
    opened_drop(t->opened);
    free(t->result);
    free(t);
}

static void want_values(struct app *app, size_t tensor)
{
    struct inspect_state *s = &app->inspect;
    const struct sl_tensor *info = sl_tensor_at(app->opened->ck, tensor);
    if (!info->count || info->bytes / info->count > 16 || (s->shown && s->shown->tensor == tensor && s->shown->first == s->first))
        return;
    if (s->reading)
        return;                          /* its end comes here again */
    struct values_task *t = calloc(1, sizeof *t);
    struct values_result *r = calloc(1, sizeof *r);
    if (!t || !r) {
        free(t);
        free(r);
        return;
    }
    uint64_t left = info->count > s->first ? info->count - s->first : 0;
    r->tensor = tensor;
    r->first = s->first;
    r->count = left < VALUES_PAGE ? (size_t)left : VALUES_PAGE;
    *t = (struct values_task){ .task = { .work = values_work, .apply = values_apply, .drop = values_drop },
                               .opened = opened_use(app->opened), .result = r };
    s->reading = &t->task;
    jobs_add(app->jobs, LANE_QUICK, &t->task);
}

/* ---- slices: what the rows of a piece are ---------------------------------------------------------- */

struct slices_task { struct task task; struct opened *opened; size_t tensor; const struct sl_slice_info *slices; size_t count; int code; };

static void slices_work(struct task *task)
{
    struct slices_task *t = (struct slices_task *)task;
    t->code = sl_tensor_slices(t->opened->ck, t->tensor, &t->slices, &t->count, NULL);
}

static void slices_apply(struct app *app, struct task *task)
{
    struct slices_task *t = (struct slices_task *)task;
    if (t->opened != app->opened)
        return;
    app->inspect.slices = t->code ? NULL : t->slices;
    app->inspect.slice_count = t->code ? 0 : t->count;
    app->inspect.slices_of = t->tensor;
    app->inspect.slices_known = true;
}

static void slices_drop(struct app *app, struct task *task)
{
    struct slices_task *t = (struct slices_task *)task;
    if (app && app->inspect.slicing == task) {
        app->inspect.slicing = NULL;
        if (!task->cancel)
            inspect_want(app);
    }
    opened_drop(t->opened);
    free(t);
}

static void want_slices(struct app *app, size_t tensor)
{
    struct inspect_state *s = &app->inspect;
    if (s->slicing || (s->slices_known && s->slices_of == tensor))
        return;
    struct slices_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    *t = (struct slices_task){ .task = { .work = slices_work, .apply = slices_apply, .drop = slices_drop },
                               .opened = opened_use(app->opened), .tensor = tensor };
    s->slicing = &t->task;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}

/* ---- two pieces, element by element --------------------------------------------------------------- */

#define COMPARED_AT_ONCE 65536           /* elements */
struct compare_task { struct task task; struct opened *opened; struct comparison result; };

static void compare_chunk(struct comparison *c, const struct sl_tensor *a, const struct sl_tensor *b, const unsigned char *x, const unsigned char *y,
                          uint64_t first, uint64_t count)
{
    size_t sa = (size_t)(a->bytes / a->count), sb = (size_t)(b->bytes / b->count);
    for (uint64_t i = 0; i < count; i++) {
        if (sa == sb && a->dtype == b->dtype && memcmp(x + i * sa, y + i * sb, sa) == 0)
            continue;
        double u = sl_element(a->dtype, x + i * sa), v = sl_element(b->dtype, y + i * sb);
        if (a->dtype != b->dtype && !(u < v) && !(u > v))
            continue;                    /* equal values of two types */
        double far = u > v ? u - v : v - u;
        if (!c->different)
            c->first = first + i;
        c->different++;
        c->max_abs = far > c->max_abs ? far : c->max_abs;
    }
}

static void compare_work(struct task *task)
{
    struct compare_task *t = (struct compare_task *)task;
    struct comparison *c = &t->result;
    const struct sl_checkpoint *ck = t->opened->ck;
    const struct sl_tensor *a = sl_tensor_at(ck, c->a), *b = sl_tensor_at(ck, c->b);
    struct sl_error err = { 0 };
    c->known = true;
    if (a->count != b->count || !a->count) {
        snprintf(c->failed, sizeof c->failed, "the pieces have %llu and %llu elements: not to be compared one by one", (unsigned long long)a->count,
                 (unsigned long long)b->count);
        return;
    }
    unsigned char *x = malloc(COMPARED_AT_ONCE * 16), *y = malloc(COMPARED_AT_ONCE * 16);
    bool good = x && y && a->bytes / a->count <= 16 && b->bytes / b->count <= 16;
    for (uint64_t at = 0; good && at < a->count && !task->cancel; at += COMPARED_AT_ONCE) {
        uint64_t n = a->count - at < COMPARED_AT_ONCE ? a->count - at : COMPARED_AT_ONCE;
        good = !sl_tensor_read(ck, c->a, at, n, x, &err) && !sl_tensor_read(ck, c->b, at, n, y, &err);
        if (good)
            compare_chunk(c, a, b, x, y, at, n);
    }
    c->count = a->count;
    if (!good)
        snprintf(c->failed, sizeof c->failed, "not compared: %.120s", *err.message ? err.message : "out of memory");
    free(x);
    free(y);
}

static void compare_apply(struct app *app, struct task *task)
{
    struct compare_task *t = (struct compare_task *)task;
    if (t->opened == app->opened && app->inspect.comparing == task)
        app->inspect.compared = t->result;
}

static void compare_drop(struct app *app, struct task *task)
{
    struct compare_task *t = (struct compare_task *)task;
    if (app && app->inspect.comparing == task)
        app->inspect.comparing = NULL;
    opened_drop(t->opened);
    free(t);
}

void inspect_compare(struct app *app, size_t a, size_t b)
{
    struct compare_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    *t = (struct compare_task){ .task = { .work = compare_work, .apply = compare_apply, .drop = compare_drop },
                                .opened = opened_use(app->opened), .result = { .a = a, .b = b } };
    task_cancel(app->inspect.comparing);
    app->inspect.comparing = &t->task;
    app->inspect.compared.known = false;
    jobs_add(app->jobs, LANE_BLOCKS, &t->task);
}

/* ---- all of it -------------------------------------------------------------------------------------- */

/* The slices of the piece beside the selected one, then its blocks. */
static void want_other(struct app *app, size_t other)
{
    const struct sl_slice_info *slices = NULL;
    size_t count = 0;
    if (sl_tensor_slices(app->opened->ck, other, &slices, &count, NULL))
        count = 0;
    blocks_want(app, other, slices, count);
}

void inspect_want(struct app *app)
{
    struct inspect_state *s = &app->inspect;
    if (!app->opened || s->logical < 0 || app->screen != SCREEN_INSPECT)
        return;
    const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)s->logical);
    if (!l->piece_count)
        return;
    s->column = s->column < l->piece_count ? s->column : l->piece_count - 1;
    want_stats(app);
    want_slices(app, l->pieces[s->column]);
    want_values(app, l->pieces[s->column]);
    inspect_neighbours_want(app);
    if (s->view == VIEW_LAYOUT)
        detective_want(app);
    if (s->slices_known && s->slices_of == l->pieces[s->column])
        blocks_want(app, l->pieces[s->column], s->slices, s->slice_count);
    size_t other = l->piece_count < 2 ? SIZE_MAX : l->pieces[s->column ? s->column - 1 : 1];
    if (app->blocks.measure == MEASURE_DIFFERENCE && other != SIZE_MAX && blocks_of(app, l->pieces[s->column]) && !app->blocks.task)
        want_other(app, other);
}

void inspect_again(struct app *app) { inspect_want(app); }

void inspect_forget(struct app *app)
{
    struct inspect_state *s = &app->inspect;
    task_cancel(s->running);
    task_cancel(s->reading);
    task_cancel(s->slicing);
    task_cancel(s->comparing);
    blocks_forget(app);
    detective_forget(app);
    for (size_t i = 0; i < KEPT_STATS; i++)
        free(s->kept[i]);
    free(s->shown);
    *s = (struct inspect_state){ .logical = -1 };
}
