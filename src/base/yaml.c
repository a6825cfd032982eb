/* yaml.c: events of libyaml into values. What is open is kept in a list, not on
 * the stack, so depth costs nothing but memory, and has a ceiling. */
#include "base/yaml.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH 64
#define MEMBERS 100000

/* A mapping or sequence that is being filled. */
struct open_node {
    struct sl_value *v;
    const struct sl_value **items, **keys;
    size_t len, room;
    const struct sl_value *key;          /* mapping: read, its value not yet */
};
struct reader {
    struct open_node open[DEPTH];
    size_t depth;
    const struct sl_value *root;
    struct sl_arena *arena;
    const char *where;
    struct sl_error *err;
};

static int refuse(const struct reader *r, const yaml_mark_t *mark, const char *what)
{
    return sl_fail(r->err, SL_INPUT, r->where, "line %zu, column %zu: %s", mark->line + 1, mark->column + 1, what);
}

static int out_of_memory(const struct reader *r)
{
    return sl_fail_memory(r->err, sizeof(struct sl_value));
}

/* Doubles the room of a node; old arrays stay behind in the arena. */
static bool node_grow(struct reader *r, struct open_node *n)
{
    const size_t room = n->room ? 2 * n->room : 8;
    const struct sl_value **items = SL_ARENA_NEW(r->arena, const struct sl_value *, room);
    const struct sl_value **keys = SL_ARENA_NEW(r->arena, const struct sl_value *, room);
    if (!items || !keys)
        return false;
    if (n->len) {
        memcpy(items, n->items, n->len * sizeof *items);
        memcpy(keys, n->keys, n->len * sizeof *keys);
    }
    n->items = items;
    n->keys = keys;
    n->room = room;
    return true;
}

static int take_key(struct reader *r, struct open_node *n, const struct sl_value *v, const yaml_mark_t *mark)
{
    if (v->kind == SL_VALUE_LIST || v->kind == SL_VALUE_DICT)
        return refuse(r, mark, "a name was expected, not a list or a mapping");
    if (!v->s)
        return refuse(r, mark, "a name was expected; put it in quotes");
    for (size_t i = 0; i < n->len; i++)
        if (!strcmp(n->keys[i]->s, v->s))
            return refuse(r, mark, "the name is there twice");
    n->key = v;
    return SL_OK;
}

/* A finished value goes where it belongs. */
static int give(struct reader *r, const struct sl_value *v, const yaml_mark_t *mark)
{
    if (!r->depth) {
        if (r->root)
            return refuse(r, mark, "a second document");
        r->root = v;
        return SL_OK;
    }
    struct open_node *n = &r->open[r->depth - 1];
    if (n->v->kind == SL_VALUE_DICT && !n->key)
        return take_key(r, n, v, mark);
    if (n->len == MEMBERS)
        return refuse(r, mark, "too many entries");
    if (n->len == n->room && !node_grow(r, n))
        return out_of_memory(r);
    n->items[n->len] = v;
    n->keys[n->len++] = n->key;
    n->key = NULL;
    return SL_OK;
}

static const struct sl_value *scalar_value(struct reader *r, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    const size_t len = e->data.scalar.length;
    const bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const struct open_node *n = r->depth ? &r->open[r->depth - 1] : NULL;
    const bool key = n && n->v->kind == SL_VALUE_DICT && !n->key;
    if (strlen(text) != len)
        return NULL;
    if (!plain || key)
        return sl_value_new_str(r->arena, text);
    if (!len || !strcmp(text, "~") || !strcmp(text, "null"))
        return sl_value_new_null(r->arena);
    const struct sl_value *v = sl_value_parse(r->arena, text);
    return v && (v->kind == SL_VALUE_LIST || v->kind == SL_VALUE_DICT) ? sl_value_new_str(r->arena, text) : v;
}

static int begin_node(struct reader *r, enum sl_value_kind kind, const yaml_mark_t *mark)
{
    if (r->depth == DEPTH)
        return refuse(r, mark, "nested too deeply");
    struct sl_value *v = SL_ARENA_NEW(r->arena, struct sl_value, 1);
    if (!v)
        return out_of_memory(r);
    v->kind = kind;
    r->open[r->depth++] = (struct open_node){ .v = v };
    return SL_OK;
}

static int end_node(struct reader *r, const yaml_mark_t *mark)
{
    struct open_node *n = &r->open[--r->depth];
    n->v->len = n->len;
    n->v->items = n->items;
    n->v->keys = n->v->kind == SL_VALUE_DICT ? n->keys : NULL;
    return give(r, n->v, mark);
}

static int take_event(struct reader *r, const yaml_event_t *e)
{
    const yaml_mark_t *mark = &e->start_mark;
    const struct sl_value *v;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return refuse(r, mark, "aliases (*name) are not accepted");
    case YAML_SCALAR_EVENT:
        if (e->data.scalar.anchor || (e->data.scalar.tag && e->data.scalar.tag[0]))
            return refuse(r, mark, "anchors and tags are not accepted");
        v = scalar_value(r, e);
        return v ? give(r, v, mark) : refuse(r, mark, "text with a NUL in it, or no memory left");
    case YAML_SEQUENCE_START_EVENT:
        if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
            return refuse(r, mark, "anchors and tags are not accepted");
        return begin_node(r, SL_VALUE_LIST, mark);
    case YAML_MAPPING_START_EVENT:
        if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
            return refuse(r, mark, "anchors and tags are not accepted");
        return begin_node(r, SL_VALUE_DICT, mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return end_node(r, mark);
    default:
        return SL_OK;
    }
}

int sl_yaml_parse(const char *text, size_t len, const char *where, struct sl_arena *arena,
                  const struct sl_value **value, struct sl_error *err)
{
    struct reader r = { .arena = arena, .where = where, .err = err };
    yaml_parser_t parser;
    if (!sl_text_is_utf8(text, len))
        return sl_fail(err, SL_INPUT, where, "is not valid UTF-8");
    if (!yaml_parser_initialize(&parser))
        return out_of_memory(&r);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int code = SL_OK;
    for (bool end = false; !end && !code;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            code = refuse(&r, &parser.problem_mark, parser.problem ? parser.problem : "is not YAML");
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        code = take_event(&r, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    if (!code && !r.root)
        code = sl_fail(err, SL_INPUT, where, "is empty");
    if (!code)
        *value = r.root;
    return code;
}

/* JSON is told by its first character. */
static int parse_either(const char *text, size_t len, const char *where, struct sl_arena *arena,
                        const struct sl_value **value, struct sl_error *err)
{
    const size_t blanks = strspn(text, " \t\r\n");
    if (text[blanks] == '{' || text[blanks] == '[')
        return sl_json_parse(text, len, where, arena, value, err);
    return sl_yaml_parse(text, len, where, arena, value, err);
}

int sl_yaml_load(const char *path, uint64_t limit, struct sl_arena *arena,
                 const struct sl_value **value, struct sl_error *err)
{
    char *text;
    size_t len;
    const int code = sl_file_slurp(path, limit, arena, &text, &len, err);
    return code ? code : parse_either(text, len, path, arena, value, err);
}

int sl_yaml_stream(FILE *in, const char *where, uint64_t limit, struct sl_arena *arena,
                   const struct sl_value **value, struct sl_error *err)
{
    char *text;
    size_t len;
    const int code = sl_stream_slurp(in, where, limit, arena, &text, &len, err);
    return code ? code : parse_either(text, len, where, arena, value, err);
}
