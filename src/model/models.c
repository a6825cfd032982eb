/* models.c: the database of published models and nominal presets, read once
 * from models.json. A published row is matched by exact shape; a nominal one is
 * only a name with defaults for a user who gives it. */
#include "model/internal.h"

#include "base/json.h"
#include "base/value.h"
#include "model/embedded.h"
#include <shardlens/shardlens.h>

#include <pthread.h>
#include <string.h>
#include <strings.h>

static struct sl_model_row *model_rows;
static struct sl_model_facts *row_facts;      /* same indices */
static size_t row_count;
static struct sl_arena row_arena;
static pthread_once_t row_once = PTHREAD_ONCE_INIT;

static const char *text_of(const struct sl_value *row, const char *key)
{
    const char *s = sl_value_str(sl_value_get(row, key));
    return s ? s : "";
}

static int32_t number_of(const struct sl_value *row, const char *key)
{
    int64_t i = 0;
    return sl_value_int(sl_value_get(row, key), &i) && i > 0 && i < INT32_MAX ? (int32_t)i : 0;
}

static void read_row(const struct sl_value *v, struct sl_model_row *row, struct sl_model_facts *facts)
{
    bool tied = false;
    int64_t params = 0;
    (void)sl_value_int(sl_value_get(v, "params"), &params);
    (void)sl_value_bool(sl_value_get(v, "nominal"), &row->nominal);
    row->name = text_of(v, "name");
    row->option = text_of(v, "option");
    row->family = text_of(v, "family");
    row->layers = number_of(v, "layers");
    row->hidden = number_of(v, "hidden");
    row->ffn = number_of(v, "ffn");
    row->heads = number_of(v, "heads");
    row->kv_heads = number_of(v, "kv_heads");
    row->head_dim = number_of(v, "head_dim");
    row->vocab = number_of(v, "vocab");
    row->tp = number_of(v, "tp");
    row->pp = number_of(v, "pp");
    row->experts = number_of(v, "experts");
    row->topk = number_of(v, "topk");
    row->params = (uint64_t)params;
    row->source = text_of(v, "source");
    row->note = text_of(v, "note");
    facts->flags = text_of(v, "flags");
    facts->moe_ffn = number_of(v, "moe_ffn");
    facts->tied = sl_value_bool(sl_value_get(v, "tied"), &tied) ? tied : -1;
    (void)sl_value_double(sl_value_get(v, "theta"), &facts->theta);
    (void)sl_value_double(sl_value_get(v, "eps"), &facts->eps);
}

static void read_rows(void)
{
    const struct sl_value *json = NULL;
    if (sl_embedded_json(sl_embedded_find("models.json"), &row_arena, &json, NULL))
        return;
    const struct sl_value *rows = sl_value_get(json, "models");
    const size_t count = rows && rows->kind == SL_VALUE_LIST ? rows->len : 0;
    model_rows = SL_ARENA_NEW(&row_arena, struct sl_model_row, count);
    row_facts = SL_ARENA_NEW(&row_arena, struct sl_model_facts, count);
    if (!model_rows || !row_facts)
        return;
    for (; row_count < count; row_count++)
        read_row(rows->items[row_count], &model_rows[row_count], &row_facts[row_count]);
}

size_t sl_model_rows(const struct sl_model_row **rows)
{
    pthread_once(&row_once, read_rows);
    *rows = model_rows;
    return row_count;
}

const struct sl_model_row *sl_model_row_find(const char *option)
{
    const struct sl_model_row *rows;
    const size_t count = sl_model_rows(&rows);
    for (size_t i = 0; i < count; i++)
        if (!strcasecmp(rows[i].option, option) || !strcasecmp(rows[i].name, option))
            return &rows[i];
    return NULL;
}

const struct sl_model_facts *sl_model_row_facts(const struct sl_model_row *row)
{
    return &row_facts[row - model_rows];
}
