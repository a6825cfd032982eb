/* order.h: two checkpoints of equal shapes and unequal values: are all rows there, in another order,
 * and which rule of layout makes one order of the other? By hashes of rows, so an answer is
 * as sure as the hash (XXH3, 64 bits) of every row of every layer that is counted.
 */
#ifndef SL_RUN_ORDER_H
#define SL_RUN_ORDER_H

#include "layout/layout.h"
#include <shardlens/shardlens.h>

/* How many layers each rule explains; see struct sl_order_finding. Fills at most SL_ORDERS of *out. */
#define SL_ORDERS 4
int sl_orders_find(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                   struct sl_order_finding out[SL_ORDERS], size_t *count, struct sl_error *err);

#endif
