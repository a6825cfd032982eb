/* expression.c: integer expressions over named numbers, and conditions over
 * flags. Both are what a family file may say about sizes and about when a row
 * applies. Expressions are evaluated with two small stacks, so the nesting of a
 * file costs no C stack. */
#include "model/family.h"
#include "model/internal.h"

#include "base/error.h"
#include "base/num.h"

#include <ctype.h>
#include <string.h>

enum { MOST_PENDING = 32 };              /* open brackets and operators of one expression */

struct evaluation {
    const char *text;
    size_t len, at;
    int64_t values[MOST_PENDING];
    char operators[MOST_PENDING];
    size_t value_count, operator_count;
    bool only_read;                      /* nothing is divided: values are not the real ones */
    struct sl_error *err;
};

static int refuse(const struct evaluation *e, const char *what)
{
    return sl_fail(e->err, SL_USAGE, "", "expression \"%.*s\": %s", (int)e->len, e->text, what);
}

static int rank_of(char operator)
{
    return operator == '*' || operator == '/' ? 2 : operator == '+' || operator == '-' ? 1 : 0;
}

static int push_value(struct evaluation *e, int64_t value)
{
    if (e->value_count == MOST_PENDING)
        return refuse(e, "too deeply nested");
    e->values[e->value_count++] = value;
    return SL_OK;
}

static int divide(const struct evaluation *e, int64_t a, int64_t b, int64_t *out)
{
    if (e->only_read)
        return SL_OK;
    if (b == 0)
        return sl_fail(e->err, SL_USAGE, "", "expression \"%.*s\": division by zero", (int)e->len, e->text);
    if (b == -1 ? !sl_mul_i64(a, -1, out) : a % b != 0)
        return sl_fail(e->err, SL_USAGE, "", "expression \"%.*s\": %lld is not a multiple of %lld",
                       (int)e->len, e->text, (long long)a, (long long)b);
    if (b != -1)
        *out = a / b;
    return SL_OK;
}

static int apply(struct evaluation *e)
{
    if (e->value_count < 2)
        return refuse(e, "a number or name is missing");
    const char operator = e->operators[--e->operator_count];
    const int64_t b = e->values[--e->value_count];
    int64_t *a = &e->values[e->value_count - 1];
    if (operator == '/')
        return divide(e, *a, b, a);
    const bool fits = operator == '+' ? sl_add_i64(*a, b, a)
                    : operator == '*' ? sl_mul_i64(*a, b, a)
                                      : !__builtin_sub_overflow(*a, b, a);
    return fits ? SL_OK : refuse(e, "the result is too large");
}

static int push_operator(struct evaluation *e, char operator)
{
    while (e->operator_count && rank_of(e->operators[e->operator_count - 1]) >= rank_of(operator)) {
        const int code = apply(e);
        if (code)
            return code;
    }
    if (e->operator_count == MOST_PENDING)
        return refuse(e, "too deeply nested");
    e->operators[e->operator_count++] = operator;
    return SL_OK;
}

static int close_bracket(struct evaluation *e)
{
    while (e->operator_count && e->operators[e->operator_count - 1] != '(') {
        const int code = apply(e);
        if (code)
            return code;
    }
    if (!e->operator_count)
        return refuse(e, "\")\" without \"(\"");
    e->operator_count--;
    return SL_OK;
}

static int read_number(struct evaluation *e)
{
    int64_t value = 0;
    for (; e->at < e->len && isdigit((unsigned char)e->text[e->at]); e->at++)
        if (!sl_mul_i64(value, 10, &value) || !sl_add_i64(value, e->text[e->at] - '0', &value))
            return refuse(e, "a number is too large");
    return push_value(e, value);
}

bool sl_is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static int read_name(struct evaluation *e,
                     bool (*lookup)(void *, const char *, size_t, int64_t *), void *arg)
{
    const char *name = e->text + e->at;
    size_t len = 0;
    while (e->at < e->len && sl_is_name_char(e->text[e->at]))
        e->at++, len++;
    int64_t value = 0;
    if (!lookup(arg, name, len, &value))
        return sl_fail(e->err, SL_USAGE, "", "expression \"%.*s\": \"%.*s\" is not known",
                       (int)e->len, e->text, (int)len, name);
    return push_value(e, value);
}

/* One number, name or "(" where a value is wanted; *got tells whether the value is complete. */
static int read_operand(struct evaluation *e, bool (*lookup)(void *, const char *, size_t, int64_t *),
                        void *arg, bool *got)
{
    const char c = e->text[e->at];
    *got = true;
    if (isdigit((unsigned char)c))
        return read_number(e);
    if (isalpha((unsigned char)c) || c == '_')
        return read_name(e, lookup, arg);
    *got = false;
    if (c != '(')
        return refuse(e, "a number, a name or \"(\" is expected");
    if (e->operator_count == MOST_PENDING)
        return refuse(e, "too deeply nested");
    e->operators[e->operator_count++] = c;
    e->at++;
    return SL_OK;
}

/* One operator or ")" after a value; *want tells whether a value must follow. */
static int read_operator(struct evaluation *e, bool *want)
{
    const char c = e->text[e->at++];
    *want = c != ')';
    if (c == ')')
        return close_bracket(e);
    if (!rank_of(c))
        return refuse(e, "one of + - * / ) is expected");
    return push_operator(e, c);
}

int sl_expression(const char *text, size_t len,
                  bool (*lookup)(void *arg, const char *name, size_t len, int64_t *value), void *arg,
                  int64_t *out, struct sl_error *err)
{
    struct evaluation e = {.text = text, .len = len, .only_read = !out, .err = err};
    bool want = true;                    /* a value comes next */
    while (e.at < len) {
        int code = SL_OK;
        bool got = false;
        if (isspace((unsigned char)text[e.at]))
            e.at++;
        else if (want) {
            code = read_operand(&e, lookup, arg, &got);
            want = !got;
        } else
            code = read_operator(&e, &want);
        if (code)
            return code;
    }
    if (want)
        return refuse(&e, "a number or name is missing");
    while (e.operator_count) {
        if (e.operators[e.operator_count - 1] == '(')
            return refuse(&e, "\"(\" without \")\"");
        const int code = apply(&e);
        if (code)
            return code;
    }
    if (out)
        *out = e.values[0];
    return SL_OK;
}

/* ---- conditions: flags joined by "&", "!" negates ------------------------ */

int sl_condition(const char *text, bool (*holds)(void *arg, const char *flag, size_t len), void *arg,
                 bool *out, struct sl_error *err)
{
    bool all = true;
    const char *p = text;
    for (;;) {
        bool negate = false;
        while (isspace((unsigned char)*p) || *p == '!')
            negate ^= *p++ == '!';
        const char *flag = p;
        while (sl_is_name_char(*p))
            p++;
        if (p == flag)
            return sl_fail(err, SL_USAGE, "", "condition \"%s\": a flag is expected at \"%s\"", text, flag);
        all &= holds(arg, flag, (size_t)(p - flag)) != negate;
        while (isspace((unsigned char)*p))
            p++;
        if (!*p)
            break;
        if (*p++ != '&')
            return sl_fail(err, SL_USAGE, "", "condition \"%s\": \"&\" is expected before \"%s\"", text, p - 1);
    }
    *out = all;
    return SL_OK;
}
