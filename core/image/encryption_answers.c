/* SPDX-License-Identifier: MIT */
/* The public function about the encryption of an image. */
#include <stdio.h>
#include <string.h>

#include "../base/error.h"
#include "encryption.h"
#include "image.h"

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
    code = qcow2_encryption_read_luks(layer, &luks, error);
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
