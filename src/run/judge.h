/* judge.h: what check thinks of what it read. One pass over the data fills a
 * reading of each weight; judge.c says what is wrong with one of them, siblings.c
 * what is wrong with one among others, around.c what headers and the folder tell.
 *
 * Private to check.c and its parts.
 */
#ifndef SL_RUN_JUDGE_H
#define SL_RUN_JUDGE_H

#include "run/job.h"

/* What was learnt of one weight while its bytes passed. */
struct reading {
    struct sl_stats stats;
    uint64_t hash;                       /* XXH3-64 of its elements in row-major order */
    bool whole;                          /* it was read to its end */
    bool bf16;                           /* fp32, and no element has a bit that bf16 lacks */
};

struct judge {
    struct sl_ckpt *c;
    const struct sl_layout *layout;      /* NULL: no family */
    const struct sl_model *m;
    struct sl_problems *problems;
    pthread_mutex_t lock;                /* guards problems */
    const uint32_t *tensors; size_t count;   /* the weights that are read */
    struct reading *readings;            /* by weight */
    /* By tensor of the checkpoint: a hash of the boxes of params that it holds. Two tensors of
     * one hash should hold the same. 0: no params, or no family. */
    const uint64_t *holds;
    bool *padding_differs;               /* by run of padding of the layout */
};

/* ---- findings ---- */

enum judge_severity { AS_IN_TABLE, AS_NOTE, AS_WARNING, AS_ERROR };
struct finding {
    const char *code;
    const struct sl_tensor *t;           /* the place; or */
    const char *where;
    enum judge_severity severity;
    struct sl_problem_text more;
};
/* Adds one; any thread. */
void judge_tell(struct judge *j, const struct finding *f, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "mp_rank_01_000 decoder.layers.0..." */
void judge_place(const struct sl_ckpt *c, const struct sl_tensor *t, char *out, size_t room);

/* ---- judge.c: one tensor ---- */

/* Makes `readings`, `holds` and `padding_differs` for the weights given. */
int judge_prepare(struct judge *j, struct sl_arena *arena, struct sl_error *err);
/* NaN, Inf, all zero, constant. Any thread. */
void judge_values(struct judge *j, size_t weight);
/* Is every element of these fp32 numbers one that bf16 has too? */
bool judge_is_bf16(const void *elements, size_t count);
/* Reads a run of vocabulary padding and sets padding_differs. Any thread. */
int judge_padding(struct sl_run *r, struct sl_worker *w, struct judge *j, size_t run, struct sl_error *err);

/* ---- after the pass ---- */

void judge_paddings(struct judge *j);
void judge_bf16(struct judge *j);
/* siblings.c: one layer far from the others; shards that are copies of each other. SL_MEMORY. */
int judge_outliers(struct judge *j, struct sl_error *err);
int judge_identical(struct judge *j, struct sl_error *err);

/* ---- around.c: without data ---- */

/* Pipeline stages of different lengths, and whether args meant that. */
void judge_stages(struct judge *j);
/* What interrupted conversions left beside or in the folder. */
void judge_leftovers(struct judge *j);
/* Files that are not what they were when they were opened. */
void judge_unchanged(struct judge *j);

#endif
