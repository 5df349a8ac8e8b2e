/* SPDX-License-Identifier: MIT */
/* The encryption of one file of the chain. */
#ifndef QCOW2_ENCRYPTION_H
#define QCOW2_ENCRYPTION_H

#include "../format/luks.h"
#include "layer.h"

/* Unlock an encrypted layer (crypt_method 1 or 2) with the passphrase (NULL: none was given). *work
   is how many hashes that may take, and is lowered by as many as trying all key slots takes.
   Errors, which name the file: KEY (missing, wrong), UNSUPPORTED, CORRUPT, TRUNCATED, IO, NOMEM. */
int qcow2_encryption_unlock(struct qcow2_layer *layer, const struct qcow2_passphrase *passphrase,
                            uint64_t *work, struct qcow2_error *error);

/* Read the layer's LUKS header. Errors: CORRUPT, TRUNCATED, UNSUPPORTED, IO. */
int qcow2_encryption_read_luks(const struct qcow2_layer *layer, struct qcow2_luks *luks,
                               struct qcow2_error *error);

/* Say whether there is a LUKS header that can be used, or that none is needed: 0. Errors: CORRUPT,
   TRUNCATED, UNSUPPORTED, IO. */
int qcow2_encryption_check(const struct qcow2_layer *layer, struct qcow2_error *error);

#endif
