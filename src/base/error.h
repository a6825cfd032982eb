/* error.h: failing is one line. sl_fail() fills the record and returns the
 * code, so that a function refuses with
 *
 *     return sl_fail(err, SL_INPUT, path, "%u records found, %u expected", a, b);
 *
 * The record is filled where most is known and passed on untouched. The text
 * is made printable here, so names from files may be given as they are.
 */
#ifndef SL_BASE_ERROR_H
#define SL_BASE_ERROR_H

#include <shardlens/types.h>

/* err may be NULL. where may be NULL (= ""). Returns code, as the int that
 * functions return (an enum would be a change of sign to clang). */
int sl_fail(struct sl_error *err, int code, const char *where,
            const char *format, ...) __attribute__((format(printf, 4, 5), cold));

/* The same for a failed system call: appends ": strerror(errno)". The code is
 * SL_WRITE for ENOSPC, EDQUOT, EFBIG and EROFS, SL_MEMORY for ENOMEM, else `code`;
 * the fault SL_FAULT_DENIED for EACCES and EPERM. */
int sl_fail_errno(struct sl_error *err, int code, const char *where,
                  const char *format, ...) __attribute__((format(printf, 4, 5), cold));

/* Says of the failure that sl_fail() has just filled in what is wrong with the file; its message begins with that word:
 * "truncated: it ends ..". err may be NULL. Returns SL_INPUT. */
int sl_fail_fault(struct sl_error *err, enum sl_fault fault);

/* Out of memory, with what was wanted. Returns SL_MEMORY. */
int sl_fail_memory(struct sl_error *err, uint64_t bytes) __attribute__((cold));

/* The static analyser does not look into error.c; tell it what these return. */
#ifdef __clang_analyzer__
#define sl_fail(err, code, ...) ((void)(sl_fail)(err, code, __VA_ARGS__), (int)(code))
#define sl_fail_errno(err, code, ...) ((void)(sl_fail_errno)(err, code, __VA_ARGS__), (int)(code))
#define sl_fail_memory(err, bytes) ((void)(sl_fail_memory)(err, bytes), (int)SL_MEMORY)
#endif

#endif
