/* model.h: what it means: family, size, hyperparameters and parallel layout of
 * a checkpoint, each with the evidence it rests on.
 *
 * Order of trust: tensors (names and shapes, merged over ranks), then what the
 * user states with --set, then args or the config.json beside the weights, then
 * the config.json of --hf-config, then the preset the user named, then the
 * database of published models by exact shape. For the true vocabulary, which no
 * tensor tells, --hf-config comes before args. Something that contradicts the
 * tensors is a problem; with --set or --model it is an error.
 */
#ifndef SL_MODEL_MODEL_H
#define SL_MODEL_MODEL_H

#include "base/text.h"
#include "checkpoint/ckpt.h"
#include "model/family.h"

struct sl_model_options {
    const char *model;                   /* preset or family name, NULL */
    const char *const *set; size_t set_count;
    const char *hf_config;               /* folder, NULL */
};

/* Where the layers of one (pp, chunk) of a Megatron torch checkpoint are: `first` is the
 * global index of its first layer, `base` that layer's index in the names of the files (0,
 * unless a fork wrote global numbers). Hugging Face: one stage of all layers. Placement
 * order is chunk 0 of all stages, then chunk 1, ..
 * Source: Megatron-LM megatron/core/transformer/transformer_layer.py (get_transformer_layer_offset) */
struct sl_stage_layers { int32_t pp, chunk, first, count, base; };

struct sl_model {
    struct sl_arena arena;
    const struct sl_family *family;      /* NULL when unknown */
    enum sl_dialect dialect;             /* how its tensors are named */
    const char *spec;                    /* "te", "local", NULL */
    const char *name;                    /* "Llama-2-7B", NULL */
    enum sl_confidence confidence;
    struct sl_setting *config;           size_t config_count, config_room;
    struct sl_evidence *evidence;        size_t evidence_count, evidence_room;
    const char *const *flags;            size_t flag_count;   /* "tied", "gqa", "add_qkv_bias", "swiglu", .. */
    struct sl_parallel parallel;
    const struct sl_moe *moe;
    const struct sl_stage_layers *stages; size_t stage_count;
    int32_t mtp_layers;                  /* layers that predict further tokens, after those of the stages */
    uint64_t params;
    int64_t vocab;                       /* true vocabulary, -1 unknown */
    int64_t padded_vocab;                /* rows of the embedding, -1 */
    const struct sl_value *hf_reference; /* config.json of --hf-config or of the source, NULL */
    const char *hf_reference_folder;     /* NULL */
    struct sl_problems problems;
    const char *unsupported;             /* NULL, or why no family fits: "looks like Qwen2-MoE: .." */
    const char *missing;                 /* NULL, or what must still be stated before a plan:
                                            "head size is not in the shapes: state it with --set kv_channels=N" */
};

/* families must outlive the model. Never fails for a strange checkpoint (family NULL then);
 * SL_USAGE for a wrong --model or --set, or one that contradicts the tensors. */
int sl_model_detect(struct sl_ckpt *c, const struct sl_families *families,
                    const struct sl_model_options *options, struct sl_model **out,
                    struct sl_error *err);
void sl_model_free(struct sl_model *m);

/* Is there such a flag, or setting, at all? *near: the name of a setting nearest to a mistyped one, or NULL. */
bool sl_flag_known(const char *flag, size_t len);
bool sl_setting_known(const char *name, const char **near);

const struct sl_setting *sl_model_get(const struct sl_model *m, const char *key);
bool sl_model_int(const struct sl_model *m, const char *key, int64_t *out);
bool sl_model_flag(const struct sl_model *m, const char *flag);
/* Does a rule's or param's "when" hold ("tied & !moe")? NULL holds. */
bool sl_model_when(const struct sl_model *m, const char *when);
/* Global layer of a local one; -1 when there is no such stage. */
int32_t sl_model_layer(const struct sl_model *m, int32_t pp, int32_t chunk, int32_t local);
/* Length of a dim, by the family's dims and the config; `tp`, `etp`, `padded_vocab` too. */
int sl_model_dim(const struct sl_model *m, const char *name, size_t len, int32_t tp, int32_t etp,
                 int64_t padded_vocab, int64_t *out, struct sl_error *err);

/* config.json and generation_config.json for an HF target, as text. dtype: of the weights
 * written. vocab: rows written. Carries over what the reference config has and the
 * checkpoint does not contradict; what is missing is told in notes. */
int sl_model_hf_config(const struct sl_model *m, enum sl_dtype dtype, int64_t vocab,
                       struct sl_buf *config, struct sl_buf *generation,
                       struct sl_problems *notes, struct sl_error *err);

/* The database: published models and nominal presets (models.json). struct sl_model_row is
 * in shardlens.h. find: by option or name, case does not matter; NULL when there is none. */
struct sl_model_row;
size_t sl_model_rows(const struct sl_model_row **rows);
const struct sl_model_row *sl_model_row_find(const char *option);

#endif
