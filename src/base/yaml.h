/* yaml.h: YAML files (run files, batches) into sl_value, through libyaml.
 *
 * The plain part of YAML 1.1 that run files need: mappings with plain keys,
 * sequences, scalars. Unquoted scalars become null, bool, int or float where
 * they look like one (core schema: true/false, null/~, 12, 1.5e-5), else text.
 * Anchors, aliases, tags and a second document are refused: a run file says what
 * it says. Duplicate keys are refused.
 */
#ifndef SL_BASE_YAML_H
#define SL_BASE_YAML_H

#include <shardlens/types.h>

#include <stdio.h>

struct sl_arena;

/* Reads and parses a file of at most limit bytes; JSON is told by its first character
 * ({ or [) and goes to json.h. SL_INPUT says line and column. */
int sl_yaml_load(const char *path, uint64_t limit, struct sl_arena *arena,
                 const struct sl_value **value, struct sl_error *err);
/* The same from a stream, which is read to its end; where names it in errors. */
int sl_yaml_stream(FILE *in, const char *where, uint64_t limit, struct sl_arena *arena,
                   const struct sl_value **value, struct sl_error *err);
int sl_yaml_parse(const char *text, size_t len, const char *where, struct sl_arena *arena,
                  const struct sl_value **value, struct sl_error *err);

#endif
