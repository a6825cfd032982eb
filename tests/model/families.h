/* families.h: the built-in families, for the tests of a file; nobody's own ones. */
#ifndef TESTS_MODEL_FAMILIES_H
#define TESTS_MODEL_FAMILIES_H

#include "../base/testing.h"

#include "model/internal.h"

#include <stdlib.h>

static struct sl_families families;

static int load(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", "/nowhere", 1);
    return sl_families_load(NULL, &families, NULL);
}

static int unload(void **state)
{
    (void)state;
    sl_families_free(&families);
    return 0;
}

#endif
