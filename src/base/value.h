/* value.h: building, reading and printing struct sl_value. */
#ifndef SL_BASE_VALUE_H
#define SL_BASE_VALUE_H

#include <shardlens/types.h>

struct sl_arena;
struct sl_buf;

/* The member of a DICT by a string key, NULL when v is NULL, no dict, or has
 * none. The last of equal keys wins, as in Python. */
const struct sl_value *sl_value_get(const struct sl_value *v, const char *key);
/* Reads a number; FLOAT that is whole counts as int; BOOL does not. */
bool sl_value_int(const struct sl_value *v, int64_t *out);
bool sl_value_double(const struct sl_value *v, double *out);   /* INT or FLOAT */
bool sl_value_bool(const struct sl_value *v, bool *out);       /* BOOL only */
const char *sl_value_str(const struct sl_value *v);            /* STR, else NULL */

/* New values in an arena; NULL when memory is out. */
struct sl_value *sl_value_new_int(struct sl_arena *a, int64_t i);
struct sl_value *sl_value_new_ints(struct sl_arena *a, const int64_t *numbers, size_t count);    /* a list */
struct sl_value *sl_value_new_double(struct sl_arena *a, double f);
struct sl_value *sl_value_new_bool(struct sl_arena *a, bool b);
struct sl_value *sl_value_new_str(struct sl_arena *a, const char *s);
struct sl_value *sl_value_new_null(struct sl_arena *a);
/* From the text of --set: true/false/null, integer, float, JSON list, else a string. */
struct sl_value *sl_value_parse(struct sl_arena *a, const char *text);

bool sl_value_equal(const struct sl_value *a, const struct sl_value *b);  /* 1 == 1.0 */
/* One line for people, at most `limit` bytes, nested to a few levels, printable. */
void sl_value_print(const struct sl_value *v, size_t limit, struct sl_buf *out);

#endif
