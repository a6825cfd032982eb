/* chunks.c: layers by pipeline stage and virtual chunk. */
#include "tui/chunks.h"

#define MOST_CHUNKS 4096        /* of a rank; more is a number nobody trains with */

static void add_piece(struct chunk_map *m, const struct sl_checkpoint_info *info, const struct sl_tensor *t, int32_t layer)
{
    if (t->rank < 0 || (size_t)t->rank >= info->rank_count || t->chunk < 0 || (size_t)t->chunk >= m->vpp)
        return;
    const int32_t pp = info->ranks[t->rank].pp;
    m->held[(size_t)t->rank * m->vpp + (size_t)t->chunk]++;
    if (layer < 0 || pp < 0 || (size_t)pp >= m->pp)
        return;
    struct chunk_span *s = &m->spans[(size_t)pp * m->vpp + (size_t)t->chunk];
    s->lo = s->lo < 0 || layer < s->lo ? layer : s->lo;
    s->hi = layer > s->hi ? layer : s->hi;
}

bool chunks_map(struct chunk_map *m, const struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    if (info->parallel.vpp < 2 || info->parallel.vpp > MOST_CHUNKS || !info->rank_count)
        return true;
    m->vpp = (size_t)info->parallel.vpp;
    m->pp = info->parallel.pp > 0 ? (size_t)info->parallel.pp : 1;
    m->spans = SL_ARENA_NEW(&m->arena, struct chunk_span, m->pp * m->vpp);
    m->held = SL_ARENA_NEW(&m->arena, uint32_t, info->rank_count * m->vpp);
    if (!m->spans || !m->held)
        return false;
    for (size_t i = 0; i < m->pp * m->vpp; i++)
        m->spans[i] = (struct chunk_span){ -1, -1 };
    for (size_t i = 0; i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        for (size_t k = 0; k < l->piece_count; k++)
            add_piece(m, info, sl_tensor_at(ck, l->pieces[k]), l->layer);
    }
    return true;
}

void chunks_free(struct chunk_map *m)
{
    sl_arena_free(&m->arena);
    *m = (struct chunk_map){ 0 };
}
