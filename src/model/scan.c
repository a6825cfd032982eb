/* scan.c: one pass over the tensors of a checkpoint: which dialect their names
 * are of, which flags they show, which numbers their shapes tell, and how many
 * layers each stage has. Every shape votes, so that one odd shard does not
 * decide; nothing is read but what is already in memory.
 *
 * A name is looked up once a kind: its numbers are replaced by '#' first, and
 * what facts.json says of the result is remembered.
 */
#include "model/internal.h"

#include "base/error.h"
#include "base/map.h"
#include "base/num.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NO_FACT UINT64_MAX
#define MOST_LAYERS 100000              /* of one stage; more is no layer index */

struct scan {
    const struct sl_ckpt *c;
    struct sl_arena *arena;
    struct sl_seen *out;
    struct sl_map kinds;                 /* name with '#' -> index of its fact, NO_FACT */
    uint64_t dialects[SL_DIALECT_COUNT];
    uint64_t dtypes[SL_DTYPE_COUNT];
};

/* "decoder.layers.7.mlp.experts.linear_fc1.weight3" -> "decoder.layers.#.mlp.experts.linear_fc1.weight#".
 * *layer is the number after "layers." or "h.", -1 when there is none. */
static size_t kind_of(const char *name, char *out, size_t room, int32_t *layer)
{
    size_t len = 0;
    *layer = -1;
    for (const char *p = name; *p && len + 1 < room; ) {
        const size_t digits = isdigit((unsigned char)*p) ? strspn(p, "0123456789") : 0;
        const bool at_start = p == name || p[-1] == '.', at_end = p[digits] == '.' || !p[digits];
        if (digits && at_end && (at_start || !p[digits])) {
            if (at_start && *layer < 0 && len >= 7 && !memcmp(out + len - 7, "layers.", 7) && digits < 7)
                *layer = (int32_t)strtol(p, NULL, 10);
            out[len++] = '#';
            p += digits;
        } else {
            out[len++] = *p++;
        }
    }
    out[len] = '\0';
    return len;
}

/* Index of the first row of facts.json whose pattern the kind fits. */
static uint64_t fact_of(const char *kind)
{
    const struct sl_facts *f = sl_facts();
    for (size_t i = 0; i < f->name_count; i++)
        if (sl_text_glob(f->names[i].name, kind))
            return i;
    return NO_FACT;
}

static int look_up(struct scan *s, const char *kind, size_t len, const struct sl_name_fact **fact)
{
    uint64_t index;
    if (!sl_map_get(&s->kinds, kind, len, &index)) {
        const char *kept = sl_arena_strn(s->arena, kind, len);
        index = fact_of(kind);
        if (!kept || !sl_map_put(&s->kinds, kept, len, index))
            return SL_MEMORY;
    }
    *fact = index == NO_FACT ? NULL : &sl_facts()->names[index];
    return SL_OK;
}

/* ---- votes --------------------------------------------------------------- */

static struct sl_votes *votes_of(struct sl_seen *out, const char *fact)
{
    size_t i = 0;
    while (i < out->fact_count && strcmp(out->facts[i].fact, fact))
        i++;
    if (i == out->fact_count)
        out->facts[out->fact_count++].fact = fact;
    return &out->facts[i];
}

/* Counts one value; when there is no room for another the rarest is given up. */
static void vote(struct sl_votes *v, int64_t value)
{
    size_t i = 0;
    while (i < v->count && v->votes[i].value != value)
        i++;
    if (i == SL_VOTES)
        i--, v->votes[i].times = 0;
    v->count += i == v->count;
    v->votes[i].value = value;
    v->votes[i].times++;
    for (; i && v->votes[i].times > v->votes[i - 1].times; i--) {
        const int64_t swapped = v->votes[i - 1].value;
        const uint64_t times = v->votes[i - 1].times;
        v->votes[i - 1] = v->votes[i];
        v->votes[i].value = swapped;
        v->votes[i].times = times;
    }
}

/* Length of an axis of the whole array that t is a shard of. */
static bool whole_axis(const struct sl_ckpt *c, const struct sl_tensor *t, uint32_t axis, enum sl_cut cut,
                       int64_t *out)
{
    const bool shard = c->container == SL_MEGATRON_TORCH && cut != SL_CUT_NONE;
    const int64_t parts = !shard ? 1 : cut == SL_CUT_TP ? c->parallel.tp : c->parallel.etp;
    return sl_mul_i64(t->global_shape ? t->global_shape[axis] : t->shape[axis], parts, out);
}

static void vote_shape(struct scan *s, const struct sl_tensor *t, const struct sl_name_fact *fact)
{
    if (t->ndim != fact->ndim)
        return;
    for (uint32_t a = 0; a < fact->ndim; a++) {
        int64_t length;
        if (whole_axis(s->c, t, a, fact->axes[a].cut, &length))
            vote(votes_of(s->out, fact->axes[a].fact), length);
    }
}

bool sl_seen_fact(const struct sl_seen *s, const char *fact, int64_t *value)
{
    for (size_t i = 0; i < s->fact_count; i++)
        if (!strcmp(s->facts[i].fact, fact) && s->facts[i].count) {
            *value = s->facts[i].votes[0].value;
            return true;
        }
    return false;
}

/* ---- flags --------------------------------------------------------------- */

bool sl_seen_flag(const struct sl_seen *s, const char *flag, size_t len)
{
    for (size_t i = 0; i < s->flag_count; i++)
        if (strlen(s->flags[i]) == len && !memcmp(s->flags[i], flag, len))
            return true;
    return false;
}

bool sl_seen_add_flag(struct sl_seen *s, struct sl_arena *arena, const char *flag)
{
    if (!*flag || sl_seen_flag(s, flag, strlen(flag)))
        return true;
    if (s->flag_count == s->flag_room) {
        const size_t room = s->flag_room ? 2 * s->flag_room : 32;
        const char **flags = SL_ARENA_NEW(arena, const char *, room);
        if (!flags)
            return false;
        if (s->flag_count)
            memcpy(flags, s->flags, s->flag_count * sizeof *flags);
        s->flags = flags;
        s->flag_room = room;
    }
    s->flags[s->flag_count++] = flag;
    return true;
}

/* ---- layers -------------------------------------------------------------- */

static void note_layer(struct scan *s, const struct sl_tensor *t, int32_t pp, int32_t layer, bool moe)
{
    struct sl_seen *out = s->out;
    if (layer < 0 || layer >= MOST_LAYERS || t->chunk < 0 || t->chunk >= out->chunks || pp >= out->pp)
        return;
    const size_t stage = (size_t)pp * (size_t)out->chunks + (size_t)t->chunk;
    const uint32_t number = (uint32_t)layer;
    if (!out->layers[stage] || number < out->first_layer[stage])
        out->first_layer[stage] = number;
    if (number + 1 > out->layers[stage])
        out->layers[stage] = number + 1;
    if (moe) {
        int32_t *triple = out->moe_layers + 3 * out->moe_layer_count++;
        triple[0] = pp, triple[1] = t->chunk, triple[2] = layer;
    }
}

/* A layer with the projection of a hidden state and an embedding predicts a further token. */
static void note_mtp(struct scan *s, int32_t layer)
{
    struct sl_seen *out = s->out;
    if (layer < 0 || layer >= MOST_LAYERS)
        return;
    if (out->mtp_end == out->mtp_first)
        out->mtp_first = out->mtp_end = layer;
    out->mtp_first = layer < out->mtp_first ? layer : out->mtp_first;
    out->mtp_end = layer >= out->mtp_end ? layer + 1 : out->mtp_end;
}

/* Stages and chunks there are, and room for what is counted of each. */
static int make_stages(struct scan *s)
{
    struct sl_seen *out = s->out;
    out->pp = s->c->parallel.pp > 0 ? s->c->parallel.pp : 1;
    out->chunks = s->c->parallel.vpp > 0 ? s->c->parallel.vpp : 1;
    for (size_t i = 0; i < s->c->tensor_count; i++)
        if (s->c->tensors[i].chunk >= out->chunks)
            out->chunks = s->c->tensors[i].chunk + 1;
    const uint64_t stages = (uint64_t)out->pp * (uint64_t)out->chunks;
    out->layers = SL_ARENA_NEW(s->arena, uint32_t, stages);
    out->first_layer = SL_ARENA_NEW(s->arena, uint32_t, stages);
    out->stage_read = SL_ARENA_NEW(s->arena, bool, (uint64_t)out->pp);
    out->facts = SL_ARENA_NEW(s->arena, struct sl_votes, SL_FACT_AXES * sl_facts()->name_count);
    return out->layers && out->first_layer && out->stage_read && out->facts ? SL_OK : SL_MEMORY;
}

/* ---- the pass ------------------------------------------------------------ */

static bool is_weight(const struct sl_tensor *t)
{
    return !(t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER)) && t->name;
}

/* "mla fork_mla": both. */
static int add_flags(struct scan *s, const char *flags)
{
    if (!strchr(flags, ' '))
        return sl_seen_add_flag(s->out, s->arena, flags) ? SL_OK : SL_MEMORY;
    for (const char *p = flags; *(p += strspn(p, " ")); p += strcspn(p, " ")) {
        const size_t len = strcspn(p, " ");
        const char *flag = sl_seen_flag(s->out, p, len) ? "" : sl_arena_strn(s->arena, p, len);
        if (!flag || !sl_seen_add_flag(s->out, s->arena, flag))
            return SL_MEMORY;
    }
    return SL_OK;
}

static int look_at(struct scan *s, const struct sl_tensor *t)
{
    char kind[512];
    int32_t layer;
    const struct sl_name_fact *fact;
    const bool ranked = t->rank >= 0 && (size_t)t->rank < s->c->rank_count;
    const int32_t pp = ranked ? s->c->ranks[t->rank].pp : 0;
    const size_t len = kind_of(t->name, kind, sizeof kind, &layer);
    if (look_up(s, kind, len, &fact))
        return SL_MEMORY;
    s->out->weights++;
    if (t->dtype < SL_DTYPE_COUNT)
        s->dtypes[t->dtype]++;
    if (pp >= 0 && pp < s->out->pp)
        s->out->stage_read[pp] = true;
    if (!fact)
        return SL_OK;
    s->dialects[fact->dialect]++;
    vote_shape(s, t, fact);
    if (sl_text_ends(kind, ".eh_proj.weight"))
        note_mtp(s, layer);
    if (!sl_text_starts(kind, "mtp."))
        note_layer(s, t, pp, layer, s->out->moe_layers && sl_text_starts(fact->flag, "moe") &&
                                        (!fact->flag[3] || fact->flag[3] == ' '));
    return add_flags(s, fact->flag);
}

static size_t most(const uint64_t *counts, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (counts[i] > counts[best])
            best = i;
    return best;
}

static int scan_tensors(struct scan *s)
{
    int code = make_stages(s);
    s->out->moe_layers = SL_ARENA_NEW(s->arena, int32_t, 3 * (uint64_t)s->c->tensor_count);
    if (!s->out->moe_layers)
        code = SL_MEMORY;
    for (size_t i = 0; i < s->c->tensor_count && !code; i++)
        if (is_weight(&s->c->tensors[i]))
            code = look_at(s, &s->c->tensors[i]);
    return code;
}

int sl_scan(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_seen *out, struct sl_error *err)
{
    struct scan s = {.c = c, .arena = arena, .out = out};
    *out = (struct sl_seen){.any = false};
    const int code = scan_tensors(&s);
    sl_map_free(&s.kinds);
    if (code)
        return sl_fail_memory(err, 0);
    out->dialect = (enum sl_dialect)most(s.dialects, SL_DIALECT_COUNT);
    out->any = s.dialects[out->dialect] > 0;
    out->dtype = (enum sl_dtype)most(s.dtypes, SL_DTYPE_COUNT);
    return SL_OK;
}
