/* grid.h: the ranks as a grid: stages as rows, ep and tp as columns, or any
 * other way round. */
#ifndef SL_TUI_GRID_H
#define SL_TUI_GRID_H

#include "tui/app.h"

/* Draws it; cells that do not fit are folded, each showing its worst member. Returns rows used. */
int grid_draw(struct app *app, struct pane p);
/* The same without heads, for a pane in which the grid would be folded: rows used, 0 where it
 * is no shorter or does not fit either. */
int grid_strip(struct app *app, struct pane p);
/* What a selected cell that stands for several ranks holds; rows used, 0 or 1. */
int grid_about(const struct app *app, struct pane p, int row);
/* Which virtual chunk of the selected rank is selected, -1 where the grid does not tell them apart. */
int grid_chunk(const struct app *app);
/* Moves the selected rank by cells. */
void grid_move(struct app *app, int rows, int cols);

#endif
