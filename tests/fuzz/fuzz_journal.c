/* fuzz_journal.c: what an unfinished conversion left beside its target: the journal and what the
 * run told of itself. Both have a check in front of their lines; a first byte that is even makes
 * these right, so that what is behind them is reached. */
#include "folder.h"

#include "base/text.h"
#include "run/journal.h"
#include "run/tell.h"

#include <xxhash.h>

#define TENSORS 40

static void add_checked(struct sl_buf *out, const char *text, size_t len)
{
    sl_buf_printf(out, "%08x ", XXH32(text, len, 0));
    sl_buf_add(out, text, len);
}

/* Lines, each with its check. */
static void check_lines(struct sl_buf *out, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        const size_t line = end ? (size_t)(end - (text + at)) : len - at;
        add_checked(out, text + at, line);
        if (end)
            sl_buf_char(out, '\n');
        at += line + 1;
    }
}

static struct fuzz_part part_of(const struct sl_buf *b)
{
    return (struct fuzz_part){ (const uint8_t *)(b->data ? b->data : ""), b->len };
}

static void read_journal(void)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_journal j;
    struct sl_journal_state s;
    struct sl_journal_count told;
    int code = sl_journal_open(&j, fuzz_in("t.journal"), "t", &err);
    fuzz_refused(code, &err);
    if (!code) {
        code = sl_journal_read(&j, TENSORS, &arena, &s, &err);
        fuzz_refused(code, &err);
        if (!code && (s.count > TENSORS || !memchr(s.plan, '\0', sizeof s.plan) || !memchr(s.host, '\0', sizeof s.host)))
            abort();
        if (!code)
            fuzz_refused(sl_journal_go_on(&j, &s, &err), &err);
        sl_journal_close(&j, false);
    }
    (void)sl_journal_count(fuzz_in("t.journal"), &told);
    sl_arena_free(&arena);
}

/* What is shown of it has ends, and numbers that index. */
static void read_told(void)
{
    struct sl_place place;
    memset(&place, 0, sizeof place);
    if (!sl_tell_read(fuzz_in("t.progress"), &place))
        return;
    const struct sl_progress *p = &place.progress;
    if (p->workers > sizeof p->worker / sizeof *p->worker || place.recent_count > sizeof place.recent / sizeof *place.recent ||
        p->phase > SL_PHASE_DONE || !memchr(place.source, '\0', sizeof place.source) || !memchr(place.host, '\0', sizeof place.host) ||
        !memchr(place.message, '\0', sizeof place.message) || !memchr(place.plan, '\0', sizeof place.plan))
        abort();
    for (uint32_t i = 0; i < p->workers; i++)
        if (!memchr(p->worker[i].tensor, '\0', sizeof p->worker[i].tensor) || p->worker[i].phase > SL_PHASE_DONE)
            abort();
    for (size_t i = 0; i < place.recent_count; i++)
        if (!memchr(place.recent[i].name, '\0', sizeof place.recent[i].name))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bool checked = size && data[0] % 2 == 0;
    struct sl_buf journal = { 0 }, told = { 0 };
    if (!size)
        return 0;
    data++, size--;
    if (checked) {
        check_lines(&journal, (const char *)data, size);
        add_checked(&told, (const char *)data, size);
    }
    fuzz_put("t.journal", checked ? part_of(&journal) : (struct fuzz_part){ data, size });
    fuzz_put("t.progress", checked ? part_of(&told) : (struct fuzz_part){ data, size });
    read_journal();
    read_told();
    sl_buf_free(&journal);
    sl_buf_free(&told);
    return 0;
}
