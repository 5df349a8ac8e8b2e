/* SPDX-License-Identifier: MIT */
/*
 * A LUKS header, 592 bytes, and up to four sectors of encrypted data after it. All further bytes of
 * the file, the key material among them, are zeros: with that a header whose digest fits can be
 * small (seeds.py makes some), and is opened by the passphrase.
 */
#include "../../core/format/luks.h"

#include <stdlib.h>
#include <string.h>

#include "../../core/base/checked.h"
#include "../../core/read/unlock.h"
#include "fuzz.h"

#define FILE_BYTES (UINT64_C(4) << 20)
#define ITERATIONS_TO_TRY 2000u
#define SECTORS_MAX 4u

static const struct qcow2_passphrase PASSPHRASE = { "secret", 6 };

/* The input, then zeros. */
static int read_padded(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct fuzz_input *input = context;
  size_t count = offset < input->length ? (size_t) min_u64(length, input->length - offset) : 0;

  FUZZ_CHECK(length > 0 && range_fits(offset, length, FILE_BYTES));
  memset(buffer, 0, length);
  if (count > 0)
    memcpy(buffer, input->bytes + offset, count);
  return 0;
}

/* What the rest of the code relies on. */
static void check_header(const struct qcow2_luks *luks)
{
  uint64_t material = qcow2_luks_material_bytes(luks);

  FUZZ_CHECK(qcow2_hash_name(luks->hash) != NULL && qcow2_hash_digest_bytes(luks->hash) <= 64);
  FUZZ_CHECK(qcow2_cipher_algorithm_name(luks->cipher.algorithm) != NULL);
  FUZZ_CHECK(qcow2_cipher_mode_name(luks->cipher.mode) != NULL);
  FUZZ_CHECK(qcow2_ivgen_name(luks->cipher.ivgen) != NULL);
  FUZZ_CHECK(luks->cipher.key_bytes > 0 && luks->cipher.key_bytes <= CIPHER_KEY_BYTES_MAX);
  FUZZ_CHECK(material >= (uint64_t) luks->cipher.key_bytes * LUKS_STRIPES &&
             material % ENCRYPTION_SECTOR_BYTES == 0);
  FUZZ_CHECK(memchr(luks->uuid, '\0', sizeof(luks->uuid)) != NULL);
  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++) {
    FUZZ_CHECK(luks->slots[i].material_offset >= LUKS_HEADER_BYTES);
    FUZZ_CHECK(range_fits(luks->slots[i].material_offset, material, FILE_BYTES));
  }
}

/* Whether trying all slots costs little. */
static bool is_cheap(const struct qcow2_luks *luks)
{
  uint64_t total = 0;

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    if (luks->slots[i].is_active)
      total += (uint64_t) luks->slots[i].iterations + luks->digest_iterations;
  return total <= ITERATIONS_TO_TRY;
}

/* Sectors decrypted one by one must be those decrypted at once. */
static void check_decryption(struct qcow2_cipher *cipher, const struct fuzz_input *input)
{
  size_t given = input->length > LUKS_HEADER_BYTES ? input->length - LUKS_HEADER_BYTES : 0;
  size_t length = (size_t) min_u64(given / ENCRYPTION_SECTOR_BYTES, SECTORS_MAX) *
                  ENCRYPTION_SECTOR_BYTES;
  uint8_t *whole = malloc(length + 1), *single = malloc(length + 1);
  struct qcow2_error error = fuzz_error_fresh();
  uint64_t sector = length; /* any number */

  FUZZ_CHECK(whole != NULL && single != NULL);
  if (length > 0) {
    memcpy(whole, input->bytes + LUKS_HEADER_BYTES, length);
    memcpy(single, whole, length);
    FUZZ_CHECK(qcow2_cipher_decrypt(cipher, sector, whole, length, &error) == 0);
  }
  for (size_t at = 0; at < length; at += ENCRYPTION_SECTOR_BYTES)
    FUZZ_CHECK(qcow2_cipher_decrypt(cipher, sector + at / ENCRYPTION_SECTOR_BYTES, single + at,
                                    ENCRYPTION_SECTOR_BYTES, &error) == 0);
  FUZZ_CHECK(memcmp(whole, single, length) == 0);
  free(whole);
  free(single);
}

void fuzz_luks(const uint8_t *data, size_t size)
{
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = { .context = &input, .size = FILE_BYTES, .read = read_padded };
  struct qcow2_error error = fuzz_error_fresh();
  uint8_t header[LUKS_HEADER_BYTES];
  struct qcow2_cipher *cipher = NULL;
  struct qcow2_luks luks;
  int code;

  read_padded(&input, 0, header, sizeof(header));
  code = qcow2_luks_decode(header, 0, FILE_BYTES, &luks, &error);
  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  check_header(&luks);
  if (!is_cheap(&luks))
    return;
  code = qcow2_unlock_luks(&storage, 0, &luks, &PASSPHRASE, &cipher, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_decryption(cipher, &input);
  qcow2_cipher_free(cipher);
}
