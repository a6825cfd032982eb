/* value.c: struct sl_value: members, numbers, new ones, one-line text. */
#include "base/value.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/text.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Doubles at least this large hold no fractions and may not fit int64. */
#define TWO_63 9223372036854775808.0

const struct sl_value *sl_value_get(const struct sl_value *v, const char *key)
{
    if (!v || v->kind != SL_VALUE_DICT)
        return NULL;
    const size_t len = strlen(key);
    for (size_t i = v->len; i-- > 0;) {
        const struct sl_value *k = v->keys[i];
        if (k && k->kind == SL_VALUE_STR && k->len == len && memcmp(k->s, key, len) == 0)
            return v->items[i];
    }
    return NULL;
}

bool sl_value_int(const struct sl_value *v, int64_t *out)
{
    if (!v)
        return false;
    if (v->kind == SL_VALUE_INT) {
        *out = v->i;
        return true;
    }
    if (v->kind == SL_VALUE_FLOAT && v->f >= -TWO_63 && v->f < TWO_63 && v->f == floor(v->f)) {
        *out = (int64_t)v->f;
        return true;
    }
    return false;
}

bool sl_value_double(const struct sl_value *v, double *out)
{
    if (!v || (v->kind != SL_VALUE_INT && v->kind != SL_VALUE_FLOAT))
        return false;
    *out = v->kind == SL_VALUE_INT ? (double)v->i : v->f;
    return true;
}

bool sl_value_bool(const struct sl_value *v, bool *out)
{
    if (!v || v->kind != SL_VALUE_BOOL)
        return false;
    *out = v->i != 0;
    return true;
}

const char *sl_value_str(const struct sl_value *v)
{
    return v && v->kind == SL_VALUE_STR ? v->s : NULL;
}

static struct sl_value *new_value(struct sl_arena *a, enum sl_value_kind kind)
{
    struct sl_value *v = SL_ARENA_NEW(a, struct sl_value, 1);
    if (v)
        v->kind = kind;
    return v;
}

struct sl_value *sl_value_new_int(struct sl_arena *a, int64_t i)
{
    struct sl_value *v = new_value(a, SL_VALUE_INT);
    if (v)
        v->i = i;
    return v;
}

struct sl_value *sl_value_new_ints(struct sl_arena *a, const int64_t *numbers, size_t count)
{
    struct sl_value *list = sl_value_new_null(a);
    const struct sl_value **items = SL_ARENA_NEW(a, const struct sl_value *, count);
    if (!list || !items)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!(items[i] = sl_value_new_int(a, numbers[i])))
            return NULL;
    list->kind = SL_VALUE_LIST;
    list->items = items;
    list->len = count;
    return list;
}

struct sl_value *sl_value_new_double(struct sl_arena *a, double f)
{
    struct sl_value *v = new_value(a, SL_VALUE_FLOAT);
    if (v)
        v->f = f;
    return v;
}

struct sl_value *sl_value_new_bool(struct sl_arena *a, bool b)
{
    struct sl_value *v = new_value(a, SL_VALUE_BOOL);
    if (v)
        v->i = b;
    return v;
}

struct sl_value *sl_value_new_str(struct sl_arena *a, const char *s)
{
    struct sl_value *v = new_value(a, SL_VALUE_STR);
    if (!v || !(v->s = sl_arena_str(a, s)))
        return NULL;
    v->len = strlen(s);
    return v;
}

struct sl_value *sl_value_new_null(struct sl_arena *a)
{
    return new_value(a, SL_VALUE_NULL);
}

/* Python's spellings besides JSON's: people copy them from args. */
static const struct { const char *word; enum sl_value_kind kind; int64_t i; } words[] = {
    { "true", SL_VALUE_BOOL, 1 },  { "True", SL_VALUE_BOOL, 1 },
    { "false", SL_VALUE_BOOL, 0 }, { "False", SL_VALUE_BOOL, 0 },
    { "null", SL_VALUE_NULL, 0 },  { "None", SL_VALUE_NULL, 0 },
};

/* A decimal number in full: digits, optional fraction and exponent. */
static bool parse_double(const char *text, double *out)
{
    const char *p = text + (*text == '-' || *text == '+');
    const size_t whole = strspn(p, "0123456789");
    p += whole;
    size_t fraction = 0;
    if (*p == '.') {
        fraction = strspn(p + 1, "0123456789");
        p += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        const size_t digits = strspn(p, "0123456789");
        if (!digits)
            return false;
        p += digits;
    }
    if (*p)
        return false;

    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return false;
    *out = strtod_l(text, NULL, c);
    freelocale(c);
    return isfinite(*out);
}

struct sl_value *sl_value_parse(struct sl_arena *a, const char *text)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i].word))
            continue;
        struct sl_value *v = new_value(a, words[i].kind);
        if (v)
            v->i = words[i].i;
        return v;
    }
    int64_t i;
    double f;
    if (sl_text_parse_i64(text, &i))
        return sl_value_new_int(a, i);
    if (parse_double(text, &f))
        return sl_value_new_double(a, f);
    if (*text == '[' || *text == '{') {
        const struct sl_value *json;
        const int code = sl_json_parse(text, strlen(text), "", a, &json, NULL);
        if (code == SL_MEMORY)
            return NULL;
        if (code == SL_OK) {
            struct sl_value *v = new_value(a, SL_VALUE_NULL);
            if (v)
                *v = *json;
            return v;
        }
    }
    return sl_value_new_str(a, text);
}

/* ---- equality ---- */

#define DEPTH_MAX 200    /* deeper values are equal only if they are the same */

static bool is_number(const struct sl_value *v)
{
    return v->kind == SL_VALUE_INT || v->kind == SL_VALUE_FLOAT;
}

static bool equal_numbers(const struct sl_value *a, const struct sl_value *b)
{
    if (a->kind == b->kind)
        return a->kind == SL_VALUE_INT ? a->i == b->i : !(a->f < b->f) && !(a->f > b->f);
    int64_t whole;
    const struct sl_value *f = a->kind == SL_VALUE_FLOAT ? a : b;
    return sl_value_int(f, &whole) && whole == (a->kind == SL_VALUE_INT ? a : b)->i;
}

static bool equal_at(const struct sl_value *a, const struct sl_value *b, int depth)
{
    if (a == b)
        return true;
    if (!a || !b || depth == 0)
        return false;
    if (is_number(a) && is_number(b))
        return equal_numbers(a, b);
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case SL_VALUE_NULL:
        return true;
    case SL_VALUE_BOOL:
    case SL_VALUE_TENSOR:
        return a->i == b->i;
    case SL_VALUE_STR:
    case SL_VALUE_BYTES:
        return a->len == b->len && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
    case SL_VALUE_OPAQUE:
        return a->s && b->s && strcmp(a->s, b->s) == 0;
    case SL_VALUE_LIST:
    case SL_VALUE_DICT:
        if (a->len != b->len)
            return false;
        for (size_t i = 0; i < a->len; i++)
            if (!equal_at(a->items[i], b->items[i], depth - 1) ||
                (a->kind == SL_VALUE_DICT && !equal_at(a->keys[i], b->keys[i], depth - 1)))
                return false;
        return true;
    case SL_VALUE_INT:
    case SL_VALUE_FLOAT:
        break;
    }
    return false;
}

bool sl_value_equal(const struct sl_value *a, const struct sl_value *b)
{
    return equal_at(a, b, DEPTH_MAX);
}

/* ---- one line for people ---- */

#define PRINT_DEPTH 4

static void print_at(const struct sl_value *v, size_t limit, int depth, struct sl_buf *out);

static void print_members(const struct sl_value *v, size_t limit, int depth, struct sl_buf *out)
{
    const bool dict = v->kind == SL_VALUE_DICT;
    sl_buf_char(out, dict ? '{' : '[');
    for (size_t i = 0; i < v->len && out->len <= limit && !out->failed; i++) {
        if (i)
            sl_buf_str(out, ", ");
        if (depth == 0) {
            sl_buf_str(out, "...");
            break;
        }
        if (dict) {
            print_at(v->keys[i], limit, depth - 1, out);
            sl_buf_str(out, ": ");
        }
        print_at(v->items[i], limit, depth - 1, out);
    }
    sl_buf_char(out, dict ? '}' : ']');
}

static void print_at(const struct sl_value *v, size_t limit, int depth, struct sl_buf *out)
{
    if (!v) {
        sl_buf_str(out, "null");
        return;
    }
    switch (v->kind) {
    case SL_VALUE_NULL:
        sl_buf_str(out, "null");
        break;
    case SL_VALUE_BOOL:
        sl_buf_str(out, v->i ? "true" : "false");
        break;
    case SL_VALUE_INT:
        sl_buf_printf(out, "%" PRId64, v->i);
        break;
    case SL_VALUE_FLOAT:
        if (isnan(v->f))
            sl_buf_str(out, "nan");
        else if (isinf(v->f))
            sl_buf_str(out, v->f < 0 ? "-inf" : "inf");
        else {
            struct sl_json j;
            sl_json_begin(&j, out, 0);
            sl_json_double(&j, v->f);
        }
        break;
    case SL_VALUE_STR:
        /* a character takes at least one byte: no more than limit can show */
        sl_buf_printable(out, v->s, v->len < limit ? v->len : limit + 1);
        break;
    case SL_VALUE_BYTES:
        sl_buf_printf(out, "<%zu bytes>", v->len);
        break;
    case SL_VALUE_TENSOR:
        sl_buf_printf(out, "<tensor %" PRId64 ">", v->i);
        break;
    case SL_VALUE_OPAQUE:
        sl_buf_char(out, '<');
        if (v->s)
            sl_buf_printable(out, v->s, strnlen(v->s, limit + 1));
        sl_buf_char(out, '>');
        break;
    case SL_VALUE_LIST:
    case SL_VALUE_DICT:
        print_members(v, limit, depth, out);
        break;
    }
}

void sl_value_print(const struct sl_value *v, size_t limit, struct sl_buf *out)
{
    struct sl_buf line = { 0 };
    print_at(v, limit, PRINT_DEPTH, &line);
    if (line.len <= limit) {
        sl_buf_add(out, line.data ? line.data : "", line.len);
    } else {
        /* cut between characters and say so */
        size_t keep = limit < 3 ? 0 : limit - 3;
        while (keep && ((unsigned char)line.data[keep] & 0xc0) == 0x80)
            keep--;
        sl_buf_add(out, line.data, keep);
        sl_buf_add(out, "...", limit < 3 ? limit : 3);
    }
    out->failed |= line.failed;
    sl_buf_free(&line);
}
