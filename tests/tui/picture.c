/* picture.c: runs the program in a pseudo-terminal, presses keys, and draws
 * its screen as SVG, cell by cell.
 *
 *     picture OUT.svg 100x30 STEP... -- PROGRAM ARG...
 *
 * A step is "?text" (wait until the text stands on the screen), "~200" (wait
 * that many milliseconds) or keys as they are typed. */
#include "terminal.c"

#define CELL_WIDTH 9
#define CELL_HEIGHT 19
#define BASELINE 15
#define MARGIN 8
#define PAPER "#16181d"
#define INK "#d8dade"

/* The eight colours of a dark terminal, then the bright ones. */
static const char *const palette[16] = {
    "#16181d", "#f0717a", "#8fce6f", "#e8c25a", "#6aa8f7", "#c792ea", "#5fd0d8", INK,
    "#5c6370", "#f0717a", "#8fce6f", "#e8c25a", "#6aa8f7", "#c792ea", "#5fd0d8", "#ffffff",
};

static const char *colour_of(VTermColor c, const char *standard, char out[8])
{
    if (VTERM_COLOR_IS_DEFAULT_FG(&c) || VTERM_COLOR_IS_DEFAULT_BG(&c))
        return standard;
    if (VTERM_COLOR_IS_INDEXED(&c) && c.indexed.idx < 16)
        return palette[c.indexed.idx];
    if (!VTERM_COLOR_IS_RGB(&c))
        return standard;
    snprintf(out, 8, "#%02x%02x%02x", c.rgb.red, c.rgb.green, c.rgb.blue);
    return out;
}

static void put_character(FILE *f, uint32_t ch)
{
    if (ch == '<' || ch == '&' || ch == '>')
        fprintf(f, "&#%u;", ch);
    else if (ch < 0x80)
        fputc((int)ch, f);
    else
        fprintf(f, "&#x%x;", ch);
}

static void draw_cell(FILE *f, const VTermScreenCell *cell, int row, int col)
{
    char a[8], b[8];
    int x = MARGIN + col * CELL_WIDTH, y = MARGIN + row * CELL_HEIGHT;
    const char *fg = colour_of(cell->fg, INK, a), *bg = colour_of(cell->bg, PAPER, b);
    if (cell->attrs.reverse) {
        const char *swap = fg;
        fg = bg;
        bg = swap;
    }
    if (strcmp(bg, PAPER))
        fprintf(f, "<rect x='%d' y='%d' width='%d' height='%d' fill='%s'/>\n", x, y, CELL_WIDTH * cell->width, CELL_HEIGHT, bg);
    uint32_t ch = cell->chars[0];
    if (!ch || ch == ' ' || ch == UINT32_MAX)
        return;
    fprintf(f, "<text x='%d' y='%d' fill='%s'%s%s>", x, y + BASELINE, fg, cell->attrs.bold ? " font-weight='bold'" : "",
            cell->attrs.underline ? " text-decoration='underline'" : "");
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell->chars[i]; i++)
        put_character(f, cell->chars[i]);
    fputs("</text>\n", f);
}

/* Blocks and lines are drawn as shapes, so that they meet whatever the font. */
static bool draw_shape(FILE *f, const VTermScreenCell *cell, int row, int col)
{
    char a[8];
    uint32_t ch = cell->chars[0];
    double x = MARGIN + col * CELL_WIDTH, y = MARGIN + row * CELL_HEIGHT, w = CELL_WIDTH, h = CELL_HEIGHT;
    const char *fg = colour_of(cell->fg, INK, a);
    if (cell->attrs.reverse)
        return false;
    if (ch >= 0x2581 && ch <= 0x2588) {
        double part = h * (ch - 0x2580) / 8;
        fprintf(f, "<rect x='%g' y='%g' width='%g' height='%g' fill='%s'/>\n", x, y + h - part, w, part, fg);
        return true;
    }
    static const struct { uint32_t ch; bool left, right, up, down; } lines[] = {
        { 0x2500, true, true, false, false }, { 0x2502, false, false, true, true }, { 0x250c, false, true, false, true },
        { 0x2510, true, false, false, true }, { 0x2514, false, true, true, false }, { 0x2518, true, false, true, false },
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (lines[i].ch != ch)
            continue;
        double cx = x + w / 2, cy = y + h / 2;
        double x0 = lines[i].left ? x : cx, x1 = lines[i].right ? x + w : cx, y0 = lines[i].up ? y : cy, y1 = lines[i].down ? y + h : cy;
        if (x1 > x0)
            fprintf(f, "<rect x='%g' y='%g' width='%g' height='1' fill='#5c6370'/>\n", x0, cy, x1 - x0);
        if (y1 > y0)
            fprintf(f, "<rect x='%g' y='%g' width='1' height='%g' fill='#5c6370'/>\n", cx, y0, y1 - y0);
        return true;
    }
    return false;
}

static int draw(const struct terminal *t, const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return perror(path), 1;
    int width = 2 * MARGIN + t->cols * CELL_WIDTH, height = 2 * MARGIN + t->rows * CELL_HEIGHT;
    fprintf(f, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='DejaVu Sans Mono' font-size='15'>\n"
               "<rect width='%d' height='%d' fill='" PAPER "'/>\n", width, height, width, height);
    for (int row = 0; row < t->rows; row++)
        for (int col = 0; col < t->cols; col++) {
            VTermScreenCell cell;
            vterm_screen_get_cell(t->screen, (VTermPos){ .row = row, .col = col }, &cell);
            if (!draw_shape(f, &cell, row, col))
                draw_cell(f, &cell, row, col);
        }
    fputs("</svg>\n", f);
    return fclose(f) ? (perror(path), 1) : 0;
}

static int step(struct terminal *t, const char *what)
{
    if (*what == '?' && !terminal_expect(t, what + 1, 60000)) {
        char *text = terminal_text(t);
        fprintf(stderr, "picture: never saw \"%s\"; the screen is\n%s", what + 1, text);
        free(text);
        return 1;
    }
    if (*what == '~')
        terminal_settle(t, atoi(what + 1), atoi(what + 1));
    else if (*what != '?')
        terminal_type(t, what);
    return 0;
}

int main(int argc, char **argv)
{
    struct terminal t;
    int cols, rows, program = 3, bad = 0;
    while (program < argc && strcmp(argv[program], "--"))
        program++;
    if (program + 1 >= argc || sscanf(argv[2], "%dx%d", &cols, &rows) != 2) {
        fprintf(stderr, "usage: picture OUT.svg 100x30 STEP... -- PROGRAM ARG...\n");
        return 2;
    }
    terminal_start(&t, cols, rows, NULL, (const char *const *)argv + program + 1);
    for (int i = 3; i < program && !bad; i++)
        bad = step(&t, argv[i]);
    terminal_settle(&t, 300, 1500);
    bad = bad || draw(&t, argv[1]);
    terminal_type(&t, "\033qy");
    terminal_end(&t, 10000);
    return bad;
}
