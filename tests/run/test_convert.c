/* Conversions from start to commit. */
#include "case.h"
#include "../base/fault.h"

#include "base/json.h"
#include "base/value.h"
#include "run/job.h"
#include "run/target.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define REREAD   (struct sl_run_options){ .verify = SL_VERIFY_REREAD }
#define CHECKSUM (struct sl_run_options){ .verify = SL_VERIFY_CHECKSUM }
#define NONE     (struct sl_run_options){ .verify = SL_VERIFY_NONE }

static const struct sl_run_options resume = { .verify = SL_VERIFY_REREAD, .resume = true };

/* ---- the usual way ---- */

static void a_folder_is_written_byte_for_byte(void **state)
{
    (void)state;
    static const enum sl_verify_mode modes[] = { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
    for (size_t m = 0; m < 3; m++)
        for (uint32_t threads = 1; threads < 6; threads += 2) {
            struct conversion_case k;
            case_begin(&k, CASE_FOLDER);
            const struct sl_run_options o = { .verify = modes[m], .threads = threads };
            case_must_work(&k, &o);
            case_end(&k);
        }
}

static void a_single_file_is_written_byte_for_byte(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FILE);
    case_must_work(&k, &REREAD);
    case_end(&k);
}

static void a_torch_file_gets_its_records_and_their_checksums(void **state)
{
    (void)state;
    static const enum sl_verify_mode modes[] = { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
    for (size_t m = 0; m < 3; m++) {
        struct conversion_case k;
        case_begin(&k, CASE_TORCH);
        const struct sl_run_options o = { .verify = modes[m] };
        case_must_work(&k, &o);
        case_end(&k);
    }
}

static void items_get_their_records_and_checksums(void **state)
{
    (void)state;
    static const enum sl_verify_mode modes[] = { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
    for (size_t m = 0; m < 3; m++)
        for (uint32_t threads = 1; threads < 6; threads += 2) {
            struct conversion_case k;
            case_begin(&k, CASE_DIST);
            const struct sl_run_options o = { .verify = modes[m], .threads = threads };
            case_must_work(&k, &o);
            case_end(&k);
        }
}

static void results_have_checksums_statistics_and_sources(void **state)
{
    (void)state;
    struct conversion_case k;
    struct sl_run *r;
    struct sl_error err;
    case_begin(&k, CASE_FOLDER);
    assert_int_equal(sl_run_convert(&k.plan, k.target, &REREAD, &r, &err), 0);
    assert_int_equal(sl_run_wait(r, &err), 0);
    assert_int_equal(sl_run_result_count(r), k.target_count);
    for (size_t i = 0; i < k.target_count; i++) {
        const struct sl_result *t = sl_run_result_at(r, i);
        const struct made *m = &k.targets[i];
        double min = 0, max = 0, sum = 0;
        for (size_t e = 0; e < made_count(m); e++) {
            const double x = sl_dtype_load(m->dtype, (const unsigned char *)m->data + 2 * e);
            min = e == 0 || x < min ? x : min;
            max = e == 0 || x > max ? x : max;
            sum += x;
        }
        assert_string_equal(t->name, m->name);
        assert_int_equal(t->status, SL_RESULT_VERIFIED);
        assert_true(t->checksum == XXH3_64bits(m->data, (size_t)made_bytes(m)));
        assert_int_equal(t->stats.count, made_count(m));
        assert_true(t->stats.min == min && t->stats.max == max);
        if (made_count(m))
            assert_true(t->stats.mean - sum / (double)made_count(m) < 1e-12);
        assert_int_equal(t->bytes, made_bytes(m));
    }
    assert_int_equal(sl_run_result_at(r, 0)->sources, 2);     /* embed of two ranks */
    assert_int_equal(sl_run_result_at(r, 1)->sources, 1);     /* q of one qkv */
    assert_int_equal(sl_run_result_at(r, 8)->sources, 1);     /* one, and padding */
    assert_string_equal(sl_run_result_at(r, 6)->file, "part/model-2.safetensors");
    assert_null(sl_run_result_at(r, k.target_count));
    const struct sl_summary *s = sl_run_summary(r);
    assert_true(s->verified);
    assert_int_equal(s->tensors, k.target_count);
    assert_int_equal(s->bytes, k.plan.write_bytes);
    assert_true(s->seconds > 0 && s->peak_memory_bytes > 0);
    assert_int_equal(s->written_bytes, k.plan.write_bytes);
    assert_true(s->read_bytes >= 2 * s->written_bytes);       /* read, read back, read again to compare; padding is not read */
    assert_true(s->writes >= k.target_count - 1);             /* one tensor is empty */
    assert_true(s->writes < 100 && s->reads < 200);           /* 660 KB */
    sl_run_free(r);
    case_end(&k);
}

static void the_report_is_json_with_every_tensor(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    struct sl_arena a = { 0 };
    const struct sl_value *v;
    case_begin(&k, CASE_FOLDER);
    case_must_work(&k, &REREAD);
    assert_int_equal(sl_json_load(join(path, k.target, "shardlens-report.json"), 1 << 20, &a, &v, NULL), 0);
    bool verified = false;
    assert_true(sl_value_bool(sl_value_get(sl_value_get(v, "summary"), "verified"), &verified) && verified);
    const struct sl_value *tensors = sl_value_get(v, "tensors");
    assert_int_equal(tensors->len, k.target_count);
    const struct sl_value *proj = tensors->items[4];
    assert_string_equal(sl_value_str(sl_value_get(proj, "name")), "proj");
    assert_string_equal(sl_value_str(sl_value_get(proj, "status")), "verified");
    char sum[32];
    snprintf(sum, sizeof sum, "xxh3:%016" PRIx64, XXH3_64bits(k.targets[4].data, (size_t)made_bytes(&k.targets[4])));
    assert_string_equal(sl_value_str(sl_value_get(proj, "checksum")), sum);
    const struct sl_value *sources = sl_value_get(proj, "sources");
    assert_int_equal(sources->len, 2);
    assert_string_equal(sl_value_str(sl_value_get(sources->items[1], "name")), "rank1.proj");
    assert_string_equal(sl_value_str(sl_value_get(sources->items[1], "file")), "model.safetensors");
    sl_arena_free(&a);
    case_end(&k);
}

static void the_report_goes_where_it_is_asked_to_go(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    size_t len = 0;
    case_begin(&k, CASE_FOLDER);
    write_bytes(join(path, k.source, "report.json"), "old", 3);
    struct sl_run_options o = REREAD;
    o.report = path;
    case_must_work(&k, &o);
    unsigned char *text = read_bytes(path, &len);
    assert_true(len > 1000 && text[0] == '{');
    free(text);
    assert_null(read_bytes(join(path, k.target, "shardlens-report.json"), &len));

    o.force = true;
    o.report = join(path, k.target, "here.json");     /* a folder that is yet to be made */
    case_must_work(&k, &o);
    assert_true(sl_path_exists(path));

    o.report = "/dev/full";
    struct sl_error err;
    assert_int_equal(case_run(&k, &o, &err), SL_WRITE);
    assert_string_equal(err.where, "/dev/full");
    case_end(&k);
}

/* Not after an hour of copying. */
static void a_report_that_can_not_be_written_is_refused_before_the_start(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024], link[1024];
    struct sl_error err;
    case_begin(&k, CASE_FOLDER);
    struct sl_run_options o = REREAD;
    const struct { const char *name; int code; const char *words; } places[] = {
        { "nowhere/report.json", SL_WRITE, "folder of the report is not there" },
        { "source", SL_WRITE, "is a folder" },
        { "source/model.safetensors", SL_USAGE, "is a file of the source" },
    };
    for (size_t i = 0; i < 3; i++) {
        o.report = join(path, k.folder, places[i].name);
        assert_int_equal(case_run(&k, &o, &err), places[i].code);
        assert_non_null(strstr(err.message, places[i].words));
        assert_int_equal(case_entries(&k), 1);
    }
    /* a link stays a link, and what it leads to is replaced */
    write_bytes(join(path, k.source, "report.json"), "old", 3);
    assert_int_equal(symlink(path, join(link, k.source, "link.json")), 0);
    o.report = link;
    case_must_work(&k, &o);
    struct stat st;
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    assert_false(file_holds(path, "old", 3));
    case_end(&k);
}

static void folders_above_the_target_are_made(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    join(k.target, k.folder, "a/b/c/out");
    case_must_work(&k, &REREAD);
    case_end(&k);
}

/* ---- refusals before the first byte ---- */

static void must_refuse(const struct conversion_case *k, const struct sl_run_options *o, int code, const char *words)
{
    struct sl_error err = { .message = "" };
    const size_t before = case_entries(k);
    assert_int_equal(case_run(k, o, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" says nothing of \"%s\"", err.message, words);
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(case_entries(k), before);
}

static void a_target_that_exists_is_refused_and_stays(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    case_begin(&k, CASE_FOLDER);
    mkdir(k.target, 0777);
    write_bytes(join(path, k.target, "mine"), "mine", 4);
    must_refuse(&k, &REREAD, SL_WRITE, "--force");
    must_refuse(&k, &resume, SL_WRITE, "--force");
    assert_true(file_holds(path, "mine", 4));
    case_end(&k);
}

static int no_exchange(const char *a, const char *b)
{
    (void)a;
    (void)b;
    errno = EINVAL;
    return -1;
}

static void force_replaces_an_old_target(void **state)
{
    (void)state;
    int (*const exchange)(const char *, const char *) = sl_target_exchange;
    for (int without = 0; without < 2; without++)
        for (int kind = 0; kind < 3; kind++) {
            struct conversion_case k;
            char path[1024];
            case_begin(&k, kind);
            mkdir(k.target, 0777);
            write_bytes(join(path, k.target, "mine"), "mine", 4);
            struct sl_run_options o = REREAD;
            o.force = true;
            sl_target_exchange = without ? no_exchange : exchange;
            case_must_work(&k, &o);
            assert_false(sl_path_exists(path));
            case_must_work(&k, &o);    /* over its own result */
            sl_target_exchange = exchange;
            case_end(&k);
        }
}

static void an_old_target_is_back_when_the_second_rename_fails(void **state)
{
    (void)state;
    int (*const exchange)(const char *, const char *) = sl_target_exchange;
    struct conversion_case k;
    char path[1024];
    struct sl_error err;
    case_begin(&k, CASE_FOLDER);
    mkdir(k.target, 0777);
    write_bytes(join(path, k.target, "mine"), "mine", 4);
    struct sl_run_options o = REREAD;
    o.force = true;
    sl_target_exchange = no_exchange;
    fault_begin(&(struct fault){ .call = FAULT_RENAME, .nth = 2, .number = EIO });
    assert_int_equal(case_run(&k, &o, &err), SL_WRITE);
    fault_end();
    assert_true(file_holds(path, "mine", 4));
    o.resume = true;
    case_must_work(&k, &o);
    sl_target_exchange = exchange;
    case_end(&k);
}

static void a_failed_run_with_force_leaves_the_old_target(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    struct sl_error err;
    case_begin(&k, CASE_FOLDER);
    mkdir(k.target, 0777);
    write_bytes(join(path, k.target, "mine"), "mine", 4);
    struct sl_run_options o = REREAD;
    o.force = true;
    fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = 9, .number = ENOSPC });
    assert_int_equal(case_run(&k, &o, &err), SL_WRITE);
    fault_end();
    assert_true(file_holds(path, "mine", 4));
    case_end(&k);
}

static void source_and_target_may_not_meet(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024], keep[1024];
    struct sl_run_options force = REREAD;
    force.force = true;
    case_begin(&k, CASE_FOLDER);
    strcpy(keep, k.target);

    strcpy(k.target, k.source);                       /* the same folder */
    must_refuse(&k, &force, SL_USAGE, "inside the source");
    snprintf(k.target, sizeof k.target, "%.500s/", k.source);
    must_refuse(&k, &force, SL_USAGE, "inside the source");
    join(k.target, k.source, "hf");                   /* inside */
    must_refuse(&k, &REREAD, SL_USAGE, "inside the source");
    join(k.target, k.source, "not/yet/there");
    must_refuse(&k, &REREAD, SL_USAGE, "inside the source");
    strcpy(k.target, k.folder);                       /* source inside the target */
    must_refuse(&k, &force, SL_USAGE, "holds the source file");

    join(path, k.folder, "link");                     /* by a symbolic link */
    assert_int_equal(symlink(k.source, path), 0);
    strcpy(k.target, path);
    must_refuse(&k, &force, SL_USAGE, "inside the source");
    join(k.target, path, "hf");
    must_refuse(&k, &REREAD, SL_USAGE, "inside the source");
    unlink(path);

    join(path, k.source, "model.safetensors");        /* a hard link to a source file */
    join(k.target, k.folder, "hard");
    assert_int_equal(link(path, k.target), 0);
    must_refuse(&k, &force, SL_USAGE, "is a file of the source");
    unlink(k.target);

    strcpy(k.target, "/");
    must_refuse(&k, &force, SL_USAGE, "no name");
    strcpy(k.target, "..");
    must_refuse(&k, &force, SL_USAGE, "no name");
    case_end(&k);
}

static void the_current_folder_is_not_replaced(void **state)
{
    (void)state;
    struct conversion_case k;
    char here[1024], old[1024];
    struct sl_run_options force = REREAD;
    force.force = true;
    case_begin(&k, CASE_FOLDER);
    mkdir(k.target, 0777);
    mkdir(join(here, k.target, "deep"), 0777);
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(here), 0);
    must_refuse(&k, &force, SL_USAGE, "current folder");
    assert_int_equal(chdir(old), 0);
    case_end(&k);
}

static void a_link_to_an_old_target_stays_a_link(void **state)
{
    (void)state;
    struct conversion_case k;
    char real[1024], path[1024];
    struct stat st;
    case_begin(&k, CASE_FOLDER);
    mkdir(join(real, k.folder, "real"), 0777);
    mkdir(join(path, real, "old"), 0777);
    assert_int_equal(symlink(path, k.target), 0);
    struct sl_run_options force = REREAD;
    force.force = true;
    assert_int_equal(case_run(&k, &force, NULL), 0);
    assert_true(case_is_whole(&k));
    assert_int_equal(lstat(k.target, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    case_end(&k);
}

static void too_little_space_is_told_with_both_numbers(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    k.files[1].size = UINT64_C(1) << 60;
    must_refuse(&k, &REREAD, SL_WRITE, "are needed and");
    case_end(&k);
}

static void too_little_memory_is_told_with_what_is_needed(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    const struct sl_run_options o = { .threads = 4, .memory = 100000 };
    must_refuse(&k, &o, SL_MEMORY, "they need 524288");
    case_end(&k);
}

static void a_target_below_a_file_is_refused(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    case_begin(&k, CASE_FOLDER);
    write_bytes(join(path, k.folder, "file"), "x", 1);
    join(k.target, path, "out");
    must_refuse(&k, &REREAD, SL_WRITE, "");
    case_end(&k);
}

static void a_file_size_limit_is_a_failed_write(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = { 200000, 200000 };
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(case_run(&k, &REREAD, NULL));
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SL_WRITE);
    assert_false(sl_path_exists(k.target));
    case_end(&k);
}

/* ---- two at once ---- */

static void the_second_of_two_runs_is_told_who_holds_the_target(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024], words[64];
    int ready[2], go[2];
    case_begin(&k, CASE_FOLDER);
    assert_int_equal(pipe(ready) | pipe(go), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct sl_arena a = { 0 };
        struct sl_target t;
        char c = 0;
        const int code = sl_target_open(&t, &k.plan, k.target, false, false, &a, NULL);
        if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
            _exit(99);
        _exit(code);    /* without letting go: as if killed */
    }
    char c = 0;
    assert_int_equal(read(ready[0], &c, 1), 1);
    snprintf(words, sizeof words, "process %ld", (long)child);
    must_refuse(&k, &REREAD, SL_WRITE, words);
    must_refuse(&k, &resume, SL_WRITE, words);
    assert_int_equal(write(go[1], &c, 1), 1);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);

    /* the lock of a dead process is taken over; what it left is named */
    assert_true(sl_path_exists(join(path, k.folder, "out.partial.journal")));
    struct sl_error err;
    assert_int_equal(case_run(&k, &REREAD, &err), SL_WRITE);
    assert_non_null(strstr(err.message, "--resume"));
    case_must_work(&k, &resume);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
    case_end(&k);
}

/* ---- faults ---- */

static size_t open_files(void)
{
    struct sl_arena a = { 0 };
    const char *const *names;
    size_t count = 0;
    sl_folder_list("/proc/self/fd", 10000, &a, &names, &count, NULL);
    sl_arena_free(&a);
    return count;
}

static void check_failure(const struct conversion_case *k, const struct fault *f, int code, const struct sl_error *err)
{
    const bool read = f->call == FAULT_PREAD || f->call == FAULT_OPEN;
    if (code != SL_WRITE && !(read && code == SL_INPUT))
        fail_msg("%s %u: exit %d (%s: %s)", fault_names[f->call], f->nth, code, err->where, err->message);
    assert_true(err->message[0] && !strchr(err->message, '\n'));
    if (sl_path_exists(k->target) && !case_is_whole(k))
        fail_msg("%s %u: a target that is not whole", fault_names[f->call], f->nth);
}

/* Every call of every kind fails, once or from there on; each time the run ends with a
 * sentence, the target is absent or whole, and going on without the fault makes it whole. */
static void fail_every_call(int kind, bool force)
{
    static const int numbers[FAULT_CALLS] = { [FAULT_OPEN] = EMFILE,  [FAULT_PREAD] = EIO,    [FAULT_PWRITE] = ENOSPC,
                                              [FAULT_FSYNC] = EIO,    [FAULT_CLOSE] = EIO,    [FAULT_RENAME] = EACCES,
                                              [FAULT_FALLOCATE] = ENOSPC };
    for (int call = 0; call < FAULT_CALLS; call++)
        for (int on = 0; on < 2; on++)
            for (unsigned nth = 1;; nth++) {
                struct conversion_case k;
                case_begin(&k, kind);
                if (force)
                    mkdir(k.target, 0777);
                struct sl_run_options o = { .verify = SL_VERIFY_REREAD, .force = force };
                const size_t before = open_files();
                const struct fault f = { .call = (enum fault_call)call, .nth = nth, .from_there_on = on,
                                         .number = numbers[call] };
                struct sl_error err = { .message = "" };
                fault_begin(&f);
                const int code = case_run(&k, &o, &err);
                const unsigned hits = atomic_load(&fault_state.hits);
                fault_end();
                assert_int_equal(open_files(), before);
                if (force && code) {    /* the old target is an empty folder */
                    if (rmdir(k.target) && !case_is_whole(&k))
                        fail_msg("%s %u: neither the old target nor the new one", fault_names[call], nth);
                    else if (!sl_path_exists(k.target))
                        mkdir(k.target, 0777);
                } else if (code) {
                    check_failure(&k, &f, code, &err);
                } else {
                    assert_true(case_is_whole(&k));
                }
                if (code) {
                    o.resume = true;
                    case_must_work(&k, &o);
                }
                case_end(&k);
                if (hits == 0)
                    break;
                assert_true(nth < 500);
            }
}

static void every_single_fault_is_survived(void **state)
{
    (void)state;
    fail_every_call(CASE_FOLDER, false);
}

static void every_single_fault_is_survived_by_a_single_file(void **state)
{
    (void)state;
    fail_every_call(CASE_FILE, false);
}

static void every_single_fault_is_survived_over_an_old_target_by_torch_files(void **state)
{
    (void)state;
    fail_every_call(CASE_TORCH, true);
}

static void every_single_fault_is_survived_by_items(void **state)
{
    (void)state;
    fail_every_call(CASE_DIST, false);
}

static void short_reads_and_writes_change_nothing(void **state)
{
    (void)state;
    static const enum fault_call calls[] = { FAULT_PREAD, FAULT_PWRITE };
    for (size_t c = 0; c < 2; c++) {
        struct conversion_case k;
        case_begin(&k, CASE_FOLDER);
        fault_begin(&(struct fault){ .call = calls[c], .nth = 1, .from_there_on = true, .how = FAULT_HALF });
        const int code = case_run(&k, &REREAD, NULL);
        fault_end();
        assert_int_equal(code, 0);
        assert_true(case_is_whole(&k));
        case_end(&k);
    }
}

/* A byte that goes wrong after it was taken: every write in turn, head and tensors. */
static void a_byte_corrupted_on_its_way_to_the_disk_is_found(void **state)
{
    (void)state;
    static const int kinds[] = { CASE_FOLDER, CASE_TORCH, CASE_DIST };
    for (int mode = 0; mode < 6; mode++) {
        unsigned found = 0;
        for (unsigned nth = 1;; nth++) {
            struct conversion_case k;
            struct sl_error err = { .message = "" };
            case_begin(&k, kinds[mode / 2]);
            fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = nth, .how = FAULT_FLIP });
            struct sl_run_options o = mode % 2 ? CHECKSUM : REREAD;
            o.threads = 1;    /* so that the n-th write is the same one each time */
            const int code = case_run(&k, &o, &err);
            const unsigned hits = atomic_load(&fault_state.hits);
            fault_end();
            if (code) {
                found++;
                assert_int_equal(code, SL_WRITE);
                assert_non_null(strstr(err.message, "read back"));
                assert_false(sl_path_exists(k.target));
                case_must_work(&k, &resume);
            } else if (sl_path_exists(k.target)) {
                assert_true(case_is_whole(&k));    /* it was the journal or the report */
            }
            case_end(&k);
            if (hits == 0)
                break;
        }
        const unsigned around = kinds[mode / 2] == CASE_DIST ? 2 * 8 + 1 : 0;    /* records before and after each item */
        assert_true(found >= (around ? 1u : 2u) + 7 + 10 + 2 + around);    /* heads, small tensors, pieces of `large`, extras */
    }
}

/* ---- stopping and going on ---- */

/* A run that ends after all tensors were written: the third fsync is of an output file. */
static void leave_unfinished(const struct conversion_case *k)
{
    fault_begin(&(struct fault){ .call = FAULT_FSYNC, .nth = 3, .number = EIO });
    const int code = case_run(k, &REREAD, NULL);
    fault_end();
    assert_int_equal(code, SL_WRITE);
    assert_false(sl_path_exists(k->target));
}

static struct sl_io_ops real_io;
static atomic_uint slow_us;
static ssize_t slow_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    usleep(atomic_load(&slow_us));
    return real_io.pwrite(fd, buf, len, offset);
}
static void slow_begin(unsigned us)
{
    real_io = sl_io;
    atomic_store(&slow_us, us);
    sl_io.pwrite = slow_pwrite;
}
static void slow_end(void)
{
    sl_io = real_io;
}

static void cancel_stops_within_a_second_and_keeps_what_is_done(void **state)
{
    (void)state;
    struct conversion_case k;
    struct sl_run *r;
    struct sl_error err;
    case_begin(&k, CASE_FOLDER);
    slow_begin(30000);
    const struct sl_run_options o = { .threads = 2, .memory = 2 * 128 << 10 };
    assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
    struct sl_progress p;
    do {
        usleep(1000);
        sl_run_progress(r, &p);
    } while (p.phase < SL_PHASE_COPY || p.tensors_done < 3);
    const uint64_t before = sl_now_ns();
    sl_run_cancel(r, SL_TERMINATED);
    assert_int_equal(sl_run_wait(r, &err), SL_TERMINATED);
    assert_true(sl_now_ns() - before < UINT64_C(1000000000));
    slow_end();
    assert_non_null(strstr(err.message, "go on with --resume"));
    sl_run_progress(r, &p);
    assert_true(p.finished && p.phase == SL_PHASE_DONE);
    sl_run_free(r);
    assert_false(sl_path_exists(k.target));

    assert_int_equal(case_run(&k, &o, &err), SL_WRITE);     /* not by itself */
    assert_non_null(strstr(err.message, "--resume"));
    case_must_work(&k, &resume);
    case_end(&k);
}

static void a_run_that_is_freed_is_stopped(void **state)
{
    (void)state;
    struct conversion_case k;
    struct sl_run *r;
    case_begin(&k, CASE_FOLDER);
    slow_begin(30000);
    assert_int_equal(sl_run_convert(&k.plan, k.target, &REREAD, &r, NULL), 0);
    sl_run_free(r);
    slow_end();
    assert_false(sl_path_exists(k.target));
    case_end(&k);
}

static void pause_stands_still_until_it_is_over(void **state)
{
    (void)state;
    struct conversion_case k;
    struct sl_run *r;
    struct sl_error err;
    struct sl_progress a, b;
    case_begin(&k, CASE_FOLDER);
    slow_begin(5000);
    const struct sl_run_options o = { .threads = 2, .memory = 2 * 128 << 10 };
    assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
    sl_run_pause(r, true);
    usleep(100000);
    sl_run_progress(r, &a);
    usleep(100000);
    sl_run_progress(r, &b);
    assert_true(a.paused && !a.finished);
    assert_int_equal(a.written_bytes, b.written_bytes);
    sl_run_pause(r, false);
    assert_int_equal(sl_run_wait(r, &err), 0);
    slow_end();
    sl_run_free(r);
    assert_true(case_is_whole(&k));
    case_end(&k);
}

static void progress_and_results_may_be_read_while_it_runs(void **state)
{
    (void)state;
    struct conversion_case k;
    struct sl_run *r;
    struct sl_error err;
    struct sl_progress p;
    case_begin(&k, CASE_FOLDER);
    slow_begin(2000);
    const struct sl_run_options o = { .threads = 3, .memory = 3 * 128 << 10 };
    assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
    size_t named = 0;
    while (!sl_run_finished(r)) {
        sl_run_progress(r, &p);
        assert_int_equal(p.workers, 3);
        assert_true(p.bytes_done <= p.bytes_total);
        for (unsigned w = 0; w < 3; w++) {
            assert_true(p.worker[w].done <= p.worker[w].total);
            named += p.worker[w].tensor[0] != '\0';
        }
        for (size_t i = 0; i < k.target_count; i++) {
            const struct sl_result *t = sl_run_result_at(r, i);
            if (t->status != SL_RESULT_PENDING)
                assert_true(t->checksum == XXH3_64bits(k.targets[i].data, (size_t)made_bytes(&k.targets[i])));
        }
    }
    assert_int_equal(sl_run_wait(r, &err), 0);
    slow_end();
    assert_true(named > 0);
    sl_run_free(r);
    case_end(&k);
}

static void resume_does_not_write_again_what_is_whole(void **state)
{
    (void)state;
    for (unsigned nth = 8; nth < 26; nth++) {
        struct conversion_case k;
        struct sl_run *r;
        struct sl_error err;
        struct sl_progress first, second;
        case_begin(&k, CASE_FOLDER);
        struct sl_run_options o = { .threads = 1, .memory = 128 << 10 };
        fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = nth, .number = ENOSPC });
        assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
        const int code = sl_run_wait(r, &err);
        fault_end();
        sl_run_progress(r, &first);
        uint64_t whole = 0;
        for (size_t i = 0; i < k.target_count; i++)
            if (sl_run_result_at(r, i)->status == SL_RESULT_WRITTEN)
                whole += sl_run_result_at(r, i)->bytes;
        sl_run_free(r);
        if (code) {
            assert_int_equal(code, SL_WRITE);
            o.resume = true;
            assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
            assert_int_equal(sl_run_wait(r, &err), 0);
            sl_run_progress(r, &second);
            assert_int_equal(second.written_bytes, k.plan.write_bytes - whole);
            sl_run_free(r);
        }
        assert_true(case_is_whole(&k));
        case_end(&k);
    }
}

static void resume_trusts_no_piece_it_can_not_check(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    join(path, k.folder, "out.partial-01234567/part/model-2.safetensors");
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "garbage", 7, (off_t)k.tensors[6].offset + 1000), 7);
    assert_int_equal(pwrite(fd, "garbage", 7, 12), 7);    /* and in the head */
    close(fd);
    const struct sl_run_options o = { .verify = SL_VERIFY_NONE, .resume = true };
    case_must_work(&k, &o);
    case_end(&k);
}

static void another_plan_s_leftovers_are_named_and_removed_with_force_only(void **state)
{
    (void)state;
    struct conversion_case k;
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    memcpy(k.plan.hash, "fedcba98", 8);
    must_refuse(&k, &REREAD, SL_WRITE, "another plan");
    must_refuse(&k, &resume, SL_WRITE, "another plan");
    struct sl_run_options o = REREAD;
    o.force = true;
    case_must_work(&k, &o);

    memcpy(k.plan.hash, "0123", 4);    /* the same eight digits, another plan */
    case_end(&k);
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    k.plan.hash[31] = '0';
    must_refuse(&k, &resume, SL_WRITE, "another plan");
    case_end(&k);
}

/* Killed behind its commit, a run leaves its journal and its target; the target was taken away since. */
static void a_journal_with_nothing_beside_it_is_in_nobody_s_way(void **state)
{
    (void)state;
    for (int again = 0; again < 4; again++) {
        struct conversion_case k;
        case_begin(&k, CASE_FOLDER);
        leave_unfinished(&k);
        char partial[1100];
        snprintf(partial, sizeof partial, "%s.partial-%.8s", k.target, k.plan.hash);
        assert_true(sl_path_exists(partial));
        assert_int_equal(sl_folder_remove(partial, NULL), 0);
        if (again & 1)
            memcpy(k.plan.hash, "fedcba98", 8);      /* another plan comes */
        case_must_work(&k, again & 2 ? &resume : &REREAD);
        case_end(&k);
    }
}

/* Killed before it began its own journal, a run with --force leaves that of the run before it. */
static void a_journal_of_another_plan_with_more_tensors_is_told_as_such(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024], line[64];
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    const char *text = "tensor 99999 0000000000000001";
    FILE *f = fopen(join(path, k.folder, "out.partial.journal"), "a");
    assert_non_null(f);
    snprintf(line, sizeof line, "%08x %s\n", XXH32(text, strlen(text), 0), text);
    fputs(line, f);
    fclose(f);
    k.plan.hash[31] = k.plan.hash[31] == '0' ? '1' : '0';
    must_refuse(&k, &resume, SL_WRITE, "another plan");
    struct sl_run_options o = REREAD;
    o.force = o.resume = true;
    case_must_work(&k, &o);
    case_end(&k);
}

static void a_journal_of_another_version_is_refused_in_a_line(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    char text[64];
    snprintf(text, sizeof text, "%08x shardlens-journal 2\n", XXH32("shardlens-journal 2", 19, 0));
    write_bytes(join(path, k.folder, "out.partial.journal"), text, strlen(text));
    must_refuse(&k, &resume, SL_WRITE, "another version");
    struct sl_run_options o = REREAD;
    o.force = true;
    case_must_work(&k, &o);
    case_end(&k);
}

static void a_file_that_is_no_journal_is_left_alone(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    struct sl_run_options o = REREAD;
    o.force = true;
    case_begin(&k, CASE_FOLDER);
    write_bytes(join(path, k.folder, "out.partial.journal"), "dear diary, today", 17);
    must_refuse(&k, &REREAD, SL_WRITE, "in the way");
    must_refuse(&k, &o, SL_WRITE, "in the way");
    assert_true(file_holds(path, "dear diary, today", 17));
    unlink(path);
    mkdir(path, 0777);
    must_refuse(&k, &REREAD, SL_WRITE, "");
    case_end(&k);
}

/* As 0.1.0 wrote it: the random numbers begin anew, and the source has a fixed time. It must always be gone
 * on with, and what it says is done is not done again. */
static void a_journal_of_version_0_1_0_is_gone_on_with(void **state)
{
    (void)state;
    static const char journal[] =
        "63bb2d54 shardlens-journal 1\n"
        "89934007 plan 0123456789abcdef0123456789abcdef\n"
        "3cce386e source 9b9008d67ab3396e\n"
        "6e8b42a9 holder vm 893\n"
        "ac1990f2 tensor 0 aad6d148ab9c3ac8\n"
        "3e6c0ce6 tensor 1 5a652dea361527a3\n"
        "6d85c03c tensor 2 1c84df18993650b6\n"
        "6cc7d333 tensor 3 4ceb31037c70caec\n"
        "49aad531 tensor 4 de29c14fc91f520c\n"
        "3bdda547 tensor 5 90fad1a31f793b0d\n"
        "470977e2 tensor 7 2d06800538d394c2\n"
        "cdc0e16f tensor 8 10de2e97a0977597\n"
        "09a0f73f tensor 6 be9ea05753f9f0be\n";
    struct conversion_case k;
    struct sl_run *r;
    struct sl_error err;
    struct sl_progress p;
    char path[1024];
    random_state = 20261124;
    case_begin(&k, CASE_FOLDER);
    const struct timespec then[2] = { { 1700000000, 0 }, { 1700000000, 0 } };
    sl_ckpt_close(k.plan.ckpt);
    assert_int_equal(utimensat(AT_FDCWD, join(path, k.source, "model.safetensors"), then, 0), 0);
    case_open_source(&k);
    leave_unfinished(&k);
    write_bytes(join(path, k.folder, "out.partial.journal"), journal, sizeof journal - 1);
    const struct sl_run_options o = { .threads = 1, .memory = 128 << 10, .resume = true };
    assert_int_equal(sl_run_convert(&k.plan, k.target, &o, &r, &err), 0);
    assert_int_equal(sl_run_wait(r, &err), 0);
    sl_run_progress(r, &p);
    sl_run_free(r);
    assert_int_equal(p.written_bytes, 0);
    assert_true(case_is_whole(&k));
    case_end(&k);
}

/* It promises nothing, so nothing is believed. */
static void a_journal_without_a_whole_head_means_starting_anew(void **state)
{
    (void)state;
    static const char *const heads[] = { "", "1234", "12345678 shard", "12345678 shardlens-journal 1\n" };
    for (size_t i = 0; i < 4; i++) {
        struct conversion_case k;
        char path[1024];
        case_begin(&k, CASE_FOLDER);
        leave_unfinished(&k);
        write_bytes(join(path, k.folder, "out.partial.journal"), heads[i], strlen(heads[i]));
        case_must_work(&k, &resume);
        case_end(&k);
    }
}

/* ---- the source changes ---- */

static void rewrite(const char *path)
{
    const int fd = open(path, O_WRONLY);
    if (real_io.pwrite(fd, "\x12", 1, 2000) != 1)
        abort();
    close(fd);
}
static void truncate_it(const char *path)
{
    if (truncate(path, 3000))
        abort();
}
static void grow(const char *path)
{
    const int fd = open(path, O_WRONLY | O_APPEND);
    if (write(fd, "more", 4) != 4)
        abort();
    close(fd);
}
static void touch(const char *path)
{
    if (utimensat(AT_FDCWD, path, NULL, 0))
        abort();
}
static void replace(const char *path)    /* by an equal one of another name */
{
    char other[1100];
    size_t len = 0;
    unsigned char *bytes = read_bytes(path, &len);
    snprintf(other, sizeof other, "%s.new", path);
    write_bytes(other, bytes, len);
    free(bytes);
    if (rename(other, path))
        abort();
}
static const struct { const char *name; void (*change)(const char *path); } changes[] = {
    { "rewritten", rewrite }, { "truncated", truncate_it }, { "grown", grow }, { "touched", touch }, { "replaced", replace },
};

static struct { const char *path; void (*change)(const char *path); enum fault_call call; atomic_uint left; } changing;
static void change_in_time(enum fault_call call)
{
    if (call == changing.call && atomic_fetch_sub(&changing.left, 1) == 1)
        changing.change(changing.path);
}
static ssize_t changing_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    change_in_time(FAULT_PWRITE);
    return real_io.pwrite(fd, buf, len, offset);
}
static ssize_t changing_pread(int fd, void *buf, size_t len, off_t offset)
{
    change_in_time(FAULT_PREAD);
    return real_io.pread(fd, buf, len, offset);
}
static int changing_fsync(int fd)
{
    change_in_time(FAULT_FSYNC);
    return real_io.fsync(fd);
}

/* Changes the source at the n-th call of a kind while it is converted. */
static void change_at(size_t kind, enum fault_call call, unsigned nth, const struct sl_run_options *o)
{
    struct conversion_case k;
    char path[1024];
    struct sl_error err = { .message = "" };
    case_begin(&k, CASE_FOLDER);
    usleep(12000);    /* so that the time of the file is another one */
    changing.path = join(path, k.source, "model.safetensors");
    changing.change = changes[kind].change;
    changing.call = call;
    atomic_store(&changing.left, nth);
    real_io = sl_io;
    sl_io.pwrite = changing_pwrite;
    sl_io.pread = changing_pread;
    sl_io.fsync = changing_fsync;
    const int code = case_run(&k, o, &err);
    sl_io = real_io;
    assert_true((int)atomic_load(&changing.left) <= 0);
    if (code != SL_INPUT || !strstr(err.where, "model.safetensors"))
        fail_msg("%s at %s %u: exit %d (%s: %s)", changes[kind].name, fault_names[call], nth, code, err.where, err.message);
    assert_false(sl_path_exists(k.target));
    if (case_entries(&k) > 1) {
        struct sl_run_options on = *o;
        on.resume = true;
        assert_int_equal(case_run(&k, &on, &err), SL_INPUT);    /* still the same plan */
    }
    case_end(&k);
}

static void a_source_that_changes_in_any_phase_is_found_out(void **state)
{
    (void)state;
    /* the journal's head; pieces; the first file to the disk; the last one; reading back */
    static const struct { enum fault_call call; unsigned nth; } moments[] = {
        { FAULT_PWRITE, 2 }, { FAULT_PWRITE, 9 }, { FAULT_PWRITE, 18 }, { FAULT_FSYNC, 3 }, { FAULT_FSYNC, 4 }, { FAULT_PREAD, 22 },
    };
    for (size_t kind = 0; kind < sizeof changes / sizeof *changes; kind++)
        for (size_t m = 0; m < sizeof moments / sizeof *moments; m++)
            for (int mode = 0; mode < 2; mode++)
                if (mode == 0 || moments[m].call != FAULT_PREAD)
                    change_at(kind, moments[m].call, moments[m].nth, mode ? &NONE : &REREAD);
}

static void resume_after_the_source_has_changed_is_refused(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024];
    case_begin(&k, CASE_FOLDER);
    leave_unfinished(&k);
    sl_ckpt_close(k.plan.ckpt);
    usleep(20000);
    write_safetensors(join(path, k.source, "model.safetensors"), k.sources, k.source_count);
    case_open_source(&k);
    must_refuse(&k, &resume, SL_INPUT, "has changed since");
    case_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_written_byte_for_byte),
        cmocka_unit_test(a_single_file_is_written_byte_for_byte),
        cmocka_unit_test(a_torch_file_gets_its_records_and_their_checksums),
        cmocka_unit_test(items_get_their_records_and_checksums),
        cmocka_unit_test(results_have_checksums_statistics_and_sources),
        cmocka_unit_test(the_report_is_json_with_every_tensor),
        cmocka_unit_test(the_report_goes_where_it_is_asked_to_go),
        cmocka_unit_test(a_report_that_can_not_be_written_is_refused_before_the_start),
        cmocka_unit_test(folders_above_the_target_are_made),
        cmocka_unit_test(a_target_that_exists_is_refused_and_stays),
        cmocka_unit_test(force_replaces_an_old_target),
        cmocka_unit_test(an_old_target_is_back_when_the_second_rename_fails),
        cmocka_unit_test(a_failed_run_with_force_leaves_the_old_target),
        cmocka_unit_test(source_and_target_may_not_meet),
        cmocka_unit_test(the_current_folder_is_not_replaced),
        cmocka_unit_test(a_link_to_an_old_target_stays_a_link),
        cmocka_unit_test(too_little_space_is_told_with_both_numbers),
        cmocka_unit_test(too_little_memory_is_told_with_what_is_needed),
        cmocka_unit_test(a_target_below_a_file_is_refused),
        cmocka_unit_test(a_file_size_limit_is_a_failed_write),
        cmocka_unit_test(the_second_of_two_runs_is_told_who_holds_the_target),
        cmocka_unit_test(every_single_fault_is_survived),
        cmocka_unit_test(every_single_fault_is_survived_by_a_single_file),
        cmocka_unit_test(every_single_fault_is_survived_over_an_old_target_by_torch_files),
        cmocka_unit_test(every_single_fault_is_survived_by_items),
        cmocka_unit_test(short_reads_and_writes_change_nothing),
        cmocka_unit_test(a_byte_corrupted_on_its_way_to_the_disk_is_found),
        cmocka_unit_test(cancel_stops_within_a_second_and_keeps_what_is_done),
        cmocka_unit_test(a_run_that_is_freed_is_stopped),
        cmocka_unit_test(pause_stands_still_until_it_is_over),
        cmocka_unit_test(progress_and_results_may_be_read_while_it_runs),
        cmocka_unit_test(resume_does_not_write_again_what_is_whole),
        cmocka_unit_test(resume_trusts_no_piece_it_can_not_check),
        cmocka_unit_test(another_plan_s_leftovers_are_named_and_removed_with_force_only),
        cmocka_unit_test(a_journal_with_nothing_beside_it_is_in_nobody_s_way),
        cmocka_unit_test(a_journal_of_another_plan_with_more_tensors_is_told_as_such),
        cmocka_unit_test(a_journal_of_another_version_is_refused_in_a_line),
        cmocka_unit_test(a_journal_of_version_0_1_0_is_gone_on_with),
        cmocka_unit_test(a_file_that_is_no_journal_is_left_alone),
        cmocka_unit_test(a_journal_without_a_whole_head_means_starting_anew),
        cmocka_unit_test(a_source_that_changes_in_any_phase_is_found_out),
        cmocka_unit_test(resume_after_the_source_has_changed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
