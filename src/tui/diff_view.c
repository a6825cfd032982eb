/* diff_view.c: two checkpoints side by side as a screen: weights worst first, a map by
 * layer and kind, settings that differ. */
#include "tui/diff.h"
#include "base/value.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the verdict ------------------------------------------------------------------- */

static int draw_counts(struct app *app, struct pane p)
{
    const struct diff_counts n = diff_counts(app);
    const bool done = app->diff.state == DIFF_DONE, same = !n.different && !n.only_a && !n.only_b && !n.shape;
    const char sign = !same ? '!' : done ? '=' : '.';
    int col = pane_printf(p, 0, 0, sign_style(sign), "%c %s", sign, same ? (done ? "EQUAL, bit for bit" : "equal so far") : "DIFFERENT");
    col += pane_printf(p, 0, col, STYLE_TEXT, "  %zu equal, %zu different", n.equal, n.different);
    if (n.shape)
        col += pane_printf(p, 0, col, STYLE_BAD, ", %zu of other shape", n.shape);
    if (n.only_a || n.only_b)
        col += pane_printf(p, 0, col, STYLE_BAD, ", %zu only in A, %zu only in B", n.only_a, n.only_b);
    if (n.pending)
        pane_printf(p, 0, col, STYLE_DIM, ", %zu not compared", n.pending);
    return 1;
}

static void draw_pair(struct app *app, struct pane p)
{
    const int half = (p.cols - 5) / 2;
    pane_text(p, 0, 0, STYLE_HEAD, "A ");
    pane_name(p, 0, 2, half - 2, STYLE_TEXT, app->options->path);
    pane_text(p, 0, half + 2, STYLE_HEAD, "B ");
    pane_name(p, 0, half + 4, p.cols - half - 4, STYLE_TEXT, app->diff.path);
}

static void draw_going(struct app *app, struct pane p)
{
    const struct sl_progress *g = &app->diff.progress;
    char percent[8], rate[40], waits[48];
    if (app->diff.state != DIFF_GOING) {
        pane_text(p, 0, 0, STYLE_DIM, "opening the other checkpoint: its headers are being read");
        return;
    }
    const double part = g->bytes_total ? (double)g->bytes_done / (double)g->bytes_total : 0;
    snprintf(percent, sizeof percent, "%d%%", (int)(part * 100));
    rate_text(g->seconds > 0 ? (double)g->read_bytes / g->seconds : 0, rate, sizeof rate);
    snprintf(waits, sizeof waits, "%s", g->paused ? "PAUSED" : rate);
    pane_bar(p, 0, 0, p.cols - 24, STYLE_ACCENT, part);
    pane_right(p, 0, p.cols - 18, STYLE_TEXT, percent);
    pane_right(p, 0, p.cols, STYLE_DIM, waits);
}

/* ---- weights ------------------------------------------------------------------------- */

struct columns { int name, shape, relative, max, mean, cosine, count; };     /* 0: not shown */
static struct columns columns_of(int cols)
{
    struct columns c = { 0 };
    int left = cols;
    if (cols >= 50)
        left = c.count = cols - 10;
    if (cols >= 72)
        left = c.cosine = left - 10;
    if (cols >= 100)
        left = c.mean = left - 11;
    if (cols >= 62)
        left = c.max = left - 11;
    left = c.relative = left - 11;
    if (cols >= 120)
        left = c.shape = left - 18;
    c.name = left - 1;
    return c;
}

static void draw_number(struct pane p, int row, int col, const char *format, double v)
{
    char text[40];
    if (!col)
        return;
    snprintf(text, sizeof text, format, v);
    pane_right(p, row, col + 10, STYLE_TEXT, text);
}

static void draw_row(struct pane p, int row, const struct sl_result *r, bool here)
{
    const struct columns c = columns_of(p.cols);
    const char sign = diff_sign(r);
    char text[160];
    if (here) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    pane_text(p, row, 2, sign_style(sign), (char[]){ sign, '\0' });
    pane_name(p, row, 4, c.name - 4, here ? STYLE_SELECTED : STYLE_TEXT, r->name);
    if (c.shape)
        pane_textw(p, row, c.shape, 17, STYLE_TEXT, sl_text_shape(r->shape, r->ndim, text, sizeof text));
    if (r->status != SL_RESULT_EQUAL && r->status != SL_RESULT_DIFFERENT) {
        pane_right(p, row, p.cols, STYLE_BAD, sl_result_status_name(r->status));
        return;
    }
    draw_number(p, row, c.relative, "%.4g", r->relative);
    draw_number(p, row, c.max, "%.4g", r->max_abs);
    draw_number(p, row, c.mean, "%.4g", r->mean_abs);
    draw_number(p, row, c.cosine ? c.cosine - 1 : 0, "%.6f", r->cosine);
    if (c.count)
        pane_right(p, row, p.cols, STYLE_TEXT, sl_text_count(r->different, text, sizeof text));
}

static void draw_heads(struct pane p, const char *title)
{
    const struct columns c = columns_of(p.cols);
    const struct { int col; const char *word; } heads[] = {
        { c.relative, "relative" }, { c.max, "max |d|" }, { c.mean, "mean |d|" }, { c.cosine ? c.cosine - 1 : 0, "cosine" }, { c.count, "differ" },
    };
    pane_textw(p, 0, 4, c.name - 4, STYLE_HEAD, title);
    if (c.shape)
        pane_text(p, 0, c.shape, STYLE_HEAD, "shape");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (heads[i].col)
            pane_right(p, 0, heads[i].col + 10, STYLE_HEAD, heads[i].word);
}

/* "[3,17]": the place of an element in a shape. */
static const char *index_text(uint64_t element, const int64_t *shape, uint32_t ndim, char *out, size_t room)
{
    int64_t at[8] = { 0 };
    size_t used = 0;
    snprintf(out, room, ndim ? "element %llu" : "[]", (unsigned long long)element);
    if (!ndim || ndim > 8)
        return out;
    for (uint32_t a = ndim; a-- > 0; element /= shape[a] > 0 ? (uint64_t)shape[a] : 1)
        at[a] = shape[a] > 0 ? (int64_t)(element % (uint64_t)shape[a]) : 0;
    for (uint32_t a = 0; a < ndim && used < room; a++)
        used += (size_t)snprintf(out + used, room - used, "%s%lld%s", a ? "," : "[", (long long)at[a], a + 1 == ndim ? "]" : "");
    return out;
}

/* The selected weight: where it differs first, on both sides. */
#define CARD_ROWS 5
static void draw_selected(struct app *app, struct pane p)
{
    const struct sl_result *r = app->diff.list.selected < app->diff.order_count ? diff_row(app, app->diff.list.selected) : NULL;
    char shape[160], place[64];
    if (!r)
        return;
    pane_rule(p, 0);
    int col = pane_name(p, 1, 0, p.cols > 60 ? p.cols - 40 : p.cols, STYLE_HEAD, r->name);
    pane_printf(p, 1, col + 2, STYLE_TEXT, "%s %s  %s", sl_dtype_label(r->dtype), sl_text_shape(r->shape, r->ndim, shape, sizeof shape),
                sl_result_status_name(r->status));
    if (r->status != SL_RESULT_DIFFERENT) {
        pane_text(p, 2, 0, STYLE_DIM, r->status == SL_RESULT_EQUAL ? "every element has the same value, bit for bit where the dtypes are the same"
                  : r->status == SL_RESULT_SHAPE ? "the two have other shapes and were not compared" : "the other checkpoint holds no such weight");
        return;
    }
    pane_printf(p, 2, 0, STYLE_TEXT, "%llu of %llu differ  max %.3g  mean %.3g  relative %.3g  cosine %.6f", (unsigned long long)r->different,
                (unsigned long long)r->stats.count, r->max_abs, r->mean_abs, r->relative, r->cosine);
    const struct { const char *side, *file; uint64_t offset; } sides[] = { { "A", r->a_file, r->a_offset }, { "B", r->b_file, r->b_offset } };
    index_text(r->first_different, r->shape, r->ndim, place, sizeof place);
    const int index_cols = (int)strlen(place) + 2;
    for (int i = 0; i < 2 && r->first_different != UINT64_MAX; i++) {
        snprintf(place, sizeof place, "first in %s  byte %llu of ", sides[i].side, (unsigned long long)sides[i].offset);
        col = pane_text(p, 3 + i, 0, STYLE_DIM, place);
        pane_name(p, 3 + i, col, p.cols - col - index_cols, STYLE_TEXT, sides[i].file ? sides[i].file : "?");
        if (i == 0)
            pane_right(p, 3, p.cols, STYLE_DIM, index_text(r->first_different, r->shape, r->ndim, place, sizeof place));
    }
}

static void draw_weights(struct app *app, struct pane p)
{
    struct diff_state *d = &app->diff;
    const int card = p.rows >= 12 ? CARD_ROWS : 0;
    struct pane below = pane_part(p, p.rows - card, 0, card, p.cols);
    char title[96];
    p.rows -= card;
    snprintf(title, sizeof title, "%s, %s", d->all ? "all" : "not equal", diff_orders()[d->by]);
    if (p.rows > 2)
        draw_heads(pane_take(&p, 1), title);
    list_show(&d->list, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && d->list.top + (size_t)row < d->order_count; row++) {
        const size_t i = d->list.top + (size_t)row;
        draw_row(p, row, diff_row(app, i), i == d->list.selected);
    }
    if (!d->order_count)
        pane_text(p, 0, 4, STYLE_DIM, d->state == DIFF_DONE ? "none; a lists all weights" : "none so far; a lists all weights");
    if (card)
        draw_selected(app, below);
}

/* ---- by layer and kind -------------------------------------------------------------------- */

#define MOST_KINDS_SHOWN 64
#define MOST_LAYERS 1024
struct layer_map {
    char kind[MOST_KINDS_SHOWN][96];
    size_t kinds;
    int layers;
    signed char worst[MOST_KINDS_SHOWN][MOST_LAYERS];   /* index into scale, -1: nothing there */
};
static const char scale[] = ".:-=+*#%!";
static const double steps[] = { 0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3 };

static signed char level_of(const struct sl_result *r)
{
    signed char level = 0;
    if (r->status == SL_RESULT_PENDING)
        return -1;
    if (r->status != SL_RESULT_EQUAL && r->status != SL_RESULT_DIFFERENT)
        return (signed char)(sizeof scale - 2);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (r->relative > steps[i] || (i == 0 && r->different))
            level = (signed char)(i + 1);
    return level;
}

/* "layers.7.moe.experts.3.up" is layer 7 of "moe.experts.*.up". False: of no layer. */
static bool place_of(const char *name, int *layer, char *kind, size_t room)
{
    int used = 0;
    size_t n = 0;
    if (sscanf(name, "layers.%d.%n", layer, &used) != 1 || !used || *layer < 0 || *layer >= MOST_LAYERS)
        return false;
    for (const char *s = name + used; *s && n + 1 < room; s++) {
        const bool digit = *s >= '0' && *s <= '9', after_dot = s == name + used || s[-1] == '.';
        if (digit && (after_dot || (n && kind[n - 1] == '*'))) {
            if (after_dot)
                kind[n++] = '*';
        } else {
            kind[n++] = *s;
        }
    }
    kind[n] = '\0';
    return true;
}

static void map_fill(const struct app *app, struct layer_map *m)
{
    m->kinds = 0;
    m->layers = 0;
    memset(m->worst, -1, sizeof m->worst);
    for (size_t i = 0; i < sl_result_count(app->diff.job); i++) {
        const struct sl_result *r = sl_result_at(app->diff.job, i);
        char kind[96];
        int layer = 0;
        size_t k = 0;
        if (!place_of(r->name, &layer, kind, sizeof kind)) {
            snprintf(kind, sizeof kind, "%.90s", r->name);
            layer = 0;
        }
        while (k < m->kinds && strcmp(m->kind[k], kind))
            k++;
        if (k == MOST_KINDS_SHOWN)
            continue;
        if (k == m->kinds)
            snprintf(m->kind[m->kinds++], sizeof m->kind[0], "%s", kind);
        const signed char level = level_of(r);
        m->worst[k][layer] = level > m->worst[k][layer] ? level : m->worst[k][layer];
        m->layers = layer >= m->layers ? layer + 1 : m->layers;
    }
}

static void draw_layers(struct app *app, struct pane p)
{
    struct layer_map *m = malloc(sizeof *m);
    struct list *l = &app->diff.layers;
    const int name = p.cols >= 100 ? 40 : p.cols / 3;
    if (!m)
        return;
    map_fill(app, m);
    pane_text(pane_take(&p, 1), 0, 0, STYLE_HEAD, "worst relative difference by layer");
    pane_text(pane_take(&p, 1), 0, 0, STYLE_DIM, ". equal  : <1e-5  - <1e-4  = <1e-3  + <0.01  * <0.1  # <0.3  % more  ! missing");
    const int room = p.cols - name - 1, each = m->layers > room && room > 0 ? (m->layers + room - 1) / room : 1;
    struct pane head = pane_take(&p, 1);
    for (int col = 0; col * each < m->layers; col += 10)
        pane_printf(head, 0, name + 1 + col, STYLE_DIM, "%d", col * each);
    list_count(l, m->kinds);
    list_show(l, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && l->top + (size_t)row < m->kinds; row++) {
        const size_t k = l->top + (size_t)row;
        pane_name(p, row, 0, name, k == l->selected ? STYLE_SELECTED : STYLE_TEXT, m->kind[k]);
        if (k == l->selected)
            pane_cursor(p, row, 0, false);
        for (int col = 0; col * each < m->layers; col++) {
            signed char level = -1;
            for (int i = col * each; i < (col + 1) * each && i < m->layers; i++)
                level = m->worst[k][i] > level ? m->worst[k][i] : level;
            if (level >= 0)
                pane_text(p, row, name + 1 + col, level == 0 ? STYLE_DIM : level >= 5 ? STYLE_BAD : STYLE_WARN, (char[]){ scale[(int)level], '\0' });
        }
    }
    free(m);
}

/* ---- settings ------------------------------------------------------------------------------- */

#define MOST_SETTINGS 256
static void draw_settings(struct app *app, struct pane p)
{
    static struct sl_config_difference rows[MOST_SETTINGS];
    const struct diff_state *d = &app->diff;
    const size_t all = sl_config_differences(d->a ? d->a : d->opened->ck, d->b, rows, MOST_SETTINGS), count = all < MOST_SETTINGS ? all : MOST_SETTINGS;
    struct list *l = &app->diff.config;
    const int third = p.cols / 3;
    struct sl_buf text = { 0 };
    struct pane head = pane_take(&p, 1);
    pane_text(head, 0, 0, STYLE_HEAD, "settings that differ");
    pane_text(head, 0, third, STYLE_HEAD, "A");
    pane_text(head, 0, 2 * third, STYLE_HEAD, "B");
    list_count(l, count);
    list_show(l, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && l->top + (size_t)row < count; row++) {
        const size_t i = l->top + (size_t)row;
        const struct sl_value *sides[] = { rows[i].a, rows[i].b };
        pane_name(p, row, 0, third - 1, i == l->selected ? STYLE_SELECTED : STYLE_TEXT, rows[i].key);
        for (int s = 0; s < 2; s++) {
            sl_buf_clear(&text);
            sl_value_print(sides[s], 200, &text);
            pane_name(p, row, (s + 1) * third, third - 1, STYLE_TEXT, text.data ? text.data : "");
        }
    }
    if (!count)
        pane_text(p, 0, 0, STYLE_DIM, "none: what both tell, they tell alike");
    sl_buf_free(&text);
}

/* ---- the screen ------------------------------------------------------------------------------- */

static void draw_views(struct app *app, struct pane p)
{
    static const char *const names[DIFF_VIEWS] = { "weights", "by layer", "settings" };
    const struct diff_state *d = &app->diff;
    const size_t settings = sl_config_differences(d->a ? d->a : d->opened->ck, d->b, NULL, 0);
    int col = 0;
    for (int v = 0; v < DIFF_VIEWS; v++) {
        col += pane_text(p, 0, col, v == (int)d->view ? STYLE_SELECTED : STYLE_DIM, names[v]);
        if (v == DIFF_CONFIG)
            col += pane_printf(p, 0, col, settings ? STYLE_WARN : STYLE_DIM, " %zu", settings);
        col += 2;
    }
    pane_right(p, 0, p.cols, STYLE_DIM, "Tab");
}

void diff_draw(struct app *app, struct pane p)
{
    static void (*const views[DIFF_VIEWS])(struct app *, struct pane) = { draw_weights, draw_layers, draw_settings };
    const struct diff_state *d = &app->diff;
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    if (d->state == DIFF_NONE) {
        pane_wrap(p, p.rows > 2 ? 1 : 0, 0, STYLE_DIM, "another checkpoint beside this one, in whatever layout: Enter chooses it. Each weight is then read on both sides "
                  "and measured: largest and mean difference, relative error, cosine, the first element that differs and where it lies.");
        return;
    }
    if (p.rows > 4)
        draw_pair(app, pane_take(&p, 1));
    if (d->state == DIFF_FAILED) {
        char text[sizeof d->error.where + sizeof d->error.message + 8];
        snprintf(text, sizeof text, "! %s%s%s", d->error.where, *d->error.where ? ": " : "", d->error.message);
        pane_take(&p, pane_wrap(pane_part(p, 0, 0, 3, p.cols), 0, 0, STYLE_BAD, text));
    }
    if (diff_going(app))
        draw_going(app, pane_take(&p, 1));
    if (!d->job)
        return;
    draw_counts(app, pane_take(&p, 1));
    if (p.rows > 6)
        draw_views(app, pane_take(&p, 1));
    views[d->view](app, p);
}
