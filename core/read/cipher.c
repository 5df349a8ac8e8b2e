/* SPDX-License-Identifier: MIT */
#include "cipher.h"

#include <gcrypt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/error.h"
#include "../base/libgcrypt_start.h"
#include "../base/system.h"
#include "libgcrypt.h"
#include "twofish.h"

#define BLOCK_BYTES_MAX 16u

/* Handles of libgcrypt with the keys set. One thread at a time uses them. */
struct engine {
  gcry_cipher_hd_t data;  /* NULL: Twofish-192, which is not in libgcrypt */
  gcry_cipher_hd_t ivgen; /* ESSIV only, else NULL */
  struct engine *next;
};

struct qcow2_cipher {
  struct qcow2_cipher_spec spec;
  uint32_t block_bytes;
  uint8_t key[CIPHER_KEY_BYTES_MAX];
  struct qcow2_twofish *twofish; /* two, for Twofish-192 in XTS mode; else NULL */
  pthread_mutex_t lock;          /* of the list of engines that are not in use: */
  struct engine *free;
};

/* ---- libgcrypt's names ----------------------------------------------------- */

/* The algorithm for keys of this length; 0: there is none. libgcrypt refuses Twofish with 192 bits
   when the key is set. */
static int algorithm_number(enum qcow2_cipher_algorithm algorithm, uint32_t key_bytes)
{
  switch (algorithm) {
  case QCOW2_CIPHER_AES:
    return key_bytes == 16   ? GCRY_CIPHER_AES128
           : key_bytes == 24 ? GCRY_CIPHER_AES192
                             : GCRY_CIPHER_AES256;
  case QCOW2_CIPHER_SERPENT:
    return key_bytes == 16   ? GCRY_CIPHER_SERPENT128
           : key_bytes == 24 ? GCRY_CIPHER_SERPENT192
                             : GCRY_CIPHER_SERPENT256;
  case QCOW2_CIPHER_TWOFISH: return key_bytes == 16 ? GCRY_CIPHER_TWOFISH128 : GCRY_CIPHER_TWOFISH;
  case QCOW2_CIPHER_CAST5: return GCRY_CIPHER_CAST5;
  case QCOW2_CIPHER_SM4: /* by its name: the headers of older versions do not know it */
    return gcry_cipher_map_name("SM4");
  }
  return 0;
}

static int mode_number(enum qcow2_cipher_mode mode)
{
  switch (mode) {
  case QCOW2_CIPHER_ECB: return GCRY_CIPHER_MODE_ECB;
  case QCOW2_CIPHER_CBC: return GCRY_CIPHER_MODE_CBC;
  case QCOW2_CIPHER_CTR: return GCRY_CIPHER_MODE_CTR;
  case QCOW2_CIPHER_XTS: return GCRY_CIPHER_MODE_XTS;
  }
  return GCRY_CIPHER_MODE_NONE;
}

/* ---- Engines --------------------------------------------------------------- */

static int open_handle(int algorithm, int mode, const uint8_t *key, size_t key_bytes,
                       const char *name, gcry_cipher_hd_t *handle, struct qcow2_error *error)
{
  gcry_error_t status = gcry_cipher_open(handle, algorithm, mode, 0);
  char what[64];

  if (status == 0) {
    status = gcry_cipher_setkey(*handle, key, key_bytes);
    if (status == 0)
      return 0;
    gcry_cipher_close(*handle);
  }
  *handle = NULL;
  snprintf(what, sizeof(what), "use %s", name);
  return qcow2_libgcrypt_error(error, status, what);
}

/* Open the cipher that makes initialisation vectors of sector numbers (ESSIV). Its key is the hash
   of the key. */
static int open_ivgen(const struct qcow2_cipher *cipher, gcry_cipher_hd_t *handle,
                      struct qcow2_error *error)
{
  const struct qcow2_cipher_spec *spec = &cipher->spec;
  uint32_t length = qcow2_hash_digest_bytes(spec->ivgen_hash);
  int hash = qcow2_libgcrypt_hash(spec->ivgen_hash);
  uint8_t digest[64];
  int code;

  if (gcry_md_test_algo(hash) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "this libgcrypt has no %s",
                           qcow2_hash_name(spec->ivgen_hash));
  gcry_md_hash_buffer(hash, digest, cipher->key, spec->key_bytes);
  code = open_handle(algorithm_number(spec->algorithm, length), GCRY_CIPHER_MODE_ECB, digest,
                     length, qcow2_cipher_algorithm_name(spec->algorithm), handle, error);
  qcow2_system_wipe(digest, sizeof(digest));
  return code;
}

/* Closing a handle wipes its keys. */
static void engine_free(struct engine *engine)
{
  gcry_cipher_close(engine->ivgen);
  gcry_cipher_close(engine->data);
  free(engine);
}

static int open_data(const struct qcow2_cipher *cipher, gcry_cipher_hd_t *handle,
                     struct qcow2_error *error)
{
  const struct qcow2_cipher_spec *spec = &cipher->spec;
  uint32_t one_key = spec->mode == QCOW2_CIPHER_XTS ? spec->key_bytes / 2 : spec->key_bytes;

  if (cipher->twofish != NULL)
    return 0;
  return open_handle(algorithm_number(spec->algorithm, one_key), mode_number(spec->mode),
                     cipher->key, spec->key_bytes, qcow2_cipher_algorithm_name(spec->algorithm),
                     handle, error);
}

static int engine_new(const struct qcow2_cipher *cipher, struct engine **out,
                      struct qcow2_error *error)
{
  const struct qcow2_cipher_spec *spec = &cipher->spec;
  struct engine *engine = calloc(1, sizeof(*engine));
  int code;

  if (engine == NULL)
    return qcow2_error_set_nomem(error);
  code = open_data(cipher, &engine->data, error);
  if (code == 0 && spec->mode != QCOW2_CIPHER_ECB && spec->ivgen == QCOW2_IVGEN_ESSIV)
    code = open_ivgen(cipher, &engine->ivgen, error);
  if (code != 0) {
    engine_free(engine);
    return code;
  }
  *out = engine;
  return 0;
}

static void engine_give(struct qcow2_cipher *cipher, struct engine *engine)
{
  pthread_mutex_lock(&cipher->lock);
  engine->next = cipher->free;
  cipher->free = engine;
  pthread_mutex_unlock(&cipher->lock);
}

static int engine_take(struct qcow2_cipher *cipher, struct engine **engine,
                       struct qcow2_error *error)
{
  pthread_mutex_lock(&cipher->lock);
  *engine = cipher->free;
  if (*engine != NULL)
    cipher->free = (*engine)->next;
  pthread_mutex_unlock(&cipher->lock);
  return *engine != NULL ? 0 : engine_new(cipher, engine, error);
}

/* ---- Making ---------------------------------------------------------------- */

/* Set the keys of Twofish-192 (twofish.h). QEMU writes it in XTS mode only: with other modes it
   cannot store the key. */
static int prepare_twofish(struct qcow2_cipher *cipher, struct qcow2_error *error)
{
  const struct qcow2_cipher_spec *spec = &cipher->spec;

  if (spec->algorithm != QCOW2_CIPHER_TWOFISH || spec->mode != QCOW2_CIPHER_XTS ||
      spec->key_bytes != 2 * TWOFISH_KEY_BYTES)
    return 0;
  cipher->twofish = malloc(2 * sizeof(cipher->twofish[0]));
  if (cipher->twofish == NULL)
    return qcow2_error_set_nomem(error);
  qcow2_twofish_set_key(&cipher->twofish[0], cipher->key);
  qcow2_twofish_set_key(&cipher->twofish[1], cipher->key + TWOFISH_KEY_BYTES);
  return 0;
}

int qcow2_cipher_new(const struct qcow2_cipher_spec *spec, const uint8_t *key,
                     struct qcow2_cipher **out, struct qcow2_error *error)
{
  struct qcow2_cipher *cipher = calloc(1, sizeof(*cipher));
  struct engine *engine;
  int code;

  if (cipher == NULL)
    return qcow2_error_set_nomem(error);
  libgcrypt_start();
  pthread_mutex_init(&cipher->lock, NULL);
  cipher->spec = *spec;
  cipher->block_bytes = spec->algorithm == QCOW2_CIPHER_CAST5 ? 8 : BLOCK_BYTES_MAX;
  memcpy(cipher->key, key, spec->key_bytes);
  code = prepare_twofish(cipher, error);
  if (code == 0)
    code = engine_new(cipher, &engine, error); /* fails if libgcrypt does not have it */
  if (code != 0) {
    qcow2_cipher_free(cipher);
    return code;
  }
  engine_give(cipher, engine);
  *out = cipher;
  return 0;
}

void qcow2_cipher_free(struct qcow2_cipher *cipher)
{
  if (cipher == NULL)
    return;
  while (cipher->free != NULL) {
    struct engine *engine = cipher->free;

    cipher->free = engine->next;
    engine_free(engine);
  }
  pthread_mutex_destroy(&cipher->lock);
  if (cipher->twofish != NULL)
    qcow2_system_wipe(cipher->twofish, 2 * sizeof(cipher->twofish[0]));
  free(cipher->twofish);
  qcow2_system_wipe(cipher, sizeof(*cipher));
  free(cipher);
}

/* ---- Decrypting ------------------------------------------------------------ */

/* Make a sector's initialisation vector. */
static gcry_error_t make_iv(const struct qcow2_cipher *cipher, const struct engine *engine,
                            uint64_t sector, uint8_t iv[BLOCK_BYTES_MAX])
{
  memset(iv, 0, BLOCK_BYTES_MAX);
  le64_put(iv, cipher->spec.ivgen == QCOW2_IVGEN_PLAIN ? sector & UINT32_MAX : sector);
  if (engine->ivgen == NULL)
    return 0;
  return gcry_cipher_encrypt(engine->ivgen, iv, cipher->block_bytes, NULL, 0);
}

static gcry_error_t decrypt_sector(const struct qcow2_cipher *cipher, const struct engine *engine,
                                   uint64_t sector, uint8_t *buffer)
{
  uint8_t iv[BLOCK_BYTES_MAX];
  gcry_error_t status = make_iv(cipher, engine, sector, iv);

  if (status == 0 && cipher->twofish != NULL) {
    qcow2_twofish_xts_decrypt(cipher->twofish, iv, buffer, ENCRYPTION_SECTOR_BYTES);
    return 0;
  }
  if (status == 0)
    status = cipher->spec.mode == QCOW2_CIPHER_CTR
                 ? gcry_cipher_setctr(engine->data, iv, cipher->block_bytes)
                 : gcry_cipher_setiv(engine->data, iv, cipher->block_bytes);
  if (status == 0)
    status = gcry_cipher_decrypt(engine->data, buffer, ENCRYPTION_SECTOR_BYTES, NULL, 0);
  return status;
}

static gcry_error_t decrypt(const struct qcow2_cipher *cipher, const struct engine *engine,
                            uint64_t sector, uint8_t *buffer, size_t length)
{
  gcry_error_t status = 0;

  if (cipher->spec.mode == QCOW2_CIPHER_ECB)
    return gcry_cipher_decrypt(engine->data, buffer, length, NULL, 0);
  for (size_t at = 0; status == 0 && at < length; at += ENCRYPTION_SECTOR_BYTES)
    status = decrypt_sector(cipher, engine, sector++, buffer + at);
  return status;
}

int qcow2_cipher_decrypt(struct qcow2_cipher *cipher, uint64_t sector, uint8_t *buffer,
                         size_t length, struct qcow2_error *error)
{
  struct engine *engine;
  gcry_error_t status;
  int code = engine_take(cipher, &engine, error);

  if (code != 0)
    return code;
  status = decrypt(cipher, engine, sector, buffer, length);
  engine_give(cipher, engine);
  return status == 0 ? 0 : qcow2_libgcrypt_error(error, status, "decrypt");
}
