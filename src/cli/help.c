/* help.c: --help, the man page and the completions, made from the tables. */
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

static void option_words(const struct option_row *o, char *out, size_t room)
{
    char letter[8] = "    ";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(out, room, "%s--%s%s%s", letter, o->name, o->kind == KIND_FLAG ? "" : " ",
             o->kind == KIND_FLAG ? "" : o->value);
}

static void option_line(const struct option_row *o, struct sl_buf *out)
{
    char words[128];
    option_words(o, words, sizeof words);
    if (strlen(words) > 30)
        sl_buf_printf(out, "  %s\n  %-30s  %s\n", words, "", o->help);
    else
        sl_buf_printf(out, "  %-30s  %s\n", words, o->help);
}

void help_program(struct sl_buf *out)
{
    sl_buf_str(out,
        "shardlens looks into checkpoints of large language models and converts them.\n"
        "\n"
        "  shardlens [PATH]               open the terminal UI on a checkpoint\n"
        "  shardlens COMMAND ...          run one command\n"
        "\n"
        "Commands\n");
    for (size_t i = 0; i < command_row_count; i++) {
        char words[64];
        snprintf(words, sizeof words, "%s %s", command_rows[i].name, command_rows[i].args);
        sl_buf_printf(out, "  %-22s  %s\n", words, command_rows[i].summary);
    }
    sl_buf_str(out, "\nOptions of the terminal UI\n");
    for (size_t i = 0; i < option_row_count; i++)
        if (option_rows[i].commands & IN_TUI)
            option_line(&option_rows[i], out);
    sl_buf_str(out,
        "\n"
        "shardlens COMMAND --help tells the options of a command. Sizes are decimal (5GB) or\n"
        "binary (64MiB). Exit status: 0 done, 1 the answer is no, 2 usage, 3 input unreadable,\n"
        "damaged or incomplete, 4 not supported, 5 writing failed, 6 out of memory, 130 interrupted.\n"
        "\n"
        "  shardlens demo sample && shardlens sample\n"
        "  shardlens convert /ckpts/minicpm /out/minicpm-hf --to hf --hf-config /ref/minicpm\n");
}

void help_command(const struct command_row *c, struct sl_buf *out)
{
    sl_buf_printf(out, "shardlens %s %s\n  %s\n", c->name, c->args, c->summary);
    if (*c->more)
        sl_buf_printf(out, "  %s\n", c->more);
    sl_buf_str(out, "\nOptions\n");
    for (size_t i = 0; i < option_row_count; i++)
        if (option_rows[i].commands & c->bit)
            option_line(&option_rows[i], out);
}

/* ---- the man page ---------------------------------------------------------- */

/* Text for roff: dashes and backslashes escaped, a leading dot or quote protected, long lines
 * broken between words. */
static void roff(struct sl_buf *out, const char *s)
{
    enum { LINE = 68 };
    size_t column = 0;
    for (; *s; s++, column++) {
        const char *word = strchr(s + 1, ' ');
        if (*s == ' ' && column + (word ? (size_t)(word - s) : strlen(s)) > LINE) {
            sl_buf_char(out, '\n');
            column = 0;
            continue;
        }
        if (!column && (*s == '.' || *s == '\''))
            sl_buf_str(out, "\\&");
        if (*s == '-')
            sl_buf_str(out, "\\-");
        else if (*s == '\\')
            sl_buf_str(out, "\\e");
        else
            sl_buf_char(out, *s);
    }
}

static void manual_options(struct sl_buf *out, unsigned commands, unsigned without)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *o = &option_rows[i];
        if (!(o->commands & commands) || (o->commands & without))
            continue;
        sl_buf_str(out, ".TP\n\\fB");
        if (o->letter) {
            char letter[16];
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
            roff(out, letter);
        }
        sl_buf_str(out, "\\-\\-");
        roff(out, o->name);
        sl_buf_str(out, "\\fR");
        if (o->kind != KIND_FLAG) {
            sl_buf_str(out, " \\fI");
            roff(out, o->value);
            sl_buf_str(out, "\\fR");
        }
        sl_buf_char(out, '\n');
        roff(out, o->help);
        sl_buf_str(out, ".\n");
    }
}

void help_manual(struct sl_buf *out)
{
    sl_buf_printf(out, ".TH SHARDLENS 1 2026-11-24 \"shardlens %s\" \"User Commands\"\n", sl_version());
    sl_buf_str(out,
        ".SH NAME\nshardlens \\- look into checkpoints of large language models and convert them\n"
        ".SH SYNOPSIS\n.B shardlens\n[\\fIPATH\\fR]\n");
    for (size_t i = 0; i < command_row_count; i++) {
        sl_buf_printf(out, ".br\n.B shardlens %s\n\\fI", command_rows[i].name);
        roff(out, command_rows[i].args);
        sl_buf_str(out, "\\fR\n");
    }
    sl_buf_str(out,
        ".SH DESCRIPTION\n"
        "Opens checkpoints as Megatron\\-LM and Hugging Face transformers write\n"
        "them, shows what they hold and how it is cut over ranks and files, finds\n"
        "what is wrong with a set of shards, and converts them. It needs no Python\n"
        "and no GPU, reads only headers until data is needed, and never executes\n"
        "what a pickle says.\n"
        ".PP\nWithout a command it opens the terminal UI on \\fIPATH\\fR.\n"
        ".SH COMMANDS\n");
    for (size_t i = 0; i < command_row_count; i++) {
        const struct command_row *c = &command_rows[i];
        sl_buf_printf(out, ".TP\n\\fB%s\\fR \\fI", c->name);
        roff(out, c->args);
        sl_buf_str(out, "\\fR\n");
        roff(out, c->summary);
        sl_buf_str(out, ".\n");
        if (*c->more) {
            roff(out, c->more);
            sl_buf_char(out, '\n');
        }
    }
    sl_buf_str(out, ".SH OPTIONS\n");
    manual_options(out, IN_ALL, 0);
    sl_buf_str(out,
        ".SH EXIT STATUS\n"
        ".TP\n0\ndone, nothing wrong\n"
        ".TP\n1\nthe answer is no: check found errors, verify found differences\n"
        ".TP\n2\nusage\n.TP\n3\nthe input is unreadable, damaged or incomplete\n"
        ".TP\n4\nunderstood, but not supported\n"
        ".TP\n5\nwriting failed: no space, no permission, target exists\n"
        ".TP\n6\nout of the memory budget\n"
        ".TP\n129, 130, 143\nstopped by a hangup, an interrupt or SIGTERM;\nstate is kept for \\fB\\-\\-resume\\fR\n"
        ".SH FILES\n.TP\n\\fIDST\\fB/shardlens\\-report.json\\fR\nthe validation report of a conversion, tensor by tensor\n"
        ".TP\n\\fB$XDG_CONFIG_HOME/shardlens/families/*.json\\fR\nmodel families added by the user\n"
        ".SH ENVIRONMENT\n.TP\n\\fBNO_COLOR\\fR\nno colours in the terminal UI\n"
        ".SH EXAMPLES\n.nf\n"
        "shardlens demo sample\n"
        "shardlens inspect sample\n"
        "shardlens convert sample sample\\-hf \\-\\-to hf\n"
        "shardlens verify sample sample\\-hf\n.fi\n");
}

/* ---- completions ------------------------------------------------------------ */

static void bash_completions(struct sl_buf *out)
{
    sl_buf_str(out, "_shardlens() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                    "    case $prev in\n");
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *o = &option_rows[i];
        if (o->kind != KIND_CHOICE)
            continue;
        sl_buf_printf(out, "    --%s) COMPREPLY=($(compgen -W '", o->name);
        for (const char *p = o->value; *p; p++)
            sl_buf_char(out, *p == '|' ? ' ' : *p);
        sl_buf_str(out, "' -- \"$cur\")); return ;;\n");
    }
    sl_buf_str(out, "    esac\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < command_row_count; i++) {
        sl_buf_printf(out, "    %s) words='", command_rows[i].name);
        for (size_t k = 0; k < option_row_count; k++)
            if (option_rows[k].commands & command_rows[i].bit)
                sl_buf_printf(out, "--%s ", option_rows[k].name);
        sl_buf_str(out, "' ;;\n");
    }
    sl_buf_str(out, "    *) words='");
    for (size_t i = 0; i < command_row_count; i++)
        sl_buf_printf(out, "%s ", command_rows[i].name);
    sl_buf_str(out, "--help --version' ;;\n    esac\n"
                    "    if [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); fi\n"
                    "    COMPREPLY+=($(compgen -f -- \"$cur\"))\n}\n"
                    "complete -o filenames -F _shardlens shardlens\n");
}

static void zsh_quoted(struct sl_buf *out, const char *s)
{
    for (; *s; s++) {
        if (strchr("[]:'\\", *s))
            sl_buf_char(out, *s == '\'' ? ' ' : '\\');
        if (*s != '\'')
            sl_buf_char(out, *s);
    }
}

static void zsh_completions(struct sl_buf *out)
{
    sl_buf_str(out, "#compdef shardlens\nlocal -a commands\ncommands=(\n");
    for (size_t i = 0; i < command_row_count; i++) {
        sl_buf_printf(out, "  '%s:", command_rows[i].name);
        zsh_quoted(out, command_rows[i].summary);
        sl_buf_str(out, "'\n");
    }
    sl_buf_str(out, ")\nif (( CURRENT == 2 )); then _describe command commands; _files; return; fi\ncase $words[2] in\n");
    for (size_t i = 0; i < command_row_count; i++) {
        sl_buf_printf(out, "  %s) _arguments", command_rows[i].name);
        for (size_t k = 0; k < option_row_count; k++) {
            const struct option_row *o = &option_rows[k];
            if (!(o->commands & command_rows[i].bit))
                continue;
            sl_buf_printf(out, " '--%s[", o->name);
            zsh_quoted(out, o->help);
            sl_buf_char(out, ']');
            if (o->kind == KIND_CHOICE) {
                sl_buf_str(out, ":value:(");
                for (const char *p = o->value; *p; p++)
                    sl_buf_char(out, *p == '|' ? ' ' : *p);
                sl_buf_char(out, ')');
            } else if (o->kind != KIND_FLAG) {
                sl_buf_str(out, ":value:_files");
            }
            sl_buf_char(out, '\'');
        }
        sl_buf_str(out, " '*:file:_files' ;;\n");
    }
    sl_buf_str(out, "  *) _files ;;\nesac\n");
}

static void fish_completions(struct sl_buf *out)
{
    for (size_t i = 0; i < command_row_count; i++)
        sl_buf_printf(out, "complete -c shardlens -n __fish_use_subcommand -a %s -d '%s'\n", command_rows[i].name,
                      command_rows[i].summary);
    for (size_t i = 0; i < command_row_count; i++)
        for (size_t k = 0; k < option_row_count; k++) {
            const struct option_row *o = &option_rows[k];
            if (!(o->commands & command_rows[i].bit))
                continue;
            sl_buf_printf(out, "complete -c shardlens -n '__fish_seen_subcommand_from %s' -l %s", command_rows[i].name, o->name);
            if (o->letter)
                sl_buf_printf(out, " -s %c", o->letter);
            if (o->kind != KIND_FLAG)
                sl_buf_str(out, " -r");
            if (o->kind == KIND_CHOICE) {
                sl_buf_str(out, " -f -a '");
                for (const char *p = o->value; *p; p++)
                    sl_buf_char(out, *p == '|' ? ' ' : *p);
                sl_buf_char(out, '\'');
            }
            sl_buf_str(out, " -d '");
            for (const char *p = o->help; *p; p++)
                if (*p != '\'')
                    sl_buf_char(out, *p);
            sl_buf_str(out, "'\n");
        }
}

int help_completions(const char *shell, struct sl_buf *out)
{
    if (strcmp(shell, "bash") == 0)
        bash_completions(out);
    else if (strcmp(shell, "zsh") == 0)
        zsh_completions(out);
    else if (strcmp(shell, "fish") == 0)
        fish_completions(out);
    else
        return SL_USAGE;
    return SL_OK;
}
