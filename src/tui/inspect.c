/* inspect.c: one tensor: statistics rank by rank, histogram, values. */
#include "tui/inspect.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct sl_logical *shown(const struct app *app)
{
    return app->opened && app->inspect.logical >= 0 ? sl_logical_at(app->opened->ck, (size_t)app->inspect.logical) : NULL;
}

void inspect_show(struct app *app, ptrdiff_t logical)
{
    struct inspect_state *s = &app->inspect;
    if (s->logical != logical) {
        s->logical = logical;
        s->column = 0;
        s->first = s->line = 0;
        s->scroll = 0;
        task_cancel(s->comparing);
        s->comparing = NULL;
        s->compared.known = false;
    }
    app_go(app, SCREEN_INSPECT);
}

/* ---- statistics ------------------------------------------------------------------------ */

static void number(double v, char *out, size_t room)
{
    snprintf(out, room, "%.4g", v);
}
static void st_rms(const struct sl_stats *s, char *out, size_t room) { number(s->rms, out, room); }
static void st_mean(const struct sl_stats *s, char *out, size_t room) { number(s->mean, out, room); }
static void st_std(const struct sl_stats *s, char *out, size_t room) { number(s->std, out, room); }
static void st_min(const struct sl_stats *s, char *out, size_t room) { number(s->min, out, room); }
static void st_max(const struct sl_stats *s, char *out, size_t room) { number(s->max, out, room); }
static void st_zeros(const struct sl_stats *s, char *out, size_t room) { snprintf(out, room, "%llu", (unsigned long long)s->zeros); }
static void st_nan(const struct sl_stats *s, char *out, size_t room)
{
    snprintf(out, room, "%llu %llu", (unsigned long long)s->nan, (unsigned long long)s->inf);
}
static void st_count(const struct sl_stats *s, char *out, size_t room) { snprintf(out, room, "%llu", (unsigned long long)s->count); }

static const struct { const char *label; void (*text)(const struct sl_stats *, char *, size_t); } stat_rows[] = {
    { "rms", st_rms },     { "mean", st_mean },    { "std", st_std },        { "min", st_min },
    { "max", st_max },     { "zeros", st_zeros },  { "nan inf", st_nan },    { "elements", st_count },
};
#define STAT_ROWS ((int)(sizeof stat_rows / sizeof stat_rows[0]))
#define COLUMN 11

static void draw_column(struct pane p, int col, const struct sl_stats *s, bool bad)
{
    char text[32];
    for (int i = 0; i < STAT_ROWS; i++) {
        stat_rows[i].text(s, text, sizeof text);
        pane_right(p, 1 + i, col + COLUMN - 1, bad && stat_rows[i].text == st_nan ? STYLE_WARN : STYLE_TEXT, text);
    }
}

static const char *column_name(const struct app *app, size_t tensor, char *out, size_t room)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    const struct sl_checkpoint_info *info = app->opened->info;
    if (t->rank >= 0 && (size_t)t->rank < info->rank_count && info->parallel.ep <= 1 && info->parallel.pp <= 1)
        snprintf(out, room, "tp%d", info->ranks[t->rank].tp);
    else
        piece_place(app, tensor, out, room);
    return out;
}

/* The head of a column: of "tp0 pp1 ep0" only the coordinates in which the pieces differ. */
static const char *column_head(const struct app *app, const struct sl_logical *l, size_t piece, char *out, size_t room)
{
    char first[96], name[96];
    size_t used = 0, parts = 0;
    bool differs[4] = { false };
    column_name(app, l->pieces[0], first, sizeof first);
    for (size_t i = 0; i < l->piece_count && i < MOST_COLUMNS; i++) {
        const char *a = first, *b = column_name(app, l->pieces[i], name, sizeof name);
        for (size_t k = 0; k < 4 && *a && *b; k++, a += strcspn(a, " "), a += *a == ' ', b += strcspn(b, " "), b += *b == ' ')
            differs[k] |= strcspn(a, " ") != strcspn(b, " ") || strncmp(a, b, strcspn(a, " ")) != 0;
    }
    column_name(app, l->pieces[piece], name, sizeof name);
    out[0] = '\0';
    for (const char *part = name; *part && parts < 4 && used < room; parts++) {
        const size_t len = strcspn(part, " ");
        if (differs[parts])
            used += (size_t)snprintf(out + used, room - used, "%s%.*s", used ? " " : "", (int)len, part);
        part += len + (part[len] == ' ');
    }
    if (!used)
        snprintf(out, room, "%s", name);
    return out;
}

static void draw_statistics(struct app *app, struct pane p, const struct sl_logical *l)
{
    const struct stats_result *r = stats_of(app, app->inspect.logical);
    char name[64];
    int per_page = (p.cols - 9) / COLUMN - 1;
    size_t fit = per_page > 0 ? (size_t)per_page : 0, first = fit && app->inspect.column >= fit ? app->inspect.column - fit + 1 : 0;
    for (int i = 0; i < STAT_ROWS; i++)
        pane_text(p, 1 + i, 0, STYLE_HEAD, stat_rows[i].label);
    pane_text(p, 1 + STAT_ROWS, 0, STYLE_HEAD, "xxh3");
    pane_right(p, 0, 9 + COLUMN - 1, STYLE_HEAD, "whole");
    if (r && r->done && r->whole_known)
        draw_column(p, 9, &r->whole, r->whole.nan || r->whole.inf);
    else
        pane_right(p, 1, 9 + COLUMN - 1, STYLE_DIM, r && r->done ? "not known" : r && r->failed ? "failed" : "reading");
    for (size_t i = first; i < l->piece_count && i < first + fit; i++) {
        int col = 9 + COLUMN * (int)(i - first + 1);
        char head[80];
        column_head(app, l, i, name, sizeof name);
        bool selected = i == app->inspect.column;
        snprintf(head, sizeof head, selected ? "[%.8s]" : "%.9s ", name);
        pane_right(p, 0, col + COLUMN, selected ? STYLE_SELECTED : STYLE_HEAD, head);
        if (selected)
            pane_cursor(p, 0, col + COLUMN - 1, false);
        if (!r || i >= r->column_count || !r->columns[i].done) {
            pane_right(p, 1, col + COLUMN - 1, STYLE_DIM, r && i >= r->column_count ? "not read" : "..");
            continue;
        }
        draw_column(p, col, &r->columns[i].stats, r->columns[i].stats.nan || r->columns[i].stats.inf);
        snprintf(head, sizeof head, "%04llx..%02llx", (unsigned long long)(r->columns[i].checksum >> 48),
                 (unsigned long long)(r->columns[i].checksum & 0xff));
        pane_right(p, 1 + STAT_ROWS, col + COLUMN - 1, STYLE_TEXT, head);
    }
}

/* "copies: 4, equal to the bit"; pieces of one tp rank must be equal, and all of a copied tensor. */
static void draw_copies(struct app *app, struct pane p, int row, const struct sl_logical *l)
{
    const struct stats_result *r = stats_of(app, app->inspect.logical);
    if (l->split != SL_COPY || !r)
        return;
    size_t read = 0, equal = 0;
    for (size_t i = 0; i < r->column_count; i++) {
        read += r->columns[i].done;
        equal += r->columns[i].done && r->columns[i].checksum == r->columns[0].checksum;
    }
    if (read < 2)
        return;
    if (equal == read)
        pane_printf(p, row, 0, STYLE_GOOD, "= %zu of %zu copies read, equal to the bit", read, l->piece_count);
    else
        pane_printf(p, row, 0, STYLE_BAD, "! %zu of %zu copies differ from the first", read - equal, read);
}

static void draw_progress(struct app *app, struct pane p, int row)
{
    const struct stats_result *r = stats_of(app, app->inspect.logical);
    char done[32], all[32], rate[40];
    uint64_t total = 0, read = inspect_reading(app);
    if (!r)
        return;
    if (r->failed) {
        pane_printf(p, row, 0, STYLE_BAD, "! %s: %s", r->error.where, r->error.message);
        return;
    }
    if (r->done) {
        if (r->seconds > 0.05 && !app->options->frozen)
            pane_printf(p, row, 0, STYLE_DIM, "read at %s", rate_text((double)r->bytes / r->seconds, rate, sizeof rate));
        return;
    }
    for (size_t i = 0; i < r->column_count; i++)
        total += sl_tensor_at(app->opened->ck, r->columns[i].tensor)->bytes;
    read += r->bytes;
    int col = pane_printf(p, row, 0, STYLE_DIM, "reading %s of %s ", sl_text_bytes(read < total ? read : total, done, sizeof done),
                          sl_text_bytes(total, all, sizeof all));
    pane_bar(p, row, col, p.cols - col > 30 ? 30 : p.cols - col, STYLE_ACCENT, total ? (double)read / (double)total : 0);
}

/* ---- profile of the selected piece: quantiles, mantissa ------------------------------------------ */

static const struct sl_profile *profile_of(const struct app *app)
{
    const struct sl_logical *l = shown(app);
    const struct blocks_result *r = l && app->inspect.column < l->piece_count ? blocks_of(app, l->pieces[app->inspect.column]) : NULL;
    return r && r->done && !r->failed ? &r->profile : NULL;
}

static void draw_quantiles(struct app *app, struct pane p)
{
    static const char *const labels[SL_QUANTILES] = { "50", "90", "99", "99.9", "99.99" };
    const struct sl_logical *l = shown(app);
    const struct sl_profile *f = profile_of(app);
    char place[64], text[32];
    pane_printf(p, 0, 0, STYLE_HEAD, "quantiles of |x| of %s", column_name(app, l->pieces[app->inspect.column], place, sizeof place));
    if (!f) {
        pane_text(p, 1, 0, STYLE_DIM, "reading");
        return;
    }
    double most = fmax(fabs(f->stats.min), fabs(f->stats.max));
    for (int i = 0; i < SL_QUANTILES; i++) {
        pane_printf(p, 1 + i, 0, STYLE_TEXT, "p%s", labels[i]);
        number(f->quantile[i], text, sizeof text);
        pane_right(p, 1 + i, 16, STYLE_TEXT, text);
        pane_bar(p, 1 + i, 18, p.cols - 18 > 40 ? 40 : p.cols - 18, STYLE_ACCENT, most > 0 ? f->quantile[i] / most : 0);
    }
    number(most, text, sizeof text);
    pane_text(p, 1 + SL_QUANTILES, 0, STYLE_TEXT, "largest");
    pane_right(p, 1 + SL_QUANTILES, 16, STYLE_TEXT, text);
    pane_text(p, 2 + SL_QUANTILES, 0, STYLE_DIM, f->quantiles_exact ? "exact: counted value by value" : "each within 0.4 percent");
}

/* "mantissa 8 of 8 bits used  subnormal 0  row rms 0.011..0.094" */
static int draw_profile(struct app *app, struct pane p, int row)
{
    const struct sl_profile *f = profile_of(app);
    int col = 0;
    if (!f)
        return 0;
    if (f->mantissa_bits) {
        /* a constant has few bits whatever it was */
        bool narrow = f->mantissa_used <= 8 && f->mantissa_bits > 11 && f->stats.min < f->stats.max;
        col += pane_printf(p, row, col, narrow ? STYLE_WARN : STYLE_TEXT, "mantissa %u of %u bits used%s", f->mantissa_used, f->mantissa_bits,
                           narrow ? ": was bf16 once" : "") + 2;
        col += pane_printf(p, row, col, STYLE_TEXT, "subnormal %llu", (unsigned long long)f->subnormals) + 2;
    }
    pane_printf(p, row, col, STYLE_TEXT, "row rms %.3g..%.3g", f->row_rms_lo, f->row_rms_hi);
    return 1;
}

/* ---- the same tensor in the layers around ----------------------------------------------------------- */

#define NEIGHBOURS 4

/* The logical tensor of the same name `step` layers on, -1. */
static ptrdiff_t in_layer(const struct app *app, const struct sl_logical *l, int step)
{
    char part[32], other[600];
    snprintf(part, sizeof part, ".%d.", l->layer);
    const char *at = l->layer >= 0 && l->layer + step >= 0 ? strstr(l->name, part) : NULL;
    if (!at)
        return -1;
    snprintf(other, sizeof other, "%.*s.%d.%s", (int)(at - l->name), l->name, l->layer + step, at + strlen(part));
    return sl_logical_find(app->opened->ck, other);
}

/* Exact where the inspector read it, else from a sample. */
static bool rms_of(const struct app *app, ptrdiff_t logical, double *rms, bool *sampled)
{
    const struct stats_result *r = stats_of(app, logical);
    *sampled = !(r && r->done && r->whole_known);
    if (*sampled)
        return layers_rms(app, (size_t)logical, rms);
    *rms = r->whole.rms;
    return true;
}

void inspect_neighbours_want(struct app *app)
{
    const struct sl_logical *l = shown(app);
    for (int step = -NEIGHBOURS; l && step <= NEIGHBOURS; step++) {
        ptrdiff_t other = step ? in_layer(app, l, step) : -1;
        if (other >= 0)
            layers_ask(app, (size_t)other);
    }
}

static void draw_neighbours(struct app *app, struct pane p, const struct sl_logical *l, bool one_line)
{
    double rms, most = 0;
    bool sampled, any = false;
    char text[32];
    int row = 0, col = pane_text(p, 0, 0, STYLE_HEAD, one_line ? "neighbours" : "rms in the layers around") + 1;
    for (int step = -NEIGHBOURS; step <= NEIGHBOURS; step++) {
        ptrdiff_t other = in_layer(app, l, step);
        if (other >= 0 && rms_of(app, other, &rms, &sampled))
            most = rms > most ? rms : most;
    }
    for (int step = -NEIGHBOURS; step <= NEIGHBOURS; step++) {
        ptrdiff_t other = in_layer(app, l, step);
        if (other < 0 || (one_line && (!step || step < -2 || step > 2)))
            continue;
        bool known = rms_of(app, other, &rms, &sampled);
        any = true;
        number(known ? rms : 0, text, sizeof text);
        if (one_line) {
            col += pane_printf(p, 0, col, STYLE_TEXT, " L%d %s%s", l->layer + step, known ? text : "..", known && sampled ? "~" : "");
            continue;
        }
        row++;
        pane_printf(p, row, 0, step ? STYLE_TEXT : STYLE_SELECTED, "L%d", l->layer + step);
        pane_right(p, row, 14, STYLE_TEXT, known ? text : "..");
        pane_text(p, row, 14, STYLE_DIM, known && sampled ? "~" : "");
        pane_bar(p, row, 16, p.cols - 17, STYLE_ACCENT, known && most > 0 ? rms / most : 0);
    }
    if (!any)
        pane_text(p, one_line ? 0 : 1, one_line ? col : 0, STYLE_DIM, "it belongs to no layer");
    else if (!one_line && row + 1 < p.rows)
        pane_text(p, row + 1, 0, STYLE_DIM, "~ from a sample");
}

static void index_text(const struct sl_tensor *t, uint64_t element, char *out, size_t room)
{
    uint64_t at[8];
    size_t used = 0;
    if (t->ndim == 0 || t->ndim > 8) {
        snprintf(out, room, "%llu", (unsigned long long)element);
        return;
    }
    for (uint32_t i = t->ndim; i-- > 0;) {
        uint64_t size = t->shape[i] > 0 ? (uint64_t)t->shape[i] : 1;
        at[i] = element % size;
        element /= size;
    }
    for (uint32_t i = 0; i < t->ndim && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%llu", i ? "," : "[", (unsigned long long)at[i]);
    if (used < room)
        snprintf(out + used, room - used, "]");
}

/* ---- two pieces, element by element -------------------------------------------------------------------- */

static void draw_comparison(struct app *app, struct pane p, int row)
{
    const struct comparison *c = &app->inspect.compared;
    char a[64], b[64], at[96];
    if (!c->known) {
        pane_text(p, row, 0, STYLE_DIM, app->inspect.comparing ? "comparing two pieces" : "");
        return;
    }
    if (*c->failed) {
        pane_printf(p, row, 0, STYLE_WARN, "~ %s", c->failed);
        return;
    }
    column_name(app, c->a, a, sizeof a);
    column_name(app, c->b, b, sizeof b);
    if (!c->different) {
        pane_printf(p, row, 0, STYLE_GOOD, "= %s and %s are equal, %llu elements", a, b, (unsigned long long)c->count);
        return;
    }
    index_text(sl_tensor_at(app->opened->ck, c->a), c->first, at, sizeof at);
    pane_printf(p, row, 0, STYLE_WARN, "~ %s, %s: %llu of %llu differ, most by %.4g, first at %s", a, b, (unsigned long long)c->different,
                (unsigned long long)c->count, c->max_abs, at);
}

/* ---- histogram --------------------------------------------------------------------------------- */

static void draw_histogram(struct app *app, struct pane p)
{
    const struct stats_result *r = stats_of(app, app->inspect.logical);
    if (p.rows < 4 || p.cols < 16)
        return;
    if (app->inspect.chart == CHART_QUANTILES) {
        draw_quantiles(app, p);
        return;
    }
    pane_printf(p, 0, 0, STYLE_HEAD, "histogram of the whole, %s counts", app->inspect.chart == CHART_LINEAR ? "linear" : "log");
    if (!r || !r->histogram_done) {
        pane_text(p, 1, 0, STYLE_DIM, r && r->done ? "no finite values to count" : r && r->failed ? "" : "reading");
        return;
    }
    int group = p.cols >= SL_HISTOGRAM_BINS ? 1 : p.cols >= SL_HISTOGRAM_BINS / 2 ? 2 : 4, height = p.rows - 2;
    height = height > 12 ? 12 : height;
    uint64_t bins[SL_HISTOGRAM_BINS] = { 0 }, most = 1;
    for (int i = 0; i < SL_HISTOGRAM_BINS; i++) {
        bins[i / group] += r->histogram.bins[i];
        most = bins[i / group] > most ? bins[i / group] : most;
    }
    int columns = SL_HISTOGRAM_BINS / group;
    for (int i = 0; i < columns; i++) {
        double part = app->inspect.chart == CHART_LINEAR ? (double)bins[i] / (double)most : log1p((double)bins[i]) / log1p((double)most);
        int eighths = (int)ceil(part * height * 8);
        for (int row = 0; row < height; row++) {
            int level = eighths - row * 8;
            if (level > 0)
                pane_column(p, height - row, i, STYLE_ACCENT, level);
        }
    }
    char text[32];
    number(r->histogram.lo, text, sizeof text);
    pane_text(p, height + 1, 0, STYLE_DIM, text);
    number(r->histogram.hi, text, sizeof text);
    pane_right(p, height + 1, columns, STYLE_DIM, text);
    snprintf(text, sizeof text, "most %llu", (unsigned long long)most);
    pane_text(p, height + 1, columns / 2 - (int)strlen(text) / 2, STYLE_DIM, text);
}

/* ---- values and slices ------------------------------------------------------------------------------ */

#define VALUE 12                 /* "-0.00040245" and a blank */

static void draw_values(struct app *app, struct pane p, const struct sl_logical *l)
{
    struct inspect_state *s = &app->inspect;
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, l->pieces[s->column]);
    const struct values_result *r = s->shown;
    char place[64], index[96], value[32];
    pane_printf(p, 0, 0, STYLE_HEAD, "values of %s, element %llu of %llu, and their bits", column_name(app, l->pieces[s->column], place, sizeof place),
                (unsigned long long)s->first, (unsigned long long)t->count);
    size_t bytes = t->count ? (size_t)(t->bytes / t->count) : 0;
    int label = p.cols >= 60 ? 15 : 10, hex = bytes <= 8 && p.cols >= 40 ? 1 + 2 * (int)bytes : 0, per_row = (p.cols - label) / (VALUE + hex);
    per_row = per_row < 1 ? 1 : per_row > 8 ? 8 : per_row;
    s->page = (size_t)per_row * (size_t)(p.rows > 2 ? p.rows - 1 : 1);
    s->per_line = (size_t)per_row;
    if (!r || r->tensor != l->pieces[s->column] || r->first != s->first) {
        pane_text(p, 1, 0, STYLE_DIM, t->count ? "reading" : "it has no elements");
        return;
    }
    if (r->failed) {
        pane_wrap(p, 1, 0, STYLE_BAD, r->error.message);
        return;
    }
    size_t size = (size_t)(t->bytes / t->count);
    for (int row = 1; row < p.rows; row++)
        for (int i = 0; i < per_row; i++) {
            size_t at = (size_t)(row - 1) * (size_t)per_row + (size_t)i;
            if (at >= r->count)
                return;
            if (i == 0) {
                const bool here = s->view == VIEW_VALUES && (size_t)(row - 1) == s->line;
                index_text(t, r->first + at, index, sizeof index);
                pane_textw(p, row, 0, label - 1, here ? STYLE_SELECTED : STYLE_TEXT, index);
                if (here)
                    pane_cursor(p, row, 0, false);
            }
            snprintf(value, sizeof value, "%.5g", sl_element(t->dtype, r->bytes + at * size));
            pane_right(p, row, label + (i + 1) * (VALUE + hex) - hex - 1, STYLE_TEXT, value);
            for (size_t k = 0; hex && k < size; k++)           /* the number's digits: highest byte first */
                pane_printf(p, row, label + (i + 1) * (VALUE + hex) - hex + 2 * (int)k, STYLE_TEXT, "%02x", r->bytes[at * size + size - 1 - k]);
        }
}

static void draw_slices(struct app *app, struct pane p, const struct sl_logical *l)
{
    struct inspect_state *s = &app->inspect;
    char place[64], text[256];
    pane_printf(p, 0, 0, STYLE_HEAD, "what %s holds", column_name(app, l->pieces[s->column], place, sizeof place));
    if (!s->slices_known || s->slices_of != l->pieces[s->column]) {
        pane_text(p, 1, 0, STYLE_DIM, "looking");
        return;
    }
    if (!s->slice_count)
        pane_text(p, 1, 0, STYLE_DIM, "the family is not known, or it is no weight of it");
    for (int row = 1; row < p.rows && (size_t)(row - 1 + s->scroll) < s->slice_count; row++) {
        const struct sl_slice_info *slice = &s->slices[row - 1 + s->scroll];
        bool last = row == p.rows - 1 && (size_t)(row + s->scroll) < s->slice_count;
        if (last) {
            pane_printf(p, row, 0, STYLE_DIM, ".. %zu more; j and k scroll", s->slice_count - (size_t)(row - 1 + s->scroll));
            break;
        }
        int width = p.cols * 2 / 5;
        pane_name(p, row, 0, width - 1, STYLE_TEXT, slice->param);
        pane_name(p, row, width, p.cols - width, STYLE_DIM, sl_printable(slice->what, text, sizeof text));
    }
}

/* ---- the screen ---------------------------------------------------------------------------------------- */

static void draw_head(struct app *app, struct pane p, const struct sl_logical *l)
{
    char shape[96], bytes[32], sign[2] = { logical_sign(app, (size_t)app->inspect.logical), '\0' };
    pane_text(p, 0, 0, sign_style(sign[0]), sign);
    pane_name(p, 0, 2, p.cols - 2, STYLE_HEAD, l->name);
    sl_text_shape(l->shape, l->ndim, shape, sizeof shape);
    int col = 2 + pane_printf(p, 1, 2, STYLE_TEXT, "%s %s  %s  ", sl_dtype_label(l->dtype), shape, sl_text_bytes(l->bytes, bytes, sizeof bytes));
    col += pane_printf(p, 1, col, STYLE_TEXT, "%s, %s, %zu piece%s  ", l->kind, l->split_text, l->piece_count, l->piece_count == 1 ? "" : "s");
    if (l->odd)
        pane_name(p, 1, col, p.cols - col, STYLE_WARN, l->odd);
}

/* The piece that the selected one is compared with: the one before it, or the second. */
static size_t other_piece(const struct app *app, const struct sl_logical *l)
{
    size_t column = app->inspect.column;
    return l->piece_count < 2 ? SIZE_MAX : l->pieces[column ? column - 1 : 1];
}

static void draw_view(struct app *app, struct pane p, const struct sl_logical *l)
{
    if (app->inspect.view == VIEW_BLOCKS)
        blocks_draw(app, p, l->pieces[app->inspect.column], other_piece(app, l), app->inspect.scroll);
    else if (app->inspect.view == VIEW_MEANING)
        draw_slices(app, p, l);
    else if (app->inspect.view == VIEW_LAYOUT)
        detective_draw(app, p, l, app->inspect.scroll);
    else
        draw_values(app, p, l);
}

/* One line on what is under way or was found: errors and progress first. */
static void draw_state(struct app *app, struct pane p, int row, const struct sl_logical *l, bool profile_line)
{
    const struct stats_result *r = stats_of(app, app->inspect.logical);
    if (app->inspect.compared.known || app->inspect.comparing)
        draw_comparison(app, p, row);
    else if (r && r->done && l->split == SL_COPY)
        draw_copies(app, p, row, l);
    else if (!profile_line || !r || !r->done || !draw_profile(app, p, row))
        draw_progress(app, p, row);
}

static const char *const view_names[VIEWS] = {
    [VIEW_BLOCKS] = "blocks", [VIEW_MEANING] = "meaning", [VIEW_VALUES] = "values", [VIEW_LAYOUT] = "layout",
};

static void draw_wide(struct app *app, struct pane p, const struct sl_logical *l)
{
    struct pane top = pane_take(&p, p.rows >= 30 ? 16 : 14);
    int left = p.cols - 72 > 66 ? p.cols - 72 : p.cols - 70;
    struct pane box = pane_box(pane_part(top, 0, 0, top.rows, left), "statistics (sums in double)");
    draw_statistics(app, box, l);
    draw_profile(app, box, STAT_ROWS + 2);
    draw_state(app, box, STAT_ROWS + 3, l, false);
    draw_histogram(app, pane_box(pane_part(top, 0, left, top.rows, top.cols - left), "distribution"));
    draw_view(app, pane_box(pane_part(p, 0, 0, p.rows, left), view_names[app->inspect.view]), l);
    struct pane right = pane_part(p, 0, left, p.rows, p.cols - left);
    int around = p.rows >= 20 ? 13 : p.rows >= 14 ? p.rows / 2 : 0;
    struct pane above = pane_take(&right, p.rows - around);
    if (app->inspect.view == VIEW_VALUES)
        blocks_draw(app, pane_box(above, "blocks"), l->pieces[app->inspect.column], other_piece(app, l), 0);
    else
        draw_values(app, pane_box(above, "values"), l);
    if (around)
        draw_neighbours(app, pane_box(right, "neighbours"), l, false);
}

static void draw_middle(struct app *app, struct pane p, const struct sl_logical *l)
{
    if (app->inspect.view == VIEW_VALUES || app->inspect.view == VIEW_LAYOUT) {      /* these need all the room */
        draw_view(app, p, l);
        return;
    }
    int left = p.cols >= 70 ? 9 + COLUMN * 3 + 1 : p.cols;
    struct pane top = pane_take(&p, STAT_ROWS + 2);
    draw_statistics(app, pane_part(top, 0, 0, top.rows, left), l);
    if (left < p.cols)
        draw_histogram(app, pane_part(top, 0, left + 1, top.rows, top.cols - left - 1));
    bool both = p.rows > 7;
    if (p.rows > 1)
        draw_state(app, pane_take(&p, 1), 0, l, !both);
    if (both && draw_profile(app, p, 0))
        pane_take(&p, 1);
    if (p.rows > 1)
        draw_view(app, p, l);
}

static void draw(struct app *app, struct pane p)
{
    const struct sl_logical *l = shown(app);
    if (!l) {
        pane_text(p, p.rows > 2 ? 1 : 0, 1, STYLE_DIM, app->opened ? "no tensor is chosen: press 2, move to one, Enter" : "nothing is open");
        return;
    }
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    draw_head(app, pane_take(&p, 2), l);
    if (!l->piece_count)
        pane_text(p, 1, 0, STYLE_BAD, "no rank that could be read holds a piece of it");
    else if (p.cols >= 138 && p.rows >= 24)
        draw_wide(app, p, l);
    else {
        if (p.rows > 14 && l->layer >= 0 && app->inspect.view != VIEW_VALUES)
            draw_neighbours(app, pane_part(pane_take(&p, 1), 0, 2, 1, p.cols - 2), l, true);
        else if (p.rows > 14)
            pane_take(&p, 1);
        draw_middle(app, p, l);
    }
}

/* The cursor goes through the page line by line; past its edge half a page follows. */
static void move_in_values(struct inspect_state *s, uint64_t count, int step)
{
    const uint64_t line = s->per_line ? s->per_line : 1, lines = s->page > line ? s->page / line : 1, half = lines / 2 + 1;
    if (step > 0 && s->first + (s->line + 1) * line < count) {
        s->line++;
        if (s->line >= lines) {
            s->first += half * line;
            s->line -= half;
        }
    } else if (step < 0 && s->line) {
        s->line--;
    } else if (step < 0 && s->first) {
        const uint64_t up = half * line < s->first ? half * line : s->first;
        s->first -= up;
        s->line = up / line ? up / line - 1 : 0;
    }
}

/* A page of values on or back; the cursor stays where it is on the page. */
static void page_of_values(struct inspect_state *s, uint64_t count, int step)
{
    const uint64_t page = s->page ? s->page : 1, line = s->per_line ? s->per_line : 1;
    if (step > 0 && s->first + page < count)
        s->first += page;
    else if (step < 0)
        s->first -= page < s->first ? page : s->first;
    if (s->first + s->line * line >= count)
        s->line = count > s->first ? (count - s->first - 1) / line : 0;
}

static void move(struct app *app, int rows, int cols, bool page)
{
    struct inspect_state *s = &app->inspect;
    const struct sl_logical *l = shown(app);
    if (!l || !l->piece_count)
        return;
    if (cols) {
        if (cols > 0 ? s->column + 1 < l->piece_count : s->column > 0)
            s->column = cols > 0 ? s->column + 1 : s->column - 1;
        s->first = s->line = 0;
        s->scroll = 0;
    } else if (page || s->view == VIEW_VALUES) {
        const uint64_t count = sl_tensor_at(app->opened->ck, l->pieces[s->column])->count;
        page ? page_of_values(s, count, rows) : move_in_values(s, count, rows);
    } else {
        const struct blocks_result *b = blocks_of(app, l->pieces[s->column]);
        int next = s->scroll + rows, most = s->view == VIEW_BLOCKS ? (b ? (int)b->rows - 1 : 0) : s->view == VIEW_LAYOUT ? app->detective.below : (int)s->slice_count - 1;
        s->scroll = next < 0 || most < 1 ? 0 : next > most ? most : next;
    }
    inspect_want(app);
}

static void end(struct app *app, bool last)
{
    const struct sl_logical *l = shown(app);
    if (!l || !l->piece_count)
        return;
    app->inspect.column = last ? l->piece_count - 1 : 0;
    app->inspect.first = app->inspect.line = 0;
    inspect_want(app);
}

static void tab(struct app *app, int step)
{
    app->inspect.view = (enum inspect_view)(((int)app->inspect.view + step + VIEWS) % VIEWS);
    app->inspect.scroll = 0;
    inspect_want(app);
}

static void enter(struct app *app) { act_map_tensor(app); }

static bool back(struct app *app)
{
    if (app->inspect.view != VIEW_BLOCKS) {
        app->inspect.view = VIEW_BLOCKS;
        return true;
    }
    app_go(app, SCREEN_TENSORS);
    return true;
}

void act_values(struct app *app)
{
    if (!shown(app)) {
        app_say(app, STYLE_DIM, "no tensor is chosen: press 2, move to one, Enter");
        return;
    }
    app->inspect.view = app->inspect.view == VIEW_VALUES ? VIEW_BLOCKS : VIEW_VALUES;
    app->inspect.scroll = 0;
    inspect_want(app);
}

void act_layout(struct app *app)
{
    if (!shown(app)) {
        act_values(app);                 /* says what to do first */
        return;
    }
    app->inspect.view = app->inspect.view == VIEW_LAYOUT ? VIEW_BLOCKS : VIEW_LAYOUT;
    app->inspect.scroll = 0;
    inspect_want(app);
}

void act_scale(struct app *app)
{
    static const char *const words[CHARTS] = { "histogram with logarithmic counts", "histogram with linear counts", "quantiles of the selected piece" };
    app->inspect.chart = (app->inspect.chart + 1) % CHARTS;
    app_say(app, STYLE_TEXT, "%s", words[app->inspect.chart]);
}

void act_measure(struct app *app)
{
    static const char *const words[MEASURES] = { "rms by block", "largest absolute value by block", "part of zeros by block", "difference of rms to the other piece" };
    if (!shown(app)) {
        act_values(app);                 /* says what to do first */
        return;
    }
    app->blocks.measure = (app->blocks.measure + 1) % MEASURES;
    app->inspect.view = VIEW_BLOCKS;
    app_say(app, STYLE_TEXT, "%s", words[app->blocks.measure]);
    inspect_want(app);
}

void act_compare(struct app *app)
{
    const struct sl_logical *l = shown(app);
    if (!l) {
        act_values(app);
        return;
    }
    size_t other = l->piece_count ? other_piece(app, l) : SIZE_MAX;
    if (other == SIZE_MAX)
        app_say(app, STYLE_DIM, "it is stored once: there is no other piece to compare with");
    else
        inspect_compare(app, other, l->pieces[app->inspect.column]);
}

/* The tensor of the same name in another layer. */
static void step_layer(struct app *app, int step)
{
    const struct sl_logical *l = shown(app);
    if (!l) {
        act_values(app);
        return;
    }
    if (l->layer < 0) {
        app_say(app, STYLE_DIM, "this tensor belongs to no layer");
        return;
    }
    ptrdiff_t found = in_layer(app, l, step);
    if (found < 0) {
        app_say(app, STYLE_DIM, "layer %d has no such tensor", l->layer + step);
        return;
    }
    size_t column = app->inspect.column;
    inspect_show(app, found);
    app->inspect.column = column;
    inspect_want(app);
}
void act_layer_down(struct app *app) { step_layer(app, -1); }
void act_layer_up(struct app *app) { step_layer(app, 1); }

static void command(const struct app *app, struct sl_buf *out)
{
    const struct sl_logical *l = shown(app);
    char name[512];
    sl_buf_str(out, l ? "show " : "ls ");
    shell_word(out, app->options->path);
    if (l) {
        sl_buf_char(out, ' ');
        shell_word(out, sl_printable(l->name, name, sizeof name));
    }
}

static const char *crumb(const struct app *app, char *out, size_t room)
{
    const struct sl_logical *l = shown(app);
    snprintf(out, room, "%s", l ? l->name : "inspect");
    return out;
}

/* Without a tensor of its own the screen takes the one under the cursor of the tree, or the first below it. */
static void opened(struct app *app)
{
    if (app->opened && app->inspect.logical < 0)
        app->inspect.logical = tensors_under_cursor(app);
    inspect_want(app);
}

const struct screen_ops inspect_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .space = act_values, .tab = tab, .back = back,
                                        .command = command, .crumb = crumb, .opened = opened };
