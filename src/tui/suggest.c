/* suggest.c: what the fields of a conversion hold before anybody touched them:
 * a place beside the source, parallel sizes like the source's, going on with
 * what was begun.
 */
#include "tui/convert.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a place ------------------------------------------------------------------- */

static bool is_inner(const char *name)
{
    return sl_text_starts(name, "iter_") || sl_text_starts(name, "mp_rank_") || strcmp(name, "release") == 0;
}

/* Endings of files, and of targets that stand beside their source. */
static const char *const file_ends[] = { ".safetensors", ".pt", ".bin", ".pth" };
static const char *const target_ends[FORMATS] = { "-hf", "-bin", ".pt", "-megatron", "-dist" };

static void cut_ending(char *path, size_t after)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < sizeof file_ends / sizeof file_ends[0]; i++) {
        size_t end = strlen(file_ends[i]);
        if (len > after + end && sl_text_ends(path, file_ends[i])) {
            path[len - end] = '\0';
            return;
        }
    }
}

/* The path up to the folder that people name: /ckpts/minicpm/iter_0001000 gives /ckpts/minicpm. */
static void outer_path(char *path, size_t room)
{
    for (;;) {
        size_t len = strlen(path);
        while (len > 1 && path[len - 1] == '/')
            path[--len] = '\0';
        char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
        if (!is_inner(last))
            return;
        if (!slash || slash == path) {
            snprintf(path, room, "%s", slash ? "/" : ".");
            return;
        }
        *slash = '\0';
    }
}

void suggest_place(struct app *app, int number)
{
    char path[LONGEST_FIELD - 64], here[LONGEST_FIELD - 80], count[16] = "";
    const char *ending = target_ends[app->convert.choice[FIELD_FORMAT]];
    snprintf(path, sizeof path, "%s", app->options->path);
    outer_path(path, sizeof path);
    char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    if (!strcmp(last, ".") || !strcmp(last, "..") || !*last) {
        const char *name = !slash && !strcmp(path, ".") && getcwd(here, sizeof here) ? strrchr(here, '/') : NULL;
        snprintf(path, sizeof path, "../%.900s", name && name[1] ? name + 1 : "converted");
    }
    cut_ending(path, (size_t)(last - path));
    if (number > 1)
        snprintf(count, sizeof count, "-%d", number);
    const bool dot = ending[0] == '.';          /* name-2.pt, but name-hf-2 */
    snprintf(app->convert.text[FIELD_PLACE], LONGEST_FIELD, "%s%s%s", path, dot ? count : ending, dot ? ending : count);
}

/* ---- sizes ----------------------------------------------------------------------- */

static void size_text(struct app *app, enum field field, int32_t n)
{
    struct sl_size_choice sizes[MOST_SIZES];
    size_t count;
    if (app->convert.given[field] || n < 1)
        return;
    snprintf(app->convert.text[field], LONGEST_FIELD, "%d", n);
    count = field_sizes(app, field, sizes);
    for (size_t i = 0; i < count; i++)
        if (sizes[i].size == n && sizes[i].fits)
            return;
    snprintf(app->convert.text[field], LONGEST_FIELD, "1");
}

/* Sizes that the name of a model stands for, when it is a nominal one. */
static const struct sl_model_row *nominal(const struct sl_checkpoint_info *info)
{
    for (size_t i = 0; info->model && i < sl_model_row_count(); i++) {
        const struct sl_model_row *row = sl_model_row(i);
        if (row->tp > 0 && strcmp(row->name, info->model) == 0)
            return row;
    }
    return NULL;
}

static bool is_megatron(enum sl_container container)
{
    return container == SL_MEGATRON_TORCH || container == SL_MEGATRON_TORCH_DIST || container == SL_MEGATRON_ZARR;
}

/* Megatron goes to Hugging Face and the other way round; sizes begin as the source's. */
void convert_opened(struct app *app)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    struct convert_state *c = &app->convert;
    const struct sl_model_row *row = nominal(info);
    if (!c->given[FIELD_FORMAT])
        c->choice[FIELD_FORMAT] = is_megatron(info->container) ? 0 : 3;
    if (!c->given[FIELD_PLACE])
        suggest_place(app, c->place_number);
    const struct sl_parallel *p = &info->parallel;
    const bool cut = is_megatron(info->container) && info->container == SL_MEGATRON_TORCH;
    size_text(app, FIELD_TP, cut ? p->tp : row ? row->tp : 1);
    size_text(app, FIELD_PP, cut ? p->pp : row ? row->pp : 1);
    size_text(app, FIELD_VPP, cut ? p->vpp : 1);
    size_text(app, FIELD_EP, cut ? p->ep : 1);
    if (cut && p->etp != p->tp && info->moe)
        size_text(app, FIELD_ETP, p->etp);
    fields_show(app);
}

/* ---- what is there already ------------------------------------------------------------ */

/* An unfinished run of this very plan is gone on with; a place that nobody chose moves on
 * when something is there. */
void convert_place_known(struct app *app)
{
    struct convert_state *c = &app->convert;
    const struct sl_place *place = &app->plan.place;
    const bool same = *place->plan && !strcmp(place->plan, app->plan.info->hash);
    if (place->state == SL_PLACE_UNFINISHED && same && !c->given[FIELD_EXISTS]) {
        c->choice[FIELD_EXISTS] = EXISTS_RESUME;
        return;
    }
    if (!c->given[FIELD_EXISTS])
        c->choice[FIELD_EXISTS] = EXISTS_REFUSE;
    if (place->state == SL_PLACE_FREE || c->given[FIELD_PLACE] || c->place_number >= 99)
        return;
    suggest_place(app, ++c->place_number);
    plan_begin(app);
}

bool suggest_left(struct app *app)
{
    struct convert_state *c = &app->convert;
    const struct planned *p = &app->plan;
    if (!p->left_count)
        return false;
    const char *name = p->left[c->left_number++ % (int)p->left_count].name;
    char *text = c->text[FIELD_PLACE], *slash = strrchr(text, '/');
    size_t folder = slash ? (size_t)(slash - text) + 1 : 0;
    snprintf(text + folder, LONGEST_FIELD - folder, "%s", name);
    c->given[FIELD_PLACE] = true;
    return true;
}
