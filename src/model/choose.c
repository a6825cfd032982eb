/* choose.c: published models of the same shape, the true vocabulary, and the
 * family, each with what speaks for it. Shapes of a decoder tell which
 * families are possible; which of those it is, numbers and paths may tell, or
 * nothing does: that is said then. */
#include "model/internal.h"

#include "base/error.h"
#include "base/value.h"
#include <shardlens/shardlens.h>

#include <ctype.h>
#include <string.h>

enum {
    CERTAIN = 100, LIKELY = 50,          /* weights; see SIGN in family.h */
    LEAD = 30,                           /* by which the best must be ahead of the next */
    SAME_SHAPE = 60,                     /* weight of a published model of this very shape */
    SAME_TYPE = 200,                     /* of config.json naming the family */
    SAME_REFERENCE = 150,                /* of the config.json the user gave */
};

/* ---- the database -------------------------------------------------------- */

/* Padded rows may exceed the true vocabulary by less than one step of the padding
 * (Megatron-LM megatron/training/tokenizer, vocab_size_with_padding). */
bool sl_vocab_fits(const struct sl_detector *d, int64_t vocab)
{
    int64_t rows = 0, step = 128, said = 0;
    if (!sl_said_int(d, "padded_vocab_size", SL_BY_TENSORS, &rows) || vocab > rows)
        return false;
    if (sl_known_int(d, "vocab_size", &said) && said == vocab)
        return true;
    if (d->seen.dialect == SL_DIALECT_HF)
        return rows == vocab;
    (void)sl_known_int(d, "make_vocab_size_divisible_by", &step);
    step = step > 0 && step <= 65536 ? step * d->c->parallel.tp : 128;
    return rows - vocab < step;
}

static bool size_equals(const struct sl_detector *d, const char *key, int32_t wanted)
{
    int64_t found;
    return !wanted || !sl_said_int(d, key, SL_BY_TENSORS, &found) || found == wanted;
}

static bool row_matches(const struct sl_detector *d, const struct sl_model_row *row)
{
    int64_t layers, hidden;
    if (row->nominal || !sl_said_int(d, "num_layers", SL_BY_TENSORS, &layers) || layers != row->layers
        || !sl_said_int(d, "hidden_size", SL_BY_TENSORS, &hidden) || hidden != row->hidden
        || !size_equals(d, "ffn_hidden_size", row->ffn) || !size_equals(d, "num_experts", row->experts)
        || !size_equals(d, "moe_ffn_hidden_size", sl_model_row_facts(row)->moe_ffn))
        return false;
    if (!sl_flags_hold(d, sl_model_row_facts(row)->flags))
        return false;
    return sl_has_flag(d, "mla") || sl_has_flag(d, "gdn")
        || ((int64_t)row->heads * row->head_dim == d->qd && (int64_t)row->kv_heads * row->head_dim == d->kvd);
}

/* Keeps only rows that hold(); all of them where none does. */
static void narrow(struct sl_detector *d, bool (*hold)(const struct sl_detector *d, const struct sl_model_row *row))
{
    size_t kept = 0, count = 0;
    for (size_t i = 0; i < d->exact_count; i++)
        count += hold(d, d->exact[i]);
    for (size_t i = 0; count && i < d->exact_count; i++)
        if (hold(d, d->exact[i]))
            d->exact[kept++] = d->exact[i];
    d->exact_count = count ? count : d->exact_count;
}

static bool vocab_holds(const struct sl_detector *d, const struct sl_model_row *row)
{
    return sl_vocab_fits(d, row->vocab);
}

static bool tie_holds(const struct sl_detector *d, const struct sl_model_row *row)
{
    const int32_t tied = sl_model_row_facts(row)->tied;
    return tied < 0 || (tied == 1) == sl_has_flag(d, "tied");
}

static bool number_holds(const struct sl_detector *d, const char *key, double wanted)
{
    double said;
    return wanted <= 0 || !sl_value_double(sl_said(d, key, SL_BY_ARGS), &said) || said == wanted;
}

static bool numbers_hold(const struct sl_detector *d, const struct sl_model_row *row)
{
    const struct sl_model_facts *f = sl_model_row_facts(row);
    return number_holds(d, "rotary_base", f->theta) && number_holds(d, "norm_epsilon", f->eps);
}

int sl_rows_match(struct sl_detector *d)
{
    const struct sl_model_row *rows;
    const size_t count = sl_model_rows(&rows);
    d->exact = SL_ARENA_NEW(&d->m->arena, const struct sl_model_row *, count);
    if (!d->exact)
        return sl_fail_memory(d->err, 0);
    for (size_t i = 0; i < count; i++)
        if (row_matches(d, &rows[i]))
            d->exact[d->exact_count++] = &rows[i];
    narrow(d, vocab_holds);
    d->exact_vocab = d->exact_count > 0;
    for (size_t i = 0; i < d->exact_count; i++)
        d->exact_vocab &= sl_vocab_fits(d, d->exact[i]->vocab);
    narrow(d, tie_holds);
    narrow(d, numbers_hold);
    return SL_OK;
}

/* ---- the true vocabulary ------------------------------------------------- */

static bool row_vocab(const struct sl_detector *d, int64_t *vocab)
{
    if (d->row && !d->row->nominal && d->row->vocab && sl_vocab_fits(d, d->row->vocab)) {
        *vocab = d->row->vocab;
        return true;
    }
    if (!d->exact_vocab)
        return false;
    for (size_t i = 0; i < d->exact_count; i++)
        if (d->exact[i]->vocab != d->exact[0]->vocab)
            return false;
    *vocab = d->exact[0]->vocab;
    return d->exact_count > 0;
}

/* A size that can't be: more than the rows stored, or none. */
static int refuse_vocab(struct sl_detector *d, enum sl_said_by by, int64_t vocab, int64_t rows)
{
    const char *from = sl_said_from(d, by);
    if (by != SL_BY_ARGS)
        return sl_fail(d->err, SL_USAGE, from, "vocab_size is %lld, but the embedding has %lld rows", (long long)vocab,
                       (long long)rows);
    sl_problem_add(&d->m->problems, "config-contradiction", from, NULL,
                   "%s %s vocab_size is %lld, but the embedding has %lld rows", from, sl_says(from), (long long)vocab, (long long)rows);
    return SL_OK;
}

static int ask_vocab(struct sl_detector *d, enum sl_said_by by, int64_t rows)
{
    int64_t said;
    struct sl_model *m = d->m;
    if (!sl_said_int(d, "vocab_size", by, &said))
        return SL_OK;
    if (said <= 0 || (rows > 0 && said > rows))
        return refuse_vocab(d, by, said, rows);
    if (m->vocab >= 0 && m->vocab != said)
        sl_problem_add(&m->problems, "config-differs", "vocab_size", NULL, "%s says %lld, %s %lld; %lld is used",
                       d->vocab_from, (long long)m->vocab, sl_said_from(d, by), (long long)said, (long long)m->vocab);
    if (m->vocab < 0)
        m->vocab = said, d->vocab_from = sl_said_from(d, by);
    return SL_OK;
}

int sl_vocab_solve(struct sl_detector *d)
{
    static const enum sl_said_by order[] = {SL_BY_SET, SL_BY_HF_CONFIG, SL_BY_ARGS};
    struct sl_model *m = d->m;
    int64_t rows = -1, of_row;
    int code = SL_OK;
    m->vocab = m->padded_vocab = -1;
    if (sl_said_int(d, "padded_vocab_size", SL_BY_TENSORS, &rows) || sl_known_int(d, "padded_vocab_size", &rows))
        m->padded_vocab = rows;
    for (size_t i = 0; i < sizeof order / sizeof *order && !code; i++)
        code = ask_vocab(d, order[i], rows);
    if (!code && m->vocab < 0 && row_vocab(d, &of_row)) {
        m->vocab = of_row;
        d->vocab_from = sl_said_from(d, d->row ? SL_BY_PRESET : SL_BY_DATABASE);
    }
    if (!code && m->vocab < 0 && d->seen.dialect == SL_DIALECT_HF && rows > 0)
        m->vocab = rows, d->vocab_from = "tensor shapes";
    if (code || rows < 0)
        return code;
    if (m->vocab < 0)
        sl_problem_add(&m->problems, "vocab-unknown", "", NULL,
                       "the embedding has %lld rows; how many of them are the vocabulary is not told", (long long)rows);
    else if (m->vocab < rows)
        sl_problem_add(&m->problems, "padding", "", NULL, "%lld of the %lld rows of the embedding are padding",
                       (long long)(rows - m->vocab), (long long)rows);
    return SL_OK;
}

/* ---- signs --------------------------------------------------------------- */

static bool contains(const char *text, const char *lower)
{
    const size_t len = strlen(lower);
    for (; text && *text; text++) {
        size_t i = 0;
        while (i < len && tolower((unsigned char)text[i]) == lower[i])
            i++;
        if (i == len)
            return true;
    }
    return false;
}

static bool one_of(const struct sl_detector *d, const char *key, const struct sl_value *v, const struct sl_value *list)
{
    const bool vocab = !strcmp(key, "vocab");
    int64_t size;
    for (size_t i = 0; list->kind == SL_VALUE_LIST && i < list->len; i++)
        if (vocab ? sl_value_int(list->items[i], &size) && sl_vocab_fits(d, size) : sl_value_equal(v, list->items[i]))
            return true;
    return false;
}

/* "path" is where the checkpoint lies or was saved to; "vocab" the size of the vocabulary, as
 * far as padding lets it be known; all others are settings. A preset says nothing of itself. */
static bool path_contains(const struct sl_detector *d, const char *text)
{
    const char *folder = d->c->folder ? d->c->folder : "", *tail = folder + strlen(folder);
    for (int parts = 0; tail > folder && parts < 3; tail -= parts < 3)
        parts += tail[-1] == '/';
    return contains(tail, text) || contains(sl_value_str(sl_value_get(d->c->args, "save")), text)
        || contains(sl_value_str(sl_value_get(d->c->args, "load")), text);
}

static bool sign_holds(const struct sl_detector *d, const struct sl_detect_rule *r)
{
    enum sl_said_by by = SL_BY_TENSORS;
    if (!sl_flags_hold(d, r->when))
        return false;
    if (!r->key)
        return true;
    if (!strcmp(r->key, "path"))
        return r->contains && path_contains(d, r->contains);
    if (!strcmp(r->key, "vocab"))
        return r->in && one_of(d, r->key, NULL, r->in);
    const struct sl_value *v = sl_known(d, r->key, &by);
    if (!v || by == SL_BY_PRESET || by == SL_BY_DATABASE)
        return false;
    return (!r->equals || sl_value_equal(v, r->equals)) && (!r->in || one_of(d, r->key, v, r->in))
        && (!r->contains || contains(sl_value_str(v), r->contains));
}

static bool type_known(const struct sl_detector *d, const char *type)
{
    for (size_t i = 0; i < d->families->count; i++) {
        const char *known = d->families->items[i].hf_model_type;
        if (known && !strcmp(known, type))
            return true;
    }
    return false;
}

/* Does a config.json name the family? By its model_type; by its architecture, which families share
 * (Kimi-K2 has DeepSeek-V3's), only where the type tells nothing. */
static bool config_names(const struct sl_detector *d, const struct sl_value *config, const struct sl_family *f)
{
    const char *type = sl_value_str(sl_value_get(config, "model_type"));
    const struct sl_value *list = sl_value_get(config, "architectures");
    const char *architecture = list && list->kind == SL_VALUE_LIST && list->len ? sl_value_str(list->items[0]) : NULL;
    if (type && type_known(d, type))
        return f->hf_model_type && !strcmp(type, f->hf_model_type);
    return architecture && f->hf_architecture && !strcmp(architecture, f->hf_architecture);
}

static bool any_family_named(const struct sl_detector *d, const struct sl_value *config)
{
    for (size_t i = 0; i < d->families->count; i++)
        if (config_names(d, config, &d->families->items[i]))
            return true;
    return false;
}

/* Config.json beside the weights is authoritative: where it names one, no other family is meant. */
static bool config_excludes(const struct sl_detector *d, const struct sl_family *f)
{
    const struct sl_value *config = d->c->hf_config;
    const bool named = sl_value_str(sl_value_get(config, "model_type")) || sl_value_get(config, "architectures");
    return config && named && !config_names(d, config, f);
}

static int shape_weight(const struct sl_detector *d, const struct sl_family *f)
{
    size_t of_family = 0;
    if (!d->exact_vocab)
        return 0;
    for (size_t i = 0; i < d->exact_count; i++)
        of_family += !strcmp(d->exact[i]->family, f->name);
    return !of_family ? 0 : of_family == d->exact_count ? SAME_SHAPE : SAME_SHAPE / 3;
}

/* Sum of all signs; *strongest is the greatest of them: many hints make no certainty. */
static int weigh(const struct sl_detector *d, const struct sl_family *f, int *strongest)
{
    const int others[] = {shape_weight(d, f), d->c->hf_config && config_names(d, d->c->hf_config, f) ? SAME_TYPE : 0,
                          d->options->hf_config && config_names(d, d->m->hf_reference, f) ? SAME_REFERENCE : 0};
    int sum = *strongest = 0;
    for (size_t i = 0; i < f->detect_count + 3; i++) {
        const int weight = i < 3 ? others[i] : sign_holds(d, &f->detect[i - 3]) ? f->detect[i - 3].weight : 0;
        sum += weight;
        *strongest = weight > *strongest ? weight : *strongest;
    }
    return sum;
}

/* ---- the choice ---------------------------------------------------------- */

static int tell_signs(struct sl_detector *d, const struct sl_family *f)
{
    int code = SL_OK;
    for (size_t i = 0; i < f->detect_count && !code; i++)
        if (f->detect[i].weight > 0 && sign_holds(d, &f->detect[i]))
            code = sl_evidence_add(d->m, f->detect[i].says, "family=%s", f->name);
    if (!code && shape_weight(d, f) > 0)
        code = sl_evidence_add(d->m, sl_said_from(d, SL_BY_DATABASE), "family=%s", f->name);
    if (!code && d->c->hf_config && config_names(d, d->c->hf_config, f))
        code = sl_evidence_add(d->m, "config.json", "family=%s", f->name);
    if (!code && d->options->hf_config && config_names(d, d->m->hf_reference, f))
        code = sl_evidence_add(d->m, "--hf-config", "family=%s", f->name);
    return code ? sl_fail_memory(d->err, 0) : SL_OK;
}

/* The first part of a condition that does not hold: what speaks against a family. */
static const char *broken_need(const struct sl_detector *d, const struct sl_family *f)
{
    const char *p = f->needs;
    while (p && *p) {
        const size_t len = strcspn(p, "&");
        char *part = sl_arena_strn(&d->m->arena, p, len);
        size_t end = part ? strlen(part) : 0;
        while (end && part[end - 1] == ' ')
            part[--end] = '\0';
        if (part && !sl_flags_hold(d, part))
            return part + strspn(part, " ");
        p += len + (p[len] == '&');
    }
    return NULL;
}

static int take_stated(struct sl_detector *d)
{
    const struct sl_family *f = d->stated;
    if (!sl_flags_hold(d, f->needs)) {
        const char *need = broken_need(d, f);
        return sl_fail(d->err, SL_USAGE, "--model", "%s does not fit: its family %s needs %s, and this checkpoint is not so",
                       d->options->model, f->name, need ? need : "something else");
    }
    d->m->family = f;
    d->m->confidence = SL_CERTAIN;
    return sl_evidence_add(d->m, "--model", "family=%s", f->name) ? sl_fail_memory(d->err, 0) : tell_signs(d, f);
}

static const char *possible_families(const struct sl_detector *d, bool option, bool whatever_config_says);

/* Config.json names a family whose tensors these are not: it is of another model, or was edited. */
static int config_contradicts(struct sl_detector *d)
{
    const struct sl_family *named = NULL;
    const char *text = d->c->hf_config ? possible_families(d, false, true) : "";
    for (size_t i = 0; i < d->families->count && d->c->hf_config; i++)
        if (config_names(d, d->c->hf_config, &d->families->items[i])) {
            named = &d->families->items[i];
            break;
        }
    if (!named)
        return SL_OK;
    const char *need = broken_need(d, named);
    const char *others = *text ? sl_arena_printf(&d->m->arena, "; they are those of %s (--model %s)", text, possible_families(d, true, true)) : "";
    d->m->unsupported = sl_arena_printf(&d->m->arena, "config.json names %s, which needs %s, and the tensors are not so%s", named->title,
                                        need ? need : "something else", others ? others : "");
    if (!others || !d->m->unsupported)
        return sl_fail_memory(d->err, 0);
    const struct sl_problem_text more = { .expected = "tensors of the family that config.json names",
        .cause = "config.json of another model, or tensors that a tool renamed or left out",
        .damage = "the family is not known: no conversion to another layout and no comparison through layouts; listing, statistics and checks work" };
    sl_problem_add(&d->m->problems, "config-contradiction", "config.json", &more, "%s", d->m->unsupported);
    return SL_OK;
}

static int no_family(struct sl_detector *d)
{
    const struct sl_facts *facts = sl_facts();
    struct sl_model *m = d->m;
    const char *type = sl_value_str(sl_value_get(d->c->hf_config, "model_type"));
    char shown[64];
    const char *says = "no model that is known here";
    size_t i = 0;
    while (i < facts->look_count && !sl_flags_hold(d, facts->looks[i].when))
        i++;
    if (i < facts->look_count)
        says = facts->looks[i].says;
    m->confidence = SL_GUESS;
    const int code = d->row ? SL_OK : config_contradicts(d);
    if (code)
        return code;
    const bool contradicted = m->unsupported;
    if (!contradicted)
        m->unsupported = d->row ? sl_arena_printf(&m->arena, "%s is of the family %s, which is not described in this version",
                                              d->row->name, d->row->family)
        : type && !any_family_named(d, d->c->hf_config)
            ? sl_arena_printf(&m->arena, "config.json says model_type %s, which is not described in this version",
                              sl_text_printable(type, strlen(type), shown, sizeof shown))
            : i == facts->look_count ? "its tensors are those of no model that is known here"
            : sl_arena_printf(&m->arena, "it looks like %s, which is not described in this version", says);
    if (!m->unsupported || sl_evidence_add(m, "tensor names", "looks like %s", says))
        return sl_fail_memory(d->err, 0);
    if (contradicted)            /* that says it */
        return SL_OK;
    const bool recognised = d->row || i < facts->look_count;
    const struct sl_problem_text more = {
        .expected = "a model whose rows of weights are described in a family file",
        .cause = recognised ? "this version has no rules for it" : "its tensors have names or shapes that no family file has",
        .damage = "no conversion to another layout and no comparison through layouts; listing, statistics and checks work"};
    sl_problem_add(&m->problems, recognised ? "unsupported" : "family-unknown", "", &more, "%s", m->unsupported);
    return SL_OK;
}

/* next: weight of the second. */
struct ballot { const struct sl_family *best, *second; int weight, strongest, next; };

static struct ballot count_votes(const struct sl_detector *d)
{
    struct ballot b = {NULL, NULL, 0, 0, -1000};
    for (size_t i = 0; i < d->families->count; i++) {
        const struct sl_family *f = &d->families->items[i];
        if (!sl_flags_hold(d, f->needs) || config_excludes(d, f))
            continue;
        int strongest;
        const int weight = weigh(d, f, &strongest);
        if (!b.best || weight > b.weight) {
            b.next = b.best ? b.weight : b.next;
            b.second = b.best;
            b.best = f, b.weight = weight, b.strongest = strongest;
        } else if (weight > b.next) {
            b.next = weight, b.second = f;
        }
    }
    return b;
}

/* "Llama, MiniCPM": the families that the tensors allow; by option their words for --model, "llama, minicpm". */
static const char *possible_families(const struct sl_detector *d, bool option, bool whatever_config_says)
{
    struct sl_buf text = {.failed = false};
    for (size_t i = 0; i < d->families->count; i++) {
        const struct sl_family *f = &d->families->items[i];
        if (sl_flags_hold(d, f->needs) && (whatever_config_says || !config_excludes(d, f)))
            sl_buf_printf(&text, "%s%s", text.len ? ", " : "", option ? f->name : f->title);
    }
    const char *kept = text.len ? sl_arena_strn(&d->m->arena, text.data, text.len) : "";
    sl_buf_free(&text);
    return kept ? kept : "";
}

/* What speaks most for a family. */
static const char *best_sign(const struct sl_detector *d, const struct sl_family *f)
{
    const struct sl_detect_rule *best = NULL;
    for (size_t i = 0; i < f->detect_count; i++)
        if (f->detect[i].weight > (best ? best->weight : 0) && sign_holds(d, &f->detect[i]))
            best = &f->detect[i];
    return best ? best->says : shape_weight(d, f) > 0 ? sl_said_from(d, SL_BY_DATABASE) : "nothing speaks for it";
}

/* How sure the choice is, and what it was chosen from. */
static int tell_choice(struct sl_detector *d, const struct ballot *b)
{
    struct sl_model *m = d->m;
    const bool ahead = b->weight >= b->next + LEAD;
    m->confidence = ahead && b->strongest >= CERTAIN ? SL_CERTAIN : ahead && (b->weight >= LIKELY || !b->second) ? SL_LIKELY : SL_GUESS;
    int code = tell_signs(d, b->best);
    if (!code && !b->second && b->weight < LIKELY)
        code = sl_evidence_add(m, "no other family that is known here has such tensors", "family=%s", b->best->name);
    if (!code && b->second && m->confidence != SL_CERTAIN)
        code = sl_evidence_add(m, best_sign(d, b->second), "next family=%s", b->second->name);
    if (code)
        return sl_fail_memory(d->err, 0);
    if (m->confidence == SL_GUESS)
        sl_problem_add(&m->problems, "family-ambiguous", "", NULL,
                       "the tensors are the same for several families (%s), and nothing tells which it is; %s is assumed:"
                       " state --model with one of %s, or with a published model (shardlens models)", possible_families(d, false, false),
                       m->family->title, possible_families(d, true, false));
    return SL_OK;
}

int sl_family_choose(struct sl_detector *d)
{
    struct sl_model *m = d->m;
    if (d->stated)
        return take_stated(d);
    const struct ballot b = d->row ? (struct ballot){NULL, NULL, 0, 0, 0} : count_votes(d);
    if (!b.best || b.weight < 0)                 /* none, or more speaks against the best than for it */
        return no_family(d);
    m->family = b.best;
    return tell_choice(d, &b);
}
