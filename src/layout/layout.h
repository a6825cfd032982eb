/* layout.h: slices. A param is a weight of the model with a canonical name and
 * n-d shape; a layout says which box of which param lies where in which stored
 * tensor:
 *
 *     element at canonical index x, lo <= x < hi, lies at element
 *         base + sum_a (x[a] - lo[a]) * stride[a]
 *     of the tensor, counted in row-major order of the tensor's own shape, and is
 *     stored as the slice's op says (op.h: as it is, but for a few kinds of weights).
 *
 * Every convention is a choice of boxes and strides; rules of a family (model/
 * family.h) are turned into slices here and nowhere else. The same function
 * serves a checkpoint that was read and one that is to be written.
 */
#ifndef SL_LAYOUT_LAYOUT_H
#define SL_LAYOUT_LAYOUT_H

#include "base/map.h"
#include "base/text.h"
#include "layout/map.h"
#include "model/model.h"

struct sl_param {
    const char *name;                    /* "layers.7.attn.q" */
    uint32_t ndim;
    int64_t shape[SL_AXES];
    const char *axis[SL_AXES];           /* "group", "q_per_group", "head", "hidden" */
    int32_t layer, expert;               /* -1 */
    bool optional;                       /* source layouts: may be absent as a whole */
};
struct sl_unused { uint32_t tensor; const char *why; };

struct sl_layout {
    const struct sl_param *params;       size_t param_count;
    struct sl_map param_index;           /* name -> index */
    const struct sl_tensor *tensors;     size_t tensor_count;   /* the checkpoint's, or made */
    const struct sl_slice *slices;       size_t slice_count;    /* ordered by param, then tensor */
    const size_t *param_first;           /* param_count + 1: where its slices begin */
    const struct sl_padding *padding;    size_t padding_count;
    const struct sl_unused *unused;      size_t unused_count;   /* tensors left out, with the reason */
    const char *const *rule;             /* by tensor: label of the rule, for people; NULL: unused */
    const uint8_t *stacked;              /* by tensor: how many of its first axes count layers and experts;
                                            NULL: none do */
    const struct sl_rank *ranks;         size_t rank_count;     /* the checkpoint's, or made; what
                                            sl_tensor.rank counts; 0 where the dialect has none */
    const struct sl_tensor *misfit;      /* where sl_layout_source failed because this tensor's shape does not
                                            fit; the message then begins with its name */
    bool misfit_counts;                  /* the misfit is an expert beyond those that there should be */
};

/* The params of a model, from its family: every layer and expert, in the order of the family
 * file, layer by layer. The embedding has as many rows as the true vocabulary, or as the
 * padded one if that is unknown. */
int sl_layout_params(const struct sl_model *m, struct sl_arena *arena,
                     const struct sl_param **params, size_t *count, struct sl_error *err);

/* Slices of the checkpoint that was read. Every tensor either has a rule or is in `unused`
 * with the reason. A tensor whose shape does not fit its rule is SL_INPUT naming both shapes
 * and the arithmetic. Chunks of one array (torch_dist) are placed by their global offset. */
int sl_layout_source(const struct sl_model *m, const struct sl_ckpt *c, struct sl_arena *arena,
                     struct sl_layout *out, struct sl_error *err);

/* The layout of a checkpoint to be written: makes its tensors (names, shapes, ranks; file
 * and offset are the plan's business) and their slices. */
struct sl_target_spec {
    enum sl_dialect dialect;
    const char *spec;                    /* "te", "local" for Megatron */
    const char *experts;                 /* "te_grouped", "grouped", "local_experts" (or "local") */
    struct sl_parallel parallel;         /* Megatron targets; all 1 for HF */
    const int32_t *stage_layers;         /* layers per stage, stage = chunk * pp + pp rank; NULL: even */
    bool dist;                           /* torch_dist: see below; parallel cuts nothing then */
    bool indexed;                        /* torch_dist: layers are numbered in names, not stacked */
    uint64_t chunk_bytes;                /* torch_dist: arrays are cut into chunks of about this, 0: 64 MiB */
    int64_t padded_vocab;                /* rows of the stored embedding (all ranks); 0: no padding */
    enum sl_dtype dtype;                 /* of floating weights; UNKNOWN: as the source's (given below) */
    const struct sl_layout *source;      /* its params, their dtypes, and which are absent; NULL: all
                                            params of the model, dtype as said or bf16 */
};
/* For torch_dist the tensors are chunks: several have one name, and global_shape and global_offset
 * place each in the array of that name. All layers are in one array, and all experts of a layer;
 * a chunk is of one layer and one expert, and larger ones are cut along the axis that tensor
 * parallel ranks share, so that each rank reads little more than it needs.
 * SL_USAGE when the parallel sizes do not divide what they cut: says what by what. */
int sl_layout_target(const struct sl_model *m, const struct sl_target_spec *spec,
                     struct sl_arena *arena, struct sl_layout *out, struct sl_error *err);

/* A layout in which every tensor is a param of its own, for models no family knows. */
int sl_layout_identity(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_layout *out,
                       struct sl_error *err);
void sl_layout_free(struct sl_layout *l);      /* the map only; the rest is the arena's */

#endif
