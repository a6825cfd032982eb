/* stscan.c: see stscan.h. The grammar is RFC 8259's. */
#include "format/stscan.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SKIP_DEPTH = 4 };

bool sl_scan_fail(struct sl_scan *s, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!s->code)
        s->code = sl_fail(s->err, SL_INPUT, s->where, "safetensors header, byte %zu: %s", s->at,
                          text);
    return false;
}

static bool out_of_memory(struct sl_scan *s, size_t bytes)
{
    if (!s->code)
        s->code = sl_fail_memory(s->err, bytes);
    return false;
}

char sl_scan_peek(struct sl_scan *s)
{
    while (s->at < s->len && (s->text[s->at] == ' ' || s->text[s->at] == '\n' ||
                              s->text[s->at] == '\t' || s->text[s->at] == '\r'))
        s->at++;
    return s->at < s->len ? s->text[s->at] : 0;
}

bool sl_scan_take(struct sl_scan *s, char c)
{
    char found = sl_scan_peek(s);
    if (s->code)
        return false;
    if (s->at == s->len)
        return sl_scan_fail(s, "it ends where '%c' was expected", c);
    if (found != c)
        return sl_scan_fail(s, "'%c' was found where '%c' was expected", found, c);
    s->at++;
    return true;
}

bool sl_scan_more(struct sl_scan *s, char close, bool *more)
{
    *more = sl_scan_peek(s) == ',';
    return sl_scan_take(s, *more ? ',' : close);
}

/* --- strings ------------------------------------------------------------ */

static bool hex4(const char *p, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0')
                       : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                       : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16;
        if (digit == 16)
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

/* \uXXXX, at the X; two of them where they are a pair of surrogates. */
static bool take_unicode(struct sl_scan *s, size_t end, uint32_t *c)
{
    uint32_t low;
    if (end - s->at < 4 || !hex4(s->text + s->at, c))
        return sl_scan_fail(s, "\\u needs four hexadecimal digits");
    s->at += 4;
    if (*c == 0)
        return sl_scan_fail(s, "a NUL character in a string");
    if (*c < 0xd800 || *c > 0xdfff)
        return true;
    if (*c > 0xdbff || end - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u' ||
        !hex4(s->text + s->at + 2, &low) || low < 0xdc00 || low > 0xdfff)
        return sl_scan_fail(s, "half of a surrogate pair");
    s->at += 6;
    *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static size_t utf8_put(uint32_t c, char *out)
{
    size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = more; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[more] | c);
    return more + 1;
}

static bool take_escape(struct sl_scan *s, size_t end, char *out, size_t *out_len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->text[s->at++];
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t code = 0;
    if (simple)
        code = (uint32_t)to[simple - from];
    else if (c != 'u')
        return sl_scan_fail(s, "no such escape");
    else if (!take_unicode(s, end, &code))
        return false;
    *out_len += utf8_put(code, out + *out_len);
    return true;
}

/* Finds the closing quote; *has_escapes on the way. */
static bool find_quote(struct sl_scan *s, size_t *end, bool *has_escapes)
{
    *has_escapes = false;
    for (size_t i = s->at; i < s->len; i++) {
        unsigned char c = (unsigned char)s->text[i];
        if (c == '"') {
            *end = i;
            return true;
        }
        if (c < 0x20) {
            s->at = i;
            return sl_scan_fail(s, "a control character (0x%02x) in a string", c);
        }
        if (c == '\\') {
            *has_escapes = true;
            i++;
        }
    }
    return sl_scan_fail(s, "a string without an end");
}

bool sl_scan_string(struct sl_scan *s, const char **text, size_t *len)
{
    size_t end = 0;
    bool has_escapes;
    if (!sl_scan_take(s, '"') || !find_quote(s, &end, &has_escapes))
        return false;
    char *out = sl_arena_strn(s->arena, s->text + s->at, end - s->at);
    if (!out)
        return out_of_memory(s, end - s->at);
    size_t out_len = end - s->at;
    if (has_escapes) {                    /* no escape is longer when decoded */
        out_len = 0;
        while (s->at < end) {
            if (s->text[s->at] != '\\')
                out[out_len++] = s->text[s->at++];
            else if (s->at++, !take_escape(s, end, out, &out_len))
                return false;
        }
        out[out_len] = 0;
    }
    s->at = end + 1;
    *text = out;
    *len = out_len;
    return true;
}

/* --- numbers and the rest ----------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool sl_scan_number(struct sl_scan *s, uint64_t *number)
{
    char c = sl_scan_peek(s);
    size_t first = s->at;
    if (s->code)
        return false;
    if (!is_digit(c))
        return sl_scan_fail(s, "a whole number of 0 or more was expected");
    *number = 0;
    for (; s->at < s->len && is_digit(s->text[s->at]); s->at++)
        if (__builtin_mul_overflow(*number, (uint64_t)10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(s->text[s->at] - '0'), number))
            return sl_scan_fail(s, "a number of more than 64 bits");
    if (c == '0' && s->at - first > 1)
        return sl_scan_fail(s, "a number with a leading 0");
    if (s->at < s->len && strchr(".eE", s->text[s->at]) && s->text[s->at])
        return sl_scan_fail(s, "a whole number was expected, without fraction and exponent");
    return true;
}

static bool take_word(struct sl_scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n))
        return sl_scan_fail(s, "no JSON value");
    s->at += n;
    return true;
}

bool sl_scan_null(struct sl_scan *s)
{
    sl_scan_peek(s);
    return !s->code && take_word(s, "null");
}

/* A number of any form, for fields that are skipped. */
static bool skip_number(struct sl_scan *s)
{
    if (s->text[s->at] == '-')
        s->at++;
    size_t first = s->at;
    while (s->at < s->len && is_digit(s->text[s->at]))
        s->at++;
    size_t digits = s->at - first;
    if (!digits || (digits > 1 && s->text[first] == '0'))
        return sl_scan_fail(s, "no JSON value");
    if (s->at < s->len && s->text[s->at] == '.') {
        first = ++s->at;
        while (s->at < s->len && is_digit(s->text[s->at]))
            s->at++;
        if (s->at == first)
            return sl_scan_fail(s, "a number that ends in a point");
    }
    if (s->at < s->len && (s->text[s->at] == 'e' || s->text[s->at] == 'E')) {
        s->at++;
        if (s->at < s->len && (s->text[s->at] == '+' || s->text[s->at] == '-'))
            s->at++;
        first = s->at;
        while (s->at < s->len && is_digit(s->text[s->at]))
            s->at++;
        if (s->at == first)
            return sl_scan_fail(s, "an exponent without digits");
    }
    return true;
}

static bool skip_plain(struct sl_scan *s)
{
    const char *text;
    size_t len;
    switch (s->text[s->at]) {
    case '"': return sl_scan_string(s, &text, &len);
    case 't': return take_word(s, "true");
    case 'f': return take_word(s, "false");
    case 'n': return take_word(s, "null");
    default:  return skip_number(s);
    }
}

static bool skip_key(struct sl_scan *s)
{
    const char *text;
    size_t len;
    return sl_scan_string(s, &text, &len) && sl_scan_take(s, ':');
}

/* Containers that are open are kept in `open`, innermost last. */
bool sl_scan_skip(struct sl_scan *s)
{
    char open[SKIP_DEPTH];
    int depth = 0;
    do {
        char c = sl_scan_peek(s);
        if (s->code || s->at == s->len)
            return sl_scan_fail(s, "it ends where a value was expected");
        if (c == '{' || c == '[') {
            if (depth == SKIP_DEPTH)
                return sl_scan_fail(s, "nested more than %d levels deep", SKIP_DEPTH);
            s->at++;
            char close = c == '{' ? '}' : ']';
            if (sl_scan_peek(s) == close) {
                s->at++;
            } else {
                open[depth++] = close;
                if (c == '{' && !skip_key(s))
                    return false;
                continue;
            }
        } else if (!skip_plain(s)) {
            return false;
        }
        for (bool more = false; depth && !more;) {
            if (!sl_scan_more(s, open[depth - 1], &more))
                return false;
            if (!more)
                depth--;
            else if (open[depth - 1] == '}' && !skip_key(s))
                return false;
        }
    } while (depth);
    return true;
}
