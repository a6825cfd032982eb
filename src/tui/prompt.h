/* prompt.h: a line of text being typed, or a question of yes and no. While
 * one is open every key goes to it, so that any character can be typed. */
#ifndef SL_TUI_PROMPT_H
#define SL_TUI_PROMPT_H

#include <stdbool.h>
#include <stddef.h>

struct app;
struct pane;

enum prompt_kind { PROMPT_NONE, PROMPT_LINE, PROMPT_ASK };
struct prompt {
    enum prompt_kind kind;
    char label[256];
    char text[1024];
    size_t len, at;                                   /* bytes; at: the cursor */
    void (*changed)(struct app *app, const char *text);             /* after each character, may be NULL */
    void (*done)(struct app *app, const char *text, bool accepted); /* ASK: text is "" */
};

void prompt_line(struct app *app, const char *label, const char *text,
                 void (*changed)(struct app *, const char *), void (*done)(struct app *, const char *, bool));
void prompt_ask(struct app *app, const char *question, void (*done)(struct app *, const char *, bool));
void prompt_key(struct app *app, int key);
void prompt_draw(struct app *app, struct pane row);

#endif
