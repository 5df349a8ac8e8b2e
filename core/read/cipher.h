/* SPDX-License-Identifier: MIT */
/* Encrypted sectors -> their bytes. */
#ifndef QCOW2_READ_CIPHER_H
#define QCOW2_READ_CIPHER_H

#include "../format/luks.h"

/* A cipher with its key, for any number of threads at once. */
struct qcow2_cipher;

/* Make a cipher with the key, of spec->key_bytes, which is copied. On success the caller frees it
   with qcow2_cipher_free(). Errors: UNSUPPORTED (libgcrypt has no such cipher), NOMEM. */
int qcow2_cipher_new(const struct qcow2_cipher_spec *spec, const uint8_t *key,
                     struct qcow2_cipher **cipher, struct qcow2_error *error);

/* Wipe the keys, and free it. NULL is allowed. */
void qcow2_cipher_free(struct qcow2_cipher *cipher);

/* Decrypt, in place, `length` bytes (whole sectors of ENCRYPTION_SECTOR_BYTES) that begin with the
   sector of that number. Errors: NOMEM, UNSUPPORTED (libgcrypt failed). */
int qcow2_cipher_decrypt(struct qcow2_cipher *cipher, uint64_t sector, uint8_t *buffer,
                         size_t length, struct qcow2_error *error);

#endif
