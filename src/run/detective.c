/* detective.c: see detective.h. */
#include "run/detective.h"
#include "run/rows.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MOST 12                   /* looked at, evenly over the model */
#define LAYERS_FEW 4                     /* with fewer, or with fewer heads in all of them, chance decides */
#define HEADS_FEW 32
#define SHOWS_DIRECTION 1.3              /* length of the sum of rows, against that of random signs */
#define APART 1.2                        /* one side against the other */
#define PAIRED 0.95                      /* difference within pairs, against that of any two rows of a head */

enum part { PART_Q, PART_K, PART_V, PART_GATE, PART_UP, PARTS };
static const char *const part_names[PARTS] = { "attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up" };

/* What is known of the rows of one weight. */
struct rows {
    int64_t param;                       /* -1: not there, or without rows */
    uint64_t count, columns;
    double *length;                      /* log of the root mean square of each row */
    double *sum;                         /* of all rows, by column */
    double square;                       /* sum of squares of all elements */
    uint64_t *place;                     /* row of the stored tensor; and */
    uint32_t *tensor;                    /* which tensor that is */
};
struct layer { struct rows part[PARTS]; };

struct look {
    struct sl_ckpt *c;
    const struct sl_layout *l;
    const struct sl_model *m;
    const sl_atomic_int *cancel;
    struct sl_arena *arena;
    struct layer layers[LAYERS_MOST]; size_t count;
};

/* ---- reading ------------------------------------------------------------------------------------- */

static int take_row(void *arg, const struct sl_row *r, struct sl_error *err)
{
    struct rows *out = arg;
    const size_t size = sl_dtype_size(r->dtype);
    double square = 0;
    (void)err;
    if (out->tensor[r->row])
        return SL_OK;                    /* another rank's copy */
    for (uint64_t i = 0; i < r->columns; i++) {
        const double x = sl_dtype_load(r->dtype, (const unsigned char *)r->bytes + i * size);
        if (!isfinite(x))
            continue;
        out->sum[i] += x;
        square += x * x;
    }
    out->square += square;
    out->length[r->row] = 0.5 * log(square / (double)r->columns + 1e-24);
    out->place[r->row] = r->element / r->columns;
    out->tensor[r->row] = r->tensor + 1;
    return SL_OK;
}

static int read_part(struct look *k, struct rows *out, struct sl_error *err)
{
    out->count = out->param < 0 ? 0 : sl_rows_count(k->l, (uint32_t)out->param, &out->columns);
    if (!out->count)
        return SL_OK;
    out->length = SL_ARENA_NEW(k->arena, double, out->count);
    out->sum = SL_ARENA_NEW(k->arena, double, out->columns);
    out->place = SL_ARENA_NEW(k->arena, uint64_t, out->count);
    out->tensor = SL_ARENA_NEW(k->arena, uint32_t, out->count);
    if (!out->length || !out->sum || !out->place || !out->tensor)
        return sl_fail_memory(err, out->count * 3 * sizeof(double));
    if (k->cancel && *k->cancel)
        return sl_fail(err, SL_INTERRUPTED, k->l->params[out->param].name, "stopped");
    const int code = sl_rows_each(k->c, k->l, (uint32_t)out->param, take_row, out, err);
    for (uint64_t i = 0; !code && i < out->count; i++)
        if (!out->tensor[i])
            out->count = 0;              /* a rank is missing */
    return code;
}

static int64_t find_param(const struct sl_layout *l, int32_t layer, const char *part)
{
    char name[64];
    uint64_t index;
    snprintf(name, sizeof name, "layers.%d.%s", (int)layer, part);
    return sl_map_get(&l->param_index, name, strlen(name), &index) ? (int64_t)index : -1;
}

static int read_layers(struct look *k, struct sl_error *err)
{
    int32_t most = -1;
    int code = SL_OK;
    for (size_t p = 0; p < k->l->param_count; p++)
        most = k->l->params[p].layer > most ? k->l->params[p].layer : most;
    const int32_t all = most + 1, want = all < LAYERS_MOST ? all : LAYERS_MOST;
    for (int32_t i = 0; !code && i < want; i++) {
        struct layer *layer = &k->layers[k->count++];
        for (int p = 0; !code && p < PARTS; p++) {
            layer->part[p].param = find_param(k->l, (int32_t)((int64_t)i * all / want), part_names[p]);
            code = read_part(k, &layer->part[p], err);
        }
    }
    return code;
}

/* ---- votes ------------------------------------------------------------------------------------------- */

/* Layers that say one thing or the other, and the numbers they say it by. */
struct vote { int32_t first, second, layers; double a, b; uint64_t heads; };

static void add_vote(struct vote *v, int says, double a, double b)
{
    v->layers++;
    v->first += says == 1;
    v->second += says == 2;
    v->a += a;
    v->b += b;
}

/* 1 or 2 when more layers say so than chance would have, else 0. */
static int winner(const struct vote *v)
{
    const int32_t most = v->first > v->second ? v->first : v->second;
    const int32_t lead = 2 * most - v->layers;   /* of tosses of a coin: 2 deviations */
    if (v->layers < LAYERS_FEW || v->heads < HEADS_FEW || lead < 0 || lead * lead < 4 * v->layers)
        return 0;
    return v->first >= v->second ? 1 : 2;
}

static void settle(struct sl_layout_finding *f, const struct vote *v, int says)
{
    f->layers = v->layers;
    f->agree = says == 1 ? v->first : says == 2 ? v->second : 0;
    f->told = says != 0;
    f->confidence = says && 5 * f->agree >= 4 * v->layers ? SL_LIKELY : SL_GUESS;
}

/* Why nothing is told of what was looked at. */
static const char *untold(const struct vote *v)
{
    return v->layers < LAYERS_FEW || v->heads < HEADS_FEW ? "too little to tell: in so few layers and heads chance decides"
                                                          : "the weights do not show it, as random ones would not";
}

static int texts(struct sl_layout_finding *f, const char *answer, const char *measure, struct sl_error *err)
{
    f->answer = answer;
    f->measure = measure;
    return answer && measure ? SL_OK : sl_fail_memory(err, 256);
}

/* ---- gate and up ------------------------------------------------------------------------------------- */

/* Length of the sum of the rows, in units of what random signs give. */
static double direction(const struct rows *r)
{
    double sum2 = 0;
    for (uint64_t i = 0; i < r->columns; i++)
        sum2 += r->sum[i] * r->sum[i];
    return r->square > 0 ? sqrt(sum2 / r->square) : 0;
}

static int look_at_gate(struct look *k, struct sl_layout_finding *f, struct sl_error *err)
{
    struct vote v = { 0 };
    bool mixed = false;
    for (size_t i = 0; i < k->count; i++) {
        const struct rows *g = &k->layers[i].part[PART_GATE], *u = &k->layers[i].part[PART_UP];
        if (!g->count || !u->count)
            continue;
        const double a = direction(g), b = direction(u);
        const bool shows = (a > b ? a : b) > SHOWS_DIRECTION;
        v.heads += HEADS_FEW;            /* rows, of which there are enough in any model */
        add_vote(&v, shows && a > APART * b ? 1 : shows && b > APART * a ? 2 : 0, a, b);
    }
    const int says = winner(&v);
    const double n = v.layers ? v.layers : 1;
    mixed = !says && v.a / n > SHOWS_DIRECTION && v.b / n > SHOWS_DIRECTION;
    settle(f, &v, says);
    f->as_read = says == 1;
    return texts(f,
                 !v.layers   ? "there are no gate and up matrices whose rows are stored whole"
                 : says == 1 ? "gate and up are in the order they are read in"
                 : says == 2 ? "gate and up are swapped: what is read as up looks like a gate"
                 : mixed     ? "what is read as gate and what is read as up both look like mixtures of the two"
                             : untold(&v),
                 sl_arena_printf(k->arena, "sum of rows: %.2f times that of random signs in gate, %.2f in up", v.a / n, v.b / n), err);
}

/* ---- rotary pairs ------------------------------------------------------------------------------------- */

/* Adds the mean difference within pairs of both kinds, and between any two rows, over the heads. */
struct pairs { double half, next, any; uint64_t heads; };

static void add_head(struct pairs *p, const double *x, uint64_t head)
{
    double half = 0, next = 0, any = 0;
    for (uint64_t i = 0; i < head / 2; i++) {
        half += fabs(x[i] - x[i + head / 2]);
        next += fabs(x[2 * i] - x[2 * i + 1]);
    }
    for (uint64_t i = 0; i < head; i++)
        for (uint64_t k = i + 1; k < head; k++)
            any += fabs(x[i] - x[k]);
    p->half += half / (double)(head / 2);
    p->next += next / (double)(head / 2);
    p->any += any / ((double)head * (double)(head - 1) / 2);
    p->heads++;
}

/* Rows of a head, and how many of them turn. */
static uint64_t head_of(const struct look *k, const struct rows *r)
{
    const struct sl_param *p = &k->l->params[r->param];
    return p->ndim >= 2 && !strcmp(p->axis[p->ndim - 2], "head") ? (uint64_t)p->shape[p->ndim - 2] : 0;
}

static uint64_t turning_rows(const struct look *k, uint64_t head)
{
    const struct sl_setting *s = sl_model_get(k->m, "rotary_percent");
    double part = 1;
    if (!s || !sl_value_double(s->value, &part) || !(part > 0 && part < 1))
        return head / 2 * 2;
    return (uint64_t)(part * (double)head) / 2 * 2;
}

static bool add_pairs(const struct look *k, const struct rows *r, struct pairs *p)
{
    const uint64_t head = r->count ? head_of(k, r) : 0, turning = turning_rows(k, head);
    if (turning < 4 || r->count % head)
        return false;
    for (uint64_t i = 0; i < r->count; i += head)
        add_head(p, r->length + i, turning);
    return true;
}

static int look_at_rope(struct look *k, struct sl_layout_finding *f, struct sl_error *err)
{
    struct vote v = { 0 };
    for (size_t i = 0; i < k->count; i++) {
        struct pairs p = { 0 };
        if (!add_pairs(k, &k->layers[i].part[PART_Q], &p) || !add_pairs(k, &k->layers[i].part[PART_K], &p) || !(p.any > 0))
            continue;
        const double half = p.half / p.any, next = p.next / p.any;
        v.heads += p.heads;
        add_vote(&v, half < PAIRED ? 1 : half > 1 && next < PAIRED ? 2 : 0, half, next);
    }
    int says = winner(&v);
    const double n = v.layers ? v.layers : 1, half = v.a / n, next = v.b / n;
    if ((says == 1 && half > PAIRED) || (says == 2 && (next > PAIRED || half < 1)))
        says = 0;
    settle(f, &v, says);
    f->as_read = says == 1;
    return texts(f,
                 !v.layers   ? "there are no q and k matrices of heads whose rows are stored whole"
                 : says == 1 ? "rows i and i + head/2 turn together, as they are read"
                 : says == 2 ? "rows 2i and 2i + 1 turn together (interleaved), and they are read as halves of a head"
                             : untold(&v),
                 sl_arena_printf(k->arena, "difference of lengths within pairs, against any two rows of a head: %.2f for i, i + head/2; "
                                 "%.2f for 2i, 2i + 1", half, next), err);
}

/* ---- q, k and v in one matrix --------------------------------------------------------------------------- */

struct head { double mean, spread; int read, other; };   /* labels: PART_Q, PART_K or PART_V */

/* How much of the variance over heads the labels explain, 0 to 1. */
static double explained(const struct head *h, size_t count, bool other, bool spread)
{
    double sum[3] = { 0 }, n[3] = { 0 }, mean = 0, all = 0, between = 0;
    for (size_t i = 0; i < count; i++) {
        const double x = spread ? h[i].spread : h[i].mean;
        const int label = other ? h[i].other : h[i].read;
        sum[label] += x;
        n[label]++;
        mean += x / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        const double x = (spread ? h[i].spread : h[i].mean) - mean;
        all += x * x;
    }
    for (int c = 0; c < 3; c++)
        if (n[c] > 0)
            between += n[c] * (sum[c] / n[c] - mean) * (sum[c] / n[c] - mean);
    return all > 0 ? between / all : 0;
}

/* Places of rows in one tensor: which part each is of, and its length. */
struct fused { const struct rows *part[3]; uint32_t tensor; uint64_t rows, head; int *label; double *length; };

static bool lay_out(struct look *k, struct fused *f)
{
    f->rows = 0;
    for (int p = 0; p < 3; p++)
        for (uint64_t i = 0; i < f->part[p]->count; i++)
            f->rows += f->part[p]->tensor[i] == f->tensor;
    f->label = SL_ARENA_NEW(k->arena, int, f->rows);
    f->length = SL_ARENA_NEW(k->arena, double, f->rows);
    for (int p = 0; f->label && f->length && p < 3; p++)
        for (uint64_t i = 0; i < f->part[p]->count; i++) {
            if (f->part[p]->tensor[i] != f->tensor)
                continue;
            if (f->part[p]->place[i] >= f->rows)
                return false;            /* other weights lie between */
            f->label[f->part[p]->place[i]] = p;
            f->length[f->part[p]->place[i]] = f->part[p]->length[i];
        }
    return f->label && f->length && f->rows && f->rows % f->head == 0;
}

/* The heads of a matrix with both labels: as it is read, and the other order. False when both are one order. */
static bool heads_of(struct look *k, const struct fused *f, struct head **out, size_t *count, bool *grouped)
{
    size_t n[3] = { 0 };
    *count = (size_t)(f->rows / f->head);
    struct head *h = *out = SL_ARENA_NEW(k->arena, struct head, *count);
    for (size_t i = 0; h && i < *count; i++) {
        double sum = 0, square = 0;
        for (uint64_t r = 0; r < f->head; r++) {
            const double x = f->length[i * f->head + r];
            sum += x / (double)f->head;
            square += x * x / (double)f->head;
        }
        const double variance = square - sum * sum;
        h[i] = (struct head){ sum, 0.5 * log((variance > 0 ? variance : 0) + 1e-12), f->label[i * f->head], 0 };
        n[h[i].read]++;
    }
    if (!h || !n[0] || !n[1] || n[1] != n[2] || n[0] % n[1])
        return false;
    size_t changes = 0;
    for (size_t i = 1; i < *count; i++)
        changes += h[i].read != h[i - 1].read;
    *grouped = changes > 2;
    const size_t each = n[0] / n[1];
    for (size_t i = 0; i < *count; i++) {
        const size_t of = i % (each + 2);
        h[i].other = *grouped ? (i < n[0] ? 0 : i < n[0] + n[1] ? 1 : 2) : of < each ? 0 : of == each ? 1 : 2;
    }
    for (size_t i = 0; i < *count; i++)
        if (h[i].other != h[i].read)
            return true;
    return false;
}

static int look_at_qkv(struct look *k, struct sl_layout_finding *f, struct sl_error *err)
{
    struct vote v = { 0 };
    bool grouped = true, fused_seen = false;
    for (size_t i = 0; i < k->count; i++) {
        struct fused u = { .part = { &k->layers[i].part[PART_Q], &k->layers[i].part[PART_K], &k->layers[i].part[PART_V] } };
        double read = 0, other = 0;
        if (!u.part[0]->count || !u.part[1]->count || !u.part[2]->count || !(u.head = head_of(k, u.part[1])) ||
            u.head != head_of(k, u.part[2]))
            continue;
        for (uint64_t r = 0; r < u.part[0]->count; r += u.head) {    /* each rank's matrix once */
            struct head *h;
            size_t count;
            if (u.part[0]->tensor[r] == u.tensor)
                continue;
            u.tensor = u.part[0]->tensor[r];
            if (u.tensor != u.part[1]->tensor[0] && r == 0)
                break;                   /* not fused */
            fused_seen = true;
            if (!lay_out(k, &u) || !heads_of(k, &u, &h, &count, &grouped))
                continue;
            v.heads += count;
            read += explained(h, count, false, false) + explained(h, count, false, true);
            other += explained(h, count, true, false) + explained(h, count, true, true);
        }
        if (read > 0 || other > 0)
            add_vote(&v, read > APART * other ? 1 : other > APART * read ? 2 : 0, read, other);
    }
    int says = winner(&v);
    if (says && (v.a > v.b ? v.a < APART * v.b : v.b < APART * v.a))
        says = 0;
    settle(f, &v, says);
    f->as_read = says == 1;
    const double n = v.layers ? v.layers : 1;
    const bool is_grouped = (says == 1) == grouped;
    return texts(f,
                 !fused_seen  ? "q, k and v are matrices of their own"
                 : !v.layers  ? "each rank has one group of heads: both orders are the same"
                 : !says      ? untold(&v)
                 : is_grouped ? (says == 1 ? "grouped, as it is read: the q heads of a group, its k, its v, then the next group"
                                           : "grouped, and it is read as contiguous")
                              : (says == 1 ? "contiguous, as it is read: all q heads, all k, all v" : "contiguous (all q, all k, all v), and it is read as grouped"),
                 sl_arena_printf(k->arena, "variance over heads explained: %.2f by the order it is read in, %.2f by the other (of 2)",
                                 v.a / n, v.b / n), err);
}

/* ---- all ------------------------------------------------------------------------------------------------- */

int sl_layout_look_at(struct sl_ckpt *c, const struct sl_layout *l, const struct sl_model *m, const sl_atomic_int *cancel,
                      struct sl_arena *arena, struct sl_layout_finding out[SL_LAYOUT_QUESTIONS], struct sl_error *err)
{
    static const char *const questions[SL_LAYOUT_QUESTIONS] = { "qkv", "gate-up", "rope" };
    struct look k = { .c = c, .l = l, .m = m, .cancel = cancel, .arena = arena };
    memset(out, 0, SL_LAYOUT_QUESTIONS * sizeof *out);
    for (int i = 0; i < SL_LAYOUT_QUESTIONS; i++)
        out[i].question = questions[i];
    int code = read_layers(&k, err);
    if (!code)
        code = look_at_qkv(&k, &out[0], err);
    if (!code)
        code = look_at_gate(&k, &out[1], err);
    return code ? code : look_at_rope(&k, &out[2], err);
}
