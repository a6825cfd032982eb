/* grid.c: TP x PP x EP x VPP as cells with a sign. Which of the four are rows
 * and columns and which are folded into a cell is a row of a table; a cell that
 * stands for several ranks shows the worst of them. A virtual chunk is a part
 * of a rank: where chunks are folded, a cell is the rank. */
#include "tui/grid.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dim { TP, EP, PP, VP, DIMS, NONE = -1 };
static const char *const dim_names[DIMS] = { "tp", "ep", "pp", "v" };

/* A dimension that is named nowhere in a row is folded. Chunk by chunk and stage by stage, layers stand in order. */
struct way { int8_t row_outer, row, outer, inner; };
static const struct way ways[] = {
    { NONE, PP, EP, TP },   { VP, PP, EP, TP },    { VP, PP, NONE, TP },   { VP, PP, NONE, EP },   { NONE, PP, NONE, VP },
    { NONE, PP, NONE, TP }, { NONE, PP, NONE, EP }, { NONE, EP, NONE, TP }, { NONE, TP, NONE, PP }, { NONE, EP, PP, TP }, { NONE, TP, PP, EP },
};
#define WAYS (sizeof ways / sizeof ways[0])

/* Widths of the label before the cells, without and with a chunk in it, and of a cell with its blank. */
#define LABEL 15
#define LABEL_CHUNK 18
#define CELL 2

struct grid {
    size_t size[DIMS];                   /* of VP: 1 where chunks are folded */
    int row_outer, row, outer, inner;    /* enum dim */
    int label;
    size_t rows, cols;                   /* without folding */
    size_t fold_rows, fold_cols;         /* so many of them in a cell */
    size_t seen_rows, seen_cols;
};

static size_t at_least_1(int32_t n) { return n > 0 ? (size_t)n : 1; }

static void sizes_of(const struct app *app, size_t size[DIMS])
{
    const struct sl_checkpoint_info *info = app->opened->info;
    size[TP] = at_least_1(info->parallel.tp);
    size[EP] = at_least_1(info->parallel.ep);
    if (size[TP] * size[EP] > info->rank_count) {
        size[TP] = info->rank_count ? info->rank_count : 1;
        size[EP] = 1;
    }
    size[PP] = (info->rank_count + size[TP] * size[EP] - 1) / (size[TP] * size[EP]);
    size[VP] = app->opened->chunks.vpp > 1 ? app->opened->chunks.vpp : 1;
}

static bool names(const struct way *w, int dim) { return w->row_outer == dim || w->row == dim || w->outer == dim || w->inner == dim; }
static size_t cells_of(const size_t size[DIMS]) { return size[TP] * size[EP] * size[PP] * size[VP]; }

static size_t size_of(const struct grid *g, int dim) { return dim == NONE ? 1 : g->size[dim]; }

/* Ranks stand with tp fastest, then ep, then pp. */
static size_t rank_at(const struct grid *g, const size_t at[DIMS])
{
    return (at[PP] * g->size[EP] + at[EP]) * g->size[TP] + at[TP];
}

static void coordinates(const struct grid *g, size_t rank, size_t at[DIMS])
{
    at[TP] = rank % g->size[TP];
    at[EP] = rank / g->size[TP] % g->size[EP];
    at[PP] = rank / g->size[TP] / g->size[EP];
}

/* Does it show something that the first way does not? */
static bool way_differs(const size_t size[DIMS], size_t way)
{
    const int named[4] = { ways[way].row_outer, ways[way].row, ways[way].outer, ways[way].inner };
    size_t cells = 1;
    for (int i = 0; i < 4; i++) {
        const bool lone = i == 3 && ways[way].row_outer == VP && ways[way].outer == NONE;      /* a column of chunks */
        if (named[i] != NONE && size[named[i]] < 2 && !(lone && named[i] == TP))
            return false;
        cells *= named[i] == NONE ? 1 : size[named[i]];
    }
    return ways[way].row != PP || names(&ways[way], VP) || cells < size[TP] * size[EP] * size[PP];
}

static size_t columns_that_fit(const struct grid *g, int cols)
{
    int room = cols - g->label;
    size_t inner = size_of(g, g->inner);
    if (room < CELL)
        return 1;
    if (size_of(g, g->outer) > 1 && inner > 1)                /* a blank between groups */
        return (size_t)room * inner / (inner * CELL + 1) ? (size_t)room * inner / (inner * CELL + 1) : 1;
    return (size_t)(room / CELL);
}

/* The smallest number from `least` to twice that which divides a count: then all cells hold as many. */
static size_t even(size_t count, size_t least)
{
    for (size_t n = least; n < 2 * least && n <= count; n++)
        if (count % n == 0)
            return n;
    return least < count ? least : count;
}

/* How many of outer x inner go into one cell, so that `fit` cells are enough: parts of a group, or whole ones. */
static size_t fold_of(size_t outer, size_t inner, size_t fit)
{
    const size_t least = (outer * inner + fit - 1) / fit;
    if (least > inner)
        return inner * even(outer, (least + inner - 1) / inner);
    const size_t part = even(inner, least);
    return outer > 1 && inner % part ? inner : part;
}

static struct grid grid_as(const struct app *app, size_t way, int room_rows, int room_cols)
{
    struct grid g = { .row_outer = ways[way].row_outer, .row = ways[way].row, .outer = ways[way].outer, .inner = ways[way].inner };
    sizes_of(app, g.size);
    g.size[VP] = names(&ways[way], VP) ? g.size[VP] : 1;
    g.label = g.row_outer == VP ? LABEL_CHUNK : LABEL;
    g.rows = size_of(&g, g.row_outer) * size_of(&g, g.row);
    g.cols = size_of(&g, g.outer) * size_of(&g, g.inner);
    bool whole = g.rows * g.cols == cells_of(g.size);
    size_t fit_cols = columns_that_fit(&g, room_cols);
    whole &= fit_cols >= g.cols;
    /* heads in one line or two; a line below says what a folded cell holds */
    int lines = !whole ? 3 : size_of(&g, g.outer) > 1 ? 2 : 1;
    if (whole && room_rows - lines < (int)g.rows)
        lines = 3;
    size_t fit_rows = room_rows > lines ? (size_t)(room_rows - lines) : 1;
    g.fold_rows = fold_of(size_of(&g, g.row_outer), size_of(&g, g.row), fit_rows);
    g.fold_cols = fold_of(size_of(&g, g.outer), size_of(&g, g.inner), fit_cols);
    g.seen_rows = (g.rows + g.fold_rows - 1) / g.fold_rows;
    g.seen_cols = (g.cols + g.fold_cols - 1) / g.fold_cols;
    return g;
}

static size_t folding(const struct grid *g) { return g->fold_rows * g->fold_cols * (cells_of(g->size) / (g->rows * g->cols)); }

/* The chosen way; or the chunks one by one where all have room; or the way that has to fold least. */
static struct grid grid_of(const struct app *app, int rows, int cols)
{
    const struct overview_state *o = &app->overview;
    if (o->way)
        return grid_as(app, o->way - 1, rows, cols);
    struct grid best = grid_as(app, 0, rows, cols);
    for (size_t w = 1; w < WAYS; w++) {
        struct grid g = grid_as(app, w, rows, cols);
        size_t all[DIMS];
        sizes_of(app, all);
        if (!way_differs(all, w))
            continue;
        if (names(&ways[w], VP) && folding(&g) == 1)
            return g;
        if (!names(&ways[w], VP) && g.fold_rows * g.fold_cols < best.fold_rows * best.fold_cols)
            best = g;
    }
    return best;
}

/* ---- the ranks of a cell ----------------------------------------------------------- */

struct walk { const struct grid *g; size_t y, x, row, col, fold, chunk; };

static void cell_first(const struct grid *g, size_t y, size_t x, struct walk *w)
{
    *w = (struct walk){ .g = g, .y = y, .x = x, .row = y * g->fold_rows, .col = x * g->fold_cols };
}

/* The next rank of the cell, SIZE_MAX after the last; w->chunk is which part of it. */
static size_t cell_next(struct walk *w, size_t rank_count)
{
    const struct grid *g = w->g;
    size_t folded = cells_of(g->size) / (g->rows * g->cols);
    for (;;) {
        if (w->fold == folded) {
            w->fold = 0;
            if (++w->col == (w->x + 1) * g->fold_cols || w->col >= g->cols) {
                w->col = w->x * g->fold_cols;
                w->row++;
            }
        }
        if (w->row >= (w->y + 1) * g->fold_rows || w->row >= g->rows)
            return SIZE_MAX;
        size_t at[DIMS] = { 0 }, left = w->fold++, inner = size_of(g, g->inner);
        at[g->row] = w->row % size_of(g, g->row);
        if (g->row_outer != NONE)
            at[g->row_outer] = w->row / size_of(g, g->row);
        at[g->inner] = w->col % inner;
        if (g->outer != NONE)
            at[g->outer] = w->col / inner;
        for (int d = 0; d < DIMS; d++)
            if (d != g->row && d != g->row_outer && d != g->inner && d != g->outer) {
                at[d] = left % g->size[d];
                left /= g->size[d];
            }
        size_t rank = rank_at(g, at);
        w->chunk = at[VP];
        if (rank < rank_count)
            return rank;
    }
}

static const char sign_order[] = "=o~-!";
struct cell_about { size_t count, worst, chunk, tally[sizeof sign_order]; char sign; };

/* Of a rank, or of the chunk of it where the grid tells chunks apart: one that is not in a readable file is missing. */
static char part_sign(const struct app *app, const struct grid *g, size_t rank, size_t chunk)
{
    const struct chunk_map *m = &app->opened->chunks;
    const struct sl_rank *r = &app->opened->info->ranks[rank];
    bool readable = r->status == SL_RANK_OK || r->status == SL_RANK_ODD;
    if (g->size[VP] > 1 && readable && chunk < m->vpp && !m->held[rank * m->vpp + chunk])
        return '-';
    return rank_sign(app, r);
}

static struct cell_about cell_about(const struct app *app, const struct grid *g, size_t y, size_t x)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    struct cell_about c = { .sign = ' ', .worst = SIZE_MAX };
    const char *found = NULL;
    struct walk w;
    cell_first(g, y, x, &w);
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; c.count++) {
        const char *at = strchr(sign_order, part_sign(app, g, rank, w.chunk));
        if (!at)
            continue;
        c.tally[at - sign_order]++;
        if (!found || at > found) {
            found = at;
            c.worst = rank;
            c.chunk = w.chunk;
            c.sign = *at;
        }
    }
    return c;
}

static void cell_of(const struct grid *g, const struct overview_state *o, size_t *y, size_t *x)
{
    size_t at[DIMS];
    coordinates(g, o->rank, at);
    at[VP] = o->chunk < g->size[VP] ? o->chunk : 0;
    *y = ((g->row_outer == NONE ? 0 : at[g->row_outer]) * size_of(g, g->row) + at[g->row]) / g->fold_rows;
    *x = ((g->outer == NONE ? 0 : at[g->outer]) * size_of(g, g->inner) + at[g->inner]) / g->fold_cols;
}

/* ---- drawing ---------------------------------------------------------------------------- */

static int column_of(const struct grid *g, size_t col)
{
    size_t inner = size_of(g, g->inner), per_group = inner > g->fold_cols ? inner / g->fold_cols : 1;
    size_t gap = size_of(g, g->outer) > 1 && per_group > 1 ? col / per_group : 0;
    return g->label + (int)(col * CELL + gap);
}

static size_t in_a_cell(const struct grid *g)
{
    return folding(g);
}

static int head_rows(const struct grid *g)
{
    return size_of(g, g->outer) > 1 || in_a_cell(g) > 1 ? 2 : 1;
}

static void draw_heads(struct pane p, const struct grid *g)
{
    int last = head_rows(g) - 1;
    size_t inner = size_of(g, g->inner), outer = size_of(g, g->outer);
    char text[48];
    if (last && in_a_cell(g) > 1 && (outer < 2 || g->fold_cols > 1)) {
        snprintf(text, sizeof text, "%zu %s a cell", in_a_cell(g), g->size[VP] > 1 ? "chunks" : "ranks");
        pane_text(p, 0, g->label, STYLE_DIM, text);
    } else if (last) {
        for (size_t e = 0; e < outer; e++) {
            snprintf(text, sizeof text, "%s%zu", dim_names[g->outer], e);
            if (inner * CELL > strlen(text))
                pane_text(p, 0, column_of(g, e * inner), STYLE_DIM, text);
        }
    }
    pane_text(p, last, g->label - 3, STYLE_DIM, dim_names[g->fold_cols < inner || outer < 2 ? g->inner : g->outer]);
    const size_t every = 1 + (size_t)snprintf(text, sizeof text, "%zu", g->fold_cols < inner ? inner : outer) / CELL;   /* so that numbers do not touch */
    for (size_t x = 0; x < g->seen_cols; x++) {
        size_t col = x * g->fold_cols;
        if (g->fold_cols == 1)
            pane_printf(p, last, column_of(g, x), STYLE_DIM, "%zu", col % inner % 10);
        else if (x % every == 0)
            pane_printf(p, last, column_of(g, x), STYLE_DIM, "%zu", g->fold_cols < inner || outer < 2 ? col % inner : col / inner);
    }
}

/* The layers that a row of the grid holds, -1 where it is no stage. */
static struct chunk_span layers_of(const struct app *app, const struct grid *g, size_t row)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    const struct chunk_map *m = &app->opened->chunks;
    const size_t stage = row % size_of(g, g->row), chunk = row / size_of(g, g->row);
    struct chunk_span span = { -1, -1 };
    if (g->row == PP && g->row_outer == VP)
        return stage < m->pp && chunk < m->vpp ? m->spans[stage * m->vpp + chunk] : span;
    for (size_t r = 0; r < info->rank_count && g->row == PP; r++) {
        const struct sl_rank *rank = &info->ranks[r];
        if (rank->layer_first < 0 || rank->pp != (int32_t)stage)
            continue;
        span.lo = span.lo < 0 || rank->layer_first < span.lo ? rank->layer_first : span.lo;
        span.hi = rank->layer_last > span.hi ? rank->layer_last : span.hi;
    }
    return span;
}

/* "pp1", "pp0-3", "v1 pp2"; of several rows that begin in one chunk and end in another only the chunks. */
static void row_name(const struct grid *g, size_t first, size_t last, char *out, size_t room)
{
    const size_t inner = size_of(g, g->row), a = first % inner, b = last % inner, va = first / inner, vb = last / inner;
    size_t used = 0;
    if (g->row_outer != NONE && va != vb)
        snprintf(out, room, "%s%zu-%zu", dim_names[g->row_outer], va, vb);
    else {
        if (g->row_outer != NONE)
            used = (size_t)snprintf(out, room, "%s%zu ", dim_names[g->row_outer], va);
        snprintf(out + used, room - used, a == b ? "%s%zu" : "%s%zu-%zu", dim_names[g->row], a, b);
    }
}

static void draw_label(const struct app *app, struct pane p, int row, const struct grid *g, size_t y)
{
    char text[80], label[48];
    struct chunk_span span = { -1, -1 };
    size_t first = y * g->fold_rows, last = first + g->fold_rows - 1;
    last = last < g->rows ? last : g->rows - 1;
    for (size_t r = first; r <= last; r++) {
        const struct chunk_span one = layers_of(app, g, r);
        if (one.lo < 0)
            continue;
        span.lo = span.lo < 0 || one.lo < span.lo ? one.lo : span.lo;
        span.hi = one.hi > span.hi ? one.hi : span.hi;
    }
    row_name(g, first, last, label, sizeof label);
    /* the chunks of a rank are far apart: the layers between them are others' */
    if (span.lo >= 0 && g->row_outer != VP && app->opened->chunks.vpp > 1)
        snprintf(text, sizeof text, "%-4s %zu chunks", label, app->opened->chunks.vpp);
    else if (span.lo >= 0 && span.hi == span.lo)
        snprintf(text, sizeof text, g->row_outer == NONE ? "%-4s L%02d" : "%-7s L%02d", label, span.lo);
    else if (span.lo >= 0)
        snprintf(text, sizeof text, g->row_outer == NONE ? "%-4s L%02d-%02d" : "%-7s L%02d-%02d", label, span.lo, span.hi);
    else
        snprintf(text, sizeof text, "%-4s", label);
    pane_textw(p, row, 0, g->label - 1, STYLE_DIM, text);
}

static void draw_cell(struct pane p, int row, int col, char sign, bool selected)
{
    pane_text(p, row, col, sign_style(sign), (char[]){ sign, '\0' });
    if (!selected)
        return;
    pane_text(p, row, col - 1, STYLE_SELECTED, "[");
    pane_text(p, row, col + 1, STYLE_SELECTED, "]");
    pane_cursor(p, row, col, false);
}

/* The ranks of one folded cell, line after line. */
static int draw_zoom(struct app *app, struct pane p)
{
    struct overview_state *o = &app->overview;
    const struct sl_checkpoint_info *info = app->opened->info;
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    size_t y, x, i = 0, at = 0, per_row = p.cols > LABEL_CHUNK + CELL ? (size_t)(p.cols - LABEL_CHUNK) / CELL : 1;
    int rows = p.rows > 2 ? p.rows - 2 : 1;
    per_row = per_row > 16 ? per_row / 16 * 16 : per_row;
    o->zoom_cols = (int)per_row;
    cell_of(&g, o, &y, &x);
    struct walk w;
    cell_first(&g, y, x, &w);
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; i++)
        at = rank == o->rank && (g.size[VP] == 1 || w.chunk == o->chunk) ? i : at;
    pane_printf(p, 0, 0, STYLE_DIM, "the %zu %s of one cell; z or Esc goes back", i, g.size[VP] > 1 ? "chunks" : "ranks");
    size_t top = at / per_row >= (size_t)rows ? at / per_row - (size_t)rows + 1 : 0;
    cell_first(&g, y, x, &w);
    i = 0;
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; i++) {
        char name[48], full[64];
        if (i / per_row < top || i / per_row >= top + (size_t)rows)
            continue;
        int row = 1 + (int)(i / per_row - top);
        rank_name(app, (int32_t)rank, name, sizeof name);
        snprintf(full, sizeof full, g.size[VP] > 1 ? "%s v%zu" : "%s", name, w.chunk);
        if (i % per_row == 0)
            pane_textw(p, row, 0, LABEL_CHUNK - 1, STYLE_DIM, full);
        draw_cell(p, row, LABEL_CHUNK + (int)(i % per_row) * CELL, part_sign(app, &g, rank, w.chunk), i == at);
    }
    size_t lines = (i + per_row - 1) / per_row;
    return 1 + (int)(lines < (size_t)rows ? lines : (size_t)rows);
}

int grid_draw(struct app *app, struct pane p)
{
    struct overview_state *o = &app->overview;
    o->rank = o->rank < app->opened->info->rank_count ? o->rank : 0;
    if (o->zoom)
        return draw_zoom(app, p);
    o->grid_rows = p.rows;
    o->grid_cols = p.cols;
    struct grid g = grid_of(app, p.rows, p.cols);
    size_t y0, x0;
    cell_of(&g, o, &y0, &x0);
    draw_heads(p, &g);
    for (size_t y = 0; y < g.seen_rows; y++) {
        int row = head_rows(&g) + (int)y;
        draw_label(app, p, row, &g, y);
        for (size_t x = 0; x < g.seen_cols; x++)
            draw_cell(p, row, column_of(&g, x), cell_about(app, &g, y, x).sign, y == y0 && x == x0);
    }
    return head_rows(&g) + (int)g.seen_rows;
}

/* "pp0 oo oo  pp1 oo o!": stage by stage, a group of tp ranks for each ep, where the grid has no room. */
int grid_strip(struct app *app, struct pane p)
{
    struct overview_state *o = &app->overview;
    const struct sl_checkpoint_info *info = app->opened->info;
    size_t size[DIMS];
    sizes_of(app, size);
    const size_t width = 6 + size[EP] * (size[TP] + 1), lines = p.rows > 1 ? (size_t)p.rows - 1 : 0;
    const size_t each = p.cols > 0 ? ((size_t)p.cols + 1) / width : 0;
    /* heads, stages, what is selected: one line, of experts two */
    const size_t grid_lines = (size[EP] > 1 ? 2 : 1) + size[PP] + 1 + (app->opened->experts.span_count > 0);
    const bool grid_fits = (size_t)p.rows >= grid_lines && (size_t)p.cols >= LABEL + size[EP] * (size[TP] * CELL + 1);
    if (!each || (size[PP] + each - 1) / each > lines || grid_fits || o->way || o->zoom)
        return 0;
    o->rank = o->rank < info->rank_count ? o->rank : 0;
    o->grid_rows = o->grid_cols = INT16_MAX;                     /* nothing is folded for the arrows */
    for (size_t r = 0; r < info->rank_count; r++) {
        const size_t tp = r % size[TP], ep = r / size[TP] % size[EP], pp = r / size[TP] / size[EP];
        const int row = (int)(pp / each), left = (int)(pp % each * width), col = left + 5 + (int)(ep * (size[TP] + 1) + tp);
        const char sign[2] = { rank_sign(app, &info->ranks[r]), '\0' };
        if (!tp && !ep)
            pane_printf(p, row, left, STYLE_DIM, "pp%zu", pp);
        pane_text(p, row, col, r == o->rank ? STYLE_SELECTED : sign_style(sign[0]), sign);
        if (r == o->rank)
            pane_cursor(p, row, col, false);
    }
    return (int)((size[PP] + each - 1) / each);
}

int grid_about(const struct app *app, struct pane p, int row)
{
    const struct overview_state *o = &app->overview;
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    size_t y, x;
    if (o->zoom || in_a_cell(&g) < 2)
        return 0;
    cell_of(&g, o, &y, &x);
    struct cell_about c = cell_about(app, &g, y, x);
    int col = pane_printf(p, row, 0, STYLE_TEXT, "%zu %s:", c.count, g.size[VP] > 1 ? "chunks" : "ranks");
    for (size_t i = sizeof sign_order - 1; i-- > 0;)
        if (c.tally[i]) {
            col += 1 + pane_printf(p, row, col + 1, STYLE_TEXT, "%zu", c.tally[i]);
            col += 1 + pane_text(p, row, col + 1, sign_style(sign_order[i]), (char[]){ sign_order[i], '\0' });
        }
    pane_text(p, row, col + 2, STYLE_DIM, "z lists them");
    return 1;
}

/* ---- moving --------------------------------------------------------------------------------- */

static void zoom_move(struct app *app, int rows, int cols)
{
    struct overview_state *o = &app->overview;
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    size_t y, x, before = SIZE_MAX, step = rows && o->zoom_cols > 0 ? (size_t)o->zoom_cols : 1, seen = 0;
    struct place { size_t rank, chunk; } *list = calloc(in_a_cell(&g) + 1, sizeof *list), *to = NULL;
    cell_of(&g, o, &y, &x);
    struct walk w;
    cell_first(&g, y, x, &w);
    for (size_t rank; list && seen < in_a_cell(&g) && (rank = cell_next(&w, app->opened->info->rank_count)) != SIZE_MAX;) {
        before = rank == o->rank && (g.size[VP] == 1 || w.chunk == o->chunk) ? seen : before;
        list[seen++] = (struct place){ rank, w.chunk };
    }
    if (before != SIZE_MAX && (rows > 0 || cols > 0))
        to = &list[before + step < seen ? before + step : seen - 1];
    else if (before != SIZE_MAX)
        to = &list[before > step ? before - step : 0];
    if (to) {
        o->rank = to->rank;
        o->chunk = to->chunk;
    }
    free(list);
}

void grid_move(struct app *app, int rows, int cols)
{
    struct overview_state *o = &app->overview;
    if (o->zoom) {
        zoom_move(app, rows, cols);
        return;
    }
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    size_t y, x;
    cell_of(&g, o, &y, &x);
    if (cols > 0 ? x + 1 >= g.seen_cols : cols < 0 && x == 0)
        return;
    if (rows > 0 ? y + 1 >= g.seen_rows : rows < 0 && y == 0)
        return;
    struct cell_about c = cell_about(app, &g, (size_t)((ptrdiff_t)y + rows), (size_t)((ptrdiff_t)x + cols));
    if (c.worst != SIZE_MAX) {
        o->rank = c.worst;
        o->chunk = c.chunk;
    }
}

void act_dimensions(struct app *app)
{
    struct overview_state *o = &app->overview;
    size_t size[DIMS];
    if (!app->opened || !app->opened->info->rank_count) {
        app_say(app, STYLE_DIM, "there are no ranks here to arrange");
        return;
    }
    sizes_of(app, size);
    o->zoom = false;
    do
        o->way = (o->way + 1) % (WAYS + 1);
    while (o->way > 1 && !way_differs(size, o->way - 1));
    if (!o->way) {
        app_say(app, STYLE_TEXT, "the grid folds what does not fit");
        return;
    }
    const struct way *w = &ways[o->way - 1];
    char folded[48] = "";
    for (int d = 0; d < DIMS; d++)
        if (!names(w, d) && size[d] > 1)
            snprintf(folded + strlen(folded), sizeof folded - strlen(folded), ", %s folded", dim_names[d]);
    const int named[] = { w->row_outer, w->row, w->outer, w->inner };
    char rows[24] = "", cols[24] = "";
    for (int i = 0; i < 4; i++) {
        char *to = i < 2 ? rows : cols;
        if (named[i] != NONE && (size[named[i]] > 1 || (i & 1)))
            snprintf(to + strlen(to), sizeof rows - strlen(to), "%s%s", *to ? " x " : "", dim_names[named[i]]);
    }
    app_say(app, STYLE_TEXT, "rows %s, columns %s%s", rows, cols, folded);
}

int grid_chunk(const struct app *app)
{
    const struct overview_state *o = &app->overview;
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    return g.size[VP] > 1 ? (int)o->chunk : -1;
}

void act_zoom(struct app *app)
{
    struct overview_state *o = &app->overview;
    if (!app->opened || !app->opened->info->rank_count) {
        app_say(app, STYLE_DIM, "there are no ranks here to look into");
        return;
    }
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    if (!o->zoom && in_a_cell(&g) < 2)
        app_say(app, STYLE_DIM, "every cell is one rank already; Enter lists its tensors");
    else
        o->zoom = !o->zoom;
}
