/* SPDX-License-Identifier: MIT */
/* The LUKS header that a qcow2 file of crypt_method 2 carries: LUKS version 1, decoded and
   validated once. Pure: no I/O, no cryptography. */
#ifndef QCOW2_FORMAT_LUKS_H
#define QCOW2_FORMAT_LUKS_H

#include <stdbool.h>

#include "../qcow2core.h"

#define LUKS_HEADER_BYTES 592u
/* The unit of encryption, in bytes, for data and for key material. Units are numbered from 0. */
#define ENCRYPTION_SECTOR_BYTES 512u

#define LUKS_DIGEST_BYTES 20u
#define LUKS_SALT_BYTES 32u
/* A key is stored as this many stripes of its own length. */
#define LUKS_STRIPES 4000u
/* The most hashes that trying all key slots of a header may need. They keep a CPU busy for a few
   minutes; a hostile header could ask for hours. QEMU and cryptsetup choose as many as take two
   seconds, on the fastest machines some 20 million for each slot. */
#define LUKS_WORK_MAX UINT64_C(400000000)
/* The longest key: two of 256 bits, for XTS. */
#define CIPHER_KEY_BYTES_MAX 64u

enum qcow2_hash {
  QCOW2_HASH_MD5,
  QCOW2_HASH_SHA1,
  QCOW2_HASH_SHA224,
  QCOW2_HASH_SHA256,
  QCOW2_HASH_SHA384,
  QCOW2_HASH_SHA512,
  QCOW2_HASH_RIPEMD160,
  QCOW2_HASH_SM3
};

enum qcow2_cipher_algorithm {
  QCOW2_CIPHER_AES,
  QCOW2_CIPHER_SERPENT,
  QCOW2_CIPHER_TWOFISH,
  QCOW2_CIPHER_CAST5,
  QCOW2_CIPHER_SM4
};

enum qcow2_cipher_mode {
  QCOW2_CIPHER_ECB, /* uses no IV */
  QCOW2_CIPHER_CBC,
  QCOW2_CIPHER_CTR,
  QCOW2_CIPHER_XTS /* two keys of the algorithm, one after the other */
};

/* How a sector's initialisation vector is made of its number. */
enum qcow2_ivgen {
  QCOW2_IVGEN_PLAIN,   /* the number's low 32 bits, little endian, then zeros */
  QCOW2_IVGEN_PLAIN64, /* all 64 bits, little endian, then zeros */
  QCOW2_IVGEN_ESSIV    /* plain64's, encrypted with a hash of the key */
};

/* Everything about a sector cipher but the key. */
struct qcow2_cipher_spec {
  enum qcow2_cipher_algorithm algorithm;
  enum qcow2_cipher_mode mode;
  enum qcow2_ivgen ivgen;
  enum qcow2_hash ivgen_hash; /* ESSIV only */
  uint32_t key_bytes;         /* of the whole key: both of XTS. At most CIPHER_KEY_BYTES_MAX */
};

struct qcow2_luks_slot {
  bool is_active;
  uint32_t iterations;
  uint8_t salt[LUKS_SALT_BYTES];
  uint64_t material_offset; /* bytes, from the start of the LUKS header */
};

struct qcow2_luks {
  struct qcow2_cipher_spec cipher;
  enum qcow2_hash hash;
  uint64_t payload_offset; /* bytes, from the start of the LUKS header; not used in qcow2 */
  uint8_t digest[LUKS_DIGEST_BYTES];
  uint8_t digest_salt[LUKS_SALT_BYTES];
  uint32_t digest_iterations;
  char uuid[40]; /* NUL-terminated */
  struct qcow2_luks_slot slots[QCOW2_KEY_SLOTS];
};

/* Decode the header that starts at `host_offset`. The header and its key material have
   `area_length` bytes together. Errors: CORRUPT, UNSUPPORTED, with the field's host offset. */
int qcow2_luks_decode(const uint8_t bytes[LUKS_HEADER_BYTES], uint64_t host_offset,
                      uint64_t area_length, struct qcow2_luks *luks, struct qcow2_error *error);

/* The number of hashes that trying all key slots takes. At most LUKS_WORK_MAX in a decoded
   header. */
uint64_t qcow2_luks_work(const struct qcow2_luks *luks);

/* The bytes that a slot's key material takes, in whole sectors. */
uint64_t qcow2_luks_material_bytes(const struct qcow2_luks *luks);

/* The length of a hash's digest, bytes. At most 64. */
uint32_t qcow2_hash_digest_bytes(enum qcow2_hash hash);

/* The names that a LUKS header uses: "sha256", "aes", "xts", "essiv". Static storage. */
const char *qcow2_hash_name(enum qcow2_hash hash);
const char *qcow2_cipher_algorithm_name(enum qcow2_cipher_algorithm algorithm);
const char *qcow2_cipher_mode_name(enum qcow2_cipher_mode mode);
const char *qcow2_ivgen_name(enum qcow2_ivgen ivgen);

#endif
