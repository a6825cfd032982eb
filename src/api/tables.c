/* tables.c: names, families, models and problem codes, as the public API gives
 * them out. */
#include "api/handle.h"
#include "plan/familycheck.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#ifndef SL_VERSION
#define SL_VERSION "0.1.0"
#endif

const char *sl_version(void)
{
    return SL_VERSION;
}

const char *sl_container_name(enum sl_container container)
{
    static const char *const names[] = {
        [SL_CONTAINER_UNKNOWN] = "unknown", [SL_MEGATRON_TORCH] = "megatron-torch",
        [SL_MEGATRON_TORCH_DIST] = "megatron-torch-dist", [SL_MEGATRON_ZARR] = "megatron-zarr",
        [SL_HF_SAFETENSORS] = "hf-safetensors", [SL_HF_BIN] = "hf-bin", [SL_TORCH_DCP] = "torch-dcp",
        [SL_SAFETENSORS] = "safetensors", [SL_TORCH] = "torch",
    };
    return (size_t)container < sizeof names / sizeof *names ? names[container] : "unknown";
}

const char *sl_severity_name(enum sl_severity severity)
{
    return severity == SL_ERROR ? "error" : severity == SL_WARNING ? "warning" : "note";
}

const char *sl_confidence_name(enum sl_confidence confidence)
{
    return confidence == SL_CERTAIN ? "certain" : confidence == SL_LIKELY ? "likely" : "guess";
}

const char *sl_rank_status_name(enum sl_rank_status status)
{
    static const char *const names[] = {
        [SL_RANK_OK] = "ok", [SL_RANK_MISSING] = "missing", [SL_RANK_DAMAGED] = "damaged", [SL_RANK_ODD] = "odd",
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "odd";
}

const char *sl_phase_name(enum sl_phase phase)
{
    static const char *const names[] = {
        [SL_PHASE_PREPARE] = "prepare", [SL_PHASE_COPY] = "copy", [SL_PHASE_SYNC] = "sync",
        [SL_PHASE_VERIFY] = "verify", [SL_PHASE_FINISH] = "finish", [SL_PHASE_DONE] = "done",
    };
    return (size_t)phase < sizeof names / sizeof *names ? names[phase] : "done";
}

const char *sl_doing_name(enum sl_doing doing)
{
    static const char *const names[] = {
        [SL_DOING_NOTHING] = "idle", [SL_DOING_READ] = "read", [SL_DOING_WORK] = "work", [SL_DOING_WRITE] = "write",
    };
    return (size_t)doing < sizeof names / sizeof *names ? names[doing] : "idle";
}

const char *sl_result_status_name(enum sl_result_status status)
{
    static const char *const names[] = {
        [SL_RESULT_PENDING] = "pending", [SL_RESULT_WRITTEN] = "written", [SL_RESULT_VERIFIED] = "verified",
        [SL_RESULT_MISMATCH] = "mismatch", [SL_RESULT_EQUAL] = "equal", [SL_RESULT_DIFFERENT] = "different",
        [SL_RESULT_ONLY_A] = "only-a", [SL_RESULT_ONLY_B] = "only-b", [SL_RESULT_SHAPE] = "shape-differs",
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "pending";
}

const char *sl_dtype_label(enum sl_dtype dtype)
{
    return sl_dtype_name(dtype);
}

char *sl_printable(const char *s, char *out, size_t room)
{
    return sl_text_printable(s, strlen(s), out, room);
}

/* ---- models ------------------------------------------------------------------------ */

size_t sl_model_row_count(void)
{
    const struct sl_model_row *rows;
    return sl_model_rows(&rows);
}

const struct sl_model_row *sl_model_row(size_t index)
{
    const struct sl_model_row *rows;
    return index < sl_model_rows(&rows) ? &rows[index] : NULL;
}

/* ---- families: the built-in ones, read once and kept for the life of the process ------ */

static struct {
    pthread_once_t once;
    struct sl_arena arena;
    struct sl_family_row *rows;
    size_t count;
} families = { .once = PTHREAD_ONCE_INIT };

static void families_read(void)
{
    struct sl_families f = { 0 };
    if (sl_families_load(NULL, &f, NULL))
        return;
    families.rows = SL_ARENA_NEW(&families.arena, struct sl_family_row, f.count);
    for (size_t i = 0; families.rows && i < f.count; i++) {
        const struct sl_family *x = &f.items[i];
        size_t rules = 0;
        for (int d = 0; d < SL_DIALECT_COUNT; d++)
            rules += x->rule_count[d];
        if (!x->abstract)
            families.rows[families.count++] = (struct sl_family_row){
                .name = sl_arena_str(&families.arena, x->name), .title = sl_arena_str(&families.arena, x->title),
                .hf_arch = x->hf_architecture ? sl_arena_str(&families.arena, x->hf_architecture) : NULL,
                .model_type = x->hf_model_type ? sl_arena_str(&families.arena, x->hf_model_type) : NULL,
                .source = x->source ? sl_arena_str(&families.arena, x->source) : NULL, .rules = rules };
    }
    sl_families_free(&f);
}

size_t sl_family_row_count(void)
{
    pthread_once(&families.once, families_read);
    return families.count;
}

const struct sl_family_row *sl_family_row(size_t index)
{
    return index < sl_family_row_count() ? &families.rows[index] : NULL;
}

int sl_families_read(struct sl_error *err)
{
    struct sl_families f = { 0 };
    const int code = sl_families_load(NULL, &f, err);
    if (!code)
        sl_families_free(&f);
    return code;
}

struct checked { struct sl_family_check check; struct sl_family_verdict verdict; };

int sl_family_check(const char *file, struct sl_family_check **out, struct sl_error *err)
{
    struct checked *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return sl_fail_memory(err, sizeof *c);
    const struct sl_family_verdict *v = &c->verdict;
    int code = sl_family_try(file, &c->verdict, err);
    struct sl_family_problem *problems = code ? NULL : SL_ARENA_NEW(&c->verdict.arena, struct sl_family_problem, v->count);
    if (!code && !problems)
        code = sl_fail_memory(err, v->count * sizeof *problems);
    if (code) {
        sl_family_check_free(&c->check);
        return code;
    }
    c->check = (struct sl_family_check){ .family = v->family, .title = v->title, .abstract = v->abstract, .params = v->params,
        .hf_rows = v->rules[SL_DIALECT_HF], .megatron_rows = v->rules[SL_DIALECT_MEGATRON], .layouts = v->layouts,
        .problems = problems, .problem_count = v->count, .sound = true };
    for (size_t i = 0; i < v->count; i++) {
        const struct sl_family_finding *f = &v->findings[i];
        problems[i] = (struct sl_family_problem){ f->severity, f->line, f->place, f->message };
        c->check.sound &= f->severity != SL_ERROR;
    }
    *out = &c->check;
    return SL_OK;
}

void sl_family_check_free(struct sl_family_check *check)
{
    struct checked *c = (struct checked *)(void *)check;     /* its first member */
    if (!c)
        return;
    sl_family_verdict_free(&c->verdict);
    free(c);
}

/* ---- problems -------------------------------------------------------------------------- */

size_t sl_problem_code_count(void)
{
    return sl_problem_table_count;
}

const struct sl_problem_code *sl_problem_code(size_t index)
{
    return index < sl_problem_table_count ? &sl_problem_table[index] : NULL;
}
