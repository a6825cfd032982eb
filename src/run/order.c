/* order.c: see order.h. */
#include "run/order.h"
#include "run/rows.h"

#include "base/dtype.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum part { PART_Q, PART_K, PART_V, PART_GATE, PART_UP, PARTS };
static const char *const part_names[PARTS] = { "attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up" };

enum rule { RULE_GATE_UP, RULE_ROPE, RULE_QKV, RULE_OTHER };
static const struct { const char *parts, *rule; } rule_texts[SL_ORDERS] = {
    [RULE_GATE_UP] = { "gate, up", "all rows present, order explained by gate and up swapped" },
    [RULE_ROPE] = { "q, k", "all rows present, order explained by rotary pairs: halves of a head on one side, interleaved on the other" },
    [RULE_QKV] = { "q, k, v", "all rows present, order explained by a fused matrix that is grouped on one side and contiguous on the other" },
    [RULE_OTHER] = { "rows", "all rows present, in an order that no rule here explains" },
};

struct side {
    uint64_t *hash[PARTS], count[PARTS];
    uint64_t head;                       /* rows of one, 0 unknown */
    uint64_t groups;
};

static int take_hash(void *arg, const struct sl_row *r, struct sl_error *err)
{
    uint64_t *hash = arg;
    (void)err;
    hash[r->row] = XXH3_64bits(r->bytes, r->columns * sl_dtype_size(r->dtype));
    return SL_OK;
}

static int read_side(struct sl_ckpt *c, const struct sl_layout *l, int32_t layer, struct sl_arena *arena, struct side *s, struct sl_error *err)
{
    int code = SL_OK;
    *s = (struct side){ .head = 0 };
    for (int p = 0; !code && p < PARTS; p++) {
        char name[64];
        uint64_t index, columns;
        snprintf(name, sizeof name, "layers.%d.%s", (int)layer, part_names[p]);
        if (!sl_map_get(&l->param_index, name, strlen(name), &index))
            continue;
        s->count[p] = sl_rows_count(l, (uint32_t)index, &columns);
        s->hash[p] = SL_ARENA_NEW(arena, uint64_t, s->count[p]);
        code = s->hash[p] ? sl_rows_each(c, l, (uint32_t)index, take_hash, s->hash[p], err)
                          : sl_fail_memory(err, s->count[p] * sizeof(uint64_t));
        const struct sl_param *param = &l->params[index];
        if (p == PART_K && param->ndim >= 3 && !strcmp(param->axis[param->ndim - 2], "head")) {
            s->head = (uint64_t)param->shape[param->ndim - 2];
            s->groups = s->head ? s->count[p] / s->head : 0;
        }
    }
    return code;
}

/* ---- orders ------------------------------------------------------------------------------------------ */

static bool same_part(const struct side *a, int p, const struct side *b, int q)
{
    return a->count[p] && a->count[p] == b->count[q] && !memcmp(a->hash[p], b->hash[q], a->count[p] * sizeof(uint64_t));
}

static bool is_interleaved(const uint64_t *halves, const uint64_t *pairs, uint64_t count, uint64_t head)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t in = i % head, of = i - in;
        if (pairs[i] != halves[of + in / 2 + (in % 2 ? head / 2 : 0)])
            return false;
    }
    return true;
}

static bool are_pairs(const struct side *a, const struct side *b, int p)
{
    if (!a->count[p] || a->count[p] != b->count[p] || !a->head || a->head % 2 || a->count[p] % a->head)
        return false;
    return is_interleaved(a->hash[p], b->hash[p], a->count[p], a->head) || is_interleaved(b->hash[p], a->hash[p], a->count[p], a->head);
}

/* Row `i` of the fused matrix in one of the two orders. */
static uint64_t fused_row(const struct side *s, bool grouped, uint64_t i)
{
    const uint64_t q = s->count[PART_Q], k = s->count[PART_K];
    if (!grouped)
        return i < q ? s->hash[PART_Q][i] : i < q + k ? s->hash[PART_K][i - q] : s->hash[PART_V][i - q - k];
    const uint64_t each = q / s->groups, rows = each + 2 * s->head, g = i / rows, in = i % rows;
    return in < each            ? s->hash[PART_Q][g * each + in]
         : in < each + s->head  ? s->hash[PART_K][g * s->head + in - each]
                                : s->hash[PART_V][g * s->head + in - each - s->head];
}

static bool same_fused(const struct side *a, const struct side *b, bool a_grouped)
{
    for (uint64_t i = 0; i < a->count[PART_Q] + 2 * a->count[PART_K]; i++)
        if (fused_row(a, a_grouped, i) != fused_row(b, !a_grouped, i))
            return false;
    return true;
}

static bool can_be_fused(const struct side *a, const struct side *b)
{
    return a->groups && a->groups == b->groups && a->head == b->head && a->count[PART_Q] && a->count[PART_Q] == b->count[PART_Q] &&
           a->count[PART_K] == b->count[PART_K] && a->count[PART_V] == a->count[PART_K] && b->count[PART_V] == b->count[PART_K] &&
           a->count[PART_Q] % a->groups == 0;
}

static int by_number(const void *x, const void *y)
{
    const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* The same rows in any order, of parts [first, end)? */
static bool same_rows(const struct side *a, const struct side *b, int first, int end, struct sl_arena *arena)
{
    uint64_t count = 0, at = 0;
    for (int p = first; p < end; p++) {
        if (a->count[p] != b->count[p])
            return false;
        count += a->count[p];
    }
    uint64_t *x = SL_ARENA_NEW(arena, uint64_t, count), *y = SL_ARENA_NEW(arena, uint64_t, count);
    for (int p = first; x && y && p < end; p++) {
        memcpy(x + at, a->hash[p], a->count[p] * sizeof *x);
        memcpy(y + at, b->hash[p], b->count[p] * sizeof *y);
        at += a->count[p];
    }
    if (!x || !y || !count)
        return false;
    qsort(x, count, sizeof *x, by_number);
    qsort(y, count, sizeof *y, by_number);
    return !memcmp(x, y, count * sizeof *x);
}

/* ---- layers ------------------------------------------------------------------------------------------- */

static void judge_layer(const struct side *a, const struct side *b, struct sl_arena *arena, int32_t layers[SL_ORDERS])
{
    const bool gate = same_part(a, PART_GATE, b, PART_GATE), up = same_part(a, PART_UP, b, PART_UP);
    if (a->count[PART_GATE] && a->count[PART_UP] && !(gate && up)) {
        if (same_part(a, PART_GATE, b, PART_UP) && same_part(a, PART_UP, b, PART_GATE))
            layers[RULE_GATE_UP]++;
        else if (same_rows(a, b, PART_GATE, PARTS, arena))
            layers[RULE_OTHER]++;
    }
    const bool q = same_part(a, PART_Q, b, PART_Q), k = same_part(a, PART_K, b, PART_K), v = same_part(a, PART_V, b, PART_V);
    if (!a->count[PART_Q] || !a->count[PART_K] || (q && k && v))
        return;
    if ((q || are_pairs(a, b, PART_Q)) && (k || are_pairs(a, b, PART_K)) && (v || !a->count[PART_V]))
        layers[RULE_ROPE]++;
    else if (can_be_fused(a, b) && (same_fused(a, b, true) || same_fused(a, b, false)))
        layers[RULE_QKV]++;
    else if (same_rows(a, b, PART_Q, PART_GATE, arena))
        layers[RULE_OTHER]++;
}

int sl_orders_find(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                   struct sl_order_finding out[SL_ORDERS], size_t *count, struct sl_error *err)
{
    int32_t most = -1, layers[SL_ORDERS] = { 0 };
    int code = SL_OK;
    *count = 0;
    for (size_t p = 0; p < la->param_count; p++)
        most = la->params[p].layer > most ? la->params[p].layer : most;
    for (int32_t layer = 0; !code && layer <= most; layer++) {
        struct sl_arena arena = { 0 };
        struct side x, y;
        code = read_side(a, la, layer, &arena, &x, err);
        if (!code)
            code = read_side(b, lb, layer, &arena, &y, err);
        if (!code)
            judge_layer(&x, &y, &arena, layers);
        sl_arena_free(&arena);
    }
    for (int i = 0; !code && i < SL_ORDERS; i++)
        if (layers[i])
            out[(*count)++] = (struct sl_order_finding){ rule_texts[i].parts, rule_texts[i].rule, layers[i] };
    return code;
}
