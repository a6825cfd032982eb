/* From a sample checkpoint to a verified conversion, and what happens when something is wrong
 * with the input or the target. The real program, its real exit statuses. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include "program.h"
#include "base/arena.h"
#include "base/io.h"
#include "base/json.h"
#include "base/value.h"

static void expect(struct said s, int code, const char *words)
{
    if (s.code != code || (words && !strstr(s.err, words) && !strstr(s.out, words)))
        fail_msg("exit %d, expected %d with \"%s\"\n  stderr: %s\n  stdout: %.2000s", s.code, code, words ? words : "", s.err, s.out);
    said_free(&s);
}

/* A refusal: one line on standard error that begins with the program's name. */
static void refused(struct said s, int code, const char *words)
{
    if (lines_of(s.err) != 1 || strncmp(s.err, "shardlens: ", 11) || *s.out)
        fail_msg("not one line: %s%s", s.err, s.out);
    expect(s, code, words);
}

static const struct sl_value *json_of(const char *text, struct sl_arena *arena)
{
    const struct sl_value *v = NULL;
    struct sl_error err = { 0 };
    if (sl_json_parse(text, strlen(text), "output", arena, &v, &err))
        fail_msg("not JSON: %s", err.message);
    return v;
}

static int64_t number_of(const struct sl_value *v, const char *key)
{
    int64_t n = -1;
    sl_value_int(sl_value_get(v, key), &n);
    return n;
}

static int make_demo(void **state)
{
    (void)state;
    struct said s = program("demo $T/mega --tp 2 --pp 2");
    int code = s.code;
    if (code)
        print_error("%s%s", s.out, s.err);
    said_free(&s);
    return code;
}

static int drop_demo(void **state)
{
    (void)state;
    remove_tree(below("mega"));
    return 0;
}

static void inspect_tells_what_the_demo_is(void **state)
{
    (void)state;
    struct sl_arena arena = { 0 };
    struct said s = program("inspect $T/mega --json");
    assert_int_equal(s.code, 0);
    const struct sl_value *v = json_of(s.out, &arena);
    assert_string_equal(sl_value_str(sl_value_get(v, "container")), "megatron-torch");
    assert_string_equal(sl_value_str(sl_value_get(v, "family")), "minicpm");
    assert_int_equal(number_of(sl_value_get(v, "parallel"), "tp"), 2);
    assert_int_equal(number_of(sl_value_get(v, "parallel"), "pp"), 2);
    assert_int_equal(number_of(v, "iteration"), 1000);
    assert_int_equal(number_of(sl_value_get(v, "config"), "num_layers"), 8);
    assert_int_equal(sl_value_get(v, "ranks")->len, 4);
    const struct sl_value *problems = sl_value_get(v, "problems");
    for (size_t i = 0; i < problems->len; i++)
        assert_string_equal(sl_value_str(sl_value_get(problems->items[i], "severity")), "note");
    said_free(&s);
    sl_arena_free(&arena);
}

static void a_conversion_is_written_verified_and_reported(void **state)
{
    (void)state;
    struct sl_arena arena = { 0 };
    expect(program("convert $T/mega $T/hf"), 0, "verified");
    expect(program("verify $T/mega $T/hf"), 0, "0 different");
    expect(program("check $T/hf --deep"), 0, NULL);
    char *text = NULL;
    struct sl_error err = { 0 };
    size_t len;
    assert_int_equal(sl_file_slurp(below("hf/shardlens-report.json"), 1 << 26, &arena, &text, &len, &err), 0);
    const struct sl_value *v = json_of(text, &arena), *tensors = sl_value_get(v, "tensors");
    assert_true(tensors->len > 8 * 9);
    for (size_t i = 0; i < tensors->len; i++)
        assert_string_equal(sl_value_str(sl_value_get(tensors->items[i], "status")), "verified");
    sl_arena_free(&arena);
    remove_tree(below("hf"));
}

static void two_shardings_of_one_model_give_the_same_bytes(void **state)
{
    (void)state;
    expect(program("demo $T/other --tp 1 --pp 4"), 0, NULL);
    expect(program("convert $T/mega $T/hf1 --verify none"), 0, NULL);
    expect(program("convert $T/other $T/hf2 --verify checksum"), 0, NULL);
    expect(program("verify $T/hf1 $T/hf2"), 0, "0 different");
    expect(program("verify $T/other $T/mega"), 0, "0 different");
    char command[PATH_MAX * 2];
    snprintf(command, sizeof command, "%s", below("hf1/model.safetensors"));
    struct stat a, b;
    assert_int_equal(stat(command, &a), 0);
    assert_int_equal(stat(below("hf2/model.safetensors"), &b), 0);
    assert_int_equal(a.st_size, b.st_size);
    remove_tree(below("hf1"));
    remove_tree(below("hf2"));
    remove_tree(below("other"));
}

static void another_seed_is_found_different(void **state)
{
    (void)state;
    expect(program("demo $T/seed --tp 2 --pp 2 --seed 7"), 0, NULL);
    expect(program("verify $T/mega $T/seed"), 1, "different");
    remove_tree(below("seed"));
}

static void an_existing_target_is_refused_and_replaced_with_force(void **state)
{
    (void)state;
    assert_int_equal(mkdir(below("full"), 0700), 0);
    write_text(below("full/mine"), "keep me");
    refused(program("convert $T/mega $T/full"), 5, "exists");
    assert_int_equal(access(below("full/mine"), F_OK), 0);
    expect(program("convert $T/mega $T/full --force"), 0, NULL);
    assert_int_equal(access(below("full/model.safetensors"), F_OK), 0);
    assert_int_not_equal(access(below("full/mine"), F_OK), 0);
    remove_tree(below("full"));
}

static void source_and_target_may_not_meet(void **state)
{
    (void)state;
    refused(program("convert $T/mega $T/mega/inside"), 2, "inside");
    refused(program("convert $T/mega $T/mega"), 2, "source");
    refused(program("convert $T/mega/iter_0001000 $T/mega --force"), 2, "source");
    assert_int_equal(access(below("mega/latest_checkpointed_iteration.txt"), F_OK), 0);
    assert_int_equal(symlink("mega", below("link")), 0);
    refused(program("convert $T/mega $T/link/inside"), 2, "inside");
    unlink(below("link"));
}

static void a_missing_rank_is_named_everywhere(void **state)
{
    (void)state;
    copy_tree(below("mega"), below("hole"));
    remove_tree(below("hole/iter_0001000/mp_rank_01_000"));
    expect(program("inspect $T/hole"), 3, "mp_rank_01_000");
    expect(program("check $T/hole"), 1, "mp_rank_01_000");
    refused(program("convert $T/hole $T/hole-hf"), 3, "mp_rank_01_000");
    refused(program("plan $T/hole"), 3, "mp_rank_01_000");
    assert_int_not_equal(access(below("hole-hf"), F_OK), 0);
    remove_tree(below("hole"));
}

static void a_truncated_shard_says_how_long_it_is_and_should_be(void **state)
{
    (void)state;
    copy_tree(below("mega"), below("cut"));
    const char *file = below("cut/iter_0001000/mp_rank_01_001/model_optim_rng.pt");
    struct stat st;
    char size[64], words[64];
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(truncate(file, st.st_size / 2), 0);
    snprintf(size, sizeof size, "%lld", (long long)st.st_size);
    struct said s = program("check $T/cut");
    assert_int_equal(s.code, 1);
    assert_non_null(strstr(s.out, "mp_rank_01_001"));
    said_free(&s);
    snprintf(words, sizeof words, "mp_rank_01_001, which can't be read (");
    refused(program("convert $T/cut $T/cut-hf"), 3, words);
    assert_int_not_equal(access(below("cut-hf"), F_OK), 0);
    remove_tree(below("cut"));
}

static void things_that_are_no_checkpoint_are_refused_with_what_they_are(void **state)
{
    (void)state;
    refused(program("inspect $T/nothing"), 3, "no such file");
    assert_int_equal(mkdir(below("empty"), 0700), 0);
    refused(program("inspect $T/empty"), 3, "empty");
    write_text(below("page.html"), "<!DOCTYPE html><html><head><title>403</title></head><body>denied</body></html>");
    refused(program("inspect $T/page.html"), 3, "HTML");
    write_text(below("notes.txt"), "dear diary, today I trained a model\n");
    refused(program("inspect $T/notes.txt"), 3, "notes.txt");
    assert_int_equal(mkfifo(below("fifo"), 0600), 0);
    refused(program("inspect $T/fifo"), 3, "FIFO");
    refused(program("inspect /dev/zero"), 3, "");
    assert_int_equal(mkdir(below("root"), 0700), 0);
    write_text(below("root/latest_checkpointed_iteration.txt"), "700");
    refused(program("inspect $T/root"), 3, "iter_0000700");
}

static void the_target_may_be_unwritable(void **state)
{
    (void)state;
    write_text(below("file"), "");
    refused(program("convert $T/mega $T/file/hf"), 5, "");
    refused(program("convert $T/mega /proc/hf"), 5, "");
}

static void a_set_that_contradicts_the_tensors_is_an_error(void **state)
{
    (void)state;
    refused(program("inspect $T/mega --set num_layers=9"), 2, "num_layers");
    refused(program("inspect $T/mega --set no_such_argument=1"), 2, "no_such_argument");
    refused(program("inspect $T/mega --model llama-2-7b"), 2, "layers");
}

/* The demo has 8 query heads: Megatron wants heads to be a multiple of TP. */
/* One file of weights tells neither head size nor vocabulary: the other side does. */
static void a_single_file_target_is_verified_against_its_source_and_has_a_report(void **state)
{
    (void)state;
    struct said s = program("convert $T/mega $T/weights.pt");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.out, "weights.pt.shardlens-report.json\n"));
    said_free(&s);
    assert_int_equal(access(below("weights.pt.shardlens-report.json"), F_OK), 0);
    assert_int_equal(access(below("weights.pt.shardlens-report.json.partial"), F_OK), -1);
    expect(program("verify $T/mega $T/weights.pt"), 0, " 0 different, 0 only in A, 0 only in B");
    expect(program("diff $T/weights.pt $T/mega"), 0, " 0 different, 0 only in A, 0 only in B");
    refused(program("plan $T/weights.pt --to megatron"), 2, "--set kv_channels=N");
}

static void control_characters_of_a_path_reach_no_terminal(void **state)
{
    (void)state;
    struct said s = program("convert $T/mega $T/red\033[31m");
    assert_int_equal(s.code, 0);
    assert_null(strchr(s.out, '\033'));
    assert_null(strchr(s.err, '\033'));
    assert_non_null(strstr(s.out, "red\\x1b[31m\n"));
    said_free(&s);
    s = program("plan $T/mega $T/red\033[31m --to pt");
    assert_int_equal(s.code, 0);
    assert_null(strchr(s.out, '\033'));
    assert_non_null(strstr(s.out, "red\\033[31m'"));
    said_free(&s);
    remove_tree(below("red\033[31m"));
}

static void a_batch_goes_on_past_a_failure_and_may_come_from_standard_input(void **state)
{
    (void)state;
    char text[2048];
    snprintf(text, sizeof text,
             "defaults: {max-shard-size: 5MB}\njobs:\n  - {source: %s/none, target: %s/b1}\n"
             "  - {src: %s, dst: %s/b2, to: hf}\n", program_tmp, program_tmp, below("mega"), program_tmp);
    write_text(below("jobs.yaml"), text);
    const int in = open(below("jobs.yaml"), O_RDONLY), before = dup(0);
    dup2(in, 0);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(open(below("said"), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
        dup2(open("/dev/null", O_WRONLY), 2);
        execl(program_path, program_path, "batch", "-", (char *)NULL);
        _exit(127);
    }
    dup2(before, 0);
    close(before);
    close(in);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_int_equal(access(below("b1"), F_OK), -1);
    assert_int_equal(access(below("b2/model.safetensors.index.json"), F_OK), 0);
    struct said s = { .out = NULL };
    const int fd = open(below("said"), O_RDONLY);
    s.out = drain(fd);
    close(fd);
    assert_non_null(strstr(s.out, "2 conversions, 1 failed"));
    said_free(&s);
    remove_tree(below("b2"));
}

static void a_conversion_outlives_the_reader_of_its_progress(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_RDWR), 1);
        dup2(ends[1], 2);
        execl(program_path, program_path, "convert", below("mega"), below("unheard"), "--progress", "json", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(access(below("unheard/model.safetensors"), F_OK), 0);
    remove_tree(below("unheard"));
}

static void what_was_remarked_on_the_source_is_told_by_a_conversion_too(void **state)
{
    (void)state;
    copy_tree(below("mega"), below("untracked"));
    unlink(below("untracked/latest_checkpointed_iteration.txt"));
    struct said s = program("convert $T/untracked $T/untracked-hf");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.err, "shardlens: warning: latest_checkpointed_iteration.txt: "));
    assert_non_null(strstr(s.err, "shardlens: warning: bos_token_id is not known"));
    said_free(&s);
    remove_tree(below("untracked"));
    remove_tree(below("untracked-hf"));
}

static void parallel_sizes_that_cannot_work_say_which_ones_can(void **state)
{
    (void)state;
    refused(program("plan $T/mega --to megatron --tp 3"), 2, "--tp 3: num_attention_heads is");
    refused(program("plan $T/mega --to megatron --tp 3"), 2, "possible: 1, 2");
    refused(program("plan $T/mega --to megatron --pp 3"), 2, "--pp 3: 8 layers do not divide over 3 pipeline stages");
    refused(program("plan $T/mega --to megatron --pp 3"), 2, "possible: 1, 2, 4, 8; or say how many each has with --pp-layout");
    refused(program("plan $T/mega --to hf --tp 2"), 2, "--tp 2: a target of --to hf has no ranks");
    refused(program("plan $T/mega --to pt --pp-layout 4,4"), 2, "--pp-layout 4,4: a target of --to pt has no pipeline stages");
}

static void plan_lists_every_target_with_its_pieces(void **state)
{
    (void)state;
    struct sl_arena arena = { 0 };
    struct said s = program("plan $T/mega --json");
    assert_int_equal(s.code, 0);
    const struct sl_value *v = json_of(s.out, &arena), *targets = sl_value_get(v, "targets");
    assert_int_equal(targets->len, 8 * 9 + 2);         /* tied: no lm_head */
    const struct sl_value *q = NULL;
    for (size_t i = 0; i < targets->len; i++)
        if (!strcmp(sl_value_str(sl_value_get(targets->items[i], "name")), "model.layers.5.self_attn.q_proj.weight"))
            q = targets->items[i];
    assert_non_null(q);
    const struct sl_value *pieces = sl_value_get(q, "pieces");
    assert_int_equal(pieces->len, 2);                  /* one query group on each of two ranks */
    assert_non_null(strstr(sl_value_str(sl_value_get(pieces->items[1], "source_file")), "mp_rank_01_001"));
    assert_true(sl_value_get(v, "left_out")->len >= 1);  /* vocabulary padding */
    said_free(&s);
    sl_arena_free(&arena);
}

static void ls_and_show_find_tensors_by_global_and_hugging_face_names(void **state)
{
    (void)state;
    expect(program("ls $T/mega decoder.layers.7.* --rank tp=1"), 0, "mp_rank_01_001");
    expect(program("ls $T/mega --sort size --json"), 0, "word_embeddings");
    expect(program("show $T/mega decoder.layers.7.mlp.linear_fc2.weight"), 0, "histogram");
    expect(program("show $T/mega model.layers.7.self_attn.q_proj.weight --json"), 0, "linear_qkv");
    refused(program("show $T/mega no.such.tensor"), 2, "no such tensor");
}

static void only_names_and_bytes_that_were_read_reach_the_terminal(void **state)
{
    (void)state;
    const char evil[] = "evil\033]0;title\007name";
    assert_int_equal(mkdir(below(evil), 0700), 0);
    char args[PATH_MAX];
    snprintf(args, sizeof args, "inspect $T/%s", evil);
    struct said s = program("%s", args);
    assert_int_equal(s.code, 3);
    assert_null(strchr(s.err, '\033'));
    assert_null(strchr(s.err, '\007'));
    said_free(&s);
}

#define LLAMA "tests/fixtures/llama_tp2_pp2"

static void other_dtypes_are_named_by_verify(void **state)
{
    (void)state;
    expect(program("convert " LLAMA " $T/wide --to hf --dtype fp32"), 0, "");
    expect(program("verify " LLAMA " $T/wide"), 1, "bf16 in A, fp32 in B");
    expect(program("verify " LLAMA " $T/wide --json"), 1, "\"dtype_b\": \"fp32\"");
    expect(program("diff " LLAMA " $T/wide"), 0, "30 equal");
    remove_tree(below("wide"));
}

/* Neither tells its heads: 56 query rows may be 2 or 4 of them. */
static void weights_alone_are_compared_by_their_names(void **state)
{
    (void)state;
    expect(program("convert " LLAMA " $T/a.pt"), 0, "");
    expect(program("convert " LLAMA " $T/b.pt --dtype fp16"), 0, "");
    expect(program("verify $T/a.pt $T/a.pt"), 0, "30 equal");
    expect(program("verify $T/a.pt $T/b.pt"), 1, "bf16 in A, fp16 in B");
    expect(program("verify $T/a.pt " LLAMA), 0, "30 equal");
    unlink(below("a.pt"));
    unlink(below("b.pt"));
}

static void a_report_may_go_to_standard_output(void **state)
{
    (void)state;
    static const char *const places[] = { "-", "/dev/stdout" };
    for (size_t i = 0; i < 2; i++) {
        struct sl_arena arena = { 0 };
        struct said s = program("convert " LLAMA " $T/told --to hf --report %s", places[i]);
        assert_int_equal(s.code, 0);
        assert_int_equal(number_of(sl_value_get(json_of(s.out, &arena), "summary"), "tensors"), 30);
        assert_int_not_equal(access(below("told/shardlens-report.json"), F_OK), 0);
        said_free(&s);
        sl_arena_free(&arena);
        remove_tree(below("told"));
    }
    refused(program("convert " LLAMA " $T/told --to hf --report $T/nowhere/report.json"), 5, "the folder of the report is not there");
    assert_int_not_equal(access(below("told"), F_OK), 0);
}

static int closed_pipe[2];
static void listen_to_nobody(void)
{
    dup2(closed_pipe[1], 1);
    signal(SIGPIPE, SIG_DFL);
}

static void a_finished_conversion_is_no_failure_when_nobody_listens(void **state)
{
    (void)state;
    assert_int_equal(pipe(closed_pipe), 0);
    close(closed_pipe[0]);
    program_before = listen_to_nobody;
    struct said s = program("convert " LLAMA " $T/silent --to hf");
    struct said list = program("ls $T/silent");
    program_before = NULL;
    close(closed_pipe[1]);
    assert_int_equal(s.code, 0);
    assert_int_equal(list.code, 128 + SIGPIPE);      /* as other programs that list */
    said_free(&s);
    said_free(&list);
    remove_tree(below("silent"));
}

static void the_last_line_of_progress_tells_the_whole(void **state)
{
    (void)state;
    struct sl_arena arena = { 0 };
    struct said s = program("convert " LLAMA " $T/counted --to hf --progress json");
    assert_int_equal(s.code, 0);
    char *line = strstr(s.err, "{\"phase\":\"done\"");
    assert_non_null(line);
    *strchr(line, '\n') = '\0';
    const struct sl_value *v = json_of(line, &arena);
    assert_int_equal(number_of(v, "bytes_done"), 91600);    /* 45,800 weights of two bytes */
    assert_int_equal(number_of(v, "bytes_total"), 91600);
    assert_int_equal(number_of(v, "tensors_done"), 30);
    said_free(&s);
    sl_arena_free(&arena);
    remove_tree(below("counted"));
}

/* 2 stages of 2 virtual ones: layers are dealt out in turn. */
static void ranks_tell_the_runs_of_layers_that_they_hold(void **state)
{
    (void)state;
    expect(program("inspect tests/fixtures/minicpm_vpp2_tp1_pp2"), 0, "layers 0,2 ");
    expect(program("inspect tests/fixtures/minicpm_vpp2_tp1_pp2"), 0, "layers 1,3 ");
    expect(program("inspect " LLAMA), 0, "layers 0-1 ");
    expect(program("inspect " LLAMA), 0, "dtypes     bf16 x21");    /* 7 a layer and no more: cut ones are one tensor */
}

static void an_empty_name_of_a_target_is_told_as_that(void **state)
{
    (void)state;
    const pid_t pid = fork();
    if (pid == 0) {
        const int out = open(below("empty-name"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(out, 2);
        execl(program_path, program_path, "convert", LLAMA, "", "--to", "hf", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 2);
    const int fd = open(below("empty-name"), O_RDONLY);
    char *said = drain(fd);
    close(fd);
    assert_string_equal(said, "shardlens: DST: is empty: the name of a new folder or file was expected\n");
    free(said);
}

static void be_nobody(void)
{
    if (setgid(65534) || setuid(65534))
        _exit(99);
}

static void a_shard_that_may_not_be_read_is_told_apart_from_a_damaged_one(void **state)
{
    (void)state;
    copy_tree(LLAMA, below("locked"));
    chmod(program_tmp, 0755);
    chmod(below("locked/iter_0000010/mp_rank_01_001/model_optim_rng.pt"), 0);
    program_before = getuid() ? NULL : be_nobody;
    struct said s = program("inspect $T/locked");
    program_before = NULL;
    if (s.code == 127 || s.code == 99) {
        said_free(&s);
        print_message("another user can't start the program here\n");
        skip();
    }
    expect(s, 3, "unreadable-shard");
    remove_tree(below("locked"));
}

static void samples_are_not_larger_than_asked_for(void **state)
{
    (void)state;
    static const struct { const char *options; long long most; } sizes[] = { { "--size 2MB", 2000000 }, { "--size 5MB --family llama", 5000000 },
                                                                           { "--size 13MB --tp 1 --pp 1", 13000000 } };
    for (size_t i = 0; i < 3; i++) {
        struct sl_arena arena = { 0 };
        expect(program("demo $T/sized %s", sizes[i].options), 0, "");
        struct said s = program("inspect $T/sized --json");
        const int64_t bytes = number_of(json_of(s.out, &arena), "bytes");
        assert_true(bytes > sizes[i].most / 3 && bytes <= sizes[i].most);
        said_free(&s);
        sl_arena_free(&arena);
        remove_tree(below("sized"));
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspect_tells_what_the_demo_is),
        cmocka_unit_test(a_conversion_is_written_verified_and_reported),
        cmocka_unit_test(two_shardings_of_one_model_give_the_same_bytes),
        cmocka_unit_test(another_seed_is_found_different),
        cmocka_unit_test(an_existing_target_is_refused_and_replaced_with_force),
        cmocka_unit_test(source_and_target_may_not_meet),
        cmocka_unit_test(a_missing_rank_is_named_everywhere),
        cmocka_unit_test(a_truncated_shard_says_how_long_it_is_and_should_be),
        cmocka_unit_test(things_that_are_no_checkpoint_are_refused_with_what_they_are),
        cmocka_unit_test(the_target_may_be_unwritable),
        cmocka_unit_test(a_set_that_contradicts_the_tensors_is_an_error),
        cmocka_unit_test(a_single_file_target_is_verified_against_its_source_and_has_a_report),
        cmocka_unit_test(control_characters_of_a_path_reach_no_terminal),
        cmocka_unit_test(a_batch_goes_on_past_a_failure_and_may_come_from_standard_input),
        cmocka_unit_test(a_conversion_outlives_the_reader_of_its_progress),
        cmocka_unit_test(other_dtypes_are_named_by_verify),
        cmocka_unit_test(weights_alone_are_compared_by_their_names),
        cmocka_unit_test(a_report_may_go_to_standard_output),
        cmocka_unit_test(a_finished_conversion_is_no_failure_when_nobody_listens),
        cmocka_unit_test(the_last_line_of_progress_tells_the_whole),
        cmocka_unit_test(ranks_tell_the_runs_of_layers_that_they_hold),
        cmocka_unit_test(an_empty_name_of_a_target_is_told_as_that),
        cmocka_unit_test(a_shard_that_may_not_be_read_is_told_apart_from_a_damaged_one),
        cmocka_unit_test(samples_are_not_larger_than_asked_for),
        cmocka_unit_test(what_was_remarked_on_the_source_is_told_by_a_conversion_too),
        cmocka_unit_test(parallel_sizes_that_cannot_work_say_which_ones_can),
        cmocka_unit_test(plan_lists_every_target_with_its_pieces),
        cmocka_unit_test(ls_and_show_find_tensors_by_global_and_hugging_face_names),
        cmocka_unit_test(only_names_and_bytes_that_were_read_reach_the_terminal),
    };
    int failed = cmocka_run_group_tests(tests, make_demo, drop_demo);
    remove_tree(program_tmp);
    return failed;
}
