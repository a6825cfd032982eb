/* grid.c: TP x PP x EP as cells with a sign. */
#include "tui/grid.h"
#include <stdio.h>
#include <string.h>

struct axes { size_t tp, ep, pp, cols, fold_cols, fold_rows, seen_cols, seen_rows; };

static size_t at_least_1(int32_t n) { return n > 0 ? (size_t)n : 1; }

/* Ranks stand with tp fastest, then ep, then pp. */
static struct axes axes_of(const struct app *app, size_t room_rows, size_t room_cols)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    struct axes a = { .tp = at_least_1(info->parallel.tp), .ep = at_least_1(info->parallel.ep) };
    a.cols = a.tp * a.ep;
    if (a.cols == 0 || a.cols > info->rank_count)
        a.cols = a.tp = info->rank_count ? info->rank_count : 1, a.ep = 1;
    a.pp = (info->rank_count + a.cols - 1) / a.cols;
    a.fold_cols = room_cols ? (a.cols + room_cols - 1) / room_cols : a.cols;
    a.fold_rows = room_rows ? (a.pp + room_rows - 1) / room_rows : a.pp;
    if (a.fold_cols > 1 && a.tp > 1 && a.fold_cols <= a.tp)     /* fold whole groups where that is enough */
        while (a.tp % a.fold_cols)
            a.fold_cols++;
    a.fold_cols = a.fold_cols ? a.fold_cols : 1;
    a.fold_rows = a.fold_rows ? a.fold_rows : 1;
    a.seen_cols = (a.cols + a.fold_cols - 1) / a.fold_cols;
    a.seen_rows = (a.pp + a.fold_rows - 1) / a.fold_rows;
    return a;
}

static char worst(const struct app *app, const struct axes *a, size_t row, size_t col)
{
    static const char order[] = "=o~-!";
    const char *found = order;
    const struct sl_checkpoint_info *info = app->opened->info;
    for (size_t y = row * a->fold_rows; y < (row + 1) * a->fold_rows && y < a->pp; y++)
        for (size_t x = col * a->fold_cols; x < (col + 1) * a->fold_cols && x < a->cols; x++) {
            size_t i = y * a->cols + x;
            const char *at = i < info->rank_count ? strchr(order, rank_sign(app, &info->ranks[i])) : NULL;
            found = at && at > found ? at : found;
        }
    return *found;
}

/* Width of the label before the cells, and of a cell with its blank. */
#define LABEL 15
#define CELL 2

static int column_of(const struct axes *a, size_t col)
{
    size_t per_group = a->tp > a->fold_cols ? a->tp / a->fold_cols : 1;
    size_t gap = a->ep > 1 && per_group > 1 ? col / per_group : 0;
    return LABEL + (int)(col * CELL + gap);
}

static int head_rows(const struct axes *a)
{
    return a->ep > 1 || a->fold_cols > 1 ? 2 : 1;
}

static void draw_heads(struct pane p, const struct axes *a)
{
    int last = head_rows(a) - 1;
    char text[24];
    size_t per_group = a->tp > a->fold_cols ? a->tp / a->fold_cols : 1;
    if (a->fold_cols == 1 && a->ep > 1)
        for (size_t e = 0; e < a->ep; e++) {
            snprintf(text, sizeof text, "ep%zu", e);
            if (a->tp * CELL > strlen(text))
                pane_text(p, 0, column_of(a, e * a->tp), STYLE_DIM, text);
        }
    if (a->fold_cols == 1) {
        pane_text(p, last, LABEL - 3, STYLE_DIM, "tp");
        for (size_t x = 0; x < a->seen_cols; x++)
            pane_printf(p, last, column_of(a, x), STYLE_DIM, "%zu", x % a->tp % 10);
        return;
    }
    snprintf(text, sizeof text, "%zu ranks a cell", a->fold_cols * a->fold_rows);
    pane_text(p, 0, LABEL, STYLE_DIM, text);
    for (size_t x = 0; x < a->seen_cols; x += per_group > 1 ? per_group : 8)
        pane_printf(p, last, column_of(a, x), STYLE_DIM, "%s%zu", a->ep > 1 ? "ep" : "tp", x * a->fold_cols / (a->ep > 1 ? a->tp : 1));
}

static void draw_label(const struct app *app, struct pane p, int row, const struct axes *a, size_t y)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    size_t first = y * a->fold_rows * a->cols;
    size_t last = ((y + 1) * a->fold_rows - 1) * a->cols;
    last = last < info->rank_count ? last : (a->pp - 1) * a->cols;
    int32_t lo = info->ranks[first].layer_first, hi = info->ranks[last].layer_last;
    char text[64], label[32] = "";
    if (a->fold_rows == 1)
        snprintf(label, sizeof label, "pp%zu", y);
    else
        snprintf(label, sizeof label, "pp%zu..", y * a->fold_rows);
    if (lo >= 0 && hi >= lo)
        snprintf(text, sizeof text, "%-4s L%02d-%02d", label, lo, hi);
    else
        snprintf(text, sizeof text, "%-4s", label);
    pane_textw(p, row, 0, LABEL - 1, STYLE_DIM, text);
}

static size_t room_cols(const struct app *app, int cols)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    int room = (cols - LABEL) / CELL;
    size_t tp = at_least_1(info->parallel.tp);
    if (info->parallel.ep > 1 && tp > 1)                     /* a blank between ep groups */
        room = (int)((size_t)(cols > LABEL ? cols - LABEL : 0) * tp / (tp * CELL + 1));
    return room > 1 ? (size_t)room : 1;
}

static size_t room_rows(const struct app *app, int rows)
{
    int used = app->opened->info->parallel.ep > 1 ? 3 : 2;      /* heads, the line below */
    return rows > used ? (size_t)(rows - used) : 1;
}

int grid_draw(struct app *app, struct pane p)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    app->overview.rank = app->overview.rank < info->rank_count ? app->overview.rank : 0;
    struct axes a = axes_of(app, room_rows(app, p.rows), room_cols(app, p.cols));
    size_t y0 = app->overview.rank / a.cols / a.fold_rows, x0 = app->overview.rank % a.cols / a.fold_cols;
    draw_heads(p, &a);
    for (size_t y = 0; y < a.seen_rows; y++) {
        int row = head_rows(&a) + (int)y;
        draw_label(app, p, row, &a, y);
        for (size_t x = 0; x < a.seen_cols; x++) {
            char sign[2] = { worst(app, &a, y, x), '\0' };
            bool selected = y == y0 && x == x0;
            pane_text(p, row, column_of(&a, x), sign_style(sign[0]), sign);
            if (selected) {
                pane_text(p, row, column_of(&a, x) - 1, STYLE_SELECTED, "[");
                pane_text(p, row, column_of(&a, x) + 1, STYLE_SELECTED, "]");
                pane_cursor(p, row, column_of(&a, x), false);
            }
        }
    }
    app->overview.fold_cols = a.fold_cols;
    app->overview.fold_rows = a.fold_rows;
    return head_rows(&a) + (int)a.seen_rows;
}

void grid_move(struct app *app, int rows, int cols)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    size_t fold_cols = app->overview.fold_cols, fold_rows = app->overview.fold_rows;
    struct axes a = axes_of(app, SIZE_MAX / 2, SIZE_MAX / 2);
    size_t y = app->overview.rank / a.cols, x = app->overview.rank % a.cols;
    fold_cols = fold_cols ? fold_cols : 1;
    fold_rows = fold_rows ? fold_rows : 1;
    if (cols > 0 && x + fold_cols < a.cols)
        x = (x / fold_cols + 1) * fold_cols;
    else if (cols < 0)
        x = x >= fold_cols ? (x / fold_cols - 1) * fold_cols : 0;
    if (rows > 0 && y + fold_rows < a.pp)
        y += fold_rows;
    else if (rows < 0)
        y = y >= fold_rows ? y - fold_rows : 0;
    size_t rank = y * a.cols + x;
    if (rank < info->rank_count)
        app->overview.rank = rank;
}
