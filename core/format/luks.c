/* SPDX-License-Identifier: MIT */
#include "luks.h"

#include <inttypes.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"

/* Offsets of the fields, and lengths of the strings. */
#define AT_VERSION 6u
#define AT_CIPHER 8u
#define AT_MODE 40u
#define AT_HASH 72u
#define AT_PAYLOAD_OFFSET 104u
#define AT_KEY_BYTES 108u
#define AT_DIGEST 112u
#define AT_DIGEST_SALT 132u
#define AT_DIGEST_ITERATIONS 164u
#define AT_UUID 168u
#define AT_SLOTS 208u
#define NAME_BYTES 32u
#define UUID_BYTES 40u

#define SLOT_BYTES 48u
#define SLOT_AT_ITERATIONS 4u
#define SLOT_AT_SALT 8u
#define SLOT_AT_MATERIAL 40u
#define SLOT_AT_STRIPES 44u
#define SLOT_ACTIVE UINT32_C(0x00AC71F3)
#define SLOT_INACTIVE UINT32_C(0x0000DEAD)

static const uint8_t MAGIC[6] = { 'L', 'U', 'K', 'S', 0xBA, 0xBE };

/* ---- Names -------------------------------------------------------------- */

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const HASHES[] = {
  [QCOW2_HASH_MD5] = "md5",       [QCOW2_HASH_SHA1] = "sha1",
  [QCOW2_HASH_SHA224] = "sha224", [QCOW2_HASH_SHA256] = "sha256",
  [QCOW2_HASH_SHA384] = "sha384", [QCOW2_HASH_SHA512] = "sha512",
  [QCOW2_HASH_SM3] = "sm3",       [QCOW2_HASH_RIPEMD160] = "ripemd160",
};

static const uint8_t DIGEST_BYTES[] = {
  [QCOW2_HASH_MD5] = 16,    [QCOW2_HASH_SHA1] = 20,      [QCOW2_HASH_SHA224] = 28,
  [QCOW2_HASH_SHA256] = 32, [QCOW2_HASH_SHA384] = 48,    [QCOW2_HASH_SHA512] = 64,
  [QCOW2_HASH_SM3] = 32,    [QCOW2_HASH_RIPEMD160] = 20,
};

static const char *const ALGORITHMS[] = {
  [QCOW2_CIPHER_AES] = "aes",         [QCOW2_CIPHER_SERPENT] = "serpent",
  [QCOW2_CIPHER_TWOFISH] = "twofish", [QCOW2_CIPHER_CAST5] = "cast5",
  [QCOW2_CIPHER_SM4] = "sm4",
};

static const char *const MODES[] = {
  [QCOW2_CIPHER_ECB] = "ecb",
  [QCOW2_CIPHER_CBC] = "cbc",
  [QCOW2_CIPHER_CTR] = "ctr",
  [QCOW2_CIPHER_XTS] = "xts",
};

static const char *const IVGENS[] = {
  [QCOW2_IVGEN_PLAIN] = "plain",
  [QCOW2_IVGEN_PLAIN64] = "plain64",
  [QCOW2_IVGEN_ESSIV] = "essiv",
};

uint32_t qcow2_hash_digest_bytes(enum qcow2_hash hash)
{
  return DIGEST_BYTES[hash];
}

const char *qcow2_hash_name(enum qcow2_hash hash)
{
  return HASHES[hash];
}

const char *qcow2_cipher_algorithm_name(enum qcow2_cipher_algorithm algorithm)
{
  return ALGORITHMS[algorithm];
}

const char *qcow2_cipher_mode_name(enum qcow2_cipher_mode mode)
{
  return MODES[mode];
}

const char *qcow2_ivgen_name(enum qcow2_ivgen ivgen)
{
  return IVGENS[ivgen];
}

/* The index of the name that is `length` bytes of text, or -1. */
static int find_name(const char *const names[], size_t count, const char *text, size_t length)
{
  for (size_t i = 0; i < count; i++)
    if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
      return (int) i;
  return -1;
}

/* ---- Errors ------------------------------------------------------------- */

static int unknown_error(struct qcow2_error *error, uint64_t host_offset, const char *what,
                         const char *name)
{
  char quoted[TEXT_ESCAPED_BYTES];

  return qcow2_error_set_at(
      error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, host_offset,
      "the LUKS header asks for the %s \"%s\", which this reader does not know", what,
      qcow2_text_quote(name, quoted));
}

static int slot_error(struct qcow2_error *error, uint64_t host_offset, unsigned slot,
                      const char *problem)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                            "key slot %u of the LUKS header %s", slot, problem);
}

/* ---- The cipher --------------------------------------------------------- */

static bool takes_key(enum qcow2_cipher_algorithm algorithm, uint32_t key_bytes)
{
  bool takes_longer = algorithm != QCOW2_CIPHER_CAST5 && algorithm != QCOW2_CIPHER_SM4;

  return key_bytes == 16 || (takes_longer && (key_bytes == 24 || key_bytes == 32));
}

/* Decode the hash with which ESSIV makes its key, which is a key of the same algorithm. */
static int decode_essiv(const char *text, uint64_t host_offset, struct qcow2_cipher_spec *spec,
                        struct qcow2_error *error)
{
  int hash = find_name(HASHES, COUNT_OF(HASHES), text, strlen(text));

  if (hash < 0)
    return unknown_error(error, host_offset, "IV generator's hash", text);
  spec->ivgen_hash = (enum qcow2_hash) hash;
  if (takes_key(spec->algorithm, DIGEST_BYTES[hash]))
    return 0;
  return qcow2_error_set_at(
      error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, host_offset,
      "the LUKS header asks for the IV generator \"essiv:%s\", but %s takes no key of %u bytes",
      HASHES[hash], ALGORITHMS[spec->algorithm], DIGEST_BYTES[hash]);
}

/* Decode the IV generator, which follows "MODE-": "plain64", "essiv:sha256". ECB uses none, and may
   have none. The hash of another generator than ESSIV ("plain64:sha256") has no meaning: QEMU
   writes it if asked to, and ignores it, as dm-crypt does. */
static int decode_ivgen(const char *text, uint64_t host_offset, struct qcow2_cipher_spec *spec,
                        struct qcow2_error *error)
{
  size_t length = strcspn(text, ":");
  int ivgen = find_name(IVGENS, COUNT_OF(IVGENS), text, length);

  spec->ivgen = QCOW2_IVGEN_PLAIN64;
  if (*text == '\0' && spec->mode == QCOW2_CIPHER_ECB)
    return 0;
  if (ivgen < 0 || (ivgen == QCOW2_IVGEN_ESSIV && text[length] != ':'))
    return unknown_error(error, host_offset, "IV generator", text);
  spec->ivgen = (enum qcow2_ivgen) ivgen;
  return ivgen == QCOW2_IVGEN_ESSIV ? decode_essiv(text + length + 1, host_offset, spec, error) : 0;
}

/* Decode "xts-plain64" and the like. */
static int decode_mode(const char *text, uint64_t host_offset, struct qcow2_cipher_spec *spec,
                       struct qcow2_error *error)
{
  size_t length = strcspn(text, "-");
  int mode = find_name(MODES, COUNT_OF(MODES), text, length);

  if (mode < 0)
    return unknown_error(error, host_offset, "cipher mode", text);
  spec->mode = (enum qcow2_cipher_mode) mode;
  if (spec->mode == QCOW2_CIPHER_XTS && spec->algorithm == QCOW2_CIPHER_CAST5)
    return qcow2_error_set_at(
        error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, host_offset,
        "the LUKS header asks for cast5 in XTS mode, which needs a cipher of 16-byte blocks");
  return decode_ivgen(text + length + (text[length] == '-'), host_offset, spec, error);
}

static int check_key_bytes(const struct qcow2_cipher_spec *spec, uint64_t host_offset,
                           struct qcow2_error *error)
{
  uint32_t keys = spec->mode == QCOW2_CIPHER_XTS ? 2 : 1;

  if (spec->key_bytes % keys == 0 && takes_key(spec->algorithm, spec->key_bytes / keys))
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                            "the LUKS header has a key of %" PRIu32
                            " bytes, which %s in %s mode cannot use",
                            spec->key_bytes, ALGORITHMS[spec->algorithm], MODES[spec->mode]);
}

/* The strings are known to be terminated. */
static int decode_cipher(const uint8_t *bytes, uint64_t host_offset, struct qcow2_luks *luks,
                         struct qcow2_error *error)
{
  const char *name = (const char *) bytes + AT_CIPHER, *hash_name = (const char *) bytes + AT_HASH;
  int algorithm = find_name(ALGORITHMS, COUNT_OF(ALGORITHMS), name, strlen(name));
  int hash = find_name(HASHES, COUNT_OF(HASHES), hash_name, strlen(hash_name));
  struct qcow2_cipher_spec *spec = &luks->cipher;
  int code;

  if (algorithm < 0)
    return unknown_error(error, host_offset + AT_CIPHER, "cipher", name);
  if (hash < 0)
    return unknown_error(error, host_offset + AT_HASH, "hash", hash_name);
  spec->algorithm = (enum qcow2_cipher_algorithm) algorithm;
  luks->hash = (enum qcow2_hash) hash;
  code = decode_mode((const char *) bytes + AT_MODE, host_offset + AT_MODE, spec, error);
  if (code != 0)
    return code;
  spec->key_bytes = be32_get(bytes + AT_KEY_BYTES);
  return check_key_bytes(spec, host_offset + AT_KEY_BYTES, error);
}

/* ---- Key slots ---------------------------------------------------------- */

uint64_t qcow2_luks_material_bytes(const struct qcow2_luks *luks)
{
  uint64_t bytes = (uint64_t) luks->cipher.key_bytes * LUKS_STRIPES;

  return divide_up(bytes, ENCRYPTION_SECTOR_BYTES) * ENCRYPTION_SECTOR_BYTES;
}

static int decode_slot(const uint8_t *bytes, uint64_t host_offset, unsigned index,
                       struct qcow2_luks_slot *slot, struct qcow2_error *error)
{
  uint32_t state = be32_get(bytes);

  if (state != SLOT_ACTIVE && state != SLOT_INACTIVE)
    return slot_error(error, host_offset, index, "is neither marked active nor inactive");
  if (be32_get(bytes + SLOT_AT_STRIPES) != LUKS_STRIPES)
    return slot_error(error, host_offset + SLOT_AT_STRIPES, index, "does not have 4000 stripes");
  slot->is_active = state == SLOT_ACTIVE;
  slot->iterations = be32_get(bytes + SLOT_AT_ITERATIONS);
  if (slot->is_active && slot->iterations == 0)
    return slot_error(error, host_offset + SLOT_AT_ITERATIONS, index, "has zero iterations");
  slot->material_offset = (uint64_t) be32_get(bytes + SLOT_AT_MATERIAL) * ENCRYPTION_SECTOR_BYTES;
  memcpy(slot->salt, bytes + SLOT_AT_SALT, LUKS_SALT_BYTES);
  return 0;
}

/* Refuse key material outside the area where only key material is, even for an inactive slot. */
static int check_material(const struct qcow2_luks *luks, unsigned index, uint64_t area_length,
                          uint64_t host_offset, struct qcow2_error *error)
{
  uint64_t start = luks->slots[index].material_offset, length = qcow2_luks_material_bytes(luks);

  host_offset += AT_SLOTS + index * SLOT_BYTES + SLOT_AT_MATERIAL;
  if (start < LUKS_HEADER_BYTES)
    return slot_error(error, host_offset, index, "has its key material inside the header");
  if (!range_fits(start, length, area_length))
    return slot_error(error, host_offset, index,
                      "has its key material outside the area that the qcow2 header gives to LUKS");
  for (unsigned other = 0; other < index; other++) {
    uint64_t other_start = luks->slots[other].material_offset;

    if (start < other_start + length && other_start < start + length)
      return slot_error(error, host_offset, index, "overlaps another slot's key material");
  }
  return 0;
}

/* The number of hashes that are needed to derive a key of `bytes`: one chain of iterations for each
   length of a digest. */
static uint64_t derivation_work(const struct qcow2_luks *luks, uint32_t bytes, uint32_t iterations)
{
  return divide_up(bytes, qcow2_hash_digest_bytes(luks->hash)) * iterations;
}

/* Unlocking may try every active slot, and checks the digest for each. */
uint64_t qcow2_luks_work(const struct qcow2_luks *luks)
{
  uint64_t work = 0;

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    if (luks->slots[i].is_active)
      work += derivation_work(luks, luks->cipher.key_bytes, luks->slots[i].iterations) +
              derivation_work(luks, LUKS_DIGEST_BYTES, luks->digest_iterations);
  return work;
}

static int check_iterations(const struct qcow2_luks *luks, uint64_t host_offset,
                            struct qcow2_error *error)
{
  uint64_t work = qcow2_luks_work(luks);

  if (luks->digest_iterations == 0)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET,
                              host_offset + AT_DIGEST_ITERATIONS,
                              "the LUKS header has zero iterations for its master key");
  if (work <= LUKS_WORK_MAX)
    return 0;
  return qcow2_error_set_at(
      error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, host_offset,
      "trying the key slots of the LUKS header, with their iterations, takes %" PRIu64
      " hashes; at most %" PRIu64 " are done",
      work, LUKS_WORK_MAX);
}

static int decode_slots(const uint8_t *bytes, uint64_t host_offset, uint64_t area_length,
                        struct qcow2_luks *luks, struct qcow2_error *error)
{
  int code = 0;

  for (unsigned i = 0; code == 0 && i < QCOW2_KEY_SLOTS; i++) {
    uint32_t at = AT_SLOTS + i * SLOT_BYTES;

    code = decode_slot(bytes + at, host_offset + at, i, &luks->slots[i], error);
    if (code == 0)
      code = check_material(luks, i, area_length, host_offset, error);
  }
  return code == 0 ? check_iterations(luks, host_offset, error) : code;
}

/* ---- The whole ---------------------------------------------------------- */

static int check_terminated(const uint8_t *bytes, uint64_t host_offset, struct qcow2_error *error)
{
  static const struct {
    const char *what;
    uint32_t at, length;
  } strings[] = { { "cipher name", AT_CIPHER, NAME_BYTES },
                  { "cipher mode", AT_MODE, NAME_BYTES },
                  { "hash name", AT_HASH, NAME_BYTES },
                  { "UUID", AT_UUID, UUID_BYTES } };

  for (size_t i = 0; i < COUNT_OF(strings); i++)
    if (memchr(bytes + strings[i].at, '\0', strings[i].length) == NULL)
      return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET,
                                host_offset + strings[i].at,
                                "the LUKS header's %s is not terminated", strings[i].what);
  return 0;
}

static int check_start(const uint8_t *bytes, uint64_t host_offset, struct qcow2_error *error)
{
  uint16_t version = be16_get(bytes + AT_VERSION);

  if (memcmp(bytes, MAGIC, sizeof(MAGIC)) != 0)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                              "there is no LUKS header at host offset %" PRIu64
                              ", where the qcow2 header says it is",
                              host_offset);
  if (version != 1)
    return qcow2_error_set_at(error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET,
                              host_offset + AT_VERSION,
                              "the LUKS header is of version %u; version 1 can be read", version);
  return check_terminated(bytes, host_offset, error);
}

int qcow2_luks_decode(const uint8_t bytes[LUKS_HEADER_BYTES], uint64_t host_offset,
                      uint64_t area_length, struct qcow2_luks *luks, struct qcow2_error *error)
{
  int code = check_start(bytes, host_offset, error);

  memset(luks, 0, sizeof(*luks));
  if (code == 0)
    code = decode_cipher(bytes, host_offset, luks, error);
  if (code != 0)
    return code;
  luks->payload_offset = (uint64_t) be32_get(bytes + AT_PAYLOAD_OFFSET) * ENCRYPTION_SECTOR_BYTES;
  luks->digest_iterations = be32_get(bytes + AT_DIGEST_ITERATIONS);
  memcpy(luks->digest, bytes + AT_DIGEST, sizeof(luks->digest));
  memcpy(luks->digest_salt, bytes + AT_DIGEST_SALT, sizeof(luks->digest_salt));
  memcpy(luks->uuid, bytes + AT_UUID, sizeof(luks->uuid));
  return decode_slots(bytes, host_offset, area_length, luks, error);
}
