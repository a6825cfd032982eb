/* tiling.c: the borders of all boxes cut the array into a grid of cells; every box
 * is made of whole cells, so marking cells finds what is held twice and what by nobody.
 *
 *        0     4     8         boxes a = rows 0-2, columns 0-4
 *     0  | a   | b   |               b = rows 0-1, columns 4-8
 *     1  | a   | .   |          cells: 2 x 2, the one at (1, 4) is marked by nobody
 *     2
 *
 * Chunks of real checkpoints are cut regularly: as many cells as chunks. */
#include "checkpoint/tiling.h"

#include "base/error.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define MOST_CELLS (UINT64_C(1) << 28)        /* a byte each */

struct grid {
    uint32_t ndim;
    const struct tiling_box *boxes;
    uint32_t count;
    int64_t *cuts[SL_TILING_AXES];       /* borders, ascending, each once; owned */
    uint32_t cut_count[SL_TILING_AXES];
    uint64_t cells;
    unsigned char *marked;
};

static int by_number(const void *x, const void *y)
{
    const int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

static bool is_empty(const struct grid *g, uint32_t box)
{
    for (uint32_t a = 0; a < g->ndim; a++)
        if (!g->boxes[box].size[a])
            return true;
    return false;
}

static int cut_axis(struct grid *g, uint32_t axis, int64_t length, struct sl_error *err)
{
    int64_t *cuts = malloc((2 * (size_t)g->count + 2) * sizeof *cuts);
    size_t count = 0, kept = 0;
    g->cuts[axis] = cuts;
    if (!cuts)
        return sl_fail_memory(err, 2 * (uint64_t)g->count * sizeof *cuts);
    cuts[count++] = 0;
    cuts[count++] = length;
    for (uint32_t i = 0; i < g->count; i++) {
        if (is_empty(g, i))
            continue;
        cuts[count++] = g->boxes[i].offset[axis];
        cuts[count++] = g->boxes[i].offset[axis] + g->boxes[i].size[axis];
    }
    qsort(cuts, count, sizeof *cuts, by_number);
    for (size_t i = 0; i < count; i++)
        if (!kept || cuts[kept - 1] != cuts[i])
            cuts[kept++] = cuts[i];
    g->cut_count[axis] = (uint32_t)kept;
    return SL_OK;
}

static uint32_t cut_number(const struct grid *g, uint32_t axis, int64_t at)
{
    const int64_t *found = bsearch(&at, g->cuts[axis], g->cut_count[axis], sizeof at, by_number);
    return (uint32_t)(found - g->cuts[axis]);
}

/* Marks the cells of a box. Returns the number of one that was marked before, or UINT64_MAX. */
static uint64_t mark(struct grid *g, uint32_t box)
{
    uint32_t lo[SL_TILING_AXES] = { 0 }, hi[SL_TILING_AXES] = { 0 }, x[SL_TILING_AXES] = { 0 };
    for (uint32_t a = 0; a < g->ndim; a++) {
        lo[a] = x[a] = cut_number(g, a, g->boxes[box].offset[a]);
        hi[a] = cut_number(g, a, g->boxes[box].offset[a] + g->boxes[box].size[a]);
    }
    for (;;) {
        uint64_t cell = 0;
        for (uint32_t a = 0; a < g->ndim; a++)
            cell = cell * (g->cut_count[a] - 1) + x[a];
        if (g->marked[cell])
            return cell;
        g->marked[cell] = 1;
        uint32_t a = g->ndim;
        while (a-- > 0) {
            if (++x[a] < hi[a])
                break;
            x[a] = lo[a];
        }
        if (a == UINT32_MAX)
            return UINT64_MAX;
    }
}

static void corners(const struct grid *g, uint64_t cell, int64_t *lo, int64_t *hi)
{
    for (uint32_t a = g->ndim; a-- > 0; ) {
        const uint64_t steps = g->cut_count[a] - 1;
        lo[a] = g->cuts[a][cell % steps];
        hi[a] = g->cuts[a][cell % steps + 1];
        cell /= steps;
    }
}

/* The box before `box` that holds the cell. */
static uint32_t holder(const struct grid *g, uint32_t box, uint64_t cell)
{
    int64_t lo[SL_TILING_AXES], hi[SL_TILING_AXES];
    corners(g, cell, lo, hi);
    for (uint32_t i = 0; i < box; i++) {
        bool holds = !is_empty(g, i);
        for (uint32_t a = 0; a < g->ndim && holds; a++)
            holds = g->boxes[i].offset[a] <= lo[a] && hi[a] <= g->boxes[i].offset[a] + g->boxes[i].size[a];
        if (holds)
            return i;
    }
    return box;
}

static bool find_outside(const struct grid *g, const int64_t *shape, struct tiling *out)
{
    for (uint32_t i = 0; i < g->count; i++)
        for (uint32_t a = 0; a < g->ndim; a++) {
            int64_t end;
            if (g->boxes[i].offset[a] >= 0 && g->boxes[i].size[a] >= 0 &&
                sl_add_i64(g->boxes[i].offset[a], g->boxes[i].size[a], &end) && end <= shape[a])
                continue;
            *out = (struct tiling){ .fault = TILING_OUTSIDE, .first = i };
            return true;
        }
    return false;
}

static int make_cells(struct grid *g, const int64_t *shape, struct sl_error *err)
{
    g->cells = 1;
    for (uint32_t a = 0; a < g->ndim; a++) {
        const int code = cut_axis(g, a, shape[a], err);
        if (code)
            return code;
        if (!sl_mul_u64(g->cells, g->cut_count[a] - 1, &g->cells) || g->cells > MOST_CELLS)
            return sl_fail(err, SL_UNSUPPORTED, "", "%u chunks are cut too irregularly to be looked at", g->count);
    }
    g->marked = calloc(g->cells, 1);
    return g->marked ? SL_OK : sl_fail_memory(err, g->cells);
}

static void look(struct grid *g, struct tiling *out)
{
    for (uint32_t i = 0; i < g->count; i++) {
        const uint64_t twice = is_empty(g, i) ? UINT64_MAX : mark(g, i);
        if (twice == UINT64_MAX)
            continue;
        *out = (struct tiling){ .fault = TILING_OVERLAP, .first = holder(g, i, twice), .second = i };
        return;
    }
    const unsigned char *hole = memchr(g->marked, 0, g->cells);
    if (hole) {
        out->fault = TILING_HOLE;
        corners(g, (uint64_t)(hole - g->marked), out->lo, out->hi);
    }
}

int tiling_check(const int64_t *shape, uint32_t ndim, const struct tiling_box *boxes, uint32_t count,
                 struct tiling *out, struct sl_error *err)
{
    struct grid g = { .ndim = ndim, .boxes = boxes, .count = count };
    bool empty = ndim > SL_TILING_AXES;
    *out = (struct tiling){ .fault = TILING_NONE };
    for (uint32_t a = 0; a < ndim; a++)
        empty = empty || !shape[a];
    if (ndim > SL_TILING_AXES || find_outside(&g, shape, out) || empty)
        return SL_OK;
    const int code = make_cells(&g, shape, err);
    if (!code)
        look(&g, out);
    for (uint32_t a = 0; a < ndim; a++)
        free(g.cuts[a]);
    free(g.marked);
    return code;
}
