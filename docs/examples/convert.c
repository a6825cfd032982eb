/* convert.c: any checkpoint to a Hugging Face folder, verified, in one call.
 *
 *     cc convert.c $(pkg-config --cflags --libs shardlens) -o convert && ./convert CHECKPOINT TARGET
 */
#include <shardlens/shardlens.h>

#include <inttypes.h>
#include <stdio.h>

/* Converts src to a Hugging Face folder at dst. 0, or an enum sl_code with *err filled; then
 * there is nothing at dst. */
static int convert(const char *src, const char *dst, struct sl_error *err)
{
    const struct sl_plan_options want = { .format = SL_TO_HF };
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    int code = sl_open(src, NULL, &ck, err);
    if (!code)
        code = sl_plan_make(ck, dst, &want, &plan, err);
    if (!code)
        code = sl_convert_start(plan, NULL, &job, err);
    if (!code)
        code = sl_job_wait(job, err);
    if (!code) {
        const struct sl_summary *s = sl_job_summary(job);
        printf("%s: %" PRIu64 " tensors, %" PRIu64 " bytes, %s\n", dst, s->tensors, s->bytes,
               s->verified ? "every byte read back and compared with the source" : "not verified");
    }
    sl_job_free(job);           /* in the reverse order; each accepts NULL */
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

int main(int argc, char **argv)
{
    struct sl_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: convert CHECKPOINT TARGET\n");
        return SL_USAGE;
    }
    const int code = convert(argv[1], argv[2], &err);
    if (code)
        fprintf(stderr, "%s: %s\n", err.where, err.message);
    return code;
}
