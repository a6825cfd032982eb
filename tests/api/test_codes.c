/* test_codes.c: every problem code there is. A row makes one small damage to a good checkpoint; that code and no
 * other is told of it then, at that place, and not of the good one. The last test fails when a code of the table
 * has no row. What findings say in words is tested where they are made. */
#include "../checkpoint/made.h"

#include "../base/sha256.h"

#include <shardlens/shardlens.h>

#include <math.h>

/* ---- a row ------------------------------------------------------------------------------ */

enum how { HEADERS, DEEP, TO_HF, TO_MEGATRON, TO_DIST };      /* check, or the notes of a plan */
struct place { int tp, pp, ep; const char *file, *tensor; };
#define NOWHERE { -1, -1, -1, "", "" }
#define FILE_IS(file) { -1, -1, -1, file, "" }

struct row {
    const char *code;
    const char *good;                /* the fixture; NULL: `made` alone makes it */
    void (*made)(void);              /* what the good one needs besides, or NULL */
    void (*damage)(void);
    enum how how;
    const char *told;                /* "error CODE @ WHERE" */
    struct place place;
    const char *also;                /* what belongs to the damage: the checksum of the record; NULL */
    const char *set;                 /* what is stated when the damaged one is opened, NULL */
    bool open;                       /* the damage is done while it is open */
};

static const char *target;           /* what is opened; the damage may say another */
static uid_t as_user;                /* who opens it */

#define LINES 32
struct lines { char line[LINES][700]; struct place place[LINES]; char text[LINES][2][300]; size_t count; };

static void note(struct lines *out, const struct sl_problem *p)
{
    if (out->count == LINES)
        fail_msg("more than %d findings", LINES);
    const size_t i = out->count++;
    const size_t len = strlen(folder);
    const bool within = !strncmp(p->where, folder, len);
    snprintf(out->line[i], sizeof out->line[i], "%s %s @ %s%s", sl_severity_name(p->severity), p->code, within ? "FOLDER" : "", p->where + (within ? len : 0));
    snprintf(out->text[i][0], sizeof out->text[i][0], "%s", p->file);
    snprintf(out->text[i][1], sizeof out->text[i][1], "%s", p->tensor);
    out->place[i] = (struct place){ p->tp, p->pp, p->ep, out->text[i][0], out->text[i][1] };
    if (!(*p->message && *p->expected && *p->cause && *p->damage && *p->next) || strstr(p->next, "{path}") || strstr(p->next, "{show}"))
        fail_msg("%s lacks a part of its card", p->code);
}

static void checked(struct sl_checkpoint *ck, const struct row *r, struct lines *out)
{
    struct sl_job *job = NULL;
    if (sl_check_start(ck, r->how == DEEP, NULL, &job, &err) || sl_job_wait(job, &err))
        fail_msg("%s: %s", err.where, err.message);
    const struct sl_check_result *c = sl_check_result(job);
    for (size_t i = 0; i < c->problem_count; i++)
        note(out, &c->problems[i]);
    sl_job_free(job);
}

static void planned(struct sl_checkpoint *ck, const struct row *r, struct lines *out)
{
    static const enum sl_format formats[] = { [TO_HF] = SL_TO_HF, [TO_MEGATRON] = SL_TO_MEGATRON, [TO_DIST] = SL_TO_TORCH_DIST };
    const struct sl_plan_options o = { .format = formats[r->how], .iteration = -1 };
    struct sl_plan *plan = NULL;
    if (sl_plan_make(ck, NULL, &o, &plan, &err))
        fail_msg("%s: %s", err.where, err.message);
    const struct sl_plan_info *info = sl_plan_info(plan);
    for (size_t i = 0; i < info->note_count; i++)
        note(out, &info->notes[i]);
    sl_plan_free(plan);
}

static void look(const struct row *r, bool damaged, struct lines *out)
{
    const struct sl_open_options o = { .set = &r->set, .set_count = damaged && r->set };
    struct sl_checkpoint *ck = NULL;
    const uid_t was = geteuid();
    out->count = 0;
    if (as_user)
        assert_int_equal(seteuid(as_user), 0);
    const int code = sl_open(target, &o, &ck, &err);
    if (as_user)
        assert_int_equal(seteuid(was), 0);
    if (code)
        fail_msg("%s: %s", err.where, err.message);
    if (damaged && r->open)
        r->damage();
    if (r->how >= TO_HF)
        planned(ck, r, out);
    else
        checked(ck, r, out);
    sl_close(ck);
}

static bool has(const struct lines *l, const char *line, size_t *at)
{
    for (*at = 0; *at < l->count; ++*at)
        if (!strcmp(l->line[*at], line))
            return true;
    return false;
}

static void show(const struct row *r, const struct lines *good, const struct lines *now)
{
    for (size_t i = 0; i < good->count; i++)
        print_error("good: %s\n", good->line[i]);
    for (size_t i = 0; i < now->count; i++)
        print_error("now:  %s | tp %d pp %d ep %d | %s | %s\n", now->line[i], now->place[i].tp, now->place[i].pp, now->place[i].ep,
                    now->place[i].file, now->place[i].tensor);
    print_error("want: %s | tp %d pp %d ep %d | %s | %s\n", r->told, r->place.tp, r->place.pp, r->place.ep, r->place.file,
                r->place.tensor);
}

/* New is what was damaged, and what belongs to it; notes of the good one may be gone. */
static void only_that(const struct row *r, const struct lines *good, const struct lines *now)
{
    size_t at, fresh = 0, gone = 0, nowhere;
    for (size_t i = 0; i < now->count; i++)
        fresh += !has(good, now->line[i], &nowhere);
    for (size_t i = 0; i < good->count; i++)
        gone += strncmp(good->line[i], "note", 4) && !has(now, good->line[i], &nowhere);
    const bool told = has(now, r->told, &at) && (!r->also || has(now, r->also, &nowhere));
    const struct place *p = told ? &now->place[at] : NULL;
    if (p && fresh == (r->also ? 2 : 1) && !gone && p->tp == r->place.tp && p->pp == r->place.pp && p->ep == r->place.ep &&
        !strcmp(p->file, r->place.file) && !strcmp(p->tensor, r->place.tensor))
        return;
    show(r, good, now);
    fail_msg("%zu findings are new and %zu are gone; or the place is another", fresh, gone);
}

static void damage_is_told(void **state)
{
    const struct row *r = *state;
    static struct lines good, now;
    char severity[16], code[64];
    assert_int_equal(sscanf(r->told, "%15s %63s", severity, code), 2);
    assert_string_equal(code, r->code);
    target = folder;
    as_user = 0;
    if (r->good)
        copy_fixture(r->good);
    if (r->made)
        r->made();
    look(r, false, &good);
    for (size_t i = 0; i < good.count; i++)
        if (!strncmp(good.line[i], r->told, strlen(severity) + 1 + strlen(code) + 1))
            fail_msg("the good one has it: %s", good.line[i]);
    if (!r->open)
        r->damage();
    look(r, true, &now);
    only_that(r, &good, &now);
}

/* ---- damage: bytes ------------------------------------------------------------------------ */

#define LEGACY(rank) "iter_0000010/" rank "/model_optim_rng.pt"

/* All places of `from` in a file become `to`, which may be of another length. */
static void replace(const char *name, const void *from, size_t len, const void *to, size_t to_len)
{
    size_t size, n = 0, made = 0;
    char path[768];
    snprintf(path, sizeof path, "%s", in(name));
    char *bytes = slurp(path, &size), *out = malloc(size + 1024 + size / len * to_len);
    for (size_t i = 0; i < size; ) {
        const bool here = i + len <= size && !memcmp(bytes + i, from, len);
        memcpy(out + made, here ? to : bytes + i, here ? to_len : 1);
        made += here ? to_len : 1;
        i += here ? len : 1;
        n += here;
    }
    if (!n)
        fail_msg("%s has no such bytes", name);
    write_text(path, out, made);
    free(out);
    free(bytes);
}
static void words(const char *name, const char *from, const char *to) { replace(name, from, strlen(from), to, strlen(to)); }
static void text(const char *name, const char *s) { write_text(in(name), s, strlen(s)); }

/* Changes the bytes of a tensor where they lie: change(bytes, len, columns). */
static void poke(const char *rank, const char *name, void (*change)(unsigned char *, size_t, size_t))
{
    struct sl_ckpt *c = opened(target);
    const struct sl_tensor *found = NULL;
    char path[768];
    for (size_t i = 0; i < c->tensor_count; i++)
        if (!strcmp(c->tensors[i].name, name) && (!*rank || !strcmp(c->ranks[c->tensors[i].rank].path, rank)))
            found = &c->tensors[i];
    assert_non_null(found);
    snprintf(path, sizeof path, "%s", c->files[found->file].path);
    size_t size;
    char *bytes = slurp(path, &size);
    change((unsigned char *)bytes + found->offset, (size_t)found->bytes, (size_t)found->shape[found->ndim - 1]);
    write_text(path, bytes, size);
    free(bytes);
    sl_ckpt_close(c);
}

static void fill(unsigned char *b, size_t len, float with)
{
    for (size_t i = 0; i < len; i += 4)
        memcpy(b + i, &with, 4);
}
static void last_bit(unsigned char *b, size_t len, size_t columns) { (void)len, (void)columns, b[0] ^= 1; }
static void exponent(unsigned char *b, size_t len, size_t columns) { (void)len, (void)columns, b[1] ^= 0x40; }
static void one_nan(unsigned char *b, size_t len, size_t columns) { (void)len, (void)columns, memcpy(b + 40, &(float){ NAN }, 4); }
static void one_inf(unsigned char *b, size_t len, size_t columns) { (void)len, (void)columns, memcpy(b + 40, &(float){ INFINITY }, 4); }
static void zeros(unsigned char *b, size_t len, size_t columns) { (void)columns, memset(b, 0, len); }
static void halves(unsigned char *b, size_t len, size_t columns) { (void)columns, fill(b, len, 0.5f); }
static void larger(unsigned char *b, size_t len, size_t columns)
{
    (void)columns;
    for (size_t i = 0; i < len; i += 4) {
        float x;
        memcpy(&x, b + i, 4);
        x *= 64;
        memcpy(b + i, &x, 4);
    }
}
static void as_bf16(unsigned char *b, size_t len, size_t columns)
{
    (void)columns;
    for (size_t i = 0; i < len; i += 4)
        b[i] = b[i + 1] = 0;
}
/* 83 tokens: rows 83 to 95 are 35 to 47 of the second rank, bf16. */
static void no_padding(unsigned char *b, size_t len, size_t columns) { memset(b + 2 * columns * 35, 0, len - 2 * columns * 35); }
static void odd_padding(unsigned char *b, size_t len, size_t columns) { (void)len, b[2 * columns * 35] ^= 1; }

/* ---- damage: rank folders -------------------------------------------------------------------- */

#define FC2 "decoder.layers.2.mlp.linear_fc2.weight"
#define NORM "decoder.layers.1.input_layernorm.weight"
#define EMBEDDING "embedding.word_embeddings.weight"

static void call(void) { patch_pickle(in(LEGACY("mp_rank_00")), "signal\nSignals", "os\nposix_spawn", 14, 1); }
static void class(void) { patch_pickle(in(LEGACY("mp_rank_00")), "pathlib\nPosixPath", "mytools\nPosixPath", 17, 10); }
static void no_rank(void) { sl_folder_remove(in("iter_0000010/mp_rank_01_001"), NULL); }
static void third_rank(void) { copy_tree(FIXTURES "llama_tp4_pp1/iter_0000010/mp_rank_02", in("iter_0000010/mp_rank_02")); }
static void same_rank(void) { copy_tree(FIXTURES "llama_tp2_pp1/iter_0000010/mp_rank_01", in("iter_0000010/mp_rank_1")); }
static void copied_over(void) { copy_file(in(LEGACY("mp_rank_00")), in(LEGACY("mp_rank_03"))); }
static void zero_filled(void)
{
    size_t len;
    char *bytes = slurp(in(LEGACY("mp_rank_01_000")), &len);
    memset(bytes, 0, len);
    write_text(in(LEGACY("mp_rank_01_000")), bytes, len);
    free(bytes);
}
static void locked(void)
{
    chmod(folder, 0755);
    chmod(in(LEGACY("mp_rank_01_000")), 0);
    as_user = geteuid() ? 0 : 65534;
    if (!as_user)
        return;
    const bool may = !seteuid(as_user) && !euidaccess(in("iter_0000010/mp_rank_00_000"), R_OK | X_OK);
    assert_int_equal(seteuid(0), 0);
    if (may)
        return;
    print_message("another user can't look into this folder here\n");
    skip();
}
static void cut(void) { assert_int_equal(truncate(in(LEGACY("mp_rank_01_000")), 40000), 0); }
static void flipped(void) { poke("mp_rank_00", FC2, last_bit); }
static void longer(void)
{
    FILE *f = fopen(in(LEGACY("mp_rank_01")), "ab");
    fputc(0, f);
    fclose(f);
}
static void older(void) { patch_pickle(in(LEGACY("mp_rank_01")), "\x8c\x09iteration\x94K\x0a", "\x8c\x09iteration\x94K\x09", 14, 1); }
static void version(void)
{
    patch_pickle(in(LEGACY("mp_rank_01")), "checkpoint_versionr\xe6\1\0\0G@\x08", "checkpoint_versionr\xe6\1\0\0G@\0", 26, 1);
}
static void no_vocabulary(void)
{
    for (int i = 0; i < 2; i++)
        patch_pickle(in(i ? LEGACY("mp_rank_01") : LEGACY("mp_rank_00")), "\x0a\0\0\0vocab_size", "\x0a\0\0\0vocab_si_e", 14, 1);
}
static void seed(void) { patch_pickle(in(LEGACY("mp_rank_01")), "\4\0\0\0seedr\xe2\1\0\0K\1", "\4\0\0\0seedr\xe2\1\0\0K\x63", 15, 1); }
static void shape(void) { patch_pickle(in(LEGACY("mp_rank_03")), "K(K\x0d\x86", "K'K\x0d\x86", 5, 1); }
static void no_writers(void)
{
    patch_pickle(in(LEGACY("mp_rank_00_000")), "world_sizer", "world_sixer", 11, 1);
    patch_pickle(in(LEGACY("mp_rank_00_001")), "world_sizer", "world_sixer", 11, 1);
}
static void no_writers_tp(void)
{
    patch_pickle(in(LEGACY("mp_rank_00")), "world_sizer", "world_sixer", 11, 1);
    patch_pickle(in(LEGACY("mp_rank_01")), "world_sizer", "world_sixer", 11, 1);
}
static void last_stage_first(void) { copy_file(in(LEGACY("mp_rank_00_001")), in(LEGACY("mp_rank_00_000"))); }
static void twin(void) { copy_file(in(LEGACY("mp_rank_00")), in(LEGACY("mp_rank_01"))); }
static void norm(void) { poke("mp_rank_01", NORM, last_bit); }
static void tied_copy(void) { poke("mp_rank_00_001", "output_layer.weight", exponent); }
static void layer_four(void) { patch_pickle(in(LEGACY("mp_rank_00")), "decoder.layers.1.", "decoder.layers.4.", 17, 100); }
static void outlier(void) { poke("mp_rank_00", FC2, larger); }
static void nan_value(void) { poke("mp_rank_00", FC2, one_nan); }
static void inf_value(void) { poke("mp_rank_00", FC2, one_inf); }
static void zero_matrix(void) { poke("mp_rank_00", FC2, zeros); }
static void one_value(void) { poke("mp_rank_00", FC2, halves); }
static void bf16(void) { poke("mp_rank_00", FC2, as_bf16); }
static void clean_padding(void) { poke("mp_rank_01", EMBEDDING, no_padding), poke("mp_rank_01", "output_layer.weight", no_padding); }
static void dirty_padding(void) { poke("mp_rank_01", EMBEDDING, odd_padding); }
static void no_tracker(void) { assert_int_equal(unlink(in("latest_checkpointed_iteration.txt")), 0); }
static void next_save(void) { copy_tree(FIXTURES "llama_tp2_pp1/iter_0000010", in("iter_0000020")); }
static void one_rank(void) { target = in("iter_0000010/mp_rank_01_000"); }
static void interrupted(void) { text("iter_0000010/x.partial.journal", ""); }
static void other_lengths(void)
{
    static const char key[] = "decoder_first_pipeline_num_layers";
    static const char *const files[] = { LEGACY("mp_rank_00_000"), LEGACY("mp_rank_00_001"), LEGACY("mp_rank_01_000"), LEGACY("mp_rank_01_001") };
    for (size_t i = 0; i < 4; i++)
        patch_pickle(in(files[i]), key, "decoder_first_pipeline_num_legs__", sizeof key - 1, 1);
}
/* As torch.serialization.set_crc32_options(False) leaves them. */
static void no_checksums(void)
{
    size_t len;
    char *bytes = slurp(in(LEGACY("mp_rank_00")), &len);
    for (char *p = bytes; (p = memmem(p, (size_t)(bytes + len - p), "PK", 2)); p += 2) {
        const char *kind = p + 2;
        const size_t at = !memcmp(kind, "\3\4", 2) ? 14 : !memcmp(kind, "\1\2", 2) ? 16 : !memcmp(kind, "\7\10", 2) ? 4 : 0;
        if (at)                      /* a record's header, its row of the directory, its descriptor */
            memset(p + at, 0, 4);
    }
    write_text(in(LEGACY("mp_rank_00")), bytes, len);
    free(bytes);
}

/* Files without checksums: names in them can be changed where they stand. */
#define NOZIP(rank) "iter_0000010/" rank "/model_optim_rng.pt"
static void no_down(void)
{
    words(NOZIP("mp_rank_00"), "layers.1.mlp.linear_fc2", "layers.1.mlp.linear_fcX");
    words(NOZIP("mp_rank_01"), "layers.1.mlp.linear_fc2", "layers.1.mlp.linear_fcX");
}
static void no_down_of_rank(void) { words(NOZIP("mp_rank_01"), "layers.1.mlp.linear_fc2.weight", "layers.1.mlp.linear_fc2._extra"); }
static void no_expert(void)
{
    words("iter_0000007/mp_rank_00_000/model_optim_rng.pt", "local_experts.1.linear_fc2.weight", "local_experts.1.linear_fc2._extra");
    words("iter_0000007/mp_rank_01_001/model_optim_rng.pt", "local_experts.1.linear_fc2.weight", "local_experts.1.linear_fc2._extra");
}

/* Rank files made here. */
static const char *const model[] = { "model", NULL }, *const with_optimizer[] = { "model", "optimizer", NULL };
static const char *const both[] = { "model0", "model1", NULL }, *const only_first[] = { "model0", NULL };
static const struct made_tensor fc1[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
static const struct made_tensor fc1_wide[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_F32, 8, 4 } };
static void ranks_of(size_t count, const char *const *chunks, const struct made_args *args)
{
    static const char *const names[] = { "mp_rank_00", "mp_rank_01", "mp_rank_02" };
    for (size_t i = 0; i < count; i++)
        make_rank(names[i], &(struct made_rank){ chunks, fc1, 1, args, 5 });
}
static void three_ranks(void) { ranks_of(3, model, NULL); }
static void another_type(void) { make_rank("mp_rank_01", &(struct made_rank){ model, fc1_wide, 1, NULL, 5 }); }
static void two_sizes(void) { ranks_of(2, model, &(struct made_args){ .tp = 2, .pp = 1, .hidden = 4 }); }
static void another_size(void) { make_rank("mp_rank_01", &(struct made_rank){ model, fc1, 1, &(struct made_args){ .tp = 2, .pp = 1, .hidden = 8 }, 5 }); }
static void two_virtual(void) { ranks_of(2, both, NULL); }
static void one_virtual(void) { make_rank("mp_rank_01", &(struct made_rank){ only_first, fc1, 1, NULL, 5 }); }
static void one_layer(void) { ranks_of(1, model, &(struct made_args){ .tp = 1, .pp = 1, .layers = 1 }); }
static void three_said(void) { ranks_of(1, model, &(struct made_args){ .tp = 1, .pp = 1, .layers = 3 }); }
static void optimizer(void) { ranks_of(1, with_optimizer, &(struct made_args){ .tp = 1, .pp = 1, .layers = 1 }); }

/* ---- damage: Hugging Face ---------------------------------------------------------------------- */

#define DOWN "model.layers.1.mlp.down_proj.weight"
static void llama(void)
{
    copy_file(FIXTURES "llama.hf/config.json", in("config.json"));
    copy_file(FIXTURES "llama.expected.safetensors", in("model.safetensors"));
}
static void transposed(void) { words("model.safetensors", DOWN "\":{\"dtype\":\"BF16\",\"shape\":[40,52]", DOWN "\":{\"dtype\":\"BF16\",\"shape\":[52,40]"); }
static void more_layers(void) { words("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"); }
static void no_heads(void) { words("config.json", "num_attention_heads", "num_attention_hands"), words("config.json", "head_dim", "hand_dim"); }
static void said_tied(void) { words("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"); }
static void fewer_tokens(void) { words("config.json", "\"vocab_size\": 83", "\"vocab_size\": 80"); }
static void no_token(void) { words("config.json", "\"bos_token_id\": 1,", ""); }
static void broken_config(void) { words("config.json", "\"hidden_size\": 16,", "\"hidden_size\": 16,,"); }
static void no_config(void) { assert_int_equal(unlink(in("config.json")), 0); }
static void another_model(void) { words("config.json", "llama", "blurb"), words("config.json", "LlamaForCausalLM", "BlurbForCausalLM"); }
static void other_names(void) { no_config(), words("model.safetensors", "self_attn", "self_atXn"); }
static void one_more(void)
{
    size_t len;
    char *bytes = slurp(in("model.safetensors"), &len), header[8192];
    uint64_t n;
    memcpy(&n, bytes, 8);
    const size_t end = (size_t)(memrchr(bytes + 8, '}', n)) - (size_t)(bytes + 8);
    const int made = snprintf(header + 8, sizeof header - 8, "%.*s,\"extra\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[%zu,%zu]}}", (int)end,
                              bytes + 8, len - 8 - n, len - 8 - n + 8);
    memcpy(header, &(uint64_t){ (uint64_t)made }, 8);
    FILE *f = fopen(in("model.safetensors"), "wb");
    fwrite(header, 1, 8 + (size_t)made, f);
    fwrite(bytes + 8 + n, 1, len - 8 - n, f);
    fwrite("\1\2\3\4\5\6\7\10", 1, 8, f);
    fclose(f);
    free(bytes);
}
static void one_fp16(void)           /* the array of all layers is fp32 then */
{
    words("model.safetensors", "layers.1.input_layernorm.weight\":{\"dtype\":\"BF16\"", "layers.1.input_layernorm.weight\":{\"dtype\":\"F16\" ");
}
static void quantised(void)
{
    copy_file(FIXTURES "deepseek3_fp8/config.json", in("config.json"));
    copy_file(FIXTURES "deepseek3_fp8/model.safetensors", in("model.safetensors"));
}
static void nothing(void) { }        /* what is stated when it is opened is the damage */

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}"
#define A_TOO ",\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]}"
#define FIRST "model-00001-of-00002.safetensors"
#define SECOND "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"
static void two_shards(void)
{
    make_safetensors(in(FIRST), A, 24);
    make_safetensors(in(SECOND), B, 8);
    text(INDEX, "{\"metadata\":{\"total_size\":32},\"weight_map\":{\"a\":\"" FIRST "\",\"b\":\"" SECOND "\"}}");
}
static void no_shard(void) { unlink(in(SECOND)); }
static void a_twice(void) { make_safetensors(in(SECOND), B A_TOO, 32); }
static void wrong_index(void) { text(INDEX, "{\"weight_map\":{\"a\":\"" SECOND "\",\"b\":\"" FIRST "\"}}"); }
static void beside(void) { make_safetensors(in("consolidated.safetensors"), A, 24); }
static void one_shard(void) { target = in(SECOND); }

/* ---- damage: distributed ------------------------------------------------------------------------ */

#define BAD FIXTURES "dist/bad/"
/* The checkpoint that torch wrote of which each folder of dist/bad has one damage (tests/fixtures/dist_files.py). */
static void plain_dist(void)
{
    copy_file(BAD "gone/.metadata", in(".metadata"));
    copy_file(BAD "hole/__0_0.distcp", in("__0_0.distcp"));
}
static void hole(void) { copy_file(BAD "hole/.metadata", in(".metadata")); }
static void overlap(void) { copy_file(BAD "overlap/.metadata", in(".metadata")); }
static void outside(void) { copy_file(BAD "outside/.metadata", in(".metadata")); }
static void state(void) { copy_file(BAD "state/.metadata", in(".metadata")); }
static void no_item(void) { copy_file(BAD "cut_item/__0_0.distcp", in("__0_0.distcp")), copy_file(BAD "cut_item/.metadata", in(".metadata")); }
static void no_data(void) { unlink(in("__0_0.distcp")); }
static void no_marker(void) { unlink(in("iter_0000010/metadata.json")); }
static void sums(void)
{
    char json[300], hex[65];
    size_t len;
    plain_dist();
    char *bytes = slurp(in("__0_0.distcp"), &len);
    sha256_hex(bytes, len, hex);
    free(bytes);
    snprintf(json, sizeof json, "{\"algorithm\": \"sha256\", \"files\": {\"__0_0.distcp\": \"%s\"}}", hex);
    text("integrity.json", json);
}
static void wrong_sum(void) { words("integrity.json", "{\"__0_0.distcp\": \"", "{\"__0_0.distcp\": \"00"); }

/* ---- the table ------------------------------------------------------------------------------------- */

#define RANK(t, p, e, name) { t, p, e, name "/model_optim_rng.pt", "" }
#define FOLDER(t, p, e) { t, p, e, "", "" }
#define OF(tensor) { 0, 0, 0, "mp_rank_00/model_optim_rng.pt", tensor }
#define CRC_OF_FC2 "error crc @ mp_rank_00 " FC2

#define DAMAGE(is, from, before, done, asked, says) .code = is, .good = from, .made = before, .damage = done, .how = asked, .told = says

static const struct row rows[] = {
    { DAMAGE("pickle-call", "llama_tp1_pp1", NULL, call, HEADERS, "error pickle-call @ mp_rank_00/model_optim_rng.pt"),
      .place = RANK(0, 0, 0, "mp_rank_00") },
    { DAMAGE("missing-rank", "llama_tp2_pp2", NULL, no_rank, HEADERS, "error missing-rank @ mp_rank_01_001"), .place = FOLDER(1, 1, 0) },
    { DAMAGE("missing-file", NULL, plain_dist, no_data, HEADERS, "error missing-file @ __0_0.distcp"), .place = FILE_IS("__0_0.distcp") },
    { DAMAGE("hf-missing-file", NULL, two_shards, no_shard, HEADERS, "error hf-missing-file @ " SECOND), .place = NOWHERE },
    { DAMAGE("extra-rank", "llama_tp2_pp1", NULL, third_rank, HEADERS, "error extra-rank @ mp_rank_02"), .place = NOWHERE },
    { DAMAGE("duplicate-rank", "llama_tp2_pp1", NULL, same_rank, HEADERS, "error duplicate-rank @ mp_rank_1"), .place = NOWHERE },
    { DAMAGE("misnumbered-rank", "llama_tp4_pp1", NULL, copied_over, HEADERS, "error misnumbered-rank @ mp_rank_03"),
      .place = RANK(3, 0, 0, "mp_rank_03") },
    { DAMAGE("damaged-shard", "llama_tp2_pp2", NULL, zero_filled, HEADERS, "error damaged-shard @ mp_rank_01_000/model_optim_rng.pt"),
      .place = RANK(1, 0, 0, "mp_rank_01_000") },
    { DAMAGE("unreadable-shard", "llama_tp2_pp2", NULL, locked, HEADERS, "error unreadable-shard @ mp_rank_01_000/model_optim_rng.pt"),
      .place = RANK(1, 0, 0, "mp_rank_01_000") },
    { DAMAGE("truncated-shard", "llama_tp2_pp2", NULL, cut, HEADERS, "error truncated-shard @ mp_rank_01_000/model_optim_rng.pt"),
      .place = RANK(1, 0, 0, "mp_rank_01_000") },
    { DAMAGE("unreadable-tensor", NULL, plain_dist, no_item, HEADERS, "error unreadable-tensor @ __0_0.distcp w"),
      .place = { -1, -1, -1, "__0_0.distcp", "w" } },
    { DAMAGE("crc", "minicpm_tp1_pp1", NULL, flipped, DEEP, CRC_OF_FC2), .place = OF(FC2) },
    { DAMAGE("integrity", NULL, sums, wrong_sum, DEEP, "error integrity @ __0_0.distcp"), .place = FILE_IS("__0_0.distcp") },
    { DAMAGE("source-changed", "llama_tp2_pp1", NULL, longer, HEADERS, "error source-changed @ mp_rank_01/model_optim_rng.pt"),
      .place = RANK(1, 0, 0, "mp_rank_01"), .open = true },
    { DAMAGE("dist-marker", "dist/minicpm_tp1_pp2", NULL, no_marker, HEADERS, "error dist-marker @ metadata.json"), .place = NOWHERE },
    { DAMAGE("chunk-missing", NULL, plain_dist, hole, HEADERS, "error chunk-missing @ .metadata"), .place = NOWHERE },
    { DAMAGE("chunk-overlap", NULL, plain_dist, overlap, HEADERS, "error chunk-overlap @ __0_0.distcp"), .place = FILE_IS("__0_0.distcp") },
    { DAMAGE("chunk-outside", NULL, plain_dist, outside, HEADERS, "error chunk-outside @ __0_0.distcp"), .place = FILE_IS("__0_0.distcp") },
    { DAMAGE("mixed-iteration", "llama_noargs_tp2_pp1", NULL, older, HEADERS, "error mixed-iteration @ mp_rank_01"),
      .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("mixed-version", "llama_tp2_pp1", NULL, version, HEADERS, "error mixed-version @ mp_rank_01"), .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("args-shape-differ", NULL, two_sizes, another_size, HEADERS, "error args-shape-differ @ mp_rank_01"),
      .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("keys-differ", "llama_nozip_tp2_pp1", NULL, no_down_of_rank, HEADERS, "error keys-differ @ mp_rank_01"),
      .place = RANK(1, 0, 0, "mp_rank_01"), .also = "warning unknown-tensor @ decoder.layers.1.mlp.linear_fc2._extra" },
    { DAMAGE("shape-differs", "llama_tp4_pp1", NULL, shape, HEADERS, "error shape-differs @ mp_rank_03 decoder.layers.0.mlp.linear_fc2.weight"),
      .place = { 3, 0, 0, "mp_rank_03/model_optim_rng.pt", "decoder.layers.0.mlp.linear_fc2.weight" } },
    { DAMAGE("dtype-differs", NULL, three_ranks, another_type, HEADERS, "error dtype-differs @ mp_rank_01 decoder.layers.0.mlp.linear_fc1.weight"),
      .place = { 1, 0, 0, "mp_rank_01/model_optim_rng.pt", "decoder.layers.0.mlp.linear_fc1.weight" } },
    { DAMAGE("chunk-mixture", NULL, two_virtual, one_virtual, HEADERS, "error chunk-mixture @ mp_rank_01"), .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("stage-order", "llama_tp1_pp2", no_writers, last_stage_first, HEADERS, "error stage-order @ mp_rank_00_000"),
      .place = RANK(0, 0, 0, "mp_rank_00_000") },
    { DAMAGE("shards-identical", "llama_tp2_pp1", no_writers_tp, twin, DEEP, "error shards-identical @ mp_rank_01"),
      .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("replica-differs", "llama_tp2_pp1", NULL, norm, DEEP, "warning replica-differs @ mp_rank_01 " NORM),
      .place = { 1, 0, 0, "mp_rank_01/model_optim_rng.pt", NORM }, .also = "error crc @ mp_rank_01 " NORM },
    { DAMAGE("tie-differs", NULL, llama, said_tied, HEADERS, "error tie-differs @ lm_head.weight"),
      .place = { -1, -1, -1, "model.safetensors", "lm_head.weight" } },
    { DAMAGE("tie-differs", "minicpm_tp1_pp2", NULL, tied_copy, DEEP, "error tie-differs @ mp_rank_00_001 output_layer.weight"),
      .place = { 0, 1, 0, "mp_rank_00_001/model_optim_rng.pt", "output_layer.weight" }, .also = "error crc @ mp_rank_00_001 output_layer.weight" },
    { DAMAGE("layer-gap", "llama_tp1_pp1", NULL, layer_four, HEADERS, "error layer-gap @ pp 0"), .place = NOWHERE },
    { DAMAGE("layer-count", NULL, one_layer, three_said, HEADERS, "error layer-count @ "), .place = NOWHERE },
    { DAMAGE("layer-incomplete", "llama_nozip_tp2_pp1", NULL, no_down, HEADERS, "error layer-incomplete @ layers.1.mlp.down"),
      .place = NOWHERE, .also = "warning unknown-tensor @ decoder.layers.1.mlp.linear_fcX.weight" },
    { DAMAGE("expert-count", "qwen3moe_tp2_pp1_ep2_etp1", NULL, no_expert, HEADERS, "error expert-count @ layers.1.experts.1.down"),
      .place = NOWHERE, .also = "warning unknown-tensor @ decoder.layers.1.mlp.experts.local_experts.1.linear_fc2._extra" },
    { DAMAGE("shape-unexpected", NULL, llama, transposed, HEADERS, "error shape-unexpected @ model.safetensors " DOWN),
      .place = { -1, -1, -1, "model.safetensors", DOWN } },
    { DAMAGE("config-contradiction", NULL, llama, more_layers, HEADERS, "error config-contradiction @ config.json"), .place = NOWHERE },
    { DAMAGE("index-mismatch", NULL, two_shards, wrong_index, HEADERS, "error index-mismatch @ " INDEX), .place = NOWHERE },
    { DAMAGE("duplicate-tensor", NULL, two_shards, a_twice, HEADERS, "error duplicate-tensor @ a"), .place = { -1, -1, -1, FIRST, "a" } },
    { DAMAGE("nan", "minicpm_tp1_pp1", NULL, nan_value, DEEP, "error nan @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("inf", "minicpm_tp1_pp1", NULL, inf_value, DEEP, "error inf @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("all-zero", "minicpm_tp1_pp1", NULL, zero_matrix, DEEP, "warning all-zero @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("constant", "minicpm_tp1_pp1", NULL, one_value, DEEP, "warning constant @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("outlier", "minicpm_tp1_pp1", NULL, outlier, DEEP, "warning outlier @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("bf16-in-fp32", "minicpm_tp1_pp1", NULL, bf16, DEEP, "note bf16-in-fp32 @ mp_rank_00 " FC2), .place = OF(FC2), .also = CRC_OF_FC2 },
    { DAMAGE("padding-not-constant", "llama_tp2_pp1", clean_padding, dirty_padding, DEEP, "note padding-not-constant @ mp_rank_01 " EMBEDDING),
      .place = { 1, 0, 0, "mp_rank_01/model_optim_rng.pt", EMBEDDING } },
    { DAMAGE("tracker", "llama_tp2_pp1", NULL, no_tracker, HEADERS, "warning tracker @ latest_checkpointed_iteration.txt"), .place = NOWHERE },
    { DAMAGE("newer-iteration", "llama_tp2_pp1", NULL, next_save, HEADERS, "note newer-iteration @ latest_checkpointed_iteration.txt"),
      .place = NOWHERE },
    { DAMAGE("one-rank", "llama_tp2_pp2", NULL, one_rank, HEADERS, "note one-rank @ mp_rank_01_000"),
      .place = { 1, 0, 0, "model_optim_rng.pt", "" } },
    { DAMAGE("one-file", NULL, two_shards, one_shard, HEADERS, "note one-file @ " SECOND), .place = FILE_IS(SECOND) },
    { DAMAGE("extra-file", NULL, two_shards, beside, HEADERS, "note extra-file @ "), .place = NOWHERE },
    { DAMAGE("leftover", "llama_tp2_pp1", NULL, interrupted, HEADERS, "note leftover @ FOLDER/iter_0000010/x.partial.journal"), .place = NOWHERE },
    { DAMAGE("uneven-stages", "llama_tp2_pp2", NULL, other_lengths, HEADERS, "warning uneven-stages @ "), .place = NOWHERE },
    { DAMAGE("state-incomplete", NULL, plain_dist, state, HEADERS, "warning state-incomplete @ "), .place = NOWHERE },
    { DAMAGE("args-differ", "llama_tp2_pp1", NULL, seed, HEADERS, "warning args-differ @ mp_rank_01"), .place = RANK(1, 0, 0, "mp_rank_01") },
    { DAMAGE("crc-missing", "minicpm_tp1_pp1", NULL, no_checksums, HEADERS, "note crc-missing @ mp_rank_00/model_optim_rng.pt"),
      .place = RANK(0, 0, 0, "mp_rank_00") },
    { DAMAGE("optimizer-ignored", NULL, one_layer, optimizer, HEADERS, "note optimizer-ignored @ "), .place = NOWHERE },
    { DAMAGE("pickle-unknown", "minicpm_tp1_pp1", NULL, class, HEADERS, "note pickle-unknown @ "), .place = NOWHERE },
    { DAMAGE("unknown-tensor", NULL, llama, one_more, HEADERS, "warning unknown-tensor @ extra"),
      .place = { -1, -1, -1, "model.safetensors", "extra" } },
    { DAMAGE("family-ambiguous", NULL, llama, no_config, HEADERS, "warning family-ambiguous @ "),
      .place = NOWHERE, .also = "warning head-size-unknown @ " },
    { DAMAGE("family-unknown", NULL, llama, other_names, HEADERS, "warning family-unknown @ "), .place = NOWHERE },
    { DAMAGE("unsupported", NULL, llama, another_model, HEADERS, "warning unsupported @ "), .place = NOWHERE },
    { DAMAGE("head-size-unknown", NULL, llama, no_heads, HEADERS, "warning head-size-unknown @ "), .place = NOWHERE },
    { DAMAGE("config-missing", NULL, llama, no_token, TO_HF, "warning config-missing @ bos_token_id"), .place = NOWHERE },
    { DAMAGE("config-damaged", "families/gemma3", NULL, broken_config, HEADERS, "warning config-damaged @ config.json"), .place = NOWHERE },
    { DAMAGE("config-differs", NULL, llama, nothing, HEADERS, "note config-differs @ --set"), .place = NOWHERE, .set = "rotary_base=10000" },
    { DAMAGE("vocab-unknown", "llama_tp2_pp1", NULL, no_vocabulary, HEADERS, "note vocab-unknown @ "), .place = NOWHERE },
    { DAMAGE("padding", NULL, llama, fewer_tokens, HEADERS, "note padding @ "), .place = NOWHERE },
    { DAMAGE("dtype-widened", NULL, llama, one_fp16, TO_DIST, "note dtype-widened @ decoder.layers.self_attention.linear_qkv.layer_norm_weight"),
      .place = NOWHERE },
    { DAMAGE("arithmetic", "families/gemma", NULL, nothing, TO_MEGATRON, "note arithmetic @ decoder.layers.0.self_attention.linear_qkv.layer_norm_weight"),
      .place = NOWHERE, .set = "apply_layernorm_1p=false" },
    { DAMAGE("fp8-blocks", "families/olmoe", NULL, quantised, TO_HF, "note fp8-blocks @ model.layers.0.mlp.down_proj.weight"),
      .place = NOWHERE, .also = "note config-differs @ quantization_config" },
};

TEST(every_code_of_the_table_has_a_row)
{
    for (size_t i = 0; i < sl_problem_code_count(); i++) {
        size_t at = 0;
        while (at < sizeof rows / sizeof *rows && strcmp(rows[at].code, sl_problem_code(i)->code))
            at++;
        if (at == sizeof rows / sizeof *rows)
            fail_msg("no test makes %s", sl_problem_code(i)->code);
    }
}

int main(void)
{
    struct CMUnitTest tests[sizeof rows / sizeof *rows + 1];
    size_t n = 0;
    for (; n < sizeof rows / sizeof *rows; n++)
        tests[n] = (struct CMUnitTest){ rows[n].code, damage_is_told, begin, end, (void *)(uintptr_t)&rows[n] };
    tests[n++] = (struct CMUnitTest)ROW(every_code_of_the_table_has_a_row);
    return _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
}
