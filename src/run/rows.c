/* rows.c: see rows.h. */
#include "run/rows.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <stdlib.h>

#define ROWS_BUFFER (UINT64_C(4) << 20)
#define ROW_MOST (UINT64_C(64) << 20)    /* bytes of one row */

static bool has_whole_rows(const struct sl_param *p, const struct sl_slice *s)
{
    const uint32_t last = p->ndim - 1;
    return s->lo[last] == 0 && s->hi[last] == p->shape[last] && (s->stride[last] == 1 || p->shape[last] == 1);
}

uint64_t sl_rows_count(const struct sl_layout *l, uint32_t param, uint64_t *columns)
{
    const struct sl_param *p = &l->params[param];
    uint64_t rows;
    if (p->ndim < 2 || l->param_first[param] == l->param_first[param + 1] || !sl_shape_count(p->shape, p->ndim - 1, &rows))
        return 0;
    for (size_t i = l->param_first[param]; i < l->param_first[param + 1]; i++)
        if (!has_whole_rows(p, &l->slices[i]) || sl_ckpt_repeats(&l->tensors[l->slices[i].tensor]))
            return 0;
    *columns = (uint64_t)p->shape[p->ndim - 1];
    return *columns ? rows : 0;
}

struct walk {
    struct sl_ckpt *c;
    const struct sl_layout *l;
    const struct sl_param *p;
    const struct sl_slice *s;
    const struct sl_tensor *t;
    unsigned char *buffer;
    uint64_t columns, at_once;           /* rows that the buffer holds */
    sl_row_give *give;
    void *arg;
};

/* `count` rows that follow each other in param and tensor. */
static int give_run(const struct walk *w, uint64_t row, uint64_t element, uint64_t count, struct sl_error *err)
{
    const size_t bytes = (size_t)w->columns * sl_dtype_size(w->t->dtype);
    for (uint64_t i = 0; i < count; i += w->at_once) {
        const uint64_t n = sl_min_u64(w->at_once, count - i);
        int code = sl_ckpt_read_elements(w->c, w->t, element + i * w->columns, n * w->columns, w->buffer, err);
        for (uint64_t k = 0; !code && k < n; k++) {
            const struct sl_row r = { row + i + k, w->columns, element + (i + k) * w->columns, w->s->tensor, w->t->dtype,
                                      w->buffer + k * bytes };
            code = w->give(w->arg, &r, err);
        }
        if (code)
            return code;
    }
    return SL_OK;
}

static int give_slice(const struct walk *w, struct sl_error *err)
{
    const uint32_t rows = w->p->ndim - 1, inner = rows - 1;      /* axes of rows; the last of them */
    const int64_t length = w->s->hi[inner] - w->s->lo[inner];
    const bool dense = w->s->stride[inner] == (int64_t)w->columns;
    int64_t at[SL_AXES];
    for (uint32_t a = 0; a < rows; a++)
        at[a] = w->s->lo[a];
    for (;;) {
        int64_t row = 0, element = w->s->base;
        for (uint32_t a = 0; a < rows; a++) {
            row = row * w->p->shape[a] + at[a];
            element += (at[a] - w->s->lo[a]) * w->s->stride[a];
        }
        const int code = give_run(w, (uint64_t)row, (uint64_t)element, dense ? (uint64_t)length : 1, err);
        if (code)
            return code;
        uint32_t a = rows;
        for (at[inner] += dense ? length - 1 : 0; a-- > 0 && ++at[a] == w->s->hi[a];)
            at[a] = w->s->lo[a];
        if (a == UINT32_MAX)
            return SL_OK;
    }
}

int sl_rows_each(struct sl_ckpt *c, const struct sl_layout *l, uint32_t param, sl_row_give *give, void *arg, struct sl_error *err)
{
    struct walk w = { .c = c, .l = l, .p = &l->params[param], .give = give, .arg = arg };
    int code = SL_OK;
    if (!sl_rows_count(l, param, &w.columns))
        return SL_OK;
    for (size_t i = l->param_first[param]; !code && i < l->param_first[param + 1]; i++) {
        w.s = &l->slices[i];
        w.t = &l->tensors[w.s->tensor];
        const uint64_t bytes = w.columns * sl_dtype_size(w.t->dtype);
        if (!bytes || bytes > ROW_MOST || w.t->flags & SL_TENSOR_NO_DATA)
            continue;
        w.at_once = sl_max_u64(ROWS_BUFFER / bytes, 1);
        w.buffer = malloc((size_t)(w.at_once * bytes));
        code = w.buffer ? give_slice(&w, err) : sl_fail_memory(err, w.at_once * bytes);
        free(w.buffer);
    }
    return code;
}
