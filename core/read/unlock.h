/* SPDX-License-Identifier: MIT */
/* From a passphrase to the cipher of an encrypted file. */
#ifndef QCOW2_READ_UNLOCK_H
#define QCOW2_READ_UNLOCK_H

#include "cipher.h"

/* Unlock the LUKS header at `host_offset` of the image file with the passphrase (NULL: none was
   given). How long this takes depends on the number of iterations in the key slots. On success the
   caller frees *cipher with qcow2_cipher_free(). Errors: KEY (missing, wrong), UNSUPPORTED, IO,
   TRUNCATED, NOMEM. */
int qcow2_unlock_luks(const struct qcow2_storage *image, uint64_t host_offset,
                      const struct qcow2_luks *luks, const struct qcow2_passphrase *passphrase,
                      struct qcow2_cipher **cipher, struct qcow2_error *error);

/* Make the cipher of legacy AES (crypt_method 1). The passphrase is the key; a wrong one cannot be
   noticed. Errors: KEY (missing), UNSUPPORTED, NOMEM. */
int qcow2_unlock_aes(const struct qcow2_passphrase *passphrase, struct qcow2_cipher **cipher,
                     struct qcow2_error *error);

#endif
