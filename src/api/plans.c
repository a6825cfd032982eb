/* plans.c: plans, as the public API shows them. */
#include "api/handle.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/pool.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define MOST_LISTED 256     /* parallel sizes that are looked at to say which ones fit */

/* ---- options ------------------------------------------------------------------- */

struct format_row { enum sl_format format; const char *name; enum sl_dialect dialect; enum sl_out out; };
static const struct format_row formats[] = {
    { SL_TO_HF, "hf", SL_DIALECT_HF, SL_OUT_SAFETENSORS },
    { SL_TO_HF_BIN, "hf-bin", SL_DIALECT_HF, SL_OUT_BIN },
    { SL_TO_PT, "pt", SL_DIALECT_HF, SL_OUT_PT },
    { SL_TO_MEGATRON, "megatron", SL_DIALECT_MEGATRON, SL_OUT_MEGATRON },
    { SL_TO_TORCH_DIST, "torch_dist", SL_DIALECT_MEGATRON, SL_OUT_DIST },
};

static const struct format_row *format_row(enum sl_format format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].format == format)
            return &formats[i];
    return NULL;
}

/* "7,8,8,9": layers of each pipeline rank, which its virtual stages share evenly, or of each
 * stage, chunk by chunk. */
static int stages_fill(struct sl_plan *plan, const char *text, struct sl_target_spec *spec, struct sl_error *err)
{
    const int32_t pp = spec->parallel.pp, vpp = spec->parallel.vpp;
    int32_t *stages = SL_ARENA_NEW(&plan->arena, int32_t, (uint64_t)pp * (uint64_t)vpp);
    int64_t n = 0, sum = 0, layers = 0, values[4096];
    if (!stages)
        return sl_fail_memory(err, 4096);
    for (const char *p = text; *p && n < 4096; n++) {
        char *end;
        const long long v = strtoll(p, &end, 10);
        if (end == p || v < 0 || v > 100000 || (*end && *end != ','))
            return sl_fail(err, SL_USAGE, "", "--pp-layout %s: not a list of numbers as 7,8,8,9", text);
        values[n] = v;
        sum += v;
        p = *end ? end + 1 : end;
    }
    if (n != pp && n != (int64_t)pp * vpp)
        return sl_fail(err, SL_USAGE, "", "--pp-layout %s: %lld numbers found; %d pipeline stages need as many", text, (long long)n,
                       n > pp ? pp * vpp : pp);
    if (sl_model_int(plan->ck->m, "num_layers", &layers) && sum != layers)
        return sl_fail(err, SL_USAGE, "", "--pp-layout %s: adds up to %lld layers; the model has %lld", text, (long long)sum,
                       (long long)layers);
    for (int32_t i = 0; i < pp * vpp; i++) {
        if (n != (int64_t)pp * vpp && values[i % pp] % vpp)
            return sl_fail(err, SL_USAGE, "", "--pp-layout %s: %lld layers do not divide over %d virtual stages", text,
                           (long long)values[i % pp], vpp);
        stages[i] = (int32_t)(n == (int64_t)pp * vpp ? values[i] : values[i % pp] / vpp);
    }
    spec->stage_layers = stages;
    return SL_OK;
}

static int32_t or_one(int32_t n)
{
    return n > 0 ? n : 1;
}

/* Rows of the embedding by Megatron's rule: a multiple of divisor * tp.
 * Source: Megatron-LM megatron/training/tokenizer (_vocab_size_with_padding) */
static void megatron_vocab(const struct sl_model *m, const struct sl_plan_options *o, struct sl_want *w)
{
    int64_t divisor = o->vocab_divisor, known = 0;
    if (divisor <= 0)
        divisor = sl_model_int(m, "make_vocab_size_divisible_by", &known) && known > 0 ? known : 128;
    const int64_t rows = m->vocab >= 0 ? m->vocab : m->padded_vocab, unit = divisor * w->spec.parallel.tp;
    w->vocab_divisor = divisor;
    w->spec.padded_vocab = (rows + unit - 1) / unit * unit;
}

static void add_choice(struct sl_buf *b, int32_t n)
{
    sl_buf_printf(b, "%s%d", b->len ? ", " : "", n);
}

static int check_tp(const struct sl_model *m, int32_t tp, struct sl_error *err)
{
    int64_t size = 0, ignored;
    const char *r = sl_tp_misfit(m, tp, &size);
    if (!r)
        return SL_OK;
    struct sl_buf fits = { 0 };
    for (int32_t n = 1; n <= MOST_LISTED; n++)
        if (!sl_tp_misfit(m, n, &ignored))
            add_choice(&fits, n);
    const int rc = fits.failed ? sl_fail_memory(err, 64)
        : sl_fail(err, SL_USAGE, "", "--tp %d: %s is %lld, which does not divide over %d ranks; possible: %s", tp, r,
                  (long long)size, tp, fits.data ? fits.data : "none");
    sl_buf_free(&fits);
    return rc;
}

/* Stages of equal size, unless --pp-layout says how many layers each has. */
static int check_pp(const struct sl_model *m, const struct sl_parallel *p, struct sl_error *err)
{
    int64_t layers;
    if (!sl_model_int(m, "num_layers", &layers) || layers < 1 || layers % ((int64_t)p->pp * p->vpp) == 0)
        return SL_OK;
    struct sl_buf fits = { 0 };
    for (int32_t n = 1; n <= MOST_LISTED && n <= layers; n++)
        if (layers % ((int64_t)n * p->vpp) == 0)
            add_choice(&fits, n);
    const int rc = fits.failed ? sl_fail_memory(err, 64)
        : sl_fail(err, SL_USAGE, "", "--pp %d: %lld layers do not divide over %lld pipeline stages (pp %d x vpp %d); possible: %s; "
                  "or say how many each has with --pp-layout", p->pp, (long long)layers, (long long)p->pp * p->vpp, p->pp, p->vpp,
                  fits.data ? fits.data : "none");
    sl_buf_free(&fits);
    return rc;
}

static int megatron_fill(struct sl_plan *plan, const struct sl_plan_options *o, struct sl_want *w, struct sl_error *err)
{
    struct sl_parallel *p = &w->spec.parallel;
    *p = (struct sl_parallel){ or_one(o->tp), or_one(o->pp), or_one(o->vpp), or_one(o->ep), o->etp > 0 ? o->etp : or_one(o->tp) };
    if (p->vpp > 1 && p->pp == 1)
        return sl_fail(err, SL_USAGE, "", "--vpp %d: virtual stages need more than one pipeline stage; give --pp too", p->vpp);
    if (p->ep > 1 && !plan->ck->m->moe)
        return sl_fail(err, SL_USAGE, "", "--ep %d: the model has no experts", p->ep);
    int rc = check_tp(plan->ck->m, p->tp, err);
    if (!rc && !o->pp_layout)
        rc = check_pp(plan->ck->m, p, err);
    if (rc)
        return rc;
    w->spec.spec = o->names ? o->names : "te";
    w->spec.experts = o->experts && !strcmp(o->experts, "local") ? "local" : "te_grouped";
    w->iteration = o->iteration;
    w->dist_files = o->dist_files;
    w->release = o->release;
    megatron_vocab(plan->ck->m, o, w);
    return o->pp_layout ? stages_fill(plan, o->pp_layout, &w->spec, err) : SL_OK;
}

/* A size for a target without ranks is often meant for the source, whose sizes its folders tell. */
static int check_unranked(const struct sl_plan_options *o, const char *format, struct sl_error *err)
{
    const struct { const char *name; int32_t n; } sizes[] = {
        { "tp", o->tp }, { "pp", o->pp }, { "vpp", o->vpp }, { "ep", o->ep }, { "etp", o->etp } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].n > 1)
            return sl_fail(err, SL_USAGE, "", "--%s %d: a target of --to %s has no ranks, and how the source is cut is read from it; "
                           "leave --%s out, or say --to megatron", sizes[i].name, sizes[i].n, format, sizes[i].name);
    if (o->pp_layout)
        return sl_fail(err, SL_USAGE, "", "--pp-layout %s: a target of --to %s has no pipeline stages; leave it out, or say --to megatron",
                       o->pp_layout, format);
    return SL_OK;
}

static int want_fill(struct sl_plan *plan, const struct sl_plan_options *o, struct sl_want *w, struct sl_error *err)
{
    const struct format_row *f = format_row(o->format);
    if (!f)
        return sl_fail(err, SL_USAGE, "", "the target format must be stated with --to");
    if (o->dist_files && o->format != SL_TO_TORCH_DIST)
        return sl_fail(err, SL_USAGE, "", "--dist-files %d: only a target of --to torch_dist has .distcp files, this one is --to %s; leave it out",
                       o->dist_files, f->name);
    *w = (struct sl_want){ .dialect = f->dialect, .dtype = o->dtype, .max_shard_size = o->max_shard_size, .out = f->out,
                           .hf_config = o->hf_config, .pad_last = o->pad_last, .iteration = -1,
                           .spec = { .dialect = f->dialect, .parallel = { 1, 1, 1, 1, 1 } } };
    return f->dialect == SL_DIALECT_MEGATRON ? megatron_fill(plan, o, w, err) : check_unranked(o, f->name, err);
}

/* ---- info ------------------------------------------------------------------------ */

static const char *command_text(struct sl_plan *plan, const char *dst, const struct sl_plan_options *o)
{
    struct sl_buf b = { 0 };
    sl_buf_str(&b, "shardlens convert");
    sl_buf_shell_word(&b, plan->ck->c->path);
    sl_buf_shell_word(&b, dst ? dst : "DST");
    sl_buf_printf(&b, " --to %s", format_row(o->format)->name);
    if (o->dtype)
        sl_buf_printf(&b, " --dtype %s", sl_dtype_name(o->dtype));
    if (o->max_shard_size)
        sl_buf_printf(&b, " --max-shard-size %llu", (unsigned long long)o->max_shard_size);
    const struct { const char *name; int64_t n; } numbers[] = {
        { "tp", o->tp }, { "pp", o->pp }, { "vpp", o->vpp }, { "ep", o->ep }, { "etp", o->etp },
        { "make-vocab-size-divisible-by", o->vocab_divisor }, { "dist-files", o->dist_files },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].n > 0)
            sl_buf_printf(&b, " --%s %lld", numbers[i].name, (long long)numbers[i].n);
    if (o->pp_layout) {
        sl_buf_str(&b, " --pp-layout");
        sl_buf_shell_word(&b, o->pp_layout);
    }
    if (o->names)
        sl_buf_printf(&b, " --names %s", o->names);
    if (o->experts)
        sl_buf_printf(&b, " --experts %s", o->experts);
    if (o->pad_last)
        sl_buf_str(&b, " --pad-with last");
    if (o->release)
        sl_buf_str(&b, " --iteration release");
    else if (o->iteration >= 0 && (o->format == SL_TO_MEGATRON || o->format == SL_TO_TORCH_DIST))
        sl_buf_printf(&b, " --iteration %lld", (long long)o->iteration);
    if (o->hf_config) {
        sl_buf_str(&b, " --hf-config");
        sl_buf_shell_word(&b, o->hf_config);
    }
    sl_buf_str(&b, plan->ck->options);
    char *text = b.failed ? NULL : sl_arena_str(&plan->arena, b.data);
    sl_buf_free(&b);
    return text;
}

/* Free bytes of the file system that the target would be on: of its nearest parent that exists. */
static uint64_t free_at(const char *dst)
{
    char *path = dst ? strdup(dst) : NULL;
    uint64_t bytes = 0;
    struct statvfs fs;
    while (path) {
        if (!statvfs(*path ? path : ".", &fs)) {
            bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
            break;
        }
        char *slash = strrchr(path, '/');
        if (!*path)
            break;
        if (!slash)
            *path = '\0';
        else
            slash[slash == path ? (slash[1] ? 1 : 0) : 0] = '\0';
    }
    free(path);
    return bytes;
}

static bool is_cast(const struct sl_plan *plan, const struct sl_copy *c)
{
    const struct sl_conversion *p = plan->p;
    return c->source != UINT32_MAX && p->source.tensors[c->source].dtype != p->targets[c->target].dtype;
}

/* "add 1, cast", "scale" (8-bit floats with factors of blocks): what a copy does besides moving elements; "" for nothing. */
static const char *op_words(const struct sl_plan *plan, const struct sl_copy *c)
{
    const bool cast = is_cast(plan, c);
    if (c->op.kind == SL_OP_NONE && c->source != UINT32_MAX && plan->p->source.tensors[c->source].flags & SL_TENSOR_SCALED)
        return "scale";
    if (c->op.kind == SL_OP_NONE)
        return cast ? "cast" : "";
    for (size_t i = 0; i < plan->word_count; i++)
        if (sl_op_same(plan->words[i].op, c->op) && plan->words[i].cast == cast)
            return plan->words[i].text;
    return "";
}

/* The words of all ops of the plan, made once: people ask for pieces again and again. */
static int words_fill(struct sl_plan *plan, struct sl_error *err)
{
    const struct sl_conversion *p = plan->p;
    char op[64];
    for (size_t i = 0; i < p->copy_count; i++) {
        const struct sl_copy *c = &p->copies[i];
        if (c->op.kind == SL_OP_NONE || *op_words(plan, c))
            continue;
        const bool full = plan->word_count == sizeof plan->words / sizeof *plan->words;
        const char *text = sl_arena_printf(&plan->arena, "%s%s", sl_op_text(c->op, op, sizeof op), is_cast(plan, c) ? ", cast" : "");
        if (!text || full)
            return full ? sl_fail(err, SL_UNSUPPORTED, "", "a plan with more than %zu kinds of arithmetic", plan->word_count)
                        : sl_fail_memory(err, sizeof op);
        plan->words[plan->word_count].op = c->op;
        plan->words[plan->word_count].cast = is_cast(plan, c);
        plan->words[plan->word_count++].text = text;
    }
    return SL_OK;
}

/* What a target is made of, in a few words, from its first copy. */
static const char *rule_text(struct sl_plan *plan, size_t target)
{
    const struct sl_conversion *p = plan->p;
    const size_t first = p->target_first[target], count = p->target_first[target + 1] - first;
    if (!count)
        return "empty";
    const struct sl_copy *c = &p->copies[first];
    if (c->source == UINT32_MAX)
        return "padding";
    const char *label = p->source.rule ? p->source.rule[c->source] : NULL;
    const struct sl_logical *l = &plan->ck->logicals[plan->ck->logical_of[c->source]];
    const char *op = op_words(plan, c), *comma = *op ? ", " : "";
    const char *what = label && *label && strcmp(label, "copy") ? label : l->split == SL_SPLIT ? "concat" : "copy";
    const char *text = l->split == SL_SPLIT
        ? sl_arena_printf(&plan->arena, "%s, %s%s%s", what, l->split_text, comma, op)
        : sl_arena_printf(&plan->arena, "%s%s%s", what, comma, op);
    return text ? text : what;
}

static enum sl_dtype stored_dtype(const struct sl_tensor *t)
{
    return t->flags & SL_TENSOR_SCALED ? t->stored : t->dtype;
}

static int targets_fill(struct sl_plan *plan, struct sl_error *err)
{
    const struct sl_conversion *p = plan->p;
    plan->targets = SL_ARENA_NEW(&plan->arena, struct sl_plan_target, p->target_count);
    if (!plan->targets)
        return sl_fail_memory(err, p->target_count * sizeof *plan->targets);
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        const size_t first = p->target_first[i], count = p->target_first[i + 1] - first;
        const uint32_t source = count ? p->copies[first].source : UINT32_MAX;
        const bool chunk = t->ndim && t->global_shape && memcmp(t->global_shape, t->shape, t->ndim * sizeof *t->shape);
        plan->targets[i] = (struct sl_plan_target){
            .name = t->name, .dtype = t->dtype, .ndim = t->ndim, .shape = t->shape, .bytes = t->bytes, .file = t->file,
            .whole = chunk ? t->global_shape : NULL, .at = chunk ? t->global_offset : NULL,
            .source_dtype = source == UINT32_MAX ? t->dtype : stored_dtype(&p->source.tensors[source]), .offset = t->offset,
            .rule = rule_text(plan, i), .piece_count = count };
    }
    return SL_OK;
}

static int lists_fill(struct sl_plan *plan, struct sl_error *err)
{
    const struct sl_conversion *p = plan->p;
    struct sl_plan_file *files = SL_ARENA_NEW(&plan->arena, struct sl_plan_file, p->file_count);
    struct sl_plan_extra *extras = SL_ARENA_NEW(&plan->arena, struct sl_plan_extra, p->extra_count);
    struct sl_left_out *left = SL_ARENA_NEW(&plan->arena, struct sl_left_out, p->left_out_count);
    if (!files || !extras || !left)
        return sl_fail_memory(err, p->left_out_count * sizeof *left);
    for (size_t i = 0; i < p->file_count; i++)
        files[i] = (struct sl_plan_file){ p->files[i].name, p->files[i].size, p->files[i].tensors };
    for (size_t i = 0; i < p->extra_count; i++)
        extras[i] = (struct sl_plan_extra){ p->extras[i].name, p->extras[i].len, p->extras[i].from };
    for (size_t i = 0; i < p->left_out_count; i++)
        left[i] = (struct sl_left_out){ p->left_out[i].name, p->left_out[i].where, p->left_out[i].why, p->left_out[i].bytes };
    plan->info.files = files;
    plan->info.file_count = p->file_count;
    plan->info.extras = extras;
    plan->info.extra_count = p->extra_count;
    plan->info.left_out = left;
    plan->info.left_out_count = p->left_out_count;
    return SL_OK;
}

/* What becomes of each source tensor. One that holds weights and is not read is a replica if
 * the target has one of these weights. */
static int uses_fill(struct sl_plan *plan, struct sl_error *err)
{
    const struct sl_conversion *p = plan->p;
    const struct sl_layout *s = &p->source, *t = &p->target;
    plan->uses = SL_ARENA_NEW(&plan->arena, struct source_use, s->tensor_count);
    if (!plan->uses)
        return sl_fail_memory(err, s->tensor_count * sizeof *plan->uses);
    for (size_t i = 0; i < s->tensor_count; i++)
        plan->uses[i] = p->source_use[i] == 2 ? (struct source_use){ SL_SOURCE_READ, "" }
                      : p->source_use[i] == 1 ? (struct source_use){ SL_SOURCE_LEFT_OUT, "the target's format has no tensor for it" }
                                              : (struct source_use){ SL_SOURCE_UNCLAIMED, "" };
    for (size_t i = 0; i < s->param_count; i++)
        for (size_t k = s->param_first[i]; k < s->param_first[i + 1] && t->param_first[i + 1] > t->param_first[i]; k++)
            if (plan->uses[s->slices[k].tensor].use == SL_SOURCE_LEFT_OUT)
                plan->uses[s->slices[k].tensor] = (struct source_use){ SL_SOURCE_REPLICA, "" };
    for (size_t i = 0; i < s->unused_count; i++)
        plan->uses[s->unused[i].tensor] = (struct source_use){ SL_SOURCE_LEFT_OUT, s->unused[i].why };
    return SL_OK;
}

static int plan_fill(struct sl_plan *plan, const char *dst, const struct sl_plan_options *o, struct sl_error *err)
{
    const struct sl_conversion *p = plan->p;
    struct sl_plan_info *info = &plan->info;
    int code = words_fill(plan, err);
    if (!code)
        code = targets_fill(plan, err);
    if (!code)
        code = lists_fill(plan, err);
    if (!code)
        code = uses_fill(plan, err);
    if (code)
        return code;
    info->source = plan->ck->c->path;
    info->target = dst ? sl_arena_str(&plan->arena, dst) : NULL;
    info->format = o->format;
    info->format_name = format_row(o->format)->name;
    info->target_count = p->target_count;
    info->notes = p->notes.items;
    info->note_count = p->notes.count;
    info->read_bytes = p->read_bytes;
    info->write_bytes = p->write_bytes;
    info->memory_bytes = sl_min_u64(o->memory ? o->memory : UINT64_C(256000000),
                                    (o->threads ? o->threads : sl_processors()) * (UINT64_C(8) << 20));
    info->free_bytes = free_at(dst);
    info->pieces = p->copy_count;
    info->hash = p->hash;
    info->proof = p->proof;
    info->command = command_text(plan, dst, o);
    return info->command ? SL_OK : sl_fail_memory(err, 256);
}

/* What is made when nothing is said: one file for a name that ends like one, Hugging Face
 * for a Megatron source; anything else must be stated. */
static enum sl_format usual_format(const struct sl_checkpoint *ck, const char *dst)
{
    if (dst && (sl_text_ends(dst, ".pt") || sl_text_ends(dst, ".bin")))
        return SL_TO_PT;
    return ck->c->container == SL_MEGATRON_TORCH ? SL_TO_HF : SL_TO_AUTO;
}

int sl_plan_make(struct sl_checkpoint *ck, const char *dst, const struct sl_plan_options *options, struct sl_plan **out,
                 struct sl_error *err)
{
    struct sl_want want;
    struct sl_plan_options o = *options;
    struct sl_plan *plan = calloc(1, sizeof *plan);
    *out = NULL;
    if (!plan)
        return sl_fail_memory(err, sizeof *plan);
    plan->ck = ck;
    if (o.format == SL_TO_AUTO)
        o.format = usual_format(ck, dst);
    int code = want_fill(plan, &o, &want, err);
    if (!code)
        code = sl_conversion_make(ck->c, ck->m, &want, &plan->p, err);
    if (!code)
        code = plan_fill(plan, dst, &o, err);
    if (!code && plan->arena.starved)
        code = sl_fail_memory(err, plan->arena.used);
    if (code) {
        sl_plan_free(plan);
        return code;
    }
    *out = plan;
    return SL_OK;
}

void sl_plan_free(struct sl_plan *plan)
{
    if (!plan)
        return;
    sl_conversion_free(plan->p);
    sl_arena_free(&plan->arena);
    free(plan);
}

const struct sl_plan_info *sl_plan_info(const struct sl_plan *plan)
{
    return &plan->info;
}

const struct sl_plan_target *sl_plan_target(const struct sl_plan *plan, size_t index)
{
    return index < plan->info.target_count ? &plan->targets[index] : NULL;
}

/* ---- pieces ------------------------------------------------------------------------ */

struct giving {
    const struct sl_plan *plan;
    const struct sl_copy *copy;
    struct sl_piece_info *out; size_t room, count;
};

static int give_piece(void *arg, const struct sl_block *b)
{
    struct giving *g = arg;
    const struct sl_conversion *p = g->plan->p;
    if (g->count++ >= g->room)
        return 0;
    struct sl_piece_info *info = &g->out[g->count - 1];
    const struct sl_tensor *target = &p->targets[b->target];
    *info = (struct sl_piece_info){ .source = SIZE_MAX, .source_name = "", .source_file = "", .target_ndim = target->ndim, .op = "pad",
                                    .param = b->param == UINT32_MAX ? "" : p->target.params[b->param].name };
    memcpy(info->target_lo, b->target_lo, sizeof info->target_lo);
    memcpy(info->target_hi, b->target_hi, sizeof info->target_hi);
    if (b->source == UINT32_MAX)
        return 0;
    const struct sl_tensor *source = &p->source.tensors[b->source];
    info->source = b->source;
    info->source_name = g->plan->ck->logicals[g->plan->ck->logical_of[b->source]].name;
    info->source_file = p->ckpt->files[source->file].name;
    info->source_ndim = source->ndim;
    memcpy(info->source_lo, b->source_lo, sizeof info->source_lo);
    memcpy(info->source_hi, b->source_hi, sizeof info->source_hi);
    memcpy(info->target_axis, b->target_axis, sizeof info->target_axis);
    const char *op = op_words(g->plan, g->copy);
    info->op = *op ? op : "copy";
    return 0;
}

size_t sl_plan_pieces(const struct sl_plan *plan, size_t target, struct sl_piece_info *out, size_t room)
{
    const struct sl_conversion *p = plan->p;
    struct giving g = { .plan = plan, .out = out, .room = room };
    if (target >= p->target_count)
        return 0;
    for (size_t i = p->target_first[target]; i < p->target_first[target + 1]; i++) {
        const struct sl_copy *c = &p->copies[i];
        const struct sl_tensor *source = c->source == UINT32_MAX ? NULL : &p->source.tensors[c->source];
        g.copy = c;
        if (sl_copy_blocks(c, source, &p->targets[target], give_piece, &g))
            break;
    }
    return g.count;
}

bool sl_piece_cut(struct sl_piece_info *piece, bool of_source, const int64_t *lo, const int64_t *hi)
{
    struct sl_piece_info cut = *piece;
    const uint32_t ndim = of_source ? piece->source_ndim : piece->target_ndim;
    int64_t *const cut_lo = of_source ? cut.source_lo : cut.target_lo, *const cut_hi = of_source ? cut.source_hi : cut.target_hi;
    if (of_source && piece->source == SIZE_MAX)
        return false;
    for (uint32_t a = 0; a < ndim; a++) {
        const int64_t before = lo[a] > cut_lo[a] ? lo[a] - cut_lo[a] : 0, after = hi[a] < cut_hi[a] ? cut_hi[a] - hi[a] : 0;
        if (before + after >= cut_hi[a] - cut_lo[a])
            return false;
        cut_lo[a] += before;
        cut_hi[a] -= after;
        for (uint32_t s = 0; s < piece->source_ndim; s++) {     /* the other side's axis loses as much */
            const int8_t t = piece->target_axis[s];
            if (t < 0 || (of_source ? s : (uint32_t)t) != a)
                continue;
            int64_t *const other_lo = of_source ? &cut.target_lo[t] : &cut.source_lo[s];
            int64_t *const other_hi = of_source ? &cut.target_hi[t] : &cut.source_hi[s];
            *other_lo += before;
            *other_hi -= after;
        }
    }
    *piece = cut;
    return true;
}

size_t sl_plan_uses(const struct sl_plan *plan, size_t tensor, size_t *targets, size_t room)
{
    const struct sl_conversion *p = plan->p;
    size_t count = 0;
    uint32_t last = UINT32_MAX;
    for (size_t i = 0; i < p->copy_count; i++) {
        if (p->copies[i].source != tensor || p->copies[i].target == last)
            continue;
        last = p->copies[i].target;
        if (count < room)
            targets[count] = last;
        count++;
    }
    return count;
}

enum sl_source_use sl_plan_source(const struct sl_plan *plan, size_t tensor, const char **why)
{
    const bool known = tensor < plan->p->source.tensor_count;
    *why = known ? plan->uses[tensor].why : "";
    return known ? plan->uses[tensor].use : SL_SOURCE_UNCLAIMED;
}
