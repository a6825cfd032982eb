/* convert.c: the guided conversion: fields, checks with reasons, START.
 * Nothing is written before START. */
#include "tui/app.h"
#include "base/dtype.h"
#include "base/error.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum field_kind { FIELD_INFO, FIELD_TEXT, FIELD_CHOICE, FIELD_BUTTON };
enum field_effect { EFFECT_NONE, EFFECT_PLAN, EFFECT_REOPEN };
struct choice { const char *word, *title; };    /* word: as on the command line */

static const struct choice formats[] = {
    { "hf", "HF" }, { "hf-bin", "HF-bin" }, { "pt", "pt" }, { "megatron", "Megatron" }, { "torch_dist", "torch_dist" }, { 0 },
};
static const enum sl_format format_codes[] = { SL_TO_HF, SL_TO_HF_BIN, SL_TO_PT, SL_TO_MEGATRON, SL_TO_TORCH_DIST };
static const struct choice dtypes[] = { { "keep", "keep" }, { "bf16", "bf16" }, { "fp16", "fp16" }, { "fp32", "fp32" }, { 0 } };
static const struct choice verifies[] = { { "reread", "reread" }, { "checksum", "checksum" }, { "none", "none" }, { 0 } };
static const struct choice existings[EXISTS_COUNT + 1] = { { "", "refuse" }, { "--resume", "resume" }, { "--force", "replace" }, { 0 } };

struct field_row {
    const char *label;
    enum field_kind kind;
    enum field_effect effect;
    const struct choice *choices;
    const char *option;                  /* on the command line, NULL */
    const char *standard;                /* the text a field begins with, left out of the command line */
    const char *help;
};
static const struct field_row fields[FIELD_COUNT] = {
    [FIELD_SOURCE] = { "source", FIELD_INFO, EFFECT_NONE, NULL, NULL, "", "What is read. It is never written, not even its times." },
    [FIELD_MODEL] = { "model", FIELD_TEXT, EFFECT_REOPEN, NULL, "--model", "",
                      "A preset or family, where the checkpoint does not tell: shardlens models lists them." },
    [FIELD_SET] = { "facts", FIELD_TEXT, EFFECT_REOPEN, NULL, "--set", "",
                    "Facts that the checkpoint does not tell, e.g. kv_channels=64 num_query_groups=8" },
    [FIELD_HF_CONFIG] = { "hf-config", FIELD_TEXT, EFFECT_REOPEN, NULL, "--hf-config", "",
                          "A folder with config.json and tokenizer files to carry along; its vocab_size trims the padding." },
    [FIELD_FORMAT] = { "target", FIELD_CHOICE, EFFECT_PLAN, formats, "--to", "", "HF: Hugging Face safetensors. What cannot be made of this source says why above." },
    [FIELD_DTYPE] = { "dtype", FIELD_CHOICE, EFFECT_PLAN, dtypes, "--dtype", "", "keep: the bytes stay as they are, no rounding anywhere." },
    [FIELD_PLACE] = { "place", FIELD_TEXT, EFFECT_PLAN, NULL, NULL, "", "The new folder. It gets its name only when it is whole and verified." },
    [FIELD_EXISTS] = { "if it exists", FIELD_CHOICE, EFFECT_NONE, existings, NULL, "",
                       "refuse: nothing is overwritten. resume: go on with a run that was stopped. replace: the old one goes last." },
    [FIELD_SHARD_SIZE] = { "file size", FIELD_TEXT, EFFECT_PLAN, NULL, "--max-shard-size", "5GB", "No file gets larger than this, e.g. 5GB or 500MB." },
    [FIELD_VERIFY] = { "verify", FIELD_CHOICE, EFFECT_NONE, verifies, "--verify", "",
                       "reread: every byte is read back and compared with the source. checksum: of what was written." },
    [FIELD_MEMORY] = { "memory", FIELD_TEXT, EFFECT_PLAN, NULL, "--memory", "256MB", "Buffers in all, whatever the model's size." },
    [FIELD_THREADS] = { "workers", FIELD_TEXT, EFFECT_PLAN, NULL, "--threads", "", "Empty: one for each processor." },
    [FIELD_START] = { "START", FIELD_BUTTON, EFFECT_NONE, NULL, NULL, "", "Begins to write. Until then nothing was written anywhere." },
};

/* ---- the fields at first -------------------------------------------------------------- */

static bool is_inner(const char *name)
{
    return sl_text_starts(name, "iter_") || sl_text_starts(name, "mp_rank_") || strcmp(name, "release") == 0;
}

/* A sibling of the checkpoint: /ckpts/minicpm/iter_0001000 gives /ckpts/minicpm-hf. */
static void default_place(struct app *app, int number)
{
    char path[LONGEST_FIELD - 16], here[LONGEST_FIELD - 32];
    snprintf(path, sizeof path, "%s", app->options->path);
    for (;;) {
        size_t len = strlen(path);
        while (len > 1 && path[len - 1] == '/')
            path[--len] = '\0';
        char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
        if (!is_inner(last))
            break;
        if (!slash || slash == path) {
            snprintf(path, sizeof path, "%s", slash ? "/" : ".");
            break;
        }
        *slash = '\0';
    }
    char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    if (!strcmp(last, ".") || !strcmp(last, "..") || !*last) {
        const char *name = !slash && !strcmp(path, ".") && getcwd(here, sizeof here) ? strrchr(here, '/') : NULL;
        snprintf(path, sizeof path, "../%.900s", name && name[1] ? name + 1 : "converted");
    }
    if (number > 1)
        snprintf(app->convert.text[FIELD_PLACE], LONGEST_FIELD, "%s-hf-%d", path, number);
    else
        snprintf(app->convert.text[FIELD_PLACE], LONGEST_FIELD, "%s-hf", path);
}

void convert_begin(struct app *app)
{
    struct convert_state *c = &app->convert;
    size_t used = 0;
    c->list.count = FIELD_COUNT;
    c->list.selected = FIELD_PLACE;
    c->place_number = 1;
    for (int f = 0; f < FIELD_COUNT; f++)
        snprintf(c->text[f], LONGEST_FIELD, "%s", fields[f].standard);
    if (app->open.model)
        snprintf(c->text[FIELD_MODEL], LONGEST_FIELD, "%s", app->open.model);
    if (app->open.hf_config)
        snprintf(c->text[FIELD_HF_CONFIG], LONGEST_FIELD, "%s", app->open.hf_config);
    for (size_t i = 0; i < app->open.set_count && used < LONGEST_FIELD; i++)
        used += (size_t)snprintf(c->text[FIELD_SET] + used, LONGEST_FIELD - used, "%s%s", i ? " " : "", app->open.set[i]);
    default_place(app, 1);
}

/* A place that nobody chose moves on when something is there already. */
bool convert_place_taken(struct app *app)
{
    struct convert_state *c = &app->convert;
    if (c->place_given || c->place_number >= 99)
        return false;
    default_place(app, ++c->place_number);
    plan_begin(app);
    return true;
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
        return sl_fail(err, SL_USAGE, fields[field].label, "%s is no size; write 5GB, 500MB or 64MiB", text);
    return SL_OK;
}

int convert_plan_options(const struct app *app, struct sl_plan_options *o, struct sl_error *err)
{
    const struct convert_state *c = &app->convert;
    int64_t threads = 0;
    if (*c->text[FIELD_THREADS] && (!sl_text_parse_i64(c->text[FIELD_THREADS], &threads) || threads < 1 || threads > SL_MAX_WORKERS))
        return sl_fail(err, SL_USAGE, fields[FIELD_THREADS].label, "%s is no number from 1 to %d", c->text[FIELD_THREADS], SL_MAX_WORKERS);
    *o = (struct sl_plan_options){
        .format = format_codes[c->choice[FIELD_FORMAT]], .iteration = -1, .threads = (uint32_t)threads,
        .dtype = c->choice[FIELD_DTYPE] ? sl_dtype_from_name(dtypes[c->choice[FIELD_DTYPE]].word) : SL_DTYPE_UNKNOWN,
        .hf_config = *c->text[FIELD_HF_CONFIG] ? c->text[FIELD_HF_CONFIG] : NULL,
    };
    int code = size_field(app, FIELD_SHARD_SIZE, &o->max_shard_size, err);
    return code ? code : size_field(app, FIELD_MEMORY, &o->memory, err);
}

void convert_options(const struct app *app, struct sl_run_options *o)
{
    const struct convert_state *c = &app->convert;
    int64_t threads = 0;
    static const enum sl_verify_mode modes[] = { SL_VERIFY_REREAD, SL_VERIFY_CHECKSUM, SL_VERIFY_NONE };
    *o = (struct sl_run_options){ .verify = modes[c->choice[FIELD_VERIFY]], .force = c->choice[FIELD_EXISTS] == EXISTS_REPLACE,
                                  .resume = c->choice[FIELD_EXISTS] == EXISTS_RESUME };
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
        sl_buf_printf(out, " %s ", fields[f].option);
        shell_word(out, at);
    }
}

void open_command(const struct app *app, struct sl_buf *out)
{
    for (int f = 0; f < FIELD_COUNT; f++)
        if (fields[f].effect == EFFECT_REOPEN && *app->convert.text[f])
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
        const struct field_row *row = &fields[f];
        bool plans = row->effect != EFFECT_NONE;
        if (!row->option || (!plans && !converts))
            continue;
        if (row->kind == FIELD_CHOICE && (f == FIELD_FORMAT || c->choice[f])) {
            sl_buf_printf(out, " %s %s", row->option, row->choices[c->choice[f]].word);
        } else if (row->kind == FIELD_TEXT && strcmp(c->text[f], row->standard)) {
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

static bool space_short(const struct app *app)
{
    return app->plan.info && app->plan.info->free_bytes && app->plan.info->free_bytes < app->plan.info->write_bytes;
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
    else if (app->plan.exists && c->choice[FIELD_EXISTS] == EXISTS_REFUSE)
        snprintf(out, room, "the place exists: choose another, or what to do if it exists");
    else if (space_short(app))
        snprintf(out, room, "%s are needed, %s are free at the place", sl_text_bytes(app->plan.info->write_bytes, a, sizeof a),
                 sl_text_bytes(app->plan.info->free_bytes, b, sizeof b));
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
    else if (app->plan.exists && app->convert.choice[FIELD_EXISTS] == EXISTS_REPLACE)
        prompt_ask(app, "replace what is at the place? it is deleted when the new one is whole", start_answer);
    else
        run_begin(app);
}

/* ---- drawing ------------------------------------------------------------------------------------------- */

static void draw_choices(struct pane p, int row, int col, const struct field_row *f, int chosen, bool here)
{
    for (int i = 0; f->choices[i].title; i++) {
        col += pane_text(p, row, col, i == chosen ? (here ? STYLE_SELECTED : STYLE_HEAD) : STYLE_DIM, i == chosen ? "(x) " : "( ) ");
        col += pane_text(p, row, col, i == chosen ? STYLE_TEXT : STYLE_DIM, f->choices[i].title) + 2;
    }
}

static void draw_source(struct app *app, struct pane p, int row, int col)
{
    const struct sl_checkpoint_info *info = app->opened ? app->opened->info : NULL;
    char text[160] = "";
    if (info)
        snprintf(text, sizeof text, "%s, %s%s", sl_container_name(info->container), info->model ? info->model : info->family_title ? info->family_title : "family not known",
                 info->rank_count ? "" : "");
    if (info && info->rank_count)
        snprintf(text + strlen(text), sizeof text - strlen(text), ", TP%d x PP%d", info->parallel.tp, info->parallel.pp);
    pane_name(p, row, col, p.cols - col, STYLE_TEXT, text);
}

static void draw_field(struct app *app, struct pane p, int row, int f)
{
    const struct convert_state *c = &app->convert;
    const struct field_row *r = &fields[f];
    bool here = c->list.selected == (size_t)f;
    char why[1600];
    int col = 16;
    if (here) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    if (r->kind == FIELD_BUTTON) {
        bool on = !convert_blocked(app, why, sizeof why);
        pane_printf(p, row, 2, on ? STYLE_GOOD : STYLE_DIM, on ? "[ START ]" : "[ START is off ]");
        return;
    }
    pane_text(p, row, 2, here ? STYLE_SELECTED : STYLE_HEAD, r->label);
    if (r->kind == FIELD_CHOICE)
        draw_choices(p, row, col, r, c->choice[f], here);
    else if (r->kind == FIELD_INFO)
        draw_source(app, p, row, col);
    else if (*c->text[f])
        pane_name(p, row, col, p.cols - col, STYLE_TEXT, c->text[f]);
    else
        pane_text(p, row, col, STYLE_DIM, f == FIELD_THREADS ? "one for each processor" : "-");
}

struct check { char sign; char text[256]; };
#define CHECKS 6
static void check_set(struct check *c, char sign, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void check_set(struct check *c, char sign, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    c->sign = sign;
    vsnprintf(c->text, sizeof c->text, format, args);
    va_end(args);
}

static int checks_of(struct app *app, struct check *c)
{
    const struct planned *p = &app->plan;
    char a[32], b[32], d[32];
    int n = 0;
    size_t faults = finding_tally(app, SL_ERROR), warnings = finding_tally(app, SL_WARNING);
    if (app->load == LOAD_FAILED) {
        check_set(&c[n++], '!', "nothing is open; change what is named above, or mend it and press R");
        return n;
    }
    if (app->plan_state != PLAN_DONE) {
        check_set(&c[n++], app->plan_state == PLAN_FAILED ? '!' : '.', app->plan_state == PLAN_FAILED ? "no plan: see above" : "planning");
        return n;
    }
    if (app->canvas.cols >= 120)
        check_set(&c[n++], '=', "%s", p->info->proof ? p->info->proof : "the plan is proved");
    else
        check_set(&c[n++], '=', "proved: each of %zu target tensors is written once and whole", p->info->target_count);
    if (!*app->convert.text[FIELD_PLACE])
        check_set(&c[n++], '!', "no place is chosen");
    else if (p->exists)
        check_set(&c[n++], app->convert.choice[FIELD_EXISTS] ? '~' : '!', app->convert.choice[FIELD_EXISTS] == EXISTS_REPLACE
                  ? "the place exists and is replaced, last of all" : app->convert.choice[FIELD_EXISTS] ? "the place exists: a stopped run goes on"
                  : "the place exists and is not overwritten");
    else
        check_set(&c[n++], '=', "the place is new, nothing is overwritten%s", p->parent_missing ? "; its parent folder is made" : "");
    uint64_t room = app->options->frozen ? 0 : p->info->free_bytes;
    if (!room)
        check_set(&c[n++], 'o', "writes %s in %zu file%s, %zu left out%s", sl_text_bytes(p->info->write_bytes, a, sizeof a), p->info->file_count, p->info->file_count == 1 ? "" : "s",
                  p->info->left_out_count, app->options->frozen ? "" : "; free space not known");
    else
        check_set(&c[n++], space_short(app) ? '!' : '=', "writes %s in %zu file%s, free %s; %zu left out", sl_text_bytes(p->info->write_bytes, a, sizeof a),
                  p->info->file_count, p->info->file_count == 1 ? "" : "s", sl_text_bytes(room, b, sizeof b), p->info->left_out_count);
    check_set(&c[n++], 'o', "reads %s, %s of buffers", sl_text_bytes(p->info->read_bytes, a, sizeof a), sl_text_bytes(p->info->memory_bytes, d, sizeof d));
    if (faults || warnings)
        check_set(&c[n++], '~', "%zu fault%s, %zu warning%s: f shows them", faults, faults == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    if (p->info->note_count)
        check_set(&c[n++], 'i', "%zu note%s: %.200s", p->info->note_count, p->info->note_count == 1 ? "" : "s", p->info->notes[0].message);
    return n;
}

static int draw_checks(struct app *app, struct pane p)
{
    struct check checks[CHECKS];
    int count = checks_of(app, checks), row = 0;
    for (int i = 0; i < count && row < p.rows; i++) {
        pane_text(p, row, 0, sign_style(checks[i].sign), (char[]){ checks[i].sign, '\0' });
        row += pane_wrap(pane_part(p, row, 2, p.rows - row - (count - 1 - i) > 0 ? p.rows - row - (count - 1 - i) : 1, p.cols - 2), 0, 0, STYLE_TEXT,
                         checks[i].text);
    }
    return row;
}

static int draw_status(struct app *app, struct pane p)
{
    char why[1600], text[1700];
    if (!convert_blocked(app, why, sizeof why)) {
        pane_text(p, 0, 0, STYLE_GOOD, "= everything is ready: S starts. Nothing was written so far.");
        return 1;
    }
    bool waiting = app->load == LOAD_BUSY || app->plan_state == PLAN_BUSY;
    snprintf(text, sizeof text, "%c START is off: %s", waiting ? '.' : '!', why);
    return pane_wrap(p, 0, 0, waiting ? STYLE_DIM : STYLE_BAD, text);
}

static void draw_fields(struct app *app, struct pane p)
{
    struct list *l = &app->convert.list;
    list_show(l, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && l->top + (size_t)row < l->count; row++)
        draw_field(app, p, row, (int)(l->top + (size_t)row));
}

static void draw_promises(struct pane p, int row)
{
    static const char *const promises[] = {
        "every target byte comes from one place of the source",
        "every source weight is used, or left out by name",
        "the folder gets its name only when it is whole",
        "a stop or a crash leaves what --resume goes on with",
    };
    pane_text(p, row++, 0, STYLE_HEAD, "what is promised");
    for (size_t i = 0; i < sizeof promises / sizeof promises[0]; i++)
        row += pane_wrap(p, row, 2, STYLE_TEXT, promises[i]);
}

static void draw(struct app *app, struct pane p)
{
    bool wide = p.cols >= 120 && p.rows >= 20;
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    struct pane status = pane_part(p, 0, 0, p.rows > 16 ? 2 : 1, p.cols);
    pane_take(&p, draw_status(app, status));
    if (wide) {
        struct pane top = pane_take(&p, p.rows);
        int left = top.cols * 64 / 100;
        struct pane box = pane_box(pane_part(top, 0, 0, top.rows, left), "choose");
        draw_fields(app, pane_take(&box, FIELD_COUNT));
        pane_wrap(box, 1, 2, STYLE_DIM, fields[app->convert.list.selected].help);
        struct pane right = pane_box(pane_part(top, 0, left, top.rows, top.cols - left), "checks and cost");
        int used = draw_checks(app, right);
        draw_promises(right, used + 1);
        return;
    }
    int help = p.rows > FIELD_COUNT, rows = p.rows > FIELD_COUNT ? FIELD_COUNT : p.rows;
    draw_fields(app, pane_take(&p, rows));
    if (help)
        pane_textw(pane_take(&p, 1), 0, 2, p.cols - 2, STYLE_DIM, fields[app->convert.list.selected].help);
    draw_checks(app, p);
}

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static void effect(struct app *app, int field)
{
    if (fields[field].effect == EFFECT_REOPEN) {
        if (run_going(app)) {
            app_say(app, STYLE_WARN, "not while a conversion reads the source");
            return;
        }
        open_options(app);
        app_reopen(app);
    } else if (fields[field].effect == EFFECT_PLAN) {
        convert_plan(app);
    }
}

static void step_choice(struct app *app, int step)
{
    int f = (int)app->convert.list.selected, count = 0;
    if (fields[f].kind != FIELD_CHOICE) {
        app_say(app, STYLE_DIM, fields[f].kind == FIELD_TEXT ? "Enter edits this field" : "this field has no choices");
        return;
    }
    while (fields[f].choices[count].title)
        count++;
    app->convert.choice[f] = (app->convert.choice[f] + step + count) % count;
    effect(app, f);
}

static void edit_done(struct app *app, const char *text, bool accepted)
{
    int f = (int)app->convert.list.selected;
    if (!accepted || strcmp(app->convert.text[f], text) == 0)
        return;
    snprintf(app->convert.text[f], LONGEST_FIELD, "%s", text);
    app->convert.place_given |= f == FIELD_PLACE;
    effect(app, f);
}

void act_edit(struct app *app)
{
    int f = (int)app->convert.list.selected;
    if (fields[f].kind == FIELD_TEXT)
        prompt_line(app, fields[f].label, app->convert.text[f], NULL, edit_done);
    else
        app_say(app, STYLE_DIM, fields[f].kind == FIELD_CHOICE ? "Space takes the next choice" : "there is nothing to edit");
}

static void enter(struct app *app)
{
    int f = (int)app->convert.list.selected;
    if (fields[f].kind == FIELD_BUTTON)
        act_start(app);
    else if (fields[f].kind == FIELD_CHOICE)
        step_choice(app, 1);
    else
        act_edit(app);
}

static void space(struct app *app)
{
    int f = (int)app->convert.list.selected;
    if (fields[f].kind == FIELD_BUTTON)
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
}

const struct screen_ops convert_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .space = space, .tab = tab, .command = command,
                                        .opened = opened };
