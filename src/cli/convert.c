/* convert.c: plans, proves, writes, verifies, reports. */
#include "cli/cli.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "warning: WHERE: what"; without WHERE when the sentence begins with it. */
static void note_to_stderr(const struct sl_problem *p)
{
    const bool named = strncmp(p->message, p->where, strlen(p->where)) == 0;    /* or there is no place */
    fprintf(stderr, "shardlens: %s: %s%s%s\n", sl_severity_name(p->severity), named ? "" : p->where, named ? "" : ": ", p->message);
}

/* What was remarked on the source when it was opened and does not stop the conversion, and on the plan. */
void convert_notes(const struct sl_checkpoint *ck, const struct sl_plan_info *plan)
{
    const struct sl_checkpoint_info *source = sl_info(ck);
    for (size_t i = 0; i < source->problem_count; i++)
        if (source->problems[i].severity >= SL_WARNING)
            note_to_stderr(&source->problems[i]);
    for (size_t i = 0; i < plan->note_count; i++)
        note_to_stderr(&plan->notes[i]);
}

static void written_text(struct sl_buf *b, const struct sl_plan_info *info, const struct sl_run_options *o, const struct sl_summary *s)
{
    char bytes[32], rate[32];
    sl_buf_printf(b, "  written   %llu tensors, %s", (unsigned long long)s->tensors, sl_text_bytes(s->bytes, bytes, sizeof bytes));
    if (!o->parts)
        sl_buf_printf(b, " in %zu file%s", info->file_count, info->file_count == 1 ? "" : "s");
    sl_buf_printf(b, ", %.2f s, %s/s\n", s->seconds, sl_text_bytes((uint64_t)s->bytes_per_second, rate, sizeof rate));
}

static void summary_text(struct sl_buf *b, const struct sl_plan_info *info, const struct sl_run_options *o, const struct sl_summary *s)
{
    char peak[32];
    sl_buf_printable(b, info->target, strlen(info->target));
    if (o->parts)
        sl_buf_printf(b, "  part %u of %u; when all are done: --finish", o->part, o->parts);
    sl_buf_char(b, '\n');
    written_text(b, info, o, s);
    sl_buf_printf(b, "  verified  %s\n", s->verify);
    sl_buf_printf(b, "  memory    %s at most\n", sl_text_bytes(s->peak_memory_bytes, peak, sizeof peak));
    if (info->left_out_count)
        sl_buf_printf(b, "  left out  %zu, listed by shardlens plan and in the report\n", info->left_out_count);
    if (s->report) {
        sl_buf_str(b, "  report    ");
        sl_buf_printable(b, s->report, strlen(s->report));
        sl_buf_char(b, '\n');
    }
}

int convert_run(const struct values *v, struct sl_plan *plan, const struct sl_run_options *o, struct sl_buf *out, struct sl_error *err)
{
    struct sl_job *job = NULL;
    int code = sl_convert_start(plan, o, &job, err);
    if (!code)
        code = job_follow(v, job, "convert", err);
    if (!code) {
        const bool json = v->given[OPT_JSON] || (o->report && !strcmp(o->report, "-"));
        char *report = json ? sl_job_report_json(job) : NULL;
        if (report)
            sl_buf_printf(out, "%s\n", report);
        else
            summary_text(out, sl_plan_info(plan), o, sl_job_summary(job));
        free(report);
    }
    sl_job_free(job);
    return code;
}

int convert_open(const struct values *v, struct sl_checkpoint **ck, struct sl_plan **plan, struct sl_error *err)
{
    struct sl_plan_options o;
    struct sl_open_options open;
    open_options(v, &open);
    int code = sl_open(v->args[0], &open, ck, err);
    if (!code)
        code = plan_options(v, *ck, v->args[1], &o, err);
    return code ? code : sl_plan_make(*ck, v->args[1], &o, plan, err);
}

int convert_one(const struct values *v, struct sl_buf *out, struct sl_error *err)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_run_options o;
    int code = convert_open(v, &ck, &plan, err);
    run_options(v, &o);
    if (!code) {
        signals_watch();
        code = part_parse(v, &o, err);
        if (!code)
            code = convert_run(v, plan, &o, out, err);
        signals_forget();
    }
    if (!code)                                   /* a failure is one line, alone */
        convert_notes(ck, sl_plan_info(plan));
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

int command_convert(const struct values *v)
{
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    signal(SIGPIPE, SIG_IGN);                    /* once the target is there, nobody listening is no failure */
    const int code = convert_one(v, &out, &err);
    if (code) {
        sl_buf_free(&out);
        report_error(&err);
        return code;
    }
    return out_flush(&out);
}
