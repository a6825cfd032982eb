/* pickletext.c: text operands of protocol 0, and the spellings of names.
 *
 * Source   CPython, Lib/pickle.py (decode_long, load_string),
 *          Lib/_compat_pickle.py (Python 2 names), Python's lexical rules for
 *          string escapes.
 */
#include "format/pickletext.h"

#include "base/text.h"
#include <shardlens/types.h>

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* --- numbers ------------------------------------------------------------ */

/* number = number * factor + digit over 32-bit limbs, lowest first. */
static void limbs_push(uint32_t *limbs, size_t *count, uint32_t factor, uint32_t digit)
{
    uint64_t carry = digit;
    for (size_t i = 0; i < *count; i++) {
        carry += (uint64_t)limbs[i] * factor;
        limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry)
        limbs[(*count)++] = (uint32_t)carry;
}

static void limbs_negate(uint32_t *limbs, size_t count)
{
    uint64_t carry = 1;
    for (size_t i = 0; i < count; i++) {
        carry += (uint32_t)~limbs[i];
        limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static void trim(const char **s, size_t *len)
{
    while (*len && is_blank((*s)[0])) {
        (*s)++;
        (*len)--;
    }
    while (*len && is_blank((*s)[*len - 1]))
        (*len)--;
}

int sl_pickle_decimal(struct sl_arena *arena, const char *s, size_t len,
                      uint8_t **number, size_t *number_len)
{
    trim(&s, &len);
    if (len && s[len - 1] == 'L')
        len--;
    bool is_negative = len && s[0] == '-';
    if (len && (s[0] == '-' || s[0] == '+')) {
        s++;
        len--;
    }
    if (!len)
        return SL_INPUT;
    size_t room = len / 9 + 2;          /* 9 digits fit in a limb; one more for the sign */
    uint32_t *limbs = SL_ARENA_NEW(arena, uint32_t, room);
    if (!limbs)
        return SL_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < len;) {
        uint32_t factor = 1, digit = 0;
        for (; i < len && factor < 1000000000; i++, factor *= 10) {
            if (s[i] < '0' || s[i] > '9')
                return SL_INPUT;
            digit = digit * 10 + (uint32_t)(s[i] - '0');
        }
        limbs_push(limbs, &count, factor, digit);
    }
    count++;                            /* a zero limb on top holds the sign */
    if (is_negative)
        limbs_negate(limbs, count);
    uint8_t *bytes = (uint8_t *)limbs;  /* each limb is read before its bytes are set */
    for (size_t i = 0; i < count; i++) {
        uint32_t limb = limbs[i];
        for (size_t b = 0; b < 4; b++)
            bytes[4 * i + b] = (uint8_t)(limb >> (8 * b));
    }
    *number = bytes;
    *number_len = 4 * count;
    return SL_OK;
}

bool sl_pickle_double(const char *s, size_t len, double *value)
{
    char text[512];
    trim(&s, &len);
    if (!len || len >= sizeof text)
        return false;
    for (size_t i = 0; i < len; i++)    /* strtod also knows hexadecimal and nan(...) */
        if (!s[i] || !strchr("0123456789+-.eEinfatyINFATY", s[i]))
            return false;
    memcpy(text, s, len);
    text[len] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return false;
    char *end;
    *value = strtod_l(text, &end, c);   /* the screen's locale may have a comma */
    freelocale(c);
    return *end == 0;
}

/* --- text --------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool hex_number(const char *s, size_t len, size_t digits, uint32_t *value)
{
    if (len < digits)
        return false;
    *value = 0;
    for (size_t i = 0; i < digits; i++) {
        int d = hex_digit(s[i]);
        if (d < 0)
            return false;
        *value = *value << 4 | (uint32_t)d;
    }
    return true;
}

size_t sl_pickle_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Length of the surrogate at p, in the three bytes that UTF-8 does not allow. */
static size_t surrogate_len(const uint8_t *p, size_t len)
{
    return len >= 3 && p[0] == 0xed && (p[1] & 0xe0) == 0xa0 && (p[2] & 0xc0) == 0x80 ? 3 : 0;
}

bool sl_pickle_is_text(const void *s, size_t len)
{
    const uint8_t *p = s;
    if (sl_text_is_utf8(s, len))
        return true;
    size_t from = 0;                      /* pieces between surrogates must be UTF-8 */
    for (size_t i = 0; i < len;) {
        size_t n = surrogate_len(p + i, len - i);
        if (n && !sl_text_is_utf8((const char *)p + from, i - from))
            return false;
        i += n ? n : 1;
        if (n)
            from = i;
    }
    return sl_text_is_utf8((const char *)p + from, len - from);
}

int sl_pickle_unicode(struct sl_arena *arena, const char *s, size_t len,
                      char **text, size_t *text_len)
{
    char *out = SL_ARENA_NEW(arena, char, 2 * len + 1);  /* Latin-1 doubles at most */
    if (!out)
        return SL_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c = (uint8_t)s[i];
        size_t digits = 0;
        if (s[i] == '\\' && i + 1 < len)
            digits = s[i + 1] == 'u' ? 4 : s[i + 1] == 'U' ? 8 : 0;
        if (digits && (!hex_number(s + i + 2, len - i - 2, digits, &c) || c > 0x10ffff))
            return SL_INPUT;
        n += sl_pickle_utf8(c, out + n);
        i += digits ? digits + 2 : 1;
    }
    *text = out;
    *text_len = n;
    return SL_OK;
}

/* One escape at s (after the backslash); returns the characters it takes, 0
 * when it is none; *count bytes are added to out. */
static size_t unescape(const char *s, size_t len, char *out, size_t *count)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *simple = s[0] ? strchr(from, s[0]) : NULL;
    uint32_t value;
    *count = 1;
    if (simple) {
        out[0] = to[simple - from];
        return 1;
    }
    if (s[0] == 'x') {
        if (!hex_number(s + 1, len - 1, 2, &value))
            return 0;
        out[0] = (char)value;
        return 3;
    }
    if (s[0] >= '0' && s[0] <= '7') {
        size_t n = 0;
        for (value = 0; n < 3 && n < len && s[n] >= '0' && s[n] <= '7'; n++)
            value = value * 8 + (uint32_t)(s[n] - '0');
        out[0] = (char)value;
        return n;
    }
    out[0] = '\\';                       /* an unknown escape stands for itself */
    out[1] = s[0];
    *count = 2;
    return 1;
}

int sl_pickle_quoted(struct sl_arena *arena, const char *s, size_t len,
                     char **text, size_t *text_len)
{
    trim(&s, &len);
    if (len < 2 || (s[0] != '\'' && s[0] != '"') || s[len - 1] != s[0])
        return SL_INPUT;
    s++;
    len -= 2;
    char *out = SL_ARENA_NEW(arena, char, len + 1);
    if (!out)
        return SL_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (s[i] != '\\') {
            out[n++] = s[i++];
            continue;
        }
        if (++i == len)
            return SL_INPUT;
        size_t count, used = unescape(s + i, len - i, out + n, &count);
        if (!used)
            return SL_INPUT;
        i += used;
        n += count;
    }
    *text = out;
    *text_len = n;
    return SL_OK;
}

/* --- names -------------------------------------------------------------- */

struct module_row { const char *old, *now; };
static const struct module_row modules[] = {
    {"__builtin__", "builtins"},
    {"exceptions", "builtins"},
    {"copy_reg", "copyreg"},
    {"_io", "io"},
    {"numpy._core", "numpy.core"},
    {"numpy._core.multiarray", "numpy.core.multiarray"},
    {"numpy._core.numeric", "numpy.core.numeric"},
    {"pathlib._local", "pathlib"},
    {"torch.tensor", "torch._tensor"},
};

struct name_row { const char *module, *old, *now; };
static const struct name_row names[] = {
    {"builtins", "long", "int"},
    {"builtins", "unicode", "str"},
    {"builtins", "xrange", "range"},
    {"torch._utils", "_rebuild_xla_tensor", "_rebuild_device_tensor_from_numpy"},
};

static bool is_text(const char *s, size_t len, const char *text)
{
    return strlen(text) == len && !memcmp(s, text, len);
}

static void canonical_module(const char **module, size_t *len)
{
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        if (is_text(*module, *len, modules[i].old)) {
            *module = modules[i].now;
            *len = strlen(*module);
            return;
        }
    }
}

void sl_pickle_canonical(const char **module, size_t *module_len,
                         const char **name, size_t *name_len)
{
    canonical_module(module, module_len);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_text(*module, *module_len, names[i].module) &&
            is_text(*name, *name_len, names[i].old)) {
            *name = names[i].now;
            *name_len = strlen(*name);
            return;
        }
    }
}
