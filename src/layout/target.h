/* target.h: the layout of a checkpoint to be written, while it is made. Private to
 * this room.
 *
 *     target.c   one tensor of each rank (mp_rank folders), or of the whole (Hugging Face)
 *     dist.c     one tensor of each chunk of an array (torch_dist)
 */
#ifndef SL_LAYOUT_TARGET_H
#define SL_LAYOUT_TARGET_H

#include "layout/rulebook.h"

struct target {
    struct builder b;
    const struct sl_target_spec *spec;
    struct sl_tensor *tensors;           size_t count, room;    /* malloc'ed while it grows */
    const char **label;
    bool has_ranks;
    /* the rank and chunk whose turn it is */
    struct sl_rank rank;
    int32_t rank_index, chunk, first_layer, last_chunk;
    bool mtp;                            /* the turn of the layers that predict further tokens */
};

/* Is a rule written to this target, for a layer (-1: none)? */
bool target_writes(const struct target *t, size_t row, int32_t layer);
/* The element type that the weights of a map have at these numbers of layer and expert: that of
 * the first one that the source has. False when it has none. (A rank may hold only padding.) */
bool target_dtype(const struct target *t, const struct sl_rule *rule, const struct sl_stored *stored,
                  const struct sl_map_names *names, enum sl_dtype *dtype);
/* A tensor of this name that holds the box [lo, hi) of an array of shape whole, or, with whole NULL, an array
 * of shape hi. */
int target_add(struct target *t, const char *name, enum sl_dtype dtype, uint32_t ndim, const int64_t *lo,
               const int64_t *hi, const int64_t *whole, const char *label);

/* dist.c: all chunks of all arrays of a torch_dist checkpoint. */
int target_dist(struct target *t);

#endif
