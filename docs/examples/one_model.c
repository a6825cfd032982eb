/* one_model.c: a converter for one model, as a team would put it into its own tool: it knows
 * what it expects and refuses everything else. Which model: -DMODEL, a word of `shardlens models`.
 *
 *     cc -DMODEL='"minicpm-2b"' one_model.c $(pkg-config --cflags --libs shardlens) -o minicpm-2b-to-hf
 *     ./minicpm-2b-to-hf CHECKPOINT TARGET CONFIG-FOLDER
 */
#include <shardlens/shardlens.h>

#include <stdio.h>
#include <string.h>

#ifndef MODEL
#define MODEL "llama-7b"
#endif

static const struct sl_model_row *row_of(const char *option)
{
    for (size_t i = 0; i < sl_model_row_count(); i++)
        if (strcmp(sl_model_row(i)->option, option) == 0)
            return sl_model_row(i);
    return NULL;
}

/* Errors that reading the headers showed: a missing rank, a cut file, args that contradict the
 * tensors. The first is returned, NULL when there is none. */
static const struct sl_problem *first_error(const struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    return info->problem_count && info->problems[0].severity == SL_ERROR ? &info->problems[0] : NULL;
}

int main(int argc, char **argv)
{
    const struct sl_model_row *row = row_of(MODEL);
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    struct sl_error err;
    if (argc != 4 || !row) {
        fprintf(stderr, "usage: one_model CHECKPOINT TARGET CONFIG-FOLDER, for %s\n", MODEL);
        return SL_USAGE;
    }
    printf("expected: %s, as %s has it\n", row->name, row->source);
    /* .model states what the checkpoint itself does not say; where its tensors say something
     * else, sl_open refuses with SL_USAGE and names both */
    const struct sl_open_options open = { .model = MODEL, .hf_config = argv[3] };
    int code = sl_open(argv[1], &open, &ck, &err);
    if (!code) {
        const struct sl_problem *wrong = first_error(ck);
        if (wrong) {
            fprintf(stderr, "%s: %s: %s\n", wrong->code, wrong->where, wrong->message);
            sl_close(ck);
            return SL_INPUT;
        }
        const struct sl_plan_options want = { .format = SL_TO_HF, .dtype = SL_BF16, .hf_config = argv[3] };
        code = sl_plan_make(ck, argv[2], &want, &plan, &err);
    }
    if (!code)
        code = sl_convert_start(plan, NULL, &job, &err);
    if (!code)
        code = sl_job_wait(job, &err);
    if (code)
        fprintf(stderr, "%s: %s\n", err.where, err.message);
    else
        printf("written and verified: %s\n", argv[2]);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}
