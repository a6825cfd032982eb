/* test_flips.c: every byte of small files changed in turn: check --deep (or opening) must find it wherever
 * a checksum or a rule covers it, and verify wherever it is a weight. Which bytes nothing covers is known:
 * in a torch file dates, versions and padding of the zip container; in a safetensors file, which has no
 * checksum, the weights and what is said of them in ways that fit. Records of a torch file that nothing
 * reads (.format_version, .storage_alignment, .data/serialization_id) are not looked at. */
#include "../checkpoint/made.h"

#include <shardlens/shardlens.h>

enum outcome { FOUND, MISSED };

/* Opening fails, or an error or a crc finding is told. */
static enum outcome check_finds(const char *path)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_job *job = NULL;
    enum outcome o = MISSED;
    if (sl_open(path, NULL, &ck, &err))
        return FOUND;
    assert_int_equal(sl_check_start(ck, true, NULL, &job, &err), 0);
    assert_int_equal(sl_job_wait(job, &err), 0);
    const struct sl_check_result *r = sl_check_result(job);
    for (size_t i = 0; i < r->problem_count; i++)
        if (r->problems[i].severity == SL_ERROR)
            o = FOUND;
    sl_job_free(job);
    sl_close(ck);
    return o;
}

static enum outcome verify_finds(const char *good, const char *path)
{
    struct sl_checkpoint *a = NULL, *b = NULL;
    struct sl_job *job = NULL;
    enum outcome o = FOUND;
    assert_int_equal(sl_open(good, NULL, &a, &err), 0);
    if (!sl_open(path, NULL, &b, &err) && !sl_verify_start(a, b, NULL, &job, &err) && !sl_job_wait(job, &err)) {
        const struct sl_summary *s = sl_job_summary(job);
        o = s->different || s->only_a || s->only_b ? FOUND : MISSED;
    }
    sl_job_free(job);
    sl_close(b);
    sl_close(a);
    return o;
}

/* Records of a torch file that are read: [begin, end) of their contents. */
struct contents { uint64_t begin[16], end[16]; size_t count; };
static struct contents contents_of(const char *path)
{
    struct sl_file file;
    struct sl_arena arena = { 0 };
    struct sl_zip zip;
    struct contents c = { .count = 0 };
    assert_int_equal(sl_file_open(path, &file, &err), 0);
    assert_int_equal(sl_zip_open(&file, 0, file.size, &arena, &zip, &err), 0);
    for (uint64_t i = 0; i < zip.count && c.count < 16; i++) {
        if (strstr(zip.entries[i].name, "/."))
            continue;
        c.begin[c.count] = zip.entries[i].offset;
        c.end[c.count++] = zip.entries[i].offset + zip.entries[i].size;
    }
    sl_file_close(&file);
    sl_arena_free(&arena);
    return c;
}

TEST(a_changed_byte_of_any_record_of_a_torch_file_is_found)
{
    const char *good = FIXTURES "torch/one_tensor.pt", *bad = in("bad.pt");
    const struct contents c = contents_of(good);
    size_t len, covered = 0, outside = 0, missed = 0;
    char *bytes = slurp(good, &len);
    char path[512];
    snprintf(path, sizeof path, "%s", bad);
    for (size_t i = 0; i < len; i++) {
        bool inside = false;
        for (size_t k = 0; k < c.count; k++)
            inside = inside || (i >= c.begin[k] && i < c.end[k]);
        if (!inside && i % 4)
            continue;                    /* of those it is only counted how many are found */
        const char flip = (char)(1 << i % 8);
        bytes[i] = (char)(bytes[i] ^ flip);
        write_text(path, bytes, len);
        bytes[i] = (char)(bytes[i] ^ flip);
        const enum outcome o = check_finds(path);
        if (inside && o == MISSED)
            fail_msg("byte %zu, changed by %02x, is in a record, and nothing was found", i, (unsigned)(unsigned char)flip);
        covered += inside;
        outside += !inside;
        missed += o == MISSED;
    }
    printf("all %zu bytes within records found; %zu of %zu outside not: dates, versions, padding, records nobody reads\n", covered,
           missed, outside);
    assert_true(covered > 200);
    free(bytes);
}

TEST(a_changed_weight_of_a_safetensors_file_is_found_by_verify)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}       ";
    unsigned char file[8 + sizeof header - 1 + 24] = { (sizeof header - 1) & 0xff };
    char good[512], bad[512];
    memcpy(file + 8, header, sizeof header - 1);
    for (size_t i = 0; i < 24; i++)
        file[sizeof file - 24 + i] = (unsigned char)(i % 4 == 3 ? 0x3f : 7 * i);
    snprintf(good, sizeof good, "%s", in("good.safetensors"));
    snprintf(bad, sizeof bad, "%s", in("bad.safetensors"));
    write_text(good, (const char *)file, sizeof file);
    assert_int_equal(verify_finds(good, good), MISSED);
    for (size_t i = sizeof file - 24; i < sizeof file; i++)
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            file[i] = (unsigned char)(file[i] ^ bit);
            write_text(bad, (const char *)file, sizeof file);
            file[i] = (unsigned char)(file[i] ^ bit);
            if (verify_finds(good, bad) == MISSED)
                fail_msg("byte %zu, changed by %02x, is a weight, and verify says equal", i, bit);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_changed_byte_of_any_record_of_a_torch_file_is_found),
        IN_FOLDER(a_changed_weight_of_a_safetensors_file_is_found_by_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
