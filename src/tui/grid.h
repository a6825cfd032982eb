/* grid.h: the ranks as a grid: stages as rows, ep and tp as columns. */
#ifndef SL_TUI_GRID_H
#define SL_TUI_GRID_H

#include "tui/app.h"

/* Draws it; cells that do not fit are folded, each showing its worst member. Returns rows used. */
int grid_draw(struct app *app, struct pane p);
/* Moves the selected rank by cells. */
void grid_move(struct app *app, int rows, int cols);

#endif
