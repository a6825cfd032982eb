/* units.c: what workers take turns at. A tensor is one unit, unless it is so large that the others would wait for
 * the worker that has it: then each buffer of it is one, and several workers are at it.
 *
 *     worker 0   gather 0 | digest 0 | write 0 | gather 2       | digest 2 | write 2 | ..
 *     worker 1   gather 1            | digest 1 | write 1 | gather 3        | digest 3 | ..
 *
 * A checksum goes over the bytes in their order, so the digests of one tensor are taken in turn; whatever else is
 * done to them is not. Numbers are the same for any number of workers.
 */
#include "run/convert.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <stdlib.h>

#define LARGE_SHARE 16u                        /* tensors above 1/16 of a worker's share are large */
#define SPLIT_LEAST 4u                         /* buffers; what has fewer is not worth it */

/* Elements of t that go through a buffer at a time: whole rows, where they are not long. */
uint64_t piece_of(const struct sl_tensor *t, size_t buffer_len)
{
    const uint64_t fit = buffer_len / sl_max_u64(1, sl_dtype_size(t->dtype));
    const uint64_t rows = t->ndim > 1 && t->shape[0] > 0 ? (uint64_t)t->shape[0] : 1;
    const uint64_t row = t->count / rows;
    return row > 0 && row <= fit / 4 ? fit - fit % row : fit;
}

struct place { uint64_t bytes, offset; int32_t file; uint32_t target; bool large; };

/* Large ones come first, largest first; the others by file, so that disks and folders are walked in order. */
static int by_turn(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->large != y->large)
        return x->large ? -1 : 1;
    if (x->large && x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* What an earlier run has written is read again first, and perhaps not written: that is one worker's. */
static bool is_split(const struct sl_run *r, const struct convert *v, const struct place *place)
{
    const bool resumed = v->target.resumed && v->target.state.written[place->target];
    return place->large && r->threads > 1 && !resumed && place->bytes >= SPLIT_LEAST * (uint64_t)r->workers[0].buffer_len;
}

static int number(struct sl_run *r, struct convert *v, const struct place *places, struct sl_error *err)
{
    uint64_t units = 0;
    for (size_t i = 0; i < v->p->target_count; i++) {
        const struct sl_tensor *t = &v->p->targets[places[i].target];
        const uint64_t piece = piece_of(t, r->workers[0].buffer_len);
        v->order[i] = places[i].target;
        v->first_unit[i] = units++;
        if (!is_split(r, v, &places[i]) || t->count <= piece)
            continue;
        struct shared *s = SL_ARENA_NEW(&r->arena, struct shared, 1);
        if (!s)
            return sl_fail_memory(err, sizeof *s);
        s->count = (t->count + piece - 1) / piece;
        atomic_init(&s->left, s->count);
        atomic_init(&s->left_to_verify, s->count);
        v->shared[i] = s;
        units += s->count - 1;
    }
    v->first_unit[v->p->target_count] = units;
    return SL_OK;
}

int units_make(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    const size_t count = v->p->target_count;
    struct place *places = malloc((count ? count : 1) * sizeof *places);
    v->order = SL_ARENA_NEW(&r->arena, uint32_t, count);
    v->first_unit = SL_ARENA_NEW(&r->arena, uint64_t, count + 1);
    v->shared = SL_ARENA_NEW(&r->arena, struct shared *, count);
    if (!places || !v->order || !v->first_unit || !v->shared) {
        free(places);
        return sl_fail_memory(err, count * sizeof *places);
    }
    const uint64_t large = v->p->write_bytes / r->threads / LARGE_SHARE;
    for (size_t i = 0; i < count; i++) {
        const struct sl_tensor *t = &v->p->targets[i];
        places[i] = (struct place){ .bytes = t->bytes, .offset = t->offset, .file = t->file,
                                    .target = (uint32_t)i, .large = t->bytes > large };
    }
    if (count)
        qsort(places, count, sizeof *places, by_turn);
    const int code = number(r, v, places, err);
    free(places);
    return code;
}

struct unit unit_at(const struct sl_run *r, const struct convert *v, uint64_t i)
{
    size_t low = 0, high = v->p->target_count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (v->first_unit[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    const struct sl_tensor *t = &v->p->targets[v->order[low]];
    struct unit u = { .turn = low, .target = v->order[low], .shared = v->shared[low], .number = i - v->first_unit[low],
                      .count = t->count };
    if (u.shared) {
        const uint64_t piece = piece_of(t, r->workers[0].buffer_len);
        u.first = u.number * piece;
        u.count = sl_min_u64(piece, t->count - u.first);
    }
    return u;
}

/* ---- taking turns ---- */

bool unit_goes_on(struct sl_run *r, uint64_t i, bool draining)
{
    const struct convert *v = r->job;
    const struct unit u = unit_at(r, v, i);
    int untouched = SHARED_UNTOUCHED;
    if (!u.shared)
        return false;
    /* whoever is first decides for all: a tensor that has been begun is ended */
    atomic_compare_exchange_strong(&u.shared->state, &untouched, draining ? SHARED_REFUSED : SHARED_BEGUN);
    return atomic_load(&u.shared->state) == SHARED_BEGUN;
}

int unit_wait(struct sl_run *r, const struct unit *u, struct sl_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (u->shared->turn != u->number && !atomic_load(&r->cancel) && !atomic_load(&r->failed))
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return sl_run_step(r, err);
}

void unit_pass(struct sl_run *r, const struct unit *u)
{
    pthread_mutex_lock(&r->lock);
    u->shared->turn++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}
