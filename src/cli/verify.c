/* verify.c: do two checkpoints hold the same weights, bit for bit. */
#include "cli/cli.h"
#include <stdlib.h>

bool pair_is_equal(const struct sl_summary *s)
{
    return !s->different && !s->only_a && !s->only_b;
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
        sl_buf_str(b, "! ");
        name_text(b, r->name);
        sl_buf_printf(b, "  %s", sl_result_status_name(r->status));
        if (r->status == SL_RESULT_DIFFERENT && r->b_dtype != r->dtype)
            sl_buf_printf(b, "  %s in A, %s in B: no bits to compare; shardlens diff compares the values", sl_dtype_label(r->dtype),
                          sl_dtype_label(r->b_dtype));
        else if (r->status == SL_RESULT_DIFFERENT)
            sl_buf_printf(b, "  %llu elements, the first at %llu", (unsigned long long)r->different, (unsigned long long)r->first_different);
        sl_buf_char(b, '\n');
    }
    pair_summary_text(b, sl_job_summary(job));
}

static int pair_answer(const struct values *v, const struct pair_kind *kind, const struct sl_job *job,
                       const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    struct sl_buf out = { 0 };
    char *json = v->given[OPT_JSON] ? sl_job_report_json(job) : NULL;
    if (json)
        sl_buf_str(&out, json);
    else if (v->given[OPT_JSON])
        out.failed = true;
    else
        kind->text(&out, job, a, b);
    free(json);
    const int code = out_flush(&out);
    return code ? code : pair_is_equal(sl_job_summary(job)) ? SL_OK : SL_NO;
}

static int learn(const struct values *v, struct sl_checkpoint **ck, const struct sl_checkpoint *other)
{
    struct sl_open_options o;
    struct sl_error err = { 0 };
    open_options(v, &o);
    return sl_learn(ck, &o, other, &err) ? report_error(&err) : SL_OK;
}

static int open_pair(const struct values *v, struct sl_checkpoint **a, struct sl_checkpoint **b)
{
    int code = open_checkpoint(v, v->args[0], a);
    if (!code)
        code = open_checkpoint(v, v->args[1], b);
    if (!code)
        code = learn(v, a, *b);
    return code ? code : learn(v, b, *a);
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
    static const struct pair_kind kind = { "verify", sl_verify_start, verify_text };
    return pair_command(v, &kind);
}
