/* shape.c: sizes that shapes tell, how many heads there are, and whether what
 * was said of them is so. Shapes give the rows of all query heads together and
 * of all key heads together, never the size of one head: that must be said by
 * someone, and it must fit. */
#include "model/internal.h"

#include "base/error.h"
#include "base/num.h"
#include "base/value.h"
#include <shardlens/shardlens.h>

#include <stdio.h>
#include <string.h>

#define MOST_LAYERS 1000000             /* of a whole model: more is no number of layers */

/* ---- layers -------------------------------------------------------------- */

static size_t stage_index(const struct sl_detector *d, int32_t pp, int32_t chunk)
{
    return (size_t)pp * (size_t)d->seen.chunks + (size_t)chunk;
}

/* Layers in the stages that were read, and how many stages were not. */
static int64_t count_layers(const struct sl_detector *d, int32_t *unread)
{
    int64_t sum = 0;
    *unread = 0;
    for (int32_t pp = 0; pp < d->seen.pp; pp++)
        *unread += !d->seen.stage_read[pp];
    for (size_t i = 0; i < (size_t)d->seen.pp * (size_t)d->seen.chunks; i++)
        sum += d->seen.layers[i];
    return sum;
}

/* Layers of a stage whose files can't be read: an equal share of those that args know of. */
static int64_t share_of_unread(const struct sl_detector *d)
{
    int32_t unread;
    int64_t said = 0;
    const int64_t counted = count_layers(d, &unread);
    const int64_t shares = (int64_t)unread * d->seen.chunks;
    if (!unread || !sl_known_int(d, "num_layers", &said) || said < counted || said > MOST_LAYERS)
        return 0;
    return (said - counted) / shares;
}

/* Names with global numbers: every stage begins where the one before it ended. */
static bool numbered_globally(const struct sl_detector *d)
{
    int64_t next = 0;
    bool later = false;
    for (int32_t chunk = 0; chunk < d->seen.chunks; chunk++)
        for (int32_t pp = 0; pp < d->seen.pp; pp++) {
            const size_t i = stage_index(d, pp, chunk);
            if (!d->seen.layers[i])
                continue;
            if (d->seen.first_layer[i] != next)
                return false;
            later |= next > 0;
            next = d->seen.layers[i];
        }
    return later;
}

static int place_layers(struct sl_detector *d)
{
    const size_t count = (size_t)d->seen.pp * (size_t)d->seen.chunks;
    struct sl_stage_layers *stages = SL_ARENA_NEW(&d->m->arena, struct sl_stage_layers, count);
    const bool global = numbered_globally(d);
    const int64_t share = share_of_unread(d);
    int64_t first = 0;
    size_t at = 0;
    if (!stages)
        return sl_fail_memory(d->err, 0);
    for (int32_t chunk = 0; chunk < d->seen.chunks; chunk++)
        for (int32_t pp = 0; pp < d->seen.pp; pp++) {
            const size_t i = stage_index(d, pp, chunk);
            const uint32_t base = global ? d->seen.first_layer[i] : 0;
            const int64_t layers = d->seen.stage_read[pp] ? (int64_t)d->seen.layers[i] - base : share;
            stages[at++] = (struct sl_stage_layers){pp, chunk, (int32_t)sl_min_i64(first, INT32_MAX), (int32_t)layers,
                                                    (int32_t)base};
            first += layers;
        }
    d->m->stages = stages;
    d->m->stage_count = count;
    return SL_OK;
}

/* Hugging Face numbers the layers that predict further tokens after all others; in Megatron they have names of their own. */
static int solve_mtp(struct sl_detector *d)
{
    const int32_t count = d->seen.mtp_end - (d->seen.dialect == SL_DIALECT_HF ? d->seen.mtp_first : 0);
    d->m->mtp_layers = d->seen.mtp_end > d->seen.mtp_first ? count : 0;
    if (d->m->mtp_layers && d->seen.dialect == SL_DIALECT_HF && d->seen.layers[0] >= (uint32_t)count)
        d->seen.layers[0] -= (uint32_t)count;
    int64_t said = 0;
    const bool told = sl_said_int(d, "mtp_num_layers", SL_BY_ARGS, &said) && said != d->m->mtp_layers;
    if (told && d->seen.dialect == SL_DIALECT_MEGATRON && d->seen.stage_read[d->seen.pp - 1])
        sl_problem_add(&d->m->problems, "config-contradiction", sl_said_from(d, SL_BY_ARGS), NULL,
                       "args say mtp_num_layers is %lld, the tensors have %d layers that predict further tokens", (long long)said,
                       d->m->mtp_layers);
    return told || d->m->mtp_layers ? sl_say_int(d, "mtp_num_layers", SL_BY_TENSORS, d->m->mtp_layers) : SL_OK;
}

static int solve_layers(struct sl_detector *d)
{
    int32_t unread;
    const int rc = solve_mtp(d);
    if (rc)
        return rc;
    int64_t counted = count_layers(d, &unread);
    if (numbered_globally(d))
        for (size_t i = 0; i < (size_t)d->seen.pp * (size_t)d->seen.chunks; i++)
            counted -= d->seen.first_layer[i];
    int code = counted && !unread ? sl_say_int(d, "num_layers", SL_BY_TENSORS, counted) : SL_OK;
    return code ? code : place_layers(d);
}

/* ---- sizes --------------------------------------------------------------- */

static int take_fact(struct sl_detector *d, const char *fact, const char *key)
{
    int64_t value;
    return sl_seen_fact(&d->seen, fact, &value) ? sl_say_int(d, key, SL_BY_TENSORS, value) : SL_OK;
}

/* An MLP, or the experts: the facts of its gate, of gate and up in one, and of its width. */
struct gate_facts { const char *gate, *both, *width, *where, *what; };

static int solve_gate(struct sl_detector *d, const struct gate_facts *f)
{
    int64_t rows, ffn;
    if (sl_seen_fact(&d->seen, f->gate, &rows))
        return sl_set_flag(d, "gated");
    if (!sl_seen_fact(&d->seen, f->both, &rows) || !sl_seen_fact(&d->seen, f->width, &ffn))
        return SL_OK;
    if (rows % 2 == 0 && rows / 2 == ffn)
        return sl_set_flag(d, "gated");
    if (rows != ffn)
        sl_problem_add(&d->m->problems, "shape-unexpected", f->where, NULL,
                       "the first matrix of %s has %lld rows, the second %lld columns; as many rows as columns are expected,"
                       " or with a gate twice as many", f->what, (long long)rows, (long long)ffn);
    return SL_OK;
}

/* A gate on the output of attention has as many rows as the queries, and is stored with them. In Hugging Face q_proj then has
 * twice the rows that o_proj has columns; in Megatron args tell, for rows of q, gate, k and v together are also those of
 * other heads without a gate.
 * Source: transformers models/qwen3_next/modeling_qwen3_next.py; Megatron-LM attention.py (attention_output_gate) */
static int solve_output_gate(struct sl_detector *d)
{
    int64_t q, o;
    if (sl_has_flag(d, "mla") || !sl_seen_fact(&d->seen, "q_rows", &q) || !sl_seen_fact(&d->seen, "o_cols", &o) || o <= 0
        || q % 2 || q / 2 != o)
        return SL_OK;
    const int code = sl_set_flag(d, "output_gate");
    return code ? code : sl_say(d, "attention_output_gate", SL_BY_TENSORS, sl_value_new_bool(&d->m->arena, true));
}

/* Rows of all query heads and of all key heads. */
static void solve_rows(struct sl_detector *d)
{
    int64_t q = 0, k = 0, qkv = 0, fixed = 0;
    if (sl_seen_fact(&d->seen, "k_rows", &k) && sl_seen_fact(&d->seen, "q_rows", &q)) {
        const int64_t each = sl_has_flag(d, "output_gate") ? 2 : 1;      /* a gate row for each query row */
        if (q > 0 && k > 0 && q % each == 0)
            d->qd = q / each, d->kvd = k;
        return;
    }
    if (!sl_seen_fact(&d->seen, "o_cols", &q) || !sl_seen_fact(&d->seen, "qkv_rows", &qkv)
        || !sl_mul_i64(q, sl_has_flag(d, "output_gate") ? 2 : 1, &fixed))
        return;
    const int64_t rest = qkv - fixed;
    if (q > 0 && rest > 0 && rest % 2 == 0 && rest / 2 <= q)
        d->qd = q, d->kvd = rest / 2;
    else
        sl_problem_add(&d->m->problems, "shape-unexpected", "linear_qkv", NULL,
                       "query, key and value together have %lld rows and the output projection %lld columns;"
                       " that leaves no equal number of rows for keys and values", (long long)qkv, (long long)q);
}

/* Experts in one array for gate and up and one for down: [experts, 2 ffn, hidden] and [experts, hidden, ffn], or both
 * with the last two axes exchanged. The two together tell which, whatever the sizes are: where gate and up are square
 * (2 ffn = hidden), down is not, and the other way round.
 * Source: transformers, models/mixtral/modeling_mixtral.py (rows), models/gpt_oss/modeling_gpt_oss.py (columns) */
static int solve_fused(struct sl_detector *d)
{
    int64_t hidden, rows, cols, down_rows, down_cols;
    if (!sl_has_flag(d, "fused_experts") || !sl_said_int(d, "hidden_size", SL_BY_TENSORS, &hidden)
        || !sl_seen_fact(&d->seen, "fused_rows", &rows) || !sl_seen_fact(&d->seen, "fused_cols", &cols)
        || !sl_seen_fact(&d->seen, "fused_down_rows", &down_rows) || !sl_seen_fact(&d->seen, "fused_down_cols", &down_cols))
        return SL_OK;
    const bool by_rows = cols == hidden && down_rows == hidden && rows % 2 == 0 && down_cols == rows / 2;
    const bool by_columns = rows == hidden && down_cols == hidden && cols % 2 == 0 && down_rows == cols / 2;
    if (!by_rows && !by_columns) {
        sl_problem_add(&d->m->problems, "shape-unexpected", "experts", NULL,
                       "each expert has %lldx%lld in gate_up_proj and %lldx%lld in down_proj; with hidden_size %lld, rows of gate"
                       " and up over each other or columns beside each other are expected", (long long)rows, (long long)cols,
                       (long long)down_rows, (long long)down_cols, (long long)hidden);
        return SL_OK;
    }
    int code = sl_say_int(d, "moe_ffn_hidden_size", SL_BY_TENSORS, by_rows ? down_cols : down_rows);
    code = code ? code : sl_set_flag(d, by_rows ? "fused_rows" : "fused_columns");
    return code ? code : sl_set_flag(d, "gated");
}

/* Experts of one array, transposed: weight2 has local experts times rows of one shard.
 * Source: Megatron-LM megatron/core/transformer/moe/experts.py (GroupedMLP). That it is gated no shape tells;
 * args do. */
static int solve_grouped(struct sl_detector *d)
{
    const struct sl_parallel *p = &d->c->parallel;
    int64_t experts, rows = 0;
    bool gated = false;
    if (!sl_has_flag(d, "grouped") || !sl_said_int(d, "num_experts", SL_BY_TENSORS, &experts) || experts <= 0)
        return SL_OK;
    for (size_t i = 0; i < d->c->tensor_count && !rows; i++)
        if (d->c->tensors[i].name && d->c->tensors[i].ndim == 2 && sl_text_ends(d->c->tensors[i].name, ".mlp.experts.weight2"))
            rows = d->c->tensors[i].shape[0];
    if (!rows || !sl_mul_i64(rows, p->ep, &rows) || !sl_mul_i64(rows, p->etp, &rows) || rows % experts)
        return SL_OK;
    enum sl_said_by by;
    int code = sl_say_int(d, "moe_ffn_hidden_size", SL_BY_TENSORS, rows / experts);
    return !code && sl_value_bool(sl_known(d, "swiglu", &by), &gated) && gated ? sl_set_flag(d, "gated") : code;
}

/* ---- latent attention ---------------------------------------------------- */

/* Rows of its matrices, of all heads and whole: q_b (or q), kv_a, kv_b, and columns of o. */
struct latent { int64_t q, kv_a, kv_b, o, q_lora, kv_lora; };
struct latent_sizes { int64_t heads, nope, rope, v; };

/* q = heads (nope + rope), kv_b = heads (nope + v), o = heads v, kv_a = kv_lora + rope: four equations for
 * heads, nope, rope and v. */
static bool solve_latent(const struct latent *l, int64_t kv_a, struct latent_sizes *out)
{
    out->rope = kv_a - l->kv_lora;
    if (out->rope <= 0 || l->kv_b <= l->o || (l->q + l->o - l->kv_b) % out->rope)
        return false;
    out->heads = (l->q + l->o - l->kv_b) / out->rope;
    if (out->heads <= 0 || l->o % out->heads || (l->kv_b - l->o) % out->heads)
        return false;
    out->v = l->o / out->heads;
    out->nope = (l->kv_b - l->o) / out->heads;
    return true;
}

/* MindSpeed-LLM keeps q_a and kv_a in linear_qkv, whole on every rank (LinearNoTP), which counts as cut. */
static bool find_latent(const struct sl_detector *d, struct latent *l)
{
    int64_t rows;
    const bool apart = sl_seen_fact(&d->seen, "kv_a_rows", &l->kv_a);
    l->q_lora = 0;
    (void)sl_seen_fact(&d->seen, "q_lora_rank", &l->q_lora);
    if (!apart && (!sl_seen_fact(&d->seen, "qkv_rows", &rows) || !l->q_lora))
        return false;
    if (!apart)
        l->kv_a = rows / sl_max_i64(d->c->container == SL_MEGATRON_TORCH ? d->c->parallel.tp : 1, 1) - l->q_lora;
    return sl_seen_fact(&d->seen, "q_rows", &l->q) && sl_seen_fact(&d->seen, "kv_b_rows", &l->kv_b)
        && sl_seen_fact(&d->seen, "o_cols", &l->o) && sl_seen_fact(&d->seen, "kv_lora_rank", &l->kv_lora);
}

/* kv_a is whole on every rank (Transformer Engine's spelling) or cut over them (the local one); the sizes tell. */
static int solve_latent_attention(struct sl_detector *d)
{
    struct latent l;
    struct latent_sizes s;
    if (!sl_has_flag(d, "mla"))
        return SL_OK;
    if (!find_latent(d, &l))
        return SL_OK;
    const int64_t tp = d->c->container == SL_MEGATRON_TORCH ? d->c->parallel.tp : 1;
    if (!solve_latent(&l, l.kv_a, &s) && !solve_latent(&l, l.kv_a * sl_max_i64(tp, 1), &s)) {
        sl_problem_add(&d->m->problems, "shape-unexpected", "latent attention", NULL,
                       "the rows of its matrices (q %lld, kv_a %lld, kv_b %lld; kv_lora_rank %lld) and the columns of the"
                       " output projection (%lld) are those of no number of heads", (long long)l.q, (long long)l.kv_a,
                       (long long)l.kv_b, (long long)l.kv_lora, (long long)l.o);
        return SL_OK;
    }
    int code = sl_say_int(d, "num_attention_heads", SL_BY_TENSORS, s.heads);
    code = code ? code : sl_say_int(d, "num_query_groups", SL_BY_TENSORS, s.heads);
    code = code ? code : sl_say_int(d, "kv_channels", SL_BY_TENSORS, s.v);
    code = code ? code : sl_say_int(d, "v_head_dim", SL_BY_TENSORS, s.v);
    code = code ? code : sl_say_int(d, "qk_head_dim", SL_BY_TENSORS, s.nope);
    code = code ? code : sl_say_int(d, "qk_pos_emb_head_dim", SL_BY_TENSORS, s.rope);
    code = code ? code : sl_say_int(d, "kv_lora_rank", SL_BY_TENSORS, l.kv_lora);
    return code || !l.q_lora ? code : sl_say_int(d, "q_lora_rank", SL_BY_TENSORS, l.q_lora);
}

static int solve_sizes(struct sl_detector *d)
{
    static const struct gate_facts dense = {"gate_rows", "fc1_rows", "ffn_hidden_size", "linear_fc1", "the MLP"};
    static const struct gate_facts experts = {"moe_gate_rows", "moe_fc1_rows", "moe_ffn_hidden_size", "experts", "an expert"};
    int code = take_fact(d, "hidden_size", "hidden_size");
    code = code ? code : take_fact(d, "ffn_hidden_size", "ffn_hidden_size");
    code = code ? code : take_fact(d, "moe_ffn_hidden_size", "moe_ffn_hidden_size");
    code = code ? code : take_fact(d, "moe_shared_expert_intermediate_size", "moe_shared_expert_intermediate_size");
    code = code ? code : take_fact(d, "num_experts", "num_experts");
    code = code ? code : solve_fused(d);
    code = code ? code : solve_grouped(d);
    code = code ? code : take_fact(d, "head_rows", "padded_vocab_size");
    code = code ? code : take_fact(d, "vocab_rows", "padded_vocab_size");
    code = code ? code : solve_gate(d, &dense);
    code = code ? code : solve_gate(d, &experts);
    code = code ? code : solve_latent_attention(d);
    code = code ? code : solve_output_gate(d);
    if (!sl_has_flag(d, "mla"))
        solve_rows(d);
    return code;
}

/* ---- heads --------------------------------------------------------------- */

struct heads { int64_t heads, size, groups; };

/* Can qd and kvd rows be heads of this size (or this many)? 0: not said. */
static bool heads_fit(const struct sl_detector *d, int64_t heads, int64_t size, struct heads *out)
{
    if (size <= 0 && (heads <= 0 || d->qd % heads))
        return false;
    const int64_t one = size > 0 ? size : d->qd / heads;
    if (!one || d->qd % one || d->kvd % one || (heads > 0 && d->qd / one != heads))
        return false;
    *out = (struct heads){d->qd / one, one, d->kvd / one};
    return out->heads % out->groups == 0;
}

/* Tensors that are told to have another shape than they should are why args and shapes do not agree. */
static bool shapes_are_told(const struct sl_detector *d, enum sl_said_by by)
{
    return by == SL_BY_ARGS && sl_problems_explain(&d->c->problems, SL_EXPLAINS_SHAPES, NULL);
}

/* Says in one line why a number of heads or a head size does not fit. */
static int heads_misfit(struct sl_detector *d, enum sl_said_by by, int64_t heads, int64_t size)
{
    char what[96], why[160];
    const char *from = sl_said_from(d, by);
    if (heads > 0 && size > 0)
        snprintf(what, sizeof what, "%lld heads of size %lld", (long long)heads, (long long)size);
    else if (heads > 0)
        snprintf(what, sizeof what, "%lld heads", (long long)heads);
    else
        snprintf(what, sizeof what, "heads of size %lld", (long long)size);
    snprintf(why, sizeof why, "the tensors have %lld query rows and %lld key rows a layer, which are not whole heads then",
             (long long)d->qd, (long long)d->kvd);
    if (by == SL_BY_SET)
        return sl_fail(d->err, SL_USAGE, "--set", "%s are stated, but %s", what, why);
    if (by == SL_BY_PRESET)
        return sl_fail(d->err, SL_USAGE, "--model", "%s has %s, but %s", d->row->name, what, why);
    if (!shapes_are_told(d, by))
        sl_problem_add(&d->m->problems, by == SL_BY_ARGS ? "config-contradiction" : "config-differs", from, NULL,
                       "%s %s %s, but %s", from, sl_says(from), what, why);
    return SL_OK;
}

/* What one source says of heads; *found when it fits the shapes. A number of key heads alone
 * tells their size too. */
static int ask_heads(struct sl_detector *d, enum sl_said_by by, struct heads *out, bool *found)
{
    int64_t heads = 0, size = 0, groups = 0;
    (void)sl_said_int(d, "num_attention_heads", by, &heads);
    (void)sl_said_int(d, "kv_channels", by, &size);
    *found = false;
    if (!heads && !size && by == SL_BY_SET && sl_said_int(d, "num_query_groups", by, &groups)) {
        if (groups <= 0 || d->kvd % groups)
            return sl_fail(d->err, SL_USAGE, "--set", "num_query_groups is %lld, but the tensors have %lld key rows a layer,"
                           " which does not divide", (long long)groups, (long long)d->kvd);
        size = d->kvd / groups;
    }
    if (!heads && !size)
        return SL_OK;
    *found = heads_fit(d, heads, size, out);
    if (*found)
        return SL_OK;
    const int code = heads_misfit(d, by, heads, size);
    if (code || by == SL_BY_SET || by == SL_BY_PRESET)
        return code;
    *found = (size && heads_fit(d, 0, size, out)) || (heads && heads_fit(d, heads, 0, out));
    return SL_OK;
}

/* Weights of one head: a q norm is as long as it (or, of the whole projection, as all of them: OLMoE). */
static int ask_norm(struct sl_detector *d, struct heads *out, bool *found)
{
    int64_t length;
    *found = false;
    if (sl_seen_fact(&d->seen, "heads", &length))        /* one number a head: sinks */
        *found = heads_fit(d, length, 0, out);
    if (*found || !sl_seen_fact(&d->seen, "q_norm", &length))
        return SL_OK;
    if (length == d->qd)
        return sl_set_flag(d, "full_qk_norm");
    *found = heads_fit(d, 0, length, out);
    return SL_OK;
}

static int differ(struct sl_detector *d, const char *key, enum sl_said_by by, long long said, long long found,
                  const char *found_from)
{
    const char *from = sl_said_from(d, by);
    if (by == SL_BY_SET)
        return sl_fail(d->err, SL_USAGE, "--set", "%s is stated as %lld, but the tensors tell %lld", key, said, found);
    if (!shapes_are_told(d, by))
        sl_problem_add(&d->m->problems, by == SL_BY_ARGS ? "config-contradiction" : "config-differs", from, NULL,
                       "%s %s %s is %lld, %s says %lld", from, sl_says(from), key, said, found_from, found);
    return SL_OK;
}

/* Groups that args mean: num_query_groups counts only with group_query_attention, else every head
 * has its own (Megatron-LM megatron/training/arguments.py). */
static bool said_groups(const struct sl_detector *d, enum sl_said_by by, int64_t heads, int64_t *groups)
{
    bool grouped = true;
    if (sl_said_int(d, "num_query_groups", by, groups))
        return true;
    *groups = heads;
    return by == SL_BY_ARGS && sl_value_bool(sl_value_get(d->c->args, "group_query_attention"), &grouped) && !grouped;
}

/* Every other source that spoke of heads against what was found. */
static int compare_heads(struct sl_detector *d, struct heads h, enum sl_said_by chosen)
{
    for (int s = SL_BY_SET; s < SL_BY_DATABASE; s++) {
        const enum sl_said_by by = (enum sl_said_by)s;
        int64_t said;
        int code = SL_OK;
        if (by != chosen && by != SL_BY_PRESET && sl_said_int(d, "num_attention_heads", by, &said) && said != h.heads)
            code = differ(d, "num_attention_heads", by, said, h.heads, sl_said_from(d, chosen));
        if (!code && by != chosen && by != SL_BY_PRESET && sl_said_int(d, "kv_channels", by, &said) && said != h.size)
            code = differ(d, "kv_channels", by, said, h.size, sl_said_from(d, chosen));
        if (!code && said_groups(d, by, h.heads, &said) && said != h.groups)
            code = differ(d, "num_query_groups", by, said, h.groups, "the shape of the attention weights");
        if (code)
            return code;
    }
    return SL_OK;
}

static int keep_heads(struct sl_detector *d, struct heads h, enum sl_said_by by)
{
    int code = compare_heads(d, h, by);
    code = code ? code : sl_say_int(d, "num_query_groups", SL_BY_TENSORS, h.groups);
    code = code ? code : sl_say_int(d, "num_attention_heads", by, h.heads);
    code = code ? code : sl_say_int(d, "kv_channels", by, h.size);
    for (int s = SL_BY_SET; s < (int)by && !code; s++) {       /* those that did not fit are not believed */
        code = sl_said(d, "num_attention_heads", (enum sl_said_by)s)
             ? sl_say_int(d, "num_attention_heads", (enum sl_said_by)s, h.heads) : SL_OK;
        code = code || !sl_said(d, "kv_channels", (enum sl_said_by)s)
             ? code : sl_say_int(d, "kv_channels", (enum sl_said_by)s, h.size);
    }
    return code || h.groups == h.heads ? code : sl_set_flag(d, "gqa");
}

/* The head sizes that the shapes allow, for a question. */
static const char *head_sizes(const struct sl_detector *d)
{
    struct sl_buf text = {.failed = false};
    struct heads h;
    int listed = 0;
    for (int64_t size = 2; size <= d->kvd && size <= 1024 && listed < 8; size += 2)
        if (heads_fit(d, 0, size, &h) && size >= 8)
            sl_buf_printf(&text, "%s%lld (%lld heads)", listed++ ? ", " : "", (long long)size, (long long)h.heads);
    const char *kept = text.len ? sl_arena_strn(&d->m->arena, text.data, text.len) : NULL;
    sl_buf_free(&text);
    return kept;
}

static int ask_for_heads(struct sl_detector *d)
{
    const char *sizes = head_sizes(d);
    d->m->missing = sl_arena_printf(&d->m->arena,
        "the head size is not in the shapes (%lld query rows, %lld key rows a layer): state it with --set kv_channels=N"
        "%s%s, or name the model with --model", (long long)d->qd, (long long)d->kvd, sizes ? "; possible: " : "",
        sizes ? sizes : "");
    if (!d->m->missing)
        return sl_fail_memory(d->err, 0);
    sl_problem_add(&d->m->problems, "head-size-unknown", "", NULL, "%s", d->m->missing);
    return SL_OK;
}

/* The database speaks for heads where all rows of this very shape and vocabulary agree. */
static int ask_database(struct sl_detector *d)
{
    if (!d->exact_count || !d->exact_vocab)
        return SL_OK;
    for (size_t i = 1; i < d->exact_count; i++)
        if (d->exact[i]->head_dim != d->exact[0]->head_dim)
            return SL_OK;
    return sl_say_int(d, "kv_channels", SL_BY_DATABASE, d->exact[0]->head_dim);
}

/* Nor do shapes tell how many experts a token goes to. */
static int ask_database_topk(struct sl_detector *d)
{
    if (!d->exact_count || !d->exact_vocab || !d->exact[0]->topk)
        return SL_OK;
    for (size_t i = 1; i < d->exact_count; i++)
        if (d->exact[i]->topk != d->exact[0]->topk)
            return SL_OK;
    return sl_say_int(d, "moe_router_topk", SL_BY_DATABASE, d->exact[0]->topk);
}

static void remark_database(struct sl_detector *d, struct heads h)
{
    sl_problem_add(&d->m->problems, "head-size-unknown", "", NULL,
                   "the head size %lld is taken from %s, whose sizes and vocabulary these are; if it is another, state it"
                   " with --set kv_channels=N", (long long)h.size, d->exact[0]->name);
}

static int solve_heads(struct sl_detector *d)
{
    static const enum sl_said_by order[] = {SL_BY_SET, SL_BY_ARGS, SL_BY_HF_CONFIG, SL_BY_PRESET, SL_BY_DATABASE};
    struct heads h = {0, 0, 0};
    bool found = false;
    if (!d->qd || sl_has_flag(d, "mla"))
        return SL_OK;
    int code = ask_norm(d, &h, &found);
    if (code || found)
        return code ? code : keep_heads(d, h, SL_BY_TENSORS);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        code = ask_heads(d, order[i], &h, &found);
        if (!code && found && order[i] == SL_BY_DATABASE)
            remark_database(d, h);
        if (code || found)
            return code ? code : keep_heads(d, h, order[i]);
    }
    return ask_for_heads(d);
}

/* ---- one weight in two places -------------------------------------------- */

enum { SAMPLES = 4, SAMPLE_ELEMENTS = 512 };

static const struct sl_tensor *find_tensor(const struct sl_detector *d, const char *name, int32_t tp)
{
    for (size_t i = 0; i < d->c->tensor_count; i++) {
        const struct sl_tensor *t = &d->c->tensors[i];
        const bool ranked = t->rank >= 0 && (size_t)t->rank < d->c->rank_count;
        if (t->name && !strcmp(t->name, name) && (!ranked || d->c->ranks[t->rank].tp == tp)
            && !(t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER | SL_TENSOR_NO_DATA)))
            return t;
    }
    return NULL;
}

/* Compares a few thousand elements of two tensors of one shape; false when they can't be read. */
static bool compare_samples(const struct sl_detector *d, const struct sl_tensor *a, const struct sl_tensor *b,
                            bool *equal)
{
    unsigned char x[SAMPLE_ELEMENTS * 16], y[SAMPLE_ELEMENTS * 16];
    if (a->count != b->count || a->dtype != b->dtype || !a->count || a->bytes / a->count > 16
        || (a->flags | b->flags) & SL_TENSOR_DEFLATED)
        return false;
    const uint64_t count = a->count < SAMPLE_ELEMENTS ? a->count : SAMPLE_ELEMENTS;
    *equal = true;
    for (int i = 0; i < SAMPLES; i++) {
        const uint64_t at = (a->count - count) / (SAMPLES - 1) * (uint64_t)i;
        if (sl_ckpt_read_elements(d->c, a, at, count, x, NULL) || sl_ckpt_read_elements(d->c, b, at, count, y, NULL))
            return false;
        *equal &= !memcmp(x, y, (size_t)(count * (a->bytes / a->count)));
    }
    return true;
}

/* Is the output layer a copy of the embedding? Asked where both are there and could be one weight. */
static bool head_is_copy(const struct sl_detector *d, bool *equal, const struct sl_tensor **head)
{
    static const char *const embeddings[] = {[SL_DIALECT_HF] = "model.embed_tokens.weight",
        [SL_DIALECT_MEGATRON] = "embedding.word_embeddings.weight",
        [SL_DIALECT_LEGACY] = "language_model.embedding.word_embeddings.weight"};
    static const char *const heads[] = {[SL_DIALECT_HF] = "lm_head.weight", [SL_DIALECT_MEGATRON] = "output_layer.weight",
        [SL_DIALECT_LEGACY] = "language_model.output_layer.weight"};
    for (int32_t tp = 0; tp < d->c->parallel.tp; tp++) {
        const struct sl_tensor *a = find_tensor(d, embeddings[d->seen.dialect], tp);
        const struct sl_tensor *b = find_tensor(d, heads[d->seen.dialect], tp);
        *head = b;
        if (a && b)
            return compare_samples(d, a, b, equal);
    }
    return false;
}

static int keep_tie(struct sl_detector *d, bool tied, enum sl_said_by by)
{
    int code = tied ? sl_set_flag(d, "tied") : SL_OK;
    return code ? code : sl_say(d, "tie_embeddings", by, sl_value_new_bool(&d->m->arena, tied));
}

static void tell_tie(struct sl_detector *d, const struct sl_tensor *head, enum sl_said_by by)
{
    const char *from = sl_said_from(d, by), *rank = head->rank >= 0 ? d->c->ranks[head->rank].path : "";
    char where[512];
    snprintf(where, sizeof where, "%.200s%s%.300s", rank, *rank ? " " : "", head->name);
    const bool hf = d->seen.dialect == SL_DIALECT_HF;
    const struct sl_problem_text more = {
        .expected = sl_arena_printf(&d->m->arena, "the bytes of the embedding: %s %s that the head is tied to it", from, sl_says(from)),
        .cause = hf ? "config.json is of a model that is tied and this one is not, or a tool changed one of the two"
                    : "args are of a model that is tied and this one is not, or the first and the last stage are of different saves",
        .damage = "it is kept as a weight of its own; a program that believes the statement drops it",
        .next = hf ? "If the model is not tied, correct tie_word_embeddings in config.json; else copy both weights from one source again."
                   : "If the model is not tied, say --set untie_embeddings_and_output_weights=true; else take all files of one save." };
    sl_problem_add(&d->m->problems, "tie-differs", where, &more, "%s %s the head is tied, but it differs from the embedding", from, sl_says(from));
}

/* Both are there: the bytes decide, unless the user does. */
static int solve_tie_of_both(struct sl_detector *d)
{
    enum sl_said_by by = SL_BY_DATABASE;
    bool said = false, equal = false;
    const struct sl_tensor *head = NULL;
    const bool known = sl_value_bool(sl_known(d, "tie_embeddings", &by), &said);
    const bool may_copy = d->seen.dialect == SL_DIALECT_HF || d->seen.pp > 1;
    if (known && by == SL_BY_SET)
        return keep_tie(d, said, SL_BY_SET);
    if (!may_copy && !(known && said && by == SL_BY_ARGS))
        return keep_tie(d, false, SL_BY_TENSORS);
    if (!head_is_copy(d, &equal, &head))
        return keep_tie(d, known && said, known ? by : SL_BY_TENSORS);
    if (sl_evidence_add(d->m, "samples of their bytes", "output layer %s the embedding", equal ? "equals" : "differs from"))
        return sl_fail_memory(d->err, 0);
    if (known && said && !equal)
        tell_tie(d, head, by);
    if (known && !said && equal)                /* two weights that happen to be equal lose nothing apart */
        return keep_tie(d, false, by);
    return keep_tie(d, equal, SL_BY_TENSORS);
}

static int solve_tie(struct sl_detector *d)
{
    enum sl_said_by by;
    bool said = false;
    const bool last_read = d->seen.stage_read[d->seen.pp - 1];
    if (sl_has_flag(d, "head"))
        return solve_tie_of_both(d);
    if (!sl_has_flag(d, "tied_copy") && (!last_read || !sl_has_flag(d, "final_norm")))
        return sl_value_bool(sl_known(d, "tie_embeddings", &by), &said) ? keep_tie(d, said, by) : SL_OK;
    if (sl_value_bool(sl_said(d, "tie_embeddings", SL_BY_SET), &said) && !said)
        return sl_fail(d->err, SL_USAGE, "--set", "the head is stated as untied, but there is no output layer of its own");
    if (sl_value_bool(sl_said(d, "tie_embeddings", SL_BY_ARGS), &said) && !said)
        sl_problem_add(&d->m->problems, "config-contradiction", sl_said_from(d, SL_BY_ARGS), NULL,
                       "%s %s the head is not tied, but there is no output layer of its own", sl_said_from(d, SL_BY_ARGS),
                       sl_says(sl_said_from(d, SL_BY_ARGS)));
    return keep_tie(d, true, SL_BY_TENSORS);
}

/* ---- what was said against what is ---------------------------------------- */

static int compare_size(struct sl_detector *d, const char *key)
{
    int64_t found = 0, said;
    if (!sl_said_int(d, key, SL_BY_TENSORS, &found))
        return SL_OK;
    if (!strcmp(key, "num_layers") && sl_ckpt_layers_told(d->c))
        return SL_OK;
    for (int by = SL_BY_SET; by <= SL_BY_ARGS; by++)
        if (sl_said_int(d, key, (enum sl_said_by)by, &said) && said != found) {
            const int code = differ(d, key, (enum sl_said_by)by, said, found, "the shape of the tensors");
            if (code)
                return code;
        }
    return SL_OK;
}

static int compare_sizes(struct sl_detector *d)
{
    static const char *const keys[] = {"num_layers", "hidden_size", "ffn_hidden_size", "padded_vocab_size", "num_experts",
                                       "moe_ffn_hidden_size", "q_lora_rank", "kv_lora_rank", "qk_head_dim",
                                       "qk_pos_emb_head_dim", "v_head_dim"};
    int code = SL_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !code; i++)
        code = compare_size(d, keys[i]);
    return code || !sl_has_flag(d, "mla") ? code : compare_size(d, "num_attention_heads");
}

/* Args of parts that are not there. Config.json may speak of experts that no layer of the model has. */
static void compare_parts(struct sl_detector *d)
{
    static const struct { const char *arg, *flag, *unless, *what; } parts[] = {
        {"multi_latent_attention", "mla", NULL, "latent attention"}, {"qk_layernorm", "qk_norm", "mla", "norms on q and k"}};
    int64_t experts = 0;
    bool said = false;
    for (int32_t pp = 0; pp < d->seen.pp; pp++)
        if (!d->seen.stage_read[pp])
            return;
    if (!d->c->args || !sl_has_flag(d, "attention"))
        return;
    if (sl_said_int(d, "num_experts", SL_BY_ARGS, &experts) && experts > 0 && !sl_has_flag(d, "moe"))
        sl_problem_add(&d->m->problems, "config-contradiction", "args", NULL, "args say num_experts is %lld, the tensors have no experts",
                       (long long)experts);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (sl_value_bool(sl_said(d, parts[i].arg, SL_BY_ARGS), &said) && said && !sl_has_flag(d, parts[i].flag)
            && !(parts[i].unless && sl_has_flag(d, parts[i].unless)))
            sl_problem_add(&d->m->problems, "config-contradiction", "args", NULL, "args say %s, the tensors have no %s", parts[i].arg,
                           parts[i].what);
}

static void contradict(struct sl_detector *d, const char *said, const char *found)
{
    sl_problem_add(&d->m->problems, "config-contradiction", "args", NULL, "args say %s, the tensors %s", said, found);
}

/* Biases, norms and the gate: args that say otherwise are of another model, or were edited. */
static void compare_flags(struct sl_detector *d)
{
    bool all = false, qkv = false, gated, norms;
    const char *normalization = sl_value_str(sl_said(d, "normalization", SL_BY_ARGS));
    const bool known = sl_value_bool(sl_said(d, "add_bias_linear", SL_BY_ARGS), &all);
    (void)sl_value_bool(sl_said(d, "add_qkv_bias", SL_BY_ARGS), &qkv);
    if (!sl_has_flag(d, "attention") || sl_has_flag(d, "moe"))
        return;
    if (known && (all || qkv) != sl_has_flag(d, "qkv_bias"))
        sl_problem_add(&d->m->problems, "config-contradiction", "args", NULL,
                       "args say the attention has %s bias (add_bias_linear, add_qkv_bias), the tensors have %s",
                       all || qkv ? "a" : "no", sl_has_flag(d, "qkv_bias") ? "one" : "none");
    if (sl_value_bool(sl_said(d, "swiglu", SL_BY_ARGS), &gated) && gated && !sl_has_flag(d, "gated"))
        sl_problem_add(&d->m->problems, "config-contradiction", "args", NULL,
                       "args say swiglu, but the first MLP matrix has no rows for a gate");
    if (d->c->hf_config || d->seen.dialect != SL_DIALECT_MEGATRON)
        return;
    if (sl_value_bool(sl_said(d, "qk_layernorm", SL_BY_ARGS), &norms) && !norms && sl_has_flag(d, "qk_norm") && !sl_has_flag(d, "mla"))
        contradict(d, "that queries and keys have no norms (qk_layernorm is false)", "have them");
    if (normalization && !strcmp(normalization, "LayerNorm") && sl_has_flag(d, "final_norm") && !sl_has_flag(d, "norm_bias"))
        contradict(d, "normalization is LayerNorm, whose norms have biases", "have none");
    if (normalization && !strcmp(normalization, "RMSNorm") && sl_has_flag(d, "norm_bias"))
        contradict(d, "normalization is RMSNorm, whose norms have no biases", "have them");
}

/* ---- the preset ---------------------------------------------------------- */

static int preset_differs(struct sl_detector *d, const char *what, long long said, long long found)
{
    return sl_fail(d->err, SL_USAGE, "--model", "%s has %s %lld, the tensors of this checkpoint %lld",
                   d->row->name, what, said, found);
}

static int compare_preset(struct sl_detector *d)
{
    const struct sl_model_row *row = d->row;
    int64_t layers, hidden, ffn;
    if (!row)
        return SL_OK;
    if (sl_said_int(d, "num_layers", SL_BY_TENSORS, &layers) && layers != row->layers)
        return preset_differs(d, "num_layers", row->layers, layers);
    if (row->hidden && sl_said_int(d, "hidden_size", SL_BY_TENSORS, &hidden) && hidden != row->hidden)
        return preset_differs(d, "hidden_size", row->hidden, hidden);
    if (row->ffn && sl_said_int(d, "ffn_hidden_size", SL_BY_TENSORS, &ffn) && ffn != row->ffn)
        return preset_differs(d, "ffn_hidden_size", row->ffn, ffn);
    if (row->nominal || !d->qd || sl_has_flag(d, "mla"))
        return SL_OK;
    if ((int64_t)row->heads * row->head_dim != d->qd)
        return preset_differs(d, "query rows", (long long)row->heads * row->head_dim, d->qd);
    if ((int64_t)row->kv_heads * row->head_dim != d->kvd)
        return preset_differs(d, "key rows", (long long)row->kv_heads * row->head_dim, d->kvd);
    return SL_OK;
}

/* After the heads are known: a preset's other numbers are only remarked. */
static void remark_preset(struct sl_detector *d)
{
    const struct sl_model_row *row = d->row;
    int64_t heads = 0, groups = 0;
    if (!row || !sl_known_int(d, "num_attention_heads", &heads) || !sl_known_int(d, "num_query_groups", &groups))
        return;
    if (heads != row->heads)
        sl_problem_add(&d->m->problems, "config-differs", "--model", NULL,
                       "%s has %d query heads, the checkpoint %lld; the checkpoint's number is used", row->name,
                       row->heads, (long long)heads);
    else if (groups != row->kv_heads)
        sl_problem_add(&d->m->problems, "config-differs", "--model", NULL,
                       "%s has %d key and value heads, the tensors %lld; the tensors' number is used", row->name,
                       row->kv_heads, (long long)groups);
}

int sl_shape_solve(struct sl_detector *d)
{
    int code = solve_layers(d);
    code = code ? code : solve_sizes(d);
    code = code ? code : compare_sizes(d);
    code = code ? code : compare_preset(d);
    code = code ? code : solve_tie(d);
    if (code)
        return code;
    compare_flags(d);
    compare_parts(d);
    code = sl_rows_match(d);
    code = code ? code : ask_database(d);
    code = code ? code : ask_database_topk(d);
    code = code ? code : solve_heads(d);
    remark_preset(d);
    return code;
}
