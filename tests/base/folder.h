/* folder.h: a folder for each test that asks for one: IN_FOLDER(name) in the place of ROW(name). It is
 * empty when the test begins, and removed when it ends; `err` is cleared. */
#ifndef SL_TESTS_FOLDER_H
#define SL_TESTS_FOLDER_H

#include "testing.h"

#include "base/io.h"

static char folder[256];                 /* of the test that runs */
static struct sl_error err;

static inline int begin(void **state)
{
    (void)state;
    memset(&err, 0, sizeof err);
    new_folder(folder, sizeof folder);
    return 0;
}
static inline int end(void **state)
{
    (void)state;
    return sl_folder_remove(folder, NULL);
}
#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, begin, end)

/* "FOLDER/name" in one of a few buffers that take turns. */
static inline const char *in(const char *name)
{
    static char paths[8][768];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

#endif
