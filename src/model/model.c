/* model.c: questions about a detected model: settings, conditions, lengths of
 * axes, layers. */
#include "model/internal.h"

#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>

#define MOST_NESTED_DIMS 8

void sl_model_free(struct sl_model *m)
{
    if (!m)
        return;
    sl_arena_free(&m->arena);
    free(m);
}

const struct sl_setting *sl_model_get(const struct sl_model *m, const char *key)
{
    for (size_t i = 0; i < m->config_count; i++)
        if (!strcmp(m->config[i].key, key))
            return &m->config[i];
    return NULL;
}

bool sl_model_int(const struct sl_model *m, const char *key, int64_t *out)
{
    const struct sl_setting *s = sl_model_get(m, key);
    return s && sl_value_int(s->value, out);
}

static bool has_flag(void *arg, const char *flag, size_t len)
{
    const struct sl_model *m = arg;
    for (size_t i = 0; i < m->flag_count; i++)
        if (strlen(m->flags[i]) == len && !memcmp(m->flags[i], flag, len))
            return true;
    return false;
}

bool sl_model_flag(const struct sl_model *m, const char *flag)
{
    return has_flag((void *)(uintptr_t)m, flag, strlen(flag));
}

bool sl_model_when(const struct sl_model *m, const char *when)
{
    bool holds = true;
    return !when || (!sl_condition(when, has_flag, (void *)(uintptr_t)m, &holds, NULL) && holds);
}

int32_t sl_model_layer(const struct sl_model *m, int32_t pp, int32_t chunk, int32_t local)
{
    for (size_t i = 0; i < m->stage_count; i++) {
        const struct sl_stage_layers *s = &m->stages[i];
        if (s->pp == pp && s->chunk == chunk)
            return local >= s->base && local - s->base < s->count ? s->first + local - s->base : -1;
    }
    return -1;
}

/* ---- lengths of axes ----------------------------------------------------- */

struct dims {
    const struct sl_model *m;
    int32_t tp, etp;
    int64_t padded_vocab;
    int depth;
    bool failed;                         /* a dim was found, but has no value; err is filled */
    struct sl_error *err;
};

static bool dim_lookup(void *arg, const char *name, size_t len, int64_t *value);

static bool is_word(const char *name, size_t len, const char *word)
{
    return strlen(word) == len && !memcmp(name, word, len);
}

/* The family's own dims come first, then settings. */
static bool evaluate_dim(struct dims *d, const char *expression, int64_t *value)
{
    if (d->depth == MOST_NESTED_DIMS) {
        (void)sl_fail(d->err, SL_USAGE, "", "dims of the family refer to each other in a circle (%s)", expression);
        d->failed = true;
        return false;
    }
    d->depth++;
    const int code = sl_expression(expression, strlen(expression), dim_lookup, d, value, d->failed ? NULL : d->err);
    d->depth--;
    d->failed |= code != SL_OK;
    return code == SL_OK;
}

static bool dim_lookup(void *arg, const char *name, size_t len, int64_t *value)
{
    struct dims *d = arg;
    const struct sl_family *f = d->m->family;
    if (is_word(name, len, "tp") || is_word(name, len, "etp")) {
        *value = name[0] == 't' ? d->tp : d->etp;
        return true;
    }
    if (is_word(name, len, "vocab") || is_word(name, len, "padded_vocab")) {
        const bool padded = name[0] == 'p';
        *value = padded && d->padded_vocab >= 0 ? d->padded_vocab
               : padded || d->m->vocab < 0      ? d->m->padded_vocab : d->m->vocab;
        return *value >= 0;
    }
    for (size_t i = 0; f && i < f->dim_count; i++)
        if (is_word(name, len, f->dims[i].name))
            return evaluate_dim(d, f->dims[i].expression, value);
    for (size_t i = 0; i < d->m->config_count; i++)
        if (is_word(name, len, d->m->config[i].key))
            return sl_value_int(d->m->config[i].value, value);
    return false;
}

int sl_model_dim(const struct sl_model *m, const char *name, size_t len, int32_t tp, int32_t etp,
                 int64_t padded_vocab, int64_t *out, struct sl_error *err)
{
    struct dims d = {.m = m, .tp = tp, .etp = etp, .padded_vocab = padded_vocab, .err = err};
    struct sl_error inner;
    int64_t value;
    d.err = &inner;
    const int code = sl_expression(name, len, dim_lookup, &d, &value, d.failed ? NULL : &inner);
    if (!code) {
        *out = value;
        return SL_OK;
    }
    if (m->missing)
        return sl_fail(err, SL_USAGE, "", "%s", m->missing);
    return sl_fail(err, SL_USAGE, "", "%s", inner.message);
}
