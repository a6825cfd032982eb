/* tell.h: what a conversion tells others of itself while it runs.
 *
 * DST.partial.progress lies beside the target: text, written anew every second
 * by a thread of its own, never synced, never needed by the run. The first line
 * holds the XXH32 of the rest, so a reader that comes in the middle of a write
 * knows it and looks again:
 *
 *     5e1f0c77 shardlens-progress 1
 *     holder node17 4711
 *     plan 6e340b9cffb37a989ca544e6bb780a2c
 *     source /ckpts/minicpm                        printable
 *     state 0 1 0                                  paused, draining, ended
 *     phase 1 1234 5678 3 20                       phase, bytes done and total, tensors done and total
 *     all 1234 11356                               bytes over all phases
 *     sums 3 0 1234 1234                           verified, mismatched, read, written
 *     time 1.500 0.200 0.100 1.100                 seconds: since the start, read wait, write wait, working
 *     worker 1 12 640 1234 1 layers.0.x            phase, done, total, moved, doing, tensor
 *     recent 2 640 c9f0f895fb98ab91 layers.0.y     status, bytes, checksum, name; newest first
 *     end 130 stopped on request                   when it ended and left something to resume
 *
 * It goes away with the commit. Nothing here fails a run.
 */
#ifndef SL_RUN_TELL_H
#define SL_RUN_TELL_H

#include "run/job.h"

struct sl_tell {
    struct sl_run *run;
    const char *path, *plan, *source;    /* borrowed */
    int fd;                              /* -1: nothing is told */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;                           /* guarded by lock */
    struct sl_buf text;                  /* the thread's */
};

/* Begins to tell. A file that can't be made is no failure: t->fd is -1 then. */
void sl_tell_begin(struct sl_tell *t, struct sl_run *r, const char *path, const char *plan, const char *source);
/* Ends it. With keep the file stays and says how the run ended; else it is removed. Twice is harmless. */
void sl_tell_end(struct sl_tell *t, bool keep, int code, const struct sl_error *err);

/* Reads what a run tells; false when there is no such file or it makes no sense. */
bool sl_tell_read(const char *path, struct sl_place *out);

#endif
