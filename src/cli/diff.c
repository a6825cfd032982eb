/* diff.c: how far two checkpoints are apart, weight by weight. */
#include "cli/cli.h"
#include "base/json.h"
#include "base/value.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- configuration ------------------------------------------------------------ */

/* What says where a checkpoint came from, not what the model is. */
static bool is_place(const char *key)
{
    return !strcmp(key, "tokenizer_model") || !strcmp(key, "padded_vocab_size") || !strcmp(key, "transformer_impl");
}

typedef void give_setting(void *arg, const char *key, const struct sl_value *a, const struct sl_value *b);

static void config_differences(const struct sl_checkpoint *a, const struct sl_checkpoint *b, give_setting *give, void *arg)
{
    const struct sl_checkpoint_info *x = sl_info(a);
    for (size_t i = 0; i < x->config_count; i++) {
        const struct sl_setting *other = sl_config_get(b, x->config[i].key);
        if (other && !is_place(x->config[i].key) && !sl_value_equal(x->config[i].value, other->value))
            give(arg, x->config[i].key, x->config[i].value, other->value);
    }
}

static void setting_text(void *arg, const char *key, const struct sl_value *a, const struct sl_value *b)
{
    struct sl_buf *out = arg;
    sl_buf_printf(out, "~ config %s  ", key);
    sl_value_print(a, 60, out);
    sl_buf_str(out, "  against  ");
    sl_value_print(b, 60, out);
    sl_buf_char(out, '\n');
}

static void setting_json(void *arg, const char *key, const struct sl_value *a, const struct sl_value *b)
{
    struct sl_json *j = arg;
    sl_json_object(j);
    sl_json_kstr(j, "key", key);
    sl_json_key(j, "a");
    sl_json_value(j, a);
    sl_json_key(j, "b");
    sl_json_value(j, b);
    sl_json_object_end(j);
}

/* ---- weights --------------------------------------------------------------------- */

static int worst_first(const void *x, const void *y)
{
    const struct sl_result *a = *(const struct sl_result *const *)x, *b = *(const struct sl_result *const *)y;
    if (a->relative > b->relative || a->relative < b->relative)
        return a->relative > b->relative ? -1 : 1;
    return sl_text_natural(a->name, b->name);
}

static void result_text(struct sl_buf *b, const struct sl_result *r)
{
    if (r->status != SL_RESULT_DIFFERENT) {
        sl_buf_printf(b, "! %-36s %s\n", r->name, sl_result_status_name(r->status));
        return;
    }
    sl_buf_printf(b, "! %-36s %-10.4g %-10.4g %-10.4g %-9.6f %llu of %llu", r->name, r->max_abs, r->mean_abs, r->relative, r->cosine,
                  (unsigned long long)r->different, (unsigned long long)r->stats.count);
    if (r->a_file)
        sl_buf_printf(b, "  first at A %s+%llu, B %s+%llu", r->a_file, (unsigned long long)r->a_offset, r->b_file,
                      (unsigned long long)r->b_offset);
    sl_buf_char(b, '\n');
}

static void diff_text(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    const size_t count = sl_result_count(job);
    const struct sl_result **rows = calloc(count + 1, sizeof *rows);
    size_t kept = 0;
    for (size_t i = 0; rows && i < count; i++)
        if (sl_result_at(job, i)->status != SL_RESULT_EQUAL)
            rows[kept++] = sl_result_at(job, i);
    if (kept) {
        qsort(rows, kept, sizeof *rows, worst_first);
        sl_buf_printf(b, "  %-36s %-10s %-10s %-10s %-9s %s\n", "weight", "max |d|", "mean |d|", "relative", "cosine", "elements that differ");
    }
    for (size_t i = 0; i < kept; i++)
        result_text(b, rows[i]);
    free(rows);
    config_differences(x, y, setting_text, b);
    pair_summary_text(b, sl_job_summary(job));
}

static void place_json(struct sl_json *j, const char *key, const char *file, uint64_t offset)
{
    sl_json_key(j, key);
    sl_json_object(j);
    sl_json_kstr(j, "file", file);
    sl_json_kuint(j, "offset", offset);
    sl_json_object_end(j);
}

static void result_json(struct sl_json *j, const struct sl_result *r)
{
    sl_json_object(j);
    sl_json_kstr(j, "name", r->name);
    sl_json_kstr(j, "dtype", sl_dtype_label(r->dtype));
    shape_json(j, "shape", r->shape, r->ndim);
    sl_json_kstr(j, "status", sl_result_status_name(r->status));
    sl_json_kuint(j, "different", r->different);
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

static void diff_json(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    pair_summary_json(&j, sl_job_summary(job));
    sl_json_key(&j, "params");
    sl_json_array(&j);
    for (size_t i = 0; i < sl_result_count(job); i++)
        result_json(&j, sl_result_at(job, i));
    sl_json_array_end(&j);
    sl_json_key(&j, "config");
    sl_json_array(&j);
    config_differences(x, y, setting_json, &j);
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

int command_diff(const struct values *v)
{
    static const struct pair_kind kind = { "diff", sl_diff_start, diff_text, diff_json };
    return pair_command(v, &kind);
}
