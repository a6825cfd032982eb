/* report.c: what was written, tensor by tensor, worst first. */
#include "tui/app.h"
#include "tui/export.h"
#include "tui/opening.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sl_job *job_of(const struct app *app)
{
    return app->run.state == RUN_DONE || app->run.state == RUN_FAILED ? app->run.job : NULL;
}

/* Rows that need a look stand first: what differs, what holds NaN or Inf, what is not verified. */
static int badness(const struct sl_result *r)
{
    static const int order[] = {
        [SL_RESULT_MISMATCH] = 9, [SL_RESULT_DIFFERENT] = 9, [SL_RESULT_SHAPE] = 8, [SL_RESULT_ONLY_A] = 7, [SL_RESULT_ONLY_B] = 7,
        [SL_RESULT_PENDING] = 5, [SL_RESULT_WRITTEN] = 1, [SL_RESULT_VERIFIED] = 0, [SL_RESULT_EQUAL] = 0,
    };
    int bad = order[r->status];
    return bad < 6 && (r->stats.nan || r->stats.inf) ? 6 : bad;
}

/* The kind of weight that a target is made of. */
static const char *kind_of(const struct app *app, size_t target)
{
    const struct opened *o = app->run.opened;
    struct sl_piece_info piece;
    if (!sl_plan_pieces(app->run.plan.plan, target, &piece, 1) || piece.source == SIZE_MAX || !o->logical_of || o->logical_of[piece.source] == UINT32_MAX)
        return "other";
    return sl_logical_at(o->ck, o->logical_of[piece.source])->kind;
}

static void count_kind(struct report_state *s, const char *kind, const struct sl_result *r)
{
    size_t k = 0;
    while (k < s->kind_count && strcmp(s->kinds[k].kind, kind))
        k++;
    if (k == MOST_KINDS)
        return;
    if (k == s->kind_count)
        s->kinds[s->kind_count++] = (struct report_kind){ .kind = kind };
    s->kinds[k].bytes += r->bytes;
    s->kinds[k].tensors++;
    s->kinds[k].bad += result_sign(r->status) == '!';
}

/* What the summary says, counted once: a report does not change. */
#define MOST_FOR_KINDS 300000             /* targets whose kinds are looked up */
static void count_all(struct app *app, const struct sl_job *job)
{
    struct report_state *s = &app->report;
    const size_t count = job ? sl_result_count(job) : 0;
    s->verified = s->written = s->missing = s->wrong = s->odd = s->kind_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct sl_result *r = sl_result_at(job, i);
        const char sign = result_sign(r->status);
        ++*(sign == '=' ? &s->verified : sign == 'o' ? &s->written : sign == '.' ? &s->missing : &s->wrong);
        s->odd += r->stats.nan || r->stats.inf;
        if (count <= MOST_FOR_KINDS && app->run.plan.plan)
            count_kind(s, kind_of(app, i), r);
    }
}

/* All results by badness; the list shows all of them or those that need a look. */
void report_ready(struct app *app)
{
    struct report_state *s = &app->report;
    const struct sl_job *job = job_of(app);
    size_t count = job ? sl_result_count(job) : 0, n = 0;
    free(s->worst);
    s->worst = calloc(count + 1, sizeof *s->worst);
    s->bad = 0;
    for (int bad = 9; s->worst && bad >= 0; bad--) {
        for (size_t i = 0; i < count; i++)
            if (badness(sl_result_at(job, i)) == bad)
                s->worst[n++] = i;
        if (bad == 2)
            s->bad = n;
    }
    list_count(&s->list, s->all ? n : s->bad);
    count_all(app, job);
}

void act_report_all(struct app *app)
{
    if (app->screen == SCREEN_DIFF) {
        diff_all(app);
        return;
    }
    app->report.all = !app->report.all;
    report_ready(app);
    app_say(app, STYLE_TEXT, app->report.all ? "all results" : "only what needs a look");
}

/* "by kind  experts 18432, 58.0 GB  attention 192, 1.81 GB", largest first; returns the rows used. */
static int draw_kinds(struct app *app, struct pane p)
{
    const struct report_state *s = &app->report;
    char text[96], bytes[32];
    int row = 0, col = 9;
    bool told[MOST_KINDS] = { false };
    if (!s->kind_count)
        return 0;
    pane_text(p, 0, 0, STYLE_HEAD, "by kind");
    for (size_t n = 0; n < s->kind_count; n++) {
        size_t k = s->kind_count;
        for (size_t i = 0; i < s->kind_count; i++)
            if (!told[i] && (k == s->kind_count || s->kinds[i].bytes > s->kinds[k].bytes))
                k = i;
        told[k] = true;
        snprintf(text, sizeof text, "%c %.30s %zu, %s", s->kinds[k].bad ? '!' : '=', s->kinds[k].kind, s->kinds[k].tensors,
                 sl_text_bytes(s->kinds[k].bytes, bytes, sizeof bytes));
        if (col > 9 && col + text_cells(p.canvas, text) > p.cols)
            row++, col = 9;
        col += pane_text(p, row, col, s->kinds[k].bad ? STYLE_BAD : STYLE_TEXT, text) + 3;
    }
    return row + 1;
}

static int draw_summary(struct app *app, struct pane p, const struct sl_job *job)
{
    const struct sl_summary *s = sl_job_summary(job);
    const struct report_state *t = &app->report;
    char a[32], b[32], c[32];
    int row = 0;
    bool good = app->run.state == RUN_DONE && !t->wrong && !t->missing;
    int col = pane_printf(p, row, 0, good ? STYLE_GOOD : STYLE_BAD, "%c %zu verified, %zu written, %zu not as planned", good ? '=' : '!', t->verified,
                          t->written, t->wrong);
    if (t->missing)
        col += pane_printf(p, row, col, STYLE_BAD, ", %zu never written", t->missing);
    pane_printf(p, row++, col, t->odd ? STYLE_WARN : STYLE_TEXT, "  %zu hold NaN or Inf", t->odd);
    if (p.rows < 8)
        return row;
    pane_text(p, row, 0, STYLE_HEAD, "place");
    pane_name(p, row++, 9, p.cols - 9, STYLE_TEXT, app->run.plan.info && app->run.plan.info->target ? app->run.plan.info->target : "");
    pane_text(p, row, 0, STYLE_HEAD, "written");
    pane_printf(p, row++, 9, STYLE_TEXT, "%llu tensors, %s in %s, %s, %s of memory", (unsigned long long)s->tensors, sl_text_bytes(s->bytes, a, sizeof a),
                duration_text(s->seconds, b, sizeof b), rate_text(s->bytes_per_second, c, sizeof c),
                sl_text_bytes(s->peak_memory_bytes, (char[32]){ 0 }, 32));
    pane_text(p, row, 0, STYLE_HEAD, "verified");
    int wrapped = pane_wrap(pane_part(p, row, 9, p.rows > 14 ? 2 : 1, p.cols - 9), 0, 0, STYLE_TEXT, s->verify ? s->verify : "no");
    row += wrapped > 0 ? wrapped : 1;
    pane_text(p, row, 0, STYLE_HEAD, "report");
    pane_name(p, row++, 9, p.cols - 9, STYLE_TEXT, s->report ? s->report : "not written; w saves it");
    if (p.rows >= 16)
        row += draw_kinds(app, pane_part(p, row, 0, p.rows - row, p.cols));
    return row;
}

static void shape_text(const struct sl_result *r, char *out, size_t room)
{
    size_t used = 0;
    snprintf(out, room, "scalar");
    for (uint32_t i = 0; i < r->ndim && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%lld", i ? "x" : "", (long long)r->shape[i]);
}

struct columns { int name, shape, bytes, checksum, min, max, mean, odd; };   /* 0: not shown */
static struct columns columns_of(int cols)
{
    struct columns c = { .odd = cols - 9 };
    c.bytes = cols >= 50 ? c.odd - 11 : 0;
    c.checksum = cols >= 90 ? c.bytes - 10 : 0;
    c.shape = cols >= 64 ? (c.checksum ? c.checksum : c.bytes) - 14 : 0;
    int left = c.shape ? c.shape : c.bytes ? c.bytes : c.odd;
    if (cols >= 120) {
        c.mean = left - 11;
        c.max = c.mean - 11;
        c.min = left = c.max - 11;
    }
    c.name = left - 1;
    return c;
}

static void draw_row(struct pane p, int row, const struct sl_result *r, bool here)
{
    struct columns c = columns_of(p.cols);
    char text[160], sign[2] = { result_sign(r->status), '\0' };
    if (here) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    pane_text(p, row, 2, sign_style(sign[0]), sign);
    pane_name(p, row, 4, c.name - 4, here ? STYLE_SELECTED : STYLE_TEXT, r->name);
    const struct { int col; double v; } numbers[] = { { c.min, r->stats.min }, { c.max, r->stats.max }, { c.mean, r->stats.mean } };
    for (size_t i = 0; i < 3; i++)
        if (numbers[i].col && r->status != SL_RESULT_PENDING) {
            snprintf(text, sizeof text, "%.4g", numbers[i].v);
            pane_right(p, row, numbers[i].col + 10, STYLE_TEXT, text);
        }
    shape_text(r, text, sizeof text);
    if (c.shape)
        pane_textw(p, row, c.shape, 13, STYLE_TEXT, text);
    snprintf(text, sizeof text, "%04llx..%02llx", (unsigned long long)(r->checksum >> 48), (unsigned long long)(r->checksum & 0xff));
    if (c.checksum)
        pane_text(p, row, c.checksum, STYLE_DIM, r->checksum ? text : "");
    if (c.bytes)
        pane_right(p, row, c.bytes + 10, STYLE_TEXT, sl_text_bytes(r->bytes, text, sizeof text));
    if (r->stats.nan || r->stats.inf) {
        snprintf(text, sizeof text, "%llu NaN", (unsigned long long)(r->stats.nan + r->stats.inf));
        pane_text(p, row, c.odd, STYLE_WARN, r->stats.nan ? text : "Inf");
    } else {
        pane_textw(p, row, c.odd, 9, STYLE_DIM, sl_result_status_name(r->status));
    }
}

static void draw_heads(struct pane p, const char *title)
{
    struct columns c = columns_of(p.cols);
    const struct { int col; const char *word; bool right; } heads[] = {
        { c.min, "min", true }, { c.max, "max", true }, { c.mean, "mean", true }, { c.shape, "shape", false },
        { c.checksum, "xxh3", false }, { c.bytes, "bytes", true }, { c.odd, "status", false },
    };
    pane_textw(p, 0, 4, c.name - 4, STYLE_HEAD, title);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (heads[i].col && heads[i].right)
            pane_right(p, 0, heads[i].col + 10, STYLE_HEAD, heads[i].word);
        else if (heads[i].col)
            pane_text(p, 0, heads[i].col, STYLE_HEAD, heads[i].word);
}

static void draw(struct app *app, struct pane p)
{
    const struct sl_job *job = job_of(app);
    struct report_state *s = &app->report;
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    if (!job) {
        pane_wrap(p, p.rows > 2 ? 1 : 0, 0, STYLE_DIM, run_going(app) ? "the report is here when the conversion is done; 6 shows how far it is"
                  : app->run.state == RUN_FAILED ? "it did not start: 6 says why" : "no conversion was run: press 5 to choose one");
        return;
    }
    pane_take(&p, draw_summary(app, p, job));
    if (p.rows > 4)
        pane_rule(pane_take(&p, 1), 0);
    if (p.rows > 2)
        draw_heads(pane_take(&p, 1), s->all ? "all tensors, worst first" : "tensors that need a look");
    list_show(&s->list, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && s->list.top + (size_t)row < s->list.count; row++) {
        size_t i = s->list.top + (size_t)row;
        draw_row(p, row, sl_result_at(job, s->worst[i]), i == s->list.selected);
    }
    if (!s->list.count)
        pane_text(p, 0, 4, STYLE_DIM, "none; a lists all tensors");
}

static void move(struct app *app, int rows, int cols, bool page)
{
    (void)cols;
    list_move(&app->report.list, rows * (page ? (app->canvas.rows > 14 ? app->canvas.rows - 12 : 1) : 1));
}
static void end(struct app *app, bool last)
{
    list_move(&app->report.list, last ? (ptrdiff_t)app->report.list.count : -(ptrdiff_t)app->report.list.count);
}

/* Enter goes to the map: the places that the tensor was made of. */
static void enter(struct app *app)
{
    const struct sl_job *job = job_of(app);
    if (!job || !app->report.list.count) {
        app_say(app, STYLE_DIM, "no tensor is selected");
        return;
    }
    snprintf(app->map.wanted, sizeof app->map.wanted, "%s", sl_result_at(job, app->report.worst[app->report.list.selected])->name);
    app_go(app, SCREEN_MAP);
}

static void command(const struct app *app, struct sl_buf *out)
{
    if (app->run.plan.info && app->run.plan.info->target) {
        sl_buf_str(out, "verify ");
        shell_word(out, app->options->path);
        sl_buf_char(out, ' ');
        shell_word(out, app->run.plan.info->target);
    } else {
        sl_buf_str(out, "convert ");
        convert_command(app, out);
    }
}

/* ---- saving ------------------------------------------------------------------------------------ */

bool report_is_there(const struct app *app)
{
    return job_of(app) != NULL;
}

static const char *const columns[] = { "status", "name", "dtype", "shape", "bytes", "file", "xxh3", "min", "max", "mean", "std", "nan", "inf", "sources" };
enum { COLUMN_STATUS, COLUMN_NAME, COLUMN_DTYPE, COLUMN_SHAPE, COLUMN_BYTES, COLUMN_FILE, COLUMN_XXH3, COLUMN_MIN, COLUMN_MAX, COLUMN_MEAN, COLUMN_STD,
       COLUMN_NAN, COLUMN_INF, COLUMN_SOURCES, COLUMN_COUNT };

static void cell(const void *arg, size_t row, size_t column, struct sl_buf *out)
{
    const struct app *app = arg;
    const struct sl_result *r = sl_result_at(job_of(app), app->report.worst[row]);
    char shape[160];
    switch (column) {
    case COLUMN_STATUS: sl_buf_str(out, sl_result_status_name(r->status)); break;
    case COLUMN_NAME: sl_buf_printable(out, r->name, strlen(r->name)); break;
    case COLUMN_DTYPE: sl_buf_str(out, sl_dtype_label(r->dtype)); break;
    case COLUMN_SHAPE: shape_text(r, shape, sizeof shape), sl_buf_str(out, shape); break;
    case COLUMN_BYTES: sl_buf_printf(out, "%llu", (unsigned long long)r->bytes); break;
    case COLUMN_FILE: sl_buf_printable(out, r->file ? r->file : "", r->file ? strlen(r->file) : 0); break;
    case COLUMN_XXH3: sl_buf_printf(out, "%016llx", (unsigned long long)r->checksum); break;
    case COLUMN_MIN: sl_buf_printf(out, "%.9g", r->stats.min); break;
    case COLUMN_MAX: sl_buf_printf(out, "%.9g", r->stats.max); break;
    case COLUMN_MEAN: sl_buf_printf(out, "%.9g", r->stats.mean); break;
    case COLUMN_STD: sl_buf_printf(out, "%.9g", r->stats.std); break;
    case COLUMN_NAN: sl_buf_printf(out, "%llu", (unsigned long long)r->stats.nan); break;
    case COLUMN_INF: sl_buf_printf(out, "%llu", (unsigned long long)r->stats.inf); break;
    case COLUMN_SOURCES: sl_buf_printf(out, "%zu", r->sources); break;
    default: break;
    }
}

static void table_of(const struct app *app, struct export_table *t)
{
    const struct sl_job *job = job_of(app);
    const struct sl_summary *s = sl_job_summary(job);
    const struct report_state *n = &app->report;
    const struct sl_plan_info *plan = app->run.plan.info;
    *t = (struct export_table){ .title = "Report of a conversion", .cell = cell, .arg = app, .row_count = sl_result_count(job), .column_count = COLUMN_COUNT };
    memcpy(t->columns, columns, sizeof columns);
    export_fact(t, "program", "shardlens %s", sl_version());
    export_fact(t, "source", "%s", app->options->path);
    export_fact(t, "target", "%s", plan && plan->target ? plan->target : "");
    export_fact(t, "plan", "%s", plan && plan->hash ? plan->hash : "");
    export_fact(t, "verdict", "%zu verified, %zu written, %zu not as planned, %zu never written, %zu hold NaN or Inf", n->verified, n->written, n->wrong, n->missing, n->odd);
    export_fact(t, "verified", "%s", s->verify ? s->verify : "no");
    export_fact(t, "tensors", "%llu", (unsigned long long)s->tensors);
    export_fact(t, "bytes", "%llu", (unsigned long long)s->bytes);
    export_fact(t, "again", "shardlens verify %s %s", app->options->path, plan && plan->target ? plan->target : "");
}

/* At most so many rows, worst first; 0: all. */
void report_text(const struct app *app, struct sl_buf *out, size_t most_rows)
{
    struct export_table t;
    if (!job_of(app) || !app->report.worst)
        return;
    table_of(app, &t);
    if (most_rows && t.row_count > most_rows) {
        export_fact(&t, "rows", "the worst %zu of %zu", most_rows, t.row_count);
        t.row_count = most_rows;
    }
    export_write(&t, EXPORT_TEXT, out);
}

void report_save(struct app *app, const char *path)
{
    struct sl_buf text = { 0 };
    struct export_table t;
    const enum export_format format = export_format_of(path);
    const struct sl_job *job = job_of(app);
    if (!job || !app->report.worst)
        return;
    char *json = format == EXPORT_JSON ? sl_job_report_json(job) : NULL;
    if (json) {
        sl_buf_str(&text, json);
    } else {
        table_of(app, &t);
        export_write(&t, format, &text);
    }
    free(json);
    save_text(app, path, &text, "the report");
}

static void opened(struct app *app)
{
    if (!app->report.worst)
        report_ready(app);
}

const struct screen_ops report_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .command = command, .opened = opened };
