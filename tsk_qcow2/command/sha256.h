/* SPDX-License-Identifier: MIT */
/* SHA-256, by libgcrypt. In a build without it there is none. */
#ifndef TSK_QCOW2_SHA256_H
#define TSK_QCOW2_SHA256_H

#include <stddef.h>

#define SHA256_TEXT_BYTES 65 /* hexadecimal digits and NUL */

struct sha256;

/* NULL: this build has none, or there is no memory. End with sha256_finish(). */
struct sha256 *sha256_start(void);

void sha256_add(struct sha256 *sha256, const void *bytes, size_t length);

/* Write the digits, and free. */
void sha256_finish(struct sha256 *sha256, char digits[SHA256_TEXT_BYTES]);

#endif
