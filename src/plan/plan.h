/* plan.h: the intersection of two layouts: for every target slice, the source
 * slices of the same param that meet it; each non-empty meeting is one strided
 * copy. The plan is proved before anything is written: every element of every
 * target is covered exactly once, every source slice is used, replicated, or
 * left out by name.
 */
#ifndef SL_PLAN_PLAN_H
#define SL_PLAN_PLAN_H

#include "format/torchwrite.h"
#include "layout/layout.h"

/* One strided copy: count[a] steps on each axis; both sides in elements, relative to element
 * 0 of their tensor in row-major order of its shape. Axes run from the largest target stride
 * to the smallest; axes of one step and axes that continue each other are joined, and there
 * is always one. A source stride may be 0: the same elements again (--pad-with last). */
struct sl_copy {
    uint32_t source;                     /* index into source tensors; UINT32_MAX: zeros (padding) */
    uint32_t target;                     /* index into target tensors */
    uint32_t param;                      /* UINT32_MAX: padding */
    uint32_t ndim;                       /* at least 1 */
    int64_t source_base, target_base;
    struct sl_op op;                     /* the target's elements are this of the source's */
    int64_t count[SL_AXES];
    int64_t source_stride[SL_AXES], target_stride[SL_AXES];
};

struct sl_out_file {
    const char *name;                    /* relative to the target folder */
    uint64_t size;
    const void *head; uint64_t head_len; /* bytes before the tensors (safetensors header) */
    size_t tensors;
    const struct sl_torch_layout *torch; /* a torch file: its records; NULL for safetensors */
    const uint32_t *storage_target;      /* a torch file: target tensor of each storage */
};
/* A file within a file: a torch file of one tensor, as torch_dist has them one after another.
 * Its records follow from the tensor: sl_torch_layout_tensor. */
struct sl_out_item { uint64_t begin, len; };
struct sl_out_extra {                    /* small file: text, or a copy of `from` */
    const char *name; const char *from; const void *bytes; uint64_t len;
};

/* What the target does not get: a tensor, some rows of one, or a whole param. */
struct sl_plan_left { const char *name, *where, *why; uint64_t bytes; };

struct sl_conversion {
    struct sl_arena arena;
    struct sl_ckpt *ckpt; const struct sl_model *model;
    struct sl_layout source, target;
    struct sl_tensor *targets;           size_t target_count;  /* file, offset filled in */
    struct sl_copy *copies;              size_t copy_count;    /* by target, then target_base; owned */
    size_t *target_first;                /* target_count + 1; owned */
    struct sl_out_file *files;           size_t file_count;
    const struct sl_out_item *items;     /* torch_dist: by target; NULL */
    struct sl_out_extra *extras;         size_t extra_count;
    struct sl_plan_left *left_out;       size_t left_out_count;
    struct sl_problems notes;
    uint64_t read_bytes, write_bytes;
    bool single_file;                    /* the target is one file, not a folder */
    bool pad_last;
    char hash[33];                       /* XXH3-128 of everything that decides the bytes */
    const char *proof;
    const unsigned char *source_use;     /* by source tensor: 0 it holds no weight, 1 it holds some, 2 it is read */
};

struct sl_want {                         /* a checked form of struct sl_plan_options */
    enum sl_dialect dialect;
    enum sl_dtype dtype;                 /* UNKNOWN: keep */
    uint64_t max_shard_size;
    const char *hf_config;
    struct sl_target_spec spec;
    bool pad_last;
    enum sl_out { SL_OUT_SAFETENSORS, SL_OUT_BIN, SL_OUT_PT, SL_OUT_MEGATRON, SL_OUT_DIST } out;
    int64_t iteration;                   /* Megatron: -1: the source's, else release */
    bool release;
    int32_t dist_files;                  /* torch_dist: .distcp files, 0: by size */
    int64_t vocab_divisor;               /* Megatron: make_vocab_size_divisible_by */
};

/* Plans and proves the conversion of c. SL_INPUT when rows are missing: names param, rows, and
 * the rank that should hold them; SL_USAGE when something must be stated (model->missing) or
 * sizes do not divide; SL_UNSUPPORTED otherwise. *out borrows c and m. */
int sl_conversion_make(struct sl_ckpt *c, const struct sl_model *m, const struct sl_want *want,
                       struct sl_conversion **out, struct sl_error *err);
void sl_conversion_free(struct sl_conversion *p);

/* deal.c: which part (from 1) of `parts` writes each output file; part_of_file has file_count entries. The same
 * on every machine. */
int sl_conversion_deal(const struct sl_conversion *p, uint32_t parts, uint32_t *part_of_file, struct sl_error *err);
/* One part as a plan of its own, without the files that belong to the whole (extras): its targets and files
 * are numbered anew. It borrows from p; free it with sl_conversion_part_free. */
int sl_conversion_part(const struct sl_conversion *p, uint32_t part, uint32_t parts, struct sl_conversion *out, struct sl_error *err);
void sl_conversion_part_free(struct sl_conversion *part);
/* The hash that such a plan has. */
void sl_conversion_part_hash(const struct sl_conversion *p, uint32_t part, uint32_t parts, char hash[33]);

/* The copies that make `target` of `source`, which have the same params in the same order.
 * Padding of the target is zeros, or with pad_last the last row of its param. *copies and
 * *target_first (tensor_count + 1 entries) are malloc'ed. SL_UNSUPPORTED when the target has
 * slices of a param, but not of all of it. What the source does not hold is not copied: see
 * the proofs. */
int sl_intersect(const struct sl_layout *source, const struct sl_layout *target, bool pad_last,
                 struct sl_copy **copies, size_t *copy_count, size_t **target_first, struct sl_error *err);

/* Copies between two layouts of the same params (verify, diff): for every param of a, the
 * boxes of b that meet it. Params only one side has, or of other shapes, are listed. */
struct sl_comparison {
    struct sl_copy *copies; size_t copy_count;           /* source: a, target: b; by param */
    const size_t *param_first;                           /* by param of a, count + 1 */
    const uint32_t *only_a; size_t only_a_count;
    const uint32_t *only_b; size_t only_b_count;         /* indices into b's params */
    const uint32_t *shape_differs; size_t shape_differs_count;
};
int sl_comparison_make(const struct sl_layout *a, const struct sl_layout *b, struct sl_arena *arena,
                       struct sl_comparison *out, struct sl_error *err);

/* Is every element of every target tensor covered exactly once by copies? And is every param
 * of `source` held completely? On failure err names the rows. Also used by tests with damaged
 * plans. */
int sl_prove_coverage(const struct sl_layout *target, const struct sl_copy *copies, size_t copy_count,
                      const size_t *target_first, struct sl_error *err);
int sl_prove_source(const struct sl_layout *source, const struct sl_model *m, const struct sl_ckpt *c,
                    struct sl_error *err);

/* Copies broken into blocks that are axis-aligned boxes in both tensors, as large as they can
 * be; calls give() for each in target order, until it does not return 0, and returns that.
 * source may be NULL for zeros: its box is empty then. Tensors of more than 8 axes:
 * SL_UNSUPPORTED. */
struct sl_block { uint32_t source, target, param;
                  int64_t source_lo[8], source_hi[8], target_lo[8], target_hi[8];
                  int8_t target_axis[8]; };          /* of each source axis: the target axis that it runs along;
                                                        -1: the box is one step wide there, or there is no source */
int sl_copy_blocks(const struct sl_copy *copy, const struct sl_tensor *source, const struct sl_tensor *target,
                   int (*give)(void *arg, const struct sl_block *block), void *arg);

#endif
