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
    const char *flag;                    /* one, or several with blanks between; "" : none */
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
    const struct sl_setting_source *hf;   size_t hf_count;
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
    int32_t mtp_first, mtp_end;          /* numbers of layers that predict further tokens; equal: none */
    int32_t *moe_layers;      size_t moe_layer_count;      /* pp, chunk, local triples */
    enum sl_dtype dtype;                 /* of most weights */
    uint64_t weights;                    /* stored tensors that are weights */
};
int sl_scan(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_seen *out, struct sl_error *err);
/* The most frequent value; false when nothing tells. */
bool sl_seen_fact(const struct sl_seen *s, const char *fact, int64_t *value);
bool sl_seen_flag(const struct sl_seen *s, const char *flag, size_t len);
bool sl_seen_add_flag(struct sl_seen *s, struct sl_arena *arena, const char *flag);

/* ---- settings.c: what each source says of each setting -------------------- */

/* In order of trust. ARGS is the config.json beside the weights for Hugging Face. */
enum sl_said_by { SL_BY_TENSORS, SL_BY_SET, SL_BY_ARGS, SL_BY_HF_CONFIG, SL_BY_PRESET, SL_BY_DATABASE,
                  SL_SAID_COUNT };

struct sl_detector {
    struct sl_ckpt *c;
    const struct sl_families *families;
    const struct sl_model_options *options;
    struct sl_model *m;
    struct sl_error *err;
    struct sl_seen seen;
    const struct sl_value *(*said)[SL_SAID_COUNT];   /* by index of the setting's rule */
    const struct sl_model_row *row;      /* named by --model, NULL */
    const struct sl_family *stated;      /* family that --model means, NULL */
    const struct sl_model_row **exact;   /* published rows of this shape */
    size_t exact_count;
    bool exact_vocab;                    /* and of this vocabulary */
    struct sl_moe *moe;                  /* m->moe, while it is filled in */
    int64_t qd, kvd;                     /* rows of all query heads, of all key heads; 0 unknown */
    const char *vocab_from;              /* who said m->vocab, NULL */
};
bool sl_has_flag(const struct sl_detector *d, const char *flag);
int sl_set_flag(struct sl_detector *d, const char *flag);
bool sl_flags_hold(const struct sl_detector *d, const char *condition);      /* NULL and "" hold */

/* Reads args or config.json, --set, --hf-config and --model. */
int sl_settings_collect(struct sl_detector *d);
const struct sl_value *sl_said(const struct sl_detector *d, const char *key, enum sl_said_by by);
bool sl_said_int(const struct sl_detector *d, const char *key, enum sl_said_by by, int64_t *out);
/* The most trusted value, and whose it is. */
const struct sl_value *sl_known(const struct sl_detector *d, const char *key, enum sl_said_by *by);
bool sl_known_int(const struct sl_detector *d, const char *key, int64_t *out);
int sl_say(struct sl_detector *d, const char *key, enum sl_said_by by, const struct sl_value *value);
int sl_say_int(struct sl_detector *d, const char *key, enum sl_said_by by, int64_t value);
/* "args", "config.json", "--set", "preset minicpm-8b", .. */
const char *sl_said_from(const struct sl_detector *d, enum sl_said_by by);
/* "say" for args, "says" for config.json and presets. */
const char *sl_says(const char *from);
/* Fills m->config from what was said. */
int sl_settings_finish(struct sl_detector *d);
/* Adds what the family implies where nothing was said. */
int sl_settings_imply(struct sl_detector *d);

int sl_evidence_add(struct sl_model *m, const char *from, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- shape.c: sizes from tensors, compared with what was said ------------- */

int sl_shape_solve(struct sl_detector *d);

/* ---- choose.c: the database, the vocabulary, the family ------------------- */

/* Fills d->exact: published rows of this very shape. */
int sl_rows_match(struct sl_detector *d);
/* Is a true vocabulary of this size possible with the rows stored? */
bool sl_vocab_fits(const struct sl_detector *d, int64_t vocab);
int sl_vocab_solve(struct sl_detector *d);
int sl_family_choose(struct sl_detector *d);

/* ---- models.c: models.json ----------------------------------------------- */

struct sl_model_facts {                  /* what the public row has no place for */
    const char *flags;                   /* condition that a match must fulfil, "" */
    double theta, eps;                   /* 0: not stated */
    int32_t tied;                        /* -1: not stated */
    int32_t moe_ffn;                     /* 0 */
};
const struct sl_model_facts *sl_model_row_facts(const struct sl_model_row *row);

#endif
