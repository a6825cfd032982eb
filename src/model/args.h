/* args.h: the args Namespace of a Megatron checkpoint that is to be written, by
 * the table megatron_args.json: complete enough for --use-checkpoint-args, and
 * made of plain values only, so that torch.load(weights_only=True) takes it when
 * argparse.Namespace is allowed.
 */
#ifndef SL_MODEL_ARGS_H
#define SL_MODEL_ARGS_H

#include "model/model.h"

/* What the checkpoint that is written will be. */
struct sl_megatron_run {
    struct sl_parallel parallel;
    int64_t vocab;                       /* true one; -1 unknown: the attribute is None */
    int64_t padded_vocab, vocab_divisor;
    bool dist;                           /* torch_dist, not mp_rank folders */
    enum sl_dtype dtype;                 /* of most weights */
    int64_t iteration;
    const char *pp_layout;               /* pipeline_model_parallel_layout, NULL when even */
    const char *spec;                    /* "te", "local" */
    const char *experts;                 /* "te_grouped", "grouped", "local_experts", NULL */
};

/* A DICT of type argparse.Namespace, in the arena. source: args of the source, whose other
 * attributes are kept, or NULL. */
int sl_model_megatron_args(const struct sl_model *m, const struct sl_value *source,
                           const struct sl_megatron_run *run, struct sl_arena *arena,
                           const struct sl_value **args, struct sl_error *err);

/* The number of the process that would write a rank of such a run: args.rank of its file. 0 when there is none. */
int64_t sl_model_megatron_writer(const struct sl_value *args, const struct sl_parallel *p, const struct sl_rank *r);

/* Names of modules (with {layer}) that have an _extra_state entry under a spelling. */
const struct sl_value *sl_model_extra_state(const char *spec);
/* What has one in a torch_dist checkpoint: a name, or {"module": name, "beside": name of a module that
 * has weights}. */
const struct sl_value *sl_model_dist_objects(const char *spec);
/* The content_metadata of a torch_dist checkpoint. */
const struct sl_value *sl_model_content_metadata(void);

#endif
