/* inspect.c: what is this. */
#include "cli/cli.h"
#include "base/json.h"
#include "base/value.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const rank_signs[] = { [SL_RANK_OK] = "=", [SL_RANK_MISSING] = "-", [SL_RANK_DAMAGED] = "!", [SL_RANK_ODD] = "~" };

static size_t count_severity(const struct sl_checkpoint_info *info, enum sl_severity s)
{
    size_t n = 0;
    for (size_t i = 0; i < info->problem_count; i++)
        n += info->problems[i].severity == s;
    return n;
}

static void verdict_text(struct sl_buf *b, const struct sl_checkpoint_info *info)
{
    size_t errors = count_severity(info, SL_ERROR), warnings = count_severity(info, SL_WARNING);
    size_t readable = 0;
    for (size_t i = 0; i < info->rank_count; i++)
        readable += info->ranks[i].status == SL_RANK_OK || info->ranks[i].status == SL_RANK_ODD;
    sl_buf_str(b, errors ? "! NOT SOUND" : warnings ? "~ headers agree, with warnings" : "= headers agree");
    if (errors)
        sl_buf_printf(b, "   %zu error%s", errors, errors == 1 ? "" : "s");
    if (warnings)
        sl_buf_printf(b, "   %zu warning%s", warnings, warnings == 1 ? "" : "s");
    if (info->rank_count)
        sl_buf_printf(b, "   headers %zu of %zu", readable, info->rank_count);
    sl_buf_str(b, "   values not read\n");
}

static void config_text(struct sl_buf *b, const struct sl_checkpoint_info *info)
{
    for (size_t i = 0; i < info->config_count; i++) {
        const struct sl_setting *s = &info->config[i];
        sl_buf_printf(b, "  %-38s ", s->key);
        size_t begin = b->len;
        sl_value_print(s->value, 40, b);
        while (!b->failed && b->len - begin < 22)
            sl_buf_char(b, ' ');
        sl_buf_printf(b, " %s\n", s->from ? s->from : "");
    }
}

/* Which layers each rank holds: a bit a layer; virtual stages hold several runs of them. */
struct held { bool *layer; int32_t first, count; };    /* layer[rank * count + layer - first] */

static bool held_make(const struct sl_checkpoint *ck, struct held *h)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    int32_t last = -1;
    for (size_t i = 0; i < info->rank_count; i++)
        last = info->ranks[i].layer_last > last ? info->ranks[i].layer_last : last;
    *h = (struct held){ .count = last + 1 };
    h->layer = calloc((size_t)h->count * info->rank_count + 1, sizeof *h->layer);
    for (size_t i = 0; h->layer && i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        for (size_t k = 0; l->layer >= 0 && l->layer < h->count && k < l->piece_count; k++) {
            const int32_t rank = sl_tensor_at(ck, l->pieces[k])->rank;
            if (rank >= 0)
                h->layer[(size_t)rank * (size_t)h->count + (size_t)l->layer] = true;
        }
    }
    return h->layer != NULL;
}

/* The next run of layers of a rank from *at on: [*first, *last]; *at moves behind it. */
static bool held_next(const struct held *h, size_t rank, int32_t *at, int32_t *first, int32_t *last)
{
    const bool *layer = h->layer + rank * (size_t)h->count;
    while (*at < h->count && !layer[*at])
        ++*at;
    if (*at >= h->count)
        return false;
    *first = *at;
    while (*at < h->count && layer[*at])
        ++*at;
    *last = *at - 1;
    return true;
}

static void layers_text(const struct held *h, size_t rank, char *out, size_t room)
{
    size_t len = 0;
    int32_t first, last;
    snprintf(out, room, "-");
    for (int32_t at = 0; len + 24 < room && held_next(h, rank, &at, &first, &last);)
        len += (size_t)snprintf(out + len, room - len, "%s%d", len ? "," : "", first),
        len += first == last ? 0 : (size_t)snprintf(out + len, room - len, "-%d", last);
}

static void ranks_text(struct sl_buf *b, const struct sl_checkpoint_info *info, const struct held *h)
{
    if (!info->rank_count)
        return;
    sl_buf_str(b, "ranks\n");
    for (size_t i = 0; i < info->rank_count; i++) {
        const struct sl_rank *r = &info->ranks[i];
        char size[32], layers[256];
        layers_text(h, i, layers, sizeof layers);
        sl_buf_printf(b, "  %s tp%d pp%d ep%d  %-24s layers %-8s %6llu tensors  %-9s %s\n", rank_signs[r->status], r->tp, r->pp,
                      r->ep, r->path, layers, (unsigned long long)r->tensors, sl_text_bytes(r->bytes, size, sizeof size),
                      sl_rank_status_name(r->status));
    }
}

/* When the oldest and the newest file were last written; false without files. */
static bool saved_between(const struct sl_checkpoint_info *info, bool utc, char *first, char *last, size_t room)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (size_t i = 0; i < info->file_count; i++) {
        const int64_t at = info->files[i].mtime_ns / 1000000000;
        low = at < low ? at : low;
        high = at > high ? at : high;
    }
    return info->file_count && *sl_text_time(low, utc, first, room) && *sl_text_time(high, utc, last, room);
}

static void inspect_text(struct sl_buf *b, const struct sl_checkpoint_info *info, const struct held *h, bool utc)
{
    char first[32], last[32];
    char size[32], unique[32], count[32];
    verdict_text(b, info);
    sl_buf_str(b, "path       ");
    sl_buf_printable(b, info->path, strlen(info->path));
    sl_buf_char(b, '\n');
    sl_buf_printf(b, "container  %s%s%s%s%s\n", sl_container_name(info->container), info->names ? ", names " : "",
                  info->names ? info->names : "", info->torch_container ? ", torch " : "",
                  info->torch_container ? info->torch_container : "");
    if (info->storage)
        sl_buf_printf(b, "storage    %s\n", info->storage);
    sl_buf_printf(b, "model      %s%s%s  (%s)\n", info->family_title ? info->family_title : "unknown family",
                  info->model ? ", " : "", info->model ? info->model : "", sl_confidence_name(info->confidence));
    sl_buf_printf(b, "size       %s parameters, %s in %zu file%s, %s unique\n",
                  info->params ? sl_text_count(info->params, count, sizeof count) : "?",
                  sl_text_bytes(info->bytes, size, sizeof size), info->file_count, info->file_count == 1 ? "" : "s",
                  sl_text_bytes(info->unique_bytes, unique, sizeof unique));
    sl_buf_str(b, "dtypes    ");
    for (size_t i = 0; i < info->dtype_count; i++)
        sl_buf_printf(b, " %s x%llu", sl_dtype_label(info->dtypes[i].dtype), (unsigned long long)info->dtypes[i].tensors);
    sl_buf_printf(b, "\nlayout     TP%d x PP%d x VPP%d x EP%d x ETP%d\n", info->parallel.tp, info->parallel.pp, info->parallel.vpp,
                  info->parallel.ep, info->parallel.etp);
    if (info->moe)
        sl_buf_printf(b, "experts    %d choose %d, %s\n", info->moe->num_experts, info->moe->topk, info->moe->expert_layout);
    if (info->release)
        sl_buf_str(b, "iteration  release\n");
    else if (info->iteration >= 0)
        sl_buf_printf(b, "iteration  %lld\n", (long long)info->iteration);
    if (saved_between(info, utc, first, last, sizeof first))
        sl_buf_printf(b, "saved      %s%s%s\n", first, strcmp(first, last) ? " to " : "", strcmp(first, last) ? last : "");
    if (info->config_count)
        sl_buf_str(b, "config\n");
    config_text(b, info);
    if (info->evidence_count)
        sl_buf_str(b, "evidence\n");
    for (size_t i = 0; i < info->evidence_count; i++)
        sl_buf_printf(b, "  %-38s %s\n", info->evidence[i].fact, info->evidence[i].from);
    ranks_text(b, info, h);
    if (info->problem_count)
        sl_buf_str(b, "problems\n");
    problems_text(b, info->problems, info->problem_count);
}

static void number_or_null(struct sl_json *j, const char *key, bool known, int64_t value)
{
    sl_json_key(j, key);
    if (known)
        sl_json_int(j, value);
    else
        sl_json_null(j);
}

static void moe_json(struct sl_json *j, const struct sl_moe *moe)
{
    sl_json_key(j, "moe");
    if (!moe) {
        sl_json_null(j);
        return;
    }
    sl_json_object(j);
    sl_json_kint(j, "num_experts", moe->num_experts);
    sl_json_kint(j, "topk", moe->topk);
    sl_json_key(j, "layers");
    sl_json_array(j);
    for (size_t i = 0; i < moe->layer_count; i++)
        sl_json_int(j, moe->layers[i]);
    sl_json_array_end(j);
    sl_json_kint(j, "shared_experts", moe->shared_experts);
    sl_json_kstr(j, "expert_layout", moe->expert_layout);
    number_or_null(j, "expert_params", moe->expert_params > 0, (int64_t)moe->expert_params);
    number_or_null(j, "active_params", moe->active_params > 0, (int64_t)moe->active_params);
    sl_json_object_end(j);
}

static void ranks_json(struct sl_json *j, const struct sl_checkpoint_info *info, const struct held *h)
{
    sl_json_key(j, "ranks");
    sl_json_array(j);
    for (size_t i = 0; i < info->rank_count; i++) {
        const struct sl_rank *r = &info->ranks[i];
        sl_json_object(j);
        sl_json_kint(j, "tp", r->tp);
        sl_json_kint(j, "pp", r->pp);
        sl_json_kint(j, "ep", r->ep);
        sl_json_kstr(j, "path", r->path);
        sl_json_kuint(j, "tensors", r->tensors);
        sl_json_kuint(j, "bytes", r->bytes);
        sl_json_key(j, "layers");
        if (r->layer_first < 0) {
            sl_json_null(j);
        } else {
            sl_json_array(j);
            sl_json_int(j, r->layer_first);
            sl_json_int(j, r->layer_last);
            sl_json_array_end(j);
        }
        sl_json_key(j, "layer_runs");
        sl_json_array(j);
        int32_t first, last;
        for (int32_t at = 0; held_next(h, i, &at, &first, &last);) {
            sl_json_array(j);
            sl_json_int(j, first);
            sl_json_int(j, last);
            sl_json_array_end(j);
        }
        sl_json_array_end(j);
        sl_json_kstr(j, "status", sl_rank_status_name(r->status));
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

/* Keys that scripts may rely on: null where the checkpoint does not tell. */
static const char *const always_shown[] = {
    "num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups", "kv_channels",
    "vocab_size", "padded_vocab_size", "tie_embeddings", "num_experts",
};

static bool is_known(const struct sl_checkpoint_info *info, const char *key)
{
    for (size_t i = 0; i < info->config_count; i++)
        if (!strcmp(info->config[i].key, key))
            return true;
    return false;
}

static void inspect_json(struct sl_json *j, const struct sl_checkpoint_info *info, const struct held *h)
{
    sl_json_object(j);
    sl_json_kstr(j, "path", info->path);
    sl_json_kstr(j, "container", sl_container_name(info->container));
    sl_json_kstr(j, "family", info->family);
    sl_json_kstr(j, "model", info->model);
    sl_json_kstr(j, "confidence", sl_confidence_name(info->confidence));
    sl_json_key(j, "evidence");
    sl_json_array(j);
    for (size_t i = 0; i < info->evidence_count; i++) {
        sl_json_object(j);
        sl_json_kstr(j, "fact", info->evidence[i].fact);
        sl_json_kstr(j, "from", info->evidence[i].from);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
    number_or_null(j, "params", info->params > 0, (int64_t)info->params);
    sl_json_kuint(j, "bytes", info->bytes);
    sl_json_kuint(j, "unique_bytes", info->unique_bytes);
    sl_json_key(j, "dtypes");
    sl_json_object(j);
    for (size_t i = 0; i < info->dtype_count; i++)
        sl_json_kuint(j, sl_dtype_label(info->dtypes[i].dtype), info->dtypes[i].tensors);
    sl_json_object_end(j);
    sl_json_kuint(j, "tensors", info->tensors);
    sl_json_kuint(j, "files", info->file_count);
    sl_json_kstr(j, "names", info->names);
    sl_json_kstr(j, "storage", info->storage);
    sl_json_key(j, "config");
    sl_json_object(j);
    for (size_t i = 0; i < info->config_count; i++) {
        sl_json_key(j, info->config[i].key);
        sl_json_value(j, info->config[i].value);
    }
    for (size_t i = 0; i < sizeof always_shown / sizeof *always_shown; i++)
        if (!is_known(info, always_shown[i])) {
            sl_json_key(j, always_shown[i]);
            sl_json_null(j);
        }
    sl_json_object_end(j);
    sl_json_key(j, "parallel");
    sl_json_object(j);
    sl_json_kint(j, "tp", info->parallel.tp);
    sl_json_kint(j, "pp", info->parallel.pp);
    sl_json_kint(j, "vpp", info->parallel.vpp);
    sl_json_kint(j, "ep", info->parallel.ep);
    sl_json_kint(j, "etp", info->parallel.etp);
    sl_json_object_end(j);
    moe_json(j, info->moe);
    number_or_null(j, "iteration", info->iteration >= 0, info->iteration);
    sl_json_kbool(j, "release", info->release);
    char first[32], last[32];
    sl_json_key(j, "saved");
    if (saved_between(info, true, first, last, sizeof first)) {
        sl_json_object(j);
        sl_json_kstr(j, "first", first);
        sl_json_kstr(j, "last", last);
        sl_json_object_end(j);
    } else {
        sl_json_null(j);
    }
    sl_json_key(j, "checkpoint_version");
    if (info->checkpoint_version >= 0)
        sl_json_double(j, info->checkpoint_version);
    else
        sl_json_null(j);
    ranks_json(j, info, h);
    problems_json(j, info->problems, info->problem_count);
    sl_json_object_end(j);
}

int command_inspect(const struct values *v)
{
    struct sl_checkpoint *ck;
    int code = open_checkpoint(v, v->args[0], &ck);
    if (code)
        return code;
    const struct sl_checkpoint_info *info = sl_info(ck);
    struct sl_buf out = { 0 };
    struct held held;
    if (!held_make(ck, &held)) {
        out.failed = true;
    } else if (v->given[OPT_JSON]) {
        struct sl_json j;
        sl_json_begin(&j, &out, 2);
        inspect_json(&j, info, &held);
        sl_buf_char(&out, '\n');
    } else {
        inspect_text(&out, info, &held, v->given[OPT_UTC]);
    }
    free(held.layer);
    bool errors = count_severity(info, SL_ERROR) > 0;
    code = out_flush(&out);
    sl_close(ck);
    return code ? code : errors ? SL_INPUT : SL_OK;
}
