/* misc.c: the small commands: the terminal UI, demo, manual, completions. */
#include "cli/cli.h"
#include "base/error.h"
#include "base/json.h"
#include "tui/tui.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int command_tui(const struct values *v)
{
    struct sl_open_options open;
    struct sl_error err = { 0 };
    open_options(v, &open);
    struct sl_tui_options o = { .path = v->arg_count ? v->args[0] : ".", .open = &open, .ascii = v->given[OPT_ASCII],
                                .mono = v->given[OPT_MONO], .theme = v->text[OPT_THEME], .plain = v->given[OPT_PLAIN], .slow_line = v->given[OPT_SLOW_LINE],
                                .script = v->text[OPT_SCRIPT], .size = v->text[OPT_SCREEN], .dump = v->text[OPT_DUMP] };
    if (!o.script && (o.size || o.dump)) {
        sl_fail(&err, SL_USAGE, "", "--%s: works with --script only", o.size ? "size" : "dump");
        return report_error(&err);
    }
    int code = sl_tui_run(&o, &err);
    return code && *err.message ? report_error(&err) : code;
}

/* Without a terminal: once, as text. */
static void place_text(struct sl_buf *out, const char *dst, const struct sl_place *p)
{
    static const char *const states[] = { "nothing is there", "a finished target, or something else of that name", "unfinished", "being written" };
    const struct sl_progress *g = &p->progress;
    char a[32], b[32];
    sl_buf_printable(out, dst, strlen(dst));
    sl_buf_printf(out, "\n  state     %s\n", states[p->state]);
    if (p->pid > 0)
        sl_buf_printf(out, "  process   %lld on %s\n", (long long)p->pid, p->host);
    if (p->tensors_written)
        sl_buf_printf(out, "  written   %llu tensors\n", (unsigned long long)p->tensors_written);
    if (!p->told)
        return;
    sl_buf_printf(out, "  source    %s\n  phase     %s%s, %s of %s over all phases\n  verified  %llu, %llu mismatch\n", p->source, sl_phase_name(g->phase),
                  g->paused ? ", paused" : "", sl_text_bytes(g->all_done, a, sizeof a), sl_text_bytes(g->all_total, b, sizeof b),
                  (unsigned long long)g->verified, (unsigned long long)g->mismatched);
    if (p->ended)
        sl_buf_printf(out, "  ended     %s\n", p->message);
}

static void place_json(struct sl_buf *out, const char *dst, const struct sl_place *p)
{
    static const char *const states[] = { "free", "exists", "unfinished", "writing" };
    const struct sl_progress *g = &p->progress;
    struct sl_json j;
    sl_json_begin(&j, out, 2);
    sl_json_object(&j);
    sl_json_kstr(&j, "target", dst);
    sl_json_kstr(&j, "state", states[p->state]);
    sl_json_kstr(&j, "plan", *p->plan ? p->plan : NULL);
    sl_json_kuint(&j, "tensors_written", p->tensors_written);
    sl_json_kstr(&j, "host", *p->host ? p->host : NULL);
    sl_json_kuint(&j, "pid", p->pid > 0 ? (uint64_t)p->pid : 0);
    sl_json_kbool(&j, "told", p->told);
    if (p->told) {
        sl_json_kstr(&j, "source", p->source);
        sl_json_kstr(&j, "phase", sl_phase_name(g->phase));
        sl_json_kbool(&j, "paused", g->paused);
        sl_json_kuint(&j, "bytes_done", g->all_done);
        sl_json_kuint(&j, "bytes_total", g->all_total);
        sl_json_kuint(&j, "verified", g->verified);
        sl_json_kuint(&j, "mismatched", g->mismatched);
        sl_json_kdouble(&j, "seconds", g->seconds);
        sl_json_kbool(&j, "ended", p->ended);
        sl_json_kstr(&j, "message", p->ended ? p->message : NULL);
    }
    sl_json_object_end(&j);
    sl_buf_char(out, '\n');
}

int command_attach(const struct values *v)
{
    static struct sl_place place;                /* some KB */
    struct sl_error err = { 0 };
    struct sl_buf out = { 0 };
    const char *dst = v->args[0];
    if (sl_place_look(dst, &place, &err))
        return report_error(&err);
    if (place.state != SL_PLACE_WRITING && place.state != SL_PLACE_UNFINISHED) {
        sl_fail(&err, place.exists ? SL_NO : SL_INPUT, dst, place.exists ? "no conversion writes there: what has this name is finished, or something else"
                : "no conversion writes there; give the target as convert got it");
        return report_error(&err);
    }
    if (v->given[OPT_JSON] || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        (v->given[OPT_JSON] ? place_json : place_text)(&out, dst, &place);
        return out_flush(&out);
    }
    struct sl_tui_options o = { .path = *place.source ? place.source : dst, .attach = dst, .ascii = v->given[OPT_ASCII] };
    const int code = sl_tui_run(&o, &err);
    return code && *err.message ? report_error(&err) : code;
}

int command_demo(const struct values *v)
{
    struct sl_demo_options o = { .family = v->text[OPT_FAMILY], .layout = v->text[OPT_LAYOUT],
                                 .tp = (int32_t)v->number[OPT_TP], .pp = (int32_t)v->number[OPT_PP],
                                 .ep = (int32_t)v->number[OPT_EP], .seed = (uint64_t)v->number[OPT_SEED],
                                 .bytes = v->size[OPT_SIZE] };
    struct sl_error err = { 0 };
    char *made = NULL;
    if (sl_demo_write(v->args[0], &o, &made, &err))
        return report_error(&err);
    struct sl_buf out = { 0 };
    sl_buf_printf(&out, "%s\n  look at it    shardlens %s\n  convert it    shardlens convert %s %s-hf --to hf\n", made, made, made, v->args[0]);
    free(made);
    return out_flush(&out);
}

int command_manual(const struct values *v)
{
    (void)v;
    struct sl_buf out = { 0 };
    help_manual(&out);
    return out_flush(&out);
}

int command_completions(const struct values *v)
{
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    if (help_completions(v->args[0], &out)) {
        sl_buf_free(&out);
        sl_fail(&err, SL_USAGE, v->args[0], "no completions for this shell; bash, zsh and fish are known");
        return report_error(&err);
    }
    return out_flush(&out);
}
