/* op.h: what is done to elements besides moving and casting them.
 *
 * A slice says that stored elements are its op of the elements of the param:
 *
 *     stored = param             SL_OP_NONE
 *     stored = param + value     SL_OP_ADD     (norm weights of a model that computes
 *                                               with 1 + w, stored by one that does not)
 *
 * Between a slice of the source and one of the target that op is undone and this one is
 * done. Only the difference counts, so a conversion between two sides that store a
 * weight alike moves bytes, whatever their form is.
 *
 * Arithmetic  target = round(fp32(source) + fp32(value)): one fp32 addition, rounded to
 *             nearest even as fp32, then to the target's type. With fp64 on either side
 *             the addition is fp64's. That is what torch computes for `w + 1` of a bf16
 *             or fp32 tensor (the operands are widened to fp32), then `.to(dtype)`.
 *             Source: Megatron-Bridge models/conversion/param_mapping.py
 *             (RMSNorm2ZeroCenteredRMSNormMapping: weights.data - 1 and + 1)
 */
#ifndef SL_LAYOUT_OP_H
#define SL_LAYOUT_OP_H

#include <shardlens/types.h>

enum { SL_OP_NONE, SL_OP_ADD };

struct sl_op {
    int64_t kind;                        /* SL_OP_*; 64 bits, so that copies have no gaps (they are hashed) */
    double value;                        /* ADD: what is added */
};

/* What makes elements of `to` of elements of `from`, two slices of one param. */
struct sl_op sl_op_between(struct sl_op from, struct sl_op to);
struct sl_op sl_op_inverse(struct sl_op op);
static inline bool sl_op_same(struct sl_op a, struct sl_op b)
{
    return a.kind == b.kind && !(a.value < b.value) && !(a.value > b.value);
}

/* "add 1", "add -1"; "" for none. Returns out. */
const char *sl_op_text(struct sl_op op, char *out, size_t room);

/* Can the op be done between these types (fp64, fp32, fp16, bf16)? */
bool sl_op_can(struct sl_op op, enum sl_dtype from, enum sl_dtype to);
/* Does it to count elements: in and out do not overlap. False where it can't be. */
bool sl_op_apply(struct sl_op op, enum sl_dtype from, const void *in, enum sl_dtype to, void *out, size_t count);

#endif
