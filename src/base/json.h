/* json.h: JSON in (strict, into sl_value) and out (a stream).
 *
 * Reading goes through cJSON, with what cJSON lets through refused before and
 * after it: invalid UTF-8, control bytes, \u0000, a byte order mark, numbers
 * that are no JSON, duplicate names, anything after the document.
 */
#ifndef SL_BASE_JSON_H
#define SL_BASE_JSON_H

#include <shardlens/types.h>
#include "base/text.h"

struct sl_arena;

/* `where` names the text in errors. SL_INPUT when it is not JSON. Whole
 * numbers up to 2^53 become INT, all others FLOAT. */
int sl_json_parse(const char *text, size_t len, const char *where, struct sl_arena *arena,
                  const struct sl_value **value, struct sl_error *err);
/* Slurp and parse a file of at most limit bytes. */
int sl_json_load(const char *path, uint64_t limit, struct sl_arena *arena,
                 const struct sl_value **value, struct sl_error *err);

/* Writer: a stream into a buffer. Commas, indentation and escaping are its
 * job. Non-ASCII text is kept as UTF-8; invalid UTF-8, controls, bidi controls
 * become \u escapes. `indent` 0 writes one line. Nesting at most 64 deep. */
struct sl_json {
    struct sl_buf *out;
    int indent;
    int depth;
    bool first[65];
    bool after_key;
};
void sl_json_begin(struct sl_json *j, struct sl_buf *out, int indent);
void sl_json_object(struct sl_json *j);
void sl_json_object_end(struct sl_json *j);
void sl_json_array(struct sl_json *j);
void sl_json_array_end(struct sl_json *j);
void sl_json_key(struct sl_json *j, const char *key);
void sl_json_str(struct sl_json *j, const char *s);       /* NULL writes null */
void sl_json_strn(struct sl_json *j, const char *s, size_t len);
void sl_json_int(struct sl_json *j, int64_t v);
void sl_json_uint(struct sl_json *j, uint64_t v);
void sl_json_double(struct sl_json *j, double v);         /* shortest form that reads
                              back the same, with a '.' or exponent; NaN/Inf: null */
void sl_json_bool(struct sl_json *j, bool v);
void sl_json_null(struct sl_json *j);
void sl_json_value(struct sl_json *j, const struct sl_value *v);
/* key and value in one call */
void sl_json_kstr(struct sl_json *j, const char *key, const char *s);
void sl_json_kint(struct sl_json *j, const char *key, int64_t v);
void sl_json_kuint(struct sl_json *j, const char *key, uint64_t v);
void sl_json_kdouble(struct sl_json *j, const char *key, double v);
void sl_json_kbool(struct sl_json *j, const char *key, bool v);

#endif
