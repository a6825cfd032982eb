/* facts.c: the model card. */
#include "tui/facts.h"
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

bool config_int(const struct app *app, const char *key, int64_t *out)
{
    const struct sl_setting *s = sl_config_get(app->opened->ck, key);
    if (!s || !s->value || s->value->kind != SL_VALUE_INT)
        return false;
    *out = s->value->i;
    return true;
}

struct text { char *at; size_t room; };
static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at, t->room, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < t->room ? (size_t)n : t->room ? t->room - 1 : 0;
    t->at += used;
    t->room -= used;
}
#define TEXT(fact) { (fact)->text, sizeof (fact)->text }

static void family(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    char count[32], name[64];
    struct text t = TEXT(f);
    add(&t, "%s", i->model ? sl_printable(i->model, name, sizeof name)
                           : i->family_title ? sl_printable(i->family_title, name, sizeof name) : "family not known");
    if (i->params)
        add(&t, ", %s", sl_text_count(i->params, count, sizeof count));
    if (i->family)
        add(&t, " (%s)", sl_confidence_name(i->confidence));
}

static void layers(const struct app *app, struct fact *f)
{
    struct text t = TEXT(f);
    int64_t n, h, ffn;
    add(&t, "%s", config_int(app, "num_layers", &n) ? "" : "?");
    if (config_int(app, "num_layers", &n))
        add(&t, "%lld", (long long)n);
    if (config_int(app, "hidden_size", &h))
        add(&t, "  hidden %lld", (long long)h);
    if (config_int(app, "ffn_hidden_size", &ffn))
        add(&t, "  ffn %lld", (long long)ffn);
}

static void heads(const struct app *app, struct fact *f)
{
    struct text t = TEXT(f);
    int64_t q, kv, dim;
    bool known = config_int(app, "num_attention_heads", &q);
    add(&t, "%s", known ? "" : "not known: --set num_attention_heads=N");
    if (known)
        add(&t, "%lld query", (long long)q);
    if (known && config_int(app, "num_query_groups", &kv))
        add(&t, " / %lld kv", (long long)kv);
    if (known && config_int(app, "kv_channels", &dim))
        add(&t, ", %lld wide", (long long)dim);
}

static void vocabulary(const struct app *app, struct fact *f)
{
    struct text t = TEXT(f);
    int64_t n, padded;
    bool known = config_int(app, "vocab_size", &n), pad = config_int(app, "padded_vocab_size", &padded);
    if (known)
        add(&t, "%lld", (long long)n);
    if (pad && (!known || padded != n))
        add(&t, known ? " padded to %lld" : "%lld rows, true size not known", (long long)padded);
    const struct sl_setting *tied = sl_config_get(app->opened->ck, "tie_embeddings");
    if (!tied)
        tied = sl_config_get(app->opened->ck, "tie_word_embeddings");
    if (tied && tied->value && tied->value->kind == SL_VALUE_BOOL)
        add(&t, tied->value->i ? ", tied" : ", untied");
}

static void experts(const struct app *app, struct fact *f)
{
    const struct sl_moe *m = app->opened->info->moe;
    struct text t = TEXT(f);
    char count[32];
    add(&t, "%d", m->num_experts);
    if (m->topk)
        add(&t, " choose %d", m->topk);
    if (m->active_params)
        add(&t, ", %s active", sl_text_count(m->active_params, count, sizeof count));
    if (m->shared_experts)
        add(&t, ", %d shared", m->shared_experts);
    if (m->expert_layout)
        add(&t, ", %s", m->expert_layout);
}

static void format(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    struct text t = TEXT(f);
    add(&t, "%s", sl_container_name(i->container));
    for (size_t d = 0; d < i->dtype_count && d < 3; d++)
        add(&t, ", %s", sl_dtype_label(i->dtypes[d].dtype));
    if (i->names)
        add(&t, ", %s", i->names);
}

static void layout(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    struct text t = TEXT(f);
    if (i->rank_count) {
        const char *times = i->parallel.ep > 1 && i->parallel.vpp > 1 ? "x" : " x ";      /* four of them are long */
        add(&t, "TP%d%sPP%d", i->parallel.tp, times, i->parallel.pp);
        if (i->parallel.ep > 1)
            add(&t, "%sEP%d", times, i->parallel.ep);
        if (i->parallel.vpp > 1)
            add(&t, "%sVPP%d", times, i->parallel.vpp);
        add(&t, " = %zu ranks", i->rank_count);
    } else {
        add(&t, "%zu file%s", i->file_count, i->file_count == 1 ? "" : "s");
    }
}

static void size(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    struct text t = TEXT(f);
    char disk[32], unique[32];
    uint64_t files = 0;
    for (size_t k = 0; k < i->file_count; k++)
        files += i->files[k].size;
    add(&t, "%s disk, %s weights", sl_text_bytes(files, disk, sizeof disk),
        sl_text_bytes(i->unique_bytes ? i->unique_bytes : i->bytes, unique, sizeof unique));
}

static void step(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    struct text t = TEXT(f);
    size_t same = 0, told = 0;
    for (size_t r = 0; r < i->rank_count; r++) {
        same += i->ranks[r].iteration == i->iteration;
        told += i->ranks[r].iteration >= 0;
    }
    if (i->release)
        add(&t, "release");
    else if (i->iteration >= 0)
        add(&t, "%lld", (long long)i->iteration);
    else
        add(&t, "not told");
    if (i->iteration >= 0 && same && same < told)
        add(&t, " in %zu of %zu ranks", same, told);
    if (i->checkpoint_version >= 0)
        add(&t, ", version %g", i->checkpoint_version);
}

static void tensors(const struct app *app, struct fact *f)
{
    const struct sl_checkpoint_info *i = app->opened->info;
    struct text t = TEXT(f);
    add(&t, "%zu in %zu pieces", i->tensors, sl_tensor_count(app->opened->ck));
}

/* Weights that are stored several times over tp, ep or as ties must be equal. */
static void copies(const struct app *app, struct fact *f)
{
    const struct sl_check_result *c = app->checked;
    struct text t = TEXT(f);
    if (!c || !app->check_deep)
        add(&t, "not compared: D reads them");
    else if (c->replicas_different)
        add(&t, "%llu of %llu differ", (unsigned long long)c->replicas_different, (unsigned long long)c->replicas_compared);
    else
        add(&t, "%llu compared, all equal", (unsigned long long)c->replicas_compared);
}
static bool has_no_copies(const struct app *app) { return app->opened->info->rank_count < 2; }

static bool is_dense(const struct app *app) { return app->opened->info->moe == NULL; }

/* `skip` leaves a fact out where it has nothing to say. */
static const struct { const char *label; bool files; void (*make)(const struct app *, struct fact *); bool (*skip)(const struct app *); } rows[] = {
    { "model", false, family, NULL },     { "layers", false, layers, NULL }, { "heads", false, heads, NULL },
    { "experts", false, experts, is_dense },   { "vocab", false, vocabulary, NULL },
    { "copies", false, copies, has_no_copies },
    { "format", true, format, NULL },     { "layout", true, layout, NULL },  { "size", true, size, NULL },
    { "step", true, step, NULL },         { "tensors", true, tensors, NULL },
};

size_t facts_of(const struct app *app, struct fact *facts, size_t *half)
{
    size_t count = 0;
    *half = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].skip && rows[i].skip(app))
            continue;
        facts[count].label = rows[i].label;
        facts[count].text[0] = '\0';
        rows[i].make(app, &facts[count]);
        count++;
        if (!rows[i].files)
            *half = count;
    }
    return count;
}
