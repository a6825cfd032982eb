/* diff.c: how far two checkpoints are apart, weight by weight. */
#include "cli/cli.h"
#include "base/value.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- configuration ------------------------------------------------------------ */

static void settings_text(struct sl_buf *out, const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    const size_t count = sl_config_differences(a, b, NULL, 0);
    struct sl_config_difference *rows = calloc(count + 1, sizeof *rows);
    const size_t filled = rows ? sl_config_differences(a, b, rows, count) : 0;
    out->failed |= !rows;
    for (size_t i = 0; i < filled && i < count; i++) {
        sl_buf_printf(out, "~ config %s  ", rows[i].key);
        sl_value_print(rows[i].a, 60, out);
        sl_buf_str(out, "  against  ");
        sl_value_print(rows[i].b, 60, out);
        sl_buf_char(out, '\n');
    }
    free(rows);
}

/* ---- weights --------------------------------------------------------------------- */

static int worst_first(const void *x, const void *y)
{
    const struct sl_result *a = *(const struct sl_result *const *)x, *b = *(const struct sl_result *const *)y;
    if (a->relative > b->relative || a->relative < b->relative)
        return a->relative > b->relative ? -1 : 1;
    return sl_text_natural(a->name, b->name);
}

static void result_text(struct sl_buf *b, const struct sl_result *r)
{
    char name[512];
    sl_printable(r->name, name, sizeof name);
    if (r->status != SL_RESULT_DIFFERENT) {
        sl_buf_printf(b, "! %-36s %s\n", name, sl_result_status_name(r->status));
        return;
    }
    sl_buf_printf(b, "! %-36s %-10.4g %-10.4g %-10.4g %-9.6f %llu of %llu", name, r->max_abs, r->mean_abs, r->relative, r->cosine,
                  (unsigned long long)r->different, (unsigned long long)r->stats.count);
    if (r->a_file)
        sl_buf_printf(b, "  first at A %s+%llu, B %s+%llu", r->a_file, (unsigned long long)r->a_offset, r->b_file,
                      (unsigned long long)r->b_offset);
    sl_buf_char(b, '\n');
}

/* Are the rows that differ only in another order? */
static void orders_text(struct sl_buf *b, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    struct sl_order_finding found[4];
    size_t count = 0;
    if (sl_orders(x, y, found, 4, &count, NULL))
        return;
    for (size_t i = 0; i < count && i < 4; i++)
        sl_buf_printf(b, "order   %s of %d layer%s: %s\n", found[i].parts, (int)found[i].layers, found[i].layers == 1 ? "" : "s", found[i].rule);
}

static void diff_text(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y)
{
    const size_t count = sl_result_count(job);
    const struct sl_result **rows = calloc(count + 1, sizeof *rows);
    size_t kept = 0;
    for (size_t i = 0; rows && i < count; i++)
        if (sl_result_at(job, i)->status != SL_RESULT_EQUAL)
            rows[kept++] = sl_result_at(job, i);
    if (kept) {
        qsort(rows, kept, sizeof *rows, worst_first);
        sl_buf_printf(b, "  %-36s %-10s %-10s %-10s %-9s %s\n", "weight", "max |d|", "mean |d|", "relative", "cosine", "elements that differ");
    }
    for (size_t i = 0; i < kept; i++)
        result_text(b, rows[i]);
    free(rows);
    if (kept)
        orders_text(b, x, y);
    settings_text(b, x, y);
    pair_summary_text(b, sl_job_summary(job));
}

int command_diff(const struct values *v)
{
    static const struct pair_kind kind = { "diff", sl_diff_start, diff_text };
    return pair_command(v, &kind);
}
