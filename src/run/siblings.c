/* siblings.c: one weight among others like it: far from the same weight of other
 * layers, or byte for byte the shard that another rank should hold.
 */
#include "run/judge.h"

#include "base/dtype.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- outliers ----------------------------------------------------------------------- */

#define FEWEST_LAYERS 4                  /* below that there is no usual size */
/* How many times the median is far. Vectors get more room: in sound models norms of the first
 * layers and biases of keys are known to be tens of times smaller or larger than the others. */
#define FAR_MATRIX 20.0
#define FAR_VECTOR 100.0

struct peer {                            /* a weight of some layer */
    uint64_t kind;                       /* hash of its name without numbers */
    uint64_t layer;                      /* stage, chunk, and number in the name */
    double rms;
    uint32_t tensor;
};

static int by_layer(const void *a, const void *b)
{
    const struct peer *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static int by_rms(const void *a, const void *b)
{
    const struct peer *x = a, *y = b;
    if (x->rms < y->rms || x->rms > y->rms)
        return x->rms < y->rms ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* "decoder.layers.7.mlp.experts.local_experts.3.fc1" is of kind "decoder.layers.#.mlp.experts.
 * local_experts.#.fc1": experts are siblings too. False when it is of no layer. */
static bool peer_of(const struct judge *j, size_t weight, struct peer *out)
{
    char kind[512];
    size_t len = 0;
    const struct sl_tensor *t = &j->c->tensors[j->tensors[weight]];
    const char *layers = strstr(t->name, "layers.");
    if (!layers)
        layers = strstr(t->name, "layer.");
    const char *number = layers ? strchr(layers, '.') + 1 : "";
    if (*number < '0' || *number > '9')
        return false;
    for (const char *p = t->name; *p && len < sizeof kind; ) {
        const size_t digits = strspn(p, "0123456789");
        kind[len++] = digits ? '#' : *p;
        p += digits ? digits : 1;
    }
    const uint64_t pp = t->rank >= 0 ? (uint64_t)j->c->ranks[t->rank].pp : 0;
    *out = (struct peer){ .kind = XXH3_64bits(kind, len), .layer = pp << 48 | (uint64_t)t->chunk << 32 | (uint32_t)strtoul(number, NULL, 10),
                          .rms = j->readings[weight].stats.rms, .tensor = j->tensors[weight] };
    return true;
}

static void tell_outlier(struct judge *j, const struct peer *p, double median, size_t layers)
{
    const struct sl_tensor *t = &j->c->tensors[p->tensor];
    char expected[192];
    snprintf(expected, sizeof expected, "a root mean square near %.3g, the median of the same weight in %zu layers", median, layers);
    const struct finding f = {
        .code = "outlier", .t = t,
        .more = { .expected = expected } };
    judge_tell(j, &f, "its root mean square is %.3g, that is %.3g times the usual", p->rms, p->rms / median);
}

/* Peers of one kind, in order of layers. */
static void judge_kind(struct judge *j, struct peer *peers, size_t count)
{
    size_t layers = 0;
    for (size_t i = 0; i < count; i++)
        layers += i == 0 || peers[i].layer != peers[i - 1].layer;
    if (layers < FEWEST_LAYERS)
        return;
    qsort(peers, count, sizeof *peers, by_rms);
    const double median = peers[count / 2].rms;
    const double far = j->c->tensors[peers[0].tensor].ndim > 1 ? FAR_MATRIX : FAR_VECTOR;
    for (size_t i = 0; i < count; i++)
        if (peers[i].rms > median * far || peers[i].rms * far < median)
            tell_outlier(j, &peers[i], median, layers);
}

int judge_outliers(struct judge *j, struct sl_error *err)
{
    struct peer *peers = calloc(j->count + 1, sizeof *peers);
    size_t count = 0;
    if (!peers)
        return sl_fail_memory(err, j->count * sizeof *peers);
    for (size_t i = 0; i < j->count; i++)        /* zeros are told on their own */
        if (j->readings[i].whole && j->readings[i].stats.rms > 0)
            count += peer_of(j, i, &peers[count]);
    qsort(peers, count, sizeof *peers, by_layer);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && peers[end].kind == peers[i].kind; end++)
            ;
        judge_kind(j, peers + i, end - i);
    }
    free(peers);
    return SL_OK;
}

/* ---- shards that are the same ---------------------------------------------------------- */

#define MOST_LOOKED_AT 4096              /* replicas of one shard that are passed over */

struct shard { uint64_t hash; uint32_t tensor; };
/* What the shards of one rank are, that hold another part of something than its siblings do. */
struct twin {
    size_t shards, experts;              /* that could be another's: not constant, not a replica; of experts */
    size_t copies, expert_copies;        /* of these, the same as on rank `of` */
    int32_t of;
    uint32_t first;                      /* tensor of the first copy */
};

static int by_hash(const void *a, const void *b)
{
    const struct shard *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* Do two tensors have the same name on different ranks, and should differ in what they hold? Layers
 * of one number on two stages are different ones, and only a rank file copied whole makes
 * them equal. */
static bool should_differ(const struct judge *j, uint32_t a, uint32_t b)
{
    const struct sl_tensor *ta = &j->c->tensors[a], *tb = &j->c->tensors[b];
    return ta->rank != tb->rank && ta->dtype == tb->dtype && ta->count == tb->count && ta->chunk == tb->chunk
        && j->holds[a] && j->holds[b] && j->holds[a] != j->holds[b] && !strcmp(ta->name, tb->name);
}

/* Does a rank have it to itself: is it cut over ranks, an expert of one of them, or, where ranks are
 * nothing but stages, of a layer? */
static bool is_own(const struct judge *j, uint32_t tensor, const struct sl_slice *s)
{
    const struct sl_param *p = &j->layout->params[s->param];
    bool part = p->expert >= 0 || (p->layer >= 0 && j->c->parallel.tp == 1 && j->c->parallel.ep == 1);
    for (uint32_t a = 0; a < p->ndim; a++)
        part = part || s->lo[a] > 0 || s->hi[a] < p->shape[a];
    return part && j->holds[tensor];
}

static bool is_expert(const struct sl_tensor *t) { return strstr(t->name, "experts.") && !strstr(t->name, "shared_experts."); }

static int collect(const struct judge *j, struct shard *shards, size_t *count, struct twin *twins, struct sl_error *err)
{
    bool *own = calloc(j->c->tensor_count + 1, sizeof *own);
    if (!own)
        return sl_fail_memory(err, j->c->tensor_count);
    for (size_t i = 0; i < j->layout->slice_count; i++) {
        const struct sl_slice *s = &j->layout->slices[i];
        own[s->tensor] = own[s->tensor] || is_own(j, s->tensor, s);
    }
    *count = 0;
    for (size_t i = 0; i < j->count; i++) {
        const struct reading *r = &j->readings[i];
        const int32_t rank = j->c->tensors[j->tensors[i]].rank;
        if (rank < 0 || !r->whole || !own[j->tensors[i]] || !(r->stats.min < r->stats.max))
            continue;
        twins[rank].shards++;
        twins[rank].experts += is_expert(&j->c->tensors[j->tensors[i]]);
        shards[(*count)++] = (struct shard){ r->hash, j->tensors[i] };
    }
    free(own);
    return SL_OK;
}

/* The first shard of a rank decides whose copy it may be. */
static void count_copy(const struct judge *j, struct twin *twins, uint32_t tensor, uint32_t other)
{
    struct twin *t = &twins[j->c->tensors[tensor].rank];
    const int32_t of = j->c->tensors[other].rank;
    if (!t->copies) {
        t->of = of;
        t->first = tensor;
    }
    if (t->of != of)
        return;
    t->copies++;
    t->expert_copies += is_expert(&j->c->tensors[tensor]);
    t->first = tensor < t->first ? tensor : t->first;
}

static void tell_twin(struct judge *j, const struct twin *t, int32_t rank)
{
    const struct sl_rank *here = &j->c->ranks[rank], *there = &j->c->ranks[t->of];
    const bool all = t->copies == t->shards;
    const char *next = "Compare both files with their source (sha256sum) and copy the right one again.";
    char expected[256];
    if (!all && here->pp != there->pp)           /* layers may be repeated on purpose */
        return;
    if (sl_ckpt_is_foreign(j->c, here))          /* a copy, told by its args already */
        return;
    snprintf(expected, sizeof expected, "different bytes: tp %" PRId32 " pp %" PRId32 " ep %" PRId32 " and tp %" PRId32 " pp %" PRId32
             " ep %" PRId32 " hold different parts", here->tp, here->pp, here->ep, there->tp, there->pp, there->ep);
    const struct finding whole = {
        .code = "shards-identical", .where = here->path, .severity = AS_ERROR,
        .more = { .expected = expected, .cause = "one rank's file was copied over the other's",
                  .damage = "what one of the two ranks should hold is lost: the model can't be converted rightly without its file",
                  .next = next } };
    const struct finding doubled = {
        .code = "expert-count", .t = &j->c->tensors[t->first],
        .more = { .expected = expected, .cause = "the experts of one expert parallel rank were written over those of another",
                  .damage = "the experts that this rank should hold are lost; all other weights are not touched by it", .next = next } };
    const struct finding one = {
        .code = "shards-identical", .t = &j->c->tensors[t->first],
        .more = { .expected = expected, .cause = "a tool that split or merged the tensor wrote one part twice",
                  .damage = "the weights named; the others are not touched by it", .next = next } };
    if (!all && t->expert_copies == t->experts && t->copies == t->experts && here->ep != there->ep)
        judge_tell(j, &doubled, "all %zu shards of its experts hold the same bytes as on %s: those experts are there twice", t->experts, there->path);
    else if (all)
        judge_tell(j, &whole, "all %zu shards that it has to itself hold the same bytes as on %s", t->copies, there->path);
    else if (t->copies == 1)
        judge_tell(j, &one, "the same bytes as on %s, which holds another part", there->path);
    else
        judge_tell(j, &one, "the same bytes as on %s, which holds another part; so do %zu more of the %zu shards of this rank",
                   there->path, t->copies - 1, t->shards);
}

/* Experts that are all made of one dense layer are equal on one rank, too: nothing was copied over anything.
 * Of one hash, tensors of one rank stand together. */
static bool are_upcycled(const struct judge *j, const struct shard *shards, size_t from, size_t end)
{
    bool all = true, twice = false;
    for (size_t i = from; i < end; i++) {
        const struct sl_tensor *t = &j->c->tensors[shards[i].tensor];
        all = all && is_expert(t);
        twice = twice || (i > from && j->c->tensors[shards[i - 1].tensor].rank == t->rank);
    }
    return all && twice;
}

static void find_copies(const struct judge *j, const struct shard *shards, size_t count, struct twin *twins)
{
    for (size_t from = 0, end; from < count; from = end) {
        for (end = from + 1; end < count && shards[end].hash == shards[from].hash; end++)
            ;
        if (are_upcycled(j, shards, from, end))
            continue;
        for (size_t i = from + 1; i < end; i++)
            for (size_t k = i; k > from && i - k < MOST_LOOKED_AT; k--)
                if (should_differ(j, shards[i].tensor, shards[k - 1].tensor)) {
                    count_copy(j, twins, shards[i].tensor, shards[k - 1].tensor);
                    break;
                }
    }
}

int judge_identical(struct judge *j, struct sl_error *err)
{
    if (!j->layout || j->c->rank_count < 2)
        return SL_OK;
    struct shard *shards = calloc(j->count + 1, sizeof *shards);
    struct twin *twins = calloc(j->c->rank_count, sizeof *twins);
    size_t count = 0;
    int code = shards && twins ? collect(j, shards, &count, twins, err) : sl_fail_memory(err, j->count * sizeof *shards);
    if (!code) {
        qsort(shards, count, sizeof *shards, by_hash);
        find_copies(j, shards, count, twins);
        for (size_t i = 0; i < j->c->rank_count; i++)
            if (twins[i].copies)
                tell_twin(j, &twins[i], (int32_t)i);
    }
    free(twins);
    free(shards);
    return code;
}
