/* plan.c: the mapping preview. */
#include "cli/cli.h"
#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include <stdlib.h>
#include <string.h>

static void box_text(struct sl_buf *b, const int64_t *lo, const int64_t *hi, uint32_t ndim)
{
    sl_buf_char(b, '[');
    for (uint32_t a = 0; a < ndim; a++)
        sl_buf_printf(b, "%s%lld:%lld", a ? ", " : "", (long long)lo[a], (long long)hi[a]);
    sl_buf_char(b, ']');
}

static void piece_text(struct sl_buf *b, const struct sl_checkpoint *ck, const struct sl_piece_info *p)
{
    char rank[96] = "";
    sl_buf_str(b, "      ");
    box_text(b, p->target_lo, p->target_hi, p->target_ndim);
    if (p->source == SIZE_MAX) {
        sl_buf_printf(b, " <- %s\n", p->op);
        return;
    }
    const struct sl_tensor *t = sl_tensor_at(ck, p->source);
    sl_buf_printf(b, " <- %s ", part_text(ck, t, rank, sizeof rank));
    sl_buf_printable(b, p->source_name, strlen(p->source_name));
    sl_buf_char(b, ' ');
    box_text(b, p->source_lo, p->source_hi, p->source_ndim);
    sl_buf_printf(b, "%s%s", strcmp(p->op, "copy") ? " " : "", strcmp(p->op, "copy") ? p->op : "");
    if (sl_tensor_is_chunk(t)) {
        uint64_t begin, end;
        sl_tensor_place(ck, p->source, &begin, &end);
        sl_buf_str(b, "  ");
        sl_buf_printable(b, p->source_file, strlen(p->source_file));
        sl_buf_printf(b, " bytes %llu-%llu", (unsigned long long)begin, (unsigned long long)end);
    }
    sl_buf_char(b, '\n');
}

/* Pieces of one target; NULL when memory is out. Free with free(). */
static struct sl_piece_info *pieces_of(const struct sl_plan *plan, size_t target, size_t *count)
{
    *count = sl_plan_pieces(plan, target, NULL, 0);
    struct sl_piece_info *pieces = calloc(*count + 1, sizeof *pieces);
    if (pieces)
        sl_plan_pieces(plan, target, pieces, *count);
    return pieces;
}

/* What is left out, the same name and reason on several ranks as one line. */
static void left_out_text(struct sl_buf *b, const struct sl_plan_info *info)
{
    struct sl_map seen = { 0 };
    uint64_t *times = calloc(info->left_out_count + 1, sizeof *times);
    size_t *first = calloc(info->left_out_count + 1, sizeof *first), count = 0;
    struct sl_arena arena = { 0 };
    for (size_t i = 0; times && first && i < info->left_out_count; i++) {
        const struct sl_left_out *l = &info->left_out[i];
        const char *key = sl_arena_printf(&arena, "%s: %s", l->name, l->why);
        uint64_t at = count;
        bool added = false;
        if (!key || !sl_map_add(&seen, key, strlen(key), &at, &added))
            break;
        if (added)
            first[count++] = i;
        times[at]++;
    }
    for (size_t i = 0; i < count; i++) {
        const struct sl_left_out *l = &info->left_out[first[i]];
        sl_buf_str(b, "left out  ");
        name_text(b, l->name);
        sl_buf_printf(b, ": %s", l->why);
        if (times[i] > 1)
            sl_buf_printf(b, "  (in %s and %llu more)\n", l->where, (unsigned long long)times[i] - 1);
        else
            sl_buf_printf(b, "  (in %s)\n", l->where);
    }
    sl_map_free(&seen);
    sl_arena_free(&arena);
    free(first);
    free(times);
}

static void plan_summary(struct sl_buf *b, const struct sl_plan_info *info)
{
    char read[32], write[32], memory[32], space[32];
    sl_buf_printf(b, "\n%s\n", info->proof);
    for (size_t i = 0; i < info->file_count; i++)
        sl_buf_printf(b, "file      %s  %s  %zu tensors\n", info->files[i].name, sl_text_bytes(info->files[i].bytes, read, sizeof read),
                      info->files[i].tensors);
    for (size_t i = 0; i < info->extra_count; i++)
        sl_buf_printf(b, "file      %s  %s\n", info->extras[i].name, info->extras[i].from ? info->extras[i].from : "made from what is known");
    left_out_text(b, info);
    problems_text(b, info->notes, info->note_count);
    sl_buf_printf(b, "cost      read %s, write %s in %zu file%s, %s of buffers", sl_text_bytes(info->read_bytes, read, sizeof read),
                  sl_text_bytes(info->write_bytes, write, sizeof write), info->file_count, info->file_count == 1 ? "" : "s",
                  sl_text_bytes(info->memory_bytes, memory, sizeof memory));
    if (info->free_bytes)
        sl_buf_printf(b, ", free at the target %s", sl_text_bytes(info->free_bytes, space, sizeof space));
    sl_buf_printf(b, "\nrun it    %s\n", info->command);
}

/* "name  bf16 [1, 96, 32] at [3, 0, 0] of [4, 96, 32]  6.1 KB  FILE at 10432  (rule)" */
static void target_text(struct sl_buf *b, const struct sl_plan_info *info, const struct sl_plan_target *t)
{
    char shape[128], size[32];
    name_text(b, t->name);
    sl_buf_printf(b, "  %s %s", sl_dtype_label(t->dtype), sl_text_shape(t->shape, t->ndim, shape, sizeof shape));
    if (t->whole) {
        sl_buf_printf(b, " at %s", sl_text_shape(t->at, t->ndim, shape, sizeof shape));
        sl_buf_printf(b, " of %s", sl_text_shape(t->whole, t->ndim, shape, sizeof shape));
    }
    sl_buf_printf(b, "  %s  %s at %llu  (%s)\n", sl_text_bytes(t->bytes, size, sizeof size), t->file >= 0 ? info->files[t->file].name : "",
                  (unsigned long long)t->offset, t->rule);
}

static void plan_text(struct sl_buf *b, const struct sl_checkpoint *ck, const struct sl_plan *plan)
{
    const struct sl_plan_info *info = sl_plan_info(plan);
    for (size_t i = 0; i < info->target_count; i++) {
        const struct sl_plan_target *t = sl_plan_target(plan, i);
        size_t count;
        target_text(b, info, t);
        struct sl_piece_info *pieces = pieces_of(plan, i, &count);
        for (size_t k = 0; pieces && k < count; k++)
            piece_text(b, ck, &pieces[k]);
        free(pieces);
    }
    plan_summary(b, info);
}

static void chunk_json(struct sl_json *j, const struct sl_checkpoint *ck, size_t tensor)
{
    const struct sl_tensor *t = sl_tensor_at(ck, tensor);
    uint64_t begin, end;
    if (!sl_tensor_is_chunk(t))
        return;
    sl_tensor_place(ck, tensor, &begin, &end);
    sl_json_key(j, "source_chunk");
    sl_json_object(j);
    sl_json_kstr(j, "key", t->path);
    shape_json(j, "offset", t->global_offset, t->ndim);
    shape_json(j, "shape", t->shape, t->ndim);
    sl_json_kuint(j, "begin", begin);
    sl_json_kuint(j, "end", end);
    sl_json_object_end(j);
}

static void piece_json(struct sl_json *j, const struct sl_checkpoint *ck, const struct sl_piece_info *p)
{
    sl_json_object(j);
    if (p->source == SIZE_MAX) {
        sl_json_key(j, "source");
        sl_json_null(j);
    } else {
        sl_json_kstr(j, "source", p->source_name);
        sl_json_kstr(j, "source_file", p->source_file);
        chunk_json(j, ck, p->source);
        sl_json_key(j, "source_box");
        sl_json_object(j);
        shape_json(j, "lo", p->source_lo, p->source_ndim);
        shape_json(j, "hi", p->source_hi, p->source_ndim);
        sl_json_object_end(j);
    }
    sl_json_key(j, "target_box");
    sl_json_object(j);
    shape_json(j, "lo", p->target_lo, p->target_ndim);
    shape_json(j, "hi", p->target_hi, p->target_ndim);
    sl_json_object_end(j);
    sl_json_kstr(j, "param", p->param);
    sl_json_kstr(j, "op", p->op);
    sl_json_object_end(j);
}

static void target_chunk_json(struct sl_json *j, const struct sl_plan_target *t)
{
    sl_json_key(j, "chunk");
    sl_json_object(j);
    shape_json(j, "at", t->at, t->ndim);
    shape_json(j, "of", t->whole, t->ndim);
    sl_json_object_end(j);
}

static void targets_json(struct sl_json *j, const struct sl_checkpoint *ck, const struct sl_plan *plan,
                         const struct sl_plan_info *info)
{
    sl_json_key(j, "targets");
    sl_json_array(j);
    for (size_t i = 0; i < info->target_count; i++) {
        const struct sl_plan_target *t = sl_plan_target(plan, i);
        size_t count;
        sl_json_object(j);
        sl_json_kstr(j, "name", t->name);
        sl_json_kstr(j, "dtype", sl_dtype_label(t->dtype));
        shape_json(j, "shape", t->shape, t->ndim);
        if (t->whole)
            target_chunk_json(j, t);
        sl_json_kuint(j, "bytes", t->bytes);
        sl_json_kstr(j, "file", t->file >= 0 ? info->files[t->file].name : NULL);
        sl_json_kuint(j, "offset", t->offset);
        sl_json_kstr(j, "rule", t->rule);
        sl_json_key(j, "pieces");
        sl_json_array(j);
        struct sl_piece_info *pieces = pieces_of(plan, i, &count);
        for (size_t k = 0; pieces && k < count; k++)
            piece_json(j, ck, &pieces[k]);
        free(pieces);
        sl_json_array_end(j);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void plan_json(struct sl_buf *b, const struct sl_checkpoint *ck, const struct sl_plan *plan)
{
    const struct sl_plan_info *info = sl_plan_info(plan);
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_kstr(&j, "source", info->source);
    sl_json_kstr(&j, "target", info->target);
    sl_json_kstr(&j, "format", info->format_name);
    sl_json_kstr(&j, "hash", info->hash);
    sl_json_kstr(&j, "proof", info->proof);
    targets_json(&j, ck, plan, info);
    sl_json_key(&j, "files");
    sl_json_array(&j);
    for (size_t i = 0; i < info->file_count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "name", info->files[i].name);
        sl_json_kuint(&j, "bytes", info->files[i].bytes);
        sl_json_kuint(&j, "tensors", info->files[i].tensors);
        sl_json_object_end(&j);
    }
    for (size_t i = 0; i < info->extra_count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "name", info->extras[i].name);
        sl_json_kuint(&j, "bytes", info->extras[i].bytes);
        sl_json_kstr(&j, "from", info->extras[i].from);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_key(&j, "left_out");
    sl_json_array(&j);
    for (size_t i = 0; i < info->left_out_count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "name", info->left_out[i].name);
        sl_json_kstr(&j, "where", info->left_out[i].where);
        sl_json_kstr(&j, "why", info->left_out[i].why);
        sl_json_kuint(&j, "bytes", info->left_out[i].bytes);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    problems_json(&j, info->notes, info->note_count);
    sl_json_key(&j, "cost");
    sl_json_object(&j);
    sl_json_kuint(&j, "read_bytes", info->read_bytes);
    sl_json_kuint(&j, "write_bytes", info->write_bytes);
    sl_json_kuint(&j, "memory_bytes", info->memory_bytes);
    sl_json_key(&j, "free_bytes");
    if (info->target)
        sl_json_uint(&j, info->free_bytes);
    else
        sl_json_null(&j);
    sl_json_kuint(&j, "pieces", info->pieces);
    sl_json_object_end(&j);
    sl_json_kstr(&j, "command", info->command);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

int command_plan(const struct values *v)
{
    struct sl_checkpoint *ck;
    struct sl_plan *plan = NULL;
    struct sl_plan_options o;
    struct sl_error err = { 0 };
    const char *dst = v->arg_count > 1 ? v->args[1] : NULL;
    int code = open_checkpoint(v, v->args[0], &ck);
    if (code)
        return code;
    code = plan_options(v, ck, dst, &o, &err);
    if (!code)
        code = sl_plan_make(ck, dst, &o, &plan, &err);
    if (code) {
        code = report_error(&err);
    } else {
        struct sl_buf out = { 0 };
        if (v->given[OPT_JSON])
            plan_json(&out, ck, plan);
        else
            plan_text(&out, ck, plan);
        code = out_flush(&out);
    }
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}
