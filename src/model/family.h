/* family.h: a model family is DATA. families/ *.json are compiled in and read
 * here; the same format is read from --family-file. docs/families.md teaches it.
 *
 *   {"family": "llama", "title": "Llama", "inherits": "base",
 *    "hf": {"architecture": "LlamaForCausalLM", "model_type": "llama"},
 *    "needs": "gated & !moe",
 *    "dims": {"hidden": "hidden_size", "q_per_group": "num_attention_heads/num_query_groups"},
 *    "params": {"embed": "vocab hidden", "layers.{layer}.attn.q": "group q_per_group head hidden",
 *               "layers.{layer}.attn.q_bias": {"axes": "group q_per_group head", "when": "qkv_bias"}},
 *    "tensors": {"hf": [RULE, ..], "megatron": [RULE, ..], "legacy": [RULE, ..]},
 *    "config": [CONFIG, ..], "detect": [SIGN, ..], "drop": ["*._extra_state"], "source": "..",
 *    "implies": {"moe_router_score_function": "sigmoid"}}
 *
 * replaces sections that take no rows from the parent: ["tensors.hf"]; in all others a row
 *          takes the place of the parent's rows of the same name
 * abstract true: only a parent for others, never the family of a checkpoint
 * mtp      {"of": "decoder.layers.{layer}.", "as": ["mtp.layers.{layer}.transformer_layer.", ..]}:
 *          Megatron rows whose names begin with "of" hold for a layer that predicts further
 *          tokens too, named "as"; further names are only read
 * implies  settings that all models of the family have, for checkpoints that do not tell
 * needs    condition that the tensors and settings of a checkpoint must fulfil, and
 *          those of its parents too
 * allows   flags that parents' conditions may not speak of: ["post_norms"] takes "!post_norms"
 *          (or "post_norms") out of them
 * single   {"tp": "why"}: parallel sizes (tp, pp, ep, etp) at which the model can't be written
 *          unless they are 1, each with the reason
 * dims     names of axis lengths, each an expression over config keys
 *          (Megatron argument names), other dims, and numbers: + - * / ( ).
 *          Known without being listed: vocab (rows that hold a weight),
 *          padded_vocab (rows stored), tp, etp
 * params   the canonical weights: name pattern and axes (dim names)
 * RULE     {"name": "decoder.layers.{layer}.self_attention.linear_qkv.weight",
 *           "map": "(group [attn.q: q_per_group head | attn.k: head | attn.v: head]) hidden",
 *           "cut": "tp:0", "stage": "last", "when": "!tied", "spec": "te"}
 *   map    how the axes of the WHOLE stored tensor (all ranks together) are made,
 *          outermost first; src/layout/map.h is its grammar. In short: one item
 *          an axis; ( ) multiplies its items into one axis; [ a: .. | b: .. ] lays
 *          alternatives one after the other, each naming a param: in full, or by an
 *          ending that only one param has ("attn.q" of "layers.{layer}.attn.q").
 *          "-" as the name: elements that hold no weight (padding). A map of one
 *          param needs no [ ]: "attn_norm: hidden".
 *          An item is a whole axis of the param ("head"), or, where an axis is
 *          split, its inner part written as a fraction ("ffn/tp") and its outer
 *          part, the divisor, as an item of its own ("tp"), each standing where it
 *          is stored: "(tp [mlp.gate: ffn/tp | mlp.up: ffn/tp]) hidden" is
 *          [gate_0; up_0; gate_1; ..]; "head/2 2" stores the two halves of a head
 *          interleaved, "2 head/2" is the same as "head". `layer` and `expert`
 *          number params instead ("expert [experts.{expert}.gate: ffn | ..] hidden"),
 *          "*n" repeats what follows n times. Expressions have no blanks.
 *   cut    axis of the stored tensor that is divided into equal contiguous blocks
 *          over "tp" or "etp"; absent: every rank holds all of it. Two rules of one
 *          name (cut and whole): a source takes the first whose shape fits
 *   stage  "first", "last", "all"; absent with {layer} in the name: the stage that
 *          has the layer; absent otherwise: "all". Names that begin with "mtp.layers." are of
 *          the layers that predict further tokens: on the last stage, {layer} counted from 0
 *          there, and after the last of the model in params
 *   when   condition: flags joined by "&", "!" negates ("tied", "!tied & moe"). For
 *          rules and params of a layer also "moe_layer" and "mtp_layer" (it predicts further
 *          tokens); for Megatron targets "pp":
 *          more than one pipeline stage (a tied head is stored only then)
 *   spec   "te" or "local": only when that spelling is wanted (targets) or met
 *   experts  the same for how experts are stored: "te_grouped" (weightN), "grouped"
 *          (weight1, weight2 of all local experts), "local_experts", "block_ffn"
 *   dist   "te", "local", "both" or "never": for which spelling it is written to a torch_dist
 *          checkpoint, where names are not always those of the modules; absent: as "spec" says,
 *          but never for alias rules and for those with "experts", which are stored otherwise there
 *   optional  true: absent in a source is no error
 *   keep_dtype  true: written in the source's element type whatever --dtype says
 *   alias  true: met in sources, never written to a target
 *   aliases  more names of the same tensor, each an alias rule of its own
 *   add, add_when  a number that the stored elements are larger by than the param's, where
 *          the condition holds: "add": -1, "add_when": "norm_1p" for the weight of a norm
 *          that Megatron stores around zero
 *   label  a word for people: "q k v by group"
 * CONFIG   {"hf": "rms_norm_eps", "megatron": "norm_epsilon", "kind": "float",
 *           "fallback": 1e-5, "required": true}: one key of config.json. Its value is
 *           that of the setting "megatron"; or of "expression"; or whether "flag" is
 *           set; or "write" as it stands, in which a string "$key" stands for a
 *           setting (or $vocab_rows, $torch_dtype). "when" as in rules: the first row
 *           of a key that holds counts. "note" is told when the row is written.
 * SIGN     {"when": "tied", "says": "..", "weight": 20}: evidence for (or, negative,
 *           against) the family; with "key": a setting that must be known, and equal
 *           "value", or be one of "in", or contain the text "contains". Weights of
 *           100 and more are certain, of 50 and more likely.
 */
#ifndef SL_MODEL_FAMILY_H
#define SL_MODEL_FAMILY_H

#include "base/arena.h"
#include <shardlens/types.h>

enum sl_dialect { SL_DIALECT_HF, SL_DIALECT_MEGATRON, SL_DIALECT_LEGACY, SL_DIALECT_COUNT };
const char *sl_dialect_name(enum sl_dialect d);        /* "hf", "megatron", "legacy" */

enum sl_stage { SL_STAGE_ALL, SL_STAGE_FIRST, SL_STAGE_LAST, SL_STAGE_LAYER };

struct sl_rule {
    const char *name;          /* pattern with {layer}, {expert} */
    const char *map;
    const char *cut_over;      /* "tp", "etp", NULL */
    int32_t cut_axis;          /* -1 */
    enum sl_stage stage;
    bool mtp;                  /* {layer} counts the layers that predict further tokens */
    const char *when;          /* NULL: always */
    const char *spec;          /* "te", "local", NULL: both */
    const char *experts;       /* "te_grouped", "grouped", .., NULL: all */
    const char *dist;          /* "te", "local", "both", "never", NULL: see above */
    bool optional;
    bool keep_dtype;           /* --dtype does not concern it */
    bool alias;                /* met in sources, never written */
    double add;                /* stored = weight + add; 0: stored as it is */
    const char *add_when;      /* ..if this holds; NULL: always */
    const char *label;         /* "q k v by group", for people; NULL */
};
struct sl_param_rule { const char *name, *axes; const char *when; };
struct sl_dim { const char *name, *expression; };
/* One line of config.json: hf key and Megatron name, with how to write it. */
struct sl_config_rule {
    const char *hf;            /* key in config.json */
    const char *megatron;      /* setting (Megatron argument name), NULL: HF only */
    const char *expression;    /* value over settings, NULL: copy of `megatron` */
    const char *flag;          /* BOOL: is this flag set; NULL */
    const struct sl_value *write;      /* written as it is, "$key" filled in; NULL */
    enum sl_value_kind kind;   /* INT, FLOAT, BOOL, STR, or NULL for any */
    bool invert;               /* BOOL: hf = !megatron */
    const char *when;          /* NULL: always */
    const struct sl_value *fallback;   /* when nothing is known; NULL: leave out */
    bool required;             /* not known, or only by fallback: a note says so */
    const char *note;          /* told when the row is written; NULL */
};
/* One sign by which a family is told; see SIGN above. */
struct sl_detect_rule {
    const char *when;          /* NULL: always */
    const char *key;           /* setting looked at, NULL: none */
    const struct sl_value *equals, *in;
    const char *contains;      /* lower case; compared without case */
    const char *says;          /* evidence text */
    int32_t weight;            /* positive: for this family; negative: against */
};
struct sl_family {
    const char *name, *title;
    const char *inherits;
    const char *hf_architecture, *hf_model_type;
    bool abstract;                             /* a parent only; not in sl_families.items */
    const char *needs;                         /* NULL: nothing */
    const struct sl_value *single;             /* see above; NULL: nothing */
    const char *source;
    const struct sl_dim *dims;                 size_t dim_count;
    const struct sl_param_rule *params;        size_t param_count;
    const struct sl_rule *rules[SL_DIALECT_COUNT]; size_t rule_count[SL_DIALECT_COUNT];
    const struct sl_config_rule *config;       size_t config_count;
    const struct sl_detect_rule *detect;       size_t detect_count;
    const char *const *drop;                   size_t drop_count;   /* globs of names that are no weights */
    const struct sl_value *implies;            /* a DICT of settings, NULL */
    const struct sl_value *mtp;                /* see above; its rows are among the rules. NULL */
    const struct sl_value *json;               /* the whole merged description */
};

/* All built-in families, then those of $XDG_CONFIG_HOME/shardlens/families (~/.config when it
 * is not set) and `extra` (a --family-file, may be NULL); a family of the same name replaces
 * the one before it. Parents merged in: rows of a child with the same name replace the
 * parent's. Errors (SL_USAGE) name file, row and what is wrong. */
struct sl_families {
    struct sl_arena arena;
    const struct sl_family *items; size_t count;   /* by name, abstract ones left out */
};
int sl_families_load(const char *extra, struct sl_families *out, struct sl_error *err);
void sl_families_free(struct sl_families *f);
const struct sl_family *sl_family_find(const struct sl_families *f, const char *name);

/* Does a stored name fit a rule's pattern? Binds {layer} and {expert} (-1 if absent). */
bool sl_rule_match(const char *pattern, const char *name, int32_t *layer, int32_t *expert);
/* Fills a pattern in: snprintf-like. */
void sl_rule_name(const char *pattern, int32_t layer, int32_t expert, char *out, size_t room);

/* Expressions: integers, names, + - * / ( ), division must be exact. lookup returns false
 * for an unknown name. SL_USAGE says which name is unknown or what does not divide. out may be
 * NULL: only whether it is an expression of known names is told. */
int sl_expression(const char *text, size_t len,
                  bool (*lookup)(void *arg, const char *name, size_t len, int64_t *value), void *arg,
                  int64_t *out, struct sl_error *err);

#endif
