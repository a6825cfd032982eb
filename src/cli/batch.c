/* batch.c: several conversions from one file:
 *
 *     defaults:
 *       hf-config: /ref/minicpm
 *     jobs:
 *       - {source: /ckpts/iter_0001000, target: /out/1000}
 *       - {source: /ckpts/iter_0002000, target: /out/2000, dtype: fp16}
 *
 * A list of jobs alone will do; src and dst are other names of source and target. Names of options are
 * those of the command line; the file may be standard input ("-").
 */
#include "cli/cli.h"
#include "base/arena.h"
#include "base/json.h"
#include "base/value.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct outcome { const char *source, *target; int code; char message[512]; };

/* SRC and DST of the command line by their full or short names. */
static const char *argument(const struct sl_value *job, const char *name, const char *shorter)
{
    const struct sl_value *given = sl_value_get(job, name);
    return sl_value_str(given ? given : sl_value_get(job, shorter));
}

static int job_values(const struct values *batch, const struct sl_value *job, const struct sl_value *defaults, const char *file,
                      struct sl_arena *arena, struct values *v, struct sl_error *err)
{
    memset(v, 0, sizeof *v);
    v->command = "convert";
    v->args = calloc(2, sizeof *v->args);
    if (!v->args)
        return sl_fail_memory(err, 2 * sizeof *v->args);
    v->arg_count = 2;
    v->args[0] = argument(job, "source", "src");
    v->args[1] = argument(job, "target", "dst");
    if (!v->args[0] || !v->args[1])
        return sl_fail(err, SL_USAGE, file, "a job needs source and target");
    if (batch->given[OPT_PROGRESS]) {
        v->given[OPT_PROGRESS] = true;
        v->text[OPT_PROGRESS] = batch->text[OPT_PROGRESS];
    }
    int code = values_merge(v, job, file, arena, err);
    if (!code && defaults)
        code = values_merge(v, defaults, file, arena, err);
    return code;
}

static void outcomes_text(struct sl_buf *b, const struct outcome *o, size_t count)
{
    size_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        failed += o[i].code != 0;
        sl_buf_printf(b, "%s exit %-3d ", o[i].code ? "!" : "=", o[i].code);
        sl_buf_printable(b, o[i].source, strlen(o[i].source));
        sl_buf_str(b, " -> ");
        sl_buf_printable(b, o[i].target, strlen(o[i].target));
        if (o[i].code)
            sl_buf_printf(b, "  %s", o[i].message);
        sl_buf_char(b, '\n');
    }
    sl_buf_printf(b, "%zu conversions, %zu failed\n", count, failed);
}

static void outcomes_json(struct sl_buf *b, const struct outcome *o, size_t count)
{
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_key(&j, "jobs");
    sl_json_array(&j);
    for (size_t i = 0; i < count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "source", o[i].source);
        sl_json_kstr(&j, "target", o[i].target);
        sl_json_kint(&j, "exit", o[i].code);
        sl_json_kstr(&j, "message", o[i].code ? o[i].message : NULL);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

static int run_jobs(const struct values *v, const struct sl_value *jobs, const struct sl_value *defaults, struct sl_arena *arena,
                    struct outcome *done, size_t *count)
{
    int worst = 0;
    for (size_t i = 0; i < jobs->len && worst < SL_HANGUP; i++) {
        struct values job;
        struct sl_error err = { 0 };
        struct sl_buf out = { 0 };
        struct outcome *o = &done[(*count)++];
        o->code = job_values(v, jobs->items[i], defaults, v->args[0], arena, &job, &err);
        o->source = job.args && job.args[0] ? job.args[0] : "";
        o->target = job.args && job.args[1] ? job.args[1] : "";
        if (!o->code)
            o->code = convert_one(&job, &out, &err);
        if (o->code) {
            report_error(&err);
            snprintf(o->message, sizeof o->message, "%.200s%s%.300s", err.where, *err.where ? ": " : "", err.message);
        } else if (!v->given[OPT_JSON]) {
            out_flush(&out);
        }
        sl_buf_free(&out);
        values_free(&job);
        worst = o->code > worst ? o->code : worst;
    }
    return worst;
}

int command_batch(const struct values *v)
{
    struct sl_arena arena = { 0 };
    struct sl_error err = { 0 };
    struct sl_buf out = { 0 };
    const struct sl_value *file = NULL, *jobs = NULL;
    struct outcome *done = NULL;
    size_t count = 0;
    signal(SIGPIPE, SIG_IGN);                    /* the conversions go on when nobody listens */
    int code = options_load(v->args[0], &arena, &file, &err);
    if (!code) {
        jobs = file->kind == SL_VALUE_LIST ? file : sl_value_get(file, "jobs");
        if (!jobs || jobs->kind != SL_VALUE_LIST || !jobs->len)
            code = sl_fail(&err, SL_USAGE, v->args[0], "no jobs found; a list of source and target pairs was expected under jobs");
        else if (!(done = calloc(jobs->len, sizeof *done)))
            code = sl_fail_memory(&err, jobs->len * sizeof *done);
    }
    if (code) {
        report_error(&err);
    } else {
        code = run_jobs(v, jobs, file->kind == SL_VALUE_DICT ? sl_value_get(file, "defaults") : NULL, &arena, done, &count);
        if (v->given[OPT_JSON])
            outcomes_json(&out, done, count);
        else
            outcomes_text(&out, done, count);
        const int flushed = out_flush(&out);
        code = code > flushed ? code : flushed;
    }
    free(done);
    sl_arena_free(&arena);
    return code;
}
