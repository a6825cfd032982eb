/* Ranges of elements, by hand: [2, 3, 4] holds the elements 0..23, element 4i + j of plane 0 at [0, i, j]. */
#include "tui/trace.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const int64_t cube[] = { 2, 3, 4 };

static void box_is(const struct box *b, const int64_t *lo, const int64_t *hi)
{
    for (int a = 0; a < 3; a++) {
        assert_int_equal(b->lo[a], lo[a]);
        assert_int_equal(b->hi[a], hi[a]);
    }
}

static void rows_leave_the_other_axes_whole(void **state)
{
    (void)state;
    struct range r;
    char why[200];
    assert_true(range_parse("1", cube, 3, &r, why, sizeof why));
    assert_int_equal(r.count, 1);
    assert_int_equal(r.elements, 12);
    box_is(&r.boxes[0], (int64_t[]){ 1, 0, 0 }, (int64_t[]){ 2, 3, 4 });
    assert_true(range_parse("[:,1:,:2]", cube, 3, &r, why, sizeof why));
    assert_int_equal(r.elements, 2 * 2 * 2);
    box_is(&r.boxes[0], (int64_t[]){ 0, 1, 0 }, (int64_t[]){ 2, 3, 2 });
}

/* 5..20: the end of row 1, row 2, the planes' border, rows 0 and 1 of plane 1. */
static void a_run_of_elements_is_boxes(void **state)
{
    (void)state;
    struct range r;
    char why[200];
    assert_true(range_parse("#5:20", cube, 3, &r, why, sizeof why));
    assert_int_equal(r.elements, 15);
    assert_int_equal(r.count, 3);
    box_is(&r.boxes[0], (int64_t[]){ 0, 1, 1 }, (int64_t[]){ 1, 2, 4 });
    box_is(&r.boxes[1], (int64_t[]){ 0, 2, 0 }, (int64_t[]){ 1, 3, 4 });
    box_is(&r.boxes[2], (int64_t[]){ 1, 0, 0 }, (int64_t[]){ 2, 2, 4 });
    assert_true(range_flat(0, 24, cube, 3, &r));
    assert_int_equal(r.count, 1);
    box_is(&r.boxes[0], (int64_t[]){ 0, 0, 0 }, (int64_t[]){ 2, 3, 4 });
    assert_true(range_flat(0, 1, NULL, 0, &r));              /* a scalar */
    assert_int_equal(r.count, 1);
}

/* Every run of a [2, 3, 4]: its boxes hold its elements, each once. */
static void the_boxes_of_every_run_hold_it(void **state)
{
    (void)state;
    for (uint64_t first = 0; first < 24; first++)
        for (uint64_t last = first + 1; last <= 24; last++) {
            struct range r;
            int held[24] = { 0 };
            assert_true(range_flat(first, last, cube, 3, &r));
            assert_true(r.count <= 5);
            for (size_t k = 0; k < r.count; k++)
                for (int64_t x = r.boxes[k].lo[0]; x < r.boxes[k].hi[0]; x++)
                    for (int64_t y = r.boxes[k].lo[1]; y < r.boxes[k].hi[1]; y++)
                        for (int64_t z = r.boxes[k].lo[2]; z < r.boxes[k].hi[2]; z++)
                            held[x * 12 + y * 4 + z]++;
            for (uint64_t i = 0; i < 24; i++)
                assert_int_equal(held[i], i >= first && i < last);
        }
}

static void what_is_no_range_is_said_with_the_size(void **state)
{
    (void)state;
    static const char *const wrong[] = { "", "x", "2", "1:1", "0:3", "0:1,3", "0:1,0:1,0:1,0:1", "#24", "#3:3", "#5:25", "#x", "[0:1", "0:1]x", "-1", "0:99999999999999999999" };
    struct range r;
    char why[200];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (strcmp(wrong[i], "[0:1")) {                      /* an open bracket is let pass */
            why[0] = '\0';
            assert_false(range_parse(wrong[i], cube, 3, &r, why, sizeof why));
            assert_true(*why);
        }
    assert_false(range_parse("0:3", cube, 3, &r, why, sizeof why));
    assert_non_null(strstr(why, "2 steps"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_leave_the_other_axes_whole),
        cmocka_unit_test(a_run_of_elements_is_boxes),
        cmocka_unit_test(the_boxes_of_every_run_hold_it),
        cmocka_unit_test(what_is_no_range_is_said_with_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
