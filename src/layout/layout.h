/* layout.h: slices. A param is a weight of the model with a canonical name and
 * n-d shape; a layout says which box of which param lies where in which stored
 * tensor:
 *
 *     element at canonical index x, lo <= x < hi, lies at element
 *         base + sum_a (x[a] - lo[a]) * stride[a]
 *     of the tensor, counted in row-major order of the tensor's own shape.
 *
 * Every convention is a choice of boxes and strides; rules of a family (model/
 * family.h) are turned into slices here and nowhere else. The same function
 * serves a checkpoint that was read and one that is to be written.
 */
#ifndef SL_LAYOUT_LAYOUT_H
#define SL_LAYOUT_LAYOUT_H

#include "model/model.h"
#include "base/map.h"

#define SL_AXES 6                        /* most axes a param may have */

struct sl_param {
    const char *name;                    /* "layers.7.attn.q" */
    uint32_t ndim;
    int64_t shape[SL_AXES];
    const char *axis[SL_AXES];           /* "group", "q_per_group", "head", "hidden" */
    int32_t layer, expert;               /* -1 */
};
struct sl_slice {
    uint32_t param;                      /* index into layout params */
    uint32_t tensor;                     /* index into layout tensors */
    int64_t base;                        /* elements */
    int64_t lo[SL_AXES], hi[SL_AXES];
    int64_t stride[SL_AXES];             /* elements */
};
/* Rows of a tensor that hold no weight (vocabulary padding): a box of the tensor itself. */
struct sl_padding { uint32_t tensor; int64_t base, count; };   /* elements, contiguous */

struct sl_unused { uint32_t tensor; const char *why; };

struct sl_layout {
    const struct sl_param *params;       size_t param_count;
    struct sl_map param_index;           /* name -> index */
    const struct sl_tensor *tensors;     size_t tensor_count;   /* the checkpoint's, or made */
    const struct sl_slice *slices;       size_t slice_count;    /* ordered by param, then tensor */
    const size_t *param_first;           /* param_count + 1: where its slices begin */
    const struct sl_padding *padding;    size_t padding_count;
    const struct sl_unused *unused;      size_t unused_count;   /* tensors left out, with the reason */
    const char *const *rule;             /* by tensor: label of the rule, for people */
};

/* The params of a model, from its family: every layer and expert. vocab is the number of
 * rows the embedding has in canonical space (true vocabulary, or padded if unknown). */
int sl_layout_params(const struct sl_model *m, struct sl_arena *arena,
                     const struct sl_param **params, size_t *count, struct sl_error *err);

/* Slices of the checkpoint that was read. Tensors no rule knows are left out with "no rule
 * knows this name" unless they are _extra_state, optimizer, or on the family's drop list.
 * A tensor whose shape does not fit its rule is SL_INPUT naming both shapes. */
int sl_layout_source(const struct sl_model *m, const struct sl_ckpt *c, struct sl_arena *arena,
                     struct sl_layout *out, struct sl_error *err);

/* The layout of a checkpoint to be written: makes its tensors (names, shapes, ranks; file
 * and offset are the plan's business) and their slices. */
struct sl_target_spec {
    enum sl_dialect dialect;
    const char *spec;                    /* "te", "local" for Megatron */
    const char *experts;                 /* "te_grouped", "local" */
    struct sl_parallel parallel;         /* Megatron targets; all 1 for HF */
    const int32_t *stage_layers;         /* layers per (pp, vpp) stage in placement order, NULL: even */
    int64_t padded_vocab;                /* rows of the stored embedding (all ranks) */
    enum sl_dtype dtype;                 /* UNKNOWN: as the source's (given below) */
    const struct sl_layout *source;      /* dtype of each param comes from here */
};
int sl_layout_target(const struct sl_model *m, const struct sl_target_spec *spec,
                     struct sl_arena *arena, struct sl_layout *out, struct sl_error *err);

/* A layout in which every tensor is a param of its own, for models no family knows. */
int sl_layout_identity(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_layout *out,
                       struct sl_error *err);
void sl_layout_free(struct sl_layout *l);      /* the map only; the rest is the arena's */

/* ---- the map language, for tests and for models --check ------------------ */

/* Slices of one whole stored tensor by its map. `shape` is filled (ndim axes). Params are
 * named by `find` (returns index or -1). Then cut: rank r of n along axis. */
struct sl_map_env {
    int (*dim)(void *arg, const char *name, size_t len, int64_t *value, struct sl_error *err);
    int64_t (*find)(void *arg, const char *param, size_t len, const struct sl_param **p);
    void *arg;
};
int sl_map_slices(const char *map, const struct sl_map_env *env, int32_t cut_axis, int32_t cut_index,
                  int32_t cut_count, struct sl_arena *arena, struct sl_slice **slices, size_t *count,
                  struct sl_padding **padding, size_t *padding_count,
                  int64_t shape[SL_AXES], uint32_t *ndim, struct sl_error *err);

#endif
