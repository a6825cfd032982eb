/* detective.h: what the weights themselves show of the order of their rows,
 * asked for in the background when somebody looks. */
#ifndef SL_TUI_DETECTIVE_H
#define SL_TUI_DETECTIVE_H

#include "tui/cells.h"
#include "tui/jobs.h"
#include <shardlens/shardlens.h>

struct app;

struct detective_state {
    struct sl_layout_report *report;      /* NULL: not known yet */
    bool failed;
    struct sl_error error;
    struct task *task;
    int below;                            /* rows that did not fit when last drawn */
};

/* Asks once for each checkpoint: it reads the attention and gated matrices of some layers. */
void detective_want(struct app *app);
void detective_forget(struct app *app);
/* Rows that the findings about a logical tensor stand out in; scrolled by `skip` rows. */
void detective_draw(struct app *app, struct pane p, const struct sl_logical *l, int skip);

#endif
