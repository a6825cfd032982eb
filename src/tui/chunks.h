/* chunks.h: which layers each virtual pipeline chunk holds, and whether each
 * rank has it. With interleaved stages a rank holds several chunks of layers
 * that are far apart: model0, model1, .. in its file. */
#ifndef SL_TUI_CHUNKS_H
#define SL_TUI_CHUNKS_H

#include "base/arena.h"
#include <shardlens/shardlens.h>

struct chunk_map {
    struct sl_arena arena;
    size_t pp, vpp;                       /* vpp 0: there are no chunks to tell apart */
    struct chunk_span { int32_t lo, hi; } *spans;   /* global layers, by pp * vpp + chunk; -1 none */
    uint32_t *held;                       /* tensors, by rank * vpp + chunk */
};

/* Looks through the logical tensors; runs in a job. False when memory is out. */
bool chunks_map(struct chunk_map *m, const struct sl_checkpoint *ck);
void chunks_free(struct chunk_map *m);

#endif
