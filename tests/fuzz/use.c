/* use.c: see use.h. */
#include "use.h"

#include "fuzz.h"

#include "base/text.h"
#include <shardlens/shardlens.h>

#define TENSORS_READ 16
#define BYTES_READ (UINT64_C(1) << 16)     /* of a tensor whose values are looked at */
#define PLANNED_BYTES (UINT64_C(1) << 28)

static void must_print(const char *s)
{
    if (!s || !*s || !sl_text_is_printable(s, strlen(s)))
        abort();
}

static void look_at_info(const struct sl_checkpoint_info *info)
{
    for (size_t i = 0; i < info->problem_count; i++)
        must_print(info->problems[i].message);
    for (size_t i = 0; i < info->evidence_count; i++)
        must_print(info->evidence[i].fact);
}

static void read_some(const struct sl_checkpoint *ck)
{
    for (size_t i = 0; i < sl_tensor_count(ck) && i < TENSORS_READ; i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, i);
        uint8_t element[64];
        struct sl_error err = { 0 };
        struct sl_stats stats;
        uint64_t begin, end;
        sl_tensor_place(ck, i, &begin, &end);
        if (begin > end)
            abort();
        if (!t->count || t->bytes / t->count > sizeof element)
            continue;
        fuzz_refused(sl_tensor_read(ck, i, 0, 1, element, &err), &err);
        fuzz_refused(sl_tensor_read(ck, i, t->count - 1, 1, element, &err), &err);
        if (t->bytes <= BYTES_READ && t->storage_bytes <= BYTES_READ)
            fuzz_refused(sl_tensor_stats(ck, &i, 1, &stats, NULL, NULL, NULL, NULL, &err), &err);
    }
}

static void look_at_logicals(struct sl_checkpoint *ck)
{
    for (size_t i = 0; i < sl_logical_count(ck); i++) {
        const struct sl_logical *l = sl_logical_at(ck, i);
        const struct sl_slice_info *slices;
        size_t count;
        struct sl_error err = { 0 };
        if (!l->name || !l->piece_count || l->pieces[0] >= sl_tensor_count(ck))
            abort();
        if (i < TENSORS_READ)
            fuzz_refused(sl_tensor_slices(ck, l->pieces[0], &slices, &count, &err), &err);
    }
}

static void plan_it(struct sl_checkpoint *ck, enum sl_format format, int32_t tp, int32_t pp)
{
    const struct sl_plan_options want = { .format = format, .tp = tp, .pp = pp, .iteration = -1, .threads = 1 };
    struct sl_plan *plan = NULL;
    struct sl_error err = { 0 };
    const int code = sl_plan_make(ck, NULL, &want, &plan, &err);
    fuzz_refused(code, &err);
    if (!code && (!sl_plan_info(plan)->proof || !sl_plan_info(plan)->target_count))
        abort();
    sl_plan_free(plan);
}

void fuzz_use(const char *path)
{
    struct sl_error err = { 0 };
    struct sl_checkpoint *ck = NULL;
    const int code = sl_open(path, NULL, &ck, &err);
    fuzz_refused(code, &err);
    if (!code) {
        look_at_info(sl_info(ck));
        read_some(ck);
        look_at_logicals(ck);
        if (sl_info(ck)->family && sl_info(ck)->bytes < PLANNED_BYTES) {
            plan_it(ck, SL_TO_HF, 0, 0);
            plan_it(ck, SL_TO_MEGATRON, 2, 2);
        }
    }
    sl_close(ck);
}
