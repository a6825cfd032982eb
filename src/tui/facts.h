/* facts.h: what the checkpoint is, as label and text, for the overview. */
#ifndef SL_TUI_FACTS_H
#define SL_TUI_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app;
struct fact { const char *label; char text[160]; };
#define MOST_FACTS 16

/* Fills facts; returns how many. The first half belongs to the model, the
 * second to the files; *half tells where. */
size_t facts_of(const struct app *app, struct fact *facts, size_t *half);
bool config_int(const struct app *app, const char *key, int64_t *out);

#endif
