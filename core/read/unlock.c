/* SPDX-License-Identifier: MIT */
#include "unlock.h"

#include <gcrypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/libgcrypt_start.h"
#include "../base/system.h"
#include "../storage/storage.h"
#include "libgcrypt.h"

#define DIGEST_BYTES_MAX 64u
#define AES_KEY_BYTES 16u

/* A LUKS header that is being unlocked. */
struct attempt {
  const struct qcow2_storage *image;
  uint64_t host_offset;
  const struct qcow2_luks *luks;
  const struct qcow2_passphrase *passphrase;
};

static int check_passphrase(const struct qcow2_passphrase *passphrase, struct qcow2_error *error)
{
  if (passphrase != NULL)
    return 0;
  qcow2_error_set(error, QCOW2_ERROR_KEY, "it needs a passphrase, and none was given");
  return qcow2_error_add_help(error, QCOW2_ERROR_KEY, QCOW2_HELP_PASSPHRASE,
                              QCOW2_OPTION_PASSPHRASES);
}

/* ---- Key derivation ------------------------------------------------------- */

/* One block of PBKDF2 (RFC 8018): the exclusive or of `iterations` hashes. Each is a hash of the
   one before. */
static void derive_block(gcry_md_hd_t hmac, const uint8_t salt[LUKS_SALT_BYTES],
                         uint32_t iterations, uint32_t index, uint8_t *block,
                         uint32_t digest_length)
{
  uint8_t link[DIGEST_BYTES_MAX], number[4];

  be32_put(number, index);
  gcry_md_reset(hmac);
  gcry_md_write(hmac, salt, LUKS_SALT_BYTES);
  gcry_md_write(hmac, number, sizeof(number));
  memcpy(link, gcry_md_read(hmac, 0), digest_length);
  memcpy(block, link, digest_length);
  for (uint32_t i = 1; i < iterations; i++) {
    gcry_md_reset(hmac);
    gcry_md_write(hmac, link, digest_length);
    memcpy(link, gcry_md_read(hmac, 0), digest_length);
    for (uint32_t j = 0; j < digest_length; j++)
      block[j] ^= link[j];
  }
  qcow2_system_wipe(link, sizeof(link));
}

/* PBKDF2. Why we have our own: gcry_kdf_derive() leaves a part of the derived key in memory that it
   frees without wiping it. This one is a loop over libgcrypt's HMAC, and wipes what it used. */
static int derive(const struct qcow2_luks *luks, const void *secret, size_t secret_length,
                  const uint8_t salt[LUKS_SALT_BYTES], uint32_t iterations, uint8_t *out,
                  uint32_t out_length, struct qcow2_error *error)
{
  uint32_t digest_length = qcow2_hash_digest_bytes(luks->hash), index = 1;
  uint8_t block[DIGEST_BYTES_MAX];
  gcry_md_hd_t hmac;
  gcry_error_t status = gcry_md_open(&hmac, qcow2_libgcrypt_hash(luks->hash), GCRY_MD_FLAG_HMAC);

  if (status == 0) /* libgcrypt needs a pointer that is not NULL, also for 0 bytes */
    status = gcry_md_setkey(hmac, secret_length == 0 ? "" : secret, secret_length);
  for (uint32_t at = 0; status == 0 && at < out_length; at += digest_length, index++) {
    derive_block(hmac, salt, iterations, index, block, digest_length);
    memcpy(out + at, block, (size_t) min_u64(out_length - at, digest_length));
  }
  qcow2_system_wipe(block, sizeof(block));
  gcry_md_close(hmac);
  return status == 0 ? 0 : qcow2_libgcrypt_error(error, status, "derive a key from the passphrase");
}

/* ---- Anti-forensic information splitting ----------------------------------- */

/* Replace each part of the block by its hash. The last part may be shorter than a hash. */
static void diffuse(uint8_t *block, uint32_t length, int hash, uint32_t digest_length)
{
  uint8_t input[4 + DIGEST_BYTES_MAX], digest[DIGEST_BYTES_MAX];
  uint32_t index = 0;

  for (uint32_t at = 0; at < length; at += digest_length, index++) {
    uint32_t count = length - at < digest_length ? length - at : digest_length;

    be32_put(input, index);
    memcpy(input + 4, block + at, count);
    gcry_md_hash_buffer(hash, digest, input, 4 + count);
    memcpy(block + at, digest, count);
  }
  qcow2_system_wipe(input, sizeof(input));
  qcow2_system_wipe(digest, sizeof(digest));
}

/* Merge the stripes into the key that was split. */
static void merge_stripes(const struct qcow2_luks *luks, const uint8_t *stripes,
                          uint8_t key[CIPHER_KEY_BYTES_MAX])
{
  uint32_t length = luks->cipher.key_bytes, digest_length = qcow2_hash_digest_bytes(luks->hash);
  int hash = qcow2_libgcrypt_hash(luks->hash);

  memset(key, 0, CIPHER_KEY_BYTES_MAX);
  for (uint32_t i = 0; i < LUKS_STRIPES; i++, stripes += length) {
    if (i > 0)
      diffuse(key, length, hash, digest_length);
    for (uint32_t j = 0; j < length; j++)
      key[j] ^= stripes[j];
  }
}

/* ---- Key slots -------------------------------------------------------------- */

/* Read the key material of a slot, and decrypt it with the key derived from the passphrase. */
static int decrypt_material(const struct attempt *attempt, const struct qcow2_luks_slot *slot,
                            uint8_t *material, size_t length, struct qcow2_error *error)
{
  const struct qcow2_luks *luks = attempt->luks;
  uint8_t key[CIPHER_KEY_BYTES_MAX];
  struct qcow2_cipher *cipher = NULL;
  int code = qcow2_storage_read(attempt->image, attempt->host_offset + slot->material_offset,
                                material, length, error);

  if (code == 0)
    code = derive(luks, attempt->passphrase->bytes, attempt->passphrase->length, slot->salt,
                  slot->iterations, key, luks->cipher.key_bytes, error);
  if (code == 0)
    code = qcow2_cipher_new(&luks->cipher, key, &cipher, error);
  if (code == 0)
    code = qcow2_cipher_decrypt(cipher, 0, material, length, error);
  qcow2_cipher_free(cipher);
  qcow2_system_wipe(key, sizeof(key));
  return code;
}

/* Compare the key with the digest in the header. */
static int check_key(const struct qcow2_luks *luks, const uint8_t *key, struct qcow2_error *error)
{
  uint8_t digest[LUKS_DIGEST_BYTES];
  int code = derive(luks, key, luks->cipher.key_bytes, luks->digest_salt, luks->digest_iterations,
                    digest, sizeof(digest), error);

  if (code == 0 && memcmp(digest, luks->digest, sizeof(digest)) != 0)
    code = qcow2_error_set(error, QCOW2_ERROR_KEY, "the passphrase does not fit");
  return code;
}

/* Get the master key from one slot. */
static int open_slot(const struct attempt *attempt, const struct qcow2_luks_slot *slot,
                     uint8_t key[CIPHER_KEY_BYTES_MAX], struct qcow2_error *error)
{
  size_t length = (size_t) qcow2_luks_material_bytes(attempt->luks);
  uint8_t *material = malloc(length);
  int code;

  if (material == NULL)
    return qcow2_error_set_nomem(error);
  code = decrypt_material(attempt, slot, material, length, error);
  if (code == 0)
    merge_stripes(attempt->luks, material, key);
  qcow2_system_wipe(material, length);
  free(material);
  return code == 0 ? check_key(attempt->luks, key, error) : code;
}

static int wrong_passphrase(const struct qcow2_luks *luks,
                            const struct qcow2_passphrase *passphrase, struct qcow2_error *error)
{
  char list[QCOW2_KEY_SLOTS * 4] = "";
  size_t used = 0;

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    if (luks->slots[i].is_active)
      used += (size_t) snprintf(list + used, sizeof(list) - used, "%s%u", used > 0 ? ", " : "", i);
  if (used == 0)
    return qcow2_error_set(
        error, QCOW2_ERROR_KEY,
        "no passphrase can open it: none of the key slots in its LUKS header is active");
  qcow2_error_set(error, QCOW2_ERROR_KEY,
                  "the passphrase is %s: it opens none of the active key slots, which are number "
                  "%s",
                  passphrase->length == 0 ? "empty" : "wrong", list);
  return qcow2_error_add_help(error, QCOW2_ERROR_KEY, QCOW2_HELP_PASSPHRASE,
                              QCOW2_OPTION_PASSPHRASES);
}

/* Try the active slots in turn. After an error in one slot the others are still tried. */
static int open_any_slot(const struct attempt *attempt, uint8_t key[CIPHER_KEY_BYTES_MAX],
                         struct qcow2_error *error)
{
  struct qcow2_error slot_error, first_error;
  int first_code = 0;

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++) {
    const struct qcow2_luks_slot *slot = &attempt->luks->slots[i];
    int code = slot->is_active ? open_slot(attempt, slot, key, &slot_error) : QCOW2_ERROR_KEY;

    if (code == 0)
      return 0;
    if (code != QCOW2_ERROR_KEY && first_code == 0) {
      first_code = code;
      first_error = slot_error;
    }
  }
  if (first_code == 0)
    return wrong_passphrase(attempt->luks, attempt->passphrase, error);
  if (error != NULL)
    *error = first_error;
  return first_code;
}

/* ---- The whole -------------------------------------------------------------- */

static int check_hash(enum qcow2_hash hash, struct qcow2_error *error)
{
  libgcrypt_start();
  if (gcry_md_test_algo(qcow2_libgcrypt_hash(hash)) == 0)
    return 0;
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "this libgcrypt has no %s",
                         qcow2_hash_name(hash));
}

int qcow2_unlock_luks(const struct qcow2_storage *image, uint64_t host_offset,
                      const struct qcow2_luks *luks, const struct qcow2_passphrase *passphrase,
                      struct qcow2_cipher **cipher, struct qcow2_error *error)
{
  struct attempt attempt = { image, host_offset, luks, passphrase };
  uint8_t key[CIPHER_KEY_BYTES_MAX];
  int code = check_passphrase(passphrase, error);

  if (code == 0)
    code = check_hash(luks->hash, error);
  if (code == 0)
    code = open_any_slot(&attempt, key, error);
  if (code == 0)
    code = qcow2_cipher_new(&luks->cipher, key, cipher, error);
  qcow2_system_wipe(key, sizeof(key));
  return code;
}

int qcow2_unlock_aes(const struct qcow2_passphrase *passphrase, struct qcow2_cipher **cipher,
                     struct qcow2_error *error)
{
  static const struct qcow2_cipher_spec spec = { .algorithm = QCOW2_CIPHER_AES,
                                                 .mode = QCOW2_CIPHER_CBC,
                                                 .ivgen = QCOW2_IVGEN_PLAIN64,
                                                 .key_bytes = AES_KEY_BYTES };
  uint8_t key[AES_KEY_BYTES] = { 0 };
  int code = check_passphrase(passphrase, error);

  if (code != 0)
    return code;
  if (passphrase->length > 0)
    memcpy(key, passphrase->bytes,
           passphrase->length < sizeof(key) ? passphrase->length : sizeof(key));
  code = qcow2_cipher_new(&spec, key, cipher, error);
  qcow2_system_wipe(key, sizeof(key));
  return code;
}
