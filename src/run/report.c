/* report.c: what a run did, as JSON (docs: convert --json, verify --json). */
#include "run/job.h"

#include "base/dtype.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sl_run_status_text(enum sl_result_status status)
{
    static const char *const names[] = {
        [SL_RESULT_PENDING] = "pending",     [SL_RESULT_WRITTEN] = "written",
        [SL_RESULT_VERIFIED] = "verified",   [SL_RESULT_MISMATCH] = "mismatch",
        [SL_RESULT_EQUAL] = "equal",         [SL_RESULT_DIFFERENT] = "different",
        [SL_RESULT_ONLY_A] = "only-a",       [SL_RESULT_ONLY_B] = "only-b",
        [SL_RESULT_SHAPE] = "shape-differs",
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown";
}

static void write_numbers(struct sl_json *j, const char *key, const int64_t *numbers, uint32_t count)
{
    sl_json_key(j, key);
    sl_json_array(j);
    for (uint32_t a = 0; a < count; a++)
        sl_json_int(j, numbers[a]);
    sl_json_array_end(j);
}

/* Of a target that is a part of an array: where in it. */
static void write_chunk(struct sl_json *j, const struct sl_tensor *t)
{
    if (!t->ndim || !t->global_shape || !memcmp(t->global_shape, t->shape, t->ndim * sizeof *t->shape))
        return;
    sl_json_key(j, "chunk");
    sl_json_object(j);
    write_numbers(j, "at", t->global_offset, t->ndim);
    write_numbers(j, "of", t->global_shape, t->ndim);
    sl_json_object_end(j);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Every tensor that a target is made of, once. */
static void write_sources(struct sl_json *j, const struct sl_conversion *p, size_t target)
{
    const size_t first = p->target_first[target], n = p->target_first[target + 1] - first;
    uint32_t *sources = malloc((n ? n : 1) * sizeof *sources);
    sl_json_key(j, "sources");
    sl_json_array(j);
    if (!sources)
        j->out->failed = true;
    for (size_t i = 0; sources && i < n; i++)
        sources[i] = p->copies[first + i].source;
    if (sources && n)
        qsort(sources, n, sizeof *sources, by_number);
    for (size_t i = 0; sources && i < n && sources[i] != UINT32_MAX; i++) {
        if (i > 0 && sources[i] == sources[i - 1])
            continue;
        const struct sl_tensor *t = &p->source.tensors[sources[i]];
        sl_json_object(j);
        sl_json_kstr(j, "name", t->path ? t->path : t->name);
        sl_json_kstr(j, "file", t->file >= 0 ? p->ckpt->files[t->file].name : NULL);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
    free(sources);
}

static void write_target(struct sl_json *j, const struct sl_conversion *p, size_t i, const struct sl_result *t)
{
    char sum[32];
    snprintf(sum, sizeof sum, "xxh3:%016" PRIx64, t->checksum);
    const bool known = t->status != SL_RESULT_PENDING;
    sl_json_object(j);
    sl_json_kstr(j, "name", t->name);
    sl_json_kstr(j, "dtype", sl_dtype_name(t->dtype));
    write_numbers(j, "shape", t->shape, t->ndim);
    write_chunk(j, &p->targets[i]);
    sl_json_kstr(j, "file", t->file);
    sl_json_kuint(j, "bytes", t->bytes);
    sl_json_kstr(j, "checksum", known ? sum : NULL);
    sl_json_kdouble(j, "min", t->stats.min);
    sl_json_kdouble(j, "max", t->stats.max);
    sl_json_kdouble(j, "mean", t->stats.mean);
    sl_json_kdouble(j, "std", t->stats.std);
    sl_json_kuint(j, "zeros", t->stats.zeros);
    sl_json_kuint(j, "nan", t->stats.nan);
    sl_json_kuint(j, "inf", t->stats.inf);
    write_sources(j, p, i);
    sl_json_kstr(j, "status", sl_run_status_text(t->status));
    sl_json_object_end(j);
}

static void write_summary(struct sl_json *j, const struct sl_summary *s)
{
    sl_json_kuint(j, "tensors", s->tensors);
    sl_json_kuint(j, "bytes", s->bytes);
    sl_json_kdouble(j, "seconds", s->seconds);
    sl_json_kdouble(j, "bytes_per_second", s->bytes_per_second);
    sl_json_kuint(j, "peak_memory_bytes", s->peak_memory_bytes);
    sl_json_kuint(j, "read_bytes", s->read_bytes);
    sl_json_kuint(j, "reads", s->reads);
    sl_json_kuint(j, "written_bytes", s->written_bytes);
    sl_json_kuint(j, "writes", s->writes);
}

static int finish(struct sl_json *j, struct sl_buf *out)
{
    sl_json_object_end(j);
    sl_buf_char(out, '\n');
    return out->failed ? SL_MEMORY : SL_OK;
}

int sl_report_convert(const struct sl_run *r, const struct sl_conversion *p, const char *target,
                      struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, 1);
    sl_json_object(&j);
    sl_json_key(&j, "summary");
    sl_json_object(&j);
    sl_json_kstr(&j, "source", p->ckpt->path);
    sl_json_kstr(&j, "target", target);
    sl_json_kstr(&j, "plan", p->hash);
    write_summary(&j, &r->summary);
    sl_json_kbool(&j, "verified", r->summary.verified);
    sl_json_kstr(&j, "verify", r->summary.verify);
    sl_json_kstr(&j, "proof", p->proof);
    sl_json_object_end(&j);

    sl_json_key(&j, "tensors");
    sl_json_array(&j);
    for (size_t i = 0; i < r->result_count; i++)
        write_target(&j, p, i, sl_run_result_at(r, i));
    sl_json_array_end(&j);

    sl_json_key(&j, "left_out");
    sl_json_array(&j);
    for (size_t i = 0; i < p->left_out_count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "name", p->left_out[i].name);
        sl_json_kstr(&j, "where", p->left_out[i].where);
        sl_json_kstr(&j, "why", p->left_out[i].why);
        sl_json_kuint(&j, "bytes", p->left_out[i].bytes);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    return finish(&j, out);
}

int sl_report_verify(const struct sl_run *r, struct sl_buf *out)
{
    const struct sl_summary *s = &r->summary;
    struct sl_json j;
    sl_json_begin(&j, out, 1);
    sl_json_object(&j);
    sl_json_kbool(&j, "equal", s->different == 0 && s->only_a == 0 && s->only_b == 0);
    sl_json_key(&j, "summary");
    sl_json_object(&j);
    write_summary(&j, s);
    sl_json_kuint(&j, "equal", s->equal);
    sl_json_kuint(&j, "different", s->different);
    sl_json_kuint(&j, "only_a", s->only_a);
    sl_json_kuint(&j, "only_b", s->only_b);
    sl_json_object_end(&j);
    sl_json_key(&j, "params");
    sl_json_array(&j);
    for (size_t i = 0; i < r->result_count; i++) {
        const struct sl_result *p = sl_run_result_at(r, i);
        sl_json_object(&j);
        sl_json_kstr(&j, "name", p->name);
        sl_json_kstr(&j, "dtype", sl_dtype_name(p->dtype));
        write_numbers(&j, "shape", p->shape, p->ndim);
        sl_json_kstr(&j, "status", sl_run_status_text(p->status));
        sl_json_kuint(&j, "different", p->different);
        sl_json_key(&j, "first_different");
        if (p->first_different == UINT64_MAX)
            sl_json_null(&j);
        else
            sl_json_uint(&j, p->first_different);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    return finish(&j, out);
}
