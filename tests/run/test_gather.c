/* Assembling target tensors, against loops over single elements. */
#include "helper.h"

#include "run/box.h"

#define MOST_SOURCES 32

/* One target tensor out of parts, in memory and as a plan. */
struct puzzle {
    char folder[512];
    struct made sources[MOST_SOURCES];
    size_t source_count;
    struct sl_copy copies[MOST_SOURCES + 1];
    size_t copy_count;
    struct sl_tensor target;
    int64_t shape[1];
    size_t first[2];
    struct sl_conversion plan;
    unsigned char *wanted;      /* the target, made element by element */
};

static void apply_copy(struct puzzle *z, const struct sl_copy *c)
{
    const struct made *m = c->source == UINT32_MAX ? NULL : &z->sources[c->source];
    copy_by_elements(c, m ? m->dtype : SL_U8, m ? m->data : NULL, z->target.dtype, z->wanted);
}

static int by_target(const void *a, const void *b)
{
    const struct sl_copy *x = a, *y = b;
    return (x->target_base > y->target_base) - (x->target_base < y->target_base);
}

/* Writes the sources to a file, opens it, and makes the plan and the wanted bytes. */
static void finish_puzzle(struct puzzle *z, enum sl_dtype dtype, int64_t count)
{
    z->target = (struct sl_tensor){ .name = "target", .dtype = dtype, .ndim = 1, .shape = z->shape,
                                    .count = (uint64_t)count, .bytes = (uint64_t)count * sl_dtype_size(dtype) };
    z->shape[0] = count;
    z->wanted = malloc((size_t)z->target.bytes + 1);
    memset(z->wanted, 0xee, (size_t)z->target.bytes);
    for (size_t i = 0; i < z->copy_count; i++)
        apply_copy(z, &z->copies[i]);
    qsort(z->copies, z->copy_count, sizeof *z->copies, by_target);

    char path[1024];
    make_folder(z->folder);
    write_safetensors(join(path, z->folder, "model.safetensors"), z->sources, z->source_count);
    struct sl_error err;
    if (sl_ckpt_open(z->folder, &z->plan.ckpt, &err))
        fail_msg("%s: %s", err.where, err.message);
    for (size_t i = 0; i < z->copy_count; i++)
        if (z->copies[i].source != UINT32_MAX)
            z->copies[i].source = tensor_named(z->plan.ckpt, z->sources[z->copies[i].source].name);
    z->plan.source.tensors = z->plan.ckpt->tensors;
    z->plan.source.tensor_count = z->plan.ckpt->tensor_count;
    z->plan.targets = &z->target;
    z->plan.target_count = 1;
    z->plan.copies = z->copies;
    z->plan.copy_count = z->copy_count;
    z->first[1] = z->copy_count;
    z->plan.target_first = z->first;
}

static void free_puzzle(struct puzzle *z)
{
    sl_ckpt_close(z->plan.ckpt);
    remove_folder(z->folder);
    for (size_t i = 0; i < z->source_count; i++)
        free(z->sources[i].data);
    free(z->wanted);
}

/* A range gathered; the bytes beside it must stay as they were. */
static void check_range(struct puzzle *z, uint64_t first, uint64_t count, size_t scratch_len)
{
    const size_t size = sl_dtype_size(z->target.dtype);
    unsigned char *buf = malloc((size_t)count * size + 32);
    unsigned char *scratch = malloc(scratch_len);
    memset(buf, 0x5a, (size_t)count * size + 32);
    uint64_t read = 0;
    struct sl_error err = { .message = "" };
    if (sl_gather(&z->plan, 0, first, count, buf + 16, scratch, scratch_len, &read, &err))
        fail_msg("%s: %s", err.where, err.message);
    if (memcmp(buf + 16, z->wanted + first * size, (size_t)count * size))
        fail_msg("elements %" PRIu64 "+%" PRIu64 " differ", first, count);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(buf[i], 0x5a);
        assert_int_equal(buf[16 + (size_t)count * size + (size_t)i], 0x5a);
    }
    free(scratch);
    free(buf);
}

static void check_ranges(struct puzzle *z, int how_many)
{
    static const size_t scratches[] = { 4096, 4104, 10000, 65536, 1 << 20 };
    check_range(z, 0, z->target.count, 4096);
    check_range(z, 0, z->target.count, 1 << 20);
    check_range(z, 0, 0, 4096);
    for (int i = 0; i < how_many; i++) {
        const uint64_t first = (uint64_t)random_below((int64_t)z->target.count);
        const uint64_t count = (uint64_t)random_below((int64_t)(z->target.count - first)) + 1;
        check_range(z, first, count, scratches[random_below(5)]);
    }
}

/* ---- random layouts ---- */

static void random_order(uint32_t *order, uint32_t n)
{
    for (uint32_t a = 0; a < n; a++)
        order[a] = a;
    for (uint32_t a = n; a-- > 1;) {
        const uint32_t b = (uint32_t)random_below(a + 1), swap = order[a];
        order[a] = order[b];
        order[b] = swap;
    }
}

/* Steps of a dense array whose axes lie in the given order; each axis may be `room` longer
 * than what is used of it. Returns its size. */
static int64_t steps_in_order(const uint32_t *order, uint32_t n, const int64_t *count, int64_t slack,
                              int64_t *step)
{
    int64_t size = 1;
    for (uint32_t i = n; i-- > 0;) {
        step[order[i]] = size;
        size *= count[order[i]] + (slack ? random_below(slack) : 0);
    }
    return size;
}

static struct sl_op with_op;    /* of the copies of the puzzles that are made now */

/* A tensor with up to four axes, cut into blocks on every axis, each block stored in an
 * order and with gaps of its own. */
static void random_puzzle(struct puzzle *z, enum sl_dtype from, enum sl_dtype to)
{
    memset(z, 0, sizeof *z);
    const uint32_t n = 1 + (uint32_t)random_below(4);
    static const int64_t longest[] = { 0, 5000, 120, 30, 14 };
    int64_t shape[4], cut[4][3], cuts[4], step[SL_AXES];
    uint32_t order[4];
    int64_t blocks = 1;
    for (uint32_t a = 0; a < n; a++) {
        shape[a] = 1 + random_below(longest[n]);
        cuts[a] = 1 + random_below(blocks > 8 ? 1 : 3);
        blocks *= cuts[a];
        for (int64_t k = 0; k < cuts[a]; k++)    /* ends of the blocks: any rising numbers */
            cut[a][k] = shape[a] * (k + 1) / cuts[a];
    }
    random_order(order, n);
    const int64_t size = steps_in_order(order, n, shape, 0, step);

    for (int64_t b = 0; b < blocks && z->source_count < MOST_SOURCES; b++) {
        struct sl_copy *c = &z->copies[z->copy_count];
        int64_t rest = b;
        c->ndim = n;
        bool empty = false;
        for (uint32_t a = 0; a < n; a++) {
            const int64_t k = rest % cuts[a];
            rest /= cuts[a];
            const int64_t lo = k ? cut[a][k - 1] : 0;
            c->count[a] = cut[a][k] - lo;
            c->target_stride[a] = step[a];
            c->target_base += lo * step[a];
            empty |= c->count[a] == 0;
        }
        if (empty) {
            memset(c, 0, sizeof *c);
            continue;
        }
        z->copy_count++;
        c->op = with_op;
        if (random_below(10) == 0) {
            c->source = UINT32_MAX;
            continue;
        }
        uint32_t stored[4];
        random_order(stored, n);
        if (random_below(2))
            memcpy(stored, order, sizeof stored);
        struct made *m = &z->sources[z->source_count];
        c->source = (uint32_t)z->source_count++;
        const int64_t held = steps_in_order(stored, n, c->count, random_below(2) ? 4 : 0, c->source_stride);
        c->source_base = random_below(5);
        snprintf(m->name, sizeof m->name, "part.%zu", z->source_count);
        m->dtype = from;
        m->ndim = 1;
        m->shape[0] = held + c->source_base;
        m->data = malloc((size_t)made_bytes(m));
        fill_weights(from, m->data, (size_t)m->shape[0]);
    }
    if (z->source_count == 0) {    /* a file needs a tensor */
        struct made *m = &z->sources[z->source_count++];
        *m = (struct made){ .name = "none", .dtype = from, .ndim = 1, .shape = { 1 }, .data = calloc(1, 16) };
    }
    finish_puzzle(z, to, size);
}

static void random_layouts_are_gathered_as_element_loops_do(void **state)
{
    (void)state;
    static const enum sl_dtype types[] = { SL_BF16, SL_F32, SL_U8, SL_F64, SL_C64 };
    for (int i = 0; i < 300; i++) {
        struct puzzle z;
        const enum sl_dtype dtype = types[i % 5];
        random_puzzle(&z, dtype, dtype);
        check_ranges(&z, 12);
        free_puzzle(&z);
    }
}

static void random_layouts_are_cast_on_the_way(void **state)
{
    (void)state;
    static const enum sl_dtype types[][2] = { { SL_BF16, SL_F32 }, { SL_F32, SL_BF16 }, { SL_F16, SL_F64 } };
    for (int i = 0; i < 100; i++) {
        struct puzzle z;
        random_puzzle(&z, types[i % 3][0], types[i % 3][1]);
        check_ranges(&z, 8);
        free_puzzle(&z);
    }
}

static void a_number_is_added_on_the_way_wherever_the_elements_lie(void **state)
{
    (void)state;
    static const enum sl_dtype types[][2] = { { SL_BF16, SL_BF16 }, { SL_F32, SL_F32 }, { SL_F32, SL_BF16 }, { SL_BF16, SL_F32 },
                                              { SL_F16, SL_F16 }, { SL_F64, SL_F64 }, { SL_F64, SL_F32 }, { SL_BF16, SL_F64 } };
    for (int i = 0; i < 160; i++) {
        struct puzzle z;
        with_op = (struct sl_op){ SL_OP_ADD, i % 2 ? 1 : -1 };
        random_puzzle(&z, types[i % 8][0], types[i % 8][1]);
        check_ranges(&z, 8);
        free_puzzle(&z);
    }
    with_op = (struct sl_op){ SL_OP_NONE, 0 };
}

/* ---- known layouts, in sizes that take the large paths ---- */

static struct made *add_source(struct puzzle *z, int64_t rows, int64_t columns)
{
    struct made *m = &z->sources[z->source_count++];
    *m = (struct made){ .dtype = SL_BF16, .ndim = 2, .shape = { rows, columns } };
    snprintf(m->name, sizeof m->name, "rank%zu", z->source_count - 1);
    m->data = malloc((size_t)made_bytes(m));
    fill_weights(SL_BF16, m->data, (size_t)made_count(m));
    return m;
}

/* linear_proj of 4 ranks: [96, 4 * 5000], each rank has all rows of 5000 columns. */
static void row_parallel_cuts_are_interleaved(void **state)
{
    (void)state;
    struct puzzle z = { .copy_count = 0 };
    for (int64_t r = 0; r < 4; r++) {
        add_source(&z, 96, 5000);
        z.copies[z.copy_count++] = (struct sl_copy){
            .source = (uint32_t)r, .ndim = 2, .target_base = r * 5000, .count = { 96, 5000 },
            .source_stride = { 5000, 1 }, .target_stride = { 20000, 1 } };
    }
    finish_puzzle(&z, SL_BF16, 96 * 20000);
    check_ranges(&z, 30);
    free_puzzle(&z);
}

/* q of linear_qkv: 6 groups of 3 query heads, a key and a value head, of 64 rows by 200. */
static void q_of_qkv_is_taken_group_by_group(void **state)
{
    (void)state;
    struct puzzle z = { .copy_count = 0 };
    add_source(&z, 6 * 5 * 64, 200);
    z.copies[z.copy_count++] = (struct sl_copy){
        .ndim = 4, .count = { 6, 3, 64, 200 }, .source_stride = { 5 * 64 * 200, 64 * 200, 200, 1 },
        .target_stride = { 3 * 64 * 200, 64 * 200, 200, 1 } };
    finish_puzzle(&z, SL_BF16, 6 * 3 * 64 * 200);
    check_ranges(&z, 30);
    uint64_t read = 0;
    unsigned char *buf = malloc((size_t)z.target.bytes), scratch[4096];
    assert_int_equal(sl_gather(&z.plan, 0, 0, z.target.count, buf, scratch, sizeof scratch, &read, NULL), 0);
    assert_int_equal(read, z.target.bytes);    /* nothing of k and v */
    free(buf);
    free_puzzle(&z);
}

static void a_transpose_is_a_transpose(void **state)
{
    (void)state;
    struct puzzle z = { .copy_count = 0 };
    add_source(&z, 700, 333);
    z.copies[z.copy_count++] = (struct sl_copy){
        .ndim = 2, .count = { 700, 333 }, .source_stride = { 333, 1 }, .target_stride = { 1, 700 } };
    finish_puzzle(&z, SL_BF16, 700 * 333);
    check_ranges(&z, 30);
    free_puzzle(&z);
}

/* The last row repeated: a source step of zero. */
static void one_row_can_fill_many(void **state)
{
    (void)state;
    struct puzzle z = { .copy_count = 0 };
    add_source(&z, 10, 50);
    z.copies[z.copy_count++] = (struct sl_copy){
        .ndim = 2, .count = { 10, 50 }, .source_stride = { 50, 1 }, .target_stride = { 50, 1 } };
    z.copies[z.copy_count++] = (struct sl_copy){
        .ndim = 2, .count = { 7, 50 }, .source_base = 450, .source_stride = { 0, 1 },
        .target_base = 500, .target_stride = { 50, 1 } };
    finish_puzzle(&z, SL_BF16, 17 * 50);
    check_ranges(&z, 30);
    free_puzzle(&z);
}

/* ---- views: source tensors that are not contiguous ---- */

/* A 60 x 40 storage seen as its transpose [40, 60] or as [40, 6, 10]. */
static void view(struct puzzle *z, uint32_t ndim, const int64_t *shape, const int64_t *stride)
{
    struct sl_tensor *t = &z->plan.ckpt->tensors[0];
    t->ndim = ndim;
    t->shape = shape;
    t->stride = stride;
    t->flags |= SL_TENSOR_STRIDED;
}

static void wanted_by_read_elements(struct puzzle *z, const struct sl_copy *c)
{
    const struct sl_tensor *t = &z->plan.ckpt->tensors[0];
    unsigned char *all = malloc((size_t)t->bytes);
    assert_int_equal(sl_ckpt_read_elements(z->plan.ckpt, t, 0, t->count, all, NULL), 0);
    void *stored = z->sources[0].data;
    z->sources[0].data = all;
    apply_copy(z, c);
    z->sources[0].data = stored;
    free(all);
}

static void views_are_followed_by_their_strides(void **state)
{
    (void)state;
    static const int64_t flat[] = { 40, 60 }, turned[] = { 1, 40 };
    static const int64_t split[] = { 40, 6, 10 }, split_turned[] = { 1, 400, 40 };
    const struct sl_copy copies[] = {
        { .ndim = 2, .count = { 40, 60 }, .source_stride = { 60, 1 }, .target_stride = { 60, 1 } },
        { .ndim = 2, .count = { 40, 60 }, .source_stride = { 60, 1 }, .target_stride = { 1, 40 } },
        { .ndim = 2, .count = { 13, 17 }, .source_base = 125, .source_stride = { 120, 2 },
          .target_stride = { 17, 1 } },
        { .ndim = 1, .count = { 2400 }, .source_stride = { 1 }, .target_stride = { 1 } },  /* over rows */
        { .ndim = 2, .count = { 24, 100 }, .source_stride = { 100, 1 }, .target_stride = { 100, 1 } },
    };
    for (int v = 0; v < 2; v++)
        for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
            struct puzzle z = { .copy_count = 0 };
            add_source(&z, 60, 40);
            z.copies[z.copy_count++] = copies[i];
            int64_t count = 1;
            for (uint32_t a = 0; a < copies[i].ndim; a++)
                count *= copies[i].count[a];
            finish_puzzle(&z, SL_BF16, count);
            if (v == 0)
                view(&z, 2, flat, turned);
            else
                view(&z, 3, split, split_turned);
            wanted_by_read_elements(&z, &copies[i]);
            check_ranges(&z, 20);
            free_puzzle(&z);
        }
}

/* ---- refusals ---- */

static void a_plan_with_a_hole_is_refused_with_the_numbers(void **state)
{
    (void)state;
    struct puzzle z = { .copy_count = 0 };
    add_source(&z, 10, 50);
    z.copies[z.copy_count++] = (struct sl_copy){
        .ndim = 1, .count = { 490 }, .source_stride = { 1 }, .target_stride = { 1 } };
    finish_puzzle(&z, SL_BF16, 500);
    unsigned char buf[1000], scratch[4096];
    uint64_t read = 0;
    struct sl_error err;
    assert_int_equal(sl_gather(&z.plan, 0, 0, 500, buf, scratch, sizeof scratch, &read, &err), SL_INPUT);
    assert_string_equal(err.where, "target");
    assert_non_null(strstr(err.message, "490 of elements 0 to 500"));
    free_puzzle(&z);
}

static void steps_that_are_not_nested_are_refused(void **state)
{
    (void)state;
    struct sl_box box;
    struct sl_error err;
    const struct sl_copy c = { .ndim = 2, .count = { 3, 5 }, .source_stride = { 5, 1 }, .target_stride = { 3, 2 } };
    assert_int_equal(sl_box_make(&c, NULL, &box, &err), SL_INPUT);
    assert_non_null(strstr(err.message, "not nested"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layouts_are_gathered_as_element_loops_do),
        cmocka_unit_test(random_layouts_are_cast_on_the_way),
        cmocka_unit_test(a_number_is_added_on_the_way_wherever_the_elements_lie),
        cmocka_unit_test(row_parallel_cuts_are_interleaved),
        cmocka_unit_test(q_of_qkv_is_taken_group_by_group),
        cmocka_unit_test(a_transpose_is_a_transpose),
        cmocka_unit_test(one_row_can_fill_many),
        cmocka_unit_test(views_are_followed_by_their_strides),
        cmocka_unit_test(a_plan_with_a_hole_is_refused_with_the_numbers),
        cmocka_unit_test(steps_that_are_not_nested_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
