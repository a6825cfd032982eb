/* look.c: what weights show of their own order, for the public API. */
#include "api/handle.h"

#include "base/error.h"
#include "run/detective.h"
#include "run/order.h"

#include <stdlib.h>

struct sl_layout_report {
    struct sl_arena arena;
    struct sl_layout_finding findings[SL_LAYOUT_QUESTIONS];
};

int sl_layout_look(struct sl_checkpoint *ck, const sl_atomic_int *cancel, struct sl_layout_report **out, struct sl_error *err)
{
    *out = NULL;
    if (!ck->has_layout || !ck->m->family)
        return sl_fail(err, SL_UNSUPPORTED, ck->c->path, "its family is unknown, so it is not known which weights are which: "
                       "describe it in a family file (--family-file)");
    struct sl_layout_report *r = calloc(1, sizeof *r);
    if (!r)
        return sl_fail_memory(err, sizeof *r);
    int code = sl_layout_look_at(ck->c, &ck->layout, ck->m, cancel, &r->arena, r->findings, err);
    if (!code)
        code = sl_ckpt_unchanged(ck->c, err);
    if (code)
        sl_layout_report_free(r);
    else
        *out = r;
    return code;
}

size_t sl_layout_finding_count(const struct sl_layout_report *report)
{
    return report ? SL_LAYOUT_QUESTIONS : 0;
}

const struct sl_layout_finding *sl_layout_finding(const struct sl_layout_report *report, size_t index)
{
    return index < SL_LAYOUT_QUESTIONS ? &report->findings[index] : NULL;
}

void sl_layout_report_free(struct sl_layout_report *report)
{
    if (!report)
        return;
    sl_arena_free(&report->arena);
    free(report);
}

int sl_orders(const struct sl_checkpoint *a, const struct sl_checkpoint *b, struct sl_order_finding *out, size_t room, size_t *count,
              struct sl_error *err)
{
    struct sl_order_finding all[SL_ORDERS];
    *count = 0;
    if (!a->has_layout || !b->has_layout || !a->m->family || !b->m->family)
        return sl_fail(err, SL_UNSUPPORTED, a->c->path, "the family of one of the two is unknown");
    int code = sl_orders_find(a->c, &a->layout, b->c, &b->layout, all, count, err);
    if (!code)
        code = sl_ckpt_unchanged(a->c, err);
    if (!code)
        code = sl_ckpt_unchanged(b->c, err);
    for (size_t i = 0; !code && i < *count && i < room; i++)
        out[i] = all[i];
    return code;
}
