/* stscan.h: the small part of JSON that a safetensors header is made of.
 *
 * Numbers are whole and unsigned and keep all 64 bits; strings are checked and
 * decoded; positions are kept for messages. A scanner that has failed stays
 * failed and returns false from then on, with *err filled once. */
#ifndef SL_FORMAT_STSCAN_H
#define SL_FORMAT_STSCAN_H

#include "base/arena.h"
#include <shardlens/types.h>

struct sl_scan {
    const char *text;
    size_t len, at;
    const char *where;          /* file, for messages */
    struct sl_arena *arena;
    struct sl_error *err;
    int code;                   /* SL_OK until something was wrong */
};

bool sl_scan_fail(struct sl_scan *s, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));     /* always false */
/* The next character that is no blank, without taking it; 0 at the end. */
char sl_scan_peek(struct sl_scan *s);
/* Takes the character c, after blanks. */
bool sl_scan_take(struct sl_scan *s, char c);
/* After an item of a list or object: *more, or its end `close` was taken. */
bool sl_scan_more(struct sl_scan *s, char close, bool *more);
/* A string, decoded, NUL terminated besides; without NUL inside. In the arena. */
bool sl_scan_string(struct sl_scan *s, const char **text, size_t *len);
/* A whole number from 0 to 2^64-1, without sign, fraction, exponent, leading 0. */
bool sl_scan_number(struct sl_scan *s, uint64_t *number);
bool sl_scan_null(struct sl_scan *s);
/* Any value, at most 4 levels deep. */
bool sl_scan_skip(struct sl_scan *s);

#endif
