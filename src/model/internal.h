/* internal.h: what the files of this room share. */
#ifndef SL_MODEL_INTERNAL_H
#define SL_MODEL_INTERNAL_H

#include "model/model.h"

static inline size_t sl_least(size_t a, size_t b) { return a < b ? a : b; }

/* ---- expression.c -------------------------------------------------------- */

/* Letters, digits and "_": what names in expressions and conditions are made of. */
bool sl_is_name_char(char c);
/* "tied & !moe": *out tells whether it holds. SL_USAGE when it is none. */
int sl_condition(const char *text, bool (*holds)(void *arg, const char *flag, size_t len), void *arg,
                 bool *out, struct sl_error *err);

/* ---- facts.c: facts.json ------------------------------------------------- */

#define SL_FACT_AXES 3
enum sl_cut { SL_CUT_NONE, SL_CUT_TP, SL_CUT_ETP };
struct sl_name_fact {                    /* what a tensor of this name tells */
    enum sl_dialect dialect;
    const char *name;                    /* glob; numbers in names are '#' */
    uint32_t ndim;                       /* 0: the shape tells nothing */
    struct { const char *fact; enum sl_cut cut; } axes[SL_FACT_AXES];
    const char *flag;                    /* "" : none */
};
enum sl_number_kind { SL_KIND_INT, SL_KIND_NUMBER, SL_KIND_BOOL, SL_KIND_STR, SL_KIND_ANY };
struct sl_setting_source {               /* one spelling of a setting */
    const char *name;
    const char *only_if;                 /* arg that must be true or non-zero, NULL */
    bool invert;
};
struct sl_setting_rule {
    const char *key;
    enum sl_number_kind kind;
    const struct sl_setting_source *args; size_t arg_count;
    const char *const *hf;                size_t hf_count;
};
struct sl_flag_rule { const char *key; const struct sl_value *is, *is_not; const char *flag; };
struct sl_looks_rule { const char *when, *says; };

struct sl_facts {
    const struct sl_name_fact *names;       size_t name_count;
    const struct sl_setting_rule *settings; size_t setting_count;
    const struct sl_flag_rule *flags;       size_t flag_count;
    const struct sl_looks_rule *looks;      size_t look_count;
};
/* Parsed once; never NULL. */
const struct sl_facts *sl_facts(void);
/* By key or by any spelling in args or config.json; *invert tells that the spelling means
 * the opposite. NULL when there is none. */
const struct sl_setting_rule *sl_setting_rule_find(const char *name, bool *invert);
/* The name nearest to a mistyped one, NULL when none is near. */
const char *sl_setting_nearest(const char *name);
/* Does a value have the kind? */
bool sl_kind_fits(enum sl_number_kind kind, const struct sl_value *v);
const char *sl_kind_text(enum sl_number_kind kind);        /* "a whole number" */

/* ---- scan.c: what the tensors tell --------------------------------------- */

#define SL_VOTES 8
struct sl_votes {                        /* values seen for one fact, most frequent first */
    const char *fact;
    size_t count;
    struct { int64_t value; uint64_t times; } votes[SL_VOTES];
};
struct sl_seen {
    enum sl_dialect dialect;
    bool any;                            /* names of some known dialect */
    struct sl_votes *facts;   size_t fact_count;
    const char **flags;       size_t flag_count, flag_room;
    uint32_t *layers;                    /* by pp * chunks + chunk: highest local index + 1 */
    uint32_t *first_layer;               /* lowest local index */
    bool *stage_read;                    /* by pp: some rank of it was read */
    int32_t pp, chunks;
    int32_t *moe_layers;      size_t moe_layer_count;      /* pp, chunk, local triples */
    enum sl_dtype dtype;                 /* of most weights */
    uint64_t weights;                    /* stored tensors that are weights */
};
int sl_scan(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_seen *out, struct sl_error *err);
/* The most frequent value; false when nothing tells. */
bool sl_seen_fact(const struct sl_seen *s, const char *fact, int64_t *value);
bool sl_seen_flag(const struct sl_seen *s, const char *flag, size_t len);
bool sl_seen_add_flag(struct sl_seen *s, struct sl_arena *arena, const char *flag);

/* ---- models.c: models.json ----------------------------------------------- */

struct sl_model_facts {                  /* what the public row has no place for */
    const char *flags;                   /* condition that a match must fulfil, "" */
    double theta, eps;                   /* 0: not stated */
    int32_t tied;                        /* -1: not stated */
    int32_t moe_ffn;                     /* 0 */
};
const struct sl_model_facts *sl_model_row_facts(const struct sl_model_row *row);

#endif
