/* inspect.h: between the inspector's screen and its background work. */
#ifndef SL_TUI_INSPECT_H
#define SL_TUI_INSPECT_H

#include "tui/app.h"

/* Asks for what the inspector shows and does not know yet. */
void inspect_want(struct app *app);
uint64_t inspect_reading(const struct app *app);   /* bytes read by the task that runs */
/* Compares two pieces element by element; the result stands in inspect.compared. */
void inspect_compare(struct app *app, size_t a, size_t b);
/* Asks for samples of the same tensor in the layers around. */
void inspect_neighbours_want(struct app *app);

#endif
