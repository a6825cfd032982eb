/* test_dist.c: distributed checkpoints that Megatron-core and torch wrote: names, layers, experts,
 * chunks, values; and what is told of damaged ones. */
#include "made.h"

#include "../base/sha256.h"

#include "base/dtype.h"
#include "base/json.h"
#include "base/num.h"
#include "base/value.h"
#include "checkpoint/tiling.h"

#define DIST FIXTURES "dist/"

static const struct sl_tensor *chunk_at(const struct sl_ckpt *c, const char *name, int64_t first, int64_t second)
{
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        if (!strcmp(t->name, name) && (!t->ndim || t->global_offset[0] == first) && (t->ndim < 2 || t->global_offset[1] == second))
            return t;
    }
    fail_msg("no chunk of %s at %lld, %lld", name, (long long)first, (long long)second);
    return NULL;
}

static size_t weights(const struct sl_ckpt *c)
{
    size_t count = 0;
    for (size_t i = 0; i < c->tensor_count; i++)
        count += !(c->tensors[i].flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER));
    return count;
}

/* ---- names ---------------------------------------------------------------------- */

TEST(stacked_layers_are_given_out_layer_by_layer)
{
    struct sl_ckpt *c = opened(DIST "llama_tp2_pp2");
    assert_int_equal(c->container, SL_MEGATRON_TORCH_DIST);
    assert_int_equal(c->iteration, 10);
    assert_int_equal((int)c->checkpoint_version, 3);
    assert_non_null(c->args);
    assert_int_equal(c->file_count, 8);
    /* layer 2 is on the second stage: [3, 112, 40] stacked, rows cut over 2 ranks */
    const struct sl_tensor *t = chunk_at(c, "decoder.layers.2.self_attention.linear_qkv.weight", 56, 0);
    assert_string_equal(t->path, "decoder.layers.self_attention.linear_qkv.weight");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[0], 56);
    assert_int_equal(t->global_shape[0], 112);
    assert_int_equal(t->global_shape[1], 40);
    assert_int_equal(t->rank, -1);
    /* gate over up of the whole: rank 1 has rows 26-51 of each half of 52 */
    assert_int_equal(chunk_at(c, "decoder.layers.0.mlp.linear_fc1.weight", 78, 0)->shape[0], 26);
    assert_int_equal(weights(c), 41);
    sl_ckpt_close(c);
}

TEST(how_it_is_stored_is_one_line)
{
    struct sl_ckpt *c = opened(DIST "llama_tp2_pp2");
    assert_string_equal(c->storage, "11 arrays in 48 chunks, 6 stack the layers, 2 of the optimizer and the like; 16 objects; "
                        "8 files of 4 writers");
    sl_ckpt_close(c);
}

TEST(optimizer_entries_are_listed_as_no_weights)
{
    struct sl_ckpt *c = opened(DIST "llama_tp2_pp2");
    const struct sl_tensor *t = tensor(c, -1, "optimizer.state.exp_avg.decoder.final_layernorm.weight");
    assert_true(t->flags & SL_TENSOR_OPTIMIZER);
    assert_int_equal(t->dtype, SL_F32);
    only_problem(c, "optimizer-ignored");
    sl_ckpt_close(c);
}

TEST(flattened_pieces_of_a_distributed_optimizer_are_listed_and_left_out)
{
    struct sl_ckpt *c = opened(FIXTURES "dist_versions/core12_flattened");
    /* [layers, gate or up, 1, 20 x 24 in one row]; the numbers are those that torch reads in .metadata */
    const struct sl_tensor *t = tensor(c, -1, "optimizer.state.exp_avg_sq.decoder.layers.mlp.linear_fc1.weight");
    assert_true(t->flags & SL_TENSOR_OPTIMIZER);
    assert_int_equal(t->ndim, 4);
    assert_int_equal(t->global_shape[3], 480);
    assert_int_equal(c->tensor_count - weights(c), 51);
    assert_string_equal(only_problem(c, "optimizer-ignored")->message, "51 optimizer tensors (128 KB) are listed and not converted");
    /* weights: 3 arrays of one chunk, 6 of two layers, of which fc1 has gate and up apart; four _extra_state a layer */
    assert_string_equal(c->storage, "36 arrays in 68 chunks, 6 stack the layers, 27 of the optimizer and the like; 8 objects; 4 files of 2 writers");
    sl_ckpt_close(c);
}

TEST(gate_and_up_under_keys_of_their_own_are_halves_of_one_matrix)
{
    struct sl_ckpt *c = opened(DIST "qkv_bias_singleton_tp2");
    const struct sl_tensor *t = chunk_at(c, "decoder.layers.1.mlp.linear_fc1.weight", 42, 0);     /* up, rank 1 of 2: 28 + 14 */
    assert_string_equal(t->path, "decoder.layers.1.mlp.linear_fc1.weight_v");
    assert_int_equal(t->shape[0], 14);
    assert_int_equal(t->global_shape[0], 56);
    assert_int_equal(t->global_shape[1], 24);
    no_problems(c);
    sl_ckpt_close(c);
}

TEST(experts_stacked_under_layers_are_given_out_one_by_one)
{
    struct sl_ckpt *c = opened(DIST "mixtral_ep2");
    const struct sl_tensor *t = tensor(c, -1, "decoder.layers.0.mlp.experts.experts.1.linear_fc2.weight");
    assert_string_equal(t->path, "decoder.layers.mlp.experts.experts.linear_fc2.weight");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[0], 12);
    assert_int_equal(t->shape[1], 10);
    sl_ckpt_close(c);
    c = opened(DIST "qwen3moe_ep2");                    /* layers by number, experts stacked */
    assert_int_equal(tensor(c, -1, "decoder.layers.1.mlp.experts.experts.3.linear_fc2.weight")->ndim, 2);
    sl_ckpt_close(c);
}

TEST(the_common_state_may_be_an_object_of_the_data_files)
{
    struct sl_ckpt *c = opened(DIST "qkv_bias_common_state");
    int64_t layers = 0;
    assert_int_equal(c->iteration, 10);
    assert_true(sl_value_int(sl_value_get(c->args, "num_layers"), &layers));
    assert_int_equal(layers, 2);
    no_problems(c);
    sl_ckpt_close(c);
}

TEST(wrappers_and_args_of_an_fsdp_save_are_seen_through)
{
    struct sl_ckpt *c = opened(DIST "qkv_bias_fsdp");
    assert_int_equal(c->container, SL_TORCH_DCP);
    assert_string_equal(tensor(c, -1, "decoder.layers.0.self_attention.linear_proj.weight")->path,
                        "model.module.module.decoder.layers.0.self_attention.linear_proj.weight");
    assert_int_equal(chunk_at(c, "decoder.layers.0.mlp.linear_fc1.weight", 28, 0)->global_shape[0], 56);
    assert_non_null(c->args);
    assert_int_equal(c->iteration, 10);
    sl_ckpt_close(c);
}

static int64_t arg(const struct sl_ckpt *c, const char *name)
{
    int64_t n = -1;
    bool b;
    if (sl_value_bool(sl_value_get(c->args, name), &b))
        return b;
    (void)sl_value_int(sl_value_get(c->args, name), &n);
    return n;
}

TEST(settings_of_nemo_stand_for_args)
{
    struct sl_ckpt *c = opened(DIST "qkv_bias_nemo");
    assert_int_equal(c->container, SL_MEGATRON_TORCH_DIST);
    assert_string_equal(tensor(c, -1, "decoder.final_layernorm.weight")->path, "module.decoder.final_layernorm.weight");
    assert_int_equal(chunk_at(c, "decoder.layers.1.self_attention.linear_qkv.weight", 32, 0)->global_shape[0], 64);
    assert_int_equal(arg(c, "num_attention_heads"), 4);
    assert_int_equal(arg(c, "swiglu"), 1);                                   /* gated_linear_unit and silu */
    assert_int_equal(arg(c, "untie_embeddings_and_output_weights"), 1);      /* not shared */
    assert_int_equal(arg(c, "group_query_attention"), 1);                    /* num_query_groups is stated */
    sl_ckpt_close(c);
    c = opened(DIST "qkv_bias_nemo/weights");
    assert_int_equal(arg(c, "rotary_base"), 1000000);
    sl_ckpt_close(c);
}

TEST(the_run_config_of_megatron_bridge_stands_for_args)
{
    static const char yaml[] = "checkpoint: {save: /results}\nmodel:\n  _target_: x.Qwen2ModelProvider\n  num_attention_heads: 4\n"
                               "  gated_linear_unit: true\n  activation_func: {_target_: torch.nn.functional.gelu, _call_: false}\n"
                               "  num_moe_experts: 8\n  share_embeddings_and_output_weights: true\n";
    copy_fixture("dist/qkv_bias_nemo/weights");
    write_text(in("run_config.yaml"), yaml, strlen(yaml));
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(arg(c, "num_attention_heads"), 4);
    assert_int_equal(arg(c, "num_experts"), 8);
    assert_int_equal(arg(c, "swiglu"), 0);                                   /* gated, but gelu */
    assert_int_equal(arg(c, "untie_embeddings_and_output_weights"), 0);
    sl_ckpt_close(c);
}

TEST(the_iteration_folder_of_a_tracker_may_be_distributed)
{
    copy_fixture("dist/minicpm_tp1_pp2");
    struct sl_ckpt *c = opened(in("iter_0000010"));
    assert_int_equal(c->container, SL_MEGATRON_TORCH_DIST);
    sl_ckpt_close(c);
    refused(in("iter_0000010/.metadata"), SL_INPUT, "open the folder that it is in");
}

/* ---- values: whole arrays put together by index arithmetic ----------------------------- */

static unsigned char *whole_of(struct sl_ckpt *c, const char *name, const struct sl_tensor **first, uint64_t *count)
{
    unsigned char *whole = NULL;
    *first = NULL;
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        if (strcmp(t->name, name))
            continue;
        const uint32_t size = sl_dtype_size(t->dtype);
        if (!*first) {
            assert_true(sl_shape_count(t->global_shape, t->ndim, count));
            whole = calloc(*count + 1, size);
            *first = t;
        }
        unsigned char *part = malloc(t->bytes + 1);
        if (sl_ckpt_read_elements(c, t, 0, t->count, part, &err))
            fail_msg("%s: %s", err.where, err.message);
        for (uint64_t k = 0; k < t->count; k++) {
            uint64_t rest = k, to = 0, weight = 1;
            for (uint32_t a = t->ndim; a-- > 0; rest /= (uint64_t)t->shape[a], weight *= (uint64_t)t->global_shape[a])
                to += (rest % (uint64_t)t->shape[a] + (uint64_t)t->global_offset[a]) * weight;
            memcpy(whole + to * size, part + k * size, size);
        }
        free(part);
    }
    if (!*first)
        fail_msg("no %s", name);
    return whole;
}

static void as_torch_says(const char *path, const char *json)
{
    struct sl_arena arena = { 0 };
    const struct sl_value *want;
    struct sl_ckpt *c = opened(path);
    assert_int_equal(sl_json_load(json, 1 << 20, &arena, &want, &err), 0);
    assert_true(want->len > 3);
    for (size_t i = 0; i < want->len; i++) {
        const struct sl_tensor *t;
        uint64_t count;
        char hex[65];
        const struct sl_value *row = want->items[i], *shape = sl_value_get(row, "shape");
        unsigned char *whole = whole_of(c, want->keys[i]->s, &t, &count);
        const char *dtype = sl_value_str(sl_value_get(row, "dtype"));
        assert_int_equal(t->dtype, sl_dtype_from_torch(dtype, strlen(dtype)));
        assert_int_equal(t->ndim, shape->len);
        for (uint32_t a = 0; a < t->ndim; a++)
            assert_int_equal(t->global_shape[a], shape->items[a]->i);
        sha256_hex(whole, count * sl_dtype_size(t->dtype), hex);
        if (strcmp(hex, sl_value_str(sl_value_get(row, "sha256"))))
            fail_msg("%s: other values than torch saved", want->keys[i]->s);
        free(whole);
    }
    sl_ckpt_close(c);
    sl_arena_free(&arena);
}

TEST(every_tensor_of_a_plain_save_is_what_torch_saved) { as_torch_says(DIST "plain", DIST "plain.json"); }
TEST(plain_saves_of_older_torch_are_what_it_saved)
{
    static const char *const saves[] = { "torch21", "torch23", "torch25", "torch28" };
    for (size_t i = 0; i < sizeof saves / sizeof *saves; i++) {
        char path[256], json[256];
        snprintf(path, sizeof path, FIXTURES "dist_versions/%s", saves[i]);
        snprintf(json, sizeof json, FIXTURES "dist_versions/%s.json", saves[i]);
        as_torch_says(path, json);
    }
}

/* Files that ranks wrote each for itself: not what a plain folder of safetensors is, where a tensor is in one file. */
TEST(shards_of_the_hugging_face_writer_are_boxes_of_whole_tensors)
{
    as_torch_says(FIXTURES "dist_versions/hf_shards", FIXTURES "dist_versions/hf_shards.json");
    struct sl_ckpt *c = opened(FIXTURES "dist_versions/hf_shards");
    assert_int_equal(c->container, SL_HF_SAFETENSORS);
    assert_int_equal(c->problems.count, 0);
    sl_ckpt_close(c);
}

TEST(a_lost_shard_of_the_hugging_face_writer_leaves_holes)
{
    copy_fixture("dist_versions/hf_shards");
    assert_int_equal(unlink(in("shard-00001-model-00001-of-00001.safetensors")), 0);
    struct sl_ckpt *c = opened(folder);
    size_t holes = 0;
    for (size_t i = 0; i < c->problems.count; i++) {
        assert_string_equal(c->problems.items[i].code, "chunk-missing");
        holes += strcmp(c->problems.items[i].message, "net.rows: no file holds [0:3, 0:4] of it") == 0;
    }
    assert_int_equal(holes, 1);
    sl_ckpt_close(c);
}

TEST(class_names_of_older_versions_mean_the_same)
{
    struct sl_ckpt *c = opened(DIST "old_names");
    const struct sl_tensor *first;
    uint64_t count;
    float *whole = (float *)(void *)whole_of(c, "w", &first, &count);
    assert_int_equal(count, 12);
    for (int i = 0; i < 12; i++)
        assert_true(whole[i] == (float)(i % 6));        /* the same item twice: arange(6) */
    free(whole);
    no_problems(c);
    sl_ckpt_close(c);
}

TEST(items_in_safetensors_are_what_torch_saved) { as_torch_says(DIST "safetensors", DIST "safetensors.json"); }

TEST(zarr_arrays_are_what_the_zarr_package_reads) { as_torch_says(DIST "zarr_plain", DIST "zarr_plain.json"); }

TEST(compressed_chunks_are_read_in_any_order)
{
    struct sl_ckpt *c = opened(DIST "zarr_plain");
    const struct sl_tensor *t = tensor(c, -1, "a.gzip");
    int16_t all[2000], part[2000];
    assert_int_equal(sl_ckpt_read_elements(c, t, 0, 2000, all, &err), 0);
    for (uint64_t i = 0; i < 200; i++) {
        const uint64_t from = i * 7919 % 1990, count = 1 + i * 31 % (2000 - from);
        assert_int_equal(sl_ckpt_read_elements(c, t, from, count, part, &err), 0);
        assert_memory_equal(part, all + from, count * sizeof *all);
    }
    sl_ckpt_close(c);
}

TEST(a_zarr_chunk_that_is_cut_off_or_not_there_is_told)
{
    copy_fixture("dist/zarr_llama");
    const char *qkv = in("iter_0000010/decoder.layers.self_attention.linear_qkv.weight/1.1.0");
    assert_int_equal(unlink(in("iter_0000010/decoder.final_layernorm.weight/0")), 0);
    assert_int_equal(truncate(qkv, 4000), 0);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *gone = problem(c, "chunk-missing"), *cut = problem(c, "truncated-shard");
    assert_non_null(gone);
    assert_non_null(cut);
    assert_string_equal(gone->where, "decoder.final_layernorm.weight");
    assert_string_equal(gone->message, "the file of chunk [0:40] is missing, and the array has no fill value");
    assert_string_equal(cut->where, "decoder.layers.self_attention.linear_qkv.weight/1.1.0");
    assert_true(strstr(cut->message, "it has 4000 bytes") && strstr(cut->message, "chunk [1:2, 56:112, 0:40]"));
    sl_ckpt_close(c);
}

TEST(damaged_compressed_chunks_are_told_with_key_and_chunk)
{
    copy_fixture("dist/zarr_plain");
    float buf[16];
    assert_int_equal(truncate(in("a.zlib/0.1"), 20), 0);
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(sl_ckpt_read_elements(c, chunk_at(c, "a.zlib", 0, 4), 0, 12, buf, &err), SL_INPUT);
    assert_says(err, "a.zlib, chunk [0:3, 4:8]: the compressed data ends after");
    sl_ckpt_close(c);
}

TEST(a_compressor_that_is_not_supported_is_named)
{
    refused(DIST "zarr_blosc", SL_UNSUPPORTED, "compressed with blosc (lz4), which is not supported (zlib, gzip and none are)");
}

TEST(parts_of_a_transposed_item_are_read_in_row_major_order)
{
    struct sl_ckpt *c = opened(DIST "plain");
    const struct sl_tensor *t = tensor(c, -1, "net.transposed");
    float all[35], part[35];
    assert_false(t->flags & SL_TENSOR_STRIDED);
    assert_int_equal(sl_ckpt_read_elements(c, t, 0, 35, all, &err), 0);
    for (uint64_t from = 0; from < 35; from += 3) {
        assert_int_equal(sl_ckpt_read_elements(c, t, from, 35 - from, part, &err), 0);
        assert_memory_equal(part, all + from, (35 - from) * sizeof *all);
    }
    unsigned char byte;                                 /* also from the middle of an element */
    assert_int_equal(sl_ckpt_read(c, t, 4 * 9 + 1, &byte, 1, &err), 0);
    assert_int_equal(byte, ((unsigned char *)&all[9])[1]);
    sl_ckpt_close(c);
}

/* ---- damage ------------------------------------------------------------------------------- */

TEST(broken_metadata_is_refused_in_one_line)
{
    static const struct { const char *name; int code; const char *words; } cases[] = {
        { "garbage", SL_INPUT, "it is plain text; expected a pickle" },
        { "not_metadata", SL_INPUT, "its object is of no class" },
        { "other_class", SL_INPUT, "its object is torch.distributed.checkpoint.metadata.ChunkStorageMetadata" },
        { "climbs", SL_INPUT, "it names the file \"../__0_0.distcp\"; expected a name inside the folder" },
        { "negative", SL_INPUT, "no _StorageInfo" },
        { "axes", SL_INPUT, "w: the offsets and sizes of a chunk" },
        { "transformed", SL_UNSUPPORTED, "(zstd); only items stored as they are can be read" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        snprintf(path, sizeof path, DIST "bad/%s", cases[i].name);
        refused(path, cases[i].code, cases[i].words);
        assert_true(strstr(err.where, ".metadata") != NULL);
    }
}

TEST(damage_is_a_finding_with_file_key_and_chunk)
{
    static const struct { const char *name, *code, *where, *message; } cases[] = {
        { "hole", "chunk-missing", ".metadata", "w: no chunk holds [2:4, 0:3] of its array [4, 3]" },
        { "no_place", "chunk-missing", ".metadata", "w: chunk [2:4, 0:3] has no place in any file" },
        { "overlap", "chunk-overlap", "__0_0.distcp", "w: chunk [1:3, 0:3] overlaps chunk [0:2, 0:3] of __0_0.distcp" },
        { "outside", "chunk-outside", "__0_0.distcp", "w: chunk [2:4, 0:3] lies outside of its array [3, 3]" },
        { "gone", "missing-file", "__0_0.distcp", "the file is missing: w, chunk [0:2, 0:3], should be in it" },
        { "short", "truncated-shard", "__0_0.distcp",
          "it has 3054 bytes; .metadata places w, chunk [2:4, 0:3], at byte 1577 with 1577 bytes" },
        { "calls", "pickle-call", ".metadata", "its pickle asks for posix.system; nothing was run" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        snprintf(path, sizeof path, DIST "bad/%s", cases[i].name);
        struct sl_ckpt *c = opened(path);
        const struct sl_problem *p = only_problem(c, cases[i].code);
        assert_string_equal(p->where, cases[i].where);
        assert_string_equal(p->message, cases[i].message);
        assert_int_equal(p->severity, SL_ERROR);
        sl_ckpt_close(c);
    }
    assert_false(sl_path_exists("CANARY"));
}

TEST(an_item_that_is_not_what_metadata_says_is_refused_when_it_is_read)
{
    static const struct { const char *name, *words; } cases[] = {
        { "other_dtype", "w, chunk [0:2, 0:3], at byte 0: the item holds a tensor [2, 3] of fp32, .metadata says [2, 3] of int32" },
        { "other_shape", "w, chunk [0:2, 0:6], at byte 0: the item holds a tensor [2, 3] of fp32, .metadata says [2, 6] of fp32" },
        { "cut_item", "w, chunk [2:4, 0:3], at byte 1577: truncated" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        unsigned char buf[64];
        snprintf(path, sizeof path, DIST "bad/%s", cases[i].name);
        struct sl_ckpt *c = opened(path);
        int code = SL_OK;
        for (size_t k = 0; k < c->tensor_count && !code; k++)
            code = sl_ckpt_read_elements(c, &c->tensors[k], 0, c->tensors[k].count, buf, &err);
        assert_int_equal(code, SL_INPUT);
        assert_says(err, cases[i].words);
        assert_true(strstr(err.where, "__0_0.distcp") != NULL);
        sl_ckpt_close(c);
    }
}

TEST(a_save_without_its_marker_is_opened_and_told)
{
    copy_fixture("dist/minicpm_tp1_pp2");
    assert_int_equal(unlink(in("iter_0000010/metadata.json")), 0);
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "dist-marker")->where, "metadata.json");
    assert_int_equal(c->container, SL_MEGATRON_TORCH_DIST);
    assert_int_equal(tensor(c, -1, "decoder.layers.3.mlp.linear_fc2.weight")->ndim, 2);
    sl_ckpt_close(c);
}

TEST(missing_optimizer_data_is_a_warning)
{
    struct sl_ckpt *c = opened(DIST "bad/state");
    const struct sl_problem *p = only_problem(c, "state-incomplete");
    assert_string_equal(p->message, "1 entry that is no weight is not whole, first optimizer.m");
    assert_int_equal(p->severity, SL_WARNING);
    sl_ckpt_close(c);
}

/* ---- tiling --------------------------------------------------------------------------------- */

static enum tiling_fault tiled(const int64_t *shape, uint32_t ndim, const int64_t (*boxes)[2][3], uint32_t count, struct tiling *out)
{
    struct tiling_box list[16];
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct tiling_box){ boxes[i][0], boxes[i][1] };
    assert_int_equal(tiling_check(shape, ndim, list, count, out, &err), 0);
    return out->fault;
}

TEST(boxes_of_any_sizes_may_tile_an_array)
{
    const int64_t shape[] = { 3, 8, 2 };
    const int64_t boxes[][2][3] = { { { 0, 0, 0 }, { 2, 5, 2 } }, { { 0, 5, 0 }, { 1, 3, 2 } }, { { 1, 5, 0 }, { 1, 3, 1 } },
                                    { { 1, 5, 1 }, { 1, 3, 1 } }, { { 2, 0, 0 }, { 1, 8, 2 } }, { { 0, 0, 0 }, { 0, 8, 2 } } };
    struct tiling found;
    assert_int_equal(tiled(shape, 3, boxes, 6, &found), TILING_NONE);
    assert_int_equal(tiled(shape, 3, boxes, 4, &found), TILING_HOLE);
    assert_int_equal(found.lo[0], 2);
    assert_int_equal(found.hi[0], 3);
}

TEST(the_two_boxes_that_overlap_are_named)
{
    const int64_t shape[] = { 4, 4, 1 };
    const int64_t boxes[][2][3] = { { { 0, 0, 0 }, { 2, 4, 1 } }, { { 2, 0, 0 }, { 2, 3, 1 } }, { { 3, 2, 0 }, { 1, 2, 1 } } };
    struct tiling found;
    assert_int_equal(tiled(shape, 3, boxes, 3, &found), TILING_OVERLAP);
    assert_int_equal(found.first, 1);
    assert_int_equal(found.second, 2);
}

TEST(a_scalar_is_tiled_by_one_box_and_an_empty_array_by_none)
{
    const int64_t boxes[][2][3] = { { { 0 }, { 0 } } };
    const int64_t empty[] = { 0, 3 };
    struct tiling found;
    assert_int_equal(tiled(NULL, 0, boxes, 1, &found), TILING_NONE);
    assert_int_equal(tiled(NULL, 0, boxes, 0, &found), TILING_HOLE);
    assert_int_equal(tiled(empty, 2, boxes, 0, &found), TILING_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(stacked_layers_are_given_out_layer_by_layer),
        ROW(how_it_is_stored_is_one_line),
        ROW(optimizer_entries_are_listed_as_no_weights),
        ROW(flattened_pieces_of_a_distributed_optimizer_are_listed_and_left_out),
        ROW(gate_and_up_under_keys_of_their_own_are_halves_of_one_matrix),
        ROW(experts_stacked_under_layers_are_given_out_one_by_one),
        ROW(the_common_state_may_be_an_object_of_the_data_files),
        ROW(wrappers_and_args_of_an_fsdp_save_are_seen_through),
        ROW(settings_of_nemo_stand_for_args),
        IN_FOLDER(the_run_config_of_megatron_bridge_stands_for_args),
        IN_FOLDER(the_iteration_folder_of_a_tracker_may_be_distributed),
        ROW(every_tensor_of_a_plain_save_is_what_torch_saved),
        ROW(plain_saves_of_older_torch_are_what_it_saved),
        ROW(shards_of_the_hugging_face_writer_are_boxes_of_whole_tensors),
        ROW(a_lost_shard_of_the_hugging_face_writer_leaves_holes),
        ROW(class_names_of_older_versions_mean_the_same),
        ROW(items_in_safetensors_are_what_torch_saved),
        ROW(zarr_arrays_are_what_the_zarr_package_reads),
        ROW(compressed_chunks_are_read_in_any_order),
        IN_FOLDER(a_zarr_chunk_that_is_cut_off_or_not_there_is_told),
        IN_FOLDER(damaged_compressed_chunks_are_told_with_key_and_chunk),
        ROW(a_compressor_that_is_not_supported_is_named),
        ROW(parts_of_a_transposed_item_are_read_in_row_major_order),
        ROW(broken_metadata_is_refused_in_one_line),
        ROW(damage_is_a_finding_with_file_key_and_chunk),
        ROW(an_item_that_is_not_what_metadata_says_is_refused_when_it_is_read),
        IN_FOLDER(a_save_without_its_marker_is_opened_and_told),
        ROW(missing_optimizer_data_is_a_warning),
        ROW(boxes_of_any_sizes_may_tile_an_array),
        ROW(the_two_boxes_that_overlap_are_named),
        ROW(a_scalar_is_tiled_by_one_box_and_an_empty_array_by_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
