/* list.h: which row of a list is selected and which part of it is seen. */
#ifndef SL_TUI_LIST_H
#define SL_TUI_LIST_H

#include <stddef.h>

struct list { size_t count, selected, top; };

/* Moves the selection by delta rows, stopping at the ends. */
void list_move(struct list *l, ptrdiff_t delta);
void list_count(struct list *l, size_t count);
/* Scrolls so that the selection is among `rows` visible rows: by rows, or at
 * the edges by half or whole pages. Where a side pane keeps the terminal from
 * scrolling a region, pages redraw far less in all. */
enum list_scroll { LIST_ROWS, LIST_HALVES, LIST_PAGES };
void list_show(struct list *l, int rows, enum list_scroll jump);

#endif
