/* keeper.h: a process that the shell waits for while another one draws, so that
 * the work can go on when the terminal is left or lost.
 *
 *     shell -- keeper -- the terminal UI, its threads, the conversion
 *
 * The keeper is made before there is any thread, does nothing but pass signals
 * on and wait, and ends with the status of the one that draws. When that one
 * lets go, it becomes a session of its own, has no terminal any more, and the
 * keeper ends at once. No program is run.
 */
#ifndef SL_TUI_KEEPER_H
#define SL_TUI_KEEPER_H

#include <stdbool.h>

/* Returns -1 in the process that is to draw (also where no keeper could be made); in the
 * keeper, when all is over, the status to end with. */
int keeper_begin(void);
/* For the one that draws: the keeper ends with `status`, and this process goes on without a
 * terminal. Works without a keeper too: then only the terminal is let go of. */
void keeper_let_go(int status);

#endif
