/* pattern.c: names with {layer} and {expert} in them, both ways. */
#include "model/family.h"
#include "model/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Reads a decimal index without needless zeros, of at most 9 digits, so that a name has one reading. */
static const char *read_index(const char *s, int32_t *out)
{
    int32_t value = 0;
    const char *p = s;
    while (isdigit((unsigned char)*p) && p - s < 9)
        value = value * 10 + (*p++ - '0');
    if (p == s || (*s == '0' && p - s > 1) || isdigit((unsigned char)*p))
        return NULL;
    *out = value;
    return p;
}

/* Is there a {word} at p? */
static bool at_word(const char *p, const char *word)
{
    return strncmp(p, word, strlen(word)) == 0;
}

bool sl_rule_match(const char *pattern, const char *name, int32_t *layer, int32_t *expert)
{
    int32_t found_layer = -1, found_expert = -1;
    const char *p = pattern, *n = name;
    while (*p && n) {
        const bool is_layer = *p == '{' && at_word(p, "{layer}"), is_expert = *p == '{' && at_word(p, "{expert}");
        if (is_layer || is_expert) {
            n = read_index(n, is_layer ? &found_layer : &found_expert);
            p += strlen(is_layer ? "{layer}" : "{expert}");
        } else if (*p++ != *n++)
            return false;
    }
    if (!n || *n)
        return false;
    if (layer)
        *layer = found_layer;
    if (expert)
        *expert = found_expert;
    return true;
}

void sl_rule_name(const char *pattern, int32_t layer, int32_t expert, char *out, size_t room)
{
    size_t len = 0;
    for (const char *p = pattern; *p && room && len + 1 < room;) {
        const bool is_layer = *p == '{' && at_word(p, "{layer}"), is_expert = *p == '{' && at_word(p, "{expert}");
        if (!is_layer && !is_expert) {
            out[len++] = *p++;
            continue;
        }
        const int wrote = snprintf(out + len, room - len, "%d", is_layer ? layer : expert);
        len = sl_least(len + (size_t)(wrote > 0 ? wrote : 0), room - 1);
        p += strlen(is_layer ? "{layer}" : "{expert}");
    }
    if (room)
        out[len] = '\0';
}
