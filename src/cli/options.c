/* options.c: argv into struct values, by the two tables. */
#include "cli/cli.h"
#include "base/arena.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/value.h"
#include "base/yaml.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A name may mean one thing to one command and another to others; an option of no command at hand is
 * found too, to be refused by its name. */
static const struct option_row *option_by_name(const char *name, size_t len, unsigned commands)
{
    const struct option_row *other = NULL;
    for (size_t i = 0; i < option_row_count; i++) {
        if (strlen(option_rows[i].name) != len || memcmp(option_rows[i].name, name, len) != 0)
            continue;
        if (option_rows[i].commands & commands)
            return &option_rows[i];
        other = &option_rows[i];
    }
    return other;
}

static const struct option_row *option_by_letter(char letter)
{
    for (size_t i = 0; i < option_row_count; i++)
        if (option_rows[i].letter == letter)
            return &option_rows[i];
    return NULL;
}

static int unknown_option(const char *name, size_t len, unsigned commands, struct sl_error *err)
{
    char given[64];
    snprintf(given, sizeof given, "%.*s", (int)(len < 60 ? len : 60), name);
    const char *best = NULL;
    unsigned best_distance = 4;
    for (size_t i = 0; i < option_row_count; i++) {
        unsigned d = sl_text_distance(given, option_rows[i].name);
        if ((option_rows[i].commands & commands) && d < best_distance)
            best = option_rows[i].name, best_distance = d;
    }
    if (best)
        return sl_fail(err, SL_USAGE, "", "--%s: no such option; did you mean --%s?", given, best);
    return sl_fail(err, SL_USAGE, "", "--%s: no such option; see shardlens --help", given);
}

static bool choice_has(const char *choices, const char *value)
{
    size_t len = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0') && len)
            return true;
    return false;
}

static int keep_list(struct values *v, enum option_id id, const char *text, struct sl_error *err)
{
    size_t n = v->list_count[id];
    const char **grown = realloc(v->list[id], (n + 1) * sizeof *grown);
    if (!grown)
        return sl_fail_memory(err, (n + 1) * sizeof *grown);
    grown[n] = text;
    v->list[id] = grown;
    v->list_count[id] = n + 1;
    return SL_OK;
}

static int keep_value(struct values *v, const struct option_row *o, const char *text, struct sl_error *err)
{
    if (v->given[o->id] && o->kind != KIND_LIST)
        return sl_fail(err, SL_USAGE, "", "--%s: given twice; give it once", o->name);
    v->given[o->id] = true;
    v->text[o->id] = text;
    switch (o->kind) {
    case KIND_FLAG:
        break;
    case KIND_TEXT:
        if (!*text)
            return sl_fail(err, SL_USAGE, "", "--%s: empty; a value is needed (%s)", o->name, o->value);
        break;
    case KIND_NUMBER:
        if (!sl_text_parse_i64(text, &v->number[o->id]) || v->number[o->id] < o->lowest ||
            v->number[o->id] > o->highest)
            return sl_fail(err, SL_USAGE, "", "--%s %s: not a number from %lld to %lld", o->name, text,
                           (long long)o->lowest, (long long)o->highest);
        break;
    case KIND_SIZE:
        if (!sl_text_parse_size(text, &v->size[o->id]) || !v->size[o->id])
            return sl_fail(err, SL_USAGE, "", "--%s %s: not a size; write it as 5GB, 500MB or 64MiB", o->name, text);
        break;
    case KIND_CHOICE:
        if (!choice_has(o->value, text))
            return sl_fail(err, SL_USAGE, "", "--%s %s: not one of %s", o->name, text, o->value);
        break;
    case KIND_LIST:
        return keep_list(v, o->id, text, err);
    }
    return SL_OK;
}

/* An option that was named; without a value in the same word it takes the next one. */
static int give_option(int argc, char **argv, int *i, const struct option_row *o, const char *value, unsigned commands,
                       struct values *v, struct sl_error *err)
{
    if (!(o->commands & commands))
        return sl_fail(err, SL_USAGE, "", "--%s does not belong to %s; see shardlens %s --help", o->name,
                       v->command ? v->command : "the terminal UI", v->command ? v->command : "");
    if (o->kind == KIND_FLAG) {
        if (value)
            return sl_fail(err, SL_USAGE, "", "--%s takes no value", o->name);
        return keep_value(v, o, "", err);
    }
    if (!value) {
        if (*i + 1 >= argc)
            return sl_fail(err, SL_USAGE, "", "--%s needs a value (%s)", o->name, o->value);
        value = argv[++*i];
    }
    return keep_value(v, o, value, err);
}

/* "-fj", "-thf", "-t hf": flags in a row; the rest of the word is the value of the first that takes one. */
static int parse_letters(int argc, char **argv, int *i, unsigned commands, struct values *v, struct sl_error *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct option_row *o = option_by_letter(*p);
        if (!o)
            return sl_fail(err, SL_USAGE, "", "-%c: no such option; see shardlens --help", *p);
        const bool last = o->kind != KIND_FLAG || p[1] == '=';
        const int code = give_option(argc, argv, i, o, !last || !p[1] ? NULL : p[1] == '=' ? p + 2 : p + 1, commands, v, err);
        if (code || last)
            return code;
    }
    return SL_OK;
}

/* The word at argv[*i], which begins with a dash; a value may be the next word. */
static int parse_option(int argc, char **argv, int *i, unsigned commands, struct values *v, struct sl_error *err)
{
    const char *name = argv[*i] + 2, *equals = strchr(argv[*i], '=');
    if (argv[*i][1] != '-')
        return parse_letters(argc, argv, i, commands, v, err);
    const size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_row *o = option_by_name(name, len, commands);
    return o ? give_option(argc, argv, i, o, equals ? equals + 1 : NULL, commands, v, err) : unknown_option(name, len, commands, err);
}

static int unknown_word(const char *word, struct sl_error *err)
{
    const char *best = NULL;
    unsigned best_distance = 3;
    for (size_t i = 0; i < command_row_count; i++) {
        unsigned d = sl_text_distance(word, command_rows[i].name);
        if (d < best_distance)
            best = command_rows[i].name, best_distance = d;
    }
    return sl_fail(err, best ? SL_USAGE : SL_INPUT, word, "no such file and no such command%s%s%s", best ? "; did you mean " : "; see shardlens --help",
                   best ? best : "", best ? "?" : "");
}

static int check_arguments(const struct values *v, struct sl_error *err)
{
    const struct command_row *c = v->command ? command_find(v->command) : NULL;
    size_t least = c ? c->least : 0, most = c ? c->most : 1;
    const char *args = c ? c->args : "[PATH]";
    if (v->given[OPT_HELP] || v->given[OPT_VERSION])
        return SL_OK;
    if (!c && v->arg_count && !sl_path_exists(v->args[0]) && !strchr(v->args[0], '/'))
        return unknown_word(v->args[0], err);
    if (v->arg_count < least)
        return sl_fail(err, SL_USAGE, "", "%zu argument%s found, %s needs %s", v->arg_count,
                       v->arg_count == 1 ? "" : "s", v->command, args);
    if (v->arg_count > most)
        return sl_fail(err, SL_USAGE, "", "%s: one argument too many; usage: shardlens %s%s%s", v->args[most],
                       c ? c->name : "", c ? " " : "", args);
    return SL_OK;
}

int values_parse(int argc, char **argv, struct values *v, struct sl_error *err)
{
    memset(v, 0, sizeof *v);
    v->args = calloc((size_t)argc + 1, sizeof *v->args);
    if (!v->args)
        return sl_fail_memory(err, (uint64_t)argc * sizeof *v->args);
    unsigned commands = IN_TUI;
    int first = 1;
    if (argc > 1 && command_find(argv[1])) {
        v->command = argv[1];
        commands = command_find(argv[1])->bit;
        first = 2;
    }
    bool options = true;
    for (int i = first; i < argc; i++) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && word[0] == '-' && word[1]) {
            int code = parse_option(argc, argv, &i, commands, v, err);
            if (code)
                return code;
        } else {
            v->args[v->arg_count++] = word;
        }
    }
    return check_arguments(v, err);
}

void values_free(struct values *v)
{
    for (int i = 0; i < OPT_COUNT; i++)
        free(v->list[i]);
    free(v->args);
}

/* ---- options from files ------------------------------------------------------ */

static const char *value_text(const struct sl_value *v, struct sl_arena *arena)
{
    struct sl_buf b = { 0 };
    if (v->kind == SL_VALUE_STR)
        return v->s;
    if (v->kind == SL_VALUE_LIST) {              /* pp-layout: [7, 8, 8, 9] */
        for (size_t i = 0; i < v->len; i++) {
            if (i)
                sl_buf_char(&b, ',');
            sl_value_print(v->items[i], 256, &b);
        }
    } else {
        sl_value_print(v, 256, &b);
    }
    const char *text = b.failed ? NULL : sl_arena_str(arena, b.data ? b.data : "");
    sl_buf_free(&b);
    return text;
}

/* set: [key=value, ..] or {key: value, ..} */
static int merge_list(struct values *v, const struct option_row *o, const struct sl_value *value, struct sl_arena *arena,
                      struct sl_error *err)
{
    for (size_t i = 0; i < value->len; i++) {
        const char *text = value_text(value->items[i], arena);
        if (text && value->kind == SL_VALUE_DICT)
            text = sl_arena_printf(arena, "%s=%s", value->keys[i]->s ? value->keys[i]->s : "", text);
        if (!text)
            return sl_fail_memory(err, 64);
        const int code = keep_value(v, o, text, err);
        if (code)
            return code;
    }
    return SL_OK;
}

static int merge_option(struct values *v, const struct option_row *o, const struct sl_value *value, struct sl_arena *arena,
                        struct sl_error *err)
{
    bool on;
    if (o->kind == KIND_FLAG) {
        if (!sl_value_bool(value, &on))
            return sl_fail(err, SL_USAGE, "", "%s: true or false was expected", o->name);
        return on ? keep_value(v, o, "", err) : SL_OK;
    }
    if (o->kind == KIND_LIST && (value->kind == SL_VALUE_LIST || value->kind == SL_VALUE_DICT))
        return merge_list(v, o, value, arena, err);
    const char *text = value_text(value, arena);
    return text ? keep_value(v, o, text, err) : sl_fail_memory(err, 64);
}

int values_merge(struct values *v, const struct sl_value *dict, const char *where, struct sl_arena *arena, struct sl_error *err)
{
    const unsigned commands = command_find(v->command)->bit;
    if (dict->kind != SL_VALUE_DICT)
        return sl_fail(err, SL_USAGE, where, "options are expected as names and values");
    for (size_t i = 0; i < dict->len; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", dict->keys[i]->s ? dict->keys[i]->s : "");
        for (char *p = name; *p; p++)
            *p = *p == '_' ? '-' : *p;
        if (!strcmp(name, "source") || !strcmp(name, "target") || !strcmp(name, "src") || !strcmp(name, "dst"))
            continue;
        const struct option_row *o = option_by_name(name, strlen(name), commands);
        int code = SL_OK;
        if (!o || !(o->commands & commands) || o->id == OPT_CONFIG || o->id == OPT_HELP)
            code = unknown_option(name, strlen(name), commands, err);
        else if (!v->given[o->id])
            code = merge_option(v, o, dict->items[i], arena, err);
        if (code) {
            if (err && !*err->where)
                snprintf(err->where, sizeof err->where, "%s", where);
            return code;
        }
    }
    return SL_OK;
}

int options_load(const char *path, struct sl_arena *arena, const struct sl_value **value, struct sl_error *err)
{
    if (!strcmp(path, "-"))
        return sl_yaml_stream(stdin, "standard input", SL_LIMIT_JSON_BYTES, arena, value, err);
    return sl_yaml_load(path, SL_LIMIT_JSON_BYTES, arena, value, err);
}

int values_config(struct values *v, struct sl_arena *arena, struct sl_error *err)
{
    const struct sl_value *dict;
    if (!v->given[OPT_CONFIG])
        return SL_OK;
    const int code = options_load(v->text[OPT_CONFIG], arena, &dict, err);
    return code ? code : values_merge(v, dict, v->text[OPT_CONFIG], arena, err);
}
