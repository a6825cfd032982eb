/* place.h: what a finding's `where` means: the rank, the file, the tensor in it, where its
 * bytes begin, and which weights of the model it holds. A tensor's name in a rank file counts
 * layers from the stage's first; the weights of the model count them through all stages, and an
 * engineer needs both.
 */
#ifndef SL_LAYOUT_PLACE_H
#define SL_LAYOUT_PLACE_H

#include "layout/layout.h"

/* Fills file, tensor, param, tp, pp, ep and offset of every finding of which `where` tells a place, and
 * {path} and {show} in what to do. layout: NULL when there is none. A finding that has its place already
 * is left as it is. */
void sl_problems_place(struct sl_problems *p, const struct sl_ckpt *c, const struct sl_layout *layout);

#endif
