/* test_families.c: each family to Megatron and back. tests/fixtures/families holds small models as transformers writes them, and
 * for every rank and tensor the CRC-32 of what it must hold, derived from transformers', Megatron's and Megatron-Bridge's
 * sources by tests/interop/families.py. */
#include "golden.h"

#include "base/arena.h"
#include "base/io.h"

#include <libdeflate.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAMILIES FIXTURES "families/"

static char root[64];
static struct sl_arena arena;

/* The first line of ranks.txt: family tp pp ep etp, and what was stated. */
struct wanted { char family[64], set[64]; int tp, pp, ep, etp; char *rows; };

static struct wanted read_wanted(const char *name)
{
    struct wanted w;
    char path[PATH_MAX], *text;
    snprintf(path, sizeof path, FAMILIES "%s/ranks.txt", name);
    if (sl_file_slurp(path, 1 << 20, &arena, &text, NULL, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(sscanf(text, "%63s %d %d %d %d %63s", w.family, &w.tp, &w.pp, &w.ep, &w.etp, w.set), 6);
    w.rows = strchr(text, '\n') + 1;
    return w;
}

/* NULL for a family that is told by nothing but its config.json. */
static struct sl_checkpoint *opened_as(const char *path, const struct wanted *w, bool name_it)
{
    const char *sets[] = { w->set };
    static char example[64 + 16];
    snprintf(example, sizeof example, "%s/glm4.json", root);
    const struct sl_open_options o = { .set = sets, .set_count = strcmp(w->set, "-") != 0, .model = name_it ? w->family : NULL,
                                       .family_file = strcmp(w->family, "glm4") ? NULL : example };
    return opened_with(path, &o);
}

static void convert(struct sl_checkpoint *ck, const char *target, const struct sl_plan_options *o)
{
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_run_options run = { .threads = 2, .force = true, .verify = SL_VERIFY_REREAD };
    int code = sl_plan_make(ck, target, o, &plan, &err);
    if (!code)
        code = sl_convert_start(plan, &run, &job, &err);
    if (!code)
        code = sl_job_wait(job, &err);
    if (code)
        fail_msg("%s: %s: %s", target, err.where, err.message);
    sl_job_free(job);
    sl_plan_free(plan);
}

/* The row of ranks.txt of a stored tensor; NULL when no rank should hold it. */
static const char *row_of(const struct wanted *w, const char *rank, const char *name)
{
    char key[256];
    const int len = snprintf(key, sizeof key, "%s %s ", rank, name);
    for (const char *p = w->rows; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, key, (size_t)len))
            return p + len;
    return NULL;
}

static size_t count_rows(const char *p)
{
    size_t count = 0;
    for (; *p; p++)
        count += *p == '\n';
    return count;
}

static void every_rank_holds_it(struct sl_checkpoint *ck, const char *name, const struct wanted *w)
{
    size_t held = 0;
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, i);
        unsigned char bytes[1 << 16];
        const char *rank = sl_info(ck)->ranks[t->rank].path, *row = row_of(w, rank, t->name);
        if (t->flags & SL_TENSOR_EXTRA)
            continue;
        if (!row)
            fail_msg("%s: %s should not hold %s", name, rank, t->name);
        assert_true(t->bytes <= sizeof bytes);
        if (sl_tensor_read(ck, i, 0, t->count, bytes, &err))
            fail_msg("%s: %s", err.where, err.message);
        const uint32_t crc = libdeflate_crc32(0, bytes, (size_t)t->bytes);
        if (crc != strtoul(row, NULL, 16))
            fail_msg("%s: %s %s holds other bytes than it must", name, rank, t->name);
        held++;
    }
    assert_int_equal(held, count_rows(w->rows));
}

static void tensors_are_equal(const char *a, const char *b)
{
    struct sl_checkpoint *x = opened(a), *y = opened(b);
    assert_int_equal(sl_tensor_count(x), sl_tensor_count(y));
    for (size_t i = 0; i < sl_tensor_count(x); i++) {
        const struct sl_tensor *t = sl_tensor_at(x, i);
        unsigned char p[1 << 16], q[1 << 16];
        size_t k = 0;
        while (k < sl_tensor_count(y) && strcmp(sl_tensor_at(y, k)->name, t->name))
            k++;
        if (k == sl_tensor_count(y) || sl_tensor_at(y, k)->bytes != t->bytes || t->bytes > sizeof p)
            fail_msg("%s: %s is not as it was", b, t->name);
        assert_int_equal(sl_tensor_read(x, i, 0, t->count, p, &err) | sl_tensor_read(y, k, 0, t->count, q, &err), 0);
        if (memcmp(p, q, (size_t)t->bytes))
            fail_msg("%s: %s is not as it was", b, t->name);
    }
    sl_close(x);
    sl_close(y);
}

/* Norms that were moved by one in bf16 come back with other last digits. */
static bool is_exact(const struct wanted *w) { return !strcmp(w->set, "-"); }

static void there_and_back(const char *name)
{
    const struct wanted w = read_wanted(name);
    char hf[PATH_MAX], meg[PATH_MAX], back[PATH_MAX];
    snprintf(hf, sizeof hf, FAMILIES "%s", name);
    snprintf(meg, sizeof meg, "%s/%s", root, name);
    snprintf(back, sizeof back, "%s/%s-back", root, name);
    struct sl_checkpoint *ck = opened_as(hf, &w, false);
    assert_non_null(sl_info(ck)->family);
    assert_string_equal(sl_info(ck)->family, w.family);
    assert_int_equal(sl_info(ck)->confidence, SL_CERTAIN);
    const struct sl_plan_options to = { .format = SL_TO_MEGATRON, .iteration = -1, .tp = w.tp, .pp = w.pp, .ep = w.ep, .etp = w.etp,
                                        .vpp = 1, .vocab_divisor = 6 };
    convert(ck, meg, &to);
    sl_close(ck);

    ck = opened_as(meg, &w, true);
    every_rank_holds_it(ck, name, &w);
    const struct sl_plan_options from = { .format = SL_TO_HF, .iteration = -1, .hf_config = hf };
    convert(ck, back, &from);
    sl_close(ck);
    if (is_exact(&w))
        tensors_are_equal(hf, back);
}

static void every_family_goes_to_megatron_and_comes_back(void **state)
{
    (void)state;
    const char *const *names;
    size_t count;
    assert_int_equal(sl_folder_list(FAMILIES, 100, &arena, &names, &count, &err), SL_OK);
    assert_true(count >= 14);
    for (size_t i = 0; i < count; i++)
        there_and_back(names[i]);
}

/* GLM-4 is no built-in family: it is the worked example of docs/families.md. */
static int made_begin(void **state)
{
    (void)state;
    char *guide, path[80];
    snprintf(root, sizeof root, "/tmp/shardlens-families-XXXXXX");
    if (!mkdtemp(root) || sl_file_slurp("docs/families.md", 1 << 20, &arena, &guide, NULL, &err))
        return -1;
    char *json = strstr(guide, "```json\n") + 8;
    *strstr(json, "```") = '\0';
    snprintf(path, sizeof path, "%s/glm4.json", root);
    return sl_write_new(path, json, strlen(json), &err);
}

static int made_end(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return sl_folder_remove(root, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_family_goes_to_megatron_and_comes_back) };
    return cmocka_run_group_tests(tests, made_begin, made_end);
}
