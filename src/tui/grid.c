/* grid.c: TP x PP x EP as cells with a sign. Which of the three are rows and
 * columns and which are folded into a cell is a row of a table; a cell that
 * stands for several ranks shows the worst of them. */
#include "tui/grid.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dim { TP, EP, PP, DIMS, NONE = -1 };
static const char *const dim_names[DIMS] = { "tp", "ep", "pp" };

/* A dimension that is named nowhere in a row is folded. */
static const struct { int8_t row, outer, inner; } ways[] = {
    { PP, EP, TP }, { PP, NONE, TP }, { PP, NONE, EP }, { EP, NONE, TP }, { TP, NONE, PP }, { EP, PP, TP }, { TP, PP, EP },
};
#define WAYS (sizeof ways / sizeof ways[0])

/* Width of the label before the cells, and of a cell with its blank. */
#define LABEL 15
#define CELL 2

struct grid {
    size_t size[DIMS];
    int row, outer, inner;               /* enum dim */
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
}

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
    const int named[3] = { ways[way].row, ways[way].outer, ways[way].inner };
    size_t cells = 1;
    for (int i = 0; i < 3; i++) {
        if (named[i] != NONE && size[named[i]] < 2)
            return false;
        cells *= named[i] == NONE ? 1 : size[named[i]];
    }
    return ways[way].row != PP || cells < size[TP] * size[EP] * size[PP];
}

static size_t columns_that_fit(const struct grid *g, int cols)
{
    int room = cols - LABEL;
    size_t inner = size_of(g, g->inner);
    if (room < CELL)
        return 1;
    if (size_of(g, g->outer) > 1 && inner > 1)                /* a blank between groups */
        return (size_t)room * inner / (inner * CELL + 1) ? (size_t)room * inner / (inner * CELL + 1) : 1;
    return (size_t)(room / CELL);
}

static struct grid grid_as(const struct app *app, size_t way, int room_rows, int room_cols)
{
    struct grid g = { .row = ways[way].row, .outer = ways[way].outer, .inner = ways[way].inner };
    sizes_of(app, g.size);
    g.rows = size_of(&g, g.row);
    g.cols = size_of(&g, g.outer) * size_of(&g, g.inner);
    bool whole = g.rows * g.cols == g.size[TP] * g.size[EP] * g.size[PP];
    size_t fit_cols = columns_that_fit(&g, room_cols);
    whole &= fit_cols >= g.cols;
    /* heads in one line or two; a line below says what a folded cell holds */
    int lines = !whole ? 3 : size_of(&g, g.outer) > 1 ? 2 : 1;
    if (whole && room_rows - lines < (int)g.rows)
        lines = 3;
    size_t fit_rows = room_rows > lines ? (size_t)(room_rows - lines) : 1;
    g.fold_rows = (g.rows + fit_rows - 1) / fit_rows;
    g.fold_cols = (g.cols + fit_cols - 1) / fit_cols;
    size_t inner = size_of(&g, g.inner);
    while (g.fold_cols > 1 && g.fold_cols < inner && inner % g.fold_cols)      /* fold whole groups where that is enough */
        g.fold_cols++;
    g.seen_rows = (g.rows + g.fold_rows - 1) / g.fold_rows;
    g.seen_cols = (g.cols + g.fold_cols - 1) / g.fold_cols;
    return g;
}

/* The chosen way, or the one that has to fold least. */
static struct grid grid_of(const struct app *app, int rows, int cols)
{
    const struct overview_state *o = &app->overview;
    if (o->way)
        return grid_as(app, o->way - 1, rows, cols);
    struct grid best = grid_as(app, 0, rows, cols);
    for (size_t w = 1; w < WAYS && best.fold_rows * best.fold_cols > 1; w++) {
        struct grid g = grid_as(app, w, rows, cols);
        if (way_differs(g.size, w) && g.fold_rows * g.fold_cols < best.fold_rows * best.fold_cols)
            best = g;
    }
    return best;
}

/* ---- the ranks of a cell ----------------------------------------------------------- */

struct walk { const struct grid *g; size_t y, x, row, col, fold; };

static void cell_first(const struct grid *g, size_t y, size_t x, struct walk *w)
{
    *w = (struct walk){ .g = g, .y = y, .x = x, .row = y * g->fold_rows, .col = x * g->fold_cols };
}

/* The next rank of the cell, SIZE_MAX after the last. */
static size_t cell_next(struct walk *w, size_t rank_count)
{
    const struct grid *g = w->g;
    size_t folded = g->size[TP] * g->size[EP] * g->size[PP] / (g->rows * g->cols);
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
        at[g->row] = w->row;
        at[g->inner] = w->col % inner;
        if (g->outer != NONE)
            at[g->outer] = w->col / inner;
        for (int d = 0; d < DIMS; d++)
            if (d != g->row && d != g->inner && d != g->outer) {
                at[d] = left % g->size[d];
                left /= g->size[d];
            }
        size_t rank = rank_at(g, at);
        if (rank < rank_count)
            return rank;
    }
}

static const char sign_order[] = "=o~-!";
struct cell_about { size_t count, worst, tally[sizeof sign_order]; char sign; };

static struct cell_about cell_about(const struct app *app, const struct grid *g, size_t y, size_t x)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    struct cell_about c = { .sign = ' ', .worst = SIZE_MAX };
    const char *found = NULL;
    struct walk w;
    cell_first(g, y, x, &w);
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; c.count++) {
        const char *at = strchr(sign_order, rank_sign(app, &info->ranks[rank]));
        if (!at)
            continue;
        c.tally[at - sign_order]++;
        if (!found || at > found) {
            found = at;
            c.worst = rank;
            c.sign = *at;
        }
    }
    return c;
}

static void cell_of(const struct grid *g, size_t rank, size_t *y, size_t *x)
{
    size_t at[DIMS];
    coordinates(g, rank, at);
    *y = at[g->row] / g->fold_rows;
    *x = ((g->outer == NONE ? 0 : at[g->outer]) * size_of(g, g->inner) + at[g->inner]) / g->fold_cols;
}

/* ---- drawing ---------------------------------------------------------------------------- */

static int column_of(const struct grid *g, size_t col)
{
    size_t inner = size_of(g, g->inner), per_group = inner > g->fold_cols ? inner / g->fold_cols : 1;
    size_t gap = size_of(g, g->outer) > 1 && per_group > 1 ? col / per_group : 0;
    return LABEL + (int)(col * CELL + gap);
}

static size_t in_a_cell(const struct grid *g)
{
    return g->fold_rows * g->fold_cols * (g->size[TP] * g->size[EP] * g->size[PP] / (g->rows * g->cols));
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
        snprintf(text, sizeof text, "%zu ranks a cell", in_a_cell(g));
        pane_text(p, 0, LABEL, STYLE_DIM, text);
    } else if (last) {
        for (size_t e = 0; e < outer; e++) {
            snprintf(text, sizeof text, "%s%zu", dim_names[g->outer], e);
            if (inner * CELL > strlen(text))
                pane_text(p, 0, column_of(g, e * inner), STYLE_DIM, text);
        }
    }
    pane_text(p, last, LABEL - 3, STYLE_DIM, dim_names[g->fold_cols < inner || outer < 2 ? g->inner : g->outer]);
    for (size_t x = 0; x < g->seen_cols; x++) {
        size_t col = x * g->fold_cols;
        if (g->fold_cols == 1)
            pane_printf(p, last, column_of(g, x), STYLE_DIM, "%zu", col % inner % 10);
        else if (x % 8 == 0)
            pane_printf(p, last, column_of(g, x), STYLE_DIM, "%zu", g->fold_cols < inner || outer < 2 ? col % inner : col / inner);
    }
}

static void draw_label(const struct app *app, struct pane p, int row, const struct grid *g, size_t y)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    char text[64], label[24];
    int32_t lo = -1, hi = -1;
    size_t first = y * g->fold_rows, last = first + g->fold_rows - 1;
    last = last < g->rows ? last : g->rows - 1;
    for (size_t r = 0; r < info->rank_count && g->row == PP; r++) {
        const struct sl_rank *rank = &info->ranks[r];
        if (rank->layer_first < 0 || rank->pp < (int32_t)first || rank->pp > (int32_t)last)
            continue;
        lo = lo < 0 || rank->layer_first < lo ? rank->layer_first : lo;
        hi = rank->layer_last > hi ? rank->layer_last : hi;
    }
    if (first == last)
        snprintf(label, sizeof label, "%s%zu", dim_names[g->row], first);
    else
        snprintf(label, sizeof label, "%s%zu-%zu", dim_names[g->row], first, last);
    if (lo >= 0 && hi >= lo)
        snprintf(text, sizeof text, "%-4s L%02d-%02d%s", label, lo, hi, info->parallel.vpp > 1 ? " v" : "");
    else
        snprintf(text, sizeof text, "%-4s", label);
    pane_textw(p, row, 0, LABEL - 1, STYLE_DIM, text);
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
    size_t y, x, i = 0, at = 0, per_row = p.cols > LABEL + CELL ? (size_t)(p.cols - LABEL) / CELL : 1;
    int rows = p.rows > 2 ? p.rows - 2 : 1;
    per_row = per_row > 16 ? per_row / 16 * 16 : per_row;
    o->zoom_cols = (int)per_row;
    cell_of(&g, o->rank, &y, &x);
    struct walk w;
    cell_first(&g, y, x, &w);
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; i++)
        at = rank == o->rank ? i : at;
    pane_printf(p, 0, 0, STYLE_DIM, "the %zu ranks of one cell; z or Esc goes back", i);
    size_t top = at / per_row >= (size_t)rows ? at / per_row - (size_t)rows + 1 : 0;
    cell_first(&g, y, x, &w);
    i = 0;
    for (size_t rank; (rank = cell_next(&w, info->rank_count)) != SIZE_MAX; i++) {
        char name[48];
        if (i / per_row < top || i / per_row >= top + (size_t)rows)
            continue;
        int row = 1 + (int)(i / per_row - top);
        if (i % per_row == 0)
            pane_textw(p, row, 0, LABEL - 1, STYLE_DIM, rank_name(app, (int32_t)rank, name, sizeof name));
        draw_cell(p, row, LABEL + (int)(i % per_row) * CELL, rank_sign(app, &info->ranks[rank]), rank == o->rank);
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
    cell_of(&g, o->rank, &y0, &x0);
    draw_heads(p, &g);
    for (size_t y = 0; y < g.seen_rows; y++) {
        int row = head_rows(&g) + (int)y;
        draw_label(app, p, row, &g, y);
        for (size_t x = 0; x < g.seen_cols; x++)
            draw_cell(p, row, column_of(&g, x), cell_about(app, &g, y, x).sign, y == y0 && x == x0);
    }
    return head_rows(&g) + (int)g.seen_rows;
}

int grid_about(const struct app *app, struct pane p, int row)
{
    const struct overview_state *o = &app->overview;
    struct grid g = grid_of(app, o->grid_rows, o->grid_cols);
    size_t y, x;
    if (o->zoom || in_a_cell(&g) < 2)
        return 0;
    cell_of(&g, o->rank, &y, &x);
    struct cell_about c = cell_about(app, &g, y, x);
    int col = pane_printf(p, row, 0, STYLE_TEXT, "%zu ranks:", c.count);
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
    size_t *list = calloc(in_a_cell(&g) + 1, sizeof *list);
    cell_of(&g, o->rank, &y, &x);
    struct walk w;
    cell_first(&g, y, x, &w);
    for (size_t rank; list && seen < in_a_cell(&g) && (rank = cell_next(&w, app->opened->info->rank_count)) != SIZE_MAX;) {
        before = rank == o->rank ? seen : before;
        list[seen++] = rank;
    }
    if (before != SIZE_MAX && (rows > 0 || cols > 0))
        o->rank = list[before + step < seen ? before + step : seen - 1];
    else if (before != SIZE_MAX)
        o->rank = list[before > step ? before - step : 0];
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
    cell_of(&g, o->rank, &y, &x);
    if (cols > 0 ? x + 1 >= g.seen_cols : cols < 0 && x == 0)
        return;
    if (rows > 0 ? y + 1 >= g.seen_rows : rows < 0 && y == 0)
        return;
    struct cell_about c = cell_about(app, &g, (size_t)((ptrdiff_t)y + rows), (size_t)((ptrdiff_t)x + cols));
    if (c.worst != SIZE_MAX)
        o->rank = c.worst;
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
    char folded[48] = "";
    int row = ways[o->way - 1].row, outer = ways[o->way - 1].outer, inner = ways[o->way - 1].inner;
    for (int d = 0; d < DIMS; d++)
        if (d != row && d != outer && d != inner && size[d] > 1)
            snprintf(folded, sizeof folded, ", %s folded", dim_names[d]);
    app_say(app, STYLE_TEXT, "rows %s, columns %s%s%s%s", dim_names[row], outer == NONE ? "" : dim_names[outer], outer == NONE ? "" : " x ",
            dim_names[inner], folded);
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
