/* verify, diff and check over checkpoints that Megatron-core wrote, and over the same with
 * something wrong in them. */
#include "helper.h"

#include "model/model.h"
#include "run/job.h"

#include <math.h>

#define FIXTURES "tests/fixtures/"

/* A checkpoint with its layout. */
struct opened { struct sl_ckpt *c; struct sl_model *m; struct sl_arena arena; struct sl_layout layout; };

static struct sl_families families;
static struct sl_error err;

static void open_layout(struct opened *o, const char *path)
{
    const struct sl_model_options none = { .model = NULL };
    memset(o, 0, sizeof *o);
    if (sl_ckpt_open(path, &o->c, &err) || sl_model_detect(o->c, &families, &none, &o->m, &err) ||
        sl_layout_source(o->m, o->c, &o->arena, &o->layout, &err))
        fail_msg("%s: %s", err.where, err.message);
}

static void close_layout(struct opened *o)
{
    sl_layout_free(&o->layout);
    sl_arena_free(&o->arena);
    sl_model_free(o->m);
    sl_ckpt_close(o->c);
}

static struct sl_run *compared(struct opened *a, struct opened *b, bool diff)
{
    struct sl_run *r;
    const struct sl_run_options o = { .threads = 2, .memory = 256 << 10 };
    if ((diff ? sl_run_diff : sl_run_verify)(a->c, &a->layout, b->c, &b->layout, &o, &r, &err))
        fail_msg("%s: %s", err.where, err.message);
    if (sl_run_wait(r, &err))
        fail_msg("%s: %s", err.where, err.message);
    return r;
}

static const struct sl_result *result_named(const struct sl_run *r, const char *name)
{
    for (size_t i = 0; i < sl_run_result_count(r); i++)
        if (strcmp(sl_run_result_at(r, i)->name, name) == 0)
            return sl_run_result_at(r, i);
    fail_msg("no result %s", name);
    return NULL;
}

/* A copy of a fixture whose name ends after its iteration folder. */
static void copy_fixture(const char *folder, const char *name)
{
    char command[1400];
    assert_true(snprintf(command, sizeof command, "cp -r %s%s %s/copy && chmod -R u+w %s/copy", FIXTURES, name, folder, folder) <
                (int)sizeof command);
    assert_int_equal(system(command), 0);
}

static const struct sl_tensor *tensor_of(const struct opened *o, const char *name, int rank)
{
    for (size_t i = 0; i < o->c->tensor_count; i++)
        if (strcmp(o->c->tensors[i].name, name) == 0 && (rank < 0 || o->c->tensors[i].rank == rank))
            return &o->c->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void overwrite(const char *path, uint64_t offset, const void *bytes, size_t len)
{
    const int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
    close(fd);
}

static void flip(const char *path, uint64_t offset)
{
    unsigned char byte;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* ---- verify ---- */

static void every_cut_of_one_model_holds_the_same_weights(void **state)
{
    (void)state;
    static const char *const cuts[] = { "llama_tp1_pp1", "llama_tp1_pp2", "llama_tp2_pp1", "llama_tp2_pp2",
                                        "llama_tp4_pp1", "llama_tp4_pp2", "llama_te_tp2_pp1", "llama_views_tp2_pp1",
                                        "llama_nozip_tp2_pp1" };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        char path[256];
        struct opened a, b;
        open_layout(&a, FIXTURES "llama_tp4_pp2");
        snprintf(path, sizeof path, FIXTURES "%s", cuts[i]);
        open_layout(&b, path);
        struct sl_run *r = compared(&a, &b, i % 2);
        for (size_t k = 0; k < sl_run_result_count(r); k++)
            if (sl_run_result_at(r, k)->status != SL_RESULT_EQUAL)
                fail_msg("%s: %s is not equal", path, sl_run_result_at(r, k)->name);
        assert_int_equal(sl_run_summary(r)->equal, sl_run_result_count(r));
        sl_run_free(r);
        close_layout(&a);
        close_layout(&b);
    }
}

/* Every byte of one weight, flipped in turn: one element of one param differs, the right one. */
static void a_flipped_byte_is_found_wherever_it_is(void **state)
{
    (void)state;
    char folder[512], path[1024];
    struct opened a, b;
    make_folder(folder);
    copy_fixture(folder, "llama_tp2_pp1");
    join(path, folder, "copy");
    open_layout(&a, FIXTURES "llama_tp4_pp2");
    open_layout(&b, path);
    const struct sl_tensor *t = tensor_of(&b, "decoder.layers.1.self_attention.linear_proj.weight", 1);
    const char *file = b.c->files[t->file].path;
    const uint64_t size = sl_dtype_size(t->dtype);
    for (uint64_t byte = 0; byte < t->bytes; byte += 37) {
        struct opened again;
        flip(file, t->offset + byte);
        open_layout(&again, path);
        struct sl_run *r = compared(&a, &again, false);
        const struct sl_summary *s = sl_run_summary(r);
        assert_int_equal(s->different, 1);
        const struct sl_result *o = result_named(r, "layers.1.attn.o");
        assert_int_equal(o->status, SL_RESULT_DIFFERENT);
        assert_int_equal(o->different, 1);
        assert_int_equal(o->b_offset, t->offset + byte / size * size);
        sl_run_free(r);
        close_layout(&again);
        flip(file, t->offset + byte);
    }
    close_layout(&a);
    close_layout(&b);
    remove_folder(folder);
}

/* One element is larger by two: the largest distance is two, the mean one two by their number. */
static void diff_measures_how_far_apart_they_are(void **state)
{
    (void)state;
    char folder[512], path[1024];
    struct opened a, b;
    make_folder(folder);
    copy_fixture(folder, "llama_tp2_pp1");
    join(path, folder, "copy");
    open_layout(&a, FIXTURES "llama_tp2_pp1");
    open_layout(&b, path);
    const struct sl_tensor *t = tensor_of(&b, "decoder.final_layernorm.weight", 0);
    unsigned char old[8], element[8];
    assert_int_equal(sl_ckpt_read(b.c, t, 0, old, sl_dtype_size(t->dtype), &err), 0);
    const double x = sl_dtype_load(t->dtype, old), y = x + 2;
    float f = (float)y;
    sl_dtype_cast(SL_F32, &f, t->dtype, element, 1);
    overwrite(b.c->files[t->file].path, t->offset, element, sl_dtype_size(t->dtype));
    const double d = sl_dtype_load(t->dtype, element) - x;
    struct opened again;
    open_layout(&again, path);
    struct sl_run *r = compared(&a, &again, true);
    const struct sl_result *q = result_named(r, "final_norm");
    assert_int_equal(q->status, SL_RESULT_DIFFERENT);
    assert_int_equal(q->different, 1);
    assert_int_equal(q->first_different, 0);
    assert_true(q->max_abs - d < 1e-12 && d - q->max_abs < 1e-12);
    assert_true(q->mean_abs * (double)t->count - d < 1e-9 && q->cosine < 1);
    sl_run_free(r);
    close_layout(&again);
    close_layout(&a);
    close_layout(&b);
    remove_folder(folder);
}

static void weights_that_a_missing_rank_held_are_not_equal(void **state)
{
    (void)state;
    char folder[512], path[1024];
    struct opened a, b;
    make_folder(folder);
    copy_fixture(folder, "llama_tp2_pp1");
    remove_folder(join(path, folder, "copy/iter_0000010/mp_rank_01"));
    open_layout(&a, FIXTURES "llama_tp2_pp1");
    open_layout(&b, join(path, folder, "copy"));
    for (int turned = 0; turned < 2; turned++) {
        struct sl_run *r = turned ? compared(&b, &a, false) : compared(&a, &b, false);
        assert_int_equal(result_named(r, "layers.0.attn.q")->status, SL_RESULT_DIFFERENT);
        assert_int_equal(result_named(r, "final_norm")->status, SL_RESULT_EQUAL);    /* every rank has it */
        assert_true(sl_run_summary(r)->different > 0);
        sl_run_free(r);
    }
    close_layout(&a);
    close_layout(&b);
    remove_folder(folder);
}

static void params_that_one_side_has_are_told_apart(void **state)
{
    (void)state;
    struct opened a, b;
    open_layout(&a, FIXTURES "llama_tp2_pp1");        /* untied: a head of its own */
    open_layout(&b, FIXTURES "qkv_bias_tp2_pp1");
    struct sl_run *r = compared(&a, &b, false);
    struct sl_buf text = { 0 };
    size_t only = 0;
    for (size_t i = 0; i < sl_run_result_count(r); i++) {
        const struct sl_result *p = sl_run_result_at(r, i);
        assert_int_not_equal(p->status, SL_RESULT_PENDING);
        only += p->status == SL_RESULT_ONLY_A || p->status == SL_RESULT_ONLY_B;
    }
    assert_true(only > 0);
    assert_int_equal(sl_run_summary(r)->only_a + sl_run_summary(r)->only_b, only);
    assert_int_equal(sl_run_report(r, &text), 0);
    assert_non_null(strstr(text.data, "\"equal\": false"));
    assert_non_null(strstr(text.data, "only-b"));
    sl_buf_free(&text);
    sl_run_free(r);
    close_layout(&a);
    close_layout(&b);
}

/* ---- check ---- */

struct checked { struct sl_arena arena; struct sl_problems problems; struct sl_run *run; };

static void check(struct checked *k, struct opened *o, bool deep)
{
    *k = (struct checked){ .run = NULL };
    k->problems.arena = &k->arena;
    if (sl_run_check(o->c, &o->layout, o->m, &k->problems, deep, NULL, &k->run, &err) || sl_run_wait(k->run, &err))
        fail_msg("%s: %s", err.where, err.message);
}

static void check_end(struct checked *k)
{
    sl_run_free(k->run);
    sl_arena_free(&k->arena);
}

static const struct sl_problem *problem_coded(const struct checked *k, const char *code)
{
    for (size_t i = 0; i < k->problems.count; i++)
        if (strcmp(k->problems.items[i].code, code) == 0)
            return &k->problems.items[i];
    return NULL;
}

static void every_byte_under_a_crc_is_checked(void **state)
{
    (void)state;
    char folder[512], path[1024];
    struct opened o;
    struct checked k;
    make_folder(folder);
    copy_fixture(folder, "llama_tp2_pp1");
    open_layout(&o, join(path, folder, "copy"));
    for (size_t i = 0; i < o.c->tensor_count; i += 5) {
        const struct sl_tensor *t = &o.c->tensors[i];
        if (t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER) || t->bytes == 0)
            continue;
        const uint64_t at = t->offset + (uint64_t)random_below((int64_t)t->bytes);
        struct opened again;
        flip(o.c->files[t->file].path, at);
        open_layout(&again, path);
        check(&k, &again, true);
        const struct sl_problem *p = problem_coded(&k, "crc");
        if (!p)
            fail_msg("byte %" PRIu64 " of %s", at - t->offset, t->name);
        assert_non_null(strstr(p->where, t->name));
        assert_non_null(strstr(sl_run_check_result(k.run)->verdict, "NOT SOUND"));
        check_end(&k);
        close_layout(&again);
        flip(o.c->files[t->file].path, at);
    }
    close_layout(&o);
    remove_folder(folder);
}

static void values_that_are_no_numbers_are_found(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY };
    static const char *const codes[] = { "nan", "inf" };
    for (size_t i = 0; i < 2; i++) {
        char folder[512], path[1024];
        struct opened o;
        struct checked k;
        unsigned char element[8];
        make_folder(folder);
        copy_fixture(folder, "llama_tp2_pp1");
        open_layout(&o, join(path, folder, "copy"));
        const struct sl_tensor *t = tensor_of(&o, "decoder.layers.0.mlp.linear_fc2.weight", 1);
        sl_dtype_cast(SL_F32, &bad[i], t->dtype, element, 1);
        overwrite(o.c->files[t->file].path, t->offset + t->bytes / 2, element, sl_dtype_size(t->dtype));
        struct opened again;
        open_layout(&again, path);
        check(&k, &again, false);
        assert_null(problem_coded(&k, codes[i]));
        check_end(&k);
        check(&k, &again, true);
        const struct sl_problem *p = problem_coded(&k, codes[i]);
        assert_non_null(p);
        assert_string_equal(p->where, "mp_rank_01 decoder.layers.0.mlp.linear_fc2.weight");
        assert_int_equal(strncmp(p->message, "1 of ", 5), 0);
        check_end(&k);
        close_layout(&again);
        close_layout(&o);
        remove_folder(folder);
    }
}

/* The final norm is whole on both ranks. */
static void replicas_that_differ_are_found(void **state)
{
    (void)state;
    char folder[512], path[1024];
    struct opened o, again;
    struct checked k;
    make_folder(folder);
    copy_fixture(folder, "llama_tp2_pp1");
    open_layout(&o, join(path, folder, "copy"));
    const struct sl_tensor *t = tensor_of(&o, "decoder.final_layernorm.weight", 1);
    flip(o.c->files[t->file].path, t->offset + 3 * sl_dtype_size(t->dtype) + 1);
    open_layout(&again, path);
    check(&k, &again, true);
    const struct sl_problem *p = problem_coded(&k, "replica-differs");
    assert_non_null(p);
    assert_string_equal(p->where, "mp_rank_01 decoder.final_layernorm.weight");
    assert_int_equal(strncmp(p->message, "1 of ", 5), 0);
    assert_non_null(strstr(p->message, "mp_rank_00"));
    assert_int_equal(sl_run_check_result(k.run)->replicas_different, 1);
    check_end(&k);
    close_layout(&again);
    close_layout(&o);
    remove_folder(folder);
}

/* ---- weights in two forms ---- */

static bool is_norm(const struct opened *o, const struct sl_slice *s)
{
    return strstr(o->layout.params[s->param].name, "norm") != NULL;
}

/* Says of an opened layout that its norms are stored larger by one. */
static void norms_are_larger(struct opened *o)
{
    for (size_t i = 0; i < o->layout.slice_count; i++)
        if (is_norm(o, &o->layout.slices[i]))
            ((struct sl_slice *)(uintptr_t)&o->layout.slices[i])->op = (struct sl_op){ SL_OP_ADD, 1 };
}

/* Adds one to the norms in the file, as torch would: fp32, then rounded. */
static size_t enlarge_norms(struct opened *o, const char *path)
{
    size_t rounded = 0;
    for (size_t i = 0; i < o->layout.slice_count; i++) {
        const struct sl_tensor *t = &o->c->tensors[o->layout.slices[i].tensor];
        unsigned char bytes[512], larger[512], back[8];
        if (!is_norm(o, &o->layout.slices[i]))
            continue;
        assert_true(t->bytes <= sizeof bytes);
        assert_int_equal(sl_ckpt_read(o->c, t, 0, bytes, (size_t)t->bytes, &err), 0);
        const size_t size = sl_dtype_size(t->dtype);
        for (size_t k = 0; k < t->count; k++) {
            add_one_element(1, t->dtype, bytes + k * size, t->dtype, larger + k * size);
            add_one_element(-1, t->dtype, larger + k * size, t->dtype, back);
            rounded += memcmp(back, bytes + k * size, size) != 0;
        }
        overwrite(path, t->offset, larger, (size_t)t->bytes);
    }
    return rounded;
}

static void count_equal(struct opened *a, struct opened *b, bool diff, bool equal)
{
    struct sl_run *r = compared(a, b, diff);
    for (size_t i = 0; i < sl_run_result_count(r); i++) {
        const struct sl_result *x = sl_run_result_at(r, i);
        const bool norm = strstr(x->name, "norm") != NULL;
        if ((x->status == SL_RESULT_EQUAL) != (equal || !norm))
            fail_msg("%s is %s", x->name, sl_run_status_text(x->status));
        if (diff && equal)
            assert_true(x->max_abs <= 0);
        if (diff && norm && !equal)
            assert_true(x->max_abs > 0.9 && x->max_abs < 1.1);
    }
    sl_run_free(r);
}

/* Norms around zero against norms around one, in bf16, where the sum loses digits: they are equal from
 * both sides; as bytes they are not, nor if one is really another. */
static void two_forms_of_a_norm_are_compared_as_one_becomes_the_other(void **state)
{
    (void)state;
    char folder[512], path[1024], one[1024], two[1024], command[4096];
    struct opened a, b;
    make_folder(folder);
    join(one, folder, "one");
    join(two, folder, "two");
    snprintf(command, sizeof command, "for d in %s %s; do mkdir $d && cp %sllama.hf/config.json $d && "
             "cp %sllama.expected.safetensors $d/model.safetensors && chmod -R u+w $d; done", one, two, FIXTURES, FIXTURES);
    assert_int_equal(system(command), 0);
    join(path, folder, "two/model.safetensors");
    open_layout(&a, one);
    open_layout(&b, two);
    assert_true(enlarge_norms(&b, path) > 0);        /* some are rounded: the test would be empty else */
    close_layout(&b);
    open_layout(&b, two);
    count_equal(&a, &b, false, false);
    norms_are_larger(&b);
    count_equal(&a, &b, false, true);
    count_equal(&b, &a, false, true);
    count_equal(&a, &b, true, true);
    count_equal(&b, &a, true, true);
    norms_are_larger(&a);
    count_equal(&a, &b, true, false);
    close_layout(&a);
    close_layout(&b);
    remove_folder(folder);
}

static int load_families(void **state)
{
    (void)state;
    return sl_families_load(NULL, &families, &err);
}

static int free_families(void **state)
{
    (void)state;
    sl_families_free(&families);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_of_one_model_holds_the_same_weights),
        cmocka_unit_test(a_flipped_byte_is_found_wherever_it_is),
        cmocka_unit_test(diff_measures_how_far_apart_they_are),
        cmocka_unit_test(weights_that_a_missing_rank_held_are_not_equal),
        cmocka_unit_test(params_that_one_side_has_are_told_apart),
        cmocka_unit_test(every_byte_under_a_crc_is_checked),
        cmocka_unit_test(values_that_are_no_numbers_are_found),
        cmocka_unit_test(replicas_that_differ_are_found),
        cmocka_unit_test(two_forms_of_a_norm_are_compared_as_one_becomes_the_other),
    };
    return cmocka_run_group_tests(tests, load_families, free_families);
}
