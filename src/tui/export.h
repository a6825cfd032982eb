/* export.h: a table of results as text, Markdown, CSV: what w saves and y copies. */
#ifndef SL_TUI_EXPORT_H
#define SL_TUI_EXPORT_H

#include "base/text.h"

enum export_format { EXPORT_TEXT, EXPORT_MARKDOWN, EXPORT_CSV, EXPORT_JSON };
/* By the ending of a path: .md, .csv, .json; else text. */
enum export_format export_format_of(const char *path);

#define EXPORT_COLUMNS 16
#define EXPORT_FACTS 12
struct export_table {
    const char *title;
    struct { const char *name; char text[600]; } facts[EXPORT_FACTS];   /* above the table */
    size_t fact_count;
    const char *columns[EXPORT_COLUMNS];
    size_t column_count, row_count;
    /* Appends one cell; texts from files are made printable by it. */
    void (*cell)(const void *arg, size_t row, size_t column, struct sl_buf *out);
    const void *arg;
};
void export_fact(struct export_table *t, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Not JSON: that is the library's. */
void export_write(const struct export_table *t, enum export_format format, struct sl_buf *out);

#endif
