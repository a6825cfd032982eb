/* trace.c: ranges of elements, and the pieces of a plan that they fall into. */
#include "tui/trace.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LOADED 65536                 /* pieces of one target that are searched for a range */

/* ---- ranges --------------------------------------------------------------------- */

static const char *number(const char *s, uint64_t *out)
{
    char *end;
    if (*s < '0' || *s > '9')
        return NULL;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return errno || *out > INT64_MAX ? NULL : end;
}

/* "3", "3:5", "3:", ":5" and ":" of an axis of `size`; returns what stands behind it, NULL if it is none of these. */
static const char *span(const char *s, uint64_t size, uint64_t *lo, uint64_t *hi)
{
    const char *end = number(s, lo);
    *hi = size;
    if (!end && *s != ':')
        return NULL;
    if (!end)
        *lo = 0;
    end = end ? end : s;
    if (*end != ':') {
        *hi = *lo + 1;
        return end;
    }
    end++;
    return *end >= '0' && *end <= '9' ? number(end, hi) : end;
}

bool range_numbers(const char *text, uint64_t *first, uint64_t *last)
{
    const char *end = span(text, INT64_MAX, first, last);
    return end && !*end && *first < *last;
}

static uint64_t volume(const int64_t *lo, const int64_t *hi, uint32_t ndim)
{
    uint64_t n = 1;
    for (uint32_t a = 0; a < ndim && a < 8; a++)
        n *= hi[a] > lo[a] ? (uint64_t)(hi[a] - lo[a]) : 0;
    return n;
}

bool range_flat(uint64_t first, uint64_t last, const int64_t *shape, uint32_t ndim, struct range *out)
{
    uint64_t step[8], whole = 1;
    out->count = 0;
    out->elements = last > first ? last - first : 0;
    for (uint32_t a = ndim; a-- > 0 && ndim <= 8; whole *= (uint64_t)shape[a])
        step[a] = whole;
    if (ndim > 8 || first >= last || last > whole)
        return false;
    while (first < last && out->count < RANGE_BOXES) {
        struct box *b = &out->boxes[out->count++];
        uint64_t rest = first, run = 1;
        uint32_t axis = 0;
        while (axis < ndim && (first % step[axis] || step[axis] > last - first))
            axis++;                      /* the largest steps that fit */
        for (uint32_t a = 0; a < ndim; a++) {
            b->lo[a] = a <= axis ? (int64_t)(rest / step[a]) : 0;
            b->hi[a] = a < axis ? b->lo[a] + 1 : shape[a];
            rest %= step[a];
        }
        if (axis < ndim) {
            const uint64_t left = (uint64_t)(shape[axis] - b->lo[axis]), fit = (last - first) / step[axis];
            run = fit < left ? fit : left;
            b->hi[axis] = b->lo[axis] + (int64_t)run;
            run *= step[axis];
        }
        first += run;
    }
    return first >= last;
}

bool range_parse(const char *text, const int64_t *shape, uint32_t ndim, struct range *out, char *why, size_t room)
{
    uint64_t lo, hi;
    *out = (struct range){ .count = 1 };
    snprintf(out->text, sizeof out->text, "%s", text);
    if (ndim > 8 || strlen(text) >= sizeof out->text)
        return snprintf(why, room, "a range of that many axes can't be shown"), false;
    if (*text == '#') {
        if (range_numbers(text + 1, &lo, &hi) && range_flat(lo, hi, shape, ndim, out))
            return true;
        return snprintf(why, room, "#%.60s: no elements of this tensor; #100:200 are the elements 100 to 199", text + 1), false;
    }
    struct box *b = &out->boxes[0];
    const char *s = text + (*text == '[');
    uint32_t axis = 0;
    for (; axis < ndim && s && *s && *s != ']'; axis++) {
        s = span(s, (uint64_t)shape[axis], &lo, &hi);
        if (!s || lo >= hi || hi > (uint64_t)shape[axis])
            return snprintf(why, room, "axis %u: it has %lld steps; write 0:32, or a single number, or : for all", axis, (long long)shape[axis]), false;
        b->lo[axis] = (int64_t)lo;
        b->hi[axis] = (int64_t)hi;
        s += strspn(s, ", ");
    }
    if (!s || (*s && strcmp(s, "]")) || !axis)
        return snprintf(why, room, "%.60s: a range is written 0:32, or [0:32,64:128], or #100:200 for elements", text), false;
    for (; axis < ndim; axis++) {
        b->lo[axis] = 0;
        b->hi[axis] = shape[axis];
    }
    out->elements = volume(b->lo, b->hi, ndim);
    return true;
}

/* ---- pieces ---------------------------------------------------------------------- */

uint64_t piece_elements(const struct sl_piece_info *piece)
{
    return volume(piece->target_lo, piece->target_hi, piece->target_ndim);
}

static void keep(struct traced *out, const struct sl_piece_info *piece, size_t target)
{
    out->total++;
    if (out->count == MOST_TRACED)
        return;
    if (!out->pieces) {
        out->pieces = calloc(MOST_TRACED, sizeof *out->pieces);
        out->targets = calloc(MOST_TRACED, sizeof *out->targets);
    }
    if (!out->pieces || !out->targets)
        return;
    out->elements += piece_elements(piece);
    out->targets[out->count] = target;
    out->pieces[out->count++] = *piece;
}

/* The parts of a piece that lie in the range. */
static void keep_cut(struct traced *out, const struct sl_piece_info *piece, size_t target, bool of_source, const struct range *range)
{
    if (!*range->text) {
        keep(out, piece, target);
        return;
    }
    for (size_t i = 0; i < range->count; i++) {
        struct sl_piece_info cut = *piece;
        if (sl_piece_cut(&cut, of_source, range->boxes[i].lo, range->boxes[i].hi))
            keep(out, &cut, target);
    }
}

static struct sl_piece_info *pieces_of(const struct sl_plan *plan, size_t target, size_t *count)
{
    const size_t all = sl_plan_pieces(plan, target, NULL, 0);
    *count = all < MOST_LOADED ? all : MOST_LOADED;
    struct sl_piece_info *pieces = calloc(*count + 1, sizeof *pieces);
    if (pieces)
        sl_plan_pieces(plan, target, pieces, *count);
    return pieces;
}

void trace_target(const struct sl_plan *plan, size_t target, const struct range *range, struct traced *out)
{
    size_t count;
    struct sl_piece_info *pieces = pieces_of(plan, target, &count);
    *out = (struct traced){ 0 };
    for (size_t i = 0; pieces && i < count; i++)
        keep_cut(out, &pieces[i], target, false, range);
    free(pieces);
}

static bool lies_in(const struct sl_piece_info *a, const struct sl_piece_info *b)
{
    for (uint32_t k = 0; k < a->source_ndim; k++)
        if (a->source_lo[k] < b->source_lo[k] || a->source_hi[k] > b->source_hi[k])
            return false;
    return true;
}

/* Elements that are used, those that become several targets (tied weights) once. */
static uint64_t used_once(const struct traced *t)
{
    uint64_t used = 0;
    for (size_t i = 0; i < t->count; i++) {
        bool again = false;
        for (size_t k = 0; k < i && !again; k++)
            again = t->targets[k] != t->targets[i] && lies_in(&t->pieces[i], &t->pieces[k]);
        used += again ? 0 : volume(t->pieces[i].source_lo, t->pieces[i].source_hi, t->pieces[i].source_ndim);
    }
    return used;
}

void trace_source(const struct sl_plan *plan, size_t tensor, const struct range *range, struct traced *out)
{
    size_t targets[MOST_TRACED_TARGETS];
    *out = (struct traced){ 0 };
    const size_t all = sl_plan_uses(plan, tensor, targets, MOST_TRACED_TARGETS);
    for (size_t i = 0; i < all && i < MOST_TRACED_TARGETS; i++) {
        size_t count;
        struct sl_piece_info *pieces = pieces_of(plan, targets[i], &count);
        for (size_t k = 0; pieces && k < count; k++)
            if (pieces[k].source == tensor)
                keep_cut(out, &pieces[k], targets[i], true, range);
        free(pieces);
    }
    out->target_count = all;
    out->used = used_once(out);
}

void traced_free(struct traced *t)
{
    free(t->pieces);
    free(t->targets);
    *t = (struct traced){ 0 };
}
