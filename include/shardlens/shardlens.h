/* shardlens.h: the C API of libshardlens.
 *
 * Open a checkpoint, learn what it is, list and read its tensors, plan a
 * conversion, run it, prove it. The command line and the terminal UI use this
 * header (and types.h) and nothing below it.
 *
 * Calling sequence
 *
 *     struct sl_checkpoint *ck;
 *     struct sl_error err;
 *     if (sl_open("/ckpts/minicpm", NULL, &ck, &err))
 *         return fprintf(stderr, "%s: %s\n", err.where, err.message), err.code;
 *     const struct sl_checkpoint_info *info = sl_info(ck);
 *     struct sl_plan *plan;
 *     struct sl_plan_options want = { .format = SL_TO_HF };
 *     if (!sl_plan_make(ck, "/out/hf", &want, &plan, &err)) {
 *         struct sl_job *job;
 *         if (!sl_convert_start(plan, NULL, &job, &err)) {
 *             sl_job_wait(job, &err);
 *             sl_job_free(job);
 *         }
 *         sl_plan_free(plan);
 *     }
 *     sl_close(ck);
 *
 * Errors     functions return 0 (SL_OK) or an enum sl_code and fill *err, which
 *            may be NULL. Nothing here prints, exits or installs a signal handler.
 * Ownership  handles are owned by the caller and freed by their own function,
 *            which accepts NULL. Everything reached through a handle is borrowed
 *            until the handle is freed. A plan borrows its checkpoint, a job its
 *            plan: free in the reverse order.
 * Threads    a handle may be read from any number of threads; opening, planning
 *            and freeing is for one. Jobs run in their own threads; every
 *            sl_job_* call may come from any thread.
 */
#ifndef SHARDLENS_H
#define SHARDLENS_H

#include <shardlens/types.h>

/* What one thread writes while another reads it; of C11, and the same in C++. */
#ifdef __cplusplus
#include <atomic>
typedef std::atomic<int> sl_atomic_int;
typedef std::atomic<uint64_t> sl_atomic_u64;
#else
#include <stdatomic.h>
typedef atomic_int sl_atomic_int;
typedef _Atomic uint64_t sl_atomic_u64;
#endif

#ifdef __cplusplus
extern "C" {
#endif

const char *sl_version(void);                       /* "0.1.0" */
const char *sl_container_name(enum sl_container container);   /* as in JSON */
const char *sl_severity_name(enum sl_severity severity);      /* error | warning | note */
const char *sl_confidence_name(enum sl_confidence confidence);
const char *sl_rank_status_name(enum sl_rank_status status);
const char *sl_dtype_label(enum sl_dtype dtype);    /* "bf16", "fp32", "int64", .. */

/* ---- open --------------------------------------------------------------- */

struct sl_checkpoint;

struct sl_open_options {
    const char *model;             /* --model: preset or family name, NULL */
    const char *const *set;        /* --set: "key=value", Megatron argument names */
    size_t set_count;
    const char *family_file;       /* --family-file, NULL */
    const char *hf_config;         /* --hf-config: folder with config.json, NULL */
};

/* Opens whatever path is: a save folder, an iteration folder, one mp_rank
 * folder, a Hugging Face folder, one file. Reads headers only. A checkpoint with
 * damaged or missing shards still opens when at least one shard can be read:
 * what is wrong is in info->problems. SL_INPUT when nothing there is a
 * checkpoint; SL_USAGE when an option is wrong or contradicts the tensors. */
int sl_open(const char *path, const struct sl_open_options *options,
            struct sl_checkpoint **out, struct sl_error *err);
void sl_close(struct sl_checkpoint *ck);

struct sl_dtype_count { enum sl_dtype dtype; uint64_t tensors, bytes; };

struct sl_checkpoint_info {
    const char *path;              /* as given */
    const char *folder;            /* the folder whose files were read, tracker followed */
    enum sl_container container;
    const char *names;             /* "te", "local", "legacy", "hf", NULL unknown */
    const char *family;            /* "llama", NULL when unknown */
    const char *family_title;      /* "Llama" */
    const char *model;             /* "Llama-3.1-8B" or a list "Llama-1-7B / Llama-2-7B"; NULL */
    enum sl_confidence confidence;
    const struct sl_evidence *evidence;  size_t evidence_count;
    uint64_t params;               /* weights once, padding rows not counted; 0 unknown */
    uint64_t bytes;                /* of all tensors that are weights, as stored */
    uint64_t unique_bytes;         /* the same, replicas once */
    const struct sl_dtype_count *dtypes; size_t dtype_count;   /* of weights */
    size_t tensors;                /* logical tensors that are weights: merged over ranks */
    const struct sl_file_info *files;    size_t file_count;
    const struct sl_setting *config;     size_t config_count;  /* Megatron names */
    struct sl_parallel parallel;
    const struct sl_moe *moe;      /* NULL when dense */
    int64_t iteration;             /* -1 unknown, 0 with release set for release */
    bool release;
    double checkpoint_version;     /* -1 unknown */
    const struct sl_rank *ranks;         size_t rank_count;    /* tp fastest, then ep, then pp */
    const struct sl_problem *problems;   size_t problem_count; /* worst first */
    const char *torch_container;   /* "zip", "legacy", NULL */
    const char *storage;           /* of a distributed checkpoint, in one line: arrays, chunks, what is
                                      stacked, files and writers; NULL */
};
const struct sl_checkpoint_info *sl_info(const struct sl_checkpoint *ck);
/* A config value by Megatron name, NULL when not known. */
const struct sl_setting *sl_config_get(const struct sl_checkpoint *ck, const char *key);

/* Opens *ck's path again with what `other` knows of the model and *ck does not tell: the head size,
 * the true vocabulary. *ck stays as it is where there is nothing to learn, or where that would
 * contradict its tensors. For comparing a checkpoint with single files of weights. */
int sl_learn(struct sl_checkpoint **ck, const struct sl_open_options *options, const struct sl_checkpoint *other,
             struct sl_error *err);
/* Would sl_learn open it again? */
bool sl_can_learn(const struct sl_checkpoint *ck, const struct sl_checkpoint *other);

/* Hyperparameters that both tell and tell differently; what only says where a checkpoint came
 * from is left out. Fills at most room entries (borrowed from both) and returns how many there are. */
struct sl_config_difference { const char *key; const struct sl_value *a, *b; };
size_t sl_config_differences(const struct sl_checkpoint *a, const struct sl_checkpoint *b,
                             struct sl_config_difference *out, size_t room);

/* ---- tensors ------------------------------------------------------------ */

/* Stored arrays, one entry a rank file (struct sl_tensor in types.h), in file order. */
size_t sl_tensor_count(const struct sl_checkpoint *ck);
const struct sl_tensor *sl_tensor_at(const struct sl_checkpoint *ck, size_t index);

/* Logical tensors: the same weight merged over ranks. The layer index in `name` is
 * global. Equal names whose shards are not cuts or copies of one tensor stay apart
 * (`odd` says why). */
enum sl_split { SL_WHOLE, SL_SPLIT, SL_COPY, SL_ODD };
struct sl_logical {
    const char *name;              /* "decoder.layers.7.mlp.linear_fc2.weight" */
    enum sl_dtype dtype;
    uint32_t ndim;
    const int64_t *shape;          /* of the whole */
    uint64_t bytes;                /* of the whole, once */
    enum sl_split split;
    int32_t split_axis;            /* axis cut over tp (or ep tp), -1 */
    const char *split_text;        /* "tp dim0", "copy x4", "whole", "tp half" (gate|up);
                                      "own x4": state that each rank keeps for itself */
    const char *odd;               /* why it could not be merged, NULL */
    const size_t *pieces; size_t piece_count;   /* indices for sl_tensor_at, by rank */
    const char *kind;              /* "attention", "mlp", "experts", "router", "norm",
                                      "embedding", "head", "extra", "optimizer", "other" */
    int32_t layer;                 /* global index, -1 */
    int32_t expert;                /* global index, -1 */
};
size_t sl_logical_count(const struct sl_checkpoint *ck);
const struct sl_logical *sl_logical_at(const struct sl_checkpoint *ck, size_t index);
/* By name (also by a stored name or an HF name of one of its weights); returns its index
 * or -1. */
ptrdiff_t sl_logical_find(const struct sl_checkpoint *ck, const char *name);

/* Where the weights (params) of one stored tensor live: each row says that rows/columns
 * of this tensor hold a box of a param. For `show` and the inspector. */
struct sl_slice_info {
    const char *param;             /* "layers.7.attn.q" */
    const char *what;              /* "q of groups 0-1", "gate rows 0-27", .. one line */
    uint32_t param_ndim; const int64_t *param_lo, *param_hi; const char *const *param_axes;
    uint64_t first_element, count; /* first element in the tensor, elements held */
    const int64_t *param_stride;   /* elements of the tensor per step of each axis of the param */
};
/* Fills *out (borrowed) and *count. SL_UNSUPPORTED when the family is unknown. */
int sl_tensor_slices(struct sl_checkpoint *ck, size_t tensor, const struct sl_slice_info **out,
                     size_t *count, struct sl_error *err);

/* Is a stored tensor a chunk of a larger array (of a distributed checkpoint)? Where it begins in
 * that array: global_offset of struct sl_tensor. */
bool sl_tensor_is_chunk(const struct sl_tensor *tensor);
/* The bytes of its file that hold a stored tensor: [*begin, *end). For a chunk of a distributed
 * checkpoint its item is looked into; when that can't be read it is the range of the whole item. */
void sl_tensor_place(const struct sl_checkpoint *ck, size_t tensor, uint64_t *begin, uint64_t *end);

/* Reads elements [first, first + count) of a stored tensor in row-major order into buf
 * (count * element size bytes, little-endian), following strides. */
int sl_tensor_read(const struct sl_checkpoint *ck, size_t tensor, uint64_t first, uint64_t count,
                   void *buf, struct sl_error *err);
/* Element as double, for display. */
double sl_element(enum sl_dtype dtype, const void *element);

/* Statistics of stored tensors in one pass over their data, in bounded memory. Of a tensor whose
 * strides show stored numbers more than once, each stored number counts once.
 * histogram may be NULL; with one, a second pass is made when lo == hi on entry.
 * cancel (may be NULL) is looked at about every megabyte: non-zero stops with
 * SL_INTERRUPTED. done (may be NULL) counts bytes read, for progress. */
int sl_tensor_stats(const struct sl_checkpoint *ck, const size_t *tensors, size_t count,
                    struct sl_stats *stats, struct sl_histogram *histogram,
                    uint64_t *checksum /* XXH3-64 of the bytes in order, may be NULL */,
                    const sl_atomic_int *cancel, sl_atomic_u64 *done, struct sl_error *err);

/* One pass over a stored tensor in bounded memory: quantiles, the mantissa bits in use, and the
 * tensor as a grid of blocks. Rows are those of the last axis (a tensor of one axis is one row);
 * row block i has the rows row_edge[i] .. row_edge[i+1] (row_blocks + 1 ascending edges, the first 0,
 * the last the number of rows), columns are cut into col_blocks of equal width, the last ones
 * shorter or empty. blocks (row_blocks * col_blocks, row-major) is the caller's; NULL with
 * row_blocks 0 where none are wanted. cancel and done as above. SL_USAGE when the edges are wrong,
 * SL_UNSUPPORTED for types whose elements have no size that is known. */
int sl_tensor_profile(const struct sl_checkpoint *ck, size_t tensor, const uint64_t *row_edge, size_t row_blocks,
                      size_t col_blocks, struct sl_profile *profile, struct sl_block_stats *blocks,
                      const sl_atomic_int *cancel, sl_atomic_u64 *done, struct sl_error *err);

/* ---- check -------------------------------------------------------------- */

struct sl_check_result {
    const struct sl_problem *problems; size_t problem_count;   /* worst first, headers' included */
    uint64_t files_checked, files_total;
    uint64_t tensors_checked, tensors_total;     /* headers */
    uint64_t bytes_read, bytes_total;            /* data; read 0 without deep */
    uint64_t replicas_compared, replicas_different;
    const char *verdict;                         /* one line: "sound: ...", "NOT CONVERTIBLE: ..." */
    uint64_t ranks_placed, ranks_misplaced;      /* rank files whose args.rank is that of their folder; is another's. Of the */
    uint64_t ranks_total;                        /* others only the folder's name tells which rank they are. Of files that could
                                                    be read and are of this save; 0: no ranks */
};
/* Validates the whole set of shards; deep reads the data too (NaN and Inf, replicas, ties,
 * CRCs). Of the options threads and memory count; NULL for the usual. A job (below); its result
 * is read with sl_check_result(). */
struct sl_job;
struct sl_run_options;
int sl_check_start(struct sl_checkpoint *ck, bool deep, const struct sl_run_options *options,
                   struct sl_job **job, struct sl_error *err);
const struct sl_check_result *sl_check_result(const struct sl_job *job);

/* What the weights themselves show of the order of their rows, where args say nothing or may be wrong:
 * by statistics that trained weights have and random ones have not, so never a proof. */
struct sl_layout_finding {
    const char *question;                        /* "qkv", "gate-up", "rope" */
    const char *answer;                          /* one line; or why it can't be told */
    const char *measure;                         /* the numbers that it rests on */
    enum sl_confidence confidence;               /* likely or guess, never certain */
    int32_t layers, agree;                       /* layers looked at, and those that say so */
    bool told;                                   /* false: the weights do not show it */
    bool as_read;                                /* told, and it is the order that the checkpoint is read in */
};
struct sl_layout_report;
/* Reads the attention and gated matrices of at most a dozen layers. cancel as for sl_tensor_stats.
 * SL_UNSUPPORTED when the family is unknown. Free the report. */
int sl_layout_look(struct sl_checkpoint *ck, const sl_atomic_int *cancel, struct sl_layout_report **out, struct sl_error *err);
size_t sl_layout_finding_count(const struct sl_layout_report *report);
const struct sl_layout_finding *sl_layout_finding(const struct sl_layout_report *report, size_t index);
void sl_layout_report_free(struct sl_layout_report *report);

/* Of two checkpoints whose values differ: layers in which one side has all rows of the other, in an
 * order that a rule of layout explains. Texts are constants. */
struct sl_order_finding { const char *parts, *rule; int32_t layers; };
/* Reads q, k, v, gate and up of every layer on both sides. Fills at most `room` of out (4 is enough),
 * *count is how many. SL_UNSUPPORTED when a family is unknown. */
int sl_orders(const struct sl_checkpoint *a, const struct sl_checkpoint *b, struct sl_order_finding *out, size_t room, size_t *count,
              struct sl_error *err);

/* ---- plan --------------------------------------------------------------- */

enum sl_format { SL_TO_AUTO, SL_TO_HF, SL_TO_HF_BIN, SL_TO_PT, SL_TO_MEGATRON, SL_TO_TORCH_DIST };

struct sl_plan_options {
    enum sl_format format;
    enum sl_dtype dtype;                 /* SL_DTYPE_UNKNOWN: keep */
    uint64_t max_shard_size;             /* 0: 5 GB */
    const char *hf_config;               /* folder to carry config and tokenizer from, NULL */
    int32_t tp, pp, vpp, ep, etp;        /* Megatron targets; 0: default */
    const char *pp_layout;               /* "7,8,8,9", NULL: even */
    const char *names;                   /* "te", "local"; NULL: te */
    const char *experts;                 /* "te-grouped", "local"; NULL: te-grouped */
    bool pad_last;                       /* --pad-with last */
    int64_t iteration;                   /* -1: source's, else release */
    bool release;
    int32_t vocab_divisor;               /* 0: 128 */
    int32_t dist_files;                  /* 0: by size */
    uint64_t memory;                     /* 0: 256 MB; for the cost estimate */
    uint32_t threads;                    /* 0: processors */
};

struct sl_plan;
/* What would be made of ck at dst. Reads headers only, writes nothing. The plan is proved
 * before it is given out: every element of every target is covered exactly once and every
 * source weight is used or left out with a reason; else SL_INPUT (shards are missing: names
 * the rows nobody holds and the rank that should), SL_USAGE (something must be stated: says
 * which option) or SL_UNSUPPORTED. dst may be NULL (preview without a place). */
int sl_plan_make(struct sl_checkpoint *ck, const char *dst, const struct sl_plan_options *options,
                 struct sl_plan **out, struct sl_error *err);
void sl_plan_free(struct sl_plan *plan);

/* Which parallel sizes a Megatron target of ck could have on one axis, while the other axes
 * are as options say: 1, the powers of two, what divides the thing it cuts, and the size
 * that options ask for, rising. Each with the reason where it cannot be. Fills at most room
 * entries and returns how many; sizes above 256 are not looked at. Quick: reads nothing. */
enum sl_axis { SL_AXIS_TP, SL_AXIS_PP, SL_AXIS_VPP, SL_AXIS_EP, SL_AXIS_ETP, SL_AXIS_COUNT };
struct sl_size_choice {
    int32_t size;
    bool fits;
    char why[160];                       /* why not: "num_query_groups is 2, which does not divide over 8 ranks" */
};
size_t sl_plan_sizes(const struct sl_checkpoint *ck, const struct sl_plan_options *options, enum sl_axis axis,
                     struct sl_size_choice *out, size_t room);

struct sl_plan_target {
    const char *name;
    enum sl_dtype dtype, source_dtype;
    uint32_t ndim; const int64_t *shape;
    const int64_t *whole, *at;           /* a chunk (torch_dist): shape of the array of that name, and where in it
                                            the chunk begins; NULL: it is all of it */
    uint64_t bytes;
    int32_t file;                        /* index into files */
    uint64_t offset;                     /* of its bytes in that file */
    const char *rule;                    /* "copy", "concat dim0", "concat dim1", "q of qkv", "gate of fc1", .. */
    size_t piece_count;
};
struct sl_plan_file { const char *name; uint64_t bytes; size_t tensors; };
struct sl_plan_extra { const char *name; uint64_t bytes; const char *from; /* NULL: generated */ };
struct sl_left_out { const char *name, *where, *why; uint64_t bytes; };

struct sl_plan_info {
    const char *source, *target;         /* paths; target may be NULL */
    enum sl_format format;
    const char *format_name;             /* "hf" */
    size_t target_count;
    const struct sl_plan_file *files;   size_t file_count;
    const struct sl_plan_extra *extras; size_t extra_count;    /* config.json, tokenizer, .. */
    const struct sl_left_out *left_out; size_t left_out_count;
    const struct sl_problem *notes;     size_t note_count;     /* e.g. true vocabulary unknown */
    uint64_t read_bytes, write_bytes;    /* tensor bytes */
    uint64_t memory_bytes;               /* buffers */
    uint64_t free_bytes;                 /* free space at the target's parent, 0 unknown */
    size_t pieces;
    const char *hash;                    /* of the plan, hex */
    const char *proof;                   /* one line: what was proved */
    const char *command;                 /* the command line that runs it */
};
const struct sl_plan_info *sl_plan_info(const struct sl_plan *plan);
const struct sl_plan_target *sl_plan_target(const struct sl_plan *plan, size_t index);

/* One axis-aligned block that moves: a box of a source tensor to a box of the target. */
struct sl_piece_info {
    size_t source;                       /* index for sl_tensor_at, SIZE_MAX: padding */
    const char *source_name, *source_file;
    uint32_t source_ndim; int64_t source_lo[8], source_hi[8];
    uint32_t target_ndim; int64_t target_lo[8], target_hi[8];
    int8_t target_axis[8];               /* of each source axis: the target axis that it runs along (of two
                                            that are transposed, the other one); -1: the box is one step wide */
    const char *param;                   /* "layers.7.attn.q" */
    const char *op;                      /* "copy", "cast", "pad", "add 1", "add 1, cast", "scale" (8-bit floats) */
};
/* The pieces of one target, in target order, at most `room`; returns how many there are. */
size_t sl_plan_pieces(const struct sl_plan *plan, size_t target, struct sl_piece_info *out, size_t room);
/* Cuts a piece to what of it lies in a box: of its target, or with of_source of its source. lo and hi
 * (half open) have as many axes as that side. False, and the piece as it was, when nothing of it does. */
bool sl_piece_cut(struct sl_piece_info *piece, bool of_source, const int64_t *lo, const int64_t *hi);
/* What becomes of one source tensor: the same from the other side. */
size_t sl_plan_uses(const struct sl_plan *plan, size_t tensor, size_t *targets, size_t room);
/* The same in a word. REPLICA: it holds weights, which are read from a copy of it. LEFT_OUT: info->left_out
 * has a line of it, *why says the reason (else ""). UNCLAIMED: none of these. */
enum sl_source_use { SL_SOURCE_READ, SL_SOURCE_REPLICA, SL_SOURCE_LEFT_OUT, SL_SOURCE_UNCLAIMED, SL_SOURCE_USES };
enum sl_source_use sl_plan_source(const struct sl_plan *plan, size_t tensor, const char **why);

/* ---- convert, verify: jobs ---------------------------------------------- */

enum sl_verify_mode { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
struct sl_run_options {
    uint32_t threads;                    /* 0: processors */
    uint64_t memory;                     /* bytes of buffers; 0: 256 MB */
    enum sl_verify_mode verify;
    bool force;                          /* replace an existing target */
    bool resume;                         /* go on with an interrupted run */
    bool tell;                           /* keep DST.partial.progress beside the target while it runs,
                                            rewritten every second: what sl_place_look shows to others */
    const char *report;                  /* NULL: DST/shardlens-report.json, or, where DST is one file,
                                            DST.shardlens-report.json; "-": none is written */
    uint32_t part, parts;                /* of several processes: only the files of part 1..parts, to
                                            DST.part-I-of-N; results are of its own tensors. 0: the whole */
    bool finish;                         /* make DST of its parts, which are there and done. What they said of
                                            their tensors is believed unless check_parts says to read all again */
    bool check_parts;
};
#define SL_MAX_PARTS 10000
/* Starts the conversion in threads of its own and returns at once. SL_WRITE when the target
 * exists or can't be made, SL_USAGE when source and target meet. options may be NULL. */
int sl_convert_start(struct sl_plan *plan, const struct sl_run_options *options,
                     struct sl_job **job, struct sl_error *err);

/* Do two checkpoints hold the same weights, bit for bit. Where one of them does not tell its family or
 * its heads, tensors are compared by their names if both have the same ones. */
int sl_verify_start(struct sl_checkpoint *a, struct sl_checkpoint *b,
                    const struct sl_run_options *options, struct sl_job **job, struct sl_error *err);
/* How far apart are they: the same walk, with the numbers of struct sl_result for every param. */
int sl_diff_start(struct sl_checkpoint *a, struct sl_checkpoint *b,
                  const struct sl_run_options *options, struct sl_job **job, struct sl_error *err);

enum sl_phase { SL_PHASE_PREPARE, SL_PHASE_COPY, SL_PHASE_SYNC, SL_PHASE_VERIFY, SL_PHASE_FINISH, SL_PHASE_DONE };
const char *sl_phase_name(enum sl_phase phase);

/* What a worker is at. WORK: checksums, statistics, casts, comparing. */
enum sl_doing { SL_DOING_NOTHING, SL_DOING_READ, SL_DOING_WORK, SL_DOING_WRITE };
const char *sl_doing_name(enum sl_doing doing);  /* "idle", "read", "work", "write" */

#define SL_MAX_WORKERS 64
struct sl_worker_progress {
    char tensor[128];                    /* target it works on, "" idle */
    uint64_t done, total;                /* bytes of that tensor */
    uint64_t moved;                      /* bytes since the job began */
    enum sl_phase phase;
    enum sl_doing doing;
};
struct sl_progress {
    enum sl_phase phase;
    bool paused, finished;
    uint64_t bytes_done, bytes_total;    /* of the current phase; once done, of the whole */
    uint64_t tensors_done, tensors_total;
    uint64_t verified, mismatched;       /* tensors */
    uint64_t read_bytes, written_bytes;  /* since the start */
    double seconds;                      /* since the start, pauses included */
    bool draining;                       /* stops once the tensors in work are done: sl_job_drain */
    uint64_t all_done, all_total;        /* bytes through the buffers over all phases; 0 before they are known */
    /* Sums over all workers since the start, in seconds: waiting for reads, waiting for
     * writes, and on a processor. The largest is what bounds the run. */
    double read_wait, write_wait, working;
    uint32_t workers;                    /* lines below; those that are too many and still at a tensor too */
    struct sl_worker_progress worker[SL_MAX_WORKERS];
};
/* What is at the place that a conversion would write to, or that another process is writing to. */
enum sl_place_state {
    SL_PLACE_FREE,                       /* nothing of that name */
    SL_PLACE_EXISTS,                     /* a finished target, or something else */
    SL_PLACE_UNFINISHED,                 /* a run was stopped or died: resume goes on with it */
    SL_PLACE_WRITING                     /* a process is at it */
};
#define SL_PLACE_RECENT 16
struct sl_place {
    enum sl_place_state state;
    bool exists;                         /* something of that name, also while a new one is written beside it */
    bool parent_missing;                 /* its folder is not there; it would be made */
    uint64_t free_bytes;                 /* on its file system, 0 unknown */
    /* of a run, from its journal: */
    char plan[40];                       /* sl_plan_info.hash of its plan, "" unknown */
    uint64_t tensors_written;            /* target tensors that the journal calls written */
    char host[72]; int64_t pid;          /* who writes or wrote, pid 0 unknown */
    double age;                          /* seconds since it was last heard of; -1 unknown */
    /* of a run that tells (sl_run_options.tell): */
    bool told;
    char source[512];                    /* path of what is converted, printable */
    struct sl_progress progress;
    bool ended;                          /* with `code` and `message` */
    int code;
    char message[512];
    size_t recent_count;                 /* tensors written or verified last, newest first */
    struct { char name[128]; uint64_t bytes, checksum; int status; } recent[SL_PLACE_RECENT];
};
/* Looks at it; reads only, and waits for nobody. SL_USAGE when dst can't be the name of a target. */
int sl_place_look(const char *dst, struct sl_place *out, struct sl_error *err);

/* A consistent snapshot; never blocks on I/O. */
void sl_job_progress(const struct sl_job *job, struct sl_progress *out);
void sl_job_pause(struct sl_job *job, bool pause);
void sl_job_cancel(struct sl_job *job, int code);   /* SL_INTERRUPTED, SL_TERMINATED, .. ; stops within a second */
/* Stops once the tensors that workers are at are done, or no longer does: ends with SL_INTERRUPTED. */
void sl_job_drain(struct sl_job *job, bool drain);
/* So many workers from now on: 1 to SL_MAX_WORKERS, at most as many as options.memory has buffers
 * for. Returns how many there will be. Those that are too many end the tensor they are at; more get
 * buffers and threads at once, which is all that it waits for. The result is the same bytes. */
uint32_t sl_job_workers(struct sl_job *job, uint32_t count);
bool sl_job_finished(const struct sl_job *job);
/* Waits for the end; returns its code and fills *err if it failed. A comparison that finds
 * differences, and a check that finds errors, has not failed: they are its result. */
int sl_job_wait(struct sl_job *job, struct sl_error *err);
/* The same, calling tell(progress, user) about every `every` milliseconds (0: 100) in the calling
 * thread, and once more at the end. The first non-zero value it returns cancels the job with that
 * code. */
typedef int sl_job_tell(const struct sl_progress *progress, void *user);
int sl_job_follow(struct sl_job *job, unsigned every, sl_job_tell *tell, void *user, struct sl_error *err);
void sl_job_free(struct sl_job *job);               /* cancels and waits if needed */

enum sl_result_status { SL_RESULT_PENDING, SL_RESULT_WRITTEN, SL_RESULT_VERIFIED, SL_RESULT_MISMATCH,
                        SL_RESULT_EQUAL, SL_RESULT_DIFFERENT, SL_RESULT_ONLY_A, SL_RESULT_ONLY_B, SL_RESULT_SHAPE };
const char *sl_result_status_name(enum sl_result_status status);
/* Result of one target (convert: same index as in the plan) or one param (verify). */
struct sl_result {
    const char *name;
    enum sl_dtype dtype;
    uint32_t ndim; const int64_t *shape;
    const char *file;
    uint64_t bytes;
    uint64_t checksum;                   /* XXH3-64 of its bytes in the target; convert only */
    struct sl_stats stats;               /* convert only */
    enum sl_result_status status;
    size_t sources;                      /* source tensors it was made of */
    uint64_t different;                  /* elements that differ */
    uint64_t first_different;            /* element index, UINT64_MAX none */
    double max_abs, mean_abs;            /* diff only: of B - A */
    double relative;                     /* diff only: |B - A| / |A|, Euclidean norms; 0 when both are 0 */
    double cosine;                       /* diff only: of the angle between A and B; 1 when equal */
    const char *a_file, *b_file;         /* where the first difference lies, NULL none */
    uint64_t a_offset, b_offset;         /* byte offsets there */
    enum sl_dtype b_dtype;               /* verify, diff: of B, where dtype is A's; SL_DTYPE_UNKNOWN: one side only */
};
size_t sl_result_count(const struct sl_job *job);
const struct sl_result *sl_result_at(const struct sl_job *job, size_t index);   /* may change until done */
struct sl_summary {
    uint64_t tensors, bytes;
    double seconds, bytes_per_second;
    uint64_t peak_memory_bytes;
    bool verified;
    const char *verify;                  /* "reread", "checksum", "none" and how it was read */
    uint64_t equal, different, only_a, only_b;
    const char *report;                  /* path of the written report, NULL */
    uint64_t read_bytes, written_bytes;  /* of tensors, over all phases */
    uint64_t reads, writes;              /* system calls these took: few large ones are what disks and networks like */
};
const struct sl_summary *sl_job_summary(const struct sl_job *job);   /* valid once finished */
/* The report of cli.md as JSON text, from a finished convert, verify or diff job; free() it. */
char *sl_job_report_json(const struct sl_job *job);

/* ---- models, demo -------------------------------------------------------- */

struct sl_model_row {
    const char *name;                    /* "Llama-2-7B" */
    const char *option;                  /* word for --model: "llama-2-7b" */
    const char *family;
    bool nominal;                        /* a name with defaults, not a published model */
    int32_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab;   /* 0: not stated */
    int32_t tp, pp;                      /* nominal presets, else 0 */
    int32_t experts, topk;
    uint64_t params;
    const char *source;                  /* where the row comes from */
    const char *note;                    /* e.g. the conflict with published models, "" */
};
size_t sl_model_row_count(void);
const struct sl_model_row *sl_model_row(size_t index);
/* Reads the built-in families and the user's. SL_USAGE names file, row and what is wrong; the rows below are
 * empty then. */
int sl_families_read(struct sl_error *err);
/* Is a family file whole? Everything wrong with it is a finding; `layouts` were proved against each other. */
struct sl_family_problem { enum sl_severity severity; long line; const char *place, *message; };   /* line 0: unknown */
struct sl_family_check {
    const char *family, *title;          /* NULL when it could not be read so far */
    bool abstract;                       /* only a parent: it is read and not tried */
    size_t params, hf_rows, megatron_rows, layouts;
    const struct sl_family_problem *problems; size_t problem_count;
    bool sound;                          /* no problem is an error */
};
/* *out is to be freed, and is NULL on failure: a file that can't be opened, memory that is out. */
int sl_family_check(const char *file, struct sl_family_check **out, struct sl_error *err);
void sl_family_check_free(struct sl_family_check *check);
struct sl_family_row { const char *name, *title, *hf_arch, *model_type, *source; size_t rules; };
size_t sl_family_row_count(void);
const struct sl_family_row *sl_family_row(size_t index);

struct sl_demo_options {
    const char *family;                  /* NULL: minicpm; see shardlens demo --help */
    const char *layout;                  /* "megatron" (NULL), "hf", "torch_dist", "damaged" */
    int32_t tp, pp, ep;                  /* 0: 2, 2, 1 */
    uint64_t seed;
    uint64_t bytes;                      /* not larger, but for the smallest there is; 0: 13 MB */
};
/* Writes a sample checkpoint with made-up weights into dir, which must not exist or be
 * empty. *made (may be NULL, free() it) is the path to open. */
int sl_demo_write(const char *dir, const struct sl_demo_options *options, char **made,
                  struct sl_error *err);

/* ---- problems ------------------------------------------------------------ */

/* The table behind docs/problems.md. expected, cause, damage and advice are what a finding says
 * where it does not know better; {path} and {show} in advice stand for the path that was opened
 * and the command that shows the tensor. */
struct sl_problem_code {
    const char *code, *title, *meaning, *expected, *cause, *damage, *advice;
    enum sl_severity severity;
};
size_t sl_problem_code_count(void);
const struct sl_problem_code *sl_problem_code(size_t index);

/* ---- text helpers for programs that show these things --------------------- */

/* Foreign text made safe for a terminal: see base/text.h. Writes at most room bytes. */
char *sl_printable(const char *s, char *out, size_t room);

#ifdef __cplusplus
}
#endif
#endif
