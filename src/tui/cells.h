/* cells.h: a screen as an array of cells, and how to draw into it.
 *
 * A canvas is rows x cols cells. A pane is a rectangle of a canvas: all
 * drawing is relative to a pane and clipped to it, so that every screen can
 * be drawn at every size. Text is UTF-8 and must be printable already
 * (sl_printable for anything out of a file; pane_name does it itself). In
 * ASCII mode a character above 127 is shown as \u{...}.
 */
#ifndef SL_TUI_CELLS_H
#define SL_TUI_CELLS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_buf;

/* What a style looks like is a table in screen.c. A style never carries a
 * fact alone: a sign or a word stands beside it. */
enum style {
    STYLE_TEXT, STYLE_DIM, STYLE_TITLE, STYLE_BORDER, STYLE_HEAD, STYLE_GOOD, STYLE_WARN, STYLE_BAD,
    STYLE_KEY, STYLE_ACCENT, STYLE_SELECTED, STYLE_FIELD, STYLE_COUNT
};

/* Glyphs that are finer in UTF-8; each takes one cell in both. */
enum glyph {
    GLYPH_HLINE, GLYPH_VLINE, GLYPH_TOP_LEFT, GLYPH_TOP_RIGHT, GLYPH_BOTTOM_LEFT, GLYPH_BOTTOM_RIGHT,
    GLYPH_SELECT, GLYPH_BAR_OPEN, GLYPH_BAR_CLOSE, GLYPH_FULL, GLYPH_EMPTY, GLYPH_BULLET, GLYPH_COUNT
};

struct cell {
    uint32_t ch;        /* code point; 0: right half of the wide character before */
    uint32_t mark;      /* one combining character, 0 */
    uint8_t style;
};

struct canvas {
    int rows, cols;
    struct cell *cells;
    bool ascii;
    int cursor_row, cursor_col;   /* where the terminal's cursor rests */
    bool cursor_shown;            /* in a text field */
};

struct pane { struct canvas *canvas; int row, col, rows, cols; };

/* Sizes are clamped to 1..1000. False when memory is out; the old canvas stays. */
bool canvas_resize(struct canvas *c, int rows, int cols);
void canvas_free(struct canvas *c);
void canvas_clear(struct canvas *c);
bool canvas_equal(const struct canvas *a, const struct canvas *b);
bool canvas_copy(struct canvas *to, const struct canvas *from);
struct pane canvas_pane(struct canvas *c);
/* Lines of UTF-8 text, blanks at line ends left out. */
void canvas_dump(const struct canvas *c, struct sl_buf *out);

/* A part of a pane; clipped, may become empty. */
struct pane pane_part(struct pane p, int row, int col, int rows, int cols);
/* Takes rows off the top; *p keeps the rest. */
struct pane pane_take(struct pane *p, int rows);

uint32_t glyph_code(const struct canvas *c, enum glyph g);
void pane_glyph(struct pane p, int row, int col, enum style style, enum glyph g);
/* Each returns the number of cells used. Text that does not fit is cut at the
 * end; `width` < 0 means up to the edge. */
int pane_text(struct pane p, int row, int col, enum style style, const char *text);
int pane_textw(struct pane p, int row, int col, int width, enum style style, const char *text);
int pane_printf(struct pane p, int row, int col, enum style style, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Right-aligned: ends before column `end`. */
void pane_right(struct pane p, int row, int end, enum style style, const char *text);
/* A name out of a file: made printable. One too long gets initials for its first
 * components, "m.l.12.self_attn.q_proj.weight", so that layer and kind stay; where
 * that is not enough it is cut in the middle, so that its begin and its end stay. */
int pane_name(struct pane p, int row, int col, int width, enum style style, const char *name);
/* Text over several lines, broken at blanks; returns the number of rows used.
 * Where the rows do not suffice the last ends in "..". */
int pane_wrap(struct pane p, int row, int col, enum style style, const char *text);
/* The rows that it would use if there were enough. */
int pane_wrap_rows(struct pane p, int col, const char *text);
int text_cells(const struct canvas *c, const char *text);

void pane_fill(struct pane p, enum style style);
void pane_style(struct pane p, int row, int col, int width, enum style style);
void pane_rule(struct pane p, int row);
/* A frame with a title; returns the inside. */
struct pane pane_box(struct pane p, const char *title);
/* [######....] in `width` cells, brackets included. */
void pane_bar(struct pane p, int row, int col, int width, enum style style, double part);
/* A run of `count` samples 0..1 as one line of small columns. */
void pane_spark(struct pane p, int row, int col, enum style style, const double *samples, int count);
/* Column 0..8 of a histogram bar, from the bottom of a cell; 8 is full. */
void pane_column(struct pane p, int row, int col, enum style style, int eighths);
/* The terminal's cursor rests here. */
void pane_cursor(struct pane p, int row, int col, bool shown);

#endif
