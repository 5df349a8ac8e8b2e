/* SPDX-License-Identifier: MIT */
/* What the users of libgcrypt share. */
#ifndef QCOW2_READ_LIBGCRYPT_H
#define QCOW2_READ_LIBGCRYPT_H

#include "../format/luks.h"

/* libgcrypt's number for the hash. */
int qcow2_libgcrypt_hash(enum qcow2_hash hash);

/* Report that libgcrypt failed at something, a clause such as "decrypt". `status` is a
   gcry_error_t. */
int qcow2_libgcrypt_error(struct qcow2_error *error, unsigned status, const char *what);

#endif
