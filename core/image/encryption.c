/* SPDX-License-Identifier: MIT */
#include "encryption.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"
#include "image.h"
#include "../read/unlock.h"
#include "../storage/storage.h"

static int read_luks(const struct qcow2_layer *layer, struct qcow2_luks *luks,
                     struct qcow2_error *error)
{
  const struct qcow2_metadata *metadata = &layer->metadata;
  uint8_t bytes[LUKS_HEADER_BYTES];
  int code;

  if (!metadata->has_luks)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "no header extension says where the LUKS header is");
  code = qcow2_storage_read(&layer->file.storage, metadata->luks_offset, bytes, sizeof(bytes), error);
  if (code != 0)
    return code;
  return qcow2_luks_decode(bytes, metadata->luks_offset, metadata->luks_length, luks, error);
}

int qcow2_encryption_check(const struct qcow2_layer *layer, struct qcow2_error *error)
{
  struct qcow2_luks luks;

  return layer->metadata.header.crypt_method == CRYPT_METHOD_LUKS ? read_luks(layer, &luks, error) : 0;
}

/* ---- Unlocking ---------------------------------------------------------- */

/* Take the work of trying all key slots from what may still be done for the chain. */
static int take_work(const struct qcow2_luks *luks, uint64_t *work, struct qcow2_error *error)
{
  uint64_t needed = qcow2_luks_work(luks);

  if (needed > *work)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "trying its key slots takes %" PRIu64 " hashes, and only %" PRIu64
                           " more are done for the files of one chain", needed, *work);
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
  code = read_luks(layer, &luks, error);
  if (code == 0)
    code = take_work(&luks, work, error);
  if (code != 0)
    return code;
  return qcow2_unlock_luks(&layer->file.storage, layer->metadata.luks_offset, &luks, passphrase,
                           cipher, error);
}

/* Name the encrypted file in an error that was detected without knowing it. */
static int place_error(const struct qcow2_layer *layer, int code, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES], clause[sizeof(error->message)];
  const char *method = layer->metadata.header.crypt_method == CRYPT_METHOD_AES ? "legacy AES" : "LUKS";

  if (error == NULL)
    return code;
  memcpy(clause, error->message, sizeof(clause));
  snprintf(error->message, sizeof(error->message), "\"%s\" is encrypted (%s): %.600s",
           qcow2_text_quote(layer->file.path == NULL ? "the image" : layer->file.path, quoted), method,
           clause);
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

/* ---- Describing --------------------------------------------------------- */

static void name_copy(char out[16], const char *name)
{
  snprintf(out, 16, "%s", name);
}

static void describe_luks(const struct qcow2_luks *luks, struct qcow2_encryption_info *info)
{
  const struct qcow2_cipher_spec *spec = &luks->cipher;

  name_copy(info->cipher, qcow2_cipher_algorithm_name(spec->algorithm));
  name_copy(info->mode, qcow2_cipher_mode_name(spec->mode));
  name_copy(info->ivgen, qcow2_ivgen_name(spec->ivgen));
  if (spec->ivgen == QCOW2_IVGEN_ESSIV)
    name_copy(info->ivgen_hash, qcow2_hash_name(spec->ivgen_hash));
  name_copy(info->hash, qcow2_hash_name(luks->hash));
  info->key_bits = spec->key_bytes * (spec->mode == QCOW2_CIPHER_XTS ? 4 : 8);
  info->payload_offset = luks->payload_offset;
  memcpy(info->uuid, luks->uuid, sizeof(info->uuid));
  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++) {
    info->slots[i].is_active = luks->slots[i].is_active;
    info->slots[i].iterations = luks->slots[i].iterations;
  }
}

static void describe_aes(struct qcow2_encryption_info *info)
{
  name_copy(info->cipher, "aes");
  name_copy(info->mode, "cbc");
  name_copy(info->ivgen, "plain64");
  info->key_bits = 128;
}

int qcow2_encryption_get(const struct qcow2_image *image, size_t index,
                         struct qcow2_encryption_info *info, struct qcow2_error *error)
{
  const struct qcow2_layer *layer;
  struct qcow2_luks luks = { .payload_offset = 0 };
  int code;

  if (index >= image->chain.count)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "layer %zu: the chain has %zu", index,
                           image->chain.count);
  layer = image->chain.layers[index];
  if (layer->metadata.header.crypt_method == CRYPT_METHOD_LUKS) {
    code = read_luks(layer, &luks, error);
    if (code != 0)
      return code;
  }
  memset(info, 0, sizeof(*info));
  info->method = layer->metadata.header.crypt_method;
  if (info->method == CRYPT_METHOD_AES)
    describe_aes(info);
  if (info->method != CRYPT_METHOD_LUKS)
    return 0;
  info->header_offset = layer->metadata.luks_offset;
  describe_luks(&luks, info);
  return 0;
}
