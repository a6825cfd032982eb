/* check.c: is the set of shards whole, and does it agree with itself. */
#include "cli/cli.h"
#include "base/json.h"
#include <string.h>

/* Ranks whose files do not say who wrote them may have been exchanged without a trace. */
static void ranks_text(struct sl_buf *b, const struct sl_check_result *r)
{
    const uint64_t untold = r->ranks_total - r->ranks_placed - r->ranks_misplaced;
    if (r->ranks_total < 2)
        return;
    if (untold < r->ranks_total)
        sl_buf_printf(b, "ranks     %llu of %llu lie where args.rank of their file says%s", (unsigned long long)r->ranks_placed,
                      (unsigned long long)r->ranks_total, untold ? "; " : "\n");
    else
        sl_buf_str(b, "ranks     ");
    if (untold)
        sl_buf_printf(b, "of %llu only the folder's name tells which rank it is: args.rank does not\n", (unsigned long long)untold);
}

static void check_text(struct sl_buf *b, const struct sl_check_result *r)
{
    char read[32], total[32];
    sl_buf_printf(b, "%s\n", r->verdict);
    sl_buf_printf(b, "checked   files %llu of %llu, tensors %llu of %llu, data %s of %s\n", (unsigned long long)r->files_checked,
                  (unsigned long long)r->files_total, (unsigned long long)r->tensors_checked, (unsigned long long)r->tensors_total,
                  sl_text_bytes(r->bytes_read, read, sizeof read), sl_text_bytes(r->bytes_total, total, sizeof total));
    ranks_text(b, r);
    if (r->replicas_compared)
        sl_buf_printf(b, "replicas  %llu compared, %llu different\n", (unsigned long long)r->replicas_compared,
                      (unsigned long long)r->replicas_different);
    problems_text(b, r->problems, r->problem_count);
}

static const char *confidence_text(const struct sl_layout_finding *f)
{
    return f->told ? sl_confidence_name(f->confidence) : "not told";
}

static void layout_text(struct sl_buf *b, const struct sl_layout_report *report)
{
    for (size_t i = 0; i < sl_layout_finding_count(report); i++) {
        const struct sl_layout_finding *f = sl_layout_finding(report, i);
        sl_buf_printf(b, "%s %-8s  %-8s  %s\n", !f->told ? " " : f->as_read ? "=" : "!", f->question, confidence_text(f), f->answer);
        if (f->layers)
            sl_buf_printf(b, "                      %d of %d layers say so; %s\n", (int)f->agree, (int)f->layers, f->measure);
    }
    if (report)
        sl_buf_str(b, "  from statistics of the weights: an indication, not a proof\n");
}

static void layout_json(struct sl_json *j, const struct sl_layout_report *report)
{
    sl_json_key(j, "layout");
    sl_json_array(j);
    for (size_t i = 0; i < sl_layout_finding_count(report); i++) {
        const struct sl_layout_finding *f = sl_layout_finding(report, i);
        sl_json_object(j);
        sl_json_kstr(j, "question", f->question);
        sl_json_kbool(j, "told", f->told);
        sl_json_kstr(j, "answer", f->answer);
        sl_json_kbool(j, "as_read", f->as_read);
        sl_json_kstr(j, "confidence", f->told ? sl_confidence_name(f->confidence) : NULL);
        sl_json_kint(j, "layers", f->layers);
        sl_json_kint(j, "agree", f->agree);
        sl_json_kstr(j, "measure", f->measure);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void check_json(struct sl_buf *b, const struct sl_check_result *r, const struct sl_layout_report *report)
{
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_kstr(&j, "verdict", r->verdict);
    problems_json(&j, r->problems, r->problem_count);
    sl_json_key(&j, "checked");
    sl_json_object(&j);
    sl_json_kuint(&j, "files", r->files_checked);
    sl_json_kuint(&j, "files_total", r->files_total);
    sl_json_kuint(&j, "tensors", r->tensors_checked);
    sl_json_kuint(&j, "tensors_total", r->tensors_total);
    sl_json_kuint(&j, "bytes", r->bytes_read);
    sl_json_kuint(&j, "bytes_total", r->bytes_total);
    sl_json_kuint(&j, "ranks", r->ranks_placed);
    sl_json_kuint(&j, "ranks_total", r->ranks_total);
    sl_json_kuint(&j, "replicas", r->replicas_compared);
    sl_json_kuint(&j, "replicas_different", r->replicas_different);
    sl_json_object_end(&j);
    if (report)
        layout_json(&j, report);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

/* 1 where an error was found; 3 where a file changed meanwhile, so that nothing found can be relied on. */
static int check_answer(const struct sl_check_result *r)
{
    int code = SL_OK;
    for (size_t i = 0; i < r->problem_count; i++) {
        const struct sl_problem *p = &r->problems[i];
        if (!strcmp(p->code, "source-changed")) {
            struct sl_error err = { 0 };
            sl_fail(&err, SL_INPUT, p->where, "%s; wait until nothing writes to it, then check again", p->message);
            return report_error(&err);
        }
        code = p->severity == SL_ERROR ? SL_NO : code;
    }
    return code;
}

int command_check(const struct values *v)
{
    struct sl_checkpoint *ck;
    struct sl_job *job = NULL;
    struct sl_layout_report *report = NULL;
    struct sl_run_options o;
    struct sl_error err = { 0 };
    int code = open_checkpoint(v, v->args[0], &ck);
    if (code)
        return code;
    signals_watch();
    run_options(v, &o);
    code = sl_check_start(ck, v->given[OPT_DEEP], &o, &job, &err);
    if (!code)
        code = job_follow(v, job, "check", &err);
    if (!code && v->given[OPT_LOOK])
        code = sl_layout_look(ck, NULL, &report, &err);
    signals_forget();
    if (code) {
        code = report_error(&err);
    } else {
        const struct sl_check_result *r = sl_check_result(job);
        struct sl_buf out = { 0 };
        if (v->given[OPT_JSON])
            check_json(&out, r, report);
        else
            check_text(&out, r);
        if (!v->given[OPT_JSON])
            layout_text(&out, report);
        code = out_flush(&out);
        if (!code)
            code = check_answer(r);
    }
    sl_layout_report_free(report);
    sl_job_free(job);
    sl_close(ck);
    return code;
}
