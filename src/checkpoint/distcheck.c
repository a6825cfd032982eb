/* distcheck.c: chunks against what there is: has each a place, does its file reach so
 * far, do the chunks of an array cover it once? One finding a file or an array, with
 * key and chunk. Loading in Megatron does not look: a hole is memory that was never
 * written there. */
#include "checkpoint/ckptread.h"
#include "checkpoint/tiling.h"

#include "base/error.h"
#include "base/map.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define TOLD_AT_MOST 20          /* arrays with findings; the rest is counted */

struct teller {
    struct dist *d;
    size_t told, untold;
    size_t state;                /* faults of what is no weight */
    char first_state[256];
    uint64_t *short_of;          /* by file: items behind its end */
    const struct sl_dcp_tensor **first_tensor;
    const struct sl_dcp_chunk **first_chunk;
};

static bool is_told(struct teller *w)
{
    w->untold += w->told >= TOLD_AT_MOST;
    return w->told < TOLD_AT_MOST && ++w->told;
}

static bool is_reached(const struct dist *d, const struct sl_dcp_place *p)
{
    uint64_t end;
    return p->file >= 0 && d->c->opened[p->file].identified && sl_add_u64(p->at, p->length, &end) &&
           end <= d->c->opened[p->file].file.size;
}

static void note_state(struct teller *w, const char *key)
{
    if (!w->state++)
        snprintf(w->first_state, sizeof w->first_state, "%s", key);
}

static const char *file_name(const struct dist *d, const struct sl_dcp_chunk *chunk)
{
    return chunk->place.file >= 0 ? d->c->files[chunk->place.file].name : ".metadata";
}

static char *box_of(const struct sl_dcp_tensor *t, const struct sl_dcp_chunk *chunk, char *out, size_t room)
{
    return sl_dcp_box_text(chunk->offset, chunk->size, t->ndim, out, room);
}

/* ---- one chunk ------------------------------------------------------------------------- */

static void look_at_place(struct teller *w, const struct sl_dcp_tensor *t, const struct sl_dcp_chunk *chunk)
{
    const struct sl_dcp_place *p = &chunk->place;
    char box[512];
    if (p->file < 0 && w->d->zarrs) {
        if (is_told(w))
            sl_problem_add(&w->d->c->problems, "chunk-missing", t->key, NULL, "the file of chunk %s is missing, and the array has no fill value",
                           box_of(t, chunk, box, sizeof box));
        return;
    }
    if (p->file < 0) {
        if (is_told(w))
            sl_problem_add(&w->d->c->problems, "chunk-missing", ".metadata", NULL, "%s: chunk %s has no place in any file", t->key,
                           box_of(t, chunk, box, sizeof box));
        return;
    }
    if (is_reached(w->d, p))
        return;
    if (!w->short_of[p->file]++) {
        w->first_tensor[p->file] = t;
        w->first_chunk[p->file] = chunk;
    }
}

static void tell_file(struct teller *w, size_t i)
{
    struct sl_ckpt *c = w->d->c;
    const struct sl_dcp_tensor *t = w->first_tensor[i];
    const struct sl_dcp_chunk *chunk = w->first_chunk[i];
    char box[512], damage[600];
    snprintf(damage, sizeof damage, "%llu chunks, first %.200s %s", (unsigned long long)w->short_of[i], t->key,
             box_of(t, chunk, box, sizeof box));
    const struct sl_problem_text more = { .damage = damage };
    if (!c->opened[i].identified) {
        const bool is_there = sl_path_exists(c->files[i].path);
        sl_problem_add(&c->problems, is_there ? "damaged-shard" : "missing-file", c->files[i].name, &more, "%s: %s, chunk %s, should be in it",
                       is_there ? c->opened[i].why : "the file is missing", t->key, box);
        return;
    }
    sl_problem_add(&c->problems, "truncated-shard", c->files[i].name, &more,
                   "it has %llu bytes; .metadata places %s, chunk %s, at byte %llu with %llu bytes",
                   (unsigned long long)c->files[i].size, t->key, box, (unsigned long long)chunk->place.at,
                   (unsigned long long)chunk->place.length);
}

/* ---- one array --------------------------------------------------------------------------- */

static void tell_tiling(struct teller *w, const struct sl_dcp_tensor *t, const struct tiling *found)
{
    struct sl_ckpt *c = w->d->c;
    char a[512], b[512], shape[256];
    const struct sl_dcp_chunk *first = t->chunk_count ? &t->chunks[found->first] : NULL;
    if (!is_told(w))
        return;
    sl_text_shape(t->shape, t->ndim, shape, sizeof shape);
    if (found->fault == TILING_OUTSIDE) {
        sl_problem_add(&c->problems, "chunk-outside", file_name(w->d, first), NULL, "%s: chunk %s lies outside of its array %s", t->key,
                       box_of(t, first, a, sizeof a), shape);
    } else if (found->fault == TILING_OVERLAP) {
        const struct sl_dcp_chunk *second = &t->chunks[found->second];
        sl_problem_add(&c->problems, "chunk-overlap", file_name(w->d, second), NULL, "%s: chunk %s overlaps chunk %s of %s", t->key,
                       box_of(t, second, b, sizeof b), box_of(t, first, a, sizeof a), file_name(w->d, first));
    } else {
        int64_t size[SL_TILING_AXES] = { 0 };
        for (uint32_t k = 0; k < t->ndim; k++)
            size[k] = found->hi[k] - found->lo[k];
        sl_problem_add(&c->problems, "chunk-missing", ".metadata", NULL, "%s: no chunk holds %s of its array %s", t->key,
                       sl_dcp_box_text(found->lo, size, t->ndim, a, sizeof a), shape);
    }
}

static int look_at_array(struct teller *w, const struct sl_dcp_tensor *t, struct sl_error *err)
{
    struct tiling found;
    struct sl_error odd = { 0 };
    const bool state = dist_is_state(t);
    bool reached = true;
    struct tiling_box *boxes = malloc((t->chunk_count + (size_t)1) * sizeof *boxes);
    if (!boxes)
        return sl_fail_memory(err, t->chunk_count * sizeof *boxes);
    for (uint32_t i = 0; i < t->chunk_count; i++) {
        boxes[i] = (struct tiling_box){ t->chunks[i].offset, t->chunks[i].size };
        reached = reached && is_reached(w->d, &t->chunks[i].place);
        if (!state)
            look_at_place(w, t, &t->chunks[i]);
    }
    const int code = tiling_check(t->shape, t->ndim, boxes, t->chunk_count, &found, &odd);
    free(boxes);
    if (code == SL_MEMORY)
        return sl_fail_memory(err, 1);
    if (state && (code || !reached || found.fault != TILING_NONE))
        note_state(w, t->key);
    else if (code && is_told(w))
        sl_problem_add(&w->d->c->problems, "chunk-overlap", ".metadata", NULL, "%s: its %s", t->key, odd.message);
    else if (!state && !code && found.fault != TILING_NONE)
        tell_tiling(w, t, &found);
    return SL_OK;
}

/* ---- the two halves of a gated matrix ------------------------------------------------------ */

static void look_at_halves(struct teller *w)
{
    struct sl_map keys = { 0 };
    const struct sl_dcp *dcp = &w->d->dcp;
    for (uint32_t i = 0; i < dcp->tensor_count; i++)
        sl_map_put(&keys, dcp->tensors[i].key, strlen(dcp->tensors[i].key), i);
    for (uint32_t i = 0; i < dcp->tensor_count; i++) {
        const char *key = dcp->tensors[i].key;
        uint64_t at;
        if (!strstr(key, "linear_fc1.") || !(sl_text_ends(key, "_w") || sl_text_ends(key, "_v")))
            continue;
        char *other = sl_arena_str(&w->d->c->arena, key);
        if (other)
            other[strlen(other) - 1] = key[strlen(key) - 1] == 'w' ? 'v' : 'w';
        if (other && !sl_map_get(&keys, other, strlen(other), &at) && is_told(w))
            sl_problem_add(&w->d->c->problems, "chunk-missing", ".metadata", NULL, "%s is there, its other half %s is not", key, other);
    }
    sl_map_free(&keys);
}

int dist_tell(struct dist *d, struct sl_error *err)
{
    struct sl_ckpt *c = d->c;
    struct teller w = { .d = d };
    w.short_of = SL_ARENA_NEW(&c->arena, uint64_t, c->file_count);
    w.first_tensor = SL_ARENA_NEW(&c->arena, const struct sl_dcp_tensor *, c->file_count);
    w.first_chunk = SL_ARENA_NEW(&c->arena, const struct sl_dcp_chunk *, c->file_count);
    if (!w.short_of || !w.first_tensor || !w.first_chunk)
        return sl_fail_memory(err, c->file_count * sizeof *w.short_of);
    int code = SL_OK;
    for (uint32_t i = 0; i < d->dcp.tensor_count && !code; i++)
        code = look_at_array(&w, &d->dcp.tensors[i], err);
    for (size_t i = 0; i < c->file_count && !code; i++)
        if (w.short_of[i])
            tell_file(&w, i);
    for (uint32_t i = 0; i < d->dcp.object_count; i++)
        if (!is_reached(d, &d->dcp.objects[i].place))
            note_state(&w, d->dcp.objects[i].key);
    if (d->half_keys)
        look_at_halves(&w);
    if (w.state)
        sl_problem_add(&c->problems, "state-incomplete", "", NULL, "%zu %s not whole, first %s", w.state,
                       w.state == 1 ? "entry that is no weight is" : "entries that are no weights are", w.first_state);
    if (w.untold)
        sl_problem_add(&c->problems, "chunk-missing", ".metadata", NULL, "%zu more findings of this kind are not listed", w.untold);
    return code;
}
