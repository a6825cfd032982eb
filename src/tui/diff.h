/* diff.h: the other checkpoint and how far it is: what the files of that screen share.
 *
 *     diff.c        opening the other one, the job, order of rows, keys, export
 *     diff_view.c   the screen
 */
#ifndef SL_TUI_DIFF_H
#define SL_TUI_DIFF_H

#include "tui/app.h"

/* How a row reads: '!' missing, of other shape or far, '~' different, '=' equal, '.' not compared yet. */
char diff_sign(const struct sl_result *r);
const struct sl_result *diff_row(const struct app *app, size_t i);     /* in the order shown */
struct diff_counts { size_t equal, different, only_a, only_b, shape, pending; };
struct diff_counts diff_counts(const struct app *app);
const char *const *diff_orders(void);                                  /* names of orders, NULL ends */
void diff_draw(struct app *app, struct pane p);

#endif
