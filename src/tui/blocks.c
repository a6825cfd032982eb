/* blocks.c: the named heat map of one stored tensor. */
#include "tui/blocks.h"
#include "tui/app.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RUNS 4096
#define ROWS_WANTED 12           /* fewer runs than that are cut finer */

/* ---- what the rows are ---------------------------------------------------------------- */

struct run { uint64_t row, rows; char label[BLOCK_LABEL]; };
struct runs { struct run *at; size_t count, room; bool failed; };

static void run_add(struct runs *r, uint64_t row, uint64_t rows, const char *label)
{
    if (r->count == r->room) {
        size_t room = r->room ? r->room * 2 : 64;
        struct run *more = room <= MOST_RUNS ? realloc(r->at, room * sizeof *more) : NULL;
        if (!more) {
            r->failed = true;
            return;
        }
        r->at = more;
        r->room = room;
    }
    struct run *to = &r->at[r->count++];
    *to = (struct run){ .row = row, .rows = rows };
    snprintf(to->label, sizeof to->label, "%s", label);
}

/* "layers.7.mlp.experts.3.gate" -> "e3 gate", "layers.7.attn.q" -> "q" */
static void short_name(const char *param, char *out, size_t room)
{
    const char *last = strrchr(param, '.'), *expert = strstr(param, "expert");
    size_t number = expert ? strcspn(expert, "0123456789") : 0;
    last = last ? last + 1 : param;
    if (expert && expert[number])
        snprintf(out, room, "e%.*s %s", (int)strspn(expert + number, "0123456789"), expert + number, last);
    else
        snprintf(out, room, "%s", last);
}

/* The rows of one slice: its inner row axes that lie side by side are one run, the others, and each group, count. */
static void add_slice(struct runs *r, const struct sl_slice_info *s, uint64_t cols)
{
    uint32_t axes[8], count = 0;
    uint64_t block = 1;
    char name[BLOCK_LABEL];
    for (uint32_t a = 0; a < s->param_ndim && count < 8; a++)
        if (s->param_stride[a] >= (int64_t)cols && s->param_hi[a] - s->param_lo[a] >= 1)
            axes[count++] = a;
    for (uint32_t i = 0; i < count; i++)           /* by stride, smallest first */
        for (uint32_t k = i + 1; k < count; k++)
            if (s->param_stride[axes[k]] < s->param_stride[axes[i]]) {
                uint32_t swap = axes[i];
                axes[i] = axes[k];
                axes[k] = swap;
            }
    uint32_t inner = 0;
    for (; inner < count; inner++) {
        uint32_t a = axes[inner];
        uint64_t size = (uint64_t)(s->param_hi[a] - s->param_lo[a]);
        if (strcmp(s->param_axes[a], "group") == 0 || (size > 1 && s->param_stride[a] != (int64_t)(cols * block)))
            break;
        block *= size;
    }
    short_name(s->param, name, sizeof name);
    if (inner == count) {
        run_add(r, s->first_element / cols, block, name);
        return;
    }
    uint32_t outer = axes[inner];
    int64_t size = s->param_hi[outer] - s->param_lo[outer];
    r->failed |= inner + 1 < count || size > MOST_RUNS || s->param_stride[outer] % (int64_t)cols;
    for (int64_t i = 0; i < size && !r->failed; i++) {
        char label[BLOCK_LABEL];
        snprintf(label, sizeof label, "%c%lld %.16s", s->param_axes[outer][0], (long long)(s->param_lo[outer] + i), name);
        run_add(r, (s->first_element + (uint64_t)(i * s->param_stride[outer])) / cols, block, label);
    }
}

static int by_row(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Runs in order, without gaps or overlaps; one run without a name where that cannot be. */
static void runs_mend(struct runs *r, uint64_t rows)
{
    if (r->count)
        qsort(r->at, r->count, sizeof *r->at, by_row);
    uint64_t at = 0;
    for (size_t i = 0; i < r->count && !r->failed; i++) {
        r->failed = r->at[i].row < at || r->at[i].rows > rows || r->at[i].row > rows - r->at[i].rows;
        at = r->at[i].row + r->at[i].rows;
    }
    if (r->failed)
        r->count = 0;
    r->failed = false;
    if (!r->count) {
        run_add(r, 0, rows, "rows");
        return;
    }
    size_t count = r->count;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = r->at[i].row + r->at[i].rows, next = i + 1 < count ? r->at[i + 1].row : rows;
        if (i == 0 && r->at[0].row > 0)
            run_add(r, 0, r->at[0].row, "unclaimed");
        if (end < next)
            run_add(r, end, next - end, "unclaimed");
    }
    if (r->count)
        qsort(r->at, r->count, sizeof *r->at, by_row);
}

static uint64_t cols_of(const struct sl_tensor *t)
{
    return t->ndim > 1 && t->shape[t->ndim - 1] > 0 ? (uint64_t)t->shape[t->ndim - 1] : t->count;
}

void blocks_cut(struct blocks_result *out, const struct sl_tensor *t, const struct sl_slice_info *slices, size_t slice_count)
{
    struct runs r = { 0 };
    const uint64_t cols = cols_of(t), rows = cols ? t->count / cols : 0;
    out->rows = 0;
    out->cols = cols < BLOCK_COLS ? (size_t)cols : BLOCK_COLS;
    if (!rows)
        return;
    for (size_t i = 0; i < slice_count && t->ndim > 1 && !r.failed; i++)
        add_slice(&r, &slices[i], cols);
    runs_mend(&r, rows);
    uint64_t fold = (r.count + MOST_BLOCK_ROWS - 1) / MOST_BLOCK_ROWS, parts = r.count && r.count < ROWS_WANTED ? ROWS_WANTED / r.count : 1;
    for (size_t i = 0; i < r.count && out->rows < MOST_BLOCK_ROWS; i += (size_t)fold) {
        uint64_t cuts = r.at[i].rows < parts ? r.at[i].rows : parts;
        for (uint64_t c = 0; c < cuts && out->rows < MOST_BLOCK_ROWS; c++) {
            out->edge[out->rows] = r.at[i].row + r.at[i].rows * c / cuts;
            snprintf(out->label[out->rows], BLOCK_LABEL, "%s", c ? "" : r.at[i].label);
            out->rows++;
        }
    }
    out->edge[out->rows] = rows;
    free(r.at);
}

/* ---- measuring, in the background ---------------------------------------------------------- */

struct blocks_task { struct task task; struct opened *opened; struct blocks_result *result; };

static void blocks_work(struct task *task)
{
    struct blocks_task *t = (struct blocks_task *)task;
    struct blocks_result *r = t->result;
    r->failed = sl_tensor_profile(t->opened->ck, r->tensor, r->edge, r->rows, r->cols, &r->profile, r->rows ? r->block : NULL,
                                  &task->cancel, NULL, &r->error) != SL_OK;
    r->done = true;
}

static void blocks_apply(struct app *app, struct task *task)
{
    struct blocks_task *t = (struct blocks_task *)task;
    struct blocks_state *s = &app->blocks;
    size_t place = 0;
    if (t->opened != app->opened)
        return;
    for (size_t i = 0; i < KEPT_BLOCKS && s->kept[place]; i++)
        if (!s->kept[i] || s->kept[i]->used < s->kept[place]->used)
            place = i;
    free(s->kept[place]);
    s->kept[place] = t->result;
    t->result->used = ++s->clock;
    t->result = NULL;
}

static void blocks_drop(struct app *app, struct task *task)
{
    struct blocks_task *t = (struct blocks_task *)task;
    if (app && app->blocks.task == task) {
        app->blocks.task = NULL;
        if (!task->cancel)
            inspect_again(app);
    }
    opened_drop(t->opened);
    free(t->result);
    free(t);
}

const struct blocks_result *blocks_of(const struct app *app, size_t tensor)
{
    for (size_t i = 0; i < KEPT_BLOCKS; i++)
        if (app->blocks.kept[i] && app->blocks.kept[i]->tensor == tensor)
            return app->blocks.kept[i];
    return NULL;
}

void blocks_want(struct app *app, size_t tensor, const struct sl_slice_info *slices, size_t slice_count)
{
    struct blocks_state *s = &app->blocks;
    struct blocks_task *running = (struct blocks_task *)s->task;
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    for (size_t i = 0; i < KEPT_BLOCKS; i++)
        if (s->kept[i] && s->kept[i]->tensor == tensor) {
            s->kept[i]->used = ++s->clock;
            return;
        }
    if (running && running->result->tensor == tensor)
        return;
    task_cancel(s->task);
    s->task = NULL;
    struct blocks_task *task = t->count ? calloc(1, sizeof *task) : NULL;
    struct blocks_result *r = task ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        free(task);
        return;
    }
    r->tensor = tensor;
    blocks_cut(r, t, slices, slice_count);
    *task = (struct blocks_task){ .task = { .work = blocks_work, .apply = blocks_apply, .drop = blocks_drop },
                                  .opened = opened_use(app->opened), .result = r };
    s->task = &task->task;
    jobs_add(app->jobs, LANE_BLOCKS, &task->task);
}

void blocks_forget(struct app *app)
{
    task_cancel(app->blocks.task);
    for (size_t i = 0; i < KEPT_BLOCKS; i++)
        free(app->blocks.kept[i]);
    app->blocks = (struct blocks_state){ .measure = app->blocks.measure };
}

/* ---- drawing ------------------------------------------------------------------------------------ */

static const char shades[] = ".:-=+*#%";
#define SHADES ((int)sizeof shades - 1)
static const char *const measure_names[MEASURES] = { "rms", "largest |x|", "part of zeros", "rms against the other piece" };

/* Blocks that are drawn as one cell. */
struct part { size_t row, rows, col, cols; };

static double measure_of(const struct blocks_result *r, struct part at, enum block_measure m, const struct blocks_result *other)
{
    double sum = 0, most = 0;
    uint64_t count = 0, zeros = 0;
    for (size_t row = at.row; row < at.row + at.rows && row < r->rows; row++)
        for (size_t c = at.col; c < at.col + at.cols && c < r->cols; c++) {
            const struct sl_block_stats *b = &r->block[row * r->cols + c];
            uint64_t finite = b->count - b->nonfinite;
            sum += b->rms * b->rms * (double)finite;
            most = b->max_abs > most ? b->max_abs : most;
            zeros += b->zeros;
            count += finite;
        }
    double rms = count ? sqrt(sum / (double)count) : 0;
    if (m == MEASURE_MAX)
        return most;
    if (m == MEASURE_ZEROS)
        return count ? (double)zeros / (double)count : 0;
    if (m == MEASURE_DIFFERENCE)
        return other ? fabs(rms - measure_of(other, at, MEASURE_RMS, NULL)) : 0;
    return rms;
}

static bool has_nonfinite(const struct blocks_result *r, struct part at)
{
    for (size_t row = at.row; row < at.row + at.rows && row < r->rows; row++)
        for (size_t c = at.col; c < at.col + at.cols && c < r->cols; c++)
            if (r->block[row * r->cols + c].nonfinite)
                return true;
    return false;
}

/* Rows from `row` that are drawn as one: one, or where they do not all fit those of one name. */
static size_t rows_as_one(const struct blocks_result *r, size_t row, bool fold)
{
    size_t n = 1;
    while (fold && row + n < r->rows && !*r->label[row + n])
        n++;
    return n;
}

static char shade(double v, double lo, double hi)
{
    if (!(hi > lo))
        return v > 0 ? '=' : ' ';
    int level = lo > 0 ? (int)(log(v / lo) / log(hi / lo) * SHADES) : (int)((v - lo) / (hi - lo) * SHADES);
    return shades[level < 0 ? 0 : level >= SHADES ? SHADES - 1 : level];
}

static bool alike(const struct blocks_result *a, const struct blocks_result *b)
{
    return b && b->done && !b->failed && a->rows == b->rows && a->cols == b->cols && memcmp(a->edge, b->edge, (a->rows + 1) * sizeof a->edge[0]) == 0;
}

/* The first line that is shown, so that `line` is among `rows`: it moves by half a page, which costs a terminal
 * less than every key moving the whole picture. */
static int top_of(int line, int rows)
{
    const int half = rows > 1 ? rows / 2 : 1;
    return line < rows ? 0 : ((line - rows) / half + 1) * half;
}

void blocks_draw(struct app *app, struct pane p, size_t tensor, size_t other, int line)
{
    const struct blocks_result *r = blocks_of(app, tensor), *beside = other == SIZE_MAX ? NULL : blocks_of(app, other);
    enum block_measure m = app->blocks.measure;
    if (!r || r->failed) {
        pane_textw(p, 0, 0, -1, STYLE_HEAD, "blocks of rows and columns");
        pane_wrap(p, 1, 0, r ? STYLE_BAD : STYLE_DIM, r ? r->error.message : sl_tensor_at(app->opened->ck, tensor)->count ? "reading" : "it has no elements");
        return;
    }
    if (m == MEASURE_DIFFERENCE && !alike(r, beside)) {
        pane_wrap(p, 0, 0, STYLE_DIM, other == SIZE_MAX ? "there is no other piece to compare with; x shows the rms again"
                                      : beside ? "the other piece is cut otherwise; x shows the rms again" : "reading the other piece");
        return;
    }
    const int label = 12, room = p.cols - label - 1;
    if (room < 1 || !r->rows)
        return;
    const size_t step = (r->cols + (size_t)room - 1) / (size_t)room, width = (r->cols + step - 1) / step;
    const bool fold = r->rows > (size_t)(p.rows > 1 ? p.rows - 1 : 0);
    double lo = INFINITY, hi = 0;
    for (size_t row = 0, n; row < r->rows; row += n) {
        n = rows_as_one(r, row, fold);
        for (size_t c = 0; c < r->cols; c += step) {
            double v = measure_of(r, (struct part){ row, n, c, step }, m, beside);
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
        }
    }
    pane_printf(p, 0, 0, STYLE_HEAD, "%s by block", measure_names[m]);
    char scale[80];
    snprintf(scale, sizeof scale, "%s %.3g  %s %.3g", ".", lo, "%", hi);
    pane_right(p, 0, p.cols, STYLE_DIM, scale);
    size_t at = 0;
    const int top = top_of(line, p.rows - 2);    /* without head and foot */
    for (int i = 0; i < top && at + rows_as_one(r, at, fold) < r->rows; i++)
        at += rows_as_one(r, at, fold);
    for (int row = 1; row < p.rows && at < r->rows; row++) {
        size_t n = rows_as_one(r, at, fold);
        if (row == p.rows - 1 && at + n < r->rows) {
            pane_text(p, row, 0, STYLE_DIM, ".. more rows; j and k scroll");
            break;
        }
        pane_textw(p, row, 0, label - 1, row - 1 + top == line ? STYLE_SELECTED : STYLE_TEXT, *r->label[at] || row - 1 + top != line ? r->label[at] : " ");
        pane_text(p, row, label - 1, STYLE_BORDER, "|");
        for (size_t c = 0; c < width; c++) {
            struct part part = { at, n, c * step, step };
            bool bad = has_nonfinite(r, part);
            char ch = bad ? '!' : shade(measure_of(r, part, m, beside), lo, hi);
            pane_text(p, row, label + (int)c, bad ? STYLE_BAD : STYLE_ACCENT, (char[]){ ch, '\0' });
        }
        pane_text(p, row, label + (int)width, STYLE_BORDER, "|");
        if (p.cols - label - (int)width > 24)
            pane_printf(p, row, label + (int)width + 2, STYLE_DIM, "rows %llu-%llu", (unsigned long long)r->edge[at], (unsigned long long)r->edge[at + n] - 1);
        at += n;
    }
}
