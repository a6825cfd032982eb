/* What docs/promises.md says, seen from outside: full disks, limits, read-only places, signals,
 * power loss, what the program asks the system for. Mounts are made in a mount namespace of
 * this process's own, and go with it. SHARDLENS_KILLS (make torture) takes finer steps. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include "program.h"

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SOURCE "tests/fixtures/llama_tp2_pp2"    /* 268 KB */

struct direction { const char *name, *source, *options; };
static const struct direction directions[] = {
    { "megatron-hf", SOURCE, "--to hf" },
    { "hf-megatron", "$T/ref-megatron-hf", "--to megatron --tp 2 --pp 2 --pp-layout 2,1" },
    { "megatron-megatron", SOURCE, "--to megatron --tp 4 --pp 3 --names local" },
    { "megatron-pt", SOURCE, "--to pt" },
    { "megatron-bin", SOURCE, "--to hf-bin --max-shard-size 60KB" },
    { "megatron-dist", SOURCE, "--to torch_dist --dist-files 2" },
};
enum { DIRECTIONS = sizeof directions / sizeof *directions };

static bool is_long(void) { return getenv("SHARDLENS_KILLS") != NULL; }

/* ---- looking ---- */

static void must_say(struct said s, int code, const char *words)
{
    if (s.code != code || !strstr(s.err, words))
        fail_msg("exit %d, expected %d and \"%s\"\n%s%s", s.code, code, words, s.err, s.out);
    if (code && lines_of(s.err) != 1)
        fail_msg("a failure is one line, alone: %s", s.err);
    said_free(&s);
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static bool command(const char *const *words)
{
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execvp(words[0], (char *const *)(uintptr_t)words);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
#define COMMAND(...) command((const char *const[]){ __VA_ARGS__, NULL })

/* Byte for byte the same, but for the report, which tells the time it took. */
static bool same_tree(const char *a, const char *b)
{
    return is_there(a) && COMMAND("diff", "-rq", "-x", "shardlens-report.json", a, b);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_ms(long ms)
{
    const struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, NULL);
}

static bool write_line(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY);
    const bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return good;
}

/* A shell starts what runs in the background without SIGINT. */
static void usual_signals(void) { signal(SIGINT, SIG_DFL); }

static bool can_mount;

/* Mounts of our own: as root, or as root of a user namespace of our own. */
static void take_own_mounts(void)
{
    char map[64];
    const uid_t uid = getuid();
    const gid_t gid = getgid();
    if (unshare(CLONE_NEWNS)) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
            return;
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_line("/proc/self/setgroups", "deny");
        if (!write_line("/proc/self/uid_map", map))
            return;
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_line("/proc/self/gid_map", map);
    }
    can_mount = mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void need_mounts(void)
{
    if (!can_mount) {
        print_message("no file system can be mounted here: neither root nor a user namespace\n");
        skip();
    }
}

static char place[512];    /* where file systems of tests are mounted */

static void mount_small(size_t bytes)
{
    char options[64];
    snprintf(options, sizeof options, "size=%zu", bytes);
    assert_int_equal(mount("none", place, "tmpfs", 0, options), 0);
}

static void grow(size_t bytes)
{
    char options[64];
    snprintf(options, sizeof options, "size=%zu", bytes);
    assert_int_equal(mount("none", place, "tmpfs", MS_REMOUNT, options), 0);
}

/* ---- P12: full disks ---- */

static void fill_a_disk_of(const struct direction *d, size_t size, unsigned *refused, unsigned *done)
{
    mount_small(size);
    struct said s = program("convert %s $T/place/target %s", d->source, d->options);
    if (s.code == 0) {
        (*done)++;
        said_free(&s);
    } else {
        (*refused)++;
        const bool told = strstr(s.err, "are free") || strstr(s.err, "No space left");
        if (!told)
            fail_msg("%s on %zu bytes: %s", d->name, size, s.err);
        must_say(s, 5, "");
        assert_false(is_there(below("place/target")));
        grow(size + (4u << 20));
        must_say(program("convert %s $T/place/target %s --resume", d->source, d->options), 0, "");
    }
    char reference[512];
    snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, d->name);
    assert_true(same_tree(below("place/target"), reference));
    assert_int_equal(umount(place), 0);
}

static void a_full_disk_is_told_and_the_run_goes_on_once_there_is_space(void **state)
{
    (void)state;
    need_mounts();
    const size_t step = is_long() ? 16u << 10 : 80u << 10;
    for (size_t i = 0; i < DIRECTIONS; i++) {
        unsigned refused = 0, done = 0;
        for (size_t size = 4096; size < 600u << 10; size += step)
            fill_a_disk_of(&directions[i], size, &refused, &done);
        assert_true(refused > 0 && done > 0);
    }
}

static rlim_t file_limit, memory_limit;
static void limit_files(void) { setrlimit(RLIMIT_FSIZE, &(struct rlimit){ file_limit, file_limit }); }
static void limit_memory(void) { setrlimit(RLIMIT_AS, &(struct rlimit){ memory_limit, memory_limit }); }

static void a_limit_on_file_sizes_is_a_failed_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIRECTIONS; i++)
        for (file_limit = 1; file_limit < 16000; file_limit = file_limit * 4 + 1) {
            char reference[512];
            program_before = limit_files;
            struct said s = program("convert %s $T/limited %s", directions[i].source, directions[i].options);
            program_before = NULL;
            assert_int_equal(s.code, 5);         /* what it says goes to a file too, and is cut off there */
            assert_false(is_there(below("limited")));
            said_free(&s);
            must_say(program("convert %s $T/limited %s --force", directions[i].source, directions[i].options), 0, "");
            snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, directions[i].name);
            assert_true(same_tree(below("limited"), reference));
            remove_tree(below("limited"));
        }
}

/* ---- P13, P14: the source ---- */

/* Names, sizes, times of access and of change, of all files below, to the file out. */
static void describe(const char *path, const char *out)
{
    const int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 1);
        execlp("find", "find", path, "-type", "f", "-printf", "%p %s %A@ %T@ %C@ %i %m\\n", (char *)NULL);
        _exit(127);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    close(fd);
    assert_int_equal(status, 0);
}

static void the_source_is_not_touched_and_may_be_read_only(void **state)
{
    (void)state;
    need_mounts();
    char before[512], after[512];
    snprintf(before, sizeof before, "%s", below("before"));
    snprintf(after, sizeof after, "%s", below("after"));
    mount_small(4u << 20);
    copy_tree(SOURCE, below("place/source"));
    describe(place, before);
    assert_int_equal(mount("none", place, "tmpfs", MS_REMOUNT | MS_RDONLY | MS_STRICTATIME, "size=4194304"), 0);
    must_say(program("convert $T/place/source $T/from-read-only --to hf"), 0, "");
    assert_int_equal(mount("none", place, "tmpfs", MS_REMOUNT | MS_STRICTATIME, "size=4194304"), 0);
    must_say(program("convert $T/place/source $T/from-writable --to hf"), 0, "");
    must_say(program("check --deep $T/place/source"), 0, "");
    describe(place, after);
    assert_true(same_tree(before, after));
    assert_true(same_tree(below("from-read-only"), below("from-writable")));
    assert_int_equal(umount(place), 0);
}

static void a_source_mounted_elsewhere_is_still_the_source(void **state)
{
    (void)state;
    need_mounts();
    copy_tree(SOURCE, below("bound"));
    assert_int_equal(mount(below("bound"), place, NULL, MS_BIND, NULL), 0);
    must_say(program("convert $T/bound $T/place --to hf --force"), 2, "inside the source");
    must_say(program("convert $T/bound $T/place/hf --to hf"), 2, "inside the source");
    must_say(program("convert $T/place $T/bound/hf --to hf --force"), 2, "inside the source");
    assert_true(same_tree(SOURCE, below("bound")));
    assert_int_equal(umount(place), 0);
}

static void a_read_only_target_is_refused_before_anything_is_read(void **state)
{
    (void)state;
    need_mounts();
    mount_small(4u << 20);
    assert_int_equal(mount("none", place, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=4194304"), 0);
    for (size_t i = 0; i < DIRECTIONS; i++)
        must_say(program("convert %s $T/place/target %s", directions[i].source, directions[i].options), 5, "Read-only file system");
    assert_int_equal(umount(place), 0);
}

/* ---- P16: signals ---- */

static bool can_trace(void)
{
    return COMMAND("strace", "-D", "-o", "/dev/null", "true");
}

static void need_strace(void)
{
    if (SANITIZED || !can_trace()) {
        print_message("%s\n", SANITIZED ? "not under a sanitizer" : "strace is not there or may not trace");
        skip();
    }
}

static void wait_for_part(const char *name)
{
    for (int i = 0; i < 500 && !is_there(below(name)); i++)
        wait_ms(10);
    assert_true(is_there(below(name)));
    wait_ms(700);
}

/* Writes of 50 ms each: a run of seconds. */
#define SLOWLY "strace -D -f -o /dev/null -e trace=pwrite64 -e inject=pwrite64:delay_enter=50000"

/* Seconds from a signal to the end of a slow run, which then is gone on with. */
static double seconds_to_stop(int number)
{
    program_under = SLOWLY;
    const pid_t pid = program_start("convert " SOURCE " $T/stopped --to hf --threads 1");
    program_under = "";
    wait_for_part("stopped.partial.journal");
    const double begin = seconds_now();
    assert_int_equal(kill(pid, number), 0);
    must_say(program_end(pid), 128 + number, "--resume");
    const double seconds = seconds_now() - begin;
    assert_false(is_there(below("stopped")));
    must_say(program("convert " SOURCE " $T/stopped --to hf"), 5, "--resume");
    must_say(program("convert " SOURCE " $T/stopped --to hf --resume"), 0, "");
    assert_true(same_tree(below("stopped"), below("ref-megatron-hf")));
    remove_tree(below("stopped"));
    return seconds;
}

/* The best of four tries: a machine may be busy with other things. */
static void a_slow_run_ends_within_a_second_of_being_asked(void **state)
{
    (void)state;
    need_strace();
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < 3; i++) {
        double best = seconds_to_stop(numbers[i]);
        for (int tries = 1; tries < 4 && best >= 1.0; tries++) {
            const double again = seconds_to_stop(numbers[i]);
            best = again < best ? again : best;
        }
        assert_true(best < 1.0);
    }
}

/* The report goes to a FIFO that nobody reads. */
static void the_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(below("fifo"), 0600), 0);
    const pid_t pid = program_start("convert " SOURCE " $T/twice --to hf --report $T/fifo");
    wait_for_part("twice.partial.journal");
    const double begin = seconds_now();
    kill(pid, SIGINT);
    wait_ms(300);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);    /* it waits for a reader */
    kill(pid, SIGINT);
    struct said s = program_end(pid);
    assert_int_equal(s.code, 130);
    said_free(&s);
    assert_true(seconds_now() - begin < 20);         /* the reader never comes */
    assert_false(is_there(below("twice")));
    must_say(program("convert " SOURCE " $T/twice --to hf --resume"), 0, "");
    assert_true(same_tree(below("twice"), below("ref-megatron-hf")));
}

static void ignore_hangup(void) { signal(SIGHUP, SIG_IGN); }

static void what_is_ignored_stays_ignored_and_a_stopped_run_goes_on(void **state)
{
    (void)state;
    need_strace();
    program_under = SLOWLY;
    program_before = ignore_hangup;
    const pid_t pid = program_start("convert " SOURCE " $T/nohup --to hf --threads 1");
    program_under = "";
    program_before = NULL;
    wait_for_part("nohup.partial.journal");
    kill(pid, SIGHUP);
    kill(pid, SIGTSTP);
    wait_ms(200);
    kill(pid, SIGCONT);
    must_say(program_end(pid), 0, "");
    assert_true(same_tree(below("nohup"), below("ref-megatron-hf")));
}

/* ---- P18, P19: memory ---- */

static void any_limit_of_memory_is_an_answer_and_no_crash(void **state)
{
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer maps terabytes\n");
        skip();
    }
    const rlim_t most = 512, step = is_long() ? 1 : 12;
    unsigned refused = 0, done = 0;
    for (rlim_t n = 8; n < most && done < 3; n += step) {
        memory_limit = n << 20;
        program_before = limit_memory;
        struct said loads = program("--version");
        struct said s = program("convert " SOURCE " $T/ladder --to hf");
        program_before = NULL;
        if (loads.code == 0) {                   /* the libraries fit */
            if (s.code != 0 && s.code != 6)
                fail_msg("%lu MB: exit %d: %s", (unsigned long)n, s.code, s.err);
            refused += s.code == 6;
            done += s.code == 0;
            if (s.code)
                assert_false(is_there(below("ladder")));
        }
        said_free(&loads);
        said_free(&s);
        remove_tree(below("ladder"));
    }
    assert_true(refused > 0 && done > 0);
}

/* A Hugging Face Llama of `layers` layers as sparse files: headers, and no data on the disk. */
static uint64_t make_sparse(const char *folder, int layers, uint64_t hidden, uint64_t ffn)
{
    static const char *const names[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm" };
    const uint64_t shapes[][2] = { { hidden, hidden }, { hidden, hidden }, { hidden, hidden }, { hidden, hidden }, { ffn, hidden },
                                   { ffn, hidden }, { hidden, ffn }, { hidden, 0 }, { hidden, 0 } };
    char path[1024], *head = malloc(1 << 16);
    uint64_t all = 0;
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    fprintf(f, "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":%llu,\"intermediate_size\":%llu,"
            "\"num_hidden_layers\":%d,\"num_attention_heads\":128,\"num_key_value_heads\":128,\"vocab_size\":128256,"
            "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"float32\",\"hidden_act\":\"silu\"}\n",
            (unsigned long long)hidden, (unsigned long long)ffn, layers);
    fclose(f);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    FILE *index = fopen(path, "w");
    fprintf(index, "{\"metadata\":{},\"weight_map\":{");
    for (int layer = -1; layer < layers; layer++) {
        uint64_t at = 0;
        size_t len = (size_t)sprintf(head + 8, "{") + 8;
        for (size_t i = 0; i < (layer < 0 ? 3 : sizeof names / sizeof *names); i++) {
            static const char *const outer[] = { "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight" };
            const uint64_t rows = layer >= 0 ? shapes[i][0] : i < 2 ? 128256 : hidden, columns = layer >= 0 ? shapes[i][1] : i < 2 ? hidden : 0;
            const uint64_t bytes = rows * (columns ? columns : 1) * 4;
            char name[128], columns_text[32] = "";
            if (layer < 0)
                snprintf(name, sizeof name, "%s", outer[i]);
            else
                snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, names[i]);
            if (columns)
                snprintf(columns_text, sizeof columns_text, ",%llu", (unsigned long long)columns);
            len += (size_t)sprintf(head + len, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%llu%s],\"data_offsets\":[%llu,%llu]}", i ? "," : "", name,
                                   (unsigned long long)rows, columns_text, (unsigned long long)at, (unsigned long long)(at + bytes));
            fprintf(index, "%s\"%s\":\"model-%05d-of-%05d.safetensors\"", layer < 0 && !i ? "" : ",", name, layer + 2, layers + 1);
            at += bytes;
        }
        head[len++] = '}';
        while (len % 8)
            head[len++] = ' ';
        for (int i = 0; i < 8; i++)
            head[i] = (char)((len - 8) >> (8 * i) & 255);
        snprintf(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", folder, layer + 2, layers + 1);
        const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        assert_true(fd >= 0 && write(fd, head, len) == (ssize_t)len && ftruncate(fd, (off_t)(len + at)) == 0);
        close(fd);
        all += at;
    }
    fprintf(index, "}}\n");
    fclose(index);
    free(head);
    return all;
}

/* Most memory that a run of the program held, in bytes; 0: it ended by itself with another code. */
static uint64_t most_memory(int code, long stop_after_ms, const char *line)
{
    const pid_t pid = program_start("%s", line);
    struct rusage usage;
    int status = 0;
    if (stop_after_ms) {
        wait_ms(stop_after_ms);
        kill(pid, SIGINT);
    }
    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == code ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

/* memory, 64 MB and 200 bytes a tensor: of 4 TB on sparse files, which no machine could hold. */
static void memory_does_not_grow_with_the_model(void **state)
{
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer needs memory of its own\n");
        skip();
    }
    const int layers = 200;
    const uint64_t all = make_sparse(below("sparse"), layers, 16384, 90112), tensors = 3 + 9 * (uint64_t)layers;
    const uint64_t fixed = (64u << 20) + 200 * tensors, budget = 32u << 20;
    assert_true(all > UINT64_C(4000000000000));
    const struct { int code; long stop; uint64_t most; const char *line; } runs[] = {
        { 0, 0, fixed, "inspect $T/sparse" },
        { 0, 0, fixed, "plan $T/sparse $T/never --to megatron --tp 8 --pp 8" },
        { 5, 0, fixed + budget, "convert $T/sparse $T/never --to megatron --tp 8 --pp 8 --memory 32MiB --threads 2" },
        { 130, 1000, fixed + budget, "check --deep $T/sparse --memory 32MiB --threads 2" },
        { 130, 1000, fixed + budget, "verify $T/sparse $T/sparse --memory 32MiB --threads 2" },
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const uint64_t used = most_memory(runs[i].code, runs[i].stop, runs[i].line);
        print_message("%.1f MB of %.1f: %s\n", (double)used / 1048576, (double)runs[i].most / 1048576, runs[i].line);
        assert_true(used > 0 && used <= runs[i].most);
    }
    assert_false(is_there(below("never")));
    remove_tree(below("sparse"));
}

/* ---- P20: one run a target ---- */

static void the_lock_of_a_killed_run_is_taken_over(void **state)
{
    (void)state;
    need_strace();
    program_under = SLOWLY;
    const pid_t pid = program_start("convert " SOURCE " $T/held --to hf --threads 1");
    program_under = "";
    wait_for_part("held.partial.journal");
    char words[64];
    snprintf(words, sizeof words, "process %ld", (long)pid);
    must_say(program("convert " SOURCE " $T/held --to hf"), 5, words);
    must_say(program("convert " SOURCE " $T/held --to hf --resume"), 5, words);
    must_say(program("convert " SOURCE " $T/held --to hf --force"), 5, words);
    kill(pid, SIGKILL);
    struct said s = program_end(pid);
    assert_int_equal(s.code, 128 + SIGKILL);
    said_free(&s);
    must_say(program("convert " SOURCE " $T/held --to hf --resume"), 0, "");
    assert_true(same_tree(below("held"), below("ref-megatron-hf")));
}

/* ---- P22: what it asks the system for ---- */

static void it_opens_no_socket_runs_nothing_and_writes_beside_the_target_only(void **state)
{
    (void)state;
    need_strace();
    mkdir(below("quiet"), 0777);
    char under[512], line[4096];
    snprintf(under, sizeof under, "strace -f -qq -o %s/trace -e trace=%%network,execve,execveat,fork,vfork,openat,open,creat,mkdir,mkdirat,"
             "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,truncate,mknod,mknodat,chmod,fchmodat,utimensat", program_tmp);
    for (size_t i = 0; i < DIRECTIONS; i++) {
        unsigned programs = 0, writes = 0;
        program_under = under;
        must_say(program("convert %s $T/quiet/target-%zu %s", directions[i].source, i, directions[i].options), 0, "");
        program_under = "";
        FILE *f = fopen(below("trace"), "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            static const char *const never[] = { "socket", "connect(", "bind(", "fork(", "symlink", "link(", "linkat(", "mknod", "chmod",
                                                 "utimensat", "truncate" };
            const char *call = line + strspn(line, "0123456789 ");
            programs += strncmp(call, "execve", 6) == 0;
            for (size_t k = 0; k < sizeof never / sizeof *never; k++)
                if (strncmp(call, never[k], strlen(never[k])) == 0)
                    fail_msg("%s: %s", directions[i].name, line);
            const bool opens = strncmp(call, "open", 4) == 0;
            if (opens && !strstr(call, "O_WRONLY") && !strstr(call, "O_RDWR") && !strstr(call, "O_CREAT"))
                continue;
            if (strstr(line, " = -1 E") || strncmp(call, "execve", 6) == 0 || call[0] == '+' || call[0] == '-' || strchr("<.", call[0]))
                continue;
            if (strncmp(call, "syscall_0x1c3(", 14) == 0)
                continue;                        /* cachestat(2), which this strace does not know: asks only */
            writes++;
            if (!strstr(call, "/quiet/"))
                fail_msg("%s writes elsewhere: %s", directions[i].name, line);
        }
        fclose(f);
        assert_int_equal(programs, 1);
        assert_true(writes > 3);
    }
}

/* ---- P10: power loss ---- */

/* The disk as it was at the moment of the kill: what was not written to it by then is lost. */
static unsigned cut_power(const char *kind, const struct direction *d, long after_us)
{
    char image[512], cut[512], target[600], reference[512];
    snprintf(image, sizeof image, "%s/disk", program_tmp);
    snprintf(cut, sizeof cut, "%s/cut", program_tmp);
    snprintf(target, sizeof target, "%s/target", place);
    snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, d->name);
    assert_true(COMMAND("cp", "--sparse=always", below("disk.empty"), image));
    assert_true(COMMAND("mount", "-t", kind, "-o", "loop", image, place));
    const pid_t pid = program_start("convert %s $T/place/target %s", d->source, d->options);
    const struct timespec pause = { 0, after_us * 1000 };
    nanosleep(&pause, NULL);
    kill(pid, SIGKILL);
    struct said s = program_end(pid);
    const unsigned killed = s.code != 0;
    said_free(&s);
    assert_true(COMMAND("cp", "--sparse=always", image, cut));
    assert_true(COMMAND("umount", place));
    assert_true(COMMAND("mount", "-t", kind, "-o", "loop", cut, place));
    if (is_there(target) && !same_tree(target, reference))
        fail_msg("%s, %s, power lost after %ld us: a target that is not whole", kind, d->name, after_us);
    if (!is_there(target))
        must_say(program("convert %s $T/place/target %s --resume", d->source, d->options), 0, "");
    assert_true(same_tree(target, reference));
    assert_true(COMMAND("umount", place));
    return killed;
}

static bool make_disk(const char *kind)
{
    char mkfs[64];
    unlink(below("disk.empty"));
    snprintf(mkfs, sizeof mkfs, "/sbin/mkfs.%s", kind);
    const bool large = strcmp(kind, "ext4") != 0;    /* xfs and btrfs do not fit less */
    return COMMAND("truncate", "-s", large ? "400M" : "24M", below("disk.empty")) && COMMAND(mkfs, "-q", below("disk.empty"));
}

static void power_may_fail_at_any_moment(void **state)
{
    (void)state;
    static const char *const kinds[] = { "ext4", "xfs", "btrfs" };
    const unsigned cuts = is_long() ? 200 : 6;
    unsigned tried = 0;
    for (size_t k = 0; k < 3 && (k == 0 || is_long()); k++) {
        unsigned killed = 0;
        if (!can_mount || !make_disk(kinds[k]) || !COMMAND("mount", "-t", kinds[k], "-o", "loop", below("disk.empty"), place)) {
            print_message("%s: no image of it can be made and mounted here\n", kinds[k]);
            continue;
        }
        assert_int_equal(umount(place), 0);
        for (unsigned n = 0; n < cuts; n++)
            killed += cut_power(kinds[k], &directions[n % DIRECTIONS], 2000 + (long)(n * 7919 % 150) * 1000);
        print_message("%s: power lost %u times, %u of them before the end\n", kinds[k], cuts, killed);
        tried++;
    }
    if (!tried)
        skip();
}

/* ---- */

static int make_references(void **state)
{
    (void)state;
    take_own_mounts();
    usual_signals();
    snprintf(place, sizeof place, "%s", below("place"));
    mkdir(place, 0777);
    for (size_t i = 0; i < DIRECTIONS; i++)
        must_say(program("convert %s $T/ref-%s %s", directions[i].source, directions[i].name, directions[i].options), 0, "");
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_told_and_the_run_goes_on_once_there_is_space),
        cmocka_unit_test(a_limit_on_file_sizes_is_a_failed_write),
        cmocka_unit_test(the_source_is_not_touched_and_may_be_read_only),
        cmocka_unit_test(a_source_mounted_elsewhere_is_still_the_source),
        cmocka_unit_test(a_read_only_target_is_refused_before_anything_is_read),
        cmocka_unit_test(a_slow_run_ends_within_a_second_of_being_asked),
        cmocka_unit_test(the_second_signal_ends_it_at_once),
        cmocka_unit_test(what_is_ignored_stays_ignored_and_a_stopped_run_goes_on),
        cmocka_unit_test(any_limit_of_memory_is_an_answer_and_no_crash),
        cmocka_unit_test(memory_does_not_grow_with_the_model),
        cmocka_unit_test(the_lock_of_a_killed_run_is_taken_over),
        cmocka_unit_test(it_opens_no_socket_runs_nothing_and_writes_beside_the_target_only),
        cmocka_unit_test(power_may_fail_at_any_moment),
    };
    const int failed = cmocka_run_group_tests(tests, make_references, NULL);
    umount2(place, MNT_DETACH);
    remove_tree(program_tmp);
    return failed;
}
