/* frame.c: the parts that all screens share: title, verdict, key line, bars. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

/* Heights at which a part is shown; below, the body needs the rows more. */
#define ROWS_FOR_TITLE 4
#define ROWS_FOR_BAR 6
#define ROWS_FOR_RULE 14
#define ROWS_FOR_KEYS 14
#define ROWS_FOR_COMMAND 18

#define SHORT_PATH 12
static void draw_title(struct app *app, struct pane p)
{
    char crumb[512], mode[64];
    pane_fill(p, STYLE_TITLE);
    bool writing = run_going(app);
    snprintf(mode, sizeof mode, "%s", writing ? "WRITING" : "read-only");
    int right = p.cols - 1 - (int)strlen(mode), col = p.cols > 24 ? 1 : 0;
    if (p.cols >= 30)
        pane_text(p, 0, right, STYLE_TITLE, mode);
    else
        right = p.cols;
    col += pane_textw(p, 0, col, right - col, STYLE_TITLE, p.cols >= 60 ? "shardlens  " : p.cols >= 30 ? "shardlens " : "");
    const char *tail = screen_ops[app->screen]->crumb ? screen_ops[app->screen]->crumb(app, crumb, sizeof crumb)
                                                       : screen_rows[app->screen].name;
    int tail_width = text_cells(p.canvas, tail) + 3, room = right - col - 2;
    if (p.cols < 60)
        tail_width = 0;
    /* what is under the cursor matters more than the whole path, which the command line below repeats */
    int path = text_cells(p.canvas, sl_printable(app->options->path, (char[512]){ 0 }, 512));
    int most = room - (path < SHORT_PATH ? path : SHORT_PATH);
    if (tail_width > most)
        tail_width = most;
    col += pane_name(p, 0, col, room - tail_width, STYLE_TITLE, app->options->path);
    if (tail_width > 3) {
        col += pane_text(p, 0, col, STYLE_TITLE, " > ");
        pane_name(p, 0, col, tail_width - 3, STYLE_TITLE, tail);
    }
}

static int bar_word(struct pane p, int col, const char *key, const char *word)
{
    int width = (int)strlen(key) + text_cells(p.canvas, word);
    if (col + width > p.cols)
        return col;
    col += pane_text(p, 0, col, STYLE_KEY, key);
    return col + pane_text(p, 0, col, STYLE_TEXT, word);
}

/* "1Over 2Tens .." and, at the right, the keys that work everywhere. */
static void draw_bar(struct app *app, struct pane p)
{
    int right = p.cols, col = 0;
    char name[8], word[64];
    for (size_t i = key_row_count; i-- > 0;) {
        if (key_rows[i].bar != BAR_RIGHT || !(key_rows[i].where & 1u << app->screen))
            continue;
        snprintf(word, sizeof word, " %s", key_rows[i].word);
        const char *key = key_label(key_rows[i].key, name, sizeof name);
        int width = (int)(strlen(key) + strlen(word)) + (p.cols >= 120 ? 3 : 2);
        if (right - width < (p.cols >= 120 ? 78 : p.cols >= 70 ? 42 : 30))
            break;
        right -= width;
        bar_word(p, right + (p.cols >= 120 ? 2 : 1), key, word);
    }
    for (int s = 0; s < SCREEN_HELP; s++) {
        const struct screen_row *r = &screen_rows[s];
        char key[16];
        snprintf(key, sizeof key, "%d", s + 1);
        const char *label = p.cols >= 120 ? r->title : p.cols >= 70 ? r->short_ : r->tiny;
        int start = col;
        if (p.cols >= 120)
            col += 1;
        col = bar_word(pane_part(p, 0, 0, 1, right), col, key, p.cols >= 120 ? "" : label);
        if (p.cols >= 120)
            col += 1 + pane_text(p, 0, col + 1, STYLE_TEXT, label);
        if (s == (int)app->screen)
            pane_style(p, 0, start, col - start, STYLE_SELECTED);
        col += 1;
    }
}

/* The key that stands at or before a column of the bar, pressed. */
void frame_click(struct app *app, int col)
{
    const struct cell *line = app->canvas.cells + (size_t)(app->canvas.rows - 1) * (size_t)app->canvas.cols;
    while (col > 0 && line[col].style != STYLE_KEY && !(line[col].style == STYLE_SELECTED && line[col].ch >= '1' && line[col].ch <= '9'))
        col--;
    if (line[col].ch > ' ' && line[col].ch < 127)
        app_key(app, (int)line[col].ch);
}

/* What the keys of this screen are; a message takes its place for one key. */
static void draw_keys(struct app *app, struct pane p)
{
    char name[8], word[64];
    int col = 1;
    if (app->message[0]) {
        pane_printf(p, 0, 1, app->message_style, "%s", app->message);
        return;
    }
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *r = &key_rows[i];
        if (r->bar != BAR_SCREEN || !(r->where & 1u << app->screen))
            continue;
        snprintf(word, sizeof word, " %s", r->word);
        int next = bar_word(p, col, key_label(r->key, name, sizeof name), word);
        col = next == col ? next : next + 2;
    }
    static const struct { const char *key, *word; } common[] = {
        { "Enter", " open" }, { "Tab", " other side" }, { "y", " copy" }, { "w", " save" }, { "D", " deep check" }, { "R", " reread" },
    };
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
        if ((i == 0 && !screen_ops[app->screen]->enter) || (i == 1 && !screen_ops[app->screen]->tab))
            continue;
        int next = bar_word(p, col, common[i].key, common[i].word);
        col = next == col ? next : next + 2;
    }
}

void draw_command(struct app *app, struct pane p)
{
    struct sl_buf command = { 0 };
    app_command(app, &command);
    int col = 1 + pane_text(p, 0, 1, STYLE_DIM, p.cols >= 100 ? "command line for this screen:  " : "$ ");
    pane_name(p, 0, col, p.cols - col - 1, STYLE_ACCENT, command.data ? command.data : "");
    sl_buf_free(&command);
}

static void draw_body(struct app *app, struct pane body)
{
    if (body.rows > 0 && body.cols > 0)
        screen_ops[app->screen]->draw(app, body);
}

void app_draw(struct app *app)
{
    struct canvas *c = &app->canvas;
    canvas_clear(c);
    struct pane p = canvas_pane(c);
    int rows = p.rows;
    bool line = app->prompt.kind != PROMPT_NONE;
    if (rows >= ROWS_FOR_TITLE)
        draw_title(app, pane_take(&p, 1));
    struct pane verdict = pane_take(&p, 1);
    draw_verdict(app, verdict);
    if (rows >= ROWS_FOR_RULE)
        pane_rule(pane_take(&p, 1), 0);
    if (rows >= ROWS_FOR_BAR) {
        struct pane bar = pane_part(p, p.rows - 1, 0, 1, p.cols);
        p.rows--;
        if (rows < ROWS_FOR_KEYS && line)
            prompt_draw(app, bar);
        else if (rows < ROWS_FOR_KEYS && app->message[0])
            draw_keys(app, bar);
        else
            draw_bar(app, bar);
    } else if (line) {
        verdict = canvas_pane(c);
        verdict = pane_part(verdict, verdict.rows - 1, 0, 1, verdict.cols);
        p.rows -= p.rows > 0;
    }
    if (rows >= ROWS_FOR_KEYS) {
        struct pane keys = pane_part(p, p.rows - 1, 0, 1, p.cols);
        p.rows--;
        if (line)
            prompt_draw(app, keys);
        else
            draw_keys(app, keys);
    }
    if (rows >= ROWS_FOR_COMMAND) {
        draw_command(app, pane_part(p, p.rows - 1, 0, 1, p.cols));
        p.rows--;
    }
    draw_body(app, p);
    if (rows < ROWS_FOR_BAR && line) {
        pane_fill(verdict, STYLE_TEXT);
        prompt_draw(app, verdict);
    }
}
