/* terminal.h: the real program in a pseudo-terminal, its screen read by libvterm. */
#ifndef SL_TESTS_TUI_TERMINAL_H
#define SL_TESTS_TUI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vterm.h>

struct terminal {
    pid_t pid;
    int fd;                      /* the master side */
    int rows, cols;
    VTerm *vt;
    VTermScreen *screen;
    size_t bytes;                /* written by the program so far */
    bool colours;                /* an SGR colour was among them */
    bool alternate;              /* in the alternate screen now */
    char *log; size_t log_len;   /* all bytes, zeros among them: see terminal_said */
};

/* Environment besides what is there: up to four "NAME=VALUE", NULL ends. argv as for execv. */
void terminal_start(struct terminal *t, int cols, int rows, const char *const *env, const char *const *argv);
/* Reads until nothing came for `quiet_ms`, at most `limit_ms`; returns the bytes read. */
size_t terminal_settle(struct terminal *t, int quiet_ms, int limit_ms);
void terminal_type(struct terminal *t, const char *keys);
/* Waits until the text stands on the screen; false after limit_ms. */
bool terminal_expect(struct terminal *t, const char *text, int limit_ms);
bool terminal_shows(const struct terminal *t, const char *text);
/* Was this among all that the program ever sent? */
bool terminal_said(const struct terminal *t, const char *text);
/* The screen as lines of text; free() it. */
char *terminal_text(const struct terminal *t);
void terminal_resize(struct terminal *t, int cols, int rows);
/* Waits for the end: the exit status, 1000 + signal, or -1 after limit_ms (it is killed then).
 * What it said and showed can still be asked until terminal_drop. */
int terminal_wait(struct terminal *t, int limit_ms);
void terminal_drop(struct terminal *t);
/* Both. */
int terminal_end(struct terminal *t, int limit_ms);

#endif
