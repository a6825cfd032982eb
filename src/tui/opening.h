/* opening.h: opening a checkpoint, checking it, saving text: work that is not
 * of one screen. */
#ifndef SL_TUI_OPENING_H
#define SL_TUI_OPENING_H

#include <stdbool.h>

struct app;
struct sl_buf;

void open_begin(struct app *app);              /* names of the folder, then headers */
void open_names_free(struct app *app);
void check_begin(struct app *app, bool deep);
void check_finished(struct app *app);
void save_screen(struct app *app, const char *path);
/* Writes text to a new file in the background and says so; takes the text. */
/* The same over whatever was there before, in silence. */
void save_copy(struct app *app, const char *path, struct sl_buf *text);
void save_text(struct app *app, const char *path, struct sl_buf *text, const char *what);

#endif
