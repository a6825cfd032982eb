/* journal.h: what an unfinished conversion has already done, and who is at it.
 *
 * A text file beside the partial target; an flock on it keeps a second run away.
 * Each line begins with the XXH32 of the rest of it, so a torn last line is known
 * for what it is:
 *
 *     b1946ac9 shardlens-journal 1
 *     591785b7 plan 6e340b9cffb37a989ca544e6bb780a2c
 *     0c4f6b29 source 8f14e45fceea167a        sizes and times of the source files
 *     c81e728d holder node17 4711             host and process that write now; the last one counts
 *     7d865e95 tensor 12 c9f0f895fb98ab91     target tensor 12 has been written; its XXH3-64
 *     45c48cce file 0                         output file 0 is on the disk
 *     6512bd43 commit 1234567                 all is whole; inode of what will be renamed
 *
 * A line is written after what it tells of. Whoever resumes believes none of
 * them: pieces are read again and compared with their checksums, so lines of
 * tensors need no fsync of their own. Journals of other versions are refused.
 */
#ifndef SL_RUN_JOURNAL_H
#define SL_RUN_JOURNAL_H

#include "base/arena.h"
#include <pthread.h>
#include <shardlens/types.h>

struct sl_journal {
    int fd;                              /* -1 closed */
    const char *path;                    /* borrowed */
    bool made;                           /* was not there before */
    uint64_t end;                        /* guarded by lock */
    pthread_mutex_t lock;
};
/* What a journal tells. */
struct sl_journal_state {
    char plan[40];                       /* "": it has no whole head and promises nothing */
    uint64_t source;
    uint64_t commit;                     /* inode, 0: no commit was begun */
    char host[72]; long pid;             /* holder; pid 0: not told */
    const uint64_t *checksum;            /* by target tensor */
    const bool *written;                 /* by target tensor */
    size_t count;                        /* of written */
    uint64_t end;                        /* where the good lines end */
};

/* Opens or makes it and takes the lock. SL_WRITE when another process has it (where: target),
 * or when something else of that name is in the way. */
int sl_journal_open(struct sl_journal *j, const char *path, const char *target, struct sl_error *err);
/* Reads it; SL_WRITE when it is of another version. */
int sl_journal_read(const struct sl_journal *j, size_t tensors, struct sl_arena *arena,
                    struct sl_journal_state *state, struct sl_error *err);
/* What a journal says without knowing its plan, by its path and without its lock. SL_INPUT when there is none. */
struct sl_journal_count { char plan[40], host[72]; long pid; uint64_t tensors; };
int sl_journal_count(const char *path, struct sl_journal_count *out);
/* Empties it and writes its head, which is on the disk when this returns. */
int sl_journal_begin(struct sl_journal *j, const char *plan, uint64_t source, struct sl_error *err);
/* Goes on behind the good lines. */
int sl_journal_go_on(struct sl_journal *j, const struct sl_journal_state *state, struct sl_error *err);
/* Appends one line; any thread. */
int sl_journal_add(struct sl_journal *j, struct sl_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int sl_journal_sync(struct sl_journal *j, struct sl_error *err);
/* Lets go of the lock; before that, with remove, of the file. */
void sl_journal_close(struct sl_journal *j, bool remove);

#endif
