/* target.h: the place a conversion writes to: its lock, its partial form, and
 * the one moment at which it becomes the target.
 *
 *     DST                        absent, or the old target, until the commit
 *     DST.partial-1a2b3c4d       what is being written; digits of the plan's hash
 *     .DST.partial-1a2b3c4d      the same for a target that is one file
 *     DST.partial.journal        what is done, who is at it; locked. The last to go
 *     DST.partial.progress       what the run tells others of itself (tell.h), if it does
 *     DST.old-1a2b3c4d           the old target, where folders can't be exchanged
 *
 * Calling sequence: sl_target_open; write below `partial`; sl_target_commit;
 * sl_target_close. A kill between any two system calls leaves DST as it was or
 * whole, and what is beside it is found again by name.
 *
 * Errors   SL_WRITE when the target exists, is locked, or can't be made;
 *          SL_USAGE when source and target meet; nothing is left behind then
 */
#ifndef SL_RUN_TARGET_H
#define SL_RUN_TARGET_H

#include "plan/plan.h"
#include "run/journal.h"

struct sl_target {
    const char *path;                    /* DST, symbolic links of its last part followed */
    const char *parent;
    const char *partial;                 /* where to write: DST itself once committed */
    const char *journal_path, *progress_path;
    const char *left, *old_path;         /* where an old target is after the commit */
    bool single;                         /* one file */
    bool force;
    bool resumed;                        /* an unfinished run is gone on with */
    bool committed;                      /* the rename is done, now or by the earlier run */
    struct sl_journal journal;
    struct sl_journal_state state;       /* when resumed */
    uint32_t parts;                      /* DST.part-I-of-N that it is made of, removed once it is there; 0 */
    struct sl_arena *arena;
};

/* Only the names that lie beside dst, into t, whose arena is given. SL_USAGE when it is no name for a target. */
int sl_target_names(struct sl_target *t, const char *dst, struct sl_error *err);
int sl_target_open(struct sl_target *t, const struct sl_conversion *p, const char *dst, bool force,
                   bool resume, struct sl_arena *arena, struct sl_error *err);
/* A name of the plan as a path below the partial target. NULL when memory is out. */
const char *sl_target_place(const struct sl_target *t, const char *name);
/* The rename. When it returns SL_OK the new target lasts. */
int sl_target_commit(struct sl_target *t, struct sl_error *err);
/* Lets go of the lock. Without keep, an uncommitted partial target is removed. */
void sl_target_close(struct sl_target *t, bool keep);

/* Swaps two paths at once; for tests of file systems that can't. 0 or -1 and errno. */
extern int (*sl_target_exchange)(const char *a, const char *b);

#endif
