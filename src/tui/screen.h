/* screen.h: the terminal. The only part that knows ncurses. */
#ifndef SL_TUI_SCREEN_H
#define SL_TUI_SCREEN_H

#include "tui/app.h"

struct screen;

/* Is there a terminal that can show it? SL_USAGE, in one line with what to do,
 * where standard input or output is none or TERM cannot move the cursor.
 * Writes nothing to it. */
int screen_check(struct sl_error *err);
/* Takes the terminal, after screen_check. Signal handlers poke `wake`. */
int screen_open(const struct sl_tui_options *options, struct jobs *wake, struct screen **out, struct sl_error *err);
/* Gives it back as it was. NULL is fine. */
void screen_close(struct screen *s);

void screen_size(const struct screen *s, int *rows, int *cols);
/* Shows a canvas; only what differs from the last one goes over the wire. */
void screen_show(struct screen *s, const struct canvas *c);
void screen_forget(struct screen *s);             /* the next show draws all afresh */
/* Waits for a key, for fd, or timeout_ms (-1: no limit). False when the terminal is gone. */
bool screen_wait(struct screen *s, int fd, int timeout_ms);
/* The next key, K_NONE if there is none. */
int screen_key(struct screen *s);
void screen_mouse(const struct screen *s, int *row, int *col);   /* where the last K_CLICK was */
/* Which signal came since the last call: SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGWINCH, SIGCONT; 0 none. */
int screen_signal(void);
void screen_resize(struct screen *s);             /* asks the terminal for its size */
void screen_suspend(struct screen *s);            /* stops the process group; returns after fg */
/* Puts text on the terminal's clipboard (OSC 52). */
void screen_copy(struct screen *s, const char *text, size_t len);

#endif
