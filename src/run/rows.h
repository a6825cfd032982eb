/* rows.h: the rows of a weight, one after the other, wherever they are stored. A row is all of
 * the last axis; only weights whose rows are stored whole have them here (those that are cut over
 * ranks by columns have not).
 *
 * Private to the room.
 */
#ifndef SL_RUN_ROWS_H
#define SL_RUN_ROWS_H

#include "layout/layout.h"

/* One row: its number in the param (the axes before the last in row-major order), the element of
 * the tensor that it begins at, its bytes. */
struct sl_row { uint64_t row, columns, element; uint32_t tensor; enum sl_dtype dtype; const void *bytes; };
typedef int sl_row_give(void *arg, const struct sl_row *row, struct sl_error *err);

/* Rows of the param, 0 where it has none in the sense above; columns are set too. */
uint64_t sl_rows_count(const struct sl_layout *l, uint32_t param, uint64_t *columns);
/* Gives every row, those that several ranks hold several times. Of a param without rows, none. */
int sl_rows_each(struct sl_ckpt *c, const struct sl_layout *l, uint32_t param, sl_row_give *give, void *arg, struct sl_error *err);

#endif
