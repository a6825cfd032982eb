/* prompt.c: typing a line, answering a question. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

void prompt_line(struct app *app, const char *label, const char *text,
                 void (*changed)(struct app *, const char *), void (*done)(struct app *, const char *, bool))
{
    struct prompt *p = &app->prompt;
    *p = (struct prompt){ .kind = PROMPT_LINE, .changed = changed, .done = done };
    snprintf(p->label, sizeof p->label, "%s", label);
    snprintf(p->text, sizeof p->text, "%s", text);
    p->len = p->at = strlen(p->text);
}

void prompt_ask(struct app *app, const char *question, void (*done)(struct app *, const char *, bool))
{
    struct prompt *p = &app->prompt;
    *p = (struct prompt){ .kind = PROMPT_ASK, .done = done };
    snprintf(p->label, sizeof p->label, "%s", question);
}

static void finish(struct app *app, bool accepted)
{
    struct prompt p = app->prompt;
    app->prompt.kind = PROMPT_NONE;
    p.done(app, p.text, accepted);
}

static size_t before(const struct prompt *p, size_t at)
{
    if (at)
        at--;
    while (at && ((unsigned char)p->text[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static size_t after(const struct prompt *p, size_t at)
{
    if (at < p->len)
        at++;
    while (at < p->len && ((unsigned char)p->text[at] & 0xc0) == 0x80)
        at++;
    return at;
}

static void cut(struct prompt *p, size_t from, size_t to)
{
    memmove(p->text + from, p->text + to, p->len - to + 1);
    p->len -= to - from;
    p->at = from;
}

static void insert(struct prompt *p, int key)
{
    unsigned char bytes[4];
    size_t n = 0;
    uint32_t ch = (uint32_t)key;
    if (ch < 0x80) {
        bytes[n++] = (unsigned char)ch;
    } else if (ch < 0x800) {
        bytes[n++] = (unsigned char)(0xc0 | ch >> 6);
    } else if (ch < 0x10000) {
        bytes[n++] = (unsigned char)(0xe0 | ch >> 12);
        bytes[n++] = (unsigned char)(0x80 | (ch >> 6 & 0x3f));
    } else {
        bytes[n++] = (unsigned char)(0xf0 | ch >> 18);
        bytes[n++] = (unsigned char)(0x80 | (ch >> 12 & 0x3f));
        bytes[n++] = (unsigned char)(0x80 | (ch >> 6 & 0x3f));
    }
    if (ch >= 0x80)
        bytes[n++] = (unsigned char)(0x80 | (ch & 0x3f));
    if (p->len + n >= sizeof p->text)
        return;
    memmove(p->text + p->at + n, p->text + p->at, p->len - p->at + 1);
    memcpy(p->text + p->at, bytes, n);
    p->len += n;
    p->at += n;
}

static size_t word_start(const struct prompt *p)
{
    size_t at = p->at;
    while (at && p->text[at - 1] == ' ')
        at--;
    while (at && p->text[at - 1] != ' ' && p->text[at - 1] != '/')
        at--;
    return at == p->at ? before(p, at) : at;
}

static bool line_key(struct prompt *p, int key)
{
    size_t len = p->len;
    switch (key) {
    case K_LEFT: p->at = before(p, p->at); break;
    case K_RIGHT: p->at = after(p, p->at); break;
    case K_HOME: case K_UP: p->at = 0; break;
    case K_END: case K_DOWN: p->at = p->len; break;
    case K_BACKSPACE: cut(p, before(p, p->at), p->at); break;
    case K_DELETE: cut(p, p->at, after(p, p->at)); break;
    case CTRL_U: cut(p, 0, p->at); break;
    case CTRL_W: cut(p, word_start(p), p->at); break;
    default:
        if (key >= ' ' && key != 0x7f && key < K_SPECIAL)
            insert(p, key);
    }
    return p->len != len;
}

void prompt_key(struct app *app, int key)
{
    struct prompt *p = &app->prompt;
    if (key == K_ESC || key == CTRL_C) {
        finish(app, false);
    } else if (p->kind == PROMPT_ASK) {
        if (key == 'y' || key == 'Y')
            finish(app, true);
        else if (key == 'n' || key == 'N' || key == 'q')
            finish(app, false);
    } else if (key == K_ENTER) {
        finish(app, true);
    } else if (line_key(p, key) && p->changed) {
        p->changed(app, p->text);
    }
}

void prompt_draw(struct app *app, struct pane row)
{
    const struct prompt *p = &app->prompt;
    int room_for_label = p->kind == PROMPT_ASK && row.cols > 36 ? row.cols - 18 : row.cols - 1;
    int col = pane_textw(row, 0, 1, room_for_label, STYLE_HEAD, p->label) + 2;
    if (p->kind == PROMPT_ASK) {
        col += pane_text(row, 0, col, STYLE_KEY, " y yes   n no");
        pane_cursor(row, 0, col < row.cols ? col : row.cols - 1, true);
        return;
    }
    char left[sizeof p->text];
    snprintf(left, sizeof left, "%.*s", (int)p->at, p->text);
    int at = text_cells(row.canvas, left), room = row.cols - col - 1;
    const char *shown = p->text;
    while (at > room && *shown) {               /* keep the cursor in view */
        shown += after(p, (size_t)(shown - p->text)) - (size_t)(shown - p->text);
        snprintf(left, sizeof left, "%.*s", (int)(p->at - (size_t)(shown - p->text)), shown);
        at = text_cells(row.canvas, left);
    }
    pane_text(row, 0, col, STYLE_FIELD, shown);
    pane_cursor(row, 0, col + at, true);
}
