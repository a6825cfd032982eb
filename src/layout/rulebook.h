/* rulebook.h: the rules of one dialect of a model, ready for use: found by the name
 * of a stored tensor, maps compiled for given parallel sizes, conditions answered.
 * Private to this room. */
#ifndef SL_LAYOUT_RULEBOOK_H
#define SL_LAYOUT_RULEBOOK_H

#include "layout/layout.h"

/* The params of one pattern: their indices by layer and expert, -1: none. */
struct param_numbers { int32_t *at; bool has_layer, has_expert; };

struct rulebook {
    const struct sl_model *model;
    struct sl_arena *arena;
    enum sl_dialect dialect;
    struct sl_parallel parallel;
    int64_t padded_vocab;
    int32_t layers, experts;             /* of the whole model */
    int32_t mtp;                         /* layers that predict further tokens, numbered after `layers` */
    const bool *moe_layer;               /* by layer, those too */
    const struct sl_rule *rules;         size_t count;
    const struct sl_stored **stored;     /* by rule: NULL until compiled */
    const struct sl_param **first_of;    /* by param rule: its first instance */
    uint32_t *rule_of;                   /* by param: its rule */
    struct param_numbers *numbers;       /* by param rule */
    struct sl_error dim_error;           /* why the last dim was refused */
};

int rulebook_make(struct rulebook *b, const struct sl_model *m, enum sl_dialect dialect,
                  const struct sl_parallel *parallel, int64_t padded_vocab, struct sl_arena *arena,
                  struct sl_error *err);

/* The rules again as torch_dist stores them: all layers in one array, the layer its first axis, and
 * no {layer} in the name. Row by row; the name is NULL where a rule is of no layer. */
int rulebook_stack(const struct rulebook *b, struct rulebook *stacked, struct sl_error *err);

/* The map of a rule, compiled on first use. */
int rulebook_map(struct rulebook *b, const struct sl_rule *rule, const struct sl_stored **out,
                 struct sl_error *err);
/* Length of a dim or an expression of dims. */
int rulebook_dim(struct rulebook *b, const char *text, size_t len, int64_t *value, struct sl_error *err);
/* Does a condition hold, for a layer (-1: none)? */
bool rulebook_when(const struct rulebook *b, const char *when, int32_t layer);

/* The box that a rank holds of a stored array by a rule: [lo, hi). False when it does not
 * divide. *over, *index, *parts tell how it is cut (parts 1: not at all). */
bool rulebook_box(const struct rulebook *b, const struct sl_rule *rule, const struct sl_stored *stored,
                  int32_t tp, int64_t *lo, int64_t *hi, int32_t *parts);
/* How a rule stores the elements of its params. */
struct sl_op rulebook_op(const struct rulebook *b, const struct sl_rule *rule, int32_t layer);
/* What a rank is in the cut over "etp": expert TP runs fastest among the ranks, as TP does,
 * so of two ranks with the same TP index and EP index it is the same.
 * Source: Megatron-LM megatron/core/parallel_state.py (RankGenerator, order tp-..-ep-dp-pp) */
int32_t rulebook_etp_index(const struct rulebook *b, int32_t tp);

/* Calls visit(arg, row, layer, expert) for each instance of name patterns in natural order:
 * neighbouring rows with {layer} layer by layer, of these neighbouring ones with {expert} expert
 * by expert; -1 where the pattern has none. Ends at the first visit that does not return 0. */
struct pattern_rows { const char *(*name)(const void *rows, size_t row); const void *rows; size_t count; };
int natural_order(const struct pattern_rows *rows, int32_t layers, int32_t experts,
                  int (*visit)(void *arg, size_t row, int32_t layer, int32_t expert), void *arg);

/* What a layout is while it grows. */
struct builder {
    struct rulebook book;
    struct sl_slices slices;
    struct sl_layout *layout;
    struct sl_error *err;
};
/* The params of the model, and their index. */
int builder_params(struct builder *b);
/* Index of a param by pattern, layer and expert; for struct sl_map_names. arg: the builder. */
int64_t builder_find(void *builder, const char *pattern, int32_t layer, int32_t expert);
/* Sorts the slices by param and gives all to the layout, or frees them if rc is not 0. Returns rc. */
int builder_finish(struct builder *b, int rc);

/* Why a tensor holds no weight whatever its name is; NULL when it may. */
const char *no_weight(const struct sl_tensor *t);

#endif
