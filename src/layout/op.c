/* op.c: see op.h. */
#include "layout/op.h"

#include "base/dtype.h"
#include "base/num.h"

#include <stdio.h>

#define BLOCK 512u                       /* elements widened at a time */

struct sl_op sl_op_between(struct sl_op from, struct sl_op to)
{
    const double value = (to.kind == SL_OP_ADD ? to.value : 0) - (from.kind == SL_OP_ADD ? from.value : 0);
    const bool nothing = !(value < 0) && !(value > 0);
    return nothing ? (struct sl_op){ SL_OP_NONE, 0 } : (struct sl_op){ SL_OP_ADD, value };
}

struct sl_op sl_op_inverse(struct sl_op op)
{
    return sl_op_between(op, (struct sl_op){ SL_OP_NONE, 0 });
}

const char *sl_op_text(struct sl_op op, char *out, size_t room)
{
    if (room)
        *out = 0;
    if (op.kind == SL_OP_ADD)
        snprintf(out, room, "add %g", op.value);
    return out;
}

static bool is_plain_float(enum sl_dtype d)
{
    return d == SL_F64 || d == SL_F32 || d == SL_F16 || d == SL_BF16;
}

bool sl_op_can(struct sl_op op, enum sl_dtype from, enum sl_dtype to)
{
    return op.kind == SL_OP_NONE || (is_plain_float(from) && is_plain_float(to));
}

static void add_f32(double value, enum sl_dtype from, const char *in, enum sl_dtype to, char *out, size_t count)
{
    float x[BLOCK];
    const float c = (float)value;
    sl_dtype_cast(from, in, SL_F32, x, count);
    for (size_t i = 0; i < count; i++)
        x[i] += c;
    sl_dtype_cast(SL_F32, x, to, out, count);
}

static void add_f64(double value, enum sl_dtype from, const char *in, enum sl_dtype to, char *out, size_t count)
{
    double x[BLOCK];
    sl_dtype_cast(from, in, SL_F64, x, count);
    for (size_t i = 0; i < count; i++)
        x[i] += value;
    sl_dtype_cast(SL_F64, x, to, out, count);
}

bool sl_op_apply(struct sl_op op, enum sl_dtype from, const void *in, enum sl_dtype to, void *out, size_t count)
{
    const bool wide = from == SL_F64 || to == SL_F64;
    if (op.kind == SL_OP_NONE)
        return sl_dtype_cast(from, in, to, out, count);
    if (!sl_op_can(op, from, to))
        return false;
    for (size_t i = 0; i < count; i += BLOCK) {
        const size_t n = (size_t)sl_min_u64(BLOCK, count - i);
        (wide ? add_f64 : add_f32)(op.value, from, (const char *)in + i * sl_dtype_size(from), to,
                                   (char *)out + i * sl_dtype_size(to), n);
    }
    return true;
}
