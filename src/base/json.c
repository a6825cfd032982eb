/* json.c: JSON in through a strict scanner and then cJSON; JSON out as a stream.
 *
 * The scanner walks the whole text once by the grammar of RFC 8259, refuses
 * what is not JSON with line and column, and notes the numbers in their order:
 * cJSON keeps only doubles, so whole numbers are taken from the text. After it
 * cJSON builds the tree, and the tree becomes sl_values in the arena.
 */
#include "base/json.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/num.h"
#include "base/value.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the scanner ---- */

/* cJSON copies a number into a buffer of 64 bytes and cuts what is longer. */
#define NUMBER_MAX 63

struct number {
    bool whole;      /* no fraction, no exponent, fits int64 */
    int64_t i;
};

struct scanner {
    const char *text, *where;
    size_t len, at;
    uint64_t values;
    struct number *numbers;
    size_t count, room;
    struct sl_error *err;
};

static int refuse_at(const struct scanner *s, size_t at, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < s->len; i++) {
        column++;
        if (s->text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return sl_fail(s->err, SL_INPUT, s->where, "is not JSON: line %zu, column %zu: %s", line, column,
                   what);
}

static int refuse(const struct scanner *s, const char *what)
{
    return refuse_at(s, s->at, what);
}

static char peek(const struct scanner *s)
{
    return s->at < s->len ? s->text[s->at] : '\0';
}

static void skip_blanks(struct scanner *s)
{
    while (s->at < s->len && (s->text[s->at] == ' ' || s->text[s->at] == '\t' ||
                              s->text[s->at] == '\n' || s->text[s->at] == '\r'))
        s->at++;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* the four digits behind \u, or -1 */
static int hex4(const struct scanner *s, size_t at)
{
    char digits[5] = { 0 };
    if (s->len - at < 4)
        return -1;
    memcpy(digits, s->text + at, 4);
    for (int i = 0; i < 4; i++)
        if (!is_hex(digits[i]))
            return -1;
    return (int)strtol(digits, NULL, 16);
}

static int scan_escape(struct scanner *s)
{
    const char c = s->at + 1 < s->len ? s->text[s->at + 1] : '\0';
    if (c && strchr("\"\\/bfnrt", c)) {
        s->at += 2;
        return SL_OK;
    }
    if (c != 'u')
        return refuse(s, "a backslash before a character that needs none");
    const int code = hex4(s, s->at + 2);
    if (code < 0)
        return refuse(s, "\\u without four hexadecimal digits");
    if (code == 0)
        return refuse(s, "\\u0000: text with a NUL in it is not accepted");
    s->at += 6;
    if (code >= 0xdc00 && code <= 0xdfff)
        return refuse(s, "the second half of a surrogate pair without the first");
    if (code >= 0xd800 && code <= 0xdbff) {
        const bool pair = s->len - s->at >= 6 && memcmp(s->text + s->at, "\\u", 2) == 0;
        const int low = pair ? hex4(s, s->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return refuse(s, "the first half of a surrogate pair without the second");
        s->at += 6;
    }
    return SL_OK;
}

static int scan_string(struct scanner *s)
{
    s->at++;
    while (s->at < s->len) {
        const unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            s->at++;
            return SL_OK;
        }
        if (c < 0x20)
            return refuse(s, "a control character inside a string");
        if (c == '\\') {
            const int code = scan_escape(s);
            if (code)
                return code;
        } else {
            s->at++;
        }
    }
    return refuse(s, "the text ends inside a string");
}

static int note_number(struct scanner *s, size_t begin, bool whole)
{
    char digits[NUMBER_MAX + 1] = { 0 };
    if (s->at - begin > NUMBER_MAX)
        return refuse_at(s, begin, "a number of more than 63 characters");
    if (s->count == s->room) {
        const size_t room = s->room ? 2 * s->room : 64;
        struct number *grown = realloc(s->numbers, room * sizeof *grown);
        if (!grown)
            return sl_fail_memory(s->err, room * sizeof *grown);
        s->numbers = grown;
        s->room = room;
    }
    struct number *n = &s->numbers[s->count++];
    memcpy(digits, s->text + begin, s->at - begin);
    *n = (struct number){ .whole = whole && strcmp(digits, "-0") != 0 &&
                                   sl_text_parse_i64(digits, &n->i),
                          .i = n->i };
    return SL_OK;
}

static size_t skip_digits(struct scanner *s)
{
    const size_t begin = s->at;
    while (is_digit(peek(s)))
        s->at++;
    return s->at - begin;
}

static int scan_number(struct scanner *s)
{
    const size_t begin = s->at;
    bool whole = true;
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0' && s->at + 1 < s->len && is_digit(s->text[s->at + 1]))
        return refuse(s, "a number with a leading zero");
    if (!skip_digits(s))
        return refuse(s, "a value was expected");
    if (peek(s) == '.') {
        whole = false;
        s->at++;
        if (!skip_digits(s))
            return refuse(s, "digits were expected after the point");
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        whole = false;
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (!skip_digits(s))
            return refuse(s, "digits were expected in the exponent");
    }
    return note_number(s, begin, whole);
}

static int scan_word(struct scanner *s)
{
    static const char *const words[] = { "true", "false", "null" };
    for (size_t w = 0; w < 3; w++) {
        const size_t len = strlen(words[w]);
        if (s->len - s->at >= len && memcmp(s->text + s->at, words[w], len) == 0) {
            s->at += len;
            return SL_OK;
        }
    }
    if (peek(s) == 'N' || peek(s) == 'I')
        return refuse(s, "NaN and Infinity are not numbers in JSON");
    return refuse(s, s->at < s->len ? "a value was expected" : "the text ends where a value was expected");
}

/* A name and its colon. */
static int scan_key(struct scanner *s)
{
    if (peek(s) != '"')
        return refuse(s, "a name in double quotes was expected");
    const int code = scan_string(s);
    if (code)
        return code;
    skip_blanks(s);
    if (peek(s) != ':')
        return refuse(s, "a colon was expected after the name");
    s->at++;
    return SL_OK;
}

/* After a value: closes what ends here, and leaves s->at before the next value
 * of what is still open. */
static int scan_after_value(struct scanner *s, const char *closers, size_t *depth)
{
    for (;;) {
        skip_blanks(s);
        if (*depth == 0)
            return SL_OK;
        const char closer = closers[*depth - 1];
        const char c = peek(s);
        if (c == closer) {
            s->at++;
            --*depth;
        } else if (c == ',') {
            s->at++;
            skip_blanks(s);
            return closer == '}' ? scan_key(s) : SL_OK;
        } else {
            return refuse(s, s->at >= s->len ? "the text ends inside a list or an object"
                             : closer == '}' ? "a comma or } was expected"
                                             : "a comma or ] was expected");
        }
    }
}

/* After { or [: true when the first member comes next, false when it is empty
 * and its closer is next. */
static int scan_first(struct scanner *s, char closer, bool *member)
{
    skip_blanks(s);
    *member = peek(s) != closer;
    return *member && closer == '}' ? scan_key(s) : SL_OK;
}

/* One document, no recursion: closers[] remembers what is open. */
static int scan(struct scanner *s)
{
    char closers[SL_LIMIT_JSON_DEPTH];
    size_t depth = 0;
    do {
        int code;
        bool member = false;
        skip_blanks(s);
        if (++s->values > SL_LIMIT_JSON_VALUES)
            return refuse(s, "too many values");
        const char c = peek(s);
        if (c == '{' || c == '[') {
            if (depth == SL_LIMIT_JSON_DEPTH)
                return refuse(s, "nested too deeply");
            s->at++;
            closers[depth++] = c == '{' ? '}' : ']';
            code = scan_first(s, closers[depth - 1], &member);
        } else if (c == '"') {
            code = scan_string(s);
        } else {
            code = c == '-' || is_digit(c) ? scan_number(s) : scan_word(s);
        }
        if (!code && !member)
            code = scan_after_value(s, closers, &depth);
        if (code)
            return code;
    } while (depth);
    if (s->at < s->len)
        return refuse(s, "something follows the document");
    return SL_OK;
}

/* ---- cJSON's tree into values ---- */

struct converter {
    const struct scanner *scanner;
    size_t number;           /* numbers used so far */
    struct sl_arena *arena;
    const char *where;
    struct sl_error *err;
};

static int out_of_memory(const struct converter *c)
{
    return sl_fail_memory(c->err, sizeof(struct sl_value));
}

static int convert(struct converter *c, const cJSON *node, const struct sl_value **value);

static int set_text(struct converter *c, struct sl_value *v, const char *s)
{
    v->kind = SL_VALUE_STR;
    v->len = strlen(s);
    v->s = sl_arena_strn(c->arena, s, v->len);
    return v->s ? SL_OK : out_of_memory(c);
}

#define FEW_NAMES 16      /* each with each is quicker than a table */

static int fail_twice(const struct converter *c, const char *name)
{
    return sl_fail(c->err, SL_INPUT, c->where, "the name \"%s\" is there twice", name);
}

static int refuse_duplicates_of_few(const struct converter *c, const struct sl_value *dict)
{
    for (size_t i = 1; i < dict->len; i++)
        for (size_t j = 0; j < i; j++)
            if (dict->keys[i]->len == dict->keys[j]->len && !memcmp(dict->keys[i]->s, dict->keys[j]->s, dict->keys[i]->len))
                return fail_twice(c, dict->keys[i]->s);
    return SL_OK;
}

static int refuse_duplicates(const struct converter *c, const struct sl_value *dict)
{
    if (dict->len <= FEW_NAMES)
        return refuse_duplicates_of_few(c, dict);
    struct sl_map seen = { 0 };
    int code = SL_OK;
    for (size_t i = 0; i < dict->len && !code; i++) {
        uint64_t at = i;
        bool added = true;
        if (!sl_map_add(&seen, dict->keys[i]->s, dict->keys[i]->len, &at, &added))
            code = out_of_memory(c);
        else if (!added)
            code = fail_twice(c, dict->keys[i]->s);
    }
    sl_map_free(&seen);
    return code;
}

static int convert_members(struct converter *c, const cJSON *node, struct sl_value *v)
{
    const bool dict = v->kind == SL_VALUE_DICT;
    size_t len = 0;
    for (const cJSON *child = node->child; child; child = child->next)
        len++;
    const struct sl_value **items = SL_ARENA_NEW(c->arena, const struct sl_value *, len);
    const struct sl_value **keys =
        dict ? SL_ARENA_NEW(c->arena, const struct sl_value *, len) : NULL;
    if (!items || (dict && !keys))
        return out_of_memory(c);

    size_t i = 0;
    for (const cJSON *child = node->child; child; child = child->next, i++) {
        if (dict) {
            struct sl_value *key = SL_ARENA_NEW(c->arena, struct sl_value, 1);
            if (!key || set_text(c, key, child->string))
                return out_of_memory(c);
            keys[i] = key;
        }
        const int code = convert(c, child, &items[i]);
        if (code)
            return code;
    }
    v->len = len;
    v->items = items;
    v->keys = keys;
    return dict ? refuse_duplicates(c, v) : SL_OK;
}

/* Recursion is as deep as the scanner allowed. */
static int convert(struct converter *c, const cJSON *node, const struct sl_value **value)
{
    struct sl_value *v = SL_ARENA_NEW(c->arena, struct sl_value, 1);
    if (!v)
        return out_of_memory(c);
    *value = v;
    switch (node->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        v->kind = SL_VALUE_BOOL;
        v->i = (node->type & 0xff) == cJSON_True;
        return SL_OK;
    case cJSON_Number: {
        if (!c->scanner->numbers || c->number >= c->scanner->count)
            return sl_fail(c->err, SL_INPUT, c->where, "is not JSON: its numbers were miscounted");
        const struct number *n = &c->scanner->numbers[c->number++];
        v->kind = n->whole ? SL_VALUE_INT : SL_VALUE_FLOAT;
        if (n->whole)
            v->i = n->i;
        else
            v->f = node->valuedouble;
        if (!n->whole && !isfinite(v->f))
            return sl_fail(c->err, SL_INPUT, c->where, "is not JSON: a number is out of range");
        return SL_OK;
    }
    case cJSON_String:
        return set_text(c, v, node->valuestring);
    case cJSON_Array:
    case cJSON_Object:
        v->kind = (node->type & 0xff) == cJSON_Object ? SL_VALUE_DICT : SL_VALUE_LIST;
        return convert_members(c, node, v);
    default:
        v->kind = SL_VALUE_NULL;
        return SL_OK;
    }
}

int sl_json_parse(const char *text, size_t len, const char *where, struct sl_arena *arena,
                  const struct sl_value **value, struct sl_error *err)
{
    struct scanner s = { .text = text, .where = where, .len = len, .err = err };
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return refuse(&s, "it begins with a byte order mark");
    if (!sl_text_is_utf8(text, len))
        return sl_fail(err, SL_INPUT, where, "is not JSON: it is not valid UTF-8");

    int code = scan(&s);
    cJSON *tree = code ? NULL : cJSON_ParseWithLength(text, len);
    if (!code && !tree)
        code = sl_fail(err, SL_INPUT, where, "is not JSON, or is too large for the memory there is");
    if (!code) {
        struct converter c = { .scanner = &s, .arena = arena, .where = where, .err = err };
        code = convert(&c, tree, value);
    }
    cJSON_Delete(tree);
    free(s.numbers);
    return code;
}

int sl_json_load(const char *path, uint64_t limit, struct sl_arena *arena,
                 const struct sl_value **value, struct sl_error *err)
{
    char *text;
    size_t len;
    const int code = sl_file_slurp(path, limit, arena, &text, &len, err);
    return code ? code : sl_json_parse(text, len, path, arena, value, err);
}

/* ---- the writer ---- */

#define WRITER_DEPTH 64

void sl_json_begin(struct sl_json *j, struct sl_buf *out, int indent)
{
    *j = (struct sl_json){ .out = out, .indent = indent };
    j->first[0] = true;
}

static void new_line(struct sl_json *j)
{
    if (!j->indent)
        return;
    sl_buf_char(j->out, '\n');
    for (int i = 0; i < j->indent * j->depth; i++)
        sl_buf_char(j->out, ' ');
}

/* The comma and the line before a key, or before a value that has none. */
static void separate(struct sl_json *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (!j->first[j->depth])
        sl_buf_char(j->out, ',');
    j->first[j->depth] = false;
    if (j->depth)
        new_line(j);
}

static void open_with(struct sl_json *j, char c)
{
    separate(j);
    sl_buf_char(j->out, c);
    if (j->depth == WRITER_DEPTH) {
        j->out->failed = true;
        return;
    }
    j->first[++j->depth] = true;
}

static void close_with(struct sl_json *j, char c)
{
    if (j->depth == 0) {
        j->out->failed = true;
        return;
    }
    const bool empty = j->first[j->depth--];
    if (!empty)
        new_line(j);
    sl_buf_char(j->out, c);
}

void sl_json_object(struct sl_json *j) { open_with(j, '{'); }
void sl_json_object_end(struct sl_json *j) { close_with(j, '}'); }
void sl_json_array(struct sl_json *j) { open_with(j, '['); }
void sl_json_array_end(struct sl_json *j) { close_with(j, ']'); }

/* Bytes of the UTF-8 character at s if JSON may hold it as it is, 0 if it must
 * be escaped; *taken is what it takes of s. */
static size_t plain_char(const char *s, size_t len, size_t *taken)
{
    const unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n > len || !sl_text_is_utf8(s, n))
        n = 0;
    *taken = n ? n : 1;
    return n && sl_text_is_printable(s, n) ? n : 0;
}

static void escape(struct sl_buf *out, const char *s, size_t taken)
{
    static const char short_form[32] = { ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n',
                                         ['\r'] = 'r', ['\t'] = 't' };
    const unsigned char *b = (const unsigned char *)s;
    if (taken == 1 && b[0] >= 0x80)
        sl_buf_str(out, "\\ufffd");    /* no character: a byte that is not UTF-8 */
    else if (taken == 1 && b[0] < 32 && short_form[b[0]])
        sl_buf_printf(out, "\\%c", short_form[b[0]]);
    else if (taken == 1)
        sl_buf_printf(out, "\\u%04x", b[0]);
    else if (taken == 2)
        sl_buf_printf(out, "\\u%04x", (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu));
    else    /* all unsafe characters lie below U+10000 */
        sl_buf_printf(out, "\\u%04x", (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu));
}

static void quoted(struct sl_buf *out, const char *s, size_t len)
{
    sl_buf_char(out, '"');
    for (size_t i = 0; i < len;) {
        size_t taken;
        if (s[i] == '"' || s[i] == '\\') {
            sl_buf_char(out, '\\');
            sl_buf_char(out, s[i++]);
            continue;
        }
        const size_t plain = plain_char(s + i, len - i, &taken);
        if (plain)
            sl_buf_add(out, s + i, plain);
        else
            escape(out, s + i, taken);
        i += taken;
    }
    sl_buf_char(out, '"');
}

void sl_json_key(struct sl_json *j, const char *key)
{
    separate(j);
    quoted(j->out, key, strlen(key));
    sl_buf_str(j->out, j->indent ? ": " : ":");
    j->after_key = true;
}

void sl_json_strn(struct sl_json *j, const char *s, size_t len)
{
    separate(j);
    quoted(j->out, s, len);
}

void sl_json_str(struct sl_json *j, const char *s)
{
    if (s)
        sl_json_strn(j, s, strlen(s));
    else
        sl_json_null(j);
}

void sl_json_int(struct sl_json *j, int64_t v)
{
    separate(j);
    sl_buf_printf(j->out, "%" PRId64, v);
}

void sl_json_uint(struct sl_json *j, uint64_t v)
{
    separate(j);
    sl_buf_printf(j->out, "%" PRIu64, v);
}

/* Digits and exponent of the shortest decimal that reads back as v > 0:
 * v = 0.d1d2d3... * 10^point. The locale's decimal sign is stepped over. */
static size_t shortest_digits(double v, char digits[24], int *point)
{
    char text[64];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, v);
        if (precision == 16 || strtod(text, NULL) == v)
            break;
    }
    size_t n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (is_digit(*p) && n < 23)
            digits[n++] = *p;
    *point = 1 + (*p ? (int)strtol(p + 1, NULL, 10) : 0);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
    return n;
}

/* As Python writes it: 0.0001 and 1e+16 are the turning points, two digits of
 * exponent at least. */
static void put_double(struct sl_buf *out, double v)
{
    char d[24];
    int point;
    if (signbit(v))
        sl_buf_char(out, '-');
    v = fabs(v);
    if (!(v > 0)) {
        sl_buf_str(out, "0.0");
        return;
    }
    const int n = (int)shortest_digits(v, d, &point);
    if (point < -3 || point > 16) {
        sl_buf_printf(out, "%c%s%se%c%02d", d[0], n > 1 ? "." : "", d + 1, point < 1 ? '-' : '+',
                      abs(point - 1));
    } else if (point <= 0) {
        sl_buf_printf(out, "0.%.*s%s", -point, "000", d);
    } else if (n <= point) {
        sl_buf_printf(out, "%s%.*s.0", d, point - n, "0000000000000000");
    } else {
        sl_buf_printf(out, "%.*s.%s", point, d, d + point);
    }
}

void sl_json_double(struct sl_json *j, double v)
{
    if (!isfinite(v)) {
        sl_json_null(j);
        return;
    }
    separate(j);
    put_double(j->out, v);
}

void sl_json_bool(struct sl_json *j, bool v)
{
    separate(j);
    sl_buf_str(j->out, v ? "true" : "false");
}

void sl_json_null(struct sl_json *j)
{
    separate(j);
    sl_buf_str(j->out, "null");
}

/* A key that is no string is written as its one-line text. */
static void value_key(struct sl_json *j, const struct sl_value *key)
{
    separate(j);
    if (key && key->kind == SL_VALUE_STR) {
        quoted(j->out, key->s, key->len);
    } else {
        struct sl_buf text = { 0 };
        sl_value_print(key, 256, &text);
        quoted(j->out, text.data ? text.data : "", text.len);
        sl_buf_free(&text);
    }
    sl_buf_str(j->out, j->indent ? ": " : ":");
    j->after_key = true;
}

void sl_json_value(struct sl_json *j, const struct sl_value *v)
{
    if (!v) {
        sl_json_null(j);
        return;
    }
    switch (v->kind) {
    case SL_VALUE_NULL:
        sl_json_null(j);
        break;
    case SL_VALUE_BOOL:
        sl_json_bool(j, v->i != 0);
        break;
    case SL_VALUE_INT:
        sl_json_int(j, v->i);
        break;
    case SL_VALUE_FLOAT:
        sl_json_double(j, v->f);
        break;
    case SL_VALUE_STR:
        sl_json_strn(j, v->s, v->len);
        break;
    case SL_VALUE_LIST:
    case SL_VALUE_DICT:
        if (j->depth == WRITER_DEPTH) {    /* a tree from a pickle may be deeper */
            sl_json_str(j, "...");
            break;
        }
        open_with(j, v->kind == SL_VALUE_DICT ? '{' : '[');
        for (size_t i = 0; i < v->len && !j->out->failed; i++) {
            if (v->kind == SL_VALUE_DICT)
                value_key(j, v->keys[i]);
            sl_json_value(j, v->items[i]);
        }
        close_with(j, v->kind == SL_VALUE_DICT ? '}' : ']');
        break;
    case SL_VALUE_BYTES:
    case SL_VALUE_TENSOR:
    case SL_VALUE_OPAQUE: {
        struct sl_buf text = { 0 };
        sl_value_print(v, 256, &text);
        sl_json_strn(j, text.data ? text.data : "", text.len);
        sl_buf_free(&text);
        break;
    }
    }
}

void sl_json_kstr(struct sl_json *j, const char *key, const char *s)
{
    sl_json_key(j, key);
    sl_json_str(j, s);
}

void sl_json_kint(struct sl_json *j, const char *key, int64_t v)
{
    sl_json_key(j, key);
    sl_json_int(j, v);
}

void sl_json_kuint(struct sl_json *j, const char *key, uint64_t v)
{
    sl_json_key(j, key);
    sl_json_uint(j, v);
}

void sl_json_kdouble(struct sl_json *j, const char *key, double v)
{
    sl_json_key(j, key);
    sl_json_double(j, v);
}

void sl_json_kbool(struct sl_json *j, const char *key, bool v)
{
    sl_json_key(j, key);
    sl_json_bool(j, v);
}
