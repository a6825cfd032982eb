/* ls.c: the stored tensors, one line each. */
#include "cli/cli.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

struct row { const struct sl_tensor *t; const char *logical; size_t index; };

static int by_name(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    int d = sl_text_natural(x->logical, y->logical);
    return d ? d : x->index < y->index ? -1 : 1;
}

static int by_size(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    return x->t->bytes != y->t->bytes ? (x->t->bytes > y->t->bytes ? -1 : 1) : x->index < y->index ? -1 : 1;
}

/* Stored tensors with the name they have over all ranks (global layer numbers). */
static struct row *rows_make(const struct sl_checkpoint *ck, size_t *count)
{
    size_t n = sl_tensor_count(ck);
    struct row *rows = calloc(n + 1, sizeof *rows);
    if (!rows)
        return NULL;
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct row){ sl_tensor_at(ck, i), sl_tensor_at(ck, i)->name, i };
    for (size_t i = 0; i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        for (size_t k = 0; k < l->piece_count; k++)
            rows[l->pieces[k]].logical = l->name;
    }
    *count = n;
    return rows;
}

static size_t rows_filter(struct row *rows, size_t count, const struct sl_checkpoint *ck, const char *pattern,
                          const struct rank_filter *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool named = !pattern || sl_text_glob(pattern, rows[i].t->name) || sl_text_glob(pattern, rows[i].logical);
        if (named && rank_filter_fits(f, ck, rows[i].t))
            rows[kept++] = rows[i];
    }
    return kept;
}

static void rows_text(struct sl_buf *b, const struct sl_checkpoint *ck, const struct row *rows, size_t count)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    int width = 20, part_width = 12;
    for (size_t i = 0; i < count; i++)
        if ((int)strlen(rows[i].logical) > width && strlen(rows[i].logical) < 80)
            width = (int)strlen(rows[i].logical);
    for (size_t i = 0; i < count; i++) {
        char part[96];
        const int len = (int)strlen(part_text(ck, rows[i].t, part, sizeof part));
        part_width = len > part_width ? len : part_width;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const struct sl_tensor *t = rows[i].t;
        char shape[128], size[32], rank[96];
        sl_buf_printable(b, rows[i].logical, strlen(rows[i].logical));
        for (size_t k = strlen(rows[i].logical); k < (size_t)width; k++)
            sl_buf_char(b, ' ');
        sl_buf_printf(b, "  %-6s %-16s %9s  %-*s ", sl_dtype_label(t->dtype), sl_text_shape(t->shape, t->ndim, shape, sizeof shape),
                      sl_text_bytes(t->bytes, size, sizeof size), part_width, part_text(ck, t, rank, sizeof rank));
        sl_buf_printable(b, info->files[t->file].name, strlen(info->files[t->file].name));
        sl_buf_char(b, '\n');
        total += t->bytes;
    }
    char size[32];
    sl_buf_printf(b, "%zu stored tensors, %s\n", count, sl_text_bytes(total, size, sizeof size));
}

static void rows_json(struct sl_buf *b, const struct sl_checkpoint *ck, const struct row *rows, size_t count)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_key(&j, "tensors");
    sl_json_array(&j);
    for (size_t i = 0; i < count; i++) {
        const struct sl_tensor *t = rows[i].t;
        sl_json_object(&j);
        sl_json_kstr(&j, "name", rows[i].logical);
        sl_json_kstr(&j, "stored_name", t->path);
        sl_json_kstr(&j, "dtype", sl_dtype_label(t->dtype));
        shape_json(&j, "shape", t->shape, t->ndim);
        sl_json_kuint(&j, "bytes", t->bytes);
        if (sl_tensor_is_chunk(t)) {
            shape_json(&j, "chunk_offset", t->global_offset, t->ndim);
            shape_json(&j, "whole_shape", t->global_shape, t->ndim);
        }
        sl_json_kstr(&j, "file", info->files[t->file].name);
        sl_json_kuint(&j, "offset", t->offset);
        sl_json_key(&j, "rank");
        if (t->rank < 0) {
            sl_json_null(&j);
        } else {
            sl_json_object(&j);
            sl_json_kint(&j, "tp", info->ranks[t->rank].tp);
            sl_json_kint(&j, "pp", info->ranks[t->rank].pp);
            sl_json_kint(&j, "ep", info->ranks[t->rank].ep);
            sl_json_object_end(&j);
        }
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

int command_ls(const struct values *v)
{
    struct sl_error err = { 0 };
    struct rank_filter f;
    if (rank_filter_parse(v->text[OPT_RANK], &f, &err))
        return report_error(&err);
    struct sl_checkpoint *ck;
    int code = open_checkpoint(v, v->args[0], &ck);
    if (code)
        return code;
    size_t count = 0;
    struct row *rows = rows_make(ck, &count);
    if (!rows) {
        sl_close(ck);
        sl_fail_memory(&err, sl_tensor_count(ck) * sizeof *rows);
        return report_error(&err);
    }
    count = rows_filter(rows, count, ck, v->arg_count > 1 ? v->args[1] : NULL, &f);
    const char *sort = v->given[OPT_SORT] ? v->text[OPT_SORT] : "file";
    if (strcmp(sort, "file") != 0)
        qsort(rows, count, sizeof *rows, strcmp(sort, "name") == 0 ? by_name : by_size);
    struct sl_buf out = { 0 };
    if (v->given[OPT_JSON])
        rows_json(&out, ck, rows, count);
    else
        rows_text(&out, ck, rows, count);
    free(rows);
    code = out_flush(&out);
    sl_close(ck);
    return code;
}
