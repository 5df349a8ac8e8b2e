/* SPDX-License-Identifier: MIT */
#include "encryption.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"
#include "../read/unlock.h"
#include "../storage/storage.h"

int qcow2_encryption_read_luks(const struct qcow2_layer *layer, struct qcow2_luks *luks,
                               struct qcow2_error *error)
{
  const struct qcow2_metadata *metadata = &layer->metadata;
  uint8_t bytes[LUKS_HEADER_BYTES];
  int code;

  if (!metadata->has_luks)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "no header extension says where the LUKS header is");
  code = qcow2_storage_read(&layer->file.storage, metadata->luks_offset, bytes, sizeof(bytes),
                            error);
  if (code != 0)
    return code;
  return qcow2_luks_decode(bytes, metadata->luks_offset, metadata->luks_length, luks, error);
}

int qcow2_encryption_check(const struct qcow2_layer *layer, struct qcow2_error *error)
{
  struct qcow2_luks luks;

  return layer->metadata.header.crypt_method == CRYPT_METHOD_LUKS
             ? qcow2_encryption_read_luks(layer, &luks, error)
             : 0;
}

/* ---- Unlocking ---------------------------------------------------------- */

/* Subtract the hashes for trying all key slots from those that the chain may still use. */
static int take_work(const struct qcow2_luks *luks, uint64_t *work, struct qcow2_error *error)
{
  uint64_t needed = qcow2_luks_work(luks);

  if (needed > *work)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "trying its key slots takes %" PRIu64 " hashes, and only %" PRIu64
                           " more are done for the files of one chain",
                           needed, *work);
  *work -= needed;
  return 0;
}

static int unlock(const struct qcow2_layer *layer, const struct qcow2_passphrase *passphrase,
                  uint64_t *work, struct qcow2_cipher **cipher, struct qcow2_error *error)
{
  struct qcow2_luks luks;
  int code;

  if (layer->metadata.header.crypt_method == CRYPT_METHOD_AES)
    return qcow2_unlock_aes(passphrase, cipher, error);
  code = qcow2_encryption_read_luks(layer, &luks, error);
  if (code == 0)
    code = take_work(&luks, work, error);
  if (code != 0)
    return code;
  return qcow2_unlock_luks(&layer->file.storage, layer->metadata.luks_offset, &luks, passphrase,
                           cipher, error);
}

/* Add to the error which file is encrypted, and how. */
static int place_error(const struct qcow2_layer *layer, int code, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES], clause[sizeof(error->message)];
  const char *method = layer->metadata.header.crypt_method == CRYPT_METHOD_AES ? "legacy AES"
                                                                               : "LUKS";

  if (error == NULL)
    return code;
  memcpy(clause, error->message, sizeof(clause));
  snprintf(error->message, sizeof(error->message), "\"%s\" is encrypted (%s): %.600s",
           qcow2_text_quote(layer->file.path == NULL ? "the image" : layer->file.path, quoted),
           method, clause);
  return code;
}

int qcow2_encryption_unlock(struct qcow2_layer *layer, const struct qcow2_passphrase *passphrase,
                            uint64_t *work, struct qcow2_error *error)
{
  struct qcow2_cipher *cipher;
  int code = unlock(layer, passphrase, work, &cipher, error);

  if (code != 0)
    return place_error(layer, code, error);
  qcow2_layer_set_cipher(layer, cipher);
  return 0;
}
