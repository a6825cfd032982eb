/* verify.c: do two checkpoints hold the same weights, bit for bit. */
#include "cli/cli.h"
#include "base/json.h"

static bool is_equal(const struct sl_summary *s)
{
    return !s->different && !s->only_a && !s->only_b;
}

static void verify_text(struct sl_buf *b, const struct sl_job *job)
{
    const struct sl_summary *s = sl_job_summary(job);
    char bytes[32];
    for (size_t i = 0; i < sl_result_count(job); i++) {
        const struct sl_result *r = sl_result_at(job, i);
        if (r->status == SL_RESULT_EQUAL)
            continue;
        sl_buf_printf(b, "! %s  %s", r->name, sl_result_status_name(r->status));
        if (r->status == SL_RESULT_DIFFERENT)
            sl_buf_printf(b, "  %llu elements, the first at %llu", (unsigned long long)r->different, (unsigned long long)r->first_different);
        sl_buf_char(b, '\n');
    }
    sl_buf_printf(b, "%s %llu equal, %llu different, %llu only in A, %llu only in B; %s compared\n", is_equal(s) ? "=" : "!",
                  (unsigned long long)s->equal, (unsigned long long)s->different, (unsigned long long)s->only_a,
                  (unsigned long long)s->only_b, sl_text_bytes(s->bytes, bytes, sizeof bytes));
}

static void verify_json(struct sl_buf *b, const struct sl_job *job)
{
    const struct sl_summary *s = sl_job_summary(job);
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_kbool(&j, "equal", is_equal(s));
    sl_json_key(&j, "summary");
    sl_json_object(&j);
    sl_json_kuint(&j, "equal", s->equal);
    sl_json_kuint(&j, "different", s->different);
    sl_json_kuint(&j, "only_a", s->only_a);
    sl_json_kuint(&j, "only_b", s->only_b);
    sl_json_kuint(&j, "bytes", s->bytes);
    sl_json_kdouble(&j, "seconds", s->seconds);
    sl_json_object_end(&j);
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

int command_verify(const struct values *v)
{
    struct sl_checkpoint *a = NULL, *b = NULL;
    struct sl_job *job = NULL;
    struct sl_error err = { 0 };
    struct sl_run_options o;
    run_options(v, &o);
    int code = open_checkpoint(v, v->args[0], &a);
    if (!code)
        code = open_checkpoint(v, v->args[1], &b);
    if (!code) {
        code = sl_verify_start(a, b, &o, &job, &err);
        if (!code)
            code = job_follow(v, job, "verify", &err);
        if (code && code != SL_NO)
            report_error(&err);
    }
    if (job && (code == SL_OK || code == SL_NO)) {
        struct sl_buf out = { 0 };
        if (v->given[OPT_JSON])
            verify_json(&out, job);
        else
            verify_text(&out, job);
        bool equal = is_equal(sl_job_summary(job));
        code = out_flush(&out);
        if (!code && !equal)
            code = SL_NO;
    }
    sl_job_free(job);
    sl_close(b);
    sl_close(a);
    return code;
}
