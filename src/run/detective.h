/* detective.h: what weights themselves show of how their rows are ordered, where args say nothing or
 * may be wrong. Never a proof: trained weights have habits, and these are looked for.
 *
 *   qkv       In a fused matrix the heads of q, k and v differ: rows of v are all about equally long, rows
 *             of q and k are not (rotary pairs of low frequency grow, others shrink). Each head gets two
 *             numbers, the mean and the spread of the logarithm of its rows' lengths. The order whose labels
 *             explain more of their variance over heads is the likelier one.
 *   gate-up   The function of a gated layer does not change when a row of `up` and its column of `down`
 *             change sign, so rows of `up` have no common direction: the length of their sum is what it is
 *             for random signs, sqrt(rows) rows. Rows of `gate` have one.
 *   rope      The two rows that a rotary embedding turns into each other have nearly the same length. Rows
 *             i and i + head/2 in one order, 2i and 2i + 1 in the other.
 *
 * Checked against a trained model of 135 million weights (SmolLM2): of the twelve layers that are looked at, all
 * say the right thing for qkv and gate-up, 11 for rope; random weights say nothing. What models of other kinds
 * show is not known.
 */
#ifndef SL_RUN_DETECTIVE_H
#define SL_RUN_DETECTIVE_H

#include "layout/layout.h"
#include <shardlens/shardlens.h>

#define SL_LAYOUT_QUESTIONS 3

/* Looks at no more than a dozen layers. Texts live in the arena. cancel may be NULL. */
int sl_layout_look_at(struct sl_ckpt *c, const struct sl_layout *l, const struct sl_model *m, const sl_atomic_int *cancel,
                      struct sl_arena *arena, struct sl_layout_finding out[SL_LAYOUT_QUESTIONS], struct sl_error *err);

#endif
