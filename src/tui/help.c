/* help.c: the key table as a screen. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

static void draw(struct app *app, struct pane p)
{
    char name[8], alias[8], keys[32], where[128];
    list_count(&app->help, key_row_count + SCREEN_HELP);
    list_show(&app->help, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && app->help.top + (size_t)row < app->help.count; row++) {
        size_t i = app->help.top + (size_t)row;
        bool selected = i == app->help.selected;
        if (selected) {
            pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
            pane_cursor(p, row, 0, false);
        }
        if (i >= key_row_count) {
            const struct screen_row *s = &screen_rows[i - key_row_count];
            pane_printf(p, row, 2, STYLE_KEY, "screen %zu", i - key_row_count + 1);
            pane_printf(p, row, 17, STYLE_TEXT, "%s: %s", s->title, s->what);
            continue;
        }
        const struct key_row *r = &key_rows[i];
        snprintf(keys, sizeof keys, "%s%s%s", key_label(r->key, name, sizeof name), r->alias ? " " : "",
                 r->alias ? key_label(r->alias, alias, sizeof alias) : "");
        pane_textw(p, row, 2, 14, STYLE_KEY, keys);
        where[0] = '\0';
        for (int s = 0; s < SCREEN_HELP && r->where != EVERYWHERE; s++)
            if (r->where & 1u << s)
                snprintf(where + strlen(where), sizeof where - strlen(where), "%s%s", where[0] ? " " : "", screen_rows[s].name);
        if (p.cols > 60 && where[0])
            pane_right(p, row, p.cols - 1, STYLE_DIM, where);
        pane_textw(p, row, 17, p.cols - 18 - (p.cols > 60 && where[0] ? (int)strlen(where) + 2 : 0), STYLE_TEXT, r->help);
    }
}

static void move(struct app *app, int rows, int cols, bool page)
{
    (void)cols;
    list_move(&app->help, rows * (page ? (app->canvas.rows > 8 ? app->canvas.rows - 8 : 1) : 1));
}
static void end(struct app *app, bool last) { list_move(&app->help, last ? (ptrdiff_t)app->help.count : -(ptrdiff_t)app->help.count); }

static void enter(struct app *app)
{
    size_t i = app->help.selected;
    enum screen_id back = app->before_help;
    if (i >= key_row_count) {
        app_go(app, (enum screen_id)(i - key_row_count));
        return;
    }
    app_go(app, back);
    app_key(app, key_rows[i].key);
}

static bool back(struct app *app)
{
    app_go(app, app->before_help);
    return true;
}

static void command(const struct app *app, struct sl_buf *out)
{
    (void)app;
    sl_buf_str(out, "--help");
}

const struct screen_ops help_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .back = back, .command = command };
