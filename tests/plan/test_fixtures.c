/* test_fixtures.c: checkpoints that Megatron-core wrote, planned from end to end and moved in
 * memory: to Hugging Face against what was cut out of the one-rank model, and from cut to cut
 * against the shards that Megatron wrote for that cut. */
#include "../base/testing.h"

#include "base/dtype.h"
#include "format/safetensors.h"
#include "plan/plan.h"

#define FIXTURES "tests/fixtures/"

static struct sl_families families;
static struct sl_error err;

static void ok(int rc)
{
    if (rc)
        fail_msg("%s: %s", err.where, err.message);
}

struct opened { struct sl_ckpt *c; struct sl_model *m; };

static struct opened open_fixture(const char *folder, const char *hf)
{
    char path[256];
    struct opened o;
    snprintf(path, sizeof path, FIXTURES "%s", folder);
    ok(sl_ckpt_open(path, &o.c, &err));
    char config[256];
    snprintf(config, sizeof config, FIXTURES "%s", hf ? hf : "");
    const struct sl_model_options options = { .hf_config = hf ? config : NULL };
    ok(sl_model_detect(o.c, &families, &options, &o.m, &err));
    if (!o.m->family)
        fail_msg("%s: no family: %s", folder, o.m->unsupported ? o.m->unsupported : "");
    return o;
}

static void close_fixture(struct opened *o)
{
    sl_model_free(o->m);
    sl_ckpt_close(o->c);
}

/* One element of size `size` after the other, from source bytes that are read whole. */
static void move_bytes(const struct sl_copy *c, const unsigned char *source, unsigned char *target, size_t size)
{
    int64_t at[SL_AXES] = { 0 };
    for (uint32_t k = 1; k; ) {
        int64_t s = c->source_base, t = c->target_base;
        for (uint32_t a = 0; a < c->ndim; a++) {
            s += at[a] * c->source_stride[a];
            t += at[a] * c->target_stride[a];
        }
        if (source)
            memcpy(target + (size_t)t * size, source + (size_t)s * size, size);
        else
            memset(target + (size_t)t * size, 0, size);
        for (k = c->ndim; k > 0 && ++at[k - 1] == c->count[k - 1]; )
            at[--k] = 0;
    }
}

static unsigned char *read_tensor(struct sl_ckpt *c, const struct sl_tensor *t)
{
    unsigned char *bytes = malloc(t->bytes + 1);
    assert_non_null(bytes);
    ok(sl_ckpt_read_elements(c, t, 0, t->count, bytes, &err));
    return bytes;
}

/* The bytes of one target of a plan. */
static unsigned char *make_target(const struct sl_layout *source, struct sl_ckpt *c, const struct sl_tensor *t,
                                  const struct sl_copy *copies, size_t count)
{
    unsigned char *out = malloc(t->bytes + 1);
    assert_non_null(out);
    for (size_t i = 0; i < count; i++) {
        const struct sl_tensor *s = copies[i].source == UINT32_MAX ? NULL : &source->tensors[copies[i].source];
        unsigned char *bytes = s ? read_tensor(c, s) : NULL;
        assert_true(!s || s->dtype == t->dtype);
        move_bytes(&copies[i], bytes, out, sl_dtype_size(t->dtype));
        free(bytes);
    }
    return out;
}

/* ---- to Hugging Face -------------------------------------------------------------------- */

static void becomes_hf(const char *folder, const char *family)
{
    char path[256];
    struct sl_arena arena = { 0 };
    struct sl_file file;
    struct sl_st_file expected;
    struct sl_conversion *p;
    snprintf(path, sizeof path, "%s.hf", family);
    struct opened o = open_fixture(folder, path);
    const struct sl_want want = { .dialect = SL_DIALECT_HF, .spec = { .parallel = { 1, 1, 1, 1, 1 } } };
    ok(sl_conversion_make(o.c, o.m, &want, &p, &err));
    snprintf(path, sizeof path, FIXTURES "%s.expected.safetensors", family);
    ok(sl_file_open(path, &file, &err));
    ok(sl_st_open(&file, &arena, &expected, &err));

    assert_int_equal(p->target_count, expected.count);
    assert_int_equal(p->file_count, 1);
    assert_string_equal(p->files[0].name, "model.safetensors");
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        uint32_t k = 0;
        while (k < expected.count && strcmp(expected.tensors[k].name, t->name))
            k++;
        if (k == expected.count)
            fail_msg("%s: %s is not expected", folder, t->name);
        const struct sl_st_tensor *e = &expected.tensors[k];
        assert_int_equal(t->dtype, e->dtype);
        assert_int_equal(t->ndim, e->ndim);
        assert_memory_equal(t->shape, e->shape, t->ndim * sizeof *t->shape);
        unsigned char *made = make_target(&p->source, o.c, t, p->copies + p->target_first[i],
                                          p->target_first[i + 1] - p->target_first[i]);
        unsigned char *bytes = malloc(e->bytes);
        ok(sl_file_read(&file, e->offset, bytes, e->bytes, &err));
        if (memcmp(made, bytes, e->bytes))
            fail_msg("%s: %s differs from the expected bytes", folder, t->name);
        free(made);
        free(bytes);
    }
    assert_int_equal(strlen(p->hash), 32);
    sl_conversion_free(p);
    close_fixture(&o);
    sl_file_close(&file);
    sl_arena_free(&arena);
}

TEST(every_cut_of_llama_becomes_the_expected_tensors)
{
    static const char *const folders[] = {
        "llama_tp1_pp1", "llama_tp1_pp2", "llama_tp2_pp1", "llama_tp2_pp2", "llama_tp4_pp1", "llama_tp4_pp2" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        becomes_hf(folders[i], "llama");
}

TEST(other_containers_and_names_become_the_same)
{
    static const char *const folders[] = {
        "llama_te_tp2_pp1", "llama_release_tp1_pp1", "llama_nozip_tp2_pp1", "llama_views_tp2_pp1", "llama_noargs_tp2_pp1" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        becomes_hf(folders[i], "llama");
}

TEST(every_cut_of_minicpm_becomes_the_expected_tensors_without_a_head)
{
    static const char *const folders[] = {
        "minicpm_tp1_pp1", "minicpm_tp1_pp2", "minicpm_tp2_pp1", "minicpm_tp2_pp2", "minicpm_vpp2_tp1_pp2" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        becomes_hf(folders[i], "minicpm");
}

/* ---- from cut to cut ---------------------------------------------------------------------- */

/* Elements of a tensor that are padding in its layout. */
static bool is_padding(const struct sl_layout *l, uint32_t tensor, uint64_t element)
{
    for (size_t i = 0; i < l->padding_count; i++) {
        const struct sl_padding *p = &l->padding[i];
        if (p->tensor == tensor && element >= (uint64_t)p->base && element < (uint64_t)(p->base + p->count))
            return true;
    }
    return false;
}

static void becomes_shards(const char *from, const char *to, const char *hf)
{
    struct opened a = open_fixture(from, hf), b = open_fixture(to, hf);
    struct sl_arena arena = { 0 };
    struct sl_layout source, target, real;
    struct sl_copy *copies;
    size_t count, *first;
    int32_t stages[16] = { 0 };
    for (size_t i = 0; i < b.m->stage_count; i++)
        stages[b.m->stages[i].chunk * b.m->parallel.pp + b.m->stages[i].pp] = b.m->stages[i].count;
    struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = b.m->spec, .parallel = b.m->parallel,
                                   .stage_layers = stages, .padded_vocab = b.m->padded_vocab, .source = &source };
    ok(sl_layout_source(a.m, a.c, &arena, &source, &err));
    ok(sl_prove_source(&source, a.m, a.c, &err));
    ok(sl_layout_target(a.m, &spec, &arena, &target, &err));
    ok(sl_layout_source(b.m, b.c, &arena, &real, &err));
    ok(sl_intersect(&source, &target, false, &copies, &count, &first, &err));
    ok(sl_prove_coverage(&target, copies, count, first, &err));

    size_t compared = 0;
    for (size_t k = 0; k < b.c->tensor_count; k++) {
        const struct sl_tensor *want = &b.c->tensors[k];
        if (!real.rule[k])
            continue;
        size_t i = 0;
        while (i < target.tensor_count && (strcmp(target.tensors[i].name, want->name) || target.tensors[i].chunk != want->chunk ||
                                           target.ranks[target.tensors[i].rank].tp != b.c->ranks[want->rank].tp ||
                                           target.ranks[target.tensors[i].rank].pp != b.c->ranks[want->rank].pp))
            i++;
        if (i == target.tensor_count)
            fail_msg("%s -> %s: %s of rank %d is not made", from, to, want->name, want->rank);
        assert_int_equal(target.tensors[i].dtype, want->dtype);
        assert_int_equal(target.tensors[i].count, want->count);
        unsigned char *made = make_target(&source, a.c, &target.tensors[i], copies + first[i], first[i + 1] - first[i]);
        unsigned char *bytes = read_tensor(b.c, want);
        const size_t size = sl_dtype_size(want->dtype);
        for (uint64_t e = 0; e < want->count; e++)
            if (memcmp(made + e * size, bytes + e * size, size) && !is_padding(&real, (uint32_t)k, e))
                fail_msg("%s -> %s: %s of rank %d differs at element %llu", from, to, want->name, want->rank, (unsigned long long)e);
        compared++;
        free(made);
        free(bytes);
    }
    assert_int_equal(compared, target.tensor_count);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_layout_free(&real);
    sl_arena_free(&arena);
    close_fixture(&a);
    close_fixture(&b);
}

TEST(every_cut_of_llama_becomes_the_shards_megatron_wrote_for_every_other)
{
    static const char *const cuts[] = {
        "llama_tp1_pp1", "llama_tp1_pp2", "llama_tp2_pp1", "llama_tp2_pp2", "llama_tp4_pp1", "llama_tp4_pp2" };
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 6; k++)
            becomes_shards(cuts[i], cuts[k], "llama.hf");
    becomes_shards("llama_tp4_pp2", "llama_te_tp2_pp1", "llama.hf");
}

TEST(every_cut_of_minicpm_becomes_the_shards_megatron_wrote_for_every_other)
{
    static const char *const cuts[] = {
        "minicpm_tp1_pp1", "minicpm_tp1_pp2", "minicpm_tp2_pp1", "minicpm_tp2_pp2", "minicpm_vpp2_tp1_pp2" };
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++)
            becomes_shards(cuts[i], cuts[k], "minicpm.hf");
}

/* ---- comparisons ----------------------------------------------------------------------------- */

TEST(two_cuts_hold_the_same_params_and_the_same_bytes)
{
    struct opened a = open_fixture("llama_tp2_pp2", "llama.hf"), b = open_fixture("llama_tp4_pp1", "llama.hf");
    struct sl_arena arena = { 0 };
    struct sl_layout la, lb;
    struct sl_comparison cmp;
    ok(sl_layout_source(a.m, a.c, &arena, &la, &err));
    ok(sl_layout_source(b.m, b.c, &arena, &lb, &err));
    ok(sl_comparison_make(&la, &lb, &arena, &cmp, &err));
    assert_int_equal(cmp.only_a_count + cmp.only_b_count + cmp.shape_differs_count, 0);
    assert_int_equal(cmp.param_first[la.param_count], cmp.copy_count);
    for (size_t i = 0; i < la.param_count; i++) {
        uint64_t elements = 0, whole = 1;
        for (uint32_t x = 0; x < la.params[i].ndim; x++)
            whole *= (uint64_t)la.params[i].shape[x];
        for (size_t k = cmp.param_first[i]; k < cmp.param_first[i + 1]; k++) {
            const struct sl_copy *c = &cmp.copies[k];
            const struct sl_tensor *sa = &a.c->tensors[c->source], *sb = &b.c->tensors[c->target];
            unsigned char *x = read_tensor(a.c, sa), *y = read_tensor(b.c, sb), *z = malloc(sb->bytes);
            uint64_t n = 1;
            memcpy(z, y, sb->bytes);
            move_bytes(c, x, z, sl_dtype_size(sa->dtype));
            assert_memory_equal(y, z, sb->bytes);
            for (uint32_t d = 0; d < c->ndim; d++)
                n *= (uint64_t)c->count[d];
            elements += n;
            free(x);
            free(y);
            free(z);
        }
        assert_int_equal(elements, whole);
    }
    sl_layout_free(&la);
    sl_layout_free(&lb);
    sl_arena_free(&arena);
    close_fixture(&a);
    close_fixture(&b);
}

/* ---- files ---------------------------------------------------------------------------------------- */

static const struct sl_out_extra *find_extra(const struct sl_conversion *p, const char *name)
{
    for (size_t i = 0; i < p->extra_count; i++)
        if (!strcmp(p->extras[i].name, name))
            return &p->extras[i];
    return NULL;
}

/* Embedding and head of 83 x 40 bf16 are 6640 bytes each, a layer 21 tensors' worth of them: with a
 * limit of 8000 every shard but those of large tensors is filled until the next does not fit. */
TEST(shards_are_filled_in_module_order_and_listed_in_the_index)
{
    struct opened o = open_fixture("llama_tp2_pp2", "llama.hf");
    struct sl_conversion *p;
    const struct sl_want want = { .dialect = SL_DIALECT_HF, .max_shard_size = 8000, .hf_config = FIXTURES "llama.hf" };
    ok(sl_conversion_make(o.c, o.m, &want, &p, &err));
    assert_true(p->file_count > 3);
    uint64_t in_file = 0, total = 0;
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        const bool next = i && t->file != p->targets[i - 1].file;
        assert_true(!i || t->file == p->targets[i - 1].file || t->file == p->targets[i - 1].file + 1);
        if (next)
            assert_true(in_file + t->bytes > 8000);
        in_file = next ? t->bytes : in_file + t->bytes;
        assert_true(in_file <= 8000);
        total += t->bytes;
        assert_true(t->offset + t->bytes <= p->files[t->file].size);
    }
    assert_int_equal(p->write_bytes, total);
    char name[64];
    snprintf(name, sizeof name, "model-00001-of-%05zu.safetensors", p->file_count);
    assert_string_equal(p->files[0].name, name);
    const struct sl_out_extra *index = find_extra(p, "model.safetensors.index.json");
    assert_non_null(index);
    snprintf(name, sizeof name, "\"total_size\": %llu", (unsigned long long)total);
    assert_non_null(memmem(index->bytes, index->len, name, strlen(name)));
    assert_non_null(find_extra(p, "config.json"));
    sl_conversion_free(p);
    close_fixture(&o);
}

TEST(padding_rows_and_bookkeeping_are_left_out_by_name)
{
    struct opened o = open_fixture("llama_te_tp2_pp1", "llama.hf");
    struct sl_conversion *p;
    const struct sl_want want = { .dialect = SL_DIALECT_HF };
    size_t extra = 0, padding = 0;
    ok(sl_conversion_make(o.c, o.m, &want, &p, &err));
    for (size_t i = 0; i < p->left_out_count; i++) {
        extra += strstr(p->left_out[i].why, "extra state") != NULL;
        padding += strstr(p->left_out[i].why, "vocabulary padding") != NULL;
    }
    assert_true(extra > 0);
    assert_int_equal(padding, 2);      /* of the embedding and of the head, on the second rank */
    assert_non_null(strstr(p->proof, "exactly once"));
    sl_conversion_free(p);
    close_fixture(&o);
}

TEST(the_hash_depends_on_what_is_asked_for_and_on_nothing_else)
{
    struct opened o = open_fixture("llama_tp2_pp1", "llama.hf");
    struct sl_conversion *p[3];
    const struct sl_want keep = { .dialect = SL_DIALECT_HF }, fp32 = { .dialect = SL_DIALECT_HF, .dtype = SL_F32 };
    ok(sl_conversion_make(o.c, o.m, &keep, &p[0], &err));
    ok(sl_conversion_make(o.c, o.m, &keep, &p[1], &err));
    ok(sl_conversion_make(o.c, o.m, &fp32, &p[2], &err));
    assert_string_equal(p[0]->hash, p[1]->hash);
    assert_string_not_equal(p[0]->hash, p[2]->hash);
    assert_int_equal(p[2]->targets[0].dtype, SL_F32);
    assert_int_equal(p[2]->write_bytes, 2 * p[0]->write_bytes);
    for (int i = 0; i < 3; i++)
        sl_conversion_free(p[i]);
    close_fixture(&o);
}

static int load(void **state __attribute__((unused)))
{
    return sl_families_load(NULL, &families, &err);
}

static int unload(void **state __attribute__((unused)))
{
    sl_families_free(&families);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_cut_of_llama_becomes_the_expected_tensors),
        ROW(other_containers_and_names_become_the_same),
        ROW(every_cut_of_minicpm_becomes_the_expected_tensors_without_a_head),
        ROW(every_cut_of_llama_becomes_the_shards_megatron_wrote_for_every_other),
        ROW(every_cut_of_minicpm_becomes_the_shards_megatron_wrote_for_every_other),
        ROW(two_cuts_hold_the_same_params_and_the_same_bytes),
        ROW(shards_are_filled_in_module_order_and_listed_in_the_index),
        ROW(padding_rows_and_bookkeeping_are_left_out_by_name),
        ROW(the_hash_depends_on_what_is_asked_for_and_on_nothing_else),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
