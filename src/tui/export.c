/* export.c: one table, three spellings. */
#include "tui/export.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum export_format export_format_of(const char *path)
{
    return sl_text_ends(path, ".json") ? EXPORT_JSON : sl_text_ends(path, ".md") ? EXPORT_MARKDOWN : sl_text_ends(path, ".csv") ? EXPORT_CSV : EXPORT_TEXT;
}

void export_fact(struct export_table *t, const char *name, const char *format, ...)
{
    va_list args;
    char raw[sizeof t->facts[0].text];
    if (t->fact_count == EXPORT_FACTS)
        return;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    t->facts[t->fact_count].name = name;
    sl_text_printable(raw, strlen(raw), t->facts[t->fact_count].text, sizeof t->facts[0].text);
    t->fact_count++;
}

static const char *cell_text(const struct export_table *t, size_t row, size_t column, struct sl_buf *cell)
{
    sl_buf_clear(cell);
    t->cell(t->arg, row, column, cell);
    return cell->data ? cell->data : "";
}

/* A field with a comma, a quote or a line end stands in quotes; one that a spreadsheet would
 * calculate begins with a blank, unless it is a number. */
static void csv_field(const char *text, struct sl_buf *out)
{
    char *end;
    strtod(text, &end);
    const bool number = *text && !*end, formula = !number && *text && strchr("=+-@", *text);
    if (!formula && !strpbrk(text, ",\"\r\n")) {
        sl_buf_str(out, text);
        return;
    }
    sl_buf_str(out, formula ? "\" " : "\"");
    for (; *text; text++)
        sl_buf_str(out, *text == '"' ? "\"\"" : (char[]){ *text, '\0' });
    sl_buf_char(out, '"');
}

static void write_csv(const struct export_table *t, struct sl_buf *out)
{
    struct sl_buf cell = { 0 };
    for (size_t c = 0; c < t->column_count; c++) {
        sl_buf_str(out, c ? "," : "");
        csv_field(t->columns[c], out);
    }
    sl_buf_char(out, '\n');
    for (size_t r = 0; r < t->row_count; r++) {
        for (size_t c = 0; c < t->column_count; c++) {
            sl_buf_str(out, c ? "," : "");
            csv_field(cell_text(t, r, c, &cell), out);
        }
        sl_buf_char(out, '\n');
    }
    sl_buf_free(&cell);
}

static void markdown_text(const char *text, struct sl_buf *out)
{
    for (; *text; text++)
        sl_buf_str(out, strchr("|\\`*_<", *text) ? (char[]){ '\\', *text, '\0' } : (char[]){ *text, '\0' });
}

static void write_markdown(const struct export_table *t, struct sl_buf *out)
{
    struct sl_buf cell = { 0 };
    sl_buf_printf(out, "# %s\n\n", t->title);
    for (size_t i = 0; i < t->fact_count; i++) {
        sl_buf_printf(out, "- %s: ", t->facts[i].name);
        markdown_text(t->facts[i].text, out);
        sl_buf_char(out, '\n');
    }
    sl_buf_str(out, "\n|");
    for (size_t c = 0; c < t->column_count; c++) {
        sl_buf_char(out, ' ');
        markdown_text(t->columns[c], out);
        sl_buf_str(out, " |");
    }
    sl_buf_str(out, "\n|");
    for (size_t c = 0; c < t->column_count; c++)
        sl_buf_str(out, " --- |");
    for (size_t r = 0; r < t->row_count; r++) {
        sl_buf_str(out, "\n|");
        for (size_t c = 0; c < t->column_count; c++) {
            sl_buf_char(out, ' ');
            markdown_text(cell_text(t, r, c, &cell), out);
            sl_buf_str(out, " |");
        }
    }
    sl_buf_char(out, '\n');
    sl_buf_free(&cell);
}

static void write_text(const struct export_table *t, struct sl_buf *out)
{
    size_t width[EXPORT_COLUMNS];
    struct sl_buf cell = { 0 };
    for (size_t c = 0; c < t->column_count; c++) {
        width[c] = strlen(t->columns[c]);
        for (size_t r = 0; r < t->row_count; r++) {
            const size_t len = strlen(cell_text(t, r, c, &cell));
            width[c] = len > width[c] ? len : width[c];
        }
    }
    sl_buf_printf(out, "%s\n", t->title);
    for (size_t i = 0; i < t->fact_count; i++)
        sl_buf_printf(out, "%-10s %s\n", t->facts[i].name, t->facts[i].text);
    sl_buf_char(out, '\n');
    for (size_t r = 0; r <= t->row_count; r++) {
        for (size_t c = 0; c < t->column_count; c++) {
            const char *text = r ? cell_text(t, r - 1, c, &cell) : t->columns[c];
            sl_buf_printf(out, "%s%-*s", c ? "  " : "", c + 1 < t->column_count ? (int)width[c] : 0, text);
        }
        sl_buf_char(out, '\n');
    }
    sl_buf_free(&cell);
}

void export_write(const struct export_table *t, enum export_format format, struct sl_buf *out)
{
    static void (*const writers[])(const struct export_table *, struct sl_buf *) = {
        [EXPORT_TEXT] = write_text, [EXPORT_MARKDOWN] = write_markdown, [EXPORT_CSV] = write_csv, [EXPORT_JSON] = write_text,
    };
    writers[format](t, out);
}
