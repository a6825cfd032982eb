/* sizes.c: is what all ranks of a stage agree on the part that args give each of them? A tool that saved whole
 * tensors as shards did so on every rank, and then no rank differs from its siblings.
 *
 * Rows and columns of the whole: Megatron-LM megatron/core/transformer/attention.py and mlp.py (linear_qkv,
 * linear_proj, linear_fc1, linear_fc2), megatron/core/tensor_parallel/layers.py (what is cut along which axis). */
#include "checkpoint/ckptread.h"

#include "base/num.h"
#include "base/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum whole { OF_VOCABULARY, OF_QKV, OF_HEADS, OF_GATED, OF_FFN };
static const struct cut { const char *ending; uint32_t axis; enum whole whole; } cuts[] = {
    { "embedding.word_embeddings.weight", 0, OF_VOCABULARY }, { "output_layer.weight", 0, OF_VOCABULARY },
    { ".self_attention.linear_qkv.weight", 0, OF_QKV },       { ".self_attention.linear_proj.weight", 1, OF_HEADS },
    { "attention.query_key_value.weight", 0, OF_QKV },        { "attention.dense.weight", 1, OF_HEADS },
    { ".mlp.linear_fc1.weight", 0, OF_GATED },                { ".mlp.linear_fc2.weight", 1, OF_FFN },
    { ".mlp.dense_h_to_4h.weight", 0, OF_GATED },             { ".mlp.dense_4h_to_h.weight", 1, OF_FFN },
};

static int64_t number(const struct sl_value *args, const char *key)
{
    int64_t n;
    return sl_value_int(sl_value_get(args, key), &n) && n > 0 && n < INT32_MAX ? n : 0;
}

static bool truth(const struct sl_value *args, const char *key)
{
    bool yes = false;
    return sl_value_bool(sl_value_get(args, key), &yes) && yes;
}

/* Rows or columns of the whole, as args have it; 0 where they do not say. */
static int64_t whole_of(const struct sl_value *args, enum whole whole)
{
    const int64_t heads = number(args, "num_attention_heads"), hidden = number(args, "hidden_size");
    const int64_t said = number(args, "kv_channels"), size = said ? said : heads && hidden % heads == 0 ? hidden / heads : 0;
    const int64_t groups = truth(args, "group_query_attention") ? number(args, "num_query_groups") : heads;
    if (whole == OF_VOCABULARY)
        return number(args, "padded_vocab_size");
    if (whole == OF_FFN)
        return number(args, "ffn_hidden_size");
    if (whole == OF_GATED)              /* other gates than swiglu args do not have; half of gate and up is as long as one of them */
        return truth(args, "swiglu") ? 2 * number(args, "ffn_hidden_size") : 0;
    if (truth(args, "multi_latent_attention"))
        return 0;
    return whole == OF_HEADS ? heads * size : groups ? (heads + 2 * groups) * size : 0;
}

struct told { const struct sl_tensor *first; size_t count; };

/* The tensors of one kind that are whole where they should be cut. All ranks of a stage have one shape: else that is told. */
static struct told find_whole(const struct sl_ckpt *c, const struct cut *cut, int64_t whole)
{
    struct told t = { 0 };
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct sl_tensor *s = &c->tensors[i];
        if (s->rank < 0 || c->ranks[s->rank].tp || c->ranks[s->rank].ep || s->ndim != 2 || s->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA) ||
            s->shape[cut->axis] != whole || !sl_text_ends(s->name, cut->ending) || strstr(s->name, "mtp."))
            continue;
        t.first = t.count++ ? t.first : s;
    }
    return t;
}

static void tell_whole(struct sl_ckpt *c, const struct cut *cut, const struct told *t, int64_t whole)
{
    const int32_t tp = c->parallel.tp;
    const char *unit = cut->axis ? "columns" : "rows";
    char where[512], shape[128], expected[200], more[96] = "";
    snprintf(where, sizeof where, "%.200s %.300s", c->ranks[t->first->rank].path, t->first->name);
    snprintf(expected, sizeof expected, "%" PRId64 " %s on each of %" PRId32 " tensor parallel ranks: args make %" PRId64 " of the whole",
             whole / tp, unit, tp, whole);
    if (t->count > 1)
        snprintf(more, sizeof more, "; so %s %zu more of that name in other layers", t->count == 2 ? "is" : "are", t->count - 1);
    const struct sl_problem_text text = {
        .expected = expected, .cause = "a whole tensor saved as a shard, on every rank, by a tool that merged or wrote it",
        .damage = "each rank holds all of it: read as shards, the weights would be those of a model that is too wide. No conversion",
        .next = "Write it again as shards, or take the save that it was made of." };
    sl_problem_add(&c->problems, "shape-unexpected", where, &text, "it is %s on every rank: all %" PRId64 " %s, not one of %" PRId32 " parts%s",
                   sl_text_shape(t->first->shape, t->first->ndim, shape, sizeof shape), whole, unit, tp, more);
}

void ckpt_check_sizes(struct sl_ckpt *c)
{
    const int32_t tp = c->parallel.tp;
    if (tp < 2 || !c->args || sl_problems_explain(&c->problems, SL_EXPLAINS_SHAPES, NULL))
        return;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const int64_t whole = whole_of(c->args, cuts[i].whole);
        if (whole <= 0 || whole % tp)
            continue;
        const struct told t = find_whole(c, &cuts[i], whole);
        if (t.count)
            tell_whole(c, &cuts[i], &t, whole);
    }
}
