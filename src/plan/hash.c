/* hash.c: one number for everything that decides the bytes of a conversion, so
 * that a run can tell whether what it finds half done is its own. */
#include "plan/parts.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static void add_text(XXH3_state_t *s, const char *text)
{
    XXH3_128bits_update(s, text ? text : "", (text ? strlen(text) : 0) + 1);
}

static void add_number(XXH3_state_t *s, uint64_t n)
{
    XXH3_128bits_update(s, &n, sizeof n);
}

static void add_tensor(XXH3_state_t *s, const struct sl_tensor *t)
{
    add_text(s, t->name);
    add_number(s, t->dtype);
    add_number(s, (uint64_t)t->file);
    add_number(s, t->offset);
    add_number(s, t->bytes);
    for (uint32_t a = 0; a < t->ndim; a++)
        add_number(s, (uint64_t)t->shape[a]);
}

int plan_hash(struct sl_conversion *p, struct sl_error *err)
{
    XXH3_state_t *s = XXH3_createState();
    if (!s)
        return sl_fail_memory(err, 1024);    /* about what such a state takes */
    XXH3_128bits_reset(s);
    add_text(s, "shardlens plan 1");
    for (size_t i = 0; i < p->ckpt->file_count; i++) {
        add_text(s, p->ckpt->files[i].name);
        add_number(s, p->ckpt->files[i].size);
        add_number(s, (uint64_t)p->ckpt->files[i].mtime_ns);
    }
    for (size_t i = 0; i < p->source.tensor_count; i++)
        add_tensor(s, &p->source.tensors[i]);
    for (size_t i = 0; i < p->target_count; i++)
        add_tensor(s, &p->targets[i]);
    XXH3_128bits_update(s, p->copies, p->copy_count * sizeof *p->copies);
    for (size_t i = 0; i < p->file_count; i++) {
        add_text(s, p->files[i].name);
        add_number(s, p->files[i].size);
        XXH3_128bits_update(s, p->files[i].head, p->files[i].head_len);
        if (p->files[i].torch)
            XXH3_128bits_update(s, p->files[i].torch->pickle, p->files[i].torch->pickle_len);
    }
    for (size_t i = 0; i < p->extra_count; i++) {
        add_text(s, p->extras[i].name);
        add_text(s, p->extras[i].from);
        add_number(s, p->extras[i].len);
        if (p->extras[i].bytes)
            XXH3_128bits_update(s, p->extras[i].bytes, p->extras[i].len);
    }
    const XXH128_hash_t h = XXH3_128bits_digest(s);
    XXH3_freeState(s);
    snprintf(p->hash, sizeof p->hash, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    return SL_OK;
}
