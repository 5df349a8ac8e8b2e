/* SPDX-License-Identifier: MIT */
/* What the files that use libgcrypt share. */
#ifndef QCOW2_READ_LIBGCRYPT_H
#define QCOW2_READ_LIBGCRYPT_H

#include "../format/luks.h"

/* The number of the hash in libgcrypt. */
int qcow2_libgcrypt_hash(enum qcow2_hash hash);

/* The error "libgcrypt cannot WHAT: REASON", where `what` is a verb such as "decrypt". `status` is
   a gcry_error_t. Returns UNSUPPORTED or NOMEM. */
int qcow2_libgcrypt_error(struct qcow2_error *error, unsigned status, const char *what);

#endif
