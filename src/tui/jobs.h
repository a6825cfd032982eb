/* jobs.h: work in the background. The thread that draws never waits.
 *
 * A task is a struct with its input and room for its result. It is given to a
 * lane; each lane is one thread that does its tasks in order. When a task is
 * done it waits in a list until the drawing thread takes it: its `apply` then
 * runs there, and its `drop` frees it. A result so always goes to what asked
 * for it, which stands in the task itself.
 *
 * Threads  jobs_add, jobs_take, task_cancel: the drawing thread only.
 *          Worker threads have all signals blocked, and so have the threads
 *          that the library starts from them.
 */
#ifndef SL_TUI_JOBS_H
#define SL_TUI_JOBS_H

#include <shardlens/shardlens.h>
#include <stdbool.h>
#include <stdint.h>

struct app;
struct task {
    void (*work)(struct task *task);                    /* in the lane's thread */
    void (*apply)(struct app *app, struct task *task);  /* in the drawing thread, not when cancelled */
    void (*drop)(struct app *app, struct task *task);   /* in the drawing thread, always; frees it */
    sl_atomic_int cancel;                               /* work looks at it */
    struct task *next;
};

enum lane { LANE_MAIN,      /* opening, planning: one at a time, as the library asks */
            LANE_STATS,     /* long reads */
            LANE_BLOCKS,    /* the same, beside the statistics */
            LANE_SAMPLES,   /* small reads that nobody waits for */
            LANE_QUICK,     /* short reads and writes */
            LANE_COUNT };

struct jobs;
struct jobs *jobs_new(void);                 /* NULL when memory or threads are out */
/* Cancels all and joins the threads. False when one did not end in two
 * seconds (a file system that hangs): then nothing it uses may be freed. */
bool jobs_end(struct jobs *j);
void jobs_free(struct jobs *j);              /* after jobs_end was true */
void jobs_add(struct jobs *j, enum lane lane, struct task *task);
void task_cancel(struct task *task);         /* its apply will not run */
/* Applies all finished tasks; how many. app may be NULL while ending. */
unsigned jobs_take(struct jobs *j, struct app *app);
unsigned jobs_pending(const struct jobs *j); /* given and not yet taken */
int jobs_fd(const struct jobs *j);           /* readable when there is something to take */
void jobs_poke(struct jobs *j);              /* makes it readable; from a signal handler too */

#endif
