/* common.c: what several commands need: opening, options into structs, texts of problems. */
#include "cli/cli.h"
#include "base/json.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void open_options(const struct values *v, struct sl_open_options *o)
{
    *o = (struct sl_open_options){ .model = v->text[OPT_MODEL],
                                   .set = v->list[OPT_SET],
                                   .set_count = v->list_count[OPT_SET],
                                   .family_file = v->text[OPT_FAMILY_FILE],
                                   .hf_config = v->text[OPT_HF_CONFIG] };
}

int open_checkpoint(const struct values *v, const char *path, struct sl_checkpoint **ck)
{
    struct sl_open_options o;
    struct sl_error err = { 0 };
    open_options(v, &o);
    return sl_open(path, &o, ck, &err) ? report_error(&err) : SL_OK;
}

static enum sl_format format_named(const char *name)
{
    static const struct { const char *name; enum sl_format format; } rows[] = {
        { "hf", SL_TO_HF }, { "hf-bin", SL_TO_HF_BIN }, { "pt", SL_TO_PT },
        { "megatron", SL_TO_MEGATRON }, { "torch_dist", SL_TO_TORCH_DIST },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].format;
    return SL_TO_AUTO;
}

static enum sl_dtype dtype_named(const char *name)
{
    return !strcmp(name, "bf16") ? SL_BF16 : !strcmp(name, "fp16") ? SL_F16
         : !strcmp(name, "fp32") ? SL_F32 : SL_DTYPE_UNKNOWN;
}

/* --to, or what DST and the source suggest; SL_TO_AUTO when it must be stated. */
static enum sl_format format_wanted(const struct values *v, const struct sl_checkpoint *ck, const char *dst)
{
    if (v->given[OPT_TO])
        return format_named(v->text[OPT_TO]);
    if (dst && (sl_text_ends(dst, ".pt") || sl_text_ends(dst, ".bin")))
        return SL_TO_PT;
    switch (sl_info(ck)->container) {
    case SL_MEGATRON_TORCH: case SL_MEGATRON_TORCH_DIST: case SL_MEGATRON_ZARR:
        return SL_TO_HF;
    default:
        return SL_TO_AUTO;
    }
}

int plan_options(const struct values *v, const struct sl_checkpoint *ck, const char *dst,
                 struct sl_plan_options *o, struct sl_error *err)
{
    *o = (struct sl_plan_options){
        .format = format_wanted(v, ck, dst),
        .dtype = v->given[OPT_DTYPE] ? dtype_named(v->text[OPT_DTYPE]) : SL_DTYPE_UNKNOWN,
        .max_shard_size = v->size[OPT_MAX_SHARD_SIZE],
        .hf_config = v->text[OPT_HF_CONFIG],
        .tp = (int32_t)v->number[OPT_TP], .pp = (int32_t)v->number[OPT_PP], .vpp = (int32_t)v->number[OPT_VPP],
        .ep = (int32_t)v->number[OPT_EP], .etp = (int32_t)v->number[OPT_ETP],
        .pp_layout = v->text[OPT_PP_LAYOUT], .names = v->text[OPT_NAMES], .experts = v->text[OPT_EXPERTS],
        .pad_last = v->given[OPT_PAD_WITH] && strcmp(v->text[OPT_PAD_WITH], "last") == 0,
        .iteration = -1,
        .vocab_divisor = (int32_t)v->number[OPT_VOCAB_DIVISOR],
        .dist_files = (int32_t)v->number[OPT_DIST_FILES],
        .memory = v->size[OPT_MEMORY], .threads = (uint32_t)v->number[OPT_THREADS],
    };
    if (o->format == SL_TO_AUTO)
        return sl_fail(err, SL_USAGE, "", "the target format is not known from the source: state it with --to");
    if (v->given[OPT_ITERATION]) {
        const char *text = v->text[OPT_ITERATION];
        o->release = strcmp(text, "release") == 0;
        if (!o->release && (!sl_text_parse_i64(text, &o->iteration) || o->iteration < 0))
            return sl_fail(err, SL_USAGE, "", "--iteration %s: not a number and not release", text);
    }
    return SL_OK;
}

void run_options(const struct values *v, struct sl_run_options *o)
{
    const char *verify = v->given[OPT_VERIFY] ? v->text[OPT_VERIFY] : "reread";
    const char *report = v->text[OPT_REPORT];
    if (report && !strcmp(report, "/dev/stdout"))    /* in its turn with what else goes there */
        report = "-";
    *o = (struct sl_run_options){
        .threads = (uint32_t)v->number[OPT_THREADS], .memory = v->size[OPT_MEMORY],
        .verify = !strcmp(verify, "none") ? SL_VERIFY_NONE : !strcmp(verify, "checksum") ? SL_VERIFY_CHECKSUM : SL_VERIFY_REREAD,
        .force = v->given[OPT_FORCE], .resume = v->given[OPT_RESUME], .tell = true, .report = report,
        .finish = v->given[OPT_FINISH], .check_parts = v->given[OPT_FINISH] && v->given[OPT_VERIFY],
    };
}

/* "3/16" */
int part_parse(const struct values *v, struct sl_run_options *o, struct sl_error *err)
{
    const char *text = v->text[OPT_PART], *slash = text ? strchr(text, '/') : NULL;
    char first[24];
    int64_t part = 0, parts = 0;
    if (!text)
        return SL_OK;
    if (slash && (size_t)(slash - text) < sizeof first) {
        snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
        if (sl_text_parse_i64(first, &part) && sl_text_parse_i64(slash + 1, &parts) && part >= 1 && part <= parts && parts <= SL_MAX_PARTS) {
            o->part = (uint32_t)part;
            o->parts = (uint32_t)parts;
            o->tell = false;                     /* it would tell of a part as of the whole */
            return SL_OK;
        }
    }
    return sl_fail(err, SL_USAGE, "", "--part %s: not a part; write it as I/N, from 1/N to N/N (N at most %d)", text, SL_MAX_PARTS);
}

int rank_filter_parse(const char *text, struct rank_filter *f, struct sl_error *err)
{
    *f = (struct rank_filter){ -1, -1, -1 };
    for (const char *p = text; p && *p;) {
        const char *equals = strchr(p, '='), *comma = strchr(p, ',');
        char number[24];
        int64_t n = -1;
        size_t key = equals ? (size_t)(equals - p) : 0;
        size_t len = equals ? (comma ? (size_t)(comma - equals - 1) : strlen(equals + 1)) : 0;
        if (key == 2 && len && len < sizeof number && (!comma || comma > equals)) {
            memcpy(number, equals + 1, len);
            number[len] = '\0';
            if (sl_text_parse_i64(number, &n) && n >= 0 && n < INT32_MAX) {
                int32_t *axis = !strncmp(p, "tp", 2) ? &f->tp : !strncmp(p, "pp", 2) ? &f->pp : !strncmp(p, "ep", 2) ? &f->ep : NULL;
                if (axis) {
                    *axis = (int32_t)n;
                    p = comma ? comma + 1 : NULL;
                    continue;
                }
            }
        }
        return sl_fail(err, SL_USAGE, "", "--rank %s: not understood; write it as tp=1,pp=0,ep=0", text);
    }
    return SL_OK;
}

bool rank_filter_fits(const struct rank_filter *f, const struct sl_checkpoint *ck, const struct sl_tensor *t)
{
    if (f->tp < 0 && f->pp < 0 && f->ep < 0)
        return true;
    if (t->rank < 0)
        return false;
    const struct sl_rank *r = &sl_info(ck)->ranks[t->rank];
    return (f->tp < 0 || r->tp == f->tp) && (f->pp < 0 || r->pp == f->pp) && (f->ep < 0 || r->ep == f->ep);
}

char *rank_text(const struct sl_checkpoint *ck, const struct sl_tensor *t, char *out, size_t room)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    out[0] = '\0';
    if (t->rank >= 0) {
        const struct sl_rank *r = &info->ranks[t->rank];
        int n = snprintf(out, room, "tp%d pp%d", r->tp, r->pp);
        if (info->parallel.ep > 1 && n > 0 && (size_t)n < room)
            snprintf(out + n, room - (size_t)n, " ep%d", r->ep);
    }
    return out;
}

char *part_text(const struct sl_checkpoint *ck, const struct sl_tensor *t, char *out, size_t room)
{
    if (!sl_tensor_is_chunk(t))
        return rank_text(ck, t, out, room);
    size_t len = 0;
    for (uint32_t a = 0; a < t->ndim && len < room; a++) {
        const int n = snprintf(out + len, room - len, "%s%lld:%lld", a ? ", " : "[", (long long)t->global_offset[a],
                               (long long)(t->global_offset[a] + t->shape[a]));
        len += n > 0 ? (size_t)n : 0;
    }
    if (len < room)
        snprintf(out + len, room - len, "]");
    return out;
}

void name_text(struct sl_buf *b, const char *s)
{
    sl_buf_printable(b, s, strlen(s));
}

static const struct { const char *label; size_t offset; bool of_note; } card_parts[] = {
    { "expected", offsetof(struct sl_problem, expected), false }, { "cause", offsetof(struct sl_problem, cause), false },
    { "damage", offsetof(struct sl_problem, damage), false }, { "next", offsetof(struct sl_problem, next), true },
};
#define CARD_PARTS (sizeof card_parts / sizeof card_parts[0])

static const char *card_part(const struct sl_problem *p, size_t part)
{
    const char *text;
    memcpy(&text, (const char *)p + card_parts[part].offset, sizeof text);
    return text;
}

/* The rank, the byte, and the weights of the model: what the line above does not say. */
static void place_text(struct sl_buf *b, const struct sl_problem *p)
{
    char byte[32];
    const char *comma = "";
    const bool param = *p->param && strcmp(p->param, p->where);
    if (p->tp < 0 && p->offset < 0 && !param)
        return;
    sl_buf_str(b, "          place: ");
    if (p->tp >= 0) {
        sl_buf_printf(b, "tp %d, pp %d", (int)p->tp, (int)p->pp);
        if (p->ep > 0)
            sl_buf_printf(b, ", ep %d", (int)p->ep);
        comma = "; ";
    }
    if (param) {
        sl_buf_printf(b, "%s%s of the model", comma, p->param);
        comma = "; ";
    }
    if (p->offset >= 0)
        sl_buf_printf(b, "%sfrom byte %s of %s", comma, sl_text_grouped((uint64_t)p->offset, byte, sizeof byte), p->file);
    sl_buf_char(b, '\n');
}

/* One card. What the card of the same code before it says as well is not said again; a note is its sentence
 * and what to do. */
static void problem_text(struct sl_buf *b, const struct sl_problem *p, const struct sl_problem *before)
{
    sl_buf_printf(b, "%-9s %s  %s%s%s\n", sl_severity_name(p->severity), p->code, p->where, *p->where ? ": " : "", p->message);
    if (p->severity > SL_NOTE && !(before && *p->where && !strcmp(before->where, p->where)))
        place_text(b, p);
    for (size_t i = 0; i < CARD_PARTS; i++) {
        const char *text = card_part(p, i);
        const bool said = before && !strcmp(before->code, p->code) && !strcmp(card_part(before, i), text);
        if (*text && !said && (p->severity > SL_NOTE || card_parts[i].of_note))
            sl_buf_printf(b, "          %s: %s\n", card_parts[i].label, text);
    }
}

void problems_text(struct sl_buf *b, const struct sl_problem *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        problem_text(b, &p[i], i ? &p[i - 1] : NULL);
}

static void place_json(struct sl_json *j, const struct sl_problem *p)
{
    if (*p->file)
        sl_json_kstr(j, "file", p->file);
    if (p->tp >= 0) {
        sl_json_key(j, "rank");
        sl_json_object(j);
        sl_json_kint(j, "tp", p->tp);
        sl_json_kint(j, "pp", p->pp);
        sl_json_kint(j, "ep", p->ep);
        sl_json_object_end(j);
    }
    if (*p->tensor)
        sl_json_kstr(j, "tensor", p->tensor);
    if (*p->param)
        sl_json_kstr(j, "param", p->param);
    if (p->offset >= 0)
        sl_json_kint(j, "offset", p->offset);
}

void problems_json(struct sl_json *j, const struct sl_problem *p, size_t count)
{
    sl_json_key(j, "problems");
    sl_json_array(j);
    for (size_t i = 0; i < count; i++) {
        sl_json_object(j);
        sl_json_kstr(j, "severity", sl_severity_name(p[i].severity));
        sl_json_kstr(j, "code", p[i].code);
        sl_json_kstr(j, "where", p[i].where);
        sl_json_kstr(j, "message", p[i].message);
        place_json(j, &p[i]);
        for (size_t k = 0; k < CARD_PARTS; k++)
            if (*card_part(&p[i], k))
                sl_json_kstr(j, card_parts[k].label, card_part(&p[i], k));
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

void shape_json(struct sl_json *j, const char *key, const int64_t *shape, uint32_t ndim)
{
    sl_json_key(j, key);
    sl_json_array(j);
    for (uint32_t i = 0; i < ndim; i++)
        sl_json_int(j, shape[i]);
    sl_json_array_end(j);
}
