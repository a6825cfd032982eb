/* pairs.c: two checkpoints side by side: what one can learn from the other, how their
 * configurations differ, and the reports of comparing them. */
#include "api/handle.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>

/* ---- learning ------------------------------------------------------------------- */

/* What one of the two does not tell and the other one does: a single file of weights says neither
 * its head size nor which rows are vocabulary. */
static const char *const learned[] = { "kv_channels", "vocab_size" };
#define LEARNED (sizeof learned / sizeof *learned)

bool sl_can_learn(const struct sl_checkpoint *ck, const struct sl_checkpoint *other)
{
    for (size_t i = 0; i < LEARNED; i++)
        if (sl_config_get(other, learned[i]) && !sl_config_get(ck, learned[i]))
            return true;
    return false;
}

int sl_learn(struct sl_checkpoint **ck, const struct sl_open_options *options, const struct sl_checkpoint *other, struct sl_error *err)
{
    struct sl_open_options o = options ? *options : (struct sl_open_options){ .set_count = 0 };
    struct sl_buf text[LEARNED] = { { 0 } };
    struct sl_checkpoint *again = NULL;
    if (!sl_can_learn(*ck, other))
        return SL_OK;
    const char **set = calloc(o.set_count + LEARNED, sizeof *set);
    bool failed = !set;
    size_t count = 0;
    for (size_t i = 0; !failed && i < o.set_count; i++)
        set[count++] = o.set[i];
    for (size_t i = 0; !failed && i < LEARNED; i++) {
        const struct sl_setting *known = sl_config_get(other, learned[i]);
        if (!known || sl_config_get(*ck, learned[i]))
            continue;
        sl_buf_printf(&text[i], "%s=", learned[i]);
        sl_value_print(known->value, 60, &text[i]);
        failed = text[i].failed;
        set[count++] = text[i].data;
    }
    o.set = set;
    o.set_count = count;
    if (!failed && !sl_open((*ck)->c->path, &o, &again, NULL)) {
        sl_close(*ck);
        *ck = again;
    }
    for (size_t i = 0; i < LEARNED; i++)
        sl_buf_free(&text[i]);
    free(set);
    return failed ? sl_fail_memory(err, 64) : SL_OK;
}

/* ---- configuration ---------------------------------------------------------------- */

/* What says where a checkpoint came from, not what the model is. */
static bool is_place(const char *key)
{
    return !strcmp(key, "tokenizer_model") || !strcmp(key, "padded_vocab_size") || !strcmp(key, "transformer_impl");
}

size_t sl_config_differences(const struct sl_checkpoint *a, const struct sl_checkpoint *b, struct sl_config_difference *out, size_t room)
{
    const struct sl_checkpoint_info *x = sl_info(a);
    size_t count = 0;
    for (size_t i = 0; i < x->config_count; i++) {
        const struct sl_setting *other = sl_config_get(b, x->config[i].key);
        if (!other || is_place(x->config[i].key) || sl_value_equal(x->config[i].value, other->value))
            continue;
        if (count < room)
            out[count] = (struct sl_config_difference){ x->config[i].key, x->config[i].value, other->value };
        count++;
    }
    return count;
}

/* ---- reports ------------------------------------------------------------------------ */

static void shape_json(struct sl_json *j, const int64_t *shape, uint32_t ndim)
{
    sl_json_key(j, "shape");
    sl_json_array(j);
    for (uint32_t i = 0; i < ndim; i++)
        sl_json_int(j, shape[i]);
    sl_json_array_end(j);
}

static void summary_json(struct sl_json *j, const struct sl_summary *s)
{
    sl_json_kbool(j, "equal", !s->different && !s->only_a && !s->only_b);
    sl_json_key(j, "summary");
    sl_json_object(j);
    sl_json_kuint(j, "equal", s->equal);
    sl_json_kuint(j, "different", s->different);
    sl_json_kuint(j, "only_a", s->only_a);
    sl_json_kuint(j, "only_b", s->only_b);
    sl_json_kuint(j, "bytes", s->bytes);
    sl_json_kdouble(j, "seconds", s->seconds);
    sl_json_object_end(j);
}

/* Opens the object of a result; verify and diff say different things of it. */
static void begin_json(struct sl_json *j, const struct sl_result *r)
{
    sl_json_object(j);
    sl_json_kstr(j, "name", r->name);
    sl_json_kstr(j, "dtype", sl_dtype_label(r->dtype));
    sl_json_kstr(j, "dtype_b", r->b_dtype ? sl_dtype_label(r->b_dtype) : NULL);
    shape_json(j, r->shape, r->ndim);
    sl_json_kstr(j, "status", sl_result_status_name(r->status));
    sl_json_kuint(j, "different", r->different);
}

/* verify: whether, and where first. */
static void equality_json(struct sl_json *j, const struct sl_result *r)
{
    begin_json(j, r);
    sl_json_key(j, "first_different");
    if (r->first_different == UINT64_MAX)
        sl_json_null(j);
    else
        sl_json_uint(j, r->first_different);
    sl_json_object_end(j);
}

static void place_json(struct sl_json *j, const char *key, const char *file, uint64_t offset)
{
    sl_json_key(j, key);
    sl_json_object(j);
    sl_json_kstr(j, "file", file);
    sl_json_kuint(j, "offset", offset);
    sl_json_object_end(j);
}

/* diff: how far apart. */
static void distance_json(struct sl_json *j, const struct sl_result *r)
{
    begin_json(j, r);
    const bool compared = r->status == SL_RESULT_EQUAL || r->status == SL_RESULT_DIFFERENT;
    const struct { const char *name; double value; } measures[] = {
        { "max_abs", r->max_abs }, { "mean_abs", r->mean_abs }, { "relative", r->relative }, { "cosine", r->cosine } };
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        sl_json_key(j, measures[i].name);
        if (compared)
            sl_json_double(j, measures[i].value);
        else
            sl_json_null(j);
    }
    sl_json_key(j, "first_different");
    if (r->first_different == UINT64_MAX) {
        sl_json_null(j);
    } else {
        sl_json_object(j);
        sl_json_kuint(j, "element", r->first_different);
        if (r->a_file)
            place_json(j, "a", r->a_file, r->a_offset);
        if (r->b_file)
            place_json(j, "b", r->b_file, r->b_offset);
        sl_json_object_end(j);
    }
    sl_json_object_end(j);
}

static void config_json(struct sl_json *j, const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    const size_t count = sl_config_differences(a, b, NULL, 0);
    struct sl_config_difference *rows = calloc(count + 1, sizeof *rows);
    sl_json_key(j, "config");
    sl_json_array(j);
    if (!rows)
        j->out->failed = true;
    const size_t filled = rows ? sl_config_differences(a, b, rows, count) : 0;
    for (size_t i = 0; i < filled && i < count; i++) {
        sl_json_object(j);
        sl_json_kstr(j, "key", rows[i].key);
        sl_json_key(j, "a");
        sl_json_value(j, rows[i].a);
        sl_json_key(j, "b");
        sl_json_value(j, rows[i].b);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
    free(rows);
}

/* Do rows that differ only stand in another order? Asked where weights differ: it reads them again. */
static void orders_json(struct sl_json *j, const struct sl_job *job)
{
    enum { MOST = 4 };
    struct sl_order_finding found[MOST];
    size_t count = 0;
    if (!sl_job_summary(job)->different || sl_orders(job->ck, job->other, found, MOST, &count, NULL))
        count = 0;
    sl_json_key(j, "orders");
    sl_json_array(j);
    for (size_t i = 0; i < count && i < MOST; i++) {
        sl_json_object(j);
        sl_json_kstr(j, "parts", found[i].parts);
        sl_json_kint(j, "layers", found[i].layers);
        sl_json_kstr(j, "rule", found[i].rule);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

void sl_pair_report(const struct sl_job *job, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, 2);
    sl_json_object(&j);
    summary_json(&j, sl_job_summary(job));
    sl_json_key(&j, "params");
    sl_json_array(&j);
    for (size_t i = 0; i < sl_result_count(job); i++)
        (job->measures ? distance_json : equality_json)(&j, sl_result_at(job, i));
    sl_json_array_end(&j);
    if (job->measures) {
        config_json(&j, job->ck, job->other);
        orders_json(&j, job);
    }
    sl_json_object_end(&j);
    sl_buf_char(out, '\n');
}
