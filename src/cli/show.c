/* show.c: one tensor: where it lies, what it holds, what its numbers are. */
#include "cli/cli.h"
#include "base/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_VALUES 8

/* Everything known of the pieces of one logical tensor that the filter leaves. */
struct shown {
    struct sl_checkpoint *ck;
    const struct sl_logical *l;
    size_t *pieces; size_t count;
    struct sl_stats all, *piece;        /* of all pieces, of each */
    uint64_t *checksum;
    double (*first)[FIRST_VALUES];      /* of each piece, as many as it has */
    struct sl_histogram histogram;
};

static uint64_t first_count(const struct sl_tensor *t)
{
    return t->count < FIRST_VALUES ? t->count : FIRST_VALUES;
}

static int read_first(const struct shown *s, size_t piece, struct sl_error *err)
{
    const struct sl_tensor *t = sl_tensor_at(s->ck, s->pieces[piece]);
    unsigned char bytes[FIRST_VALUES * 16];
    const uint64_t n = first_count(t);
    const size_t size = n ? (size_t)(t->bytes / t->count) : 0;
    const int code = n ? sl_tensor_read(s->ck, s->pieces[piece], 0, n, bytes, err) : SL_OK;
    for (uint64_t i = 0; !code && i < n; i++)
        s->first[piece][i] = sl_element(t->dtype, bytes + i * size);
    return code;
}

static int shown_measure(struct shown *s, struct sl_error *err)
{
    for (size_t i = 0; i < s->count; i++) {
        int code = sl_tensor_stats(s->ck, &s->pieces[i], 1, &s->piece[i], NULL, &s->checksum[i], NULL, NULL, err);
        if (!code)
            code = read_first(s, i, err);
        if (code)
            return code;
    }
    return sl_tensor_stats(s->ck, s->pieces, s->count, &s->all, &s->histogram, NULL, NULL, NULL, err);
}

static void stats_line(struct sl_buf *b, const char *what, const struct sl_stats *s)
{
    sl_buf_printf(b, "  %-12s min %-12.6g max %-12.6g mean %-12.6g std %-12.6g zeros %llu  nan %llu  inf %llu\n", what, s->min, s->max,
                  s->mean, s->std, (unsigned long long)s->zeros, (unsigned long long)s->nan, (unsigned long long)s->inf);
}

static void slices_text(struct sl_buf *b, struct sl_checkpoint *ck, size_t tensor)
{
    const struct sl_slice_info *slices;
    size_t count;
    if (sl_tensor_slices(ck, tensor, &slices, &count, NULL))
        return;
    for (size_t i = 0; i < count; i++)
        sl_buf_printf(b, "    holds %s: %s\n", slices[i].param, slices[i].what);
}

static void values_text(struct sl_buf *b, const struct shown *s, size_t piece)
{
    const uint64_t n = first_count(sl_tensor_at(s->ck, s->pieces[piece]));
    if (!n)
        return;
    sl_buf_str(b, "    first ");
    for (uint64_t i = 0; i < n; i++)
        sl_buf_printf(b, " %.6g", s->first[piece][i]);
    sl_buf_char(b, '\n');
}

static void histogram_text(struct sl_buf *b, const struct sl_histogram *h)
{
    enum { LINES = 16, WIDTH = 50 };
    uint64_t line[LINES] = { 0 }, most = 0;
    for (int i = 0; i < SL_HISTOGRAM_BINS; i++)
        line[i * LINES / SL_HISTOGRAM_BINS] += h->bins[i];
    for (int i = 0; i < LINES; i++)
        most = line[i] > most ? line[i] : most;
    if (!most)
        return;
    sl_buf_str(b, "histogram\n");
    for (int i = 0; i < LINES; i++) {
        sl_buf_printf(b, "  %12.5g |", h->lo + (h->hi - h->lo) * i / LINES);
        int full = (int)((double)line[i] / (double)most * WIDTH);
        for (int k = 0; k < full || (k == 0 && line[i]); k++)
            sl_buf_char(b, '#');
        sl_buf_printf(b, " %llu\n", (unsigned long long)line[i]);
    }
}

static void shown_text(struct sl_buf *b, const struct shown *s)
{
    const struct sl_checkpoint_info *info = sl_info(s->ck);
    char shape[128], size[32], rank[96];
    uint64_t begin, end;
    sl_buf_printable(b, s->l->name, strlen(s->l->name));
    sl_buf_printf(b, "\n  %s %s  %s  %s", sl_dtype_label(s->l->dtype), sl_text_shape(s->l->shape, s->l->ndim, shape, sizeof shape),
                  sl_text_bytes(s->l->bytes, size, sizeof size), s->l->split_text);
    if (s->l->odd)
        sl_buf_printf(b, "  odd: %s", s->l->odd);
    sl_buf_printf(b, "\npieces\n");
    for (size_t i = 0; i < s->count; i++) {
        const struct sl_tensor *t = sl_tensor_at(s->ck, s->pieces[i]);
        sl_buf_printf(b, "  %-12s %s  ", part_text(s->ck, t, rank, sizeof rank), sl_text_shape(t->shape, t->ndim, shape, sizeof shape));
        sl_buf_printable(b, info->files[t->file].name, strlen(info->files[t->file].name));
        sl_tensor_place(s->ck, s->pieces[i], &begin, &end);
        sl_buf_printf(b, " at byte %llu  xxh3 %016llx\n", (unsigned long long)begin, (unsigned long long)s->checksum[i]);
        slices_text(b, s->ck, s->pieces[i]);
        values_text(b, s, i);
    }
    sl_buf_str(b, "statistics\n");
    for (size_t i = 0; i < s->count; i++)
        stats_line(b, part_text(s->ck, sl_tensor_at(s->ck, s->pieces[i]), rank, sizeof rank), &s->piece[i]);
    if (s->count > 1)
        stats_line(b, "all pieces", &s->all);
    histogram_text(b, &s->histogram);
}

static void stats_json(struct sl_json *j, const struct sl_stats *s)
{
    sl_json_key(j, "stats");
    sl_json_object(j);
    sl_json_kuint(j, "count", s->count);
    sl_json_kdouble(j, "min", s->min);
    sl_json_kdouble(j, "max", s->max);
    sl_json_kdouble(j, "mean", s->mean);
    sl_json_kdouble(j, "std", s->std);
    sl_json_kdouble(j, "rms", s->rms);
    sl_json_kuint(j, "zeros", s->zeros);
    sl_json_kuint(j, "nan", s->nan);
    sl_json_kuint(j, "inf", s->inf);
    sl_json_object_end(j);
}

static void slices_json(struct sl_json *j, struct sl_checkpoint *ck, size_t tensor)
{
    const struct sl_slice_info *slices;
    size_t count;
    sl_json_key(j, "slices");
    sl_json_array(j);
    if (!sl_tensor_slices(ck, tensor, &slices, &count, NULL))
        for (size_t i = 0; i < count; i++) {
            sl_json_object(j);
            sl_json_kstr(j, "param", slices[i].param);
            sl_json_kstr(j, "what", slices[i].what);
            sl_json_key(j, "axes");
            sl_json_array(j);
            for (uint32_t a = 0; a < slices[i].param_ndim; a++)
                sl_json_str(j, slices[i].param_axes[a]);
            sl_json_array_end(j);
            shape_json(j, "lo", slices[i].param_lo, slices[i].param_ndim);
            shape_json(j, "hi", slices[i].param_hi, slices[i].param_ndim);
            sl_json_object_end(j);
        }
    sl_json_array_end(j);
}

static void shown_json(struct sl_buf *b, const struct shown *s)
{
    const struct sl_checkpoint_info *info = sl_info(s->ck);
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_kstr(&j, "name", s->l->name);
    sl_json_kstr(&j, "dtype", sl_dtype_label(s->l->dtype));
    shape_json(&j, "shape", s->l->shape, s->l->ndim);
    sl_json_kuint(&j, "bytes", s->l->bytes);
    sl_json_kstr(&j, "split", s->l->split_text);
    sl_json_kstr(&j, "kind", s->l->kind);
    stats_json(&j, &s->all);
    sl_json_key(&j, "histogram");
    sl_json_object(&j);
    sl_json_kdouble(&j, "lo", s->histogram.lo);
    sl_json_kdouble(&j, "hi", s->histogram.hi);
    sl_json_key(&j, "bins");
    sl_json_array(&j);
    for (int i = 0; i < SL_HISTOGRAM_BINS; i++)
        sl_json_uint(&j, s->histogram.bins[i]);
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_json_key(&j, "pieces");
    sl_json_array(&j);
    for (size_t i = 0; i < s->count; i++) {
        const struct sl_tensor *t = sl_tensor_at(s->ck, s->pieces[i]);
        char rank[48], sum[32];
        uint64_t begin, end;
        snprintf(sum, sizeof sum, "xxh3:%016llx", (unsigned long long)s->checksum[i]);
        sl_json_object(&j);
        sl_json_kstr(&j, "stored_name", t->path);
        sl_json_kstr(&j, "rank", rank_text(s->ck, t, rank, sizeof rank));
        sl_json_kstr(&j, "file", info->files[t->file].name);
        sl_tensor_place(s->ck, s->pieces[i], &begin, &end);
        sl_json_kuint(&j, "offset", begin);
        shape_json(&j, "shape", t->shape, t->ndim);
        if (sl_tensor_is_chunk(t)) {
            shape_json(&j, "chunk_offset", t->global_offset, t->ndim);
            shape_json(&j, "whole_shape", t->global_shape, t->ndim);
        }
        sl_json_kstr(&j, "checksum", sum);
        stats_json(&j, &s->piece[i]);
        slices_json(&j, s->ck, s->pieces[i]);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

static int show_logical(const struct values *v, struct sl_checkpoint *ck, const struct sl_logical *l,
                        const struct rank_filter *f, struct sl_error *err)
{
    struct shown s = { .ck = ck, .l = l };
    s.pieces = calloc(l->piece_count + 1, sizeof *s.pieces);
    s.piece = calloc(l->piece_count + 1, sizeof *s.piece);
    s.checksum = calloc(l->piece_count + 1, sizeof *s.checksum);
    s.first = calloc(l->piece_count + 1, sizeof *s.first);
    int code = s.pieces && s.piece && s.checksum && s.first ? SL_OK : sl_fail_memory(err, l->piece_count * sizeof *s.piece);
    for (size_t i = 0; !code && i < l->piece_count; i++)
        if (rank_filter_fits(f, ck, sl_tensor_at(ck, l->pieces[i])))
            s.pieces[s.count++] = l->pieces[i];
    if (!code && !s.count)
        code = sl_fail(err, SL_USAGE, l->name, "--rank %s: no such rank holds it", v->text[OPT_RANK]);
    if (!code)
        code = shown_measure(&s, err);
    if (!code) {
        struct sl_buf out = { 0 };
        if (v->given[OPT_JSON])
            shown_json(&out, &s);
        else
            shown_text(&out, &s);
        code = out_flush(&out);
    } else {
        code = report_error(err);
    }
    free(s.pieces);
    free(s.piece);
    free(s.checksum);
    free(s.first);
    return code;
}

int command_show(const struct values *v)
{
    struct sl_error err = { 0 };
    struct rank_filter f;
    if (rank_filter_parse(v->text[OPT_RANK], &f, &err))
        return report_error(&err);
    struct sl_checkpoint *ck;
    int code = open_checkpoint(v, v->args[0], &ck);
    if (code)
        return code;
    ptrdiff_t found = sl_logical_find(ck, v->args[1]);
    if (found < 0) {
        sl_fail(&err, SL_USAGE, v->args[1], "no such tensor; shardlens ls lists them");
        code = report_error(&err);
    } else {
        code = show_logical(v, ck, sl_logical_at(ck, (size_t)found), &f, &err);
    }
    sl_close(ck);
    return code;
}
