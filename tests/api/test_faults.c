/* Real conversions of every direction, over a file system that fails on order: each call of each kind
 * in turn, once and from there on. The run ends with one sentence and the right code, the target is
 * absent or whole, nothing stays open, and going on without the fault ends in the same bytes.
 * A wrong byte that a disk keeps in silence is found by reading back. In the usual tests every
 * n-th call is tried; with SHARDLENS_KILLS (make torture) all of them. */
#include "../base/fault.h"
#include "../base/testing.h"

#include "base/arena.h"
#include <dirent.h>
#include <shardlens/shardlens.h>
#include <sys/stat.h>

#define FIXTURE "tests/fixtures/llama_tp2_pp2"

struct direction { const char *name, *source; struct sl_plan_options options; };
static const struct direction directions[] = {
    { "hf", FIXTURE, { .format = SL_TO_HF, .iteration = -1 } },
    { "mega", "hf", { .format = SL_TO_MEGATRON, .tp = 2, .pp = 2, .pp_layout = "2,1", .iteration = -1 } },
    { "cut", FIXTURE, { .format = SL_TO_MEGATRON, .tp = 1, .pp = 3, .names = "local", .iteration = -1 } },
    { "one.pt", FIXTURE, { .format = SL_TO_PT, .iteration = -1 } },
    { "bin", FIXTURE, { .format = SL_TO_HF_BIN, .max_shard_size = 60000, .iteration = -1 } },
    { "dist", FIXTURE, { .format = SL_TO_TORCH_DIST, .dist_files = 2, .iteration = -1 } },
};
enum { DIRECTIONS = sizeof directions / sizeof *directions };

static char root[512];
static bool is_long(void) { return getenv("SHARDLENS_KILLS") != NULL; }

static char *place(char out[1024], const char *kind, const char *name)
{
    snprintf(out, 1024, "%s/%s%s%s", root, kind, *kind ? "/" : "", name);
    return out;
}

static int run(const struct direction *d, const char *target, bool resume, struct sl_error *err)
{
    char source[1024];
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_run_options o = { .threads = 1, .verify = SL_VERIFY_REREAD, .resume = resume };
    int code = sl_open(strchr(d->source, '/') ? d->source : place(source, "ref", d->source), NULL, &ck, err);
    if (!code)
        code = sl_plan_make(ck, target, &d->options, &plan, err);
    if (!code)
        code = sl_convert_start(plan, &o, &job, err);
    if (!code)
        code = sl_job_wait(job, err);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

static bool same(const char *a, const char *b);
static bool same_file(const char *a, const char *b, uint64_t size)
{
    unsigned char x[4096], y[4096];
    struct sl_file fa, fb;
    if (sl_file_open(a, &fa, NULL))
        return false;
    bool equal = !sl_file_open(b, &fb, NULL) && fb.size == size;
    for (uint64_t at = 0; equal && at < size; at += sizeof x) {
        const size_t n = size - at < sizeof x ? (size_t)(size - at) : sizeof x;
        equal = !sl_file_read(&fa, at, x, n, NULL) && !sl_file_read(&fb, at, y, n, NULL) && !memcmp(x, y, n);
    }
    sl_file_close(&fa);
    sl_file_close(&fb);
    return equal;
}
static bool same_folder(const char *a, const char *b)
{
    struct sl_arena arena = { 0 };
    const char *const *na, *const *nb;
    size_t ca = 0, cb = 0;
    bool equal = !sl_folder_list(a, 100, &arena, &na, &ca, NULL) && !sl_folder_list(b, 100, &arena, &nb, &cb, NULL) && ca == cb;
    for (size_t i = 0; equal && i < ca; i++) {
        char pa[2048], pb[2048];
        snprintf(pa, sizeof pa, "%s/%s", a, na[i]);
        snprintf(pb, sizeof pb, "%s/%s", b, nb[i]);
        equal = !strcmp(na[i], nb[i]) && (!strcmp(na[i], "shardlens-report.json") || same(pa, pb));    /* it tells the time */
    }
    sl_arena_free(&arena);
    return equal;
}
/* Two files or two trees (of few levels): byte for byte the same. */
static bool same(const char *a, const char *b)
{
    struct stat st;
    if (stat(a, &st))
        return false;
    return S_ISDIR(st.st_mode) ? same_folder(a, b) : same_file(a, b, (uint64_t)st.st_size);
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        count++;
    if (d)
        closedir(d);
    return count;
}

static void begin_place(void)
{
    char path[1024];
    sl_folder_remove(place(path, "", "out"), NULL);
    assert_int_equal(sl_folder_make(path, NULL), 0);
}

/* One fault, and what must hold after it. Returns whether it came about. */
static bool fail_once(const struct direction *d, const struct fault *f)
{
    char target[1024], reference[1024];
    struct sl_error err = { .message = "" };
    place(target, "out", d->name);
    place(reference, "ref", d->name);
    begin_place();
    const size_t before = open_files();
    fault_begin(f);
    const int code = run(d, target, false, &err);
    const bool hit = fault_hits() > 0;
    fault_end();
    const bool reading = f->call == FAULT_PREAD || f->call == FAULT_OPEN || f->call == FAULT_CLOSE;
    if (code && code != SL_WRITE && !(reading && code == SL_INPUT))
        fail_msg("%s: %s %u: exit %d (%s: %s)", d->name, fault_names[f->call], f->nth, code, err.where, err.message);
    if (code ? !err.message[0] || strchr(err.message, '\n') != NULL : !same(target, reference))
        fail_msg("%s: %s %u: exit %d with \"%s\", or other bytes", d->name, fault_names[f->call], f->nth, code, err.message);
    if (sl_path_exists(target) && !same(target, reference))
        fail_msg("%s: %s %u: a target that is not whole", d->name, fault_names[f->call], f->nth);
    assert_int_equal(open_files(), before);
    if (code && !strstr(err.message, "in place and whole") && (run(d, target, true, &err) || !same(target, reference)))
        fail_msg("%s: %s %u: going on: %s: %s", d->name, fault_names[f->call], f->nth, err.where, err.message);
    return hit;
}

static unsigned calls_of(const struct direction *d, enum fault_call call)
{
    char target[1024];
    begin_place();
    fault_begin(&(struct fault){ .call = call });
    assert_int_equal(run(d, place(target, "out", d->name), false, NULL), 0);
    const unsigned calls = fault_calls(call);
    fault_end();
    return calls;
}

static void fail_every_call(const struct direction *d)
{
    static const int numbers[FAULT_CALLS] = { [FAULT_OPEN] = EMFILE,  [FAULT_PREAD] = EIO,    [FAULT_PWRITE] = ENOSPC,
                                              [FAULT_FSYNC] = EIO,    [FAULT_CLOSE] = EIO,    [FAULT_RENAME] = EACCES,
                                              [FAULT_FALLOCATE] = ENOSPC };
    unsigned tried = 0, hits = 0;
    for (int call = 0; call < FAULT_CALLS; call++) {
        const unsigned calls = calls_of(d, (enum fault_call)call), step = is_long() ? 1 : calls / 7 + 1;
        for (unsigned nth = 1; nth <= calls; nth += nth + step > calls && nth < calls ? calls - nth : step)
            for (int on = 0; on < 2; on++, tried++)
                hits += fail_once(d, &(struct fault){ .call = (enum fault_call)call, .nth = nth, .from_there_on = on, .number = numbers[call] });
    }
    print_message("%s: %u faults, %u of them came about\n", d->name, tried, hits);
    assert_int_equal(hits, tried);
}

TEST(every_single_fault_is_survived_from_megatron_to_hugging_face) { fail_every_call(&directions[0]); }
TEST(every_single_fault_is_survived_from_hugging_face_to_megatron) { fail_every_call(&directions[1]); }
TEST(every_single_fault_is_survived_from_megatron_to_another_cut) { fail_every_call(&directions[2]); }
TEST(every_single_fault_is_survived_to_one_torch_file) { fail_every_call(&directions[3]); }
TEST(every_single_fault_is_survived_to_sharded_torch_files) { fail_every_call(&directions[4]); }
TEST(every_single_fault_is_survived_to_a_distributed_checkpoint) { fail_every_call(&directions[5]); }

/* The fault comes while an interrupted run goes on. */
TEST(a_second_fault_while_going_on_is_survived)
{
    for (size_t i = 0; i < DIRECTIONS; i++) {
        const struct direction *d = &directions[i];
        char target[1024], reference[1024];
        place(target, "out", d->name);
        place(reference, "ref", d->name);
        const unsigned calls = calls_of(d, FAULT_PWRITE), step = is_long() ? 2 : calls / 5 + 1;
        for (unsigned nth = 5; nth < calls; nth += step) {
            struct sl_error err;
            begin_place();
            for (int again = 0; again < 3; again++) {
                fault_begin(&(struct fault){ .call = again == 1 ? FAULT_FSYNC : FAULT_PWRITE, .nth = again == 1 ? 2 : nth, .number = EIO });
                const int code = run(d, target, again > 0, &err);
                fault_end();
                assert_true(code == SL_WRITE || same(target, reference));
                assert_true(!sl_path_exists(target) || same(target, reference));
                if (!code)
                    break;
            }
            if (!sl_path_exists(target))
                assert_int_equal(run(d, target, true, &err), 0);
            assert_true(same(target, reference));
        }
    }
}

TEST(a_wrong_byte_that_nobody_tells_of_is_found_by_reading_back)
{
    for (size_t i = 0; i < DIRECTIONS; i++) {
        const struct direction *d = &directions[i];
        char target[1024], reference[1024];
        place(target, "out", d->name);
        place(reference, "ref", d->name);
        const unsigned calls = calls_of(d, FAULT_PWRITE), step = is_long() ? 1 : calls / 12 + 1;
        unsigned found = 0;
        for (unsigned nth = 1; nth <= calls; nth += step) {
            struct sl_error err = { .message = "" };
            begin_place();
            fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = nth, .how = FAULT_FLIP });
            const int code = run(d, target, false, &err);
            fault_end();
            found += code != 0;
            if (code && (code != SL_WRITE || !strstr(err.message, "read back") || sl_path_exists(target)))
                fail_msg("%s: write %u: exit %d (%s: %s)", d->name, nth, code, err.where, err.message);
            /* else it was a line of the journal, or the report */
            if (!code && !same(target, reference))
                fail_msg("%s: write %u: a wrong byte that was said to be verified", d->name, nth);
        }
        assert_true(found > 0);
    }
}

static int make_references(void **state)
{
    (void)state;
    char path[1024];
    struct sl_error err = { .message = "" };
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";    /* in memory: an fsync takes no time there */
    snprintf(root, sizeof root, "%s/shardlens-faults-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : base);
    if (!mkdtemp(root))
        return -1;
    for (size_t i = 0; i < DIRECTIONS; i++)
        if (run(&directions[i], place(path, "ref", directions[i].name), false, &err)) {
            print_error("%s: %s: %s\n", directions[i].name, err.where, err.message);
            return -1;
        }
    return 0;
}

static int remove_references(void **state)
{
    (void)state;
    return sl_folder_remove(root, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_single_fault_is_survived_from_megatron_to_hugging_face),
        ROW(every_single_fault_is_survived_from_hugging_face_to_megatron),
        ROW(every_single_fault_is_survived_from_megatron_to_another_cut),
        ROW(every_single_fault_is_survived_to_one_torch_file),
        ROW(every_single_fault_is_survived_to_sharded_torch_files),
        ROW(every_single_fault_is_survived_to_a_distributed_checkpoint),
        ROW(a_second_fault_while_going_on_is_survived),
        ROW(a_wrong_byte_that_nobody_tells_of_is_found_by_reading_back),
    };
    return cmocka_run_group_tests(tests, make_references, remove_references);
}
