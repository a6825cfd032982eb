/* map.h: the map language: one line of a family file says how a stored array is
 * made of the axes of params, and is compiled here into slices.
 *
 *   map     = item .. [ name ":" item .. ] [ "as" length .. ]
 *                                               one item for each stored axis
 *   item    = factor | "(" item .. ")" | "[" alt { "|" alt } "]"
 *   alt     = name ":" item ..                  may be empty: one element
 *   factor  = expression without blanks | "*" expression
 *   name    = a param, or an ending of its name that no other has, or "-": padding
 *
 * A stored axis counts in mixed radix: its factors are digits, the last one the
 * fastest; alternatives lie one after the other.
 *
 *     (group [attn.q: q_per_group head | attn.k: head | attn.v: head]) hidden
 *
 *     row  = group * (q_per_group + 2) * head
 *          + ( q: q_per_group * head + head
 *            | k: Q * head               + head      Q, the number of q_per_group
 *            | v: (Q + 1) * head         + head )
 *
 * On the way to each alternative every factor must be one of these:
 *
 *   head        an axis of the param, whole
 *   ffn/tp      the inner part of axis ffn: ffn = tp (outer) x ffn/tp (inner); with
 *   tp          its outer part, the divisor, as a factor of its own, before or after.
 *               More divisors go from the outermost in: a/b/c needs factors b and c.
 *   layer       the number in "layers.{layer}.." or "experts.{expert}..": one param
 *   expert      for each value (so axes of params have other names: "num_experts")
 *   *n          a repeat: the same elements are stored n times; or a divisor "n"
 *   1           nothing
 *
 * and all axes of the param must come up once. Under the name "-" any factor will do.
 *
 * "as" is for arrays that are stored under another shape than they are made in, element by
 * element in the same row-major order: lengths of the axes of the stored tensor, one of them
 * "*", which is what the others leave. Megatron's grouped experts are
 *
 *     expert hidden (etp [experts.{expert}.gate: ffn/etp | experts.{expert}.up: ffn/etp]) as hidden *
 *
 * Errors     SL_USAGE; `where` is the map, the message names factor, param and numbers
 */
#ifndef SL_LAYOUT_MAP_H
#define SL_LAYOUT_MAP_H

#include "base/arena.h"
#include "layout/op.h"
#include <shardlens/types.h>

#define SL_AXES 6                        /* most axes of a param, and of a stored array */
#define SL_DIGITS 16                     /* most factors on the way to one alternative */

/* What a map is compiled against. */
struct sl_map_env {
    /* Value of an expression ("ffn/tp", "head", "2"). */
    int (*dim)(void *arg, const char *text, size_t len, int64_t *value, struct sl_error *err);
    /* The param a name stands for: returns its full name pattern and sets its axes
     * ("group q_per_group head hidden"); NULL with err filled when there is none. */
    const char *(*param)(void *arg, const char *name, size_t len, const char **axes,
                         struct sl_error *err);
    void *arg;
};

enum { SL_DIGIT_NONE = -1, SL_DIGIT_LAYER = -2, SL_DIGIT_EXPERT = -3, SL_DIGIT_REPEAT = -4 };

struct sl_digit {
    uint32_t stored;                     /* axis of the stored array it is on */
    int64_t count;                       /* values: 0 .. count - 1 */
    int64_t step;                        /* of the stored index, from one value to the next */
    int32_t axis;                        /* axis of the param, or SL_DIGIT_* */
    int64_t weight;                      /* of that axis' index, from one value to the next */
};
struct sl_part {                         /* where the elements of one param lie */
    const char *param;                   /* name pattern; NULL: padding */
    uint32_t ndim;                       /* axes of the param */
    uint32_t digit_count;
    struct sl_digit digits[SL_DIGITS];   /* by stored axis, slowest first */
    int64_t first[SL_AXES];              /* on each stored axis, the index at all digits 0 */
};
struct sl_stored {                       /* a compiled map */
    const char *map;
    uint32_t ndim;
    int64_t shape[SL_AXES];              /* of the whole array */
    const struct sl_part *parts;
    size_t part_count;
    uint32_t as_ndim;                    /* 0: the tensor has the axes of the array */
    int64_t as[SL_AXES];                 /* lengths of the tensor's axes; -1: the rest */
};

int sl_map_compile(const char *map, const struct sl_map_env *env, struct sl_arena *arena,
                   struct sl_stored *out, struct sl_error *err);

/* ---- slices -------------------------------------------------------------- */

/* Element at index x of the param, lo <= x < hi, is element
 * base + sum_a (x[a] - lo[a]) * stride[a] of the tensor (see layout.h). */
struct sl_slice {
    uint32_t param;                      /* index into layout params */
    uint32_t tensor;                     /* index into layout tensors */
    int64_t base;                        /* elements */
    int64_t lo[SL_AXES], hi[SL_AXES];
    int64_t stride[SL_AXES];             /* elements */
    struct sl_op op;                     /* the stored elements are this of the param's (op.h) */
};
/* A run of elements that hold no weight (vocabulary padding). */
struct sl_padding { uint32_t tensor; int64_t base, count; };

/* Grows; the arrays are malloc'ed. A zeroed struct is an empty list. */
struct sl_slices {
    struct sl_slice *items;              size_t count, room;
    struct sl_padding *padding;          size_t padding_count, padding_room;
};
void sl_slices_free(struct sl_slices *s);
int sl_slices_add(struct sl_slices *s, const struct sl_slice *slice, struct sl_error *err);

/* Which params the names of a stored array stand for. */
struct sl_map_names {
    /* Index of the param with this pattern for a layer and expert (-1: none of the tensor);
     * -1 when there is no such param: SL_INPUT then. */
    int64_t (*find)(void *arg, const char *pattern, int32_t layer, int32_t expert);
    void *arg;
    int32_t layer, expert;               /* of {layer}, {expert} in the tensor's name; for maps
                                            with these factors: number of their value 0 */
    uint32_t tensor;
    struct sl_op op;                     /* of all its slices */
};

/* Appends the slices of the box [lo, hi) of a stored array: of a tensor that holds just these
 * elements, as a row-major array of shape hi - lo. A box may begin and end anywhere, also in
 * the middle of a group or a head. */
int sl_stored_slices(const struct sl_stored *stored, const int64_t *lo, const int64_t *hi,
                     const struct sl_map_names *names, struct sl_slices *out, struct sl_error *err);

/* Narrows [lo, hi) to block `index` of `count` equal ones along an axis. False when the length
 * does not divide. */
bool sl_block_of(int64_t *lo, int64_t *hi, int32_t index, int32_t count);

/* Shape of the tensor that holds this box. False when "as" does not divide it. */
bool sl_stored_shape(const struct sl_stored *stored, const int64_t *lo, const int64_t *hi,
                     int64_t shape[SL_AXES], uint32_t *ndim);

#endif
