/* sha256.h: SHA-256 (FIPS 180-4), for checksums that others wrote beside a checkpoint. */
#ifndef SL_BASE_SHA256_H
#define SL_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sl_sha256 { uint32_t h[8]; uint64_t len; unsigned char part[64]; };

void sl_sha256_begin(struct sl_sha256 *s);
void sl_sha256_add(struct sl_sha256 *s, const void *bytes, size_t len);
/* 64 lower case hexadecimal digits and a NUL. */
void sl_sha256_end(struct sl_sha256 *s, char hex[65]);

#endif
