/* tui.h: the terminal UI: a view of what the public API does.
 *
 * Screens are functions from the state of the program (struct app) to cells
 * (a character and a style). They know neither curses nor threads: screen.c
 * puts cells on a terminal and reads keys, jobs.c runs the work. So the same
 * screens can be drawn without a terminal, from a script of keys.
 *
 * Uses include/shardlens and src/base, nothing else.
 */
#ifndef SL_TUI_TUI_H
#define SL_TUI_TUI_H

#include <shardlens/shardlens.h>

struct sl_buf;

struct sl_tui_options {
    const char *path;                     /* a checkpoint: folder or file; with attach: its source, NULL unknown */
    const char *attach;                   /* a target that another process writes: its run is shown; NULL */
    const struct sl_open_options *open;   /* NULL: none */
    bool ascii;                           /* 7-bit glyphs even in a UTF-8 locale */
    bool mono;                            /* no colours; NO_COLOR does the same */
    const char *theme;                    /* "dark", "light", "contrast", "safe"; NULL: dark */
    bool plain;                           /* lines instead of a screen; keys as of a script, a line each */
    bool slow_line;                       /* at most two redraws a second; keys are answered at once all the same */
    bool frozen;                          /* clock and free space stand still: for tests and pictures */
    const char *script;                   /* file with keys; NULL: a person at a terminal */
    const char *size;                     /* "80x24", columns x rows, with a script; NULL: that */
    const char *dump;                     /* where the last screen of a script goes; NULL: standard output */
};

/* Runs until the user quits. 0, SL_USAGE where there is no terminal that can
 * show it, 128+n after a signal; *err is filled then. Whatever ends it, the
 * terminal is as it was before. */
int sl_tui_run(const struct sl_tui_options *options, struct sl_error *err);

/* The same without a terminal: presses the keys (script.h), waiting for the
 * work between them, and appends the last screen to out as lines of text. */
int sl_tui_render(const struct sl_tui_options *options, const char *keys, int cols, int rows,
                  struct sl_buf *out, struct sl_error *err);

/* The key table as Markdown: docs/keys.md. */
void sl_tui_keys_markdown(struct sl_buf *out);

#endif
