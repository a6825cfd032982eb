/* text.h: strings: growing buffers, making foreign text printable, numbers
 * for people, globs and natural order. */
#ifndef SL_BASE_TEXT_H
#define SL_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing byte string. A zeroed struct is an empty one; data is NUL
 * terminated whenever it is not NULL. When memory is out, `failed` is set and
 * sticks, and appends do nothing: check it once at the end. */
struct sl_buf {
    char *data;
    size_t len, room;
    bool failed;
};
void sl_buf_free(struct sl_buf *b);
void sl_buf_clear(struct sl_buf *b);                          /* keeps the memory */
void sl_buf_add(struct sl_buf *b, const void *bytes, size_t len);
void sl_buf_str(struct sl_buf *b, const char *s);
void sl_buf_char(struct sl_buf *b, char c);
void sl_buf_printf(struct sl_buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sl_buf_vprintf(struct sl_buf *b, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* Foreign text made safe for a terminal and for one line: C0, DEL, C1 (also as
 * UTF-8), bidi controls, line separators and invalid UTF-8 become \xNN or
 * \u{NNNN}. Writes at most room bytes incl. NUL into out, cutting between
 * characters; returns out. */
char *sl_text_printable(const char *s, size_t len, char *out, size_t room);
/* The same appended to a buffer. */
void sl_buf_printable(struct sl_buf *b, const char *s, size_t len);
/* A blank and the word, quoted so that a shell takes it as one; control bytes as $'\033'. */
void sl_buf_shell_word(struct sl_buf *b, const char *word);
/* Is it already printable as above? */
bool sl_text_is_printable(const char *s, size_t len);
/* Is it valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF)? */
bool sl_text_is_utf8(const char *s, size_t len);

/* "12.3 GB": decimal units, three significant digits, at most 9 characters. */
char *sl_text_bytes(uint64_t bytes, char *out, size_t room);
/* "8.03 B", "434 M": counts of parameters. */
char *sl_text_count(uint64_t count, char *out, size_t room);
/* Seconds since 1970 as "2026-11-24 10:31:02" in the local time zone, or with utc as
 * "2026-11-24T10:31:02Z"; "" where the calendar ends. At most 32 bytes. */
char *sl_text_time(int64_t seconds, bool utc, char *out, size_t room);
/* "1,234,567" */
char *sl_text_grouped(uint64_t n, char *out, size_t room);
/* "[4096, 11008]"; "[]" for a scalar. */
char *sl_text_shape(const int64_t *shape, uint32_t ndim, char *out, size_t room);
/* "5GB" "500MB" "64MiB" "1000": decimal (KB MB GB TB, also K M G T) or binary
 * (KiB MiB GiB TiB) units. False when it is not a size or overflows. */
bool sl_text_parse_size(const char *s, uint64_t *bytes);
/* A whole decimal integer, no blanks, no sign but '-'. */
bool sl_text_parse_i64(const char *s, int64_t *out);

/* Shell-like glob: * ? [abc] [!a-z], and \ to quote; * also matches dots. */
bool sl_text_glob(const char *pattern, const char *s);
/* Natural order: layers.2 before layers.10. As strcmp otherwise. */
int sl_text_natural(const char *a, const char *b);
bool sl_text_starts(const char *s, const char *prefix);
bool sl_text_ends(const char *s, const char *suffix);
/* Edit distance, for "did you mean"; at most 64 characters are looked at. */
unsigned sl_text_distance(const char *a, const char *b);

#endif
