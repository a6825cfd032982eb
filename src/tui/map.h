/* map.h: what the files of the map share: map.c (lists, keys, ranges), map_view.c
 * (the screen). */
#ifndef SL_TUI_MAP_H
#define SL_TUI_MAP_H

#include "tui/app.h"

size_t side_count(const struct app *app, enum map_side side);
const char *side_name(const struct app *app, enum map_side side, size_t i);
size_t map_row(const struct app *app, enum map_side side, size_t row);     /* of the row in the list, which may be filtered */
bool map_selected(const struct app *app, size_t *out);
/* "read", "copy", "left out", "unclaimed"; *why "" where that says all. A plan must be there. */
const char *source_use(const struct app *app, size_t tensor, const char **why);
/* What the selected row is made of, or becomes; NULL where nothing is selected. */
const struct traced *map_traced(struct app *app);
/* Do the source's offsets count from where an item begins, and not in the file? */
bool in_item(const struct app *app);

void map_draw(struct app *app, struct pane p);

#endif
