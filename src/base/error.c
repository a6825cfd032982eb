/* error.c: filling the one record of a failure. */
#include "base/error.h"

#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fill(struct sl_error *err, int code, const char *where, const char *message)
{
    err->code = (enum sl_code)code;
    err->fault = SL_FAULT_OTHER;
    sl_text_printable(where ? where : "", where ? strlen(where) : 0, err->where,
                      sizeof err->where);
    sl_text_printable(message, strlen(message), err->message, sizeof err->message);
}

int (sl_fail)(struct sl_error *err, int code, const char *where,
            const char *format, ...)
{
    if (!err)
        return code;

    char message[2 * sizeof err->message];
    va_list args;
    va_start(args, format);
    if (vsnprintf(message, sizeof message, format, args) < 0)
        message[0] = '\0';
    va_end(args);
    fill(err, code, where, message);
    return code;
}

static int code_of_errno(int number, int otherwise)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS:
        return SL_WRITE;
    case ENOMEM:
        return SL_MEMORY;
    default:
        return otherwise;
    }
}

int (sl_fail_errno)(struct sl_error *err, int code, const char *where,
                  const char *format, ...)
{
    const int number = errno;
    code = code_of_errno(number, code);
    if (!err)
        return code;

    char message[2 * sizeof err->message];
    char reason[128];
    va_list args;
    va_start(args, format);
    const int len = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const size_t used = len < 0 ? 0 : (size_t)len;
    if (used < sizeof message)
        snprintf(message + used, sizeof message - used, ": %s",
                 strerror_r(number, reason, sizeof reason));
    fill(err, code, where, message);
    if (number == EACCES || number == EPERM)
        err->fault = SL_FAULT_DENIED;
    return code;
}

int sl_fail_fault(struct sl_error *err, enum sl_fault fault)
{
    if (err)
        err->fault = fault;
    return SL_INPUT;
}

int (sl_fail_memory)(struct sl_error *err, uint64_t bytes)
{
    return sl_fail(err, SL_MEMORY, "", "out of memory: %" PRIu64 " bytes were wanted", bytes);
}
