/* parts.h: the steps of sl_conversion_make that have a file of their own. Private
 * to the room.
 */
#ifndef SL_PLAN_PARTS_H
#define SL_PLAN_PARTS_H

#include "plan/cover.h"

/* padding.c: appends the copies that fill the padding runs of the target: zeros, or the last row
 * of the vocabulary. */
int plan_padding(const struct sl_layout *source, const struct sl_layout *target, bool last, struct copies *list,
                 struct sl_error *err);

/* hf.c: target tensors to safetensors files: shards, headers, index. */
int plan_hf_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err);
/* hf.c: config.json, generation_config.json, tokenizer and code files. */
int plan_hf_extras(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err);
/* torch.c: one target file as a flat torch state dict; all targets as the rank files of a
 * Megatron checkpoint, with the tracker. */
int plan_torch_state_dict(struct sl_conversion *p, size_t file, struct sl_error *err);
int plan_megatron_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err);
/* dist.c: all targets, which are chunks, as a torch_dist checkpoint, with its .metadata. */
int plan_dist_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err);
/* Does Megatron number the layers of this model in names, instead of stacking them? */
bool plan_dist_is_indexed(const struct sl_conversion *p);
int plan_add_extra(struct sl_conversion *p, const struct sl_out_extra *extra, struct sl_error *err);

/* saving.c */

/* What the checkpoint that is written is called and made of. */
struct saving {
    struct sl_conversion *p;
    const struct sl_want *want;
    const struct sl_value *args;
    int64_t iteration;
    bool release;
    const char *folder;                  /* "iter_0000500", "release" */
    struct sl_error *err;
};
/* Fills in folder, iteration and args; p, want and err are given. */
int saving_begin(struct saving *s);
/* The members of the top dict that stand beside the weights. */
void saving_pickle_common(struct sl_pickler *k, const struct saving *s);
/* The same args as the process that writes this rank has them. */
int saving_args_of_rank(struct saving *s, const struct sl_rank *r);
int saving_add_tracker(struct saving *s);

/* left.c: what the target does not get, and what should be known about it. */
int plan_left_out(struct sl_conversion *p, struct sl_error *err);
int plan_check_casts(const struct sl_conversion *p, struct sl_error *err);
void plan_notes(struct sl_conversion *p, const struct sl_want *want);
int plan_proof_text(struct sl_conversion *p, struct sl_error *err);

/* hash.c: fills p->hash. */
int plan_hash(struct sl_conversion *p, struct sl_error *err);

#endif
