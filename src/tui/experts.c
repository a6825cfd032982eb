/* experts.c: experts by layer and by ep rank. */
#include "tui/experts.h"
#include "base/text.h"
#include "tui/app.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LAYERS 100000      /* a layer number beyond is no layer */
#define MOST_CELLS ((size_t)64 << 20)   /* layers x ep ranks x experts that are looked at */

static int32_t ep_of(const struct sl_checkpoint_info *info, const struct sl_tensor *t)
{
    return t->rank >= 0 && (size_t)t->rank < info->rank_count ? info->ranks[t->rank].ep : 0;
}

/* Marks expert e of a layer on the ep rank of each of its pieces, once. */
static void mark(uint8_t *seen, const struct expert_map *m, size_t experts, size_t layer, size_t expert, int32_t ep)
{
    if (ep >= 0 && (size_t)ep < m->ep_count && expert < experts)
        seen[(layer * m->ep_count + (size_t)ep) * experts + expert] = 1;
}

static void ranges_of(const uint8_t *seen, const struct expert_map *m, size_t experts, size_t layer, struct expert_range *out, uint32_t *count)
{
    *count = 0;
    for (size_t e = 0; e < experts; e++) {
        bool held = false;
        for (size_t ep = 0; ep < m->ep_count; ep++) {
            if (!seen[(layer * m->ep_count + ep) * experts + e])
                continue;
            held = true;
            struct expert_range *r = &out[ep];
            r->lo = r->count ? r->lo : (int32_t)e;
            r->hi = (int32_t)e;
            r->count++;
        }
        *count += held;
    }
}

static bool add_layer(struct expert_map *m, const uint8_t *seen, size_t experts, size_t layer)
{
    struct expert_range *ranges = SL_ARENA_NEW(&m->arena, struct expert_range, m->ep_count);
    uint32_t count;
    if (!ranges)
        return false;
    ranges_of(seen, m, experts, layer, ranges, &count);
    struct expert_span *last = m->span_count ? &m->spans[m->span_count - 1] : NULL;
    if (last && last->experts == count && memcmp(last->ep, ranges, m->ep_count * sizeof *ranges) == 0)
        last->last = (int32_t)layer;
    else
        m->spans[m->span_count++] = (struct expert_span){ (int32_t)layer, (int32_t)layer, count, ranges };
    return true;
}

bool experts_map(struct expert_map *m, const struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    size_t experts = 0, layers = 0;
    for (size_t i = 0; i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        if (l->layer >= 0 && l->layer < MOST_LAYERS && (size_t)l->layer >= layers)
            layers = (size_t)l->layer + 1;
        if (l->expert >= 0 && l->expert < MOST_LAYERS && (size_t)l->expert >= experts)
            experts = (size_t)l->expert + 1;
    }
    m->ep_count = info->parallel.ep > 1 ? (size_t)info->parallel.ep : 1;
    if (!experts || !layers || layers > MOST_CELLS / m->ep_count / experts)
        return true;
    uint8_t *seen = calloc(layers * m->ep_count * experts, 1);
    m->spans = SL_ARENA_NEW(&m->arena, struct expert_span, layers);
    bool good = seen && m->spans;
    for (size_t i = 0; good && i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        for (size_t k = 0; l->layer >= 0 && l->layer < MOST_LAYERS && l->expert >= 0 && k < l->piece_count; k++)
            mark(seen, m, experts, (size_t)l->layer, (size_t)l->expert, ep_of(info, sl_tensor_at(ck, l->pieces[k])));
    }
    for (size_t layer = 0; good && layer < layers; layer++)
        good = add_layer(m, seen, experts, layer);
    free(seen);
    return good;
}

void experts_free(struct expert_map *m)
{
    sl_arena_free(&m->arena);
    *m = (struct expert_map){ 0 };
}

static void range_text(const struct expert_range *r, char *out, size_t room)
{
    if (!r->count)
        snprintf(out, room, "none");
    else if (r->hi - r->lo + 1 == (int32_t)r->count)
        snprintf(out, room, r->lo == r->hi ? "%d" : "%d-%d", r->lo, r->hi);
    else
        snprintf(out, room, "%u of %d-%d", r->count, r->lo, r->hi);
}

const char *experts_text(const struct expert_map *m, int32_t layer, int32_t ep, char *out, size_t room)
{
    char text[48];
    out[0] = '\0';
    for (size_t i = 0; i < m->span_count && ep >= 0 && (size_t)ep < m->ep_count; i++) {
        const struct expert_span *s = &m->spans[i];
        if (s->first > layer || s->last < layer || !s->experts)
            continue;
        range_text(&s->ep[ep], text, sizeof text);
        snprintf(out, room, "experts %s of %u", text, s->experts);
    }
    return out;
}

size_t experts_lines(const struct app *app)
{
    return app->opened->experts.span_count;
}

void experts_draw(struct app *app, struct pane p, int skip)
{
    const struct expert_map *m = &app->opened->experts;
    const struct sl_moe *moe = app->opened->info->moe;
    char text[64], total[32], active[32];
    int row = 0;
    if (moe && p.rows > 1) {
        int col = pane_printf(p, row, 0, STYLE_TEXT, "%d experts", moe->num_experts);
        if (moe->topk)
            pane_printf(p, row, col, STYLE_TEXT, ", %d a token", moe->topk);
        if (app->opened->info->params && moe->active_params)
            pane_printf(p, ++row, 0, STYLE_TEXT, "%s of %s parameters active", sl_text_count(moe->active_params, active, sizeof active),
                        sl_text_count(app->opened->info->params, total, sizeof total));
        row++;
    }
    for (size_t i = (size_t)skip; i < m->span_count && row < p.rows; i++, row++) {
        const struct expert_span *s = &m->spans[i];
        snprintf(text, sizeof text, s->first == s->last ? "L%02d" : "L%02d-%02d", s->first, s->last);
        pane_textw(p, row, 0, 10, STYLE_HEAD, text);
        if (!s->experts) {
            pane_text(p, row, 11, STYLE_DIM, "dense, no experts");
            continue;
        }
        int col = 11 + pane_printf(p, row, 11, STYLE_TEXT, "%-4u ", s->experts);
        for (size_t ep = 0; ep < m->ep_count && m->ep_count > 1; ep++) {
            char range[48];
            range_text(&s->ep[ep], range, sizeof range);
            snprintf(text, sizeof text, "ep%zu ", ep);
            if (col + (int)strlen(text) + (int)strlen(range) + 2 > p.cols) {
                pane_text(p, row, p.cols - 2, STYLE_DIM, "..");
                break;
            }
            col += pane_text(p, row, col, STYLE_DIM, text);
            col += pane_text(p, row, col, s->ep[ep].count ? STYLE_TEXT : STYLE_WARN, range) + 2;
        }
    }
    if (!m->span_count)
        pane_wrap(p, row, 0, STYLE_DIM, moe ? "the experts are stored merged, several in a tensor: the tree shows the axis"
                                             : "a dense model: it has no experts");
}
