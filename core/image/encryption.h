/* SPDX-License-Identifier: MIT */
/* The encryption of one file of the chain. */
#ifndef QCOW2_ENCRYPTION_H
#define QCOW2_ENCRYPTION_H

#include "../format/luks.h"
#include "layer.h"

/* Unlock an encrypted layer (crypt_method 1 or 2) with the passphrase (NULL: none was given). *work
   is the number of hashes that this may use; it is reduced by those for trying all key slots.
   Errors, which name the file: KEY (missing, wrong), UNSUPPORTED, CORRUPT, TRUNCATED, IO, NOMEM. */
int qcow2_encryption_unlock(struct qcow2_layer *layer, const struct qcow2_passphrase *passphrase,
                            uint64_t *work, struct qcow2_error *error);

/* Read the layer's LUKS header. Errors: CORRUPT, TRUNCATED, UNSUPPORTED, IO. */
int qcow2_encryption_read_luks(const struct qcow2_layer *layer, struct qcow2_luks *luks,
                               struct qcow2_error *error);

/* Return 0 if the layer has a valid LUKS header, or needs none. Errors: CORRUPT, TRUNCATED,
   UNSUPPORTED, IO. */
int qcow2_encryption_check(const struct qcow2_layer *layer, struct qcow2_error *error);

#endif
