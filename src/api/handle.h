/* handle.h: what is behind the handles of the public API. Private to the room. */
#ifndef SL_API_HANDLE_H
#define SL_API_HANDLE_H

#include <shardlens/shardlens.h>
#include "base/arena.h"
#include "base/map.h"
#include "base/text.h"
#include "layout/layout.h"
#include "model/model.h"
#include "plan/plan.h"
#include "run/run.h"

#include <pthread.h>

struct sl_checkpoint {
    struct sl_arena arena;
    struct sl_families families;
    struct sl_ckpt *c;
    struct sl_model *m;
    struct sl_layout layout;
    bool has_layout;
    struct sl_checkpoint_info info;
    struct sl_problems problems;         /* of all rooms, sorted */

    struct sl_logical *logicals;         size_t logical_count;
    struct sl_map by_name;               /* logical names -> index */
    size_t *logical_of;                  /* by stored tensor */

    pthread_mutex_t lock;                /* guards what is made when first asked for: */
    struct sl_layout hf;                 /* names of the same weights in Hugging Face */
    bool hf_tried;
    uint32_t *slice_order;               /* slices by tensor */
    size_t *slice_first;                 /* tensor_count + 1 */
    const struct sl_slice_info **slices; /* by tensor, as given out; NULL: not asked for yet */

    const char *options;                 /* of opening, as words of a command line; "" */
};

struct sl_plan {
    struct sl_arena arena;
    struct sl_checkpoint *ck;
    struct sl_conversion *p;
    struct sl_plan_info info;
    struct sl_plan_target *targets;
    struct { struct sl_op op; bool cast; const char *text; } words[16];    /* of copies with an op */
    size_t word_count;
    struct source_use { enum sl_source_use use; const char *why; } *uses;  /* by source tensor */
};

struct sl_job {
    struct sl_run *run;
    struct sl_checkpoint *ck;            /* checks; A of a pair */
    struct sl_checkpoint *other;         /* B of a pair, else NULL */
    bool measures;                       /* a diff */
    struct sl_arena arena;
    struct sl_problems problems;         /* checks */
    struct sl_layout plain[2];           /* comparisons by names alone */
    struct sl_conversion part;           /* a conversion of several processes: what this one does */
};

/* pairs.c: the report of a verify or diff job. */
void sl_pair_report(const struct sl_job *job, struct sl_buf *out);
/* logical.c: fills logicals and by_name. */
int sl_logicals_make(struct sl_checkpoint *ck, struct sl_error *err);
/* sizes.c: the first size of the model that tp does not fit, and how large it is; NULL when it
 * fits all that are known. */
const char *sl_tp_misfit(const struct sl_model *m, int32_t tp, int64_t *size);
/* data.c: slice_order and slice_first, once. */
int sl_slices_index(struct sl_checkpoint *ck, struct sl_error *err);

#endif
