/* text.c: buffers, printable text, numbers for people, globs, order. */
#include "base/text.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- buffers ---- */

void sl_buf_free(struct sl_buf *b)
{
    free(b->data);
    *b = (struct sl_buf){ 0 };
}

void sl_buf_clear(struct sl_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Room for `more` bytes and a NUL; false, and failed set, when memory is out. */
static bool reserve(struct sl_buf *b, size_t more)
{
    if (b->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(b->len, more, &need) || __builtin_add_overflow(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->room)
        return true;

    const size_t doubled = b->room < SIZE_MAX / 2 ? 2 * b->room : SIZE_MAX;
    const size_t room = need < 64 ? 64 : need < doubled ? doubled : need;
    char *data = realloc(b->data, room);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->room = room;
    return true;
}

void sl_buf_add(struct sl_buf *b, const void *bytes, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void sl_buf_str(struct sl_buf *b, const char *s)
{
    sl_buf_add(b, s, strlen(s));
}

void sl_buf_char(struct sl_buf *b, char c)
{
    sl_buf_add(b, &c, 1);
}

void sl_buf_vprintf(struct sl_buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0) {
        b->failed = true;
        return;
    }
    if (!reserve(b, (size_t)len))
        return;
    vsnprintf(b->data + b->len, (size_t)len + 1, format, args);
    b->len += (size_t)len;
}

void sl_buf_printf(struct sl_buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    sl_buf_vprintf(b, format, args);
    va_end(args);
}

/* ---- UTF-8 and what a terminal may see ---- */

/* Bytes of the well-formed character at s (1 to 4), 0 when there is none. */
static size_t utf8_char(const unsigned char *s, size_t len, uint32_t *code)
{
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    size_t n;
    uint32_t c, least;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2, c = s[0] & 0x1f, least = 0x80;
    else if ((s[0] & 0xf0) == 0xe0)
        n = 3, c = s[0] & 0x0f, least = 0x800;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4, c = s[0] & 0x07, least = 0x10000;
    else
        return 0;
    if (len < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return n;
}

static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f)         /* C0, DEL, C1             */
        || c == 0x061c || c == 0x200e || c == 0x200f    /* marks of direction      */
        || (c >= 0x202a && c <= 0x202e)                 /* bidi embeddings         */
        || (c >= 0x2066 && c <= 0x2069)                 /* bidi isolates           */
        || c == 0x2028 || c == 0x2029                   /* line, paragraph         */
        || (c >= 0x200b && c <= 0x200d) || (c >= 0x2060 && c <= 0x2064)
        || c == 0x00ad || c == 0xfeff                   /* no width: two names would look the same */
        || (c >= 0xe0000 && c <= 0xe0fff);              /* tags                    */
}

/* Takes one character off s; writes its printable form (at most 12 bytes) to
 * out, its length to *out_len. Returns the bytes taken. */
static size_t printable_char(const unsigned char *s, size_t len, char out[16], size_t *out_len)
{
    uint32_t c;
    const size_t n = utf8_char(s, len, &c);
    int written;
    if (n == 0 || (n == 1 && is_unsafe(c)))
        written = snprintf(out, 16, "\\x%02x", s[0]);
    else if (is_unsafe(c))
        written = snprintf(out, 16, "\\u{%04" PRIx32 "}", c);
    else {
        memcpy(out, s, n);
        written = (int)n;
    }
    *out_len = (size_t)written;
    return n ? n : 1;
}

char *sl_text_printable(const char *s, size_t len, char *out, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < len;) {
        char one[16];
        size_t n;
        i += printable_char((const unsigned char *)s + i, len - i, one, &n);
        if (used + n + 1 > room)
            break;
        memcpy(out + used, one, n);
        used += n;
    }
    if (room)
        out[used] = '\0';
    return out;
}

void sl_buf_printable(struct sl_buf *b, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        char one[16];
        size_t n;
        i += printable_char((const unsigned char *)s + i, len - i, one, &n);
        sl_buf_add(b, one, n);
    }
}

bool sl_text_is_printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c;
        const size_t n = utf8_char((const unsigned char *)s + i, len - i, &c);
        if (n == 0 || is_unsafe(c))
            return false;
        i += n;
    }
    return true;
}

/* Bytes from s on that are below 0x80, eight at a time. */
static size_t ascii_ahead(const char *s, size_t len)
{
    size_t n = 0;
    for (uint64_t eight; len - n >= sizeof eight; n += sizeof eight) {
        memcpy(&eight, s + n, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
    }
    return n;
}

bool sl_text_is_utf8(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c;
        i += ascii_ahead(s + i, len - i);
        if (i == len)
            break;
        const size_t n = utf8_char((const unsigned char *)s + i, len - i, &c);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* ---- numbers for people ---- */

/* n with three significant digits in units of 1000: "12.3 GB". Whole-number
 * arithmetic, so the locale has no say. */
static char *scaled(uint64_t n, const char *const *units, char *out, size_t room)
{
    if (n < 1000) {
        snprintf(out, room, "%" PRIu64 "%s%s", n, units[0][0] ? " " : "", units[0]);
        return out;
    }
    uint64_t unit = 1000;
    unsigned u = 1;
    for (;;) {
        /* the finest of 2, 1, 0 decimals that gives three digits */
        for (int decimals = 2; decimals >= 0; decimals--) {
            const uint64_t step = unit / (decimals == 2 ? 100 : decimals == 1 ? 10 : 1);
            const uint64_t q = n / step + (n % step >= step - n % step ? 1 : 0);
            if (q > 999)
                continue;
            if (decimals == 0)
                snprintf(out, room, "%" PRIu64 " %s", q, units[u]);
            else if (decimals == 1)
                snprintf(out, room, "%" PRIu64 ".%" PRIu64 " %s", q / 10, q % 10, units[u]);
            else
                snprintf(out, room, "%" PRIu64 ".%02" PRIu64 " %s", q / 100, q % 100, units[u]);
            return out;
        }
        unit *= 1000;
        u++;
    }
}

char *sl_text_bytes(uint64_t bytes, char *out, size_t room)
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB", "EB" };
    return scaled(bytes, units, out, room);
}

char *sl_text_time(int64_t seconds, bool utc, char *out, size_t room)
{
    const time_t t = (time_t)seconds;
    struct tm tm;
    if (!(utc ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)) || !strftime(out, room, utc ? "%Y-%m-%dT%H:%M:%SZ" : "%Y-%m-%d %H:%M:%S", &tm))
        *out = '\0';
    return out;
}

char *sl_text_count(uint64_t count, char *out, size_t room)
{
    static const char *const units[] = { "", "K", "M", "B", "T", "P", "E" };
    return scaled(count, units, out, room);
}

char *sl_text_grouped(uint64_t n, char *out, size_t room)
{
    char digits[24], text[32];
    const int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t used = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
    snprintf(out, room, "%s", text);
    return out;
}

char *sl_text_shape(const int64_t *shape, uint32_t ndim, char *out, size_t room)
{
    size_t used = 0;
    if (!room)
        return out;
    int n = snprintf(out, room, "[");
    for (uint32_t d = 0; n >= 0; d++) {
        used += (size_t)n;
        if (used >= room || d >= ndim)
            break;
        n = snprintf(out + used, room - used, "%s%" PRId64, d ? ", " : "", shape[d]);
    }
    if (used < room)
        snprintf(out + used, room - used, "]");
    return out;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool equal_ignoring_case(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (lower(*a) != lower(*b))
            return false;
    return *a == *b;
}

bool sl_text_parse_size(const char *s, uint64_t *bytes)
{
    static const struct { const char *name; uint64_t size; } units[] = {
        { "", 1 },
        { "B", 1 },
        { "K", 1000 },
        { "KB", 1000 },
        { "M", 1000000 },
        { "MB", 1000000 },
        { "G", 1000000000 },
        { "GB", 1000000000 },
        { "T", 1000000000000 },
        { "TB", 1000000000000 },
        { "KiB", UINT64_C(1) << 10 },
        { "MiB", UINT64_C(1) << 20 },
        { "GiB", UINT64_C(1) << 30 },
        { "TiB", UINT64_C(1) << 40 },
    };
    if (!is_digit(*s))
        return false;

    /* whole part, then up to nine decimals of a unit: "1.5GB" */
    uint64_t whole = 0, tenths = 0, scale = 1;
    for (; is_digit(*s); s++)
        if (!sl_mul_u64(whole, 10, &whole) || !sl_add_u64(whole, (uint64_t)(*s - '0'), &whole))
            return false;
    if (*s == '.') {
        s++;
        if (!is_digit(*s))
            return false;
        for (; is_digit(*s); s++) {
            if (scale >= 1000000000)
                return false;
            tenths = 10 * tenths + (uint64_t)(*s - '0');
            scale *= 10;
        }
    }
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        if (!equal_ignoring_case(s, units[u].name))
            continue;
        if (scale > 1 && units[u].size == 1)
            return false;    /* half a byte */
        uint64_t all, part;
        if (!sl_mul_u64(whole, units[u].size, &all))
            return false;
        /* tenths < scale <= 1e9; size / scale first where the product is large */
        part = units[u].size / scale * tenths + units[u].size % scale * tenths / scale;
        if (!sl_add_u64(all, part, &all))
            return false;
        *bytes = all;
        return true;
    }
    return false;
}

bool sl_text_parse_i64(const char *s, int64_t *out)
{
    const bool negative = *s == '-';
    int64_t v = 0;
    s += negative;
    if (!is_digit(*s))
        return false;
    for (; is_digit(*s); s++) {
        const int64_t digit = *s - '0';
        if (!sl_mul_i64(v, 10, &v) || !sl_add_i64(v, negative ? -digit : digit, &v))
            return false;
    }
    if (*s)
        return false;
    *out = v;
    return true;
}

/* ---- globs, order, likeness ---- */

/* One [...] set at p (after the '['): does it hold c? Sets *end behind it; a
 * set that is never closed is no set, and *end is NULL. */
static bool in_set(const char *p, char c, const char **end)
{
    const unsigned char u = (unsigned char)c;
    const bool inverted = *p == '!' || *p == '^';
    bool found = false;
    p += inverted;
    for (bool first = true; *p && (first || *p != ']'); first = false) {
        const unsigned char lo = (unsigned char)*p++;
        unsigned char hi = lo;
        if (p[0] == '-' && p[1] && p[1] != ']') {
            hi = (unsigned char)p[1];
            p += 2;
        }
        if (lo <= u && u <= hi)
            found = true;
    }
    *end = *p == ']' ? p + 1 : NULL;
    return found != inverted;
}

/* Does the pattern's first element match c? *next is set behind the element. */
static bool matches_one(const char *p, char c, const char **next)
{
    if (*p == '?') {
        *next = p + 1;
        return true;
    }
    if (*p == '[') {
        const char *end;
        const bool found = in_set(p + 1, c, &end);
        if (end) {
            *next = end;
            return found;
        }
    }
    if (*p == '\\' && p[1])
        p++;
    *next = p + 1;
    return *p == c;
}

bool sl_text_glob(const char *pattern, const char *s)
{
    const char *p = pattern, *star = NULL, *retry = NULL;
    while (*s) {
        const char *next;
        if (*p == '*') {
            star = ++p;
            retry = s;
        } else if (*p && matches_one(p, *s, &next)) {
            p = next;
            s++;
        } else if (star) {
            p = star;          /* let the last star take one more character */
            s = ++retry;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

int sl_text_natural(const char *a, const char *b)
{
    const char *const whole_a = a, *const whole_b = b;
    while (*a && *b) {
        if (!is_digit(*a) || !is_digit(*b)) {
            if (*a != *b)
                return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
            continue;
        }
        /* two numbers: without leading zeros the longer is larger */
        while (*a == '0')
            a++;
        while (*b == '0')
            b++;
        size_t len_a = 0, len_b = 0;
        while (is_digit(a[len_a]))
            len_a++;
        while (is_digit(b[len_b]))
            len_b++;
        if (len_a != len_b)
            return len_a < len_b ? -1 : 1;
        const int order = memcmp(a, b, len_a);
        if (order)
            return order < 0 ? -1 : 1;
        a += len_a;
        b += len_b;
    }
    if (*a || *b)
        return *a ? 1 : -1;
    const int order = strcmp(whole_a, whole_b);    /* they differ in leading zeros only */
    return order < 0 ? -1 : order > 0;
}

bool sl_text_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool sl_text_ends(const char *s, const char *suffix)
{
    const size_t len = strlen(s), end = strlen(suffix);
    return len >= end && memcmp(s + len - end, suffix, end) == 0;
}

#define DISTANCE_MAX 64

unsigned sl_text_distance(const char *a, const char *b)
{
    /* insert, delete, replace and swap of neighbours cost 1; three rows */
    const size_t len_a = strnlen(a, DISTANCE_MAX), len_b = strnlen(b, DISTANCE_MAX);
    unsigned rows[3][DISTANCE_MAX + 1] = { { 0 } };
    for (size_t j = 0; j <= len_b; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= len_a; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= len_b; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[len_a % 3][len_b];
}

/* ---- words of a shell ------------------------------------------------------------- */

/* $'..', which bash, zsh and ksh know: no terminal sees the bytes themselves. */
static void quote_controls(struct sl_buf *b, const char *word)
{
    sl_buf_str(b, " $'");
    for (; *word; word++) {
        const unsigned char c = (unsigned char)*word;
        if (c < ' ' || c >= 0x7f)
            sl_buf_printf(b, "\\%03o", c);
        else
            sl_buf_printf(b, c == '\'' || c == '\\' ? "\\%c" : "%c", c);
    }
    sl_buf_char(b, '\'');
}

void sl_buf_shell_word(struct sl_buf *b, const char *word)
{
    static const char controls[] = "\001\002\003\004\005\006\007\010\011\012\013\014\015\016\017\020\021\022\023\024"
                                   "\025\026\027\030\031\032\033\034\035\036\037\177";
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    if (*word && strspn(word, plain) == strlen(word)) {
        sl_buf_printf(b, " %s", word);
        return;
    }
    if (strcspn(word, controls) < strlen(word)) {
        quote_controls(b, word);
        return;
    }
    sl_buf_str(b, " '");
    for (; *word; word++) {
        if (*word == '\'')
            sl_buf_str(b, "'\\''");
        else
            sl_buf_char(b, *word);
    }
    sl_buf_char(b, '\'');
}
