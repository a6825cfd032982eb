/* test_problems_doc.c: docs/problems.md is the table of problems. After a change
 * of the table run this test with SHARDLENS_WRITE_DOCS=1: it writes the page. */
#include "../base/testing.h"

#include "base/text.h"

#include <shardlens/shardlens.h>

#define PAGE "docs/problems.md"

/* {path} and {show} are commands where the checkpoint is known. */
static void write_advice(struct sl_buf *page, const char *text)
{
    static const struct { const char *mark, *words; } marks[] = { { "{path}", "PATH" }, { "{show}", "shardlens show PATH TENSOR" } };
    while (*text) {
        size_t m = 0;
        while (m < 2 && strncmp(text, marks[m].mark, 6))
            m++;
        if (m == 2)
            sl_buf_char(page, *text++);
        else
            sl_buf_str(page, marks[m].words), text += 6;
    }
}

static void write_row(struct sl_buf *page, const struct sl_problem_code *p)
{
    sl_buf_printf(page, "## %s\n\n**%s** · %s\n\n%s\n\n", p->code, sl_severity_name(p->severity), p->title, p->meaning);
    sl_buf_printf(page, "- Expected: %s.\n- Likely cause: %s.\n- Damage: %s.\n- What to do: ", p->expected, p->cause, p->damage);
    write_advice(page, p->advice);
    sl_buf_str(page, "\n\n");
}

static void write_page(struct sl_buf *page)
{
    sl_buf_str(page,
               "# Problems\n\n"
               "What `inspect` and `check` may report, and the screen of findings shows. Codes are stable: a script may rely on\n"
               "them. An **error** means that a conversion would be wrong or is refused, a **warning** that somebody should look,\n"
               "a **note** that it is good to know. `check` exits with 1 when there is an error.\n\n"
               "Each finding says where (rank, file, tensor, the weights of the model in it, the byte), what was found, what was\n"
               "expected and why, the likely cause, what it damages, and what to do. What is listed here under these words is what a\n"
               "finding says where it does not know better. They come in this order, causes before what follows from them; what\n"
               "is told of a whole rank (that it is missing, damaged, of another save) is not told again of each of its tensors.\n\n"
               "This page is made from the table in `src/checkpoint/problemtable.c` by `tests/api/test_problems_doc.c`.\n\n"
               "| code | severity | |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < sl_problem_code_count(); i++) {
        const struct sl_problem_code *p = sl_problem_code(i);
        sl_buf_printf(page, "| [%s](#%s) | %s | %s |\n", p->code, p->code, sl_severity_name(p->severity), p->title);
    }
    sl_buf_char(page, '\n');
    for (size_t i = 0; i < sl_problem_code_count(); i++)
        write_row(page, sl_problem_code(i));
    page->data[--page->len] = '\0';             /* one line feed at the end */
}

TEST(the_page_of_problems_is_the_table)
{
    struct sl_buf page = { 0 };
    write_page(&page);
    assert_false(page.failed);
    const char *write = getenv("SHARDLENS_WRITE_DOCS");
    if (write && *write)
        write_text(PAGE, page.data, page.len);
    FILE *f = fopen(PAGE, "rb");
    assert_non_null(f);
    char *there = calloc(1, page.len + 2);
    const size_t len = fread(there, 1, page.len + 1, f);
    fclose(f);
    if (len != page.len || memcmp(there, page.data, len))
        fail_msg(PAGE " is not what the table says; run this test with SHARDLENS_WRITE_DOCS=1");
    free(there);
    sl_buf_free(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = { ROW(the_page_of_problems_is_the_table) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
