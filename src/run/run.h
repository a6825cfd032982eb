/* run.h: does what a plan says. Workers move bytes through a fixed pool of
 * buffers, by positioned reads and writes; checksums and statistics are taken
 * while the bytes pass. The order of a run has one commit point:
 *
 *   1  journal, which is the lock; DST.partial-XXXX beside DST; space; files at full
 *      length
 *   2  pieces: read, gather, cast, checksum, statistics, write; then the journal line;
 *      then the files to the disk
 *   3  reread and compare with the source through the layouts; index, config,
 *      report; fsync each and the folder
 *   4  rename to DST (exchanged with an old one under force); fsync the parent
 *   5  old target removed, then the journal
 *
 * A kill at any moment leaves DST absent (or as it was), or whole.
 */
#ifndef SL_RUN_RUN_H
#define SL_RUN_RUN_H

#include "base/text.h"
#include "plan/plan.h"
#include <shardlens/shardlens.h>

struct sl_run;     /* what struct sl_job of the public header is made of */

/* Starts; see sl_convert_start. p is borrowed until sl_run_free. */
int sl_run_convert(const struct sl_conversion *p, const char *dst, const struct sl_run_options *options,
                   struct sl_run **out, struct sl_error *err);
/* Compares two checkpoints over their layouts; all borrowed. */
int sl_run_verify(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                  const struct sl_run_options *options, struct sl_run **out, struct sl_error *err);
/* The same walk, measuring how far they are apart (struct sl_result: max_abs and so on). */
int sl_run_diff(struct sl_ckpt *a, const struct sl_layout *la, struct sl_ckpt *b, const struct sl_layout *lb,
                const struct sl_run_options *options, struct sl_run **out, struct sl_error *err);
/* check --deep: reads every weight once: NaN, Inf, CRCs, all zero, replicas and ties equal
 * (layout may be NULL when the family is unknown). Findings are added to *problems. */
int sl_run_check(struct sl_ckpt *c, const struct sl_layout *layout, const struct sl_model *m,
                 struct sl_problems *problems, bool deep, const struct sl_run_options *options,
                 struct sl_run **out, struct sl_error *err);

void sl_run_progress(const struct sl_run *r, struct sl_progress *out);
void sl_run_pause(struct sl_run *r, bool pause);
void sl_run_cancel(struct sl_run *r, int code);
void sl_run_drain(struct sl_run *r, bool drain);
/* See sl_job_workers. */
unsigned sl_run_workers(struct sl_run *r, unsigned count);
bool sl_run_finished(const struct sl_run *r);
int sl_run_wait(struct sl_run *r, struct sl_error *err);
void sl_run_free(struct sl_run *r);
size_t sl_run_result_count(const struct sl_run *r);
const struct sl_result *sl_run_result_at(const struct sl_run *r, size_t index);
const struct sl_summary *sl_run_summary(const struct sl_run *r);
const struct sl_check_result *sl_run_check_result(const struct sl_run *r);
/* What is at the place of a target; see sl_place_look. */
int sl_run_look(const char *dst, struct sl_place *out, struct sl_error *err);
/* The report of cli.md as JSON. */
int sl_run_report(const struct sl_run *r, struct sl_buf *out);

/* ---- the parts, for tests ------------------------------------------------ */

/* stats.c: running statistics; parts of one tensor may be added in any order and merged. */
struct sl_accumulator { uint64_t count, nan, inf, zeros; double min, max, sum, sum2; };
void sl_stats_begin(struct sl_accumulator *s);
void sl_stats_add(struct sl_accumulator *s, enum sl_dtype dtype, const void *elements, size_t count);
/* The same element by element, with the instructions of one kind; what comes out is equal to the last bit.
 * _has: can this processor do it? Types that a form has nothing for go through the plain loop. */
enum sl_stats_form { SL_STATS_PLAIN, SL_STATS_NEON, SL_STATS_AVX2, SL_STATS_AVX512, SL_STATS_FORMS };
bool sl_stats_has(enum sl_stats_form form);
void sl_stats_add_as(struct sl_accumulator *s, enum sl_stats_form form, enum sl_dtype dtype, const void *elements, size_t count);
void sl_stats_merge(struct sl_accumulator *s, const struct sl_accumulator *other);
void sl_stats_end(const struct sl_accumulator *s, struct sl_stats *out);
void sl_histogram_add(struct sl_histogram *h, enum sl_dtype dtype, const void *elements, size_t count);

/* profile.c: the elements of one tensor in order, piece by piece; shapes as in sl_tensor_profile.
 * NULL when memory is out. row_edge and blocks are the caller's until _end, which fills both. */
struct sl_profiler;
struct sl_profiler *sl_profiler_begin(enum sl_dtype dtype, uint64_t cols, const uint64_t *row_edge, size_t row_blocks,
                                      size_t col_blocks, struct sl_block_stats *blocks);
void sl_profiler_add(struct sl_profiler *p, const void *elements, size_t count);
void sl_profiler_end(struct sl_profiler *p, struct sl_profile *out);
void sl_profiler_free(struct sl_profiler *p);

/* gather.c: the bytes [first, first + count) elements of one target tensor, assembled from
 * the source through the copies of a plan, cast if dtypes differ, into buf. scratch is the
 * worker's second buffer. Reads are as few and as large as scratch allows. */
int sl_gather(const struct sl_conversion *p, uint32_t target, uint64_t first, uint64_t count,
              void *buf, void *scratch, size_t scratch_len, uint64_t *bytes_read, struct sl_error *err);
/* Tells the kernel that this range will be gathered soon. */
void sl_gather_ahead(const struct sl_conversion *p, uint32_t target, uint64_t first, uint64_t count);

#endif
