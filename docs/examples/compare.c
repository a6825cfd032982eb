/* compare.c: which weights differ between two checkpoints in whatever layouts, worst first, and
 * what is wrong with the first one's shards.
 *
 *     cc compare.c $(pkg-config --cflags --libs shardlens) -o compare && ./compare A B
 */
#include <shardlens/shardlens.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int by_distance(const void *a, const void *b)
{
    const struct sl_result *x = *(const struct sl_result *const *)a, *y = *(const struct sl_result *const *)b;
    return (x->max_abs < y->max_abs) - (x->max_abs > y->max_abs);
}

static int print_differences(const struct sl_job *job)
{
    const size_t count = sl_result_count(job);
    const struct sl_result **rows = malloc((count + 1) * sizeof *rows);
    size_t different = 0;
    if (!rows)
        return SL_MEMORY;
    for (size_t i = 0; i < count; i++)
        if (sl_result_at(job, i)->status != SL_RESULT_EQUAL)
            rows[different++] = sl_result_at(job, i);
    qsort(rows, different, sizeof *rows, by_distance);
    for (size_t i = 0; i < different; i++)
        printf("%-40s %-10s %" PRIu64 " elements, largest difference %g, cosine %.9f\n", rows[i]->name,
               sl_result_status_name(rows[i]->status), rows[i]->different, rows[i]->max_abs, rows[i]->cosine);
    printf("%zu of %zu weights differ\n", different, count);
    free(rows);
    return 0;
}

static int diff(struct sl_checkpoint *a, struct sl_checkpoint *b, struct sl_error *err)
{
    struct sl_job *job;
    int code = sl_diff_start(a, b, NULL, &job, err);
    if (code)
        return code;
    code = sl_job_wait(job, err);
    if (!code)
        code = print_differences(job);
    sl_job_free(job);
    return code;
}

/* All of a's data is read once: NaN and Inf, replicas that differ, checksums. */
static int check(struct sl_checkpoint *a, struct sl_error *err)
{
    struct sl_job *job;
    int code = sl_check_start(a, true, NULL, &job, err);
    if (code)
        return code;
    code = sl_job_wait(job, err);
    if (!code) {
        const struct sl_check_result *r = sl_check_result(job);
        printf("%s\n", r->verdict);
        for (size_t i = 0; i < r->problem_count; i++)
            printf("%s %s: %s\n", sl_severity_name(r->problems[i].severity), r->problems[i].where, r->problems[i].message);
    }
    sl_job_free(job);
    return code;
}

int main(int argc, char **argv)
{
    struct sl_checkpoint *a = NULL, *b = NULL;
    struct sl_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: compare A B\n");
        return SL_USAGE;
    }
    int code = sl_open(argv[1], NULL, &a, &err);
    if (!code)
        code = sl_open(argv[2], NULL, &b, &err);
    if (!code)
        code = diff(a, b, &err);
    if (!code)
        code = check(a, &err);
    if (code)
        fprintf(stderr, "%s: %s\n", err.where, err.message);
    sl_close(a);
    sl_close(b);
    return code;
}
