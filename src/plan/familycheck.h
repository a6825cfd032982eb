/* familycheck.h: is a family file whole? What reading it can't see is tried on a
 * small model of the family: its layouts are made for Hugging Face and for
 * Megatron, in both spellings, at TP 1 and 2, in rank files and in torch_dist, and
 * each is proved to be covered, every element once, by the others.
 */
#ifndef SL_PLAN_FAMILYCHECK_H
#define SL_PLAN_FAMILYCHECK_H

#include "model/model.h"

struct sl_family_finding {
    enum sl_severity severity;
    long line;                           /* in the file, 0 unknown */
    const char *place;                   /* "tensors.hf, row 3", "config", "params layers.{layer}.attn.q" */
    const char *message;
};
struct sl_family_verdict {
    struct sl_arena arena;               /* of all texts */
    const char *family, *title;          /* NULL when it could not be read so far */
    bool abstract;                       /* a parent: only read, there is no model of it */
    size_t params, rules[SL_DIALECT_COUNT];      /* with those of its parents */
    struct sl_family_finding *findings;  size_t count, room;
    size_t layouts;                      /* that were proved against each other */
};

/* Reads the built-in families, the user's, and `path`, and tries it. A file that can't be read (SL_INPUT) and
 * memory that is out are errors; everything wrong with what it says is a finding. *out is filled also then. */
int sl_family_try(const char *path, struct sl_family_verdict *out, struct sl_error *err);
void sl_family_verdict_free(struct sl_family_verdict *v);

#endif
