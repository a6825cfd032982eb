/* map.c: the mapping as a ledger: where each row of a target comes from, what
 * becomes of each source tensor, what is left out and why. */
#include "tui/app.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_PIECES 4096     /* pieces of one target that are listed */

const struct planned *map_plan(const struct app *app)
{
    if (app->plan.plan)
        return &app->plan;
    return app->run.plan.plan && app->run.opened == app->opened ? &app->run.plan : NULL;
}

/* ---- the three lists -------------------------------------------------------------------- */

static const char *const side_titles[MAP_SIDES] = { "targets", "sources", "left out" };

static size_t side_count(const struct app *app, enum map_side side)
{
    const struct planned *p = map_plan(app);
    switch (side) {
    case MAP_TARGETS: return p ? p->info->target_count : 0;
    case MAP_SOURCES: return p ? sl_tensor_count(app->opened->ck) : 0;
    default: return p ? p->info->left_out_count : 0;
    }
}

static const char *side_name(const struct app *app, enum map_side side, size_t i)
{
    const struct planned *p = map_plan(app);
    switch (side) {
    case MAP_TARGETS: return sl_plan_target(p->plan, i)->name;
    case MAP_SOURCES: return sl_tensor_at(app->opened->ck, i)->name;
    default: return p->info->left_out[i].name;
    }
}

static size_t row_at(const struct app *app, enum map_side side, size_t row)
{
    return app->map.rows[side] ? app->map.rows[side][row] : row;
}

static bool selected(const struct app *app, size_t *out)
{
    const struct map_state *m = &app->map;
    if (!m->lists[m->side].count)
        return false;
    *out = row_at(app, m->side, m->lists[m->side].selected);
    return true;
}

void map_filter(struct app *app, const char *text)
{
    struct map_state *m = &app->map;
    size_t keep[MAP_SIDES];
    if (text != m->filter)
        snprintf(m->filter, sizeof m->filter, "%s", text);
    for (int s = 0; s < MAP_SIDES; s++) {
        enum map_side side = (enum map_side)s;
        size_t count = side_count(app, side), n = 0;
        struct list *l = &m->lists[s];
        keep[s] = l->selected < l->count ? row_at(app, side, l->selected) : 0;
        free(m->rows[s]);
        m->rows[s] = *text ? calloc(count + 1, sizeof(size_t)) : NULL;
        for (size_t i = 0; i < count && m->rows[s]; i++)
            if (strcasestr(side_name(app, side, i), text))
                m->rows[s][n++] = i;
        list_count(l, m->rows[s] ? n : count);
        for (size_t i = 0; i < l->count; i++)
            if (row_at(app, side, i) == keep[s]) {
                l->selected = i;
                break;
            }
    }
}

void map_step_match(struct app *app, int step)
{
    struct list *l = &app->map.lists[app->map.side];
    if (!app->map.filter[0])
        app_say(app, STYLE_DIM, "nothing is searched for: / begins a search");
    else if (!l->count)
        app_say(app, STYLE_WARN, "nothing matches %s", app->map.filter);
    else
        l->selected = (l->selected + (step > 0 ? 1 : l->count - 1)) % l->count;
}

void map_forget(struct app *app)
{
    struct map_state *m = &app->map;
    for (int s = 0; s < MAP_SIDES; s++) {
        free(m->rows[s]);
        m->rows[s] = NULL;
        m->lists[s].count = 0;
    }
    free(m->pieces);
    m->pieces = NULL;
    m->pieces_plan = NULL;
}

/* Selects what was asked for by name: a target, or the first target of a source. */
static void select_wanted(struct app *app)
{
    struct map_state *m = &app->map;
    const struct planned *p = map_plan(app);
    if (!m->wanted[0] || !p)
        return;
    size_t target = SIZE_MAX;
    for (size_t i = 0; i < p->info->target_count && target == SIZE_MAX; i++)
        if (strcmp(sl_plan_target(p->plan, i)->name, m->wanted) == 0)
            target = i;
    ptrdiff_t logical = target == SIZE_MAX ? sl_logical_find(app->opened->ck, m->wanted) : -1;
    if (logical >= 0) {
        const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)logical);
        for (size_t k = 0; k < l->piece_count && target == SIZE_MAX; k++)
            if (!sl_plan_uses(p->plan, l->pieces[k], &target, 1))
                target = SIZE_MAX;
    }
    if (target == SIZE_MAX || target >= p->info->target_count) {
        app_say(app, STYLE_WARN, "no target is made of %s: Tab shows what is left out", m->wanted);
    } else {
        if (m->filter[0])
            map_filter(app, "");
        m->side = MAP_TARGETS;
        m->lists[MAP_TARGETS].selected = target;
    }
    m->wanted[0] = '\0';
}

void map_ready(struct app *app)
{
    map_filter(app, app->map.filter);
    select_wanted(app);
}

/* ---- pieces of the selected target --------------------------------------------------------- */

static void pieces_load(struct app *app, const struct planned *p, size_t target)
{
    struct map_state *m = &app->map;
    if (m->pieces && m->pieces_plan == p->plan && m->pieces_target == target)
        return;
    free(m->pieces);
    m->piece_total = sl_plan_pieces(p->plan, target, NULL, 0);
    m->piece_count = m->piece_total < MOST_PIECES ? m->piece_total : MOST_PIECES;
    m->pieces = calloc(m->piece_count + 1, sizeof *m->pieces);
    if (m->pieces)
        sl_plan_pieces(p->plan, target, m->pieces, m->piece_count);
    else
        m->piece_count = 0;
    m->pieces_plan = p->plan;
    m->pieces_target = target;
    m->scroll = 0;
}

static void box_text(const int64_t *lo, const int64_t *hi, uint32_t ndim, char *out, size_t room)
{
    size_t used = 0;
    snprintf(out, room, "scalar");
    for (uint32_t a = 0; a < ndim && a < 8 && used < room; a++)
        used += (size_t)snprintf(out + used, room - used, "%s%lld:%lld%s", a ? "," : "[", (long long)lo[a], (long long)hi[a],
                                 a + 1 == ndim ? "]" : "");
}

static uint64_t volume(const struct sl_piece_info *p)
{
    uint64_t n = 1;
    for (uint32_t a = 0; a < p->target_ndim && a < 8; a++)
        n *= p->target_hi[a] > p->target_lo[a] ? (uint64_t)(p->target_hi[a] - p->target_lo[a]) : 0;
    return n;
}

/* The axis along which the pieces differ: the one to draw. */
static uint32_t drawn_axis(const struct map_state *m)
{
    for (uint32_t a = 0; m->piece_count && a < m->pieces[0].target_ndim && a < 8; a++)
        for (size_t i = 1; i < m->piece_count; i++)
            if (m->pieces[i].target_lo[a] != m->pieces[0].target_lo[a])
                return a;
    return 0;
}

static char piece_letter(size_t i)
{
    static const char letters[] = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return letters[i % (sizeof letters - 1)];
}

/* One letter a block of rows: which piece fills it. */
static int draw_strip(struct app *app, struct pane p, int row, const struct sl_plan_target *t)
{
    const struct map_state *m = &app->map;
    if (!t->ndim || t->ndim > 8 || !m->piece_count)
        return row;
    uint32_t axis = drawn_axis(m);
    int64_t size = t->shape[axis];
    int width = p.cols - 11 < 48 ? p.cols - 11 : 48;
    if (size < 1 || width < 4)
        return row;
    int64_t block = (size + width - 1) / width;
    width = (int)((size + block - 1) / block);
    for (int i = 0; i < width; i++) {
        int64_t at = i * block;
        char letter = '?';
        for (size_t k = 0; k < m->piece_count; k++)
            if (m->pieces[k].target_lo[axis] <= at && at < m->pieces[k].target_hi[axis]) {
                letter = m->pieces[k].source == SIZE_MAX ? '0' : piece_letter(k);
                break;
            }
        pane_text(p, row, 11 + i, STYLE_ACCENT, (char[]){ letter, '\0' });
    }
    pane_textw(p, row, 0, 10, STYLE_HEAD, axis == 0 ? "rows" : axis == 1 ? "columns" : "axis");
    pane_printf(p, row + 1, 11, STYLE_DIM, "one letter is %lld %s%s, named by its piece", (long long)block, axis == 0 ? "row" : "column", block == 1 ? "" : "s");
    return row + 2;
}

static void draw_piece(struct app *app, struct pane p, int row, size_t i)
{
    const struct sl_piece_info *piece = &app->map.pieces[i];
    char source[160], target[160], place[64], text[340];
    box_text(piece->target_lo, piece->target_hi, piece->target_ndim, target, sizeof target);
    pane_printf(p, row, 1, STYLE_KEY, "%c", piece->source == SIZE_MAX ? '0' : piece_letter(i));
    if (piece->source == SIZE_MAX) {
        pane_text(p, row, 3, STYLE_TEXT, "padding");
        pane_right(p, row, p.cols, STYLE_TEXT, target);
        return;
    }
    box_text(piece->source_lo, piece->source_hi, piece->source_ndim, source, sizeof source);
    snprintf(text, sizeof text, "%s -> %s%s%s", source, target, strcmp(piece->op, "copy") ? " " : "",
             strcmp(piece->op, "copy") ? piece->op : "");
    int width = text_cells(p.canvas, text), name = p.cols - width - 16;
    int col = 3 + pane_textw(p, row, 3, 12, STYLE_TEXT, piece_place(app, piece->source, place, sizeof place)) + 1;
    if (name > 6)
        pane_name(p, row, col, p.cols - width - col - 1, STYLE_TEXT, piece->source_name);
    pane_right(p, row, p.cols, STYLE_TEXT, text);
}

static int draw_ledger(struct app *app, struct pane p, int row, const struct sl_plan_target *t, const struct sl_plan_info *info)
{
    const struct map_state *m = &app->map;
    uint64_t covered = 0, all = 1;
    char a[32], b[32];
    for (size_t i = 0; i < m->piece_count; i++)
        covered += volume(&m->pieces[i]);
    for (uint32_t d = 0; d < t->ndim; d++)
        all *= t->shape[d] > 0 ? (uint64_t)t->shape[d] : 0;
    pane_text(p, row, 0, STYLE_HEAD, "ledger");
    if (m->piece_count < m->piece_total)
        pane_printf(p, row, 11, STYLE_TEXT, "%zu pieces, of which %zu are listed", m->piece_total, m->piece_count);
    else
        pane_printf(p, row, 11, covered == all ? STYLE_GOOD : STYLE_BAD, "%s elements covered %s of %s", covered == all ? "=" : "!",
                    sl_text_grouped(covered, a, sizeof a), sl_text_grouped(all, b, sizeof b));
    pane_text(p, row + 1, 0, STYLE_HEAD, "proof");
    return row + 1 + pane_wrap(p, row + 1, 11, STYLE_TEXT, info->proof ? info->proof : "");
}

static void draw_target(struct app *app, struct pane p, const struct planned *plan, size_t target)
{
    const struct sl_plan_target *t = sl_plan_target(plan->plan, target);
    struct map_state *m = &app->map;
    char shape[96], bytes[32];
    pieces_load(app, plan, target);
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, t->name);
    pane_printf(p, 1, 0, STYLE_TEXT, "%s%s%s %s  %s  ->  %s at byte %llu", sl_dtype_label(t->source_dtype),
                t->dtype == t->source_dtype ? "" : " to ", t->dtype == t->source_dtype ? "" : sl_dtype_label(t->dtype),
                sl_text_shape(t->shape, t->ndim, shape, sizeof shape), sl_text_bytes(t->bytes, bytes, sizeof bytes),
                t->file >= 0 && (size_t)t->file < plan->info->file_count ? plan->info->files[t->file].name : "?",
                (unsigned long long)t->offset);
    pane_printf(p, 2, 0, STYLE_TEXT, "rule %s, %zu piece%s (source -> target)", t->rule, m->piece_total,
                m->piece_total == 1 ? "" : "s");
    int rest = p.rows - 3, foot = rest >= 12 ? 6 : rest >= 8 ? 4 : rest >= 5 ? 2 : 0, rows = rest - foot;
    int last = (int)m->piece_count - rows;
    if (m->scroll > last)
        m->scroll = last > 0 ? last : 0;
    int used = 0;
    for (; used < rows && (size_t)(used + m->scroll) < m->piece_count; used++) {
        if (used == rows - 1 && (size_t)(used + m->scroll + 1) < m->piece_count) {
            pane_printf(p, 3 + used, 3, STYLE_DIM, ".. %zu more; %s", m->piece_count - (size_t)(used + m->scroll),
                        m->in_pieces ? "j and k scroll" : "Enter, then j and k");
            used++;
            break;
        }
        draw_piece(app, p, 3 + used, (size_t)(used + m->scroll));
    }
    if (m->in_pieces)
        pane_cursor(p, 3, 0, false);
    if (!foot)
        return;
    int row = 3 + used;
    if (foot >= 4)
        row = draw_strip(app, p, row, t);
    draw_ledger(app, p, row, t, plan->info);
}

static void draw_source(struct app *app, struct pane p, const struct planned *plan, size_t tensor)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    size_t targets[64], count = sl_plan_uses(plan->plan, tensor, targets, 64);
    char shape[96], place[64], bytes[32];
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, t->name);
    pane_printf(p, 1, 0, STYLE_TEXT, "%s %s  %s  of %s", sl_dtype_label(t->dtype), sl_text_shape(t->shape, t->ndim, shape, sizeof shape),
                sl_text_bytes(t->bytes, bytes, sizeof bytes), piece_place(app, tensor, place, sizeof place));
    if (!count) {
        pane_wrap(p, 2, 0, STYLE_WARN, "no target is made of it: it is a copy of another piece, or left out (Tab lists those)");
        return;
    }
    pane_printf(p, 2, 0, STYLE_TEXT, "its elements go to %zu target%s:", count, count == 1 ? "" : "s");
    for (size_t i = 0; i < count && i < 64 && 3 + (int)i < p.rows; i++) {
        const struct sl_plan_target *to = sl_plan_target(plan->plan, targets[i]);
        int col = 3 + pane_name(p, 3 + (int)i, 3, p.cols - 20, STYLE_TEXT, to->name);
        pane_printf(p, 3 + (int)i, col + 1, STYLE_DIM, "(%s)", to->rule);
    }
}

static void draw_left_out(struct app *app, struct pane p, const struct planned *plan, size_t i)
{
    const struct sl_left_out *l = &plan->info->left_out[i];
    char bytes[32], text[512];
    (void)app;
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, l->name);
    pane_printf(p, 1, 0, STYLE_TEXT, "%s  in %s", sl_text_bytes(l->bytes, bytes, sizeof bytes), sl_printable(l->where, text, sizeof text));
    pane_wrap(p, 2, 0, STYLE_TEXT, sl_printable(l->why, text, sizeof text));
}

/* ---- the screen -------------------------------------------------------------------------------- */

static void side_note(const struct app *app, enum map_side side, size_t i, char *out, size_t room)
{
    const struct planned *p = map_plan(app);
    if (side == MAP_TARGETS)
        snprintf(out, room, "%s", sl_plan_target(p->plan, i)->rule);
    else if (side == MAP_SOURCES)
        piece_place(app, i, out, room);
    else
        sl_text_bytes(p->info->left_out[i].bytes, out, room);
}

static void draw_list(struct app *app, struct pane p, bool wide)
{
    struct map_state *m = &app->map;
    struct list *l = &m->lists[m->side];
    char note[128];
    list_show(l, p.rows, wide ? LIST_HALVES : LIST_PAGES);
    for (int row = 0; row < p.rows && l->top + (size_t)row < l->count; row++) {
        size_t i = row_at(app, m->side, l->top + (size_t)row);
        bool here = l->top + (size_t)row == l->selected;
        side_note(app, m->side, i, note, sizeof note);
        int width = text_cells(p.canvas, note);
        width = width > p.cols / 3 ? p.cols / 3 : width;
        if (here) {
            pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
            if (!m->in_pieces)
                pane_cursor(p, row, 0, false);
        }
        pane_name(p, row, 2, p.cols - width - 4, STYLE_TEXT, side_name(app, m->side, i));   /* the detail repeats it in bold */
        pane_textw(p, row, p.cols - width, width, STYLE_DIM, note);
    }
    if (!l->count)
        pane_text(p, 0, 2, STYLE_DIM, m->filter[0] ? "nothing matches; Esc ends the search" : "nothing is left out");
}

static void draw_tabs(struct app *app, struct pane p)
{
    int col = 0;
    for (int s = 0; s < MAP_SIDES; s++) {
        char text[64];
        snprintf(text, sizeof text, "%s %zu", side_titles[s], side_count(app, (enum map_side)s));
        col += pane_text(p, 0, col, s == (int)app->map.side ? STYLE_SELECTED : STYLE_DIM, text) + 2;
    }
    if (app->map.filter[0])
        pane_printf(p, 0, col, STYLE_ACCENT, "/%s %zu", app->map.filter, app->map.lists[app->map.side].count);
}

static void draw_detail(struct app *app, struct pane p, const struct planned *plan)
{
    size_t i;
    static void (*const details[MAP_SIDES])(struct app *, struct pane, const struct planned *, size_t) = { draw_target, draw_source, draw_left_out };
    if (selected(app, &i))
        details[app->map.side](app, p, plan, i);
}

static void draw_status(struct app *app, struct pane p, const struct planned *plan)
{
    char bytes[32];
    (void)app;
    int col = pane_printf(p, 0, 0, STYLE_GOOD, "= all %zu targets have a full recipe, nothing is written", plan->info->target_count);
    pane_printf(p, 0, col, STYLE_TEXT, "  %s, %zu left out", sl_text_bytes(plan->info->write_bytes, bytes, sizeof bytes), plan->info->left_out_count);
}

static void draw_no_plan(struct app *app, struct pane p)
{
    char text[sizeof app->plan_error.where + sizeof app->plan_error.message + 4];
    if (app->load != LOAD_DONE) {
        pane_text(p, 1, 1, STYLE_DIM, app->load == LOAD_FAILED ? "nothing is open: press 1 to see why" : "reading headers");
    } else if (app->plan_state == PLAN_FAILED) {
        snprintf(text, sizeof text, "%s%s%s", app->plan_error.where, *app->plan_error.where ? ": " : "", app->plan_error.message);
        int row = 1 + pane_wrap(p, 1, 1, STYLE_BAD, "! there is no plan, and nothing can be converted as it is:");
        row += pane_wrap(p, row, 1, STYLE_TEXT, text);
        pane_wrap(p, row + 1, 1, STYLE_DIM, "Screen 5 holds the choices that lead to it; f shows what was found wrong.");
    } else {
        pane_text(p, 1, 1, STYLE_DIM, "planning");
    }
}

static void draw(struct app *app, struct pane p)
{
    const struct planned *plan = map_plan(app);
    if (!plan) {
        draw_no_plan(app, p);
        return;
    }
    bool wide = p.cols >= 120 && p.rows >= 14;
    if (p.rows > 8)
        draw_status(app, pane_part(pane_take(&p, 1), 0, 1, 1, p.cols - 2), plan);
    if (wide) {
        int left = p.cols * 44 / 100;
        struct pane list = pane_part(p, 0, 0, p.rows, left), inside = pane_box(list, "");
        draw_tabs(app, pane_part(list, 0, 2, 1, left - 4));
        draw_list(app, pane_part(inside, 0, 0, inside.rows, inside.cols), true);
        draw_detail(app, pane_box(pane_part(p, 0, left, p.rows, p.cols - left), "how it is pieced together"), plan);
        return;
    }
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    if (p.rows > 4)
        draw_tabs(app, pane_take(&p, 1));
    int rows = p.rows > 10 ? (p.rows > 20 ? p.rows * 2 / 5 : 4) : p.rows;
    draw_list(app, pane_take(&p, rows), false);
    if (p.rows > 3) {
        pane_rule(pane_take(&p, 1), 0);
        draw_detail(app, p, plan);
    }
}

static void move(struct app *app, int rows, int cols, bool page)
{
    struct map_state *m = &app->map;
    if (cols) {
        m->in_pieces = cols > 0 && m->side == MAP_TARGETS && m->lists[MAP_TARGETS].count > 0;
    } else if (m->in_pieces) {
        int next = m->scroll + rows * (page ? 8 : 1);
        m->scroll = next < 0 ? 0 : next > MOST_PIECES ? MOST_PIECES : next;
    } else {
        list_move(&m->lists[m->side], rows * (page ? (app->canvas.rows > 30 ? app->canvas.rows - 10 : 6) : 1));
    }
}

static void end(struct app *app, bool last)
{
    struct list *l = &app->map.lists[app->map.side];
    list_move(l, last ? (ptrdiff_t)l->count : -(ptrdiff_t)l->count);
}

static void enter(struct app *app)
{
    struct map_state *m = &app->map;
    size_t i;
    const struct planned *plan = map_plan(app);
    if (!plan || !selected(app, &i))
        return;
    if (m->side == MAP_TARGETS) {
        m->in_pieces = !m->in_pieces;
    } else if (m->side == MAP_SOURCES) {
        size_t target;
        if (sl_plan_uses(plan->plan, i, &target, 1)) {
            snprintf(m->wanted, sizeof m->wanted, "%s", sl_plan_target(plan->plan, target)->name);
            select_wanted(app);
        } else {
            app_say(app, STYLE_DIM, "no target is made of it");
        }
    }
}

static void tab(struct app *app, int step)
{
    app->map.side = (enum map_side)(((int)app->map.side + step + MAP_SIDES) % MAP_SIDES);
    app->map.in_pieces = false;
}

static bool back(struct app *app)
{
    if (app->map.in_pieces)
        return app->map.in_pieces = false, true;
    if (!app->map.filter[0])
        return false;
    map_filter(app, "");
    return true;
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "plan ");
    convert_command(app, out);
}

static void opened(struct app *app)
{
    if (app->opened && !map_plan(app) && app->plan_state == PLAN_NONE)
        convert_plan(app);
    if (map_plan(app) && !app->map.lists[MAP_TARGETS].count && !app->map.filter[0])
        map_filter(app, "");
    select_wanted(app);
}

const struct screen_ops map_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .space = enter, .tab = tab, .back = back,
                                    .command = command, .opened = opened };
