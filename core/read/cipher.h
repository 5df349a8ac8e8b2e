/* SPDX-License-Identifier: MIT */
/* Decrypting sectors. */
#ifndef QCOW2_READ_CIPHER_H
#define QCOW2_READ_CIPHER_H

#include "../format/luks.h"

/* A cipher with its key. Any number of threads may use it at once. */
struct qcow2_cipher;

/* Make a cipher. `key` has spec->key_bytes bytes, and is copied. On success the caller frees the
   cipher with qcow2_cipher_free(). Errors: UNSUPPORTED (libgcrypt has no such cipher), NOMEM. */
int qcow2_cipher_new(const struct qcow2_cipher_spec *spec, const uint8_t *key,
                     struct qcow2_cipher **cipher, struct qcow2_error *error);

/* Wipe the keys, and free it. NULL is allowed. */
void qcow2_cipher_free(struct qcow2_cipher *cipher);

/* Decrypt `length` bytes in place: whole sectors of ENCRYPTION_SECTOR_BYTES, of which the first has
   the number `sector`. Errors: NOMEM, UNSUPPORTED (libgcrypt failed). */
int qcow2_cipher_decrypt(struct qcow2_cipher *cipher, uint64_t sector, uint8_t *buffer,
                         size_t length, struct qcow2_error *error);

#endif
