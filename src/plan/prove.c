/* prove.c: the two proofs of a plan.
 *
 * The source holds everything: on each param, the boxes of its slices (each
 * element once, see cover.h) have the volume of the param.
 *
 * The targets get everything, once: in each target tensor, the elements of all
 * copies are as many as the tensor has, lie inside it, and no two copies meet.
 * To see whether two strided copies meet, both are written as boxes in a mixed
 * radix system whose radices are the strides of all copies around: an element's
 * digits are its index taken apart by these strides, and a copy is a range of
 * digits on each of them. No element is ever looked at.
 */
#include "plan/cover.h"

#include "base/error.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NESTS (UINT64_C(1) << 24)    /* of one tensor, when irregular copies are taken apart */
#define MOST_STEPS (UINT64_C(1) << 26)    /* runs looked at to say where a gap is */

/* ---- words ---------------------------------------------------------------------------- */

void box_text(const struct sl_param *p, const struct box *b, char *out, size_t room)
{
    size_t len = 0;
    *out = 0;
    for (uint32_t a = 0; a < p->ndim && len < room; a++) {
        const long long lo = b->lo[a], last = b->hi[a] - 1;
        const char *comma = len ? ", " : "";
        if (b->lo[a] == 0 && b->hi[a] == p->shape[a])
            continue;
        const int n = lo == last ? snprintf(out + len, room - len, "%s%s %lld", comma, p->axis[a], lo)
                                 : snprintf(out + len, room - len, "%s%s %lld-%lld", comma, p->axis[a], lo, last);
        len += n > 0 ? (size_t)n : 0;
    }
    if (!len)
        snprintf(out, room, "all of it");
}

/* ---- the source ------------------------------------------------------------------------- */

/* Layers of each stage as an array for struct sl_target_spec; NULL when not known. */
static const int32_t *stage_layers(const struct sl_model *m, struct sl_arena *arena)
{
    const int32_t pp = m->parallel.pp > 0 ? m->parallel.pp : 1, vpp = m->parallel.vpp > 0 ? m->parallel.vpp : 1;
    int32_t *layers = m->stage_count ? SL_ARENA_NEW(arena, int32_t, (uint64_t)pp * (uint64_t)vpp) : NULL;
    for (size_t i = 0; layers && i < m->stage_count; i++) {
        const struct sl_stage_layers *s = &m->stages[i];
        if (s->pp >= 0 && s->pp < pp && s->chunk >= 0 && s->chunk < vpp)
            layers[s->chunk * pp + s->pp] = s->count;
    }
    return layers;
}

/* What was seen wrong with a rank or file when it was opened, in words behind its name. */
static const char *state_of(const struct sl_ckpt *c, const char *place, struct sl_arena *arena)
{
    const size_t len = strlen(place);
    const char *text = "";
    for (size_t i = 0; i < c->rank_count; i++)          /* one finding tells of several */
        if (c->ranks[i].status == SL_RANK_MISSING && !strcmp(c->ranks[i].path, place))
            return ", which is missing,";
    for (size_t i = 0; i < c->problems.count && !*text; i++) {
        const struct sl_problem *p = &c->problems.items[i];
        if (p->severity != SL_ERROR || strncmp(p->where, place, len) || (p->where[len] && p->where[len] != '/'))
            continue;
        if (!strcmp(p->code, "hf-missing-file"))
            text = ", which is missing,";
        else if (!strcmp(p->code, "truncated-shard") || !strcmp(p->code, "damaged-shard") || !strcmp(p->code, "unreadable-shard"))
            text = sl_arena_printf(arena, ", which can't be read (%s),", p->message);
        if (!text)
            text = ", which can't be read,";
    }
    return text;
}

/* The file of a Hugging Face tensor by the index; its name when no index tells. */
static const char *index_file(const struct sl_ckpt *c, const char *tensor)
{
    const struct sl_value *map = NULL;
    for (size_t i = 0; c->hf_index && i < c->hf_index->len; i++)
        if (c->hf_index->keys[i]->kind == SL_VALUE_STR && !strcmp(c->hf_index->keys[i]->s, "weight_map"))
            map = c->hf_index->items[i];
    for (size_t i = 0; map && map->kind == SL_VALUE_DICT && i < map->len; i++)
        if (map->keys[i]->kind == SL_VALUE_STR && !strcmp(map->keys[i]->s, tensor) && map->items[i]->kind == SL_VALUE_STR)
            return map->items[i]->s;
    return tensor;
}

/* The rank or file that a tensor should be in; *state says what is wrong with that one. */
static const char *place_of(const struct sl_layout *expected, const struct sl_tensor *t, const struct sl_ckpt *c,
                            struct sl_arena *arena, const char **state)
{
    if (t->rank < 0) {
        const char *file = index_file(c, t->name);
        *state = state_of(c, file, arena);
        return file;
    }
    const struct sl_rank *r = &expected->ranks[t->rank];
    for (size_t i = 0; i < c->rank_count; i++) {
        if (c->ranks[i].tp != r->tp || c->ranks[i].pp != r->pp || c->ranks[i].ep != r->ep)
            continue;
        *state = c->ranks[i].status == SL_RANK_MISSING ? ", which is missing," : state_of(c, c->ranks[i].path, arena);
        return c->ranks[i].path;
    }
    return NULL;
}

/* Where a gap should be held: the same model laid out whole, asked for the gap. */
static void add_holder(const struct sl_layout *source, const struct sl_model *m, const struct sl_ckpt *c,
                       uint32_t param, const struct box *gap, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_layout expected = { 0 };
    struct sl_error ignored;
    struct sl_target_spec spec = { .dialect = m->dialect, .spec = m->spec, .parallel = m->parallel,
                                   .padded_vocab = m->padded_vocab, .stage_layers = stage_layers(m, &arena) };
    struct box common;
    uint64_t at;
    const char *name = source->params[param].name, *place = NULL, *tensor = NULL, *state = "";
    if (m->moe)
        spec.experts = m->moe->expert_layout;
    if (!err || sl_layout_target(m, &spec, &arena, &expected, &ignored))
        goto out;
    if (sl_map_get(&expected.param_index, name, strlen(name), &at))
        for (size_t i = expected.param_first[at]; i < expected.param_first[at + 1] && !place; i++) {
            const struct sl_slice *s = &expected.slices[i];
            const struct box b = slice_box(s);
            if (!box_meet(&b, gap, source->params[param].ndim, &common))
                continue;
            tensor = expected.tensors[s->tensor].name;
            place = place_of(&expected, &expected.tensors[s->tensor], c, &arena, &state);
        }
    if (place) {
        const size_t len = strlen(err->message);
        snprintf(err->message + len, sizeof err->message - len, "; %s%s should hold them", place, state);
        if (strcmp(place, tensor)) {
            const size_t more = strlen(err->message);
            snprintf(err->message + more, sizeof err->message - more, " (%s)", tensor);
        }
    }
out:
    sl_layout_free(&expected);
    sl_arena_free(&arena);
}

int sl_prove_source(const struct sl_layout *source, const struct sl_model *m, const struct sl_ckpt *c,
                    struct sl_error *err)
{
    struct cover cover = { 0 };
    int rc = SL_OK;
    for (size_t i = 0; i < source->param_count && !rc; i++) {
        const struct sl_param *p = &source->params[i];
        const struct box whole = param_box(p);
        struct box gap;
        char text[256];
        if (param_is_empty(p) || (p->optional && source->param_first[i] == source->param_first[i + 1]))
            continue;
        if ((rc = cover_of(source, (uint32_t)i, &cover, err)))
            break;
        const int found = boxes_gap(&whole, cover.boxes, cover.count, p->ndim, &gap);
        if (found < 0)
            rc = sl_fail_memory(err, cover.count * sizeof gap);
        if (found <= 0)
            continue;
        box_text(p, &gap, text, sizeof text);
        rc = sl_fail(err, SL_INPUT, p->name, "%s is held by nobody", text);
        add_holder(source, m, c, (uint32_t)i, &gap, err);
    }
    cover_free(&cover);
    return rc;
}

/* ---- a target tensor ---------------------------------------------------------------------- */

/* The elements base + sum_k i_k * stride[k], 0 <= i_k < count[k]: strides fall, and all that
 * is faster than an axis fits into one of its steps. So no element comes twice. */
struct nest {
    int64_t base, end;           /* [base, end) is the stretch it lies in */
    uint32_t ndim;
    int64_t count[SL_AXES], stride[SL_AXES];
    const struct sl_copy *copy;
};
struct nests { struct nest *items; size_t count, room; };

static int add_nest(struct nests *list, const struct nest *n, struct sl_error *err)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        struct nest *items = room > MOST_NESTS ? NULL : realloc(list->items, room * sizeof *items);
        if (!items)
            return sl_fail_memory(err, room * sizeof *items);
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = *n;
    return SL_OK;
}

/* What a copy writes; false when it writes an element twice, or outside [0, elements). */
static bool nest_of(const struct sl_copy *c, uint64_t elements, struct nest *n)
{
    uint64_t span = 1, inner;            /* of all faster axes together */
    *n = (struct nest){ .base = c->target_base, .copy = c };
    if (c->ndim > SL_AXES || c->target_base < 0)
        return false;
    for (uint32_t k = c->ndim; k-- > 0; ) {
        if (c->count[k] < 1)
            return false;
        if (c->count[k] == 1)
            continue;
        if (c->target_stride[k] < 1 || (uint64_t)c->target_stride[k] < span)
            return false;
        if (!sl_mul_u64((uint64_t)c->count[k] - 1, (uint64_t)c->target_stride[k], &inner) ||
            !sl_add_u64(span, inner, &span) || span > elements)
            return false;
    }
    for (uint32_t k = 0; k < c->ndim; k++) {
        const bool joins = n->ndim && k && c->count[k] > 1 && n->stride[n->ndim - 1] == c->count[k] * c->target_stride[k];
        if (c->count[k] == 1)
            continue;
        n->count[joins ? n->ndim - 1 : n->ndim] = joins ? n->count[n->ndim - 1] * c->count[k] : c->count[k];
        n->stride[joins ? n->ndim - 1 : n->ndim] = c->target_stride[k];
        n->ndim += !joins;
    }
    n->end = n->base + (int64_t)span;
    return (uint64_t)n->base <= elements && span <= elements - (uint64_t)n->base;
}

static uint64_t nest_elements(const struct nest *n)
{
    uint64_t v = 1;
    for (uint32_t k = 0; k < n->ndim; k++)
        v *= (uint64_t)n->count[k];
    return v;
}

static int by_base(const void *x, const void *y)
{
    const struct nest *a = x, *b = y;
    if (a->base != b->base)
        return a->base < b->base ? -1 : 1;
    return (a->end > b->end) - (a->end < b->end);
}

/* ---- mixed radix ---------------------------------------------------------------------------- */

struct radices { int64_t value[BOX_AXES]; uint32_t count; };    /* falling, the last is 1; each divides
                                                                     the one before */

/* Adds a stride; false when the radices would not divide each other, or are too many. */
static bool add_radix(struct radices *r, int64_t stride)
{
    uint32_t k = 0;
    while (k < r->count && r->value[k] > stride)
        k++;
    if (k < r->count && r->value[k] == stride)
        return true;
    if (r->count == BOX_AXES || (k > 0 && r->value[k - 1] % stride) || (k < r->count && stride % r->value[k]))
        return false;
    memmove(&r->value[k + 1], &r->value[k], (r->count++ - k) * sizeof r->value[0]);
    r->value[k] = stride;
    return true;
}

/* The slowest axis of a nest, value by value. */
static int take_apart(const struct nest *n, struct nests *out, struct sl_error *err)
{
    struct nest one = *n;
    one.ndim--;
    memmove(one.count, one.count + 1, one.ndim * sizeof one.count[0]);
    memmove(one.stride, one.stride + 1, one.ndim * sizeof one.stride[0]);
    const int64_t span = n->end - n->base - (n->count[0] - 1) * n->stride[0];
    for (int64_t i = 0; i < n->count[0]; i++) {
        one.base = n->base + i * n->stride[0];
        one.end = one.base + span;
        const int rc = add_nest(out, &one, err);
        if (rc)
            return rc;
    }
    return SL_OK;
}

struct boxes { struct box *items; size_t *of; size_t count, room; };    /* of: index of the nest */

static int add_digit_box(struct boxes *list, const struct box *b, size_t of, struct sl_error *err)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        struct box *items = realloc(list->items, room * sizeof *items);
        if (items)
            list->items = items;
        size_t *nests = realloc(list->of, room * sizeof *nests);
        if (nests)
            list->of = nests;
        if (!items || !nests)
            return sl_fail_memory(err, room * sizeof *items);
        list->room = room;
    }
    list->items[list->count] = *b;
    list->of[list->count++] = of;
    return SL_OK;
}

/* A nest as boxes of digits. Its base gives the lowest digits, its axes the ranges; a range that
 * runs over the top of its digit goes on at the bottom, with the next slower digit one higher:
 *
 *     digit 2..8 of 6   ->   2..6, and 0..2 with a carry
 *
 * From the fastest digit to the slowest, every box may so become up to three. */
static int nest_boxes(const struct nest *n, const struct radices *r, size_t of, struct boxes *list,
                      struct sl_error *err)
{
    const size_t begin = list->count;
    struct box b = { { 0 }, { 0 } };
    int64_t rest = n->base;
    for (uint32_t d = 0, k = 0; d < r->count; d++) {
        const bool axis = k < n->ndim && n->stride[k] == r->value[d];
        b.lo[d] = rest / r->value[d];
        b.hi[d] = b.lo[d] + (axis ? n->count[k++] : 1);
        rest %= r->value[d];
    }
    int rc = add_digit_box(list, &b, of, err);
    for (uint32_t d = r->count; d-- > 1 && !rc; ) {
        const int64_t top = r->value[d - 1] / r->value[d];
        for (size_t i = begin, end = list->count; i < end && !rc; i++) {
            const struct box old = list->items[i];
            if (old.hi[d] <= top)
                continue;
            const int64_t over = old.hi[d] - top;
            struct box tail = old;
            list->items[i].hi[d] = top;
            tail.lo[d] = 0;
            tail.lo[d - 1] += over / top + 1;
            tail.hi[d - 1] += over / top + 1;
            tail.hi[d] = over % top;
            if (tail.hi[d])
                rc = add_digit_box(list, &tail, of, err);
            if (over / top && !rc) {         /* whole turns: the slower digit is a single value */
                struct box middle = old;
                middle.lo[d] = 0;
                middle.hi[d] = top;
                middle.lo[d - 1] += 1;
                middle.hi[d - 1] += over / top;
                rc = add_digit_box(list, &middle, of, err);
            }
        }
    }
    return rc;
}

/* ---- do nests meet? ----------------------------------------------------------------------------- */

struct meet { const struct nest *a, *b; int64_t at; };

/* Nests that interleave, all strides of which divide each other. */
static int check_regular(const struct nest *nests, size_t count, const struct radices *r, struct meet *meet,
                         struct sl_error *err)
{
    struct boxes list = { 0 };
    struct box common;
    size_t i = 0, j = 0;
    int rc = SL_OK;
    for (size_t k = 0; k < count && !rc; k++)
        rc = nest_boxes(&nests[k], r, k, &list, err);
    const int found = rc ? 0 : boxes_overlap(list.items, list.count, r->count, &i, &j);
    if (found < 0)
        rc = sl_fail_memory(err, list.count * sizeof *list.items);
    if (found > 0 && box_meet(&list.items[i], &list.items[j], r->count, &common)) {
        *meet = (struct meet){ &nests[list.of[i]], &nests[list.of[j]], 0 };
        for (uint32_t d = 0; d < r->count; d++)
            meet->at += common.lo[d] * r->value[d];
    }
    free(list.items);
    free(list.of);
    return rc;
}

/* Sets *meet when two nests have an element in common. Nests are looked at in groups that
 * interleave; in a group whose strides do not divide each other, the nests with the largest
 * stride are taken apart, and the rest is seen anew. */
static int check_disjoint(struct nests *list, struct meet *meet, struct sl_error *err)
{
    int rc = SL_OK;
    for (bool again = true; again && !rc && !meet->a; ) {
        struct nests next = { 0 };
        again = false;
        qsort(list->items, list->count, sizeof *list->items, by_base);
        for (size_t i = 0, end; i < list->count && !rc && !meet->a; i = end) {
            int64_t reach = list->items[i].end;
            struct radices r = { { 1 }, 1 };
            bool regular = true;
            for (end = i + 1; end < list->count && list->items[end].base < reach; end++)
                reach = sl_max_i64(reach, list->items[end].end);
            int64_t largest = 0;
            for (size_t k = i; k < end && end > i + 1; k++)
                for (uint32_t a = 0; a < list->items[k].ndim; a++) {
                    largest = sl_max_i64(largest, list->items[k].stride[a]);
                    regular = regular && add_radix(&r, list->items[k].stride[a]);
                }
            if (end > i + 1 && regular)
                rc = check_regular(&list->items[i], end - i, &r, meet, err);
            for (size_t k = i; k < end && !regular && !rc; k++)
                rc = list->items[k].ndim && list->items[k].stride[0] == largest
                         ? take_apart(&list->items[k], &next, err)
                         : add_nest(&next, &list->items[k], err);
            again |= !regular;
        }
        if (again && !rc && !meet->a) {
            free(list->items);
            *list = next;
        } else {
            free(next.items);
        }
    }
    return rc;
}

/* ---- where is the gap? ------------------------------------------------------------------------------ */

/* The lowest element of a nest that is at least x, INT64_MAX if none; *run: how many follow it
 * directly, with it. */
static int64_t next_element(const struct nest *n, int64_t x, int64_t *run)
{
    int64_t at = n->base, digit[SL_AXES] = { 0 };
    *run = 1;
    if (x >= n->end)
        return INT64_MAX;
    for (uint32_t k = 0; k < n->ndim && at < x; k++) {
        digit[k] = sl_min_i64((x - at) / n->stride[k], n->count[k] - 1);
        at += digit[k] * n->stride[k];
    }
    for (uint32_t k = n->ndim; k-- > 0 && at < x; ) {
        at -= digit[k] * n->stride[k];       /* x lies past all the faster axes: one step more */
        if (digit[k] + 1 < n->count[k]) {
            digit[k]++;
            at += digit[k] * n->stride[k];
            break;
        }
        digit[k] = 0;
    }
    if (n->ndim && n->stride[n->ndim - 1] == 1)
        *run = n->count[n->ndim - 1] - digit[n->ndim - 1];
    return at;
}

/* The first stretch no nest covers. False when it was not found in time. */
static bool find_gap(const struct nests *list, uint64_t elements, int64_t *from, int64_t *to)
{
    int64_t x = 0;
    for (uint64_t steps = 0; (uint64_t)x < elements && steps < MOST_STEPS; ) {
        int64_t nearest = (int64_t)elements, run = 0, len;
        for (size_t i = 0; i < list->count; i++, steps++) {
            const int64_t at = next_element(&list->items[i], x, &len);
            if (at == x)
                run = sl_max_i64(run, len);
            else if (at < nearest)
                nearest = at;
        }
        if (!run) {
            *from = x;
            *to = nearest;
            return true;
        }
        x += run;
    }
    return false;
}

/* "rows 4-7", or "elements 3-5" of a vector or inside one row. */
static void stretch_text(const struct sl_tensor *t, int64_t from, int64_t to, char *out, size_t room)
{
    const int64_t row = t->ndim > 1 && t->shape[0] > 0 ? (int64_t)t->count / t->shape[0] : 1;
    const long long first = from / row, last = (to - 1) / row;
    if (row > 1 && to - from < row)
        snprintf(out, room, "row %lld, elements %lld-%lld of it", first, (long long)(from % row),
                 (long long)(from % row + to - from - 1));
    else
        snprintf(out, room, "rows %lld-%lld", first, last);
}

/* ---- the proof ------------------------------------------------------------------------------------------ */

static const char *copy_name(const struct sl_layout *target, const struct sl_copy *c)
{
    return c->param < target->param_count ? target->params[c->param].name : "padding";
}

/* The copies of a tensor as nests, and how many elements they have together. */
static int list_nests(const struct sl_layout *target, uint32_t index, const struct sl_copy *copies, size_t count,
                      struct nests *list, uint64_t *covered, struct sl_error *err)
{
    const struct sl_tensor *t = &target->tensors[index];
    *covered = 0;
    list->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct nest n;
        if (copies[i].target != index)
            return sl_fail(err, SL_INPUT, t->name, "a copy of %s goes to another tensor", copy_name(target, &copies[i]));
        if (!nest_of(&copies[i], t->count, &n))
            return sl_fail(err, SL_INPUT, t->name, "a copy of %s leaves the tensor or writes an element twice",
                           copy_name(target, &copies[i]));
        *covered += nest_elements(&n);
        const int rc = add_nest(list, &n, err);
        if (rc)
            return rc;
    }
    return SL_OK;
}

static int prove_tensor(const struct sl_layout *target, uint32_t index, const struct sl_copy *copies, size_t count,
                        struct nests *list, struct sl_error *err)
{
    const struct sl_tensor *t = &target->tensors[index];
    struct meet meet = { 0 };
    uint64_t covered;
    char where[128];
    int rc = list_nests(target, index, copies, count, list, &covered, err);
    if (rc || (count == 1 && covered == t->count) || (rc = check_disjoint(list, &meet, err)))
        return rc;
    if (meet.a) {
        stretch_text(t, meet.at, meet.at + 1, where, sizeof where);
        return sl_fail(err, SL_INPUT, t->name, "%s is written twice: from %s and from %s", where,
                       copy_name(target, meet.a->copy), copy_name(target, meet.b->copy));
    }
    if (covered == t->count)
        return SL_OK;
    int64_t from, to;
    if ((rc = list_nests(target, index, copies, count, list, &covered, err)))
        return rc;
    if (!find_gap(list, t->count, &from, &to))
        return sl_fail(err, SL_INPUT, t->name, "%llu of %llu elements are covered", (unsigned long long)covered,
                       (unsigned long long)t->count);
    stretch_text(t, from, to, where, sizeof where);
    return sl_fail(err, SL_INPUT, t->name, "%s of %lld come from nowhere", where,
                   (long long)(t->ndim ? t->shape[0] : 1));
}

int sl_prove_coverage(const struct sl_layout *target, const struct sl_copy *copies, size_t copy_count,
                      const size_t *target_first, struct sl_error *err)
{
    struct nests list = { 0 };
    int rc = SL_OK;
    if (target_first[0] || target_first[target->tensor_count] != copy_count)
        return sl_fail(err, SL_INPUT, "", "%zu copies are given, the target's tensors have %zu", copy_count,
                       target_first[target->tensor_count]);
    for (size_t i = 0; i < target->tensor_count && !rc; i++)
        rc = prove_tensor(target, (uint32_t)i, copies + target_first[i], target_first[i + 1] - target_first[i],
                          &list, err);
    free(list.items);
    return rc;
}
