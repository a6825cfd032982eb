/* misc.c: the small commands: the terminal UI, demo, manual, completions. */
#include "cli/cli.h"
#include "tui/tui.h"
#include <stdlib.h>

int command_tui(const struct values *v)
{
    struct sl_open_options open;
    struct sl_error err = { 0 };
    open_options(v, &open);
    struct sl_tui_options o = { .path = v->arg_count ? v->args[0] : ".", .open = &open, .ascii = v->given[OPT_ASCII] };
    int code = sl_tui_run(&o, &err);
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
