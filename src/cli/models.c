/* models.c: families and presets. */
#include "cli/cli.h"
#include "base/json.h"
#include <string.h>
#include <strings.h>

static bool wanted(const struct sl_model_row *r, const char *name)
{
    return !name || !strcasecmp(r->option, name) || !strcasecmp(r->name, name) || !strcasecmp(r->family, name);
}

static void number(struct sl_buf *b, int width, int32_t n)
{
    if (n)
        sl_buf_printf(b, " %*d", width, n);
    else
        sl_buf_printf(b, " %*s", width, "-");
}

static void row_text(struct sl_buf *b, const struct sl_model_row *r)
{
    char params[32] = "-";
    if (r->params)
        sl_text_count(r->params, params, sizeof params);
    sl_buf_printf(b, "%-28s %-17s", r->option, r->family);
    number(b, 4, r->layers);
    number(b, 6, r->hidden);
    number(b, 6, r->ffn);
    number(b, 5, r->heads);
    number(b, 4, r->kv_heads);
    number(b, 5, r->head_dim);
    number(b, 7, r->vocab);
    number(b, 3, r->tp);
    number(b, 3, r->pp);
    sl_buf_printf(b, "  %8s  %s%s\n", params, r->nominal ? "nominal; " : "", r->source);
    if (*r->note)
        sl_buf_printf(b, "%-28s %s\n", "", r->note);
}

static void models_text(struct sl_buf *b, const char *name)
{
    if (!name) {
        sl_buf_str(b, "Families\n");
        for (size_t i = 0; i < sl_family_row_count(); i++) {
            const struct sl_family_row *f = sl_family_row(i);
            sl_buf_printf(b, "  %-17s %-24s %-24s %s\n", f->name, f->title, f->hf_arch ? f->hf_arch : "-", f->source ? f->source : "");
        }
        sl_buf_str(b, "\nModels and presets (--model NAME)\n");
    }
    sl_buf_printf(b, "%-28s %-17s %4s %6s %6s %5s %4s %5s %7s %3s %3s  %8s  %s\n", "name", "family", "L", "hidden", "ffn", "heads", "kv",
                  "head", "vocab", "TP", "PP", "params", "source");
    for (size_t i = 0; i < sl_model_row_count(); i++)
        if (wanted(sl_model_row(i), name))
            row_text(b, sl_model_row(i));
}

static void kint_known(struct sl_json *j, const char *key, int64_t value)
{
    sl_json_key(j, key);
    if (value)
        sl_json_int(j, value);
    else
        sl_json_null(j);
}

static void row_json(struct sl_json *j, const struct sl_model_row *r)
{
    sl_json_object(j);
    sl_json_kstr(j, "name", r->option);
    sl_json_kstr(j, "title", r->name);
    sl_json_kstr(j, "family", r->family);
    sl_json_kbool(j, "nominal", r->nominal);
    kint_known(j, "num_layers", r->layers);
    kint_known(j, "hidden_size", r->hidden);
    kint_known(j, "ffn_hidden_size", r->ffn);
    kint_known(j, "num_attention_heads", r->heads);
    kint_known(j, "num_query_groups", r->kv_heads);
    kint_known(j, "kv_channels", r->head_dim);
    kint_known(j, "vocab_size", r->vocab);
    kint_known(j, "tp", r->tp);
    kint_known(j, "pp", r->pp);
    kint_known(j, "num_experts", r->experts);
    kint_known(j, "params", (int64_t)r->params);
    sl_json_kstr(j, "source", r->source);
    sl_json_kstr(j, "note", r->note);
    sl_json_object_end(j);
}

static void models_json(struct sl_buf *b, const char *name)
{
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_key(&j, "families");
    sl_json_array(&j);
    for (size_t i = 0; i < sl_family_row_count(); i++) {
        const struct sl_family_row *f = sl_family_row(i);
        sl_json_object(&j);
        sl_json_kstr(&j, "name", f->name);
        sl_json_kstr(&j, "title", f->title);
        sl_json_kstr(&j, "architecture", f->hf_arch);
        sl_json_kstr(&j, "model_type", f->model_type);
        sl_json_kstr(&j, "source", f->source);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_key(&j, "models");
    sl_json_array(&j);
    for (size_t i = 0; i < sl_model_row_count(); i++)
        if (wanted(sl_model_row(i), name))
            row_json(&j, sl_model_row(i));
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

/* ---- --check ------------------------------------------------------------------------ */

static void check_text(struct sl_buf *b, const char *file, const struct sl_family_check *c)
{
    for (size_t i = 0; i < c->problem_count; i++) {
        const struct sl_family_problem *p = &c->problems[i];
        sl_buf_printable(b, file, strlen(file));
        if (p->line)
            sl_buf_printf(b, ":%ld", p->line);
        sl_buf_printf(b, ": %s: %s: %s\n", sl_severity_name(p->severity), p->place, p->message);
    }
    if (!c->sound || !c->family) {
        sl_buf_str(b, "! wrong\n");
        return;
    }
    sl_buf_printf(b, "= %s (%s)", c->family, c->title ? c->title : c->family);
    if (c->abstract)
        sl_buf_str(b, ": a parent of others, read and not tried\n");
    else
        sl_buf_printf(b, ": %zu params; %zu Hugging Face and %zu Megatron rows; %zu layouts hold every element once\n", c->params, c->hf_rows,
                      c->megatron_rows, c->layouts);
}

static void check_json(struct sl_buf *b, const char *file, const struct sl_family_check *c)
{
    struct sl_json j;
    sl_json_begin(&j, b, 2);
    sl_json_object(&j);
    sl_json_kstr(&j, "file", file);
    sl_json_kstr(&j, "family", c->family);
    sl_json_kbool(&j, "sound", c->sound);
    sl_json_kint(&j, "layouts", (int64_t)c->layouts);
    sl_json_key(&j, "problems");
    sl_json_array(&j);
    for (size_t i = 0; i < c->problem_count; i++) {
        sl_json_object(&j);
        sl_json_kstr(&j, "severity", sl_severity_name(c->problems[i].severity));
        kint_known(&j, "line", c->problems[i].line);
        sl_json_kstr(&j, "place", c->problems[i].place);
        sl_json_kstr(&j, "message", c->problems[i].message);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_buf_char(b, '\n');
}

static int check_file(const struct values *v)
{
    const char *file = v->text[OPT_CHECK];
    struct sl_family_check *c;
    struct sl_buf out = { 0 };
    struct sl_error err = { 0 };
    int code = sl_family_check(file, &c, &err);
    if (code)
        return report_error(&err);
    (v->given[OPT_JSON] ? check_json : check_text)(&out, file, c);
    const bool sound = c->sound;
    sl_family_check_free(c);
    code = out_flush(&out);
    return code ? code : sound ? SL_OK : SL_NO;
}

int command_models(const struct values *v)
{
    const char *name = v->arg_count ? v->args[0] : NULL;
    struct sl_error unread = { 0 };
    bool found = !name;
    if (v->given[OPT_CHECK])
        return check_file(v);
    if (sl_families_read(&unread))
        return report_error(&unread);
    for (size_t i = 0; i < sl_model_row_count(); i++)
        found |= wanted(sl_model_row(i), name);
    if (!found) {
        struct sl_error err = { 0 };
        sl_fail(&err, SL_USAGE, name, "no such model or family; shardlens models lists them");
        return report_error(&err);
    }
    struct sl_buf out = { 0 };
    if (v->given[OPT_JSON])
        models_json(&out, name);
    else
        models_text(&out, name);
    return out_flush(&out);
}
