/* deal.c: a plan dealt out to several processes: whole output files, the largest first, each to the
 * part that has the fewest bytes. It follows from the plan alone, so every node comes to the same.
 */
#include "plan/plan.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct turn { uint64_t size; uint32_t file; };

static int largest_first(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return (x->file > y->file) - (x->file < y->file);
}

static uint32_t lightest(const uint64_t *bytes, uint32_t parts)
{
    uint32_t least = 0;
    for (uint32_t i = 1; i < parts; i++)
        if (bytes[i] < bytes[least])
            least = i;
    return least;
}

int sl_conversion_deal(const struct sl_conversion *p, uint32_t parts, uint32_t *part_of_file, struct sl_error *err)
{
    struct turn *turns = calloc(p->file_count + 1, sizeof *turns);
    uint64_t *bytes = calloc(parts, sizeof *bytes);
    const bool good = turns && bytes;
    for (uint32_t i = 0; good && i < p->file_count; i++)
        turns[i] = (struct turn){ p->files[i].size, i };
    if (good)
        qsort(turns, p->file_count, sizeof *turns, largest_first);
    for (size_t i = 0; good && i < p->file_count; i++) {
        const uint32_t to = lightest(bytes, parts);
        part_of_file[turns[i].file] = to + 1;
        bytes[to] += turns[i].size;
    }
    free(turns);
    free(bytes);
    return good ? SL_OK : sl_fail_memory(err, p->file_count * sizeof *turns);
}

/* ---- one part as a plan of its own ---- */

void sl_conversion_part_hash(const struct sl_conversion *p, uint32_t part, uint32_t parts, char hash[33])
{
    char text[80];
    const int len = snprintf(text, sizeof text, "%s part %u of %u", p->hash, part, parts);
    const XXH128_hash_t h = XXH3_128bits(text, (size_t)len);
    snprintf(hash, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

/* Numbers in the part: of each target and file of the whole; UINT32_MAX: another part's. */
struct numbers { uint32_t *target, *file; };

static int number(const struct sl_conversion *p, const uint32_t *part_of_file, uint32_t part, struct sl_conversion *out, struct numbers *n)
{
    for (size_t i = 0; i < p->file_count; i++)
        n->file[i] = part_of_file[i] == part ? (uint32_t)out->file_count++ : UINT32_MAX;
    for (size_t i = 0; i < p->target_count; i++) {
        n->target[i] = n->file[p->targets[i].file] == UINT32_MAX ? UINT32_MAX : (uint32_t)out->target_count++;
        if (n->target[i] != UINT32_MAX)
            out->copy_count += p->target_first[i + 1] - p->target_first[i];
    }
    out->targets = SL_ARENA_NEW(&out->arena, struct sl_tensor, out->target_count);
    out->files = SL_ARENA_NEW(&out->arena, struct sl_out_file, out->file_count);
    out->copies = malloc((out->copy_count + 1) * sizeof *out->copies);
    out->target_first = malloc((out->target_count + 1) * sizeof *out->target_first);
    return out->targets && out->files && out->copies && out->target_first ? SL_OK : SL_MEMORY;
}

static void take_targets(const struct sl_conversion *p, const struct numbers *n, struct sl_conversion *out, struct sl_out_item *items)
{
    size_t copies = 0;
    out->write_bytes = out->read_bytes = 0;
    for (size_t i = 0; i < p->target_count; i++) {
        const uint32_t to = n->target[i];
        if (to == UINT32_MAX)
            continue;
        out->targets[to] = p->targets[i];
        out->targets[to].file = (int32_t)n->file[p->targets[i].file];
        out->write_bytes += p->targets[i].bytes;
        out->read_bytes += p->targets[i].bytes;
        out->target_first[to] = copies;
        if (items)
            items[to] = p->items[i];
        for (size_t k = p->target_first[i]; k < p->target_first[i + 1]; k++) {
            out->copies[copies] = p->copies[k];
            out->copies[copies++].target = to;
        }
    }
    out->target_first[out->target_count] = copies;
}

static int take_files(const struct sl_conversion *p, const struct numbers *n, struct sl_conversion *out)
{
    for (size_t i = 0; i < p->file_count; i++) {
        if (n->file[i] == UINT32_MAX)
            continue;
        struct sl_out_file *file = &out->files[n->file[i]];
        *file = p->files[i];
        if (!file->storage_target)
            continue;
        uint32_t *storages = SL_ARENA_NEW(&out->arena, uint32_t, file->tensors);
        if (!storages)
            return SL_MEMORY;
        for (size_t k = 0; k < file->tensors; k++)
            storages[k] = n->target[p->files[i].storage_target[k]];
        file->storage_target = storages;
    }
    return SL_OK;
}

int sl_conversion_part(const struct sl_conversion *p, uint32_t part, uint32_t parts, struct sl_conversion *out, struct sl_error *err)
{
    *out = *p;
    out->arena = (struct sl_arena){ 0 };
    out->target_count = out->copy_count = out->file_count = out->extra_count = 0;
    out->copies = NULL;
    out->target_first = NULL;
    out->items = NULL;
    sl_conversion_part_hash(p, part, parts, out->hash);

    struct numbers n = { malloc((p->target_count + 1) * sizeof *n.target), malloc((p->file_count + 1) * sizeof *n.file) };
    uint32_t *part_of_file = malloc((p->file_count + 1) * sizeof *part_of_file);
    struct sl_out_item *items = NULL;
    int code = n.target && n.file && part_of_file ? sl_conversion_deal(p, parts, part_of_file, err) : SL_MEMORY;
    if (!code)
        code = number(p, part_of_file, part, out, &n);
    if (!code && p->items && !(items = SL_ARENA_NEW(&out->arena, struct sl_out_item, out->target_count)))
        code = SL_MEMORY;
    if (!code) {
        out->items = items;
        take_targets(p, &n, out, items);
        code = take_files(p, &n, out);
    }
    free(n.target);
    free(n.file);
    free(part_of_file);
    if (code) {
        sl_conversion_part_free(out);
        return sl_fail_memory(err, p->target_count * sizeof *p->targets);
    }
    return SL_OK;
}

void sl_conversion_part_free(struct sl_conversion *part)
{
    free(part->copies);
    free(part->target_first);
    sl_arena_free(&part->arena);
    *part = (struct sl_conversion){ .copies = NULL };
}
