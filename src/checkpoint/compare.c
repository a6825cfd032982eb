/* compare.c: ranks against each other. What most say is right; the one that
 * differs is named, with what it has and what the others have. */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/map.h"
#include "base/num.h"
#include "base/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLD_AT_MOST 12          /* findings of one kind, then a count */

/* Arguments that are a rank's own, or that change between runs of one model. */
static const char *const own_args[] = {
    "rank", "local_rank", "*_dir", "*_path", "save", "load", "consumed_*", "iteration", "start_time*", "*timestamp*",
    "*_time", "master_*", "node_rank", "*hostname*", "wandb_*", "tensorboard_*", "log_*", "*_interval", "data_parallel_random_init",
};
/* Arguments that decide shapes or the parallel layout. */
static const char *const shape_args[] = {
    "num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "group_query_attention", "num_query_groups",
    "kv_channels", "padded_vocab_size", "swiglu", "add_bias_linear", "add_qkv_bias", "qk_layernorm", "num_experts",
    "moe_ffn_hidden_size", "moe_layer_freq", "moe_shared_expert_intermediate_size", "multi_latent_attention",
    "q_lora_rank", "kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim",
    "untie_embeddings_and_output_weights", "normalization", "max_position_embeddings", "position_embedding_type",
    "tensor_model_parallel_size", "pipeline_model_parallel_size", "virtual_pipeline_model_parallel_size",
    "expert_model_parallel_size", "expert_tensor_parallel_size",
};

static bool like_one_of(const char *key, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sl_text_glob(patterns[i], key))
            return true;
    return false;
}
#define LIKE_ONE_OF(key, list) like_one_of((key), (list), sizeof (list) / sizeof *(list))

static bool readable(const struct sl_rank *r) { return r->file >= 0 && (r->status == SL_RANK_OK || r->status == SL_RANK_ODD); }

/* A rank that is told to be of another save or place: what else differs on it follows from that, and it
 * has no vote on what is right. */
bool sl_ckpt_is_foreign(const struct sl_ckpt *c, const struct sl_rank *r)
{
    return sl_problems_explain(&c->problems, SL_EXPLAINS_RANK, r->path);
}

bool sl_ckpt_layers_told(const struct sl_ckpt *c)
{
    return sl_problems_explain(&c->problems, SL_EXPLAINS_LAYERS, NULL);
}

/* ---- iteration, version, chunks ------------------------------------------------- */

static void compare_iterations(struct sl_ckpt *c, const struct found *found)
{
    for (size_t i = 0; i < c->rank_count; i++) {
        struct sl_rank *r = &c->ranks[i];
        if (!readable(r) || r->iteration < 0 || c->release || r->iteration == c->iteration)
            continue;
        r->status = SL_RANK_ODD;
        char expected[120];
        snprintf(expected, sizeof expected, "iteration %" PRId64 ", which most ranks say that they are of", c->iteration);
        const struct sl_problem_text more = { .expected = expected };
        sl_problem_add(&c->problems, "mixed-iteration", r->path, &more, "its file is of iteration %" PRId64, r->iteration);
    }
    if (found->iteration >= 0 && c->iteration >= 0 && found->iteration != c->iteration)
        sl_problem_add(&c->problems, "mixed-iteration", "", NULL,
                       "the folder is named iter_%07" PRId64 ", its files are of iteration %" PRId64, found->iteration, c->iteration);
}

static const char *version_text(double version, char *out, size_t room)
{
    snprintf(out, room, version < 0 ? "not stated" : "%g", version);
    return out;
}

static void compare_versions(struct sl_ckpt *c)
{
    char a[32], b[32];
    for (size_t i = 0; i < c->rank_count; i++) {
        const struct sl_rank *r = &c->ranks[i];
        if (!readable(r))
            continue;
        const double here = c->opened[r->file].version, there = c->checkpoint_version;
        if (here < there || here > there)
            sl_problem_add(&c->problems, "mixed-version", r->path, NULL, "checkpoint_version is %s in its file, %s in the first rank's",
                           version_text(here, a, sizeof a), version_text(there, b, sizeof b));
    }
}

static void compare_chunks(struct sl_ckpt *c)
{
    const int32_t vpp = c->parallel.vpp;
    for (size_t i = 0; i < c->rank_count; i++) {
        struct sl_rank *r = &c->ranks[i];
        if (!readable(r))
            continue;
        const struct sl_ckpt_file *f = &c->opened[r->file];
        const uint64_t all = vpp >= 64 ? UINT64_MAX : (UINT64_C(1) << vpp) - 1;
        if (f->chunks && f->has_model)
            sl_problem_add(&c->problems, "chunk-mixture", r->path, NULL, "it has model and model0 together");
        else if (vpp > 1 && f->chunks != all)
            sl_problem_add(&c->problems, "chunk-mixture", r->path, NULL,
                           "it lacks some of model0 to model%" PRId32 ", which other ranks have", vpp - 1);
        else
            continue;
        r->status = SL_RANK_ODD;
    }
}

/* ---- args -------------------------------------------------------------------------- */

/* The value of the i-th key of `a` in `b`: dicts of one program have one order. */
static const struct sl_value *twin(const struct sl_value *b, size_t i, const char *key)
{
    const char *there = i < b->len ? sl_value_str(b->keys[i]) : NULL;
    return there && !strcmp(there, key) ? b->items[i] : sl_value_get(b, key);
}

struct difference { struct sl_buf shapes, others; size_t shape_count, other_count; };

/* NULL: it is not there. */
static void tell_value(struct sl_buf *out, size_t count, const char *key, const struct sl_value *here, const struct sl_value *there)
{
    if (count > 4)
        return;
    sl_buf_printf(out, "%s%s ", count > 1 ? ", " : "", key);
    if (here)
        sl_value_print(here, 40, out);
    else
        sl_buf_str(out, "not stated");
    sl_buf_str(out, " (there ");
    if (there)
        sl_value_print(there, 40, out);
    else
        sl_buf_str(out, "not stated");
    sl_buf_char(out, ')');
}

/* One key of one or both: a size, something else, or a rank's own business. */
static void differ_key(struct difference *d, const char *key, const struct sl_value *here, const struct sl_value *there)
{
    if (here && there && sl_value_equal(here, there))
        return;
    if (LIKE_ONE_OF(key, own_args))
        return;
    if (here && there && LIKE_ONE_OF(key, shape_args))
        tell_value(&d->shapes, ++d->shape_count, key, here, there);
    else
        tell_value(&d->others, ++d->other_count, key, here, there);
}

static void differ_args(const struct sl_value *here, const struct sl_value *there, struct difference *d)
{
    size_t shared = 0;
    for (size_t i = 0; i < there->len; i++) {
        const char *key = sl_value_str(there->keys[i]);
        if (!key)
            continue;
        const struct sl_value *mine = twin(here, i, key);
        shared += mine != NULL;
        differ_key(d, key, mine, there->items[i]);
    }
    for (size_t i = 0; shared < here->len && i < here->len; i++) {
        const char *key = sl_value_str(here->keys[i]);
        if (key && !twin(there, i, key))
            differ_key(d, key, here->items[i], NULL);
    }
}

static void compare_args(struct sl_ckpt *c)
{
    size_t without = 0, first_without = 0, told = 0;
    const char *reference = NULL;
    for (size_t i = 0; i < c->rank_count; i++) {
        struct sl_rank *r = &c->ranks[i];
        if (!readable(r) || !c->args)
            continue;
        if (!c->rank_args[i]) {
            first_without = without++ ? first_without : i;
            continue;
        }
        if (!reference)
            reference = r->path;
        if (c->rank_args[i] == c->args || told >= TOLD_AT_MOST)
            continue;
        struct difference d = { 0 };
        differ_args(c->rank_args[i], c->args, &d);
        told += d.shape_count || d.other_count;
        if (d.shape_count) {
            r->status = SL_RANK_ODD;
            sl_problem_add(&c->problems, "args-shape-differ", r->path, NULL, "its args differ from those of %s: %s%s", reference, d.shapes.data,
                           d.shape_count > 4 ? " and more" : "");
        }
        if (d.other_count && !sl_ckpt_is_foreign(c, r))
            sl_problem_add(&c->problems, "args-differ", r->path, NULL, "its args differ from those of %s: %s%s", reference, d.others.data,
                           d.other_count > 4 ? " and more" : "");
        sl_buf_free(&d.shapes);
        sl_buf_free(&d.others);
    }
    if (without == 1)
        sl_problem_add(&c->problems, "args-differ", c->ranks[first_without].path, NULL, "it has no args, the other ranks do");
    else if (without)
        sl_problem_add(&c->problems, "args-differ", c->ranks[first_without].path, NULL,
                       "it has no args, and so have %zu more ranks; the others do", without - 1);
}

/* ---- the rank that wrote a file ------------------------------------------------------------- */

/* Where the process args.rank stands in the grid. Tensor parallel ranks count fastest, then context
 * parallel ones; pipeline stages slowest, or with use_tp_pp_dp_mapping right after those.
 * Source: Megatron-LM megatron/core/parallel_state.py (RankGenerator, initialize_model_parallel) */
struct writer { int64_t number, tp, pp, ep; };

static int64_t number_in(const struct sl_value *args, const char *key, int64_t otherwise)
{
    int64_t n;
    return sl_value_int(sl_value_get(args, key), &n) && n >= 0 ? n : otherwise;
}

static bool writer_of(const struct sl_ckpt *c, size_t rank, struct writer *out)
{
    const struct sl_value *args = c->rank_args[rank];
    const struct sl_parallel *p = &c->parallel;
    const int64_t number = number_in(args, "rank", -1), world = number_in(args, "world_size", 0);
    const int64_t context = number_in(args, "context_parallel_size", 1);
    bool stages_inside = false;
    (void)sl_value_bool(sl_value_get(args, "use_tp_pp_dp_mapping"), &stages_inside);
    if (!args || number < 0 || number >= world || context < 1 || context > world || world % p->pp ||
        number_in(args, "tensor_model_parallel_size", p->tp) != p->tp || number_in(args, "pipeline_model_parallel_size", p->pp) != p->pp)
        return false;
    const int64_t inside = (int64_t)p->tp * context;
    *out = (struct writer){ number, number % p->tp, stages_inside ? number / inside % p->pp : number / (world / p->pp),
                            p->ep > 1 ? number / sl_max_i64(p->etp, 1) % p->ep : 0 };
    return true;
}

static bool is_at(const struct sl_rank *r, const struct writer *w)
{
    return w->tp == r->tp && w->pp == r->pp && w->ep == r->ep;
}

/* No other file has the same number: where all have, it was copied over. */
static bool is_alone(const struct sl_ckpt *c, const struct writer *w, const bool *known, size_t rank)
{
    for (size_t k = 0; k < c->rank_count; k++)
        if (k != rank && known[k] && w[k].number == w[rank].number)
            return false;
    return true;
}

/* Tools that write checkpoints copy args.rank over, often the same to all. It is believed when most files lie
 * where it says, or when all files only lie in each other's places. */
static bool writers_are_true(const struct sl_ckpt *c, const struct writer *w, const bool *known)
{
    size_t count = 0, right = 0, once = 0;
    for (size_t i = 0; i < c->rank_count; i++) {
        if (!known[i])
            continue;
        count++;
        right += is_at(&c->ranks[i], &w[i]);
        bool there = false;
        for (size_t k = 0; k < c->rank_count; k++)
            there = there || (known[k] && is_at(&c->ranks[k], &w[i]));
        once += there && is_alone(c, w, known, i);
    }
    return right < count && (2 * right > count || once == count);
}

static void tell_writer(struct sl_ckpt *c, const struct writer *all, const bool *known, size_t rank)
{
    struct sl_rank *r = &c->ranks[rank];
    const struct writer *w = &all[rank];
    const char *own = NULL;
    bool twice = false;
    char expected[320];
    for (size_t i = 0; i < c->rank_count; i++)
        if (is_at(&c->ranks[i], w)) {
            own = c->ranks[i].path;
            twice = known[i] && all[i].number == w->number;
        }
    snprintf(expected, sizeof expected, "a file that was written by tp %" PRId32 ", pp %" PRId32 ", ep %" PRId32 "; %s%s", r->tp, r->pp, r->ep,
             twice ? "" : "what lies here belongs in ", own ? own : "another folder");
    if (twice)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), " has a file of that rank too, so this one is a copy");
    const struct sl_problem_text more = { .expected = expected };
    r->status = SL_RANK_ODD;
    c->ranks_misplaced++;
    sl_problem_add(&c->problems, "misnumbered-rank", r->path, &more,
                   "its file was written by tp %" PRId64 ", pp %" PRId64 ", ep %" PRId64 " (args.rank is %" PRId64 ")", w->tp, w->pp, w->ep, w->number);
}

static void compare_writers(struct sl_ckpt *c)
{
    struct writer *w = calloc(c->rank_count, sizeof *w);
    bool *known = calloc(c->rank_count, sizeof *known);
    for (size_t i = 0; w && known && i < c->rank_count; i++)
        known[i] = readable(&c->ranks[i]) && !sl_ckpt_is_foreign(c, &c->ranks[i]) && writer_of(c, i, &w[i]);
    if (w && known && writers_are_true(c, w, known))
        for (size_t i = 0; i < c->rank_count; i++)
            if (known[i] && !is_at(&c->ranks[i], &w[i]))
                tell_writer(c, w, known, i);
    for (size_t i = 0; i < c->rank_count; i++)
        c->ranks_asked += readable(&c->ranks[i]) && (!sl_ckpt_is_foreign(c, &c->ranks[i]) || (known && known[i]));
    for (size_t i = 0; w && known && i < c->rank_count; i++)
        c->ranks_placed += known[i] && is_at(&c->ranks[i], &w[i]) && is_alone(c, w, known, i);
    free(known);
    free(w);
}

/* ---- names, shapes, types within a stage ----------------------------------------------- */

struct slot {                        /* one name of a stage */
    const struct sl_tensor *common;  /* a tensor of the shape and type that most have */
    size_t balance;                  /* majority vote: +1 equal, -1 not */
    size_t have, alike;              /* ranks with the name; with the common form */
};
struct stage {
    struct sl_ckpt *c;
    const size_t *first;             /* by file: index of its first tensor */
    struct sl_map names;
    struct slot *slots;
    size_t room, ranks;
    size_t *members;                 /* rank indices */
    size_t told_shapes, told_dtypes;
};

static bool compared(const struct sl_tensor *t)
{
    return !(t->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA));
}

static const char *key_of(const struct sl_ckpt *c, const struct sl_tensor *t)
{
    return c->parallel.vpp > 1 ? t->path : t->name;
}

static bool alike(const struct sl_tensor *a, const struct sl_tensor *b)
{
    return a->dtype == b->dtype && a->ndim == b->ndim && !memcmp(a->shape, b->shape, a->ndim * sizeof *a->shape);
}

static struct slot *slot_of(struct stage *s, const struct sl_tensor *t, bool add)
{
    const char *key = key_of(s->c, t);
    uint64_t at = s->names.count;
    bool added = false;
    if (!add)
        return sl_map_get(&s->names, key, strlen(key), &at) ? &s->slots[at] : NULL;
    if (!sl_map_add(&s->names, key, strlen(key), &at, &added))
        return NULL;
    if (added && at == s->room) {
        const size_t room = s->room ? 2 * s->room : 1024;
        struct slot *slots = realloc(s->slots, room * sizeof *slots);
        if (!slots)
            return NULL;
        s->slots = slots;
        s->room = room;
    }
    if (added)
        s->slots[at] = (struct slot){ .common = t };
    return &s->slots[at];
}

/* Calls visit for every compared tensor of every rank of the stage. */
static bool each_tensor(struct stage *s, bool (*visit)(struct stage *s, size_t rank, const struct sl_tensor *t))
{
    for (size_t m = 0; m < s->ranks; m++) {
        const int32_t file = s->c->ranks[s->members[m]].file;
        const struct sl_tensor *t = s->c->tensors + s->first[file];
        for (size_t k = 0; k < s->c->opened[file].tensor_count; k++)
            if (compared(&t[k]) && !visit(s, s->members[m], &t[k]))
                return false;
    }
    return true;
}

static bool vote(struct stage *s, size_t rank, const struct sl_tensor *t)
{
    (void)rank;
    struct slot *slot = slot_of(s, t, true);
    if (!slot)
        return false;
    slot->have++;
    if (alike(slot->common, t)) {
        slot->balance++;
    } else if (slot->balance) {
        slot->balance--;
    } else {
        slot->common = t;
        slot->balance = 1;
    }
    return true;
}

static bool count_alike(struct stage *s, size_t rank, const struct sl_tensor *t)
{
    (void)rank;
    struct slot *slot = slot_of(s, t, false);
    if (slot)
        slot->alike += alike(slot->common, t);
    return true;
}

/* Which kind of cut would explain one axis that differs: cause, or NULL. */
static const char *cut_text(const struct sl_ckpt *c, const struct sl_tensor *here, const struct sl_tensor *there)
{
    const int32_t tp = c->parallel.tp;
    uint32_t axis = 0, odd = 0;
    for (uint32_t a = 0; here->ndim == there->ndim && a < here->ndim; a++)
        if (here->shape[a] != there->shape[a]) {
            axis = a;
            odd++;
        }
    if (odd != 1 || here->shape[axis] <= 0 || there->shape[axis] <= 0)
        return NULL;
    const int64_t mine = here->shape[axis], its = there->shape[axis];
    if (tp > 1 && mine % its == 0 && mine / its == tp)
        return sl_arena_printf(c->problems.arena, "a whole tensor saved as a shard: %" PRId64 " = %" PRId64 " x TP %" PRId32, mine, its, tp);
    if (mine % its == 0)
        return sl_arena_printf(c->problems.arena, "a shard of a save at a smaller TP: %" PRId64 " = %" PRId64 " x %" PRId64, mine, its, mine / its);
    if (its % mine == 0)
        return sl_arena_printf(c->problems.arena, "a shard of a save at TP %" PRId64 ": %" PRId64 " = %" PRId64 " / %" PRId64,
                               its / mine * tp, mine, its, its / mine);
    return NULL;
}

static bool tell_odd_form(struct stage *s, size_t rank, const struct sl_tensor *t)
{
    const struct slot *slot = slot_of(s, t, false);
    if (!slot || slot->alike == slot->have || alike(slot->common, t))
        return true;
    struct sl_rank *r = &s->c->ranks[rank];
    const char *other = s->c->ranks[slot->common->rank].path;
    char here[128], there[128], expected[200], where[512];
    r->status = SL_RANK_ODD;
    if (2 * slot->alike > slot->have)
        snprintf(expected, sizeof expected, "as on %s: %zu of the %zu ranks of stage %" PRId32 " that hold it agree", other, slot->alike, slot->have, r->pp);
    else
        snprintf(expected, sizeof expected, "as on %s, or %s is wrong: no majority of stage %" PRId32 " says which", other, other, r->pp);
    snprintf(where, sizeof where, "%s %s", r->path, t->name);
    const struct sl_problem_text more = { .expected = expected, .cause = cut_text(s->c, t, slot->common) };
    if (t->dtype != slot->common->dtype && s->told_dtypes++ < TOLD_AT_MOST)
        sl_problem_add(&s->c->problems, "dtype-differs", where, &more, "it is %s; on %s it is %s", sl_dtype_name(t->dtype), other,
                       sl_dtype_name(slot->common->dtype));
    if ((t->ndim != slot->common->ndim || memcmp(t->shape, slot->common->shape, t->ndim * sizeof *t->shape)) &&
        s->told_shapes++ < TOLD_AT_MOST)
        sl_problem_add(&s->c->problems, "shape-differs", where, &more, "it is %s; on %s it is %s",
                       sl_text_shape(t->shape, t->ndim, here, sizeof here), other,
                       sl_text_shape(slot->common->shape, slot->common->ndim, there, sizeof there));
    return true;
}

/* "decoder.layers.0.x, decoder.layers.1.x and 7 more" */
struct names { struct sl_buf text; size_t count, experts; };
static void add_name(struct names *n, const char *name)
{
    n->experts += strstr(name, "experts.") && !strstr(name, "shared_experts.");
    if (n->count++ < 3)
        sl_buf_printf(&n->text, "%s%s", n->count > 1 ? ", " : "", name);
}
static const char *end_names(struct names *n)
{
    if (n->count > 3)
        sl_buf_printf(&n->text, " and %zu more", n->count - 3);
    return n->text.data ? n->text.data : "";
}

static const char *code_of(const struct names *n) { return n->experts == n->count ? "expert-count" : "keys-differ"; }

/* Names that one rank lacks and most of its stage have, and the reverse. */
static void tell_odd_names(struct stage *s, size_t member, uint32_t *seen_by)
{
    struct sl_ckpt *c = s->c;
    struct sl_rank *r = &c->ranks[s->members[member]];
    struct names lacks = { 0 }, alone = { 0 };
    const struct sl_tensor *t = c->tensors + s->first[r->file];
    for (size_t k = 0; k < c->opened[r->file].tensor_count; k++) {
        const struct slot *slot = compared(&t[k]) ? slot_of(s, &t[k], false) : NULL;
        if (!slot)
            continue;
        seen_by[slot - s->slots] = (uint32_t)member + 1;
        if (2 * slot->have < s->ranks)
            add_name(&alone, t[k].name);
    }
    for (size_t i = 0; i < s->names.count; i++)
        if (seen_by[i] != member + 1 && 2 * s->slots[i].have >= s->ranks)
            add_name(&lacks, s->slots[i].common->name);

    if (lacks.count || alone.count)
        r->status = SL_RANK_ODD;
    const struct sl_problem_text renamed = { .cause = "a tool renamed tensors in this file, or the file is of another save or model" };
    if (lacks.count && alone.count)
        sl_problem_add(&c->problems, "keys-differ", r->path, &renamed, "it lacks %s, which other ranks of stage %" PRId32 " have; instead it has %s",
                       end_names(&lacks), r->pp, end_names(&alone));
    else if (lacks.count)
        sl_problem_add(&c->problems, code_of(&lacks), r->path, NULL, "it lacks %s, which other ranks of stage %" PRId32 " have",
                       end_names(&lacks), r->pp);
    else if (alone.count)
        sl_problem_add(&c->problems, code_of(&alone), r->path, NULL, "it has %s, which other ranks of stage %" PRId32 " do not have",
                       end_names(&alone), r->pp);
    sl_buf_free(&lacks.text);
    sl_buf_free(&alone.text);
}

/* Two ranks that each have names that the other lacks: one finding, for which of them is right they do not tell. */
static bool tell_odd_pair(struct stage *s)
{
    struct sl_ckpt *c = s->c;
    struct sl_rank *first = &c->ranks[s->members[0]], *second = &c->ranks[s->members[1]];
    struct names there = { 0 }, here = { 0 };
    for (size_t i = 0; i < s->names.count; i++)
        if (s->slots[i].have == 1)
            add_name(s->slots[i].common->rank == (int32_t)s->members[0] ? &there : &here, s->slots[i].common->name);
    const bool both = there.count && here.count;
    if (both) {
        const struct sl_problem_text more = {
            .expected = sl_arena_printf(c->problems.arena, "the same names on both ranks of stage %" PRId32 "; which of the two is right, they do not tell",
                                        first->pp),
            .cause = "a tool renamed tensors in one of the files, or one is of another save or model" };
        second->status = SL_RANK_ODD;
        sl_problem_add(&c->problems, "keys-differ", second->path, &more, "it lacks %s, which %s has; instead it has %s", end_names(&there),
                       first->path, end_names(&here));
    }
    sl_buf_free(&there.text);
    sl_buf_free(&here.text);
    return both;
}

static bool names_agree(const struct stage *s)
{
    for (size_t i = 0; i < s->names.count; i++)
        if (s->slots[i].have != s->ranks)
            return false;
    return true;
}

static void tell_rest(struct stage *s, const char *code, size_t told)
{
    if (told > TOLD_AT_MOST)
        sl_problem_add(&s->c->problems, code, "", NULL, "%zu more tensors of this stage", told - TOLD_AT_MOST);
}

static void compare_stage(struct stage *s)
{
    if (s->ranks < 2 || !each_tensor(s, vote))
        return;
    each_tensor(s, count_alike);
    each_tensor(s, tell_odd_form);
    tell_rest(s, "shape-differs", s->told_shapes);
    tell_rest(s, "dtype-differs", s->told_dtypes);
    if (names_agree(s) || (s->ranks == 2 && tell_odd_pair(s)))
        return;
    uint32_t *seen_by = calloc(s->names.count, sizeof *seen_by);
    for (size_t m = 0; seen_by && m < s->ranks; m++)
        tell_odd_names(s, m, seen_by);
    free(seen_by);
}

static void compare_stages(struct sl_ckpt *c)
{
    size_t *first = calloc(c->file_count + 1, sizeof *first);
    size_t *members = calloc(c->rank_count + 1, sizeof *members);
    for (size_t i = 0; first && i < c->file_count; i++)
        first[i + 1] = first[i] + c->opened[i].tensor_count;
    /* ranks of a stage stand together: pp is the slowest number */
    for (size_t i = 0; first && members && i < c->rank_count; ) {
        struct stage s = { .c = c, .first = first, .members = members };
        const int32_t pp = c->ranks[i].pp;
        for (; i < c->rank_count && c->ranks[i].pp == pp; i++)
            if (readable(&c->ranks[i]) && !sl_ckpt_is_foreign(c, &c->ranks[i]))
                members[s.ranks++] = i;
        compare_stage(&s);
        sl_map_free(&s.names);
        free(s.slots);
    }
    free(members);
    free(first);
}

/* ---- the ends of the pipeline ------------------------------------------------------------ */

struct ends { bool embedding, final_norm; };

static struct ends ends_of(const struct sl_ckpt_file *f)
{
    struct ends e = { 0 };
    for (size_t k = 0; k < f->tensor_count; k++) {
        const char *name = f->tensors[k].name;
        if (!compared(&f->tensors[k]))
            continue;
        e.embedding = e.embedding || sl_text_ends(name, "embedding.word_embeddings.weight");
        e.final_norm = e.final_norm || (strstr(name, "final_") && !strstr(name, "mtp.") &&
                                        (sl_text_ends(name, "final_layernorm.weight") || sl_text_ends(name, "final_norm.weight")));
    }
    return e;
}

/* That something lacks is only told when the names are ones whose place is known: somebody has an embedding or a final norm. */
static void compare_ends(struct sl_ckpt *c)
{
    const int32_t last = c->parallel.pp - 1;
    bool known = false;
    for (size_t i = 0; last > 0 && i < c->rank_count && !known; i++) {
        const struct ends e = readable(&c->ranks[i]) ? ends_of(&c->opened[c->ranks[i].file]) : (struct ends){ 0 };
        known = e.embedding || (e.final_norm && c->ranks[i].pp < last);
    }
    for (size_t i = 0; known && i < c->rank_count; i++) {
        struct sl_rank *r = &c->ranks[i];
        if (!readable(r) || sl_ckpt_is_foreign(c, r))
            continue;
        const struct ends e = ends_of(&c->opened[r->file]);
        const char *wrong = r->pp == 0 && !e.embedding && e.final_norm ? "it is of the first stage, has no embedding, and has the final norm"
                            : r->pp == 0 && !e.embedding      ? "it is of the first stage and has no embedding"
                            : r->pp == last && !e.final_norm ? "it is of the last stage and has no final norm"
                            : r->pp < last && e.final_norm   ? "it has the final norm and is not of the last stage"
                                                             : NULL;
        if (!wrong)
            continue;
        r->status = SL_RANK_ODD;
        sl_problem_add(&c->problems, "stage-order", r->path, NULL, "%s (it is stage %" PRId32 " of 0 to %" PRId32 ")", wrong, r->pp, last);
    }
}

void ckpt_compare_ranks(struct sl_ckpt *c, const struct found *found)
{
    compare_iterations(c, found);
    if (c->rank_count < 2)
        return;
    compare_versions(c);
    compare_chunks(c);
    compare_args(c);
    compare_writers(c);
    compare_ends(c);
    compare_stages(c);
}
