/* layers.c: do the stages hold all layers, each once? Layers of a chunk are
 * numbered from 0 in every file (megatron-core numbers them by stage), so a
 * chunk that holds 0, 1, 3 lost one, and the chunks together make num_layers. */
#include "checkpoint/ckptread.h"

#include "base/num.h"
#include "base/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LAYER  100000        /* a larger number in a name is no layer */
#define MAX_CHUNKS (1 << 20)     /* of all stages together */
#define STAGES_SHOWN 16

/* Names that number the layers of the model itself. */
static const char *const layer_prefixes[] = {
    "decoder.layers.", "encoder.layers.", "language_model.encoder.layers.", "language_model.transformer.layers.",
};

struct chunk {
    bool *has;                   /* by layer */
    int32_t room, count, end;    /* end: one more than the largest */
};

/* The layer in a tensor's name, -1 if it is of none. */
static int32_t layer_of(const char *name)
{
    for (size_t i = 0; i < sizeof layer_prefixes / sizeof *layer_prefixes; i++) {
        if (!sl_text_starts(name, layer_prefixes[i]))
            continue;
        const char *p = name + strlen(layer_prefixes[i]);
        int32_t layer = 0, digits = 0;
        for (; *p >= '0' && *p <= '9' && layer < MAX_LAYER; p++, digits++)
            layer = layer * 10 + (*p - '0');
        return digits && *p == '.' && layer < MAX_LAYER ? layer : -1;
    }
    return -1;
}

static bool set_layer(struct chunk *chunk, int32_t layer)
{
    if (layer >= chunk->room) {
        const int32_t room = (int32_t)sl_max_i64(2 * chunk->room, layer + 64);
        bool *has = realloc(chunk->has, (size_t)room * sizeof *has);
        if (!has)
            return false;
        memset(has + chunk->room, 0, (size_t)(room - chunk->room) * sizeof *has);
        chunk->has = has;
        chunk->room = room;
    }
    chunk->count += !chunk->has[layer];
    chunk->has[layer] = true;
    chunk->end = (int32_t)sl_max_i64(chunk->end, layer + 1);
    return true;
}

static bool fill(const struct sl_ckpt *c, const bool *foreign, struct chunk *chunks)
{
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        if (t->rank < 0 || t->flags & SL_TENSOR_OPTIMIZER || t->chunk >= c->parallel.vpp || foreign[t->rank])
            continue;
        const int32_t layer = layer_of(t->name), pp = c->ranks[t->rank].pp;
        if (layer >= 0 && pp < c->parallel.pp && !set_layer(&chunks[(size_t)pp * (size_t)c->parallel.vpp + (size_t)t->chunk], layer))
            return false;
    }
    return true;
}

static void tell_gap(struct sl_ckpt *c, const struct chunk *chunk, int32_t pp, int32_t vp)
{
    int32_t first = 0;
    while (chunk->has[first])
        first++;
    const char *where = sl_arena_printf(&c->arena, c->parallel.vpp > 1 ? "pp %" PRId32 ", chunk %" PRId32 : "pp %" PRId32, pp, vp);
    sl_problem_add(&c->problems, "layer-gap", where, NULL,
                   "layer %" PRId32 " of this stage is missing: %" PRId32 " layers are there, numbered up to %" PRId32, first,
                   chunk->count, chunk->end - 1);
}

/* Is every stage there with at least one rank that could be read and is of this save? */
static bool all_stages_read(const struct sl_ckpt *c, const bool *foreign)
{
    int32_t next = 0;            /* ranks are in order of pp */
    for (size_t i = 0; i < c->rank_count; i++)
        if (c->ranks[i].pp == next && (c->ranks[i].status == SL_RANK_OK || c->ranks[i].status == SL_RANK_ODD) && !foreign[i])
            next++;
    return next == c->parallel.pp;
}

/* "0: 12, 1: 12, 2: 11": layers of each stage. */
static void stages_text(const struct sl_ckpt *c, const struct chunk *chunks, struct sl_buf *out)
{
    for (int32_t pp = 0; pp < c->parallel.pp; pp++) {
        int64_t layers = 0;
        for (int32_t k = 0; k < c->parallel.vpp; k++)
            layers += chunks[(size_t)pp * (size_t)c->parallel.vpp + (size_t)k].count;
        sl_buf_printf(out, "%s%" PRId32 ": %" PRId64, pp ? ", " : "", pp, layers);
        if (pp == STAGES_SHOWN - 1 && pp + 1 < c->parallel.pp) {
            sl_buf_str(out, ", ..");
            return;
        }
    }
}

static void tell_count(struct sl_ckpt *c, const struct chunk *chunks, const bool *foreign, int64_t found)
{
    int64_t said;
    if (!all_stages_read(c, foreign) || !found || !sl_value_int(sl_value_get(c->args, "num_layers"), &said) || said == found)
        return;
    struct sl_buf stages = { 0 };
    stages_text(c, chunks, &stages);
    const char *expected = sl_arena_printf(&c->arena, "%" PRId64 ", which is num_layers of args; layers of each stage: %s", said,
                                           stages.data ? stages.data : "");
    sl_problem_add(&c->problems, "layer-count", "", &(struct sl_problem_text){ .expected = expected },
                   "the stages hold %" PRId64 " layers together, args say %" PRId64, found, said);
    sl_buf_free(&stages);
}

void ckpt_check_layers(struct sl_ckpt *c)
{
    const uint64_t count = (uint64_t)c->parallel.pp * (uint64_t)c->parallel.vpp;
    struct chunk *chunks = count <= MAX_CHUNKS ? calloc(count, sizeof *chunks) : NULL;
    bool *foreign = calloc(c->rank_count + 1, sizeof *foreign);
    int64_t found = 0;
    bool gap = false;
    for (size_t i = 0; foreign && i < c->rank_count; i++)
        foreign[i] = sl_ckpt_is_foreign(c, &c->ranks[i]);
    if (chunks && foreign && fill(c, foreign, chunks)) {
        for (uint64_t i = 0; i < count; i++) {
            found += chunks[i].count;
            if (chunks[i].count == chunks[i].end)
                continue;
            gap = true;
            tell_gap(c, &chunks[i], (int32_t)(i / (uint64_t)c->parallel.vpp), (int32_t)(i % (uint64_t)c->parallel.vpp));
        }
        if (!gap)                /* else that is why */
            tell_count(c, chunks, foreign, found);
    }
    for (uint64_t i = 0; chunks && i < count; i++)
        free(chunks[i].has);
    free(foreign);
    free(chunks);
}
