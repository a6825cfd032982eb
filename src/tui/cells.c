/* cells.c: the canvas, panes, and drawing text into them. */
#include "tui/cells.h"
#include "base/text.h"
#include <shardlens/shardlens.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define LARGEST_SIDE 1000
#define LONGEST_TEXT 2048    /* bytes of one piece of text on a screen */

static int clamp(int n, int lo, int hi) { return n < lo ? lo : n > hi ? hi : n; }

bool canvas_resize(struct canvas *c, int rows, int cols)
{
    rows = clamp(rows, 1, LARGEST_SIDE);
    cols = clamp(cols, 1, LARGEST_SIDE);
    if (c->cells && rows == c->rows && cols == c->cols)
        return true;
    struct cell *cells = calloc((size_t)rows * (size_t)cols, sizeof *cells);
    if (!cells)
        return false;
    free(c->cells);
    c->cells = cells;
    c->rows = rows;
    c->cols = cols;
    canvas_clear(c);
    return true;
}

void canvas_free(struct canvas *c)
{
    free(c->cells);
    *c = (struct canvas){ 0 };
}

void canvas_clear(struct canvas *c)
{
    for (int i = 0; i < c->rows * c->cols; i++)
        c->cells[i] = (struct cell){ .ch = ' ' };
    c->cursor_row = c->rows - 1;
    c->cursor_col = c->cols - 1;
    c->cursor_shown = false;
}

bool canvas_equal(const struct canvas *a, const struct canvas *b)
{
    if (a->rows != b->rows || a->cols != b->cols || a->cursor_row != b->cursor_row || a->cursor_col != b->cursor_col ||
        a->cursor_shown != b->cursor_shown)
        return false;
    for (int i = 0; i < a->rows * a->cols; i++)
        if (a->cells[i].ch != b->cells[i].ch || a->cells[i].mark != b->cells[i].mark || a->cells[i].style != b->cells[i].style)
            return false;
    return true;
}

bool canvas_copy(struct canvas *to, const struct canvas *from)
{
    if (!canvas_resize(to, from->rows, from->cols))
        return false;
    memcpy(to->cells, from->cells, (size_t)from->rows * (size_t)from->cols * sizeof *from->cells);
    to->cursor_row = from->cursor_row;
    to->cursor_col = from->cursor_col;
    to->cursor_shown = from->cursor_shown;
    return true;
}

struct pane canvas_pane(struct canvas *c)
{
    return (struct pane){ .canvas = c, .rows = c->rows, .cols = c->cols };
}

static void utf8_add(struct sl_buf *out, uint32_t ch)
{
    if (ch < 0x80) {
        sl_buf_char(out, (char)ch);
    } else if (ch < 0x800) {
        sl_buf_char(out, (char)(0xc0 | ch >> 6));
        sl_buf_char(out, (char)(0x80 | (ch & 0x3f)));
    } else if (ch < 0x10000) {
        sl_buf_char(out, (char)(0xe0 | ch >> 12));
        sl_buf_char(out, (char)(0x80 | (ch >> 6 & 0x3f)));
        sl_buf_char(out, (char)(0x80 | (ch & 0x3f)));
    } else {
        sl_buf_char(out, (char)(0xf0 | ch >> 18));
        sl_buf_char(out, (char)(0x80 | (ch >> 12 & 0x3f)));
        sl_buf_char(out, (char)(0x80 | (ch >> 6 & 0x3f)));
        sl_buf_char(out, (char)(0x80 | (ch & 0x3f)));
    }
}

void canvas_dump(const struct canvas *c, struct sl_buf *out)
{
    for (int row = 0; row < c->rows; row++) {
        const struct cell *line = c->cells + (size_t)row * (size_t)c->cols;
        int end = c->cols;
        while (end > 0 && line[end - 1].ch == ' ')
            end--;
        for (int col = 0; col < end; col++) {
            if (line[col].ch)
                utf8_add(out, line[col].ch);
            if (line[col].mark)
                utf8_add(out, line[col].mark);
        }
        sl_buf_char(out, '\n');
    }
}

struct pane pane_part(struct pane p, int row, int col, int rows, int cols)
{
    row = clamp(row, 0, p.rows);
    col = clamp(col, 0, p.cols);
    return (struct pane){ .canvas = p.canvas, .row = p.row + row, .col = p.col + col,
                          .rows = clamp(rows, 0, p.rows - row), .cols = clamp(cols, 0, p.cols - col) };
}

struct pane pane_take(struct pane *p, int rows)
{
    struct pane top = pane_part(*p, 0, 0, rows, p->cols);
    *p = pane_part(*p, top.rows, 0, p->rows - top.rows, p->cols);
    return top;
}

static struct cell *cell_at(struct pane p, int row, int col)
{
    if (row < 0 || col < 0 || row >= p.rows || col >= p.cols)
        return NULL;
    return p.canvas->cells + (size_t)(p.row + row) * (size_t)p.canvas->cols + (size_t)(p.col + col);
}

/* One code point from UTF-8; anything malformed becomes '?'. */
static uint32_t utf8_next(const unsigned char **at)
{
    const unsigned char *s = *at;
    int more = *s < 0x80 ? 0 : (*s & 0xe0) == 0xc0 ? 1 : (*s & 0xf0) == 0xe0 ? 2 : (*s & 0xf8) == 0xf0 ? 3 : -1;
    if (more < 0) {
        *at = s + 1;
        return '?';
    }
    uint32_t ch = more == 0 ? *s : (uint32_t)(*s & (0x3f >> more));
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            *at = s + i;
            return '?';
        }
        ch = ch << 6 | (s[i] & 0x3f);
    }
    *at = s + more + 1;
    return ch;
}

static size_t push_ascii(struct cell *out, size_t room, size_t n, const char *s)
{
    for (; *s && n < room; s++)
        out[n++] = (struct cell){ .ch = (unsigned char)*s };
    return n;
}

/* The cells of a text, at most `room`. */
static size_t cells_of(const struct canvas *c, const char *text, struct cell *out, size_t room)
{
    size_t n = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s && n < room;) {
        uint32_t ch = utf8_next(&s);
        if (ch < 0x20 || ch == 0x7f)
            ch = '?';
        if (ch >= 0x80 && c->ascii) {
            char escape[16];
            snprintf(escape, sizeof escape, "\\u{%04x}", ch);
            n = push_ascii(out, room, n, escape);
            continue;
        }
        int width = ch < 0x80 ? 1 : wcwidth((wchar_t)ch);
        if (width == 0) {
            if (n && !out[n - 1].mark && out[n - 1].ch)
                out[n - 1].mark = ch;
            continue;
        }
        if (width == 2 && n + 2 > room)
            break;
        out[n++] = (struct cell){ .ch = width < 0 ? '?' : ch };
        if (width == 2)
            out[n++] = (struct cell){ .ch = 0 };
    }
    return n;
}

int text_cells(const struct canvas *c, const char *text)
{
    struct cell cells[LONGEST_TEXT];
    return (int)cells_of(c, text, cells, LONGEST_TEXT);
}

/* A wide character of which only one half would stay becomes a blank. */
static void mend(struct pane p, int row, int col, const struct cell *fresh)
{
    struct cell *before = cell_at(p, row, col - 1), *old = cell_at(p, row, col), *after = cell_at(p, row, col + 1);
    if (old && old->ch == 0 && fresh->ch != 0 && before)
        before->ch = ' ';
    if (after && after->ch == 0 && old && old->ch != 0)
        after->ch = ' ';
}

static int put_cells(struct pane p, int row, int col, enum style style, const struct cell *cells, size_t count)
{
    int used = 0;
    for (size_t i = 0; i < count; i++, used++) {
        struct cell *to = cell_at(p, row, col + used);
        if (!to)
            continue;
        mend(p, row, col + used, &cells[i]);
        *to = cells[i];
        to->style = (uint8_t)style;
    }
    struct cell *last = used ? cell_at(p, row, p.cols - 1) : NULL;
    if (last && col + used > p.cols && wcwidth((wchar_t)last->ch) == 2)
        last->ch = ' ';
    return used;
}

int pane_textw(struct pane p, int row, int col, int width, enum style style, const char *text)
{
    struct cell cells[LONGEST_TEXT];
    if (width < 0)
        width = p.cols - col;
    if (width <= 0)
        return 0;
    return put_cells(p, row, col, style, cells, cells_of(p.canvas, text, cells, (size_t)clamp(width, 0, LONGEST_TEXT)));
}

int pane_text(struct pane p, int row, int col, enum style style, const char *text)
{
    return pane_textw(p, row, col, -1, style, text);
}

int pane_printf(struct pane p, int row, int col, enum style style, const char *format, ...)
{
    char text[LONGEST_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return pane_text(p, row, col, style, text);
}

void pane_right(struct pane p, int row, int end, enum style style, const char *text)
{
    int width = text_cells(p.canvas, text);
    pane_text(p, row, end - width, style, text);
}

/* Where the next component of a dotted name begins; count at the end. */
static size_t next_component(const struct cell *cells, size_t count, size_t at)
{
    while (at < count && cells[at].ch != '.')
        at++;
    return at < count ? at + 1 : count;
}

/* Only names of letters get initials: a number tells the layer or the expert. */
static bool has_initial(const struct cell *cells, size_t len)
{
    return len > 1 && ((cells[0].ch | 32) >= 'a' && (cells[0].ch | 32) <= 'z');
}

#define SHORT_COMPONENT 6        /* "weight", "bias" say nothing alone: "q_proj.weight" */

/* "model.layers.12.self_attn.q_proj.weight" -> "m.l.12.self_attn.q_proj.weight": from the
 * left, as many components become initials as it needs to fit; numbers and the last
 * components stay. Returns the new count. */
static size_t shorten_path(struct cell *cells, size_t count, size_t room)
{
    size_t components = 0, at = 0, last = 0;
    bool underscore = false;
    for (size_t i = 0; i < count; i = next_component(cells, count, i), components++)
        last = i;
    for (size_t i = 0; i < count; i++) {
        if (cells[i].ch == ' ')
            return count;                        /* a sentence, no name */
        underscore |= cells[i].ch == '_';
    }
    if (components == 2 && !underscore)          /* "model.safetensors" */
        return count;
    for (size_t stay = count - last <= SHORT_COMPONENT ? 2 : 1; components > stay && count > room; components--) {
        const size_t next = next_component(cells, count, at), len = next - at - 1;
        if (has_initial(cells + at, len)) {
            memmove(cells + at + 1, cells + at + len, (count - at - len) * sizeof *cells);
            count -= len - 1;
            at += 2;
        } else {
            at = next;
        }
    }
    return count;
}

int pane_name(struct pane p, int row, int col, int width, enum style style, const char *name)
{
    char text[LONGEST_TEXT];
    struct cell cells[LONGEST_TEXT];
    if (width <= 0)
        return 0;
    sl_printable(name, text, sizeof text);
    size_t count = cells_of(p.canvas, text, cells, LONGEST_TEXT), room = (size_t)width;
    if (count > room)
        count = shorten_path(cells, count, room);
    if (count <= room || room < 4)
        return put_cells(p, row, col, style, cells, count < room ? count : room);
    size_t tail = (room - 2) * 2 / 3, head = room - 2 - tail;
    size_t from = count - tail;
    if (head && cells[head].ch == 0)
        cells[head - 1].ch = ' ';
    if (cells[from].ch == 0)
        cells[from].ch = ' ';
    int used = put_cells(p, row, col, style, cells, head);
    used += pane_text(p, row, col + used, style, "..");
    return used + put_cells(p, row, col + used, style, cells + from, tail);
}

/* The bytes of `text` that stand in one line of `width` characters, broken at a blank where there is one. */
static size_t line_of(const char *text, int width, int *used)
{
    size_t take = 0, blank = 0;
    int blank_at = 0;
    for (*used = 0; text[take] && *used < width; ++*used) {
        if (text[take] == ' ') {
            blank = take;
            blank_at = *used;
        }
        take++;
        while (((unsigned char)text[take] & 0xc0) == 0x80)
            take++;
    }
    if (text[take] && text[take] != ' ' && blank) {
        *used = blank_at;
        return blank;
    }
    return take;
}

int pane_wrap_rows(struct pane p, int col, const char *text)
{
    int rows = 0, used;
    while (*text && p.cols > col) {
        text += line_of(text, p.cols - col, &used);
        text += strspn(text, " ");
        rows++;
    }
    return rows;
}

int pane_wrap(struct pane p, int row, int col, enum style style, const char *text)
{
    int rows = 0, width = p.cols - col, used;
    if (width < 1)
        return 0;
    while (*text && row + rows < p.rows) {
        const size_t take = line_of(text, width, &used);
        pane_printf(p, row + rows++, col, style, "%.*s", (int)take, text);
        text += take;
        text += strspn(text, " ");
        if (*text && row + rows == p.rows && width > 2)       /* there is more */
            pane_text(p, row + rows - 1, col + (used + 3 > width ? width - 2 : used + 1), style, "..");
    }
    return rows;
}

void pane_fill(struct pane p, enum style style)
{
    for (int row = 0; row < p.rows; row++)
        for (int col = 0; col < p.cols; col++)
            *cell_at(p, row, col) = (struct cell){ .ch = ' ', .style = (uint8_t)style };
}

void pane_style(struct pane p, int row, int col, int width, enum style style)
{
    for (int i = 0; i < width; i++) {
        struct cell *cell = cell_at(p, row, col + i);
        if (cell)
            cell->style = (uint8_t)style;
    }
}

void pane_cursor(struct pane p, int row, int col, bool shown)
{
    if (!cell_at(p, row, col))
        return;
    p.canvas->cursor_row = p.row + row;
    p.canvas->cursor_col = p.col + col;
    p.canvas->cursor_shown = shown;
}

/* ---- glyphs --------------------------------------------------------------- */

static const uint16_t glyphs[GLYPH_COUNT][2] = {   /* ASCII, UTF-8 */
    [GLYPH_HLINE] = { '-', 0x2500 },        [GLYPH_VLINE] = { '|', 0x2502 },
    [GLYPH_TOP_LEFT] = { '+', 0x250c },     [GLYPH_TOP_RIGHT] = { '+', 0x2510 },
    [GLYPH_BOTTOM_LEFT] = { '+', 0x2514 },  [GLYPH_BOTTOM_RIGHT] = { '+', 0x2518 },
    [GLYPH_SELECT] = { '>', 0x25b8 },
    [GLYPH_BAR_OPEN] = { '[', 0x2595 },     [GLYPH_BAR_CLOSE] = { ']', 0x258f },
    [GLYPH_FULL] = { '#', 0x2588 },         [GLYPH_EMPTY] = { '.', ' ' },
    [GLYPH_BULLET] = { '*', 0x2022 },
};
/* Nine heights, from nothing to full, for sparklines and histogram tops. */
static const uint16_t heights[9][2] = {
    { ' ', ' ' }, { '.', 0x2581 }, { '.', 0x2582 }, { ':', 0x2583 }, { ':', 0x2584 },
    { '-', 0x2585 }, { '=', 0x2586 }, { '+', 0x2587 }, { '#', 0x2588 },
};
static const uint16_t spark_digits[9] = { '0', '1', '2', '3', '4', '5', '6', '7', '8' };

uint32_t glyph_code(const struct canvas *c, enum glyph g)
{
    return glyphs[g][!c->ascii];
}

static void put_code(struct pane p, int row, int col, enum style style, uint32_t ch)
{
    struct cell cell = { .ch = ch };
    put_cells(p, row, col, style, &cell, 1);
}

void pane_glyph(struct pane p, int row, int col, enum style style, enum glyph g)
{
    put_code(p, row, col, style, glyph_code(p.canvas, g));
}

void pane_rule(struct pane p, int row)
{
    for (int col = 0; col < p.cols; col++)
        pane_glyph(p, row, col, STYLE_BORDER, GLYPH_HLINE);
}

struct pane pane_box(struct pane p, const char *title)
{
    int right = p.cols - 1, bottom = p.rows - 1;
    if (right < 1 || bottom < 1)
        return pane_part(p, 0, 0, 0, 0);
    pane_rule(p, 0);
    pane_rule(p, bottom);
    for (int row = 1; row < bottom; row++) {
        pane_glyph(p, row, 0, STYLE_BORDER, GLYPH_VLINE);
        pane_glyph(p, row, right, STYLE_BORDER, GLYPH_VLINE);
    }
    pane_glyph(p, 0, 0, STYLE_BORDER, GLYPH_TOP_LEFT);
    pane_glyph(p, 0, right, STYLE_BORDER, GLYPH_TOP_RIGHT);
    pane_glyph(p, bottom, 0, STYLE_BORDER, GLYPH_BOTTOM_LEFT);
    pane_glyph(p, bottom, right, STYLE_BORDER, GLYPH_BOTTOM_RIGHT);
    if (*title && right > 4) {
        char text[LONGEST_TEXT];
        snprintf(text, sizeof text, " %s ", title);
        pane_textw(p, 0, 2, right - 3, STYLE_HEAD, text);
    }
    return pane_part(p, 1, 2, bottom - 1, right - 3);
}

void pane_bar(struct pane p, int row, int col, int width, enum style style, double part)
{
    int inside = width - 2;
    if (inside < 1)
        return;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    int full = (int)(part * inside);
    if (full == inside && part < 1)
        full--;
    pane_glyph(p, row, col, STYLE_BORDER, GLYPH_BAR_OPEN);
    for (int i = 0; i < inside; i++)
        pane_glyph(p, row, col + 1 + i, i < full ? style : STYLE_DIM, i < full ? GLYPH_FULL : GLYPH_EMPTY);
    pane_glyph(p, row, col + 1 + inside, STYLE_BORDER, GLYPH_BAR_CLOSE);
}

void pane_spark(struct pane p, int row, int col, enum style style, const double *samples, int count)
{
    for (int i = 0; i < count; i++) {
        int level = samples[i] <= 0 ? 0 : samples[i] >= 1 ? 8 : 1 + (int)(samples[i] * 7.999);
        put_code(p, row, col + i, style, p.canvas->ascii ? spark_digits[level] : heights[level][1]);
    }
}

void pane_column(struct pane p, int row, int col, enum style style, int eighths)
{
    put_code(p, row, col, style, heights[clamp(eighths, 0, 8)][!p.canvas->ascii]);
}
