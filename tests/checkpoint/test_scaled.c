/* test_scaled.c: 8-bit floats with a factor for each block. Bytes, factors and products
 * are worked out by hand: 0x38 is 1, 0x40 is 2, 0x44 is 3, 0x30 is 1/2, 0x7e is 448, 0x01 is
 * 2^-9, 0x7f is no number, and 0x80 is the sign. */
#include "made.h"

#include <math.h>

#define CONFIG "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [2, 2]}}"

static const unsigned char stored[15] = { 0x38, 0x40, 0x38, 0x40, 0xb8,
                                          0x44, 0x30, 0x7e, 0x01, 0x00,
                                          0x38, 0x38, 0x38, 0xc0, 0x7f };
static const float factors[6] = { 2, 0.5f, 3,
                                  4, 0.25f, 1 };
static const float products[14] = { 2, 4, 0.5f, 1, -3,
                                    6, 1, 224, 0.0009765625f, 0,
                                    4, 4, 0.25f, -0.5f };

static void text(const char *name, const char *s) { write_text(in(name), s, strlen(s)); }

/* x.weight [3, 5], with factors of this shape beside it. */
static struct sl_ckpt *made(const char *config, const char *shape)
{
    struct sl_buf b = { 0 };
    char header[400];
    const int len = snprintf(header, sizeof header,
        "{\"x.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,24]},"
        "\"x.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,5],\"data_offsets\":[24,39]}}", shape);
    const uint64_t bytes = (uint64_t)len;
    sl_buf_add(&b, &bytes, sizeof bytes);
    sl_buf_add(&b, header, (size_t)len);
    sl_buf_add(&b, factors, sizeof factors);
    sl_buf_add(&b, stored, sizeof stored);
    write_text(in("model.safetensors"), b.data, b.len);
    sl_buf_free(&b);
    if (config)
        text("config.json", config);
    return opened(folder);
}

static const struct sl_tensor *scaled(struct sl_ckpt *c)
{
    const struct sl_tensor *tensors;
    if (sl_ckpt_scaled(c, &c->arena, &tensors, &err))
        fail_msg("%s: %s", err.where, err.message);
    for (size_t i = 0; i < c->tensor_count; i++)
        if (!strcmp(tensors[i].name, "x.weight"))
            return &tensors[i];
    fail();
    return NULL;
}

TEST(products_are_read_in_any_range_and_blocks_at_the_edges_are_cut_off)
{
    struct sl_ckpt *c = made(CONFIG, "[2,3]");
    const struct sl_tensor *t = scaled(c);
    assert_int_equal(t->dtype, SL_F32);
    assert_int_equal(t->stored, SL_F8_E4M3);
    assert_int_equal(t->bytes, 60);
    for (uint64_t first = 0; first < 14; first++)
        for (uint64_t count = 1; first + count <= 14; count++) {
            float got[14];
            assert_int_equal(sl_ckpt_read_elements(c, t, first, count, got, &err), SL_OK);
            assert_memory_equal(got, products + first, count * sizeof *got);
        }
    float last;
    assert_int_equal(sl_ckpt_read_elements(c, t, 14, 1, &last, &err), SL_OK);
    assert_true(isnan(last));
    assert_int_equal(sl_ckpt_read_elements(c, t, 14, 2, &last, &err), SL_USAGE);
    sl_ckpt_close(c);
}

TEST(the_checkpoint_itself_still_says_what_is_in_the_file)
{
    struct sl_ckpt *c = made(CONFIG, "[2,3]");
    assert_ptr_not_equal(scaled(c), NULL);
    assert_int_equal(tensor(c, -1, "x.weight")->dtype, SL_F8_E4M3);
    assert_int_equal(tensor(c, -1, "x.weight")->flags & SL_TENSOR_SCALED, 0);
    sl_ckpt_close(c);
}

TEST(factors_that_are_not_one_for_each_block_are_refused_with_both_shapes)
{
    struct sl_ckpt *c = made(CONFIG, "[3,2]");
    const struct sl_tensor *tensors;
    assert_int_equal(sl_ckpt_scaled(c, &c->arena, &tensors, &err), SL_INPUT);
    assert_says(err, "x.weight_scale_inv has the shape 3x2; 2x3 is expected, one factor for each block of 2x2");
    sl_ckpt_close(c);
}

TEST(without_a_size_in_config_json_blocks_are_128_by_128)
{
    struct sl_ckpt *c = made(NULL, "[2,3]");
    const struct sl_tensor *tensors;
    assert_int_equal(sl_ckpt_scaled(c, &c->arena, &tensors, &err), SL_INPUT);
    assert_says(err, "1x1 is expected, one factor for each block of 128x128");
    sl_ckpt_close(c);
}

TEST(a_size_of_blocks_that_is_none_is_refused)
{
    struct sl_ckpt *c = made("{\"quantization_config\": {\"weight_block_size\": [0, 2]}}", "[2,3]");
    const struct sl_tensor *tensors;
    assert_int_equal(sl_ckpt_scaled(c, &c->arena, &tensors, &err), SL_INPUT);
    assert_says(err, "weight_block_size of quantization_config is no pair of lengths");
    sl_ckpt_close(c);
}

TEST(eight_bit_weights_without_factors_are_refused_when_config_json_says_fp8)
{
    make_safetensors(in("model.safetensors"), "\"x.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,5],\"data_offsets\":[0,15]}", 15);
    text("config.json", CONFIG);
    struct sl_ckpt *c = opened(folder);
    const struct sl_tensor *tensors;
    assert_int_equal(sl_ckpt_scaled(c, &c->arena, &tensors, &err), SL_INPUT);
    assert_says(err, "the factors of its blocks, x.weight_scale_inv, are not there");
    sl_ckpt_close(c);
    text("config.json", "{}");
    c = opened(folder);
    assert_int_equal(sl_ckpt_scaled(c, &c->arena, &tensors, &err), SL_OK);
    assert_ptr_equal(tensors, c->tensors);
    sl_ckpt_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(products_are_read_in_any_range_and_blocks_at_the_edges_are_cut_off),
        IN_FOLDER(the_checkpoint_itself_still_says_what_is_in_the_file),
        IN_FOLDER(factors_that_are_not_one_for_each_block_are_refused_with_both_shapes),
        IN_FOLDER(without_a_size_in_config_json_blocks_are_128_by_128),
        IN_FOLDER(a_size_of_blocks_that_is_none_is_refused),
        IN_FOLDER(eight_bit_weights_without_factors_are_refused_when_config_json_says_fp8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
