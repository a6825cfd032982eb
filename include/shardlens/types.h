/* types.h: the words that every part of shardlens shares.
 *
 * Plain structs only: what a checkpoint holds, what was found wrong, what a
 * number is worth as evidence. All of them are read-only for callers. Every
 * pointer inside is borrowed from the handle that gave the struct out
 * (struct sl_checkpoint, struct sl_plan, struct sl_job) and is valid until
 * that handle is closed.
 *
 * Units    sizes and offsets are bytes unless the name says elements or rows
 * Shapes   row-major, outermost axis first, as torch prints them
 */
#ifndef SHARDLENS_TYPES_H
#define SHARDLENS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Outcome of a call; the numbers are the exit statuses of the program. */
enum sl_code {
    SL_OK = 0,
    SL_NO = 1,            /* the question's answer is no: differs, has errors */
    SL_USAGE = 2,         /* the caller asked for something that can't be    */
    SL_INPUT = 3,         /* input unreadable, damaged or incomplete         */
    SL_UNSUPPORTED = 4,   /* understood, but not supported                   */
    SL_WRITE = 5,         /* writing failed: no space, no permission, exists */
    SL_MEMORY = 6,        /* out of memory, or of the memory budget          */
    SL_HANGUP = 129,      /* stopped by SIGHUP                               */
    SL_INTERRUPTED = 130, /* stopped on request (SIGINT, cancel)             */
    SL_TERMINATED = 143   /* stopped by SIGTERM                              */
};

/* What is wrong with a file, where the reader of it can tell; who lists damaged files goes by that. */
enum sl_fault {
    SL_FAULT_OTHER = 0,
    SL_FAULT_CUT,         /* it ends before its contents do */
    SL_FAULT_BROKEN,      /* it is as long as it should be, and not what it was */
    SL_FAULT_DENIED       /* this user may not read it */
};

/* One failure, said once, where most is known about it. Printed as
 * "shardlens: WHERE: MESSAGE". `where` is the file (or tensor, or option) it is
 * about and may be "". Both are already printable (sl_text_printable). */
struct sl_error {
    enum sl_code code;
    enum sl_fault fault;  /* of SL_INPUT; the message of a file that is cut or broken begins with that word and ": " */
    char where[512];
    char message[1024];
};

/* Element types. Names, sizes and spellings: sl_dtype_* in src/base/dtype.h. */
enum sl_dtype {
    SL_DTYPE_UNKNOWN = 0,
    SL_F64, SL_F32, SL_F16, SL_BF16,
    SL_I64, SL_I32, SL_I16, SL_I8,
    SL_U64, SL_U32, SL_U16, SL_U8, SL_BOOL,
    SL_F8_E4M3, SL_F8_E5M2, SL_F8_E4M3FNUZ, SL_F8_E5M2FNUZ, SL_F8_E8M0,
    SL_F4_E2M1X2,                    /* two 4-bit floats in a byte */
    SL_C32, SL_C64, SL_C128,
    SL_BITS8, SL_BITS16,             /* torch bits*, quint4x2 and other opaque bytes */
    SL_QINT8, SL_QUINT8, SL_QINT32,
    SL_DTYPE_COUNT
};

enum sl_container {
    SL_CONTAINER_UNKNOWN = 0,
    SL_MEGATRON_TORCH,       /* mp_rank_* folders: "megatron-torch"           */
    SL_MEGATRON_TORCH_DIST,  /* .metadata + .distcp: "megatron-torch-dist"    */
    SL_MEGATRON_ZARR,        /* "megatron-zarr"                               */
    SL_HF_SAFETENSORS,       /* model*.safetensors (+ index): "hf-safetensors" */
    SL_HF_BIN,               /* pytorch_model*.bin: "hf-bin"                  */
    SL_TORCH_DCP,            /* plain torch.distributed.checkpoint            */
    SL_SAFETENSORS,          /* one .safetensors file: "safetensors"          */
    SL_TORCH                 /* one torch file: "torch"                       */
};

/* A JSON-like value: what pickles, config.json and args boil down to. */
enum sl_value_kind {
    SL_VALUE_NULL, SL_VALUE_BOOL, SL_VALUE_INT, SL_VALUE_FLOAT, SL_VALUE_STR,
    SL_VALUE_BYTES, SL_VALUE_LIST, SL_VALUE_DICT,
    SL_VALUE_TENSOR,   /* `i` is an index into the tensors of the torch file  */
    SL_VALUE_OPAQUE    /* an object nobody here understands; `s` describes it */
};
struct sl_value {
    enum sl_value_kind kind;
    const char *type;      /* class of the object it stood for, e.g.
                              "argparse.Namespace", "torch.dtype"; NULL if plain */
    int64_t i;             /* INT, BOOL (0/1), TENSOR                         */
    double f;              /* FLOAT                                           */
    const char *s;         /* STR, BYTES, OPAQUE; NUL terminated besides      */
    size_t len;            /* bytes in s; items of LIST; members of DICT      */
    const struct sl_value *const *items;   /* LIST, DICT: the values          */
    const struct sl_value *const *keys;    /* DICT: the keys, any kind        */
};

/* One stored array: a named box of numbers at one place of one file. A
 * checkpoint in torch_dist has one entry a chunk, all with the same name. */
struct sl_tensor {
    const char *name;       /* name in its state dict, wrapper prefixes kept off:
                               "decoder.layers.0.mlp.linear_fc2.weight"        */
    const char *path;       /* full path in the file: "model.decoder.layers..." */
    enum sl_dtype dtype;
    uint32_t ndim;
    uint32_t flags;         /* SL_TENSOR_* */
    const int64_t *shape;   /* ndim entries */
    const int64_t *stride;  /* ndim entries, elements                          */
    const int64_t *global_shape;  /* ndim: shape of the array this is a chunk of */
    const int64_t *global_offset; /* ndim: where the chunk begins; zeros if whole */
    uint64_t count;         /* elements: product of shape                      */
    uint64_t bytes;         /* count * element size                            */
    uint64_t offset;        /* byte offset of element 0 in the file; meaningless
                               when SL_TENSOR_DEFLATED; in a distributed checkpoint
                               counted from where its item begins: see
                               sl_tensor_place()                               */
    uint64_t storage_begin; /* byte offset of its storage in the file          */
    uint64_t storage_bytes; /* length of that storage                          */
    int32_t storage;        /* number of the storage in its file (shared by views) */
    int32_t file;           /* index into files                                */
    int32_t rank;           /* index into ranks, -1 if the container has none  */
    int32_t chunk;          /* virtual pipeline chunk (model0, model1, ..), 0  */
    const struct sl_tensor *scales;  /* SL_TENSOR_SCALED: a factor for each block, NULL */
    enum sl_dtype stored;   /* SL_TENSOR_SCALED: of the bytes in the file; dtype is
                               that of the products. Else UNKNOWN              */
    int64_t block[2];       /* SL_TENSOR_SCALED: rows and columns of a block   */
};
#define SL_TENSOR_DEFLATED   1u  /* the zip record is compressed               */
#define SL_TENSOR_BIG_ENDIAN 2u  /* bytes of each element are swapped          */
#define SL_TENSOR_EXTRA      4u  /* _extra_state: bookkeeping, not a weight    */
#define SL_TENSOR_OPTIMIZER  8u  /* optimizer or rng state, not a weight       */
#define SL_TENSOR_STRIDED   16u  /* not contiguous in row-major order          */
#define SL_TENSOR_NO_DATA   32u  /* nothing in the file to read (meta tensor)  */
#define SL_TENSOR_SCALED    64u  /* read as products with factors of blocks    */

struct sl_file_info {
    const char *path;       /* as opened: root joined with name                */
    const char *name;       /* relative to the checkpoint's folder             */
    uint64_t size;          /* bytes                                           */
    uint64_t tensors;       /* tensors that lie in it                          */
    int64_t mtime_ns;
};

enum sl_rank_status { SL_RANK_OK, SL_RANK_MISSING, SL_RANK_DAMAGED, SL_RANK_ODD };
struct sl_rank {
    int32_t tp, pp, ep;     /* coordinates; 0 where the axis is not used       */
    int32_t file;           /* index into files, -1 if missing                 */
    const char *path;       /* folder name, e.g. "mp_rank_01_000"              */
    uint64_t tensors, bytes;
    int32_t layer_first, layer_last;   /* global, inclusive; -1,-1 if none     */
    int64_t iteration;      /* -1 if not told                                  */
    enum sl_rank_status status;
};

enum sl_severity { SL_NOTE, SL_WARNING, SL_ERROR };
/* One finding: a card. `code` is stable kebab-case, listed in docs/problems.md;
 * `message` is the one sentence. The place is told as far as the finding is of one
 * place: texts are "", numbers -1 where it is not. */
struct sl_problem {
    enum sl_severity severity;
    const char *code;
    const char *where;      /* "mp_rank_01_001", file, "RANK TENSOR", tensor   */
    const char *message;    /* what was found                                  */
    const char *expected;   /* what was expected, and why                      */
    const char *cause;      /* likely cause                                    */
    const char *damage;     /* what it damages, what still works               */
    const char *next;       /* what to do or type now                          */
    const char *file;       /* relative to the checkpoint's folder             */
    const char *tensor;     /* its name in that file                           */
    const char *param;      /* the weights of the model in it, whose layers are
                               counted through all stages                      */
    int32_t tp, pp, ep;     /* the rank                                        */
    int64_t offset;         /* byte of the file where the tensor begins        */
};

enum sl_confidence { SL_GUESS, SL_LIKELY, SL_CERTAIN };
struct sl_evidence {
    const char *fact;       /* "num_layers=32"                                 */
    const char *from;       /* "tensor names", "args", "preset minicpm-8b"     */
};

/* A hyperparameter, by its Megatron argument name. */
struct sl_setting {
    const char *key;
    const struct sl_value *value;
    const char *from;       /* where it was taken from, as sl_evidence.from    */
};

struct sl_parallel { int32_t tp, pp, vpp, ep, etp; };

struct sl_moe {
    int32_t num_experts, topk;      /* topk 0: not known */
    int32_t shared_experts;         /* count, or 0 */
    const char *expert_layout;      /* local_experts | grouped | te_grouped | block_ffn */
    const int32_t *layers;          /* global indices of MoE layers */
    size_t layer_count;
    uint64_t expert_params;         /* elements of all experts, 0: not known */
    uint64_t active_params;         /* elements that one token meets: all but the experts it does not go to;
                                       0: not known */
};

/* Numbers about the elements of one tensor, in double, NaN and Inf left out of
 * min, max, mean and std. */
struct sl_stats {
    uint64_t count, nan, inf, zeros;
    double min, max, mean, std, rms;   /* 0 when nothing is finite */
};

/* What one pass over the elements of a stored tensor tells besides. */
#define SL_QUANTILES 5                   /* 50, 90, 99, 99.9, 99.99 percent         */
struct sl_profile {
    struct sl_stats stats;
    uint64_t subnormals;
    uint32_t mantissa_bits;              /* of the dtype, the hidden one counted; 0: no float */
    uint32_t mantissa_used;              /* up to the lowest bit that is ever 1: fp32 that was
                                            bf16 once uses 8 of 24                    */
    double quantile[SL_QUANTILES];       /* of the absolute values                   */
    bool quantiles_exact;                /* else within 0.4 percent: types wider than 16 bits */
    double row_rms_lo, row_rms_hi;       /* over rows of the last axis               */
};

/* The elements of a block of rows and columns. */
struct sl_block_stats { uint64_t count, nonfinite, zeros; double rms, max_abs; };

#define SL_HISTOGRAM_BINS 64
struct sl_histogram {
    double lo, hi;                       /* range of the finite values          */
    uint64_t bins[SL_HISTOGRAM_BINS];    /* equal widths, last one closed       */
};

#ifdef __cplusplus
}
#endif
#endif
