/* pickletext.h: the text forms inside pickles (protocol 0), and names of
 * globals. Each function is given one operand, without its line feed, and
 * gives SL_OK, SL_INPUT when it is not what Python writes, or SL_MEMORY. */
#ifndef SL_FORMAT_PICKLETEXT_H
#define SL_FORMAT_PICKLETEXT_H

#include "base/arena.h"

#include <stdbool.h>

/* "-123", "123L" -> two's complement, little-endian, in the arena. */
int sl_pickle_decimal(struct sl_arena *arena, const char *s, size_t len,
                      uint8_t **number, size_t *number_len);
/* "1.5", "1e400", "-inf", "nan"; false: no such thing. */
bool sl_pickle_double(const char *s, size_t len, double *value);
/* raw-unicode-escape (Latin-1 bytes, \uXXXX, \UXXXXXXXX) -> UTF-8. */
int sl_pickle_unicode(struct sl_arena *arena, const char *s, size_t len,
                      char **text, size_t *text_len);
/* A quoted Python 2 string with backslash escapes -> its bytes. */
int sl_pickle_quoted(struct sl_arena *arena, const char *s, size_t len,
                     char **text, size_t *text_len);

/* UTF-8, in which surrogates may stand alone (Python's surrogatepass)? */
bool sl_pickle_is_text(const void *s, size_t len);

/* One code point as UTF-8, surrogates as they are (as Python's surrogatepass
 * has them): at most 4 bytes into out; returns how many. */
size_t sl_pickle_utf8(uint32_t c, char *out);

/* Replaces a module and name by the ones that mean the same today (see
 * sl_pickle_parse). The results point into the input or to constants. */
void sl_pickle_canonical(const char **module, size_t *module_len,
                         const char **name, size_t *name_len);

#endif
