/* convert.c: the guided conversion: the table of fields, what options and what
 * command line they make, keys. Nothing is written before START. */
#include "tui/convert.h"
#include "base/dtype.h"
#include "base/error.h"
#include <stdio.h>
#include <string.h>

static const struct choice formats[] = {
    { "hf", "HF" }, { "hf-bin", "HF-bin" }, { "pt", "pt" }, { "megatron", "Megatron" }, { "torch_dist", "torch_dist" }, { 0 },
};
const enum sl_format format_codes[] = { SL_TO_HF, SL_TO_HF_BIN, SL_TO_PT, SL_TO_MEGATRON, SL_TO_TORCH_DIST };
static const struct choice dtypes[] = { { "keep", "keep" }, { "bf16", "bf16" }, { "fp16", "fp16" }, { "fp32", "fp32" }, { 0 } };
static const struct choice verifies[] = { { "reread", "reread" }, { "checksum", "checksum" }, { "none", "none" }, { 0 } };
static const struct choice existings[EXISTS_COUNT + 1] = { { "", "refuse" }, { "--resume", "resume" }, { "--force", "replace" }, { 0 } };
static const struct choice names[] = { { "te", "te" }, { "local", "local" }, { 0 } };
static const struct choice experts[] = { { "te-grouped", "te-grouped" }, { "local", "local" }, { 0 } };
static const struct choice paddings[] = { { "zero", "zero" }, { "last", "last" }, { 0 } };

const struct field_row field_rows[FIELD_COUNT] = {
    [FIELD_SOURCE] = { .label = "source", .kind = FIELD_INFO, .when = FOR_ALL, .help = "What is read. It is never written, not even its times." },
    [FIELD_FORMAT] = { .label = "target", .kind = FIELD_CHOICE, .effect = EFFECT_PLAN, .when = FOR_ALL, .choices = formats, .option = "--to",
        .help = "HF: Hugging Face safetensors. pt: one torch file. Megatron: mp_rank folders. torch_dist: Megatron's distributed checkpoint." },
    [FIELD_TP] = { .label = "tp", .kind = FIELD_SIZE, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--tp", .standard = "1",
        .help = "Tensor parallel ranks: heads, query groups and MLP are cut over them. Left and Right take the next size that fits." },
    [FIELD_PP] = { .label = "pp", .kind = FIELD_SIZE, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--pp", .standard = "1",
        .help = "Pipeline stages: layers are dealt out to them, evenly or as layers per stage says." },
    [FIELD_VPP] = { .label = "vpp", .kind = FIELD_SIZE, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--vpp", .standard = "1",
        .help = "Virtual stages of each pipeline rank: model0, model1, .. in each file." },
    [FIELD_EP] = { .label = "ep", .kind = FIELD_SIZE, .effect = EFFECT_PLAN, .when = FOR_RANKS | MOE, .option = "--ep", .standard = "1",
        .help = "Expert parallel ranks: experts are dealt out to them whole." },
    [FIELD_ETP] = { .label = "etp", .kind = FIELD_SIZE, .effect = EFFECT_PLAN, .when = FOR_RANKS | MOE, .option = "--etp", .standard = "", .empty = "as tp",
        .help = "Tensor parallel ranks of each expert. Empty: as tp, Megatron's rule." },
    [FIELD_PP_LAYOUT] = { .label = "layers/stage", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--pp-layout", .standard = "", .empty = "even",
        .help = "How many layers each stage has, e.g. 7,8,8,9, where they do not divide. Empty: evenly." },
    [FIELD_PLACE] = { .label = "place", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_ALL, .standard = "",
        .help = "The new folder or file. It gets its name only when it is whole and verified. Space: unfinished runs beside it." },
    [FIELD_EXISTS] = { .label = "if it exists", .kind = FIELD_CHOICE, .when = FOR_ALL, .choices = existings,
        .help = "refuse: nothing is overwritten. resume: go on with a run that was stopped. replace: the old one goes last." },
    [FIELD_DTYPE] = { .label = "dtype", .kind = FIELD_CHOICE, .effect = EFFECT_PLAN, .when = FOR_ALL, .choices = dtypes, .option = "--dtype",
        .help = "keep: the bytes stay as they are, no rounding anywhere." },
    [FIELD_SHARD_SIZE] = { .label = "file size", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_HF | FOR_BIN, .option = "--max-shard-size", .standard = "5GB",
        .help = "No file gets larger than this, e.g. 5GB or 500MB." },
    [FIELD_NAMES] = { .label = "names", .kind = FIELD_CHOICE, .effect = EFFECT_PLAN, .when = FOR_RANKS, .choices = names, .option = "--names",
        .help = "te: as Transformer Engine layers save, norms in the linear that follows. local: as Megatron's own layers." },
    [FIELD_EXPERTS] = { .label = "experts", .kind = FIELD_CHOICE, .effect = EFFECT_PLAN, .when = FOR_RANKS | MOE, .choices = experts, .option = "--experts",
        .help = "te-grouped: linear_fc1.weightN of TEGroupedMLP. local: local_experts.N of SequentialMLP." },
    [FIELD_PAD] = { .label = "pad rows", .kind = FIELD_CHOICE, .effect = EFFECT_PLAN, .when = FOR_RANKS, .choices = paddings, .option = "--pad-with",
        .help = "What the rows hold that pad the vocabulary: zeros, or the last row again." },
    [FIELD_DIVISOR] = { .label = "vocab multiple", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--make-vocab-size-divisible-by", .standard = "",
        .empty = "the source's, else 128", .help = "The vocabulary is padded to a multiple of this times tp, as Megatron's argument of that name says." },
    [FIELD_ITERATION] = { .label = "iteration", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_RANKS, .option = "--iteration", .standard = "",
        .empty = "the source's, else release", .help = "The folder inside the target: a number gives iter_0001000, the word release gives release." },
    [FIELD_DIST_FILES] = { .label = "files", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_DIST, .option = "--dist-files", .standard = "", .empty = "by size",
        .help = "How many .distcp files are written." },
    [FIELD_VERIFY] = { .label = "verify", .kind = FIELD_CHOICE, .when = FOR_ALL, .choices = verifies, .option = "--verify",
        .help = "reread: every byte is read back and compared with the source. checksum: of what was written." },
    [FIELD_MEMORY] = { .label = "memory", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_ALL, .option = "--memory", .standard = "256MB",
        .help = "Buffers in all, whatever the model's size." },
    [FIELD_THREADS] = { .label = "workers", .kind = FIELD_TEXT, .effect = EFFECT_PLAN, .when = FOR_ALL, .option = "--threads", .standard = "", .empty = "one for each processor",
        .help = "Empty: one for each processor." },
    [FIELD_MODEL] = { .label = "model", .kind = FIELD_TEXT, .effect = EFFECT_REOPEN, .when = FOR_ALL, .option = "--model", .standard = "", .empty = "-",
        .help = "A preset or family, where the checkpoint does not tell: shardlens models lists them." },
    [FIELD_SET] = { .label = "facts", .kind = FIELD_TEXT, .effect = EFFECT_REOPEN, .when = FOR_ALL, .option = "--set", .standard = "", .empty = "-",
        .help = "Facts that the checkpoint does not tell, e.g. kv_channels=64 num_query_groups=8" },
    [FIELD_HF_CONFIG] = { .label = "hf-config", .kind = FIELD_TEXT, .effect = EFFECT_REOPEN, .when = FOR_ALL, .option = "--hf-config", .standard = "", .empty = "-",
        .help = "A folder with config.json and tokenizer files to carry along; its vocab_size trims the padding." },
    [FIELD_START] = { .label = "START", .kind = FIELD_BUTTON, .when = FOR_ALL, .help = "Begins to write. Until then nothing was written anywhere." },
};

/* ---- the fields that matter ------------------------------------------------------------- */

static bool is_shown(const struct app *app, int f)
{
    const unsigned when = field_rows[f].when;
    const bool experts_there = !app->opened || app->opened->info->moe;
    return (when & 1u << app->convert.choice[FIELD_FORMAT]) && (!(when & MOE) || experts_there);
}

enum field field_selected(const struct app *app)
{
    return app->convert.shown[app->convert.list.selected];
}

void fields_show(struct app *app)
{
    struct convert_state *c = &app->convert;
    const enum field selected = c->list.count ? field_selected(app) : FIELD_PLACE;
    size_t count = 0, at = 0;
    for (int f = 0; f < FIELD_COUNT; f++) {
        if (f <= (int)selected)
            at = count;
        if (is_shown(app, f))
            c->shown[count++] = (enum field)f;
    }
    c->list.selected = at;
    list_count(&c->list, count);
}

enum sl_axis field_axis(enum field field)
{
    static const enum field axes[SL_AXIS_COUNT] = { FIELD_TP, FIELD_PP, FIELD_VPP, FIELD_EP, FIELD_ETP };
    for (int a = 0; a < SL_AXIS_COUNT; a++)
        if (axes[a] == field)
            return (enum sl_axis)a;
    return SL_AXIS_COUNT;
}

int32_t field_size(const struct app *app, enum field field)
{
    int64_t n = 0;
    return sl_text_parse_i64(app->convert.text[field], &n) && n > 0 && n <= INT32_MAX ? (int32_t)n : 0;
}

static void sizes_fill(const struct app *app, struct sl_plan_options *o)
{
    o->tp = field_size(app, FIELD_TP);
    o->pp = field_size(app, FIELD_PP);
    o->vpp = field_size(app, FIELD_VPP);
    o->ep = field_size(app, FIELD_EP);
    o->etp = field_size(app, FIELD_ETP);
    o->pp_layout = *app->convert.text[FIELD_PP_LAYOUT] ? app->convert.text[FIELD_PP_LAYOUT] : NULL;
}

size_t field_sizes(const struct app *app, enum field field, struct sl_size_choice *out)
{
    struct sl_plan_options o = { 0 };
    sizes_fill(app, &o);
    return app->opened ? sl_plan_sizes(app->opened->ck, &o, field_axis(field), out, MOST_SIZES) : 0;
}

void convert_begin(struct app *app)
{
    struct convert_state *c = &app->convert;
    size_t used = 0;
    c->place_number = 1;
    for (int f = 0; f < FIELD_COUNT; f++)
        snprintf(c->text[f], LONGEST_FIELD, "%s", field_rows[f].standard ? field_rows[f].standard : "");
    if (app->open.model)
        snprintf(c->text[FIELD_MODEL], LONGEST_FIELD, "%s", app->open.model);
    if (app->open.hf_config)
        snprintf(c->text[FIELD_HF_CONFIG], LONGEST_FIELD, "%s", app->open.hf_config);
    for (size_t i = 0; i < app->open.set_count && used < LONGEST_FIELD; i++)
        used += (size_t)snprintf(c->text[FIELD_SET] + used, LONGEST_FIELD - used, "%s%s", i ? " " : "", app->open.set[i]);
    suggest_place(app, 1);
    fields_show(app);
}

/* ---- options from fields --------------------------------------------------------------------- */

static void open_options(struct app *app)
{
    struct convert_state *c = &app->convert;
    app->open.model = *c->text[FIELD_MODEL] ? c->text[FIELD_MODEL] : NULL;
    app->open.hf_config = *c->text[FIELD_HF_CONFIG] ? c->text[FIELD_HF_CONFIG] : NULL;
    snprintf(app->set_text, sizeof app->set_text, "%s", c->text[FIELD_SET]);
    app->open.set_count = 0;
    for (char *at = strtok(app->set_text, " "); at && app->open.set_count < 64; at = strtok(NULL, " "))
        app->sets[app->open.set_count++] = at;
    app->open.set = app->sets;
}

static int size_field(const struct app *app, enum field field, uint64_t *out, struct sl_error *err)
{
    const char *text = app->convert.text[field];
    *out = 0;
    if (*text && !sl_text_parse_size(text, out))
        return sl_fail(err, SL_USAGE, field_rows[field].label, "%s is no size; write 5GB, 500MB or 64MiB", text);
    return SL_OK;
}

/* A number in a field, 0 when it is empty. */
static int number_field(const struct app *app, enum field field, int64_t most, int64_t *out, struct sl_error *err)
{
    const char *text = app->convert.text[field];
    *out = 0;
    if (*text && (!sl_text_parse_i64(text, out) || *out < 1 || *out > most))
        return sl_fail(err, SL_USAGE, field_rows[field].label, "%s is no number from 1 to %lld", text, (long long)most);
    return SL_OK;
}

#define MOST_RANKS 4096
static int rank_options(const struct app *app, struct sl_plan_options *o, struct sl_error *err)
{
    const struct convert_state *c = &app->convert;
    int64_t n = 0;
    int code = SL_OK;
    for (int f = FIELD_TP; f <= FIELD_ETP && !code; f++)
        code = number_field(app, (enum field)f, MOST_RANKS, &n, err);
    if (!code)
        code = number_field(app, FIELD_DIVISOR, 1 << 20, &n, err);
    o->vocab_divisor = (int32_t)n;
    if (!code && o->format == SL_TO_TORCH_DIST)
        code = number_field(app, FIELD_DIST_FILES, 100000, &n, err), o->dist_files = (int32_t)n;
    if (code)
        return code;
    sizes_fill(app, o);
    if (!is_shown(app, FIELD_EP))
        o->ep = o->etp = 0;
    o->names = names[c->choice[FIELD_NAMES]].word;
    o->experts = experts[c->choice[FIELD_EXPERTS]].word;
    o->pad_last = c->choice[FIELD_PAD] == 1;
    const char *iteration = c->text[FIELD_ITERATION];
    o->release = strcmp(iteration, "release") == 0;
    if (*iteration && !o->release && (!sl_text_parse_i64(iteration, &o->iteration) || o->iteration < 0))
        return sl_fail(err, SL_USAGE, field_rows[FIELD_ITERATION].label, "%s is no number and not the word release", iteration);
    return SL_OK;
}

int convert_plan_options(const struct app *app, struct sl_plan_options *o, struct sl_error *err)
{
    const struct convert_state *c = &app->convert;
    int64_t threads = 0;
    int code = number_field(app, FIELD_THREADS, SL_MAX_WORKERS, &threads, err);
    *o = (struct sl_plan_options){
        .format = format_codes[c->choice[FIELD_FORMAT]], .iteration = -1, .threads = (uint32_t)threads,
        .dtype = c->choice[FIELD_DTYPE] ? sl_dtype_from_name(dtypes[c->choice[FIELD_DTYPE]].word) : SL_DTYPE_UNKNOWN,
        .hf_config = *c->text[FIELD_HF_CONFIG] ? c->text[FIELD_HF_CONFIG] : NULL,
    };
    if (!code && (o->format == SL_TO_MEGATRON || o->format == SL_TO_TORCH_DIST))
        code = rank_options(app, o, err);
    if (!code && is_shown(app, FIELD_SHARD_SIZE))
        code = size_field(app, FIELD_SHARD_SIZE, &o->max_shard_size, err);
    return code ? code : size_field(app, FIELD_MEMORY, &o->memory, err);
}

void convert_options(const struct app *app, struct sl_run_options *o)
{
    const struct convert_state *c = &app->convert;
    int64_t threads = 0;
    static const enum sl_verify_mode modes[] = { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
    *o = (struct sl_run_options){ .verify = modes[c->choice[FIELD_VERIFY]], .force = c->choice[FIELD_EXISTS] == EXISTS_REPLACE,
                                  .resume = c->choice[FIELD_EXISTS] == EXISTS_RESUME, .tell = true };
    sl_text_parse_size(c->text[FIELD_MEMORY], &o->memory);
    if (sl_text_parse_i64(c->text[FIELD_THREADS], &threads) && threads > 0)
        o->threads = (uint32_t)threads;
}

/* One option of a field as it stands; facts are one --set each. */
static void option_words(const struct app *app, int f, struct sl_buf *out)
{
    char text[LONGEST_FIELD];
    snprintf(text, sizeof text, "%s", app->convert.text[f]);
    for (char *at = f == FIELD_SET ? strtok(text, " ") : text; at; at = f == FIELD_SET ? strtok(NULL, " ") : NULL) {
        sl_buf_printf(out, " %s ", field_rows[f].option);
        shell_word(out, at);
    }
}

void open_command(const struct app *app, struct sl_buf *out)
{
    for (int f = 0; f < FIELD_COUNT; f++)
        if (field_rows[f].effect == EFFECT_REOPEN && *app->convert.text[f])
            option_words(app, f, out);
}

/* "SRC DST --to hf ..": what is not standard. */
void convert_command(const struct app *app, struct sl_buf *out)
{
    const struct convert_state *c = &app->convert;
    bool converts = app->screen == SCREEN_CONVERT || app->screen == SCREEN_RUN || app->screen == SCREEN_REPORT;
    shell_word(out, app->options->path);
    if (converts) {
        sl_buf_char(out, ' ');
        shell_word(out, c->text[FIELD_PLACE]);
    }
    for (int f = 0; f < FIELD_COUNT; f++) {
        const struct field_row *row = &field_rows[f];
        bool plans = row->effect != EFFECT_NONE;
        if (!row->option || (!plans && !converts) || !is_shown(app, f))
            continue;
        if (row->kind == FIELD_CHOICE && (f == FIELD_FORMAT || c->choice[f])) {
            sl_buf_printf(out, " %s %s", row->option, row->choices[c->choice[f]].word);
        } else if ((row->kind == FIELD_TEXT || row->kind == FIELD_SIZE) && *c->text[f] && strcmp(c->text[f], row->standard)) {
            option_words(app, f, out);
        }
    }
    if (converts && c->choice[FIELD_EXISTS])
        sl_buf_printf(out, " %s", existings[c->choice[FIELD_EXISTS]].word);
}

void convert_plan(struct app *app)
{
    if (!app->opened)
        return;
    if (run_going(app)) {
        app_say(app, STYLE_WARN, "a conversion runs; the plan is made anew when it has ended");
        app->plan_state = PLAN_NONE;
        return;
    }
    plan_begin(app);
}

/* ---- may it start? ------------------------------------------------------------------------------- */

bool space_short(const struct app *app)
{
    const uint64_t room = app->plan.place.free_bytes;
    return app->plan.info && room && room < app->plan.info->write_bytes && app->convert.choice[FIELD_EXISTS] != EXISTS_RESUME;
}

bool memory_short(const struct app *app)
{
    return app->plan.info && app->plan.memory_available && app->plan.memory_available < app->plan.info->memory_bytes;
}

/* What is at the place forbids it; false: nothing does. */
static bool place_blocks(const struct app *app, char *out, size_t room)
{
    const struct sl_place *p = &app->plan.place;
    const int choice = app->convert.choice[FIELD_EXISTS];
    const bool other = *p->plan && app->plan.info && strcmp(p->plan, app->plan.info->hash);
    if (p->state == SL_PLACE_WRITING)
        snprintf(out, room, "process %lld on %s writes there now: shardlens attach shows it", (long long)p->pid, p->host);
    else if (p->state == SL_PLACE_UNFINISHED && choice == EXISTS_RESUME && other)
        snprintf(out, room, "the unfinished run there has another plan: choose what it was begun with, or replace");
    else if (p->state == SL_PLACE_UNFINISHED && choice == EXISTS_REFUSE)
        snprintf(out, room, "an unfinished run is there: choose resume or replace, or another place");
    else if (p->exists && choice == EXISTS_REFUSE)
        snprintf(out, room, "the place exists: choose another, or what to do if it exists");
    else
        return false;
    return true;
}

const char *convert_blocked(struct app *app, char *out, size_t room)
{
    const struct convert_state *c = &app->convert;
    char a[32], b[32];
    if (app->load == LOAD_BUSY)
        snprintf(out, room, "the headers are being read");
    else if (!app->opened)
        snprintf(out, room, "%s%s%s", app->open_error.where, *app->open_error.where ? ": " : "", app->open_error.message);
    else if (run_going(app))
        snprintf(out, room, "a conversion runs already: press 6");
    else if (app->plan_state == PLAN_BUSY || app->plan_state == PLAN_NONE)
        snprintf(out, room, "the plan is being made");
    else if (app->plan_state == PLAN_FAILED)
        snprintf(out, room, "%s%s%s", app->plan_error.where, *app->plan_error.where ? ": " : "", app->plan_error.message);
    else if (!*c->text[FIELD_PLACE])
        snprintf(out, room, "no place is chosen");
    else if (place_blocks(app, out, room))
        return out;
    else if (space_short(app))
        snprintf(out, room, "%s are needed, %s are free at the place", sl_text_bytes(app->plan.info->write_bytes, a, sizeof a),
                 sl_text_bytes(app->plan.place.free_bytes, b, sizeof b));
    else
        return NULL;
    return out;
}

static void start_answer(struct app *app, const char *text, bool accepted)
{
    (void)text;
    if (accepted)
        run_begin(app);
    else
        app_say(app, STYLE_TEXT, "nothing was started, nothing was written");
}

void act_start(struct app *app)
{
    char why[1600];
    if (convert_blocked(app, why, sizeof why))
        app_say(app, STYLE_BAD, "START is off: %s", why);
    else if (app->plan.place.exists && app->convert.choice[FIELD_EXISTS] == EXISTS_REPLACE)
        prompt_ask(app, "replace what is at the place? it is deleted when the new one is whole", start_answer);
    else
        run_begin(app);
}

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static void effect(struct app *app, int field)
{
    if (field_rows[field].effect == EFFECT_REOPEN) {
        if (run_going(app)) {
            app_say(app, STYLE_WARN, "not while a conversion reads the source");
            return;
        }
        open_options(app);
        app_reopen(app);
    } else if (field_rows[field].effect == EFFECT_PLAN) {
        convert_plan(app);
    }
}

/* The next size that fits, upwards or downwards. */
static void step_size(struct app *app, enum field field, int step)
{
    struct sl_size_choice sizes[MOST_SIZES];
    const int32_t now = field_size(app, field) > 0 ? field_size(app, field) : 1;
    const size_t count = field_sizes(app, field, sizes);
    int32_t best = now;
    for (size_t i = 0; i < count; i++) {
        const int32_t n = sizes[i].size;
        if (sizes[i].fits && (step > 0 ? n > now && (best == now || n < best) : n < now && (best == now || n > best)))
            best = n;
    }
    if (best == now) {
        const char *why = "";
        for (size_t i = count; i-- > 0;)
            why = sizes[i].size > now && step > 0 ? sizes[i].why : why;
        app_say(app, STYLE_DIM, "no %s size fits%s%s", step > 0 ? "larger" : "smaller", *why ? ": " : "", why);
        return;
    }
    snprintf(app->convert.text[field], LONGEST_FIELD, "%d", best);
    app->convert.given[field] = true;
    effect(app, (int)field);
}

static void step_choice(struct app *app, int step)
{
    int f = (int)field_selected(app), count = 0;
    if (field_rows[f].kind == FIELD_SIZE) {
        step_size(app, (enum field)f, step);
        return;
    }
    if (f == FIELD_PLACE) {
        if (suggest_left(app))
            effect(app, f);
        else
            app_say(app, STYLE_DIM, "no unfinished run lies beside this place; Enter edits it");
        return;
    }
    if (field_rows[f].kind != FIELD_CHOICE) {
        app_say(app, STYLE_DIM, field_rows[f].kind == FIELD_TEXT ? "Enter edits this field" : "this field has no choices");
        return;
    }
    while (field_rows[f].choices[count].title)
        count++;
    app->convert.choice[f] = (app->convert.choice[f] + step + count) % count;
    app->convert.given[f] = true;
    if (f == FIELD_FORMAT && !app->convert.given[FIELD_PLACE])
        suggest_place(app, app->convert.place_number = 1);
    fields_show(app);
    effect(app, f);
}

static void edit_done(struct app *app, const char *text, bool accepted)
{
    int f = (int)field_selected(app);
    if (!accepted || strcmp(app->convert.text[f], text) == 0)
        return;
    snprintf(app->convert.text[f], LONGEST_FIELD, "%s", text);
    app->convert.given[f] = true;
    effect(app, f);
}

void act_edit(struct app *app)
{
    if (app->screen == SCREEN_DIFF) {
        diff_choose(app);
        return;
    }
    int f = (int)field_selected(app);
    if (field_rows[f].kind == FIELD_TEXT || field_rows[f].kind == FIELD_SIZE)
        prompt_line(app, field_rows[f].label, app->convert.text[f], NULL, edit_done);
    else
        app_say(app, STYLE_DIM, field_rows[f].kind == FIELD_CHOICE ? "Space takes the next choice" : "there is nothing to edit");
}

static void enter(struct app *app)
{
    int f = (int)field_selected(app);
    if (field_rows[f].kind == FIELD_BUTTON)
        act_start(app);
    else if (field_rows[f].kind == FIELD_CHOICE)
        step_choice(app, 1);
    else
        act_edit(app);
}

static void space(struct app *app)
{
    int f = (int)field_selected(app);
    if (field_rows[f].kind == FIELD_BUTTON)
        act_start(app);
    else
        step_choice(app, 1);
}

static void move(struct app *app, int rows, int cols, bool page)
{
    if (cols)
        step_choice(app, cols);
    else
        list_move(&app->convert.list, rows * (page ? 5 : 1));
}
static void end(struct app *app, bool last) { list_move(&app->convert.list, last ? FIELD_COUNT : -FIELD_COUNT); }
static void tab(struct app *app, int step) { list_move(&app->convert.list, step); }

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "convert ");
    convert_command(app, out);
}

static void opened(struct app *app)
{
    if (app->opened && app->plan_state == PLAN_NONE && !run_going(app))
        convert_plan(app);
    trial_begin(app);
}

const struct screen_ops convert_ops = { .draw = convert_draw, .move = move, .end = end, .enter = enter, .space = space, .tab = tab, .command = command,
                                        .opened = opened };
