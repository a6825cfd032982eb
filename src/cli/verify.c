/* verify.c: do two checkpoints hold the same weights, bit for bit. */
#include "cli/cli.h"
#include "base/json.h"
#include "base/value.h"
#include <stdlib.h>

bool pair_is_equal(const struct sl_summary *s)
{
    return !s->different && !s->only_a && !s->only_b;
}

void pair_summary_json(struct sl_json *j, const struct sl_summary *s)
{
    sl_json_kbool(j, "equal", pair_is_equal(s));
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

void pair_summary_text(struct sl_buf *b, const struct sl_summary *s)
{
    char bytes[32];
    sl_buf_printf(b, "%s %llu equal, %llu different, %llu only in A, %llu only in B; %s compared\n", pair_is_equal(s) ? "=" : "!",
                  (unsigned long long)s->equal, (unsigned long long)s->different, (unsigned long long)s->only_a,
                  (unsigned long long)s->only_b, sl_text_bytes(s->bytes, bytes, sizeof bytes));
}

static void verify_text(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    (void)x;
    (void)y;
    for (size_t i = 0; i < sl_result_count(job); i++) {
        const struct sl_result *r = sl_result_at(job, i);
        if (r->status == SL_RESULT_EQUAL)
            continue;
        sl_buf_printf(b, "! %s  %s", r->name, sl_result_status_name(r->status));
        if (r->status == SL_RESULT_DIFFERENT)
            sl_buf_printf(b, "  %llu elements, the first at %llu", (unsigned long long)r->different, (unsigned long long)r->first_different);
        sl_buf_char(b, '\n');
    }
    pair_summary_text(b, sl_job_summary(job));
}

static void verify_json(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    (void)x;
    (void)y;
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    pair_summary_json(&j, sl_job_summary(job));
    sl_json_key(&j, "params");
    sl_json_array(&j);
    for (size_t i = 0; i < sl_result_count(job); i++) {
        const struct sl_result *r = sl_result_at(job, i);
        sl_json_object(&j);
        sl_json_kstr(&j, "name", r->name);
        sl_json_kstr(&j, "dtype", sl_dtype_label(r->dtype));
        shape_json(&j, "shape", r->shape, r->ndim);
        sl_json_kstr(&j, "status", sl_result_status_name(r->status));
        sl_json_kuint(&j, "different", r->different);
        sl_json_key(&j, "first_different");
        if (r->first_different == UINT64_MAX)
            sl_json_null(&j);
        else
            sl_json_uint(&j, r->first_different);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

static int pair_answer(const struct values *v, const struct pair_kind *kind, const struct sl_job *job,
                       const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    struct sl_buf out = { 0 };
    (v->given[OPT_JSON] ? kind->json : kind->text)(&out, job, a, b);
    const int code = out_flush(&out);
    return code ? code : pair_is_equal(sl_job_summary(job)) ? SL_OK : SL_NO;
}

/* What one of the two does not tell and the other one does: a single file of weights says neither
 * its head size nor which rows are vocabulary. */
static const char *const learned[] = { "kv_channels", "vocab_size" };
#define LEARNED (sizeof learned / sizeof *learned)

/* Opens `path` again with what `other` knows; what contradicts its tensors is not taken. */
static int learn(const struct values *v, const char *path, struct sl_checkpoint **ck, const struct sl_checkpoint *other)
{
    struct sl_open_options o;
    struct sl_buf text[LEARNED] = { { 0 } };
    struct sl_checkpoint *again = NULL;
    open_options(v, &o);
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
    if (!failed && count > o.set_count) {
        o.set_count = count;
        if (!sl_open(path, &o, &again, NULL)) {
            sl_close(*ck);
            *ck = again;
        }
    }
    for (size_t i = 0; i < LEARNED; i++)
        sl_buf_free(&text[i]);
    free(set);
    return failed ? report_error(&(struct sl_error){ .code = SL_MEMORY, .message = "out of memory" }) : SL_OK;
}

static int open_pair(const struct values *v, struct sl_checkpoint **a, struct sl_checkpoint **b)
{
    int code = open_checkpoint(v, v->args[0], a);
    if (!code)
        code = open_checkpoint(v, v->args[1], b);
    if (!code)
        code = learn(v, v->args[0], a, *b);
    return code ? code : learn(v, v->args[1], b, *a);
}

int pair_command(const struct values *v, const struct pair_kind *kind)
{
    struct sl_checkpoint *a = NULL, *b = NULL;
    struct sl_job *job = NULL;
    struct sl_error err = { 0 };
    struct sl_run_options o;
    run_options(v, &o);
    int code = open_pair(v, &a, &b);
    if (!code) {
        signals_watch();
        code = kind->start(a, b, &o, &job, &err);
        if (!code)
            code = job_follow(v, job, kind->name, &err);
        signals_forget();
        code = code ? report_error(&err) : pair_answer(v, kind, job, a, b);
    }
    sl_job_free(job);
    sl_close(b);
    sl_close(a);
    return code;
}

int command_verify(const struct values *v)
{
    static const struct pair_kind kind = { "verify", sl_verify_start, verify_text, verify_json };
    return pair_command(v, &kind);
}
