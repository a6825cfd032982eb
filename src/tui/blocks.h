/* blocks.h: a stored tensor as rows with a meaning (g0 q, g0 k, gate, expert 3
 * up) and equal columns, measured in the background. */
#ifndef SL_TUI_BLOCKS_H
#define SL_TUI_BLOCKS_H

#include "tui/cells.h"
#include "tui/jobs.h"
#include <shardlens/shardlens.h>

struct app;

#define MOST_BLOCK_ROWS 64
#define BLOCK_COLS 64
#define BLOCK_LABEL 24
enum block_measure { MEASURE_RMS, MEASURE_MAX, MEASURE_ZEROS, MEASURE_DIFFERENCE, MEASURES };

struct blocks_result {
    size_t tensor;                        /* stored tensor that it belongs to */
    bool done, failed;
    struct sl_error error;
    size_t rows, cols;
    uint64_t edge[MOST_BLOCK_ROWS + 1];
    char label[MOST_BLOCK_ROWS][BLOCK_LABEL];
    struct sl_profile profile;
    struct sl_block_stats block[MOST_BLOCK_ROWS * BLOCK_COLS];
    uint64_t used;
};
#define KEPT_BLOCKS 8
struct blocks_state {
    struct blocks_result *kept[KEPT_BLOCKS];
    struct task *task;
    uint64_t clock;
    enum block_measure measure;
};

/* Cuts rows 0..rows of a tensor where the meaning changes; fills edge, label and rows of r. */
void blocks_cut(struct blocks_result *r, const struct sl_tensor *t, const struct sl_slice_info *slices, size_t slice_count);
/* Asks for a tensor whose slices are known. */
void blocks_want(struct app *app, size_t tensor, const struct sl_slice_info *slices, size_t slice_count);
const struct blocks_result *blocks_of(const struct app *app, size_t tensor);
void blocks_forget(struct app *app);
/* The heat map; `other` is the tensor that MEASURE_DIFFERENCE compares with, SIZE_MAX none. `line` of it is selected, and seen. */
void blocks_draw(struct app *app, struct pane p, size_t tensor, size_t other, int line);

#endif
