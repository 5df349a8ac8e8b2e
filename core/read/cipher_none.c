/* SPDX-License-Identifier: MIT */
/* A build without libgcrypt has this file instead of cipher.c and unlock.c: no encrypted image can
   be opened. */
#include "../base/error.h"
#include "unlock.h"

static int no_libgcrypt(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "this build has no libgcrypt, which reading it needs: install libgcrypt's "
                         "development files and build again");
}

int qcow2_unlock_luks(const struct qcow2_storage *image, uint64_t host_offset,
                      const struct qcow2_luks *luks, const struct qcow2_passphrase *passphrase,
                      struct qcow2_cipher **cipher, struct qcow2_error *error)
{
  (void) image;
  (void) host_offset;
  (void) luks;
  (void) passphrase;
  (void) cipher;
  return no_libgcrypt(error);
}

int qcow2_unlock_aes(const struct qcow2_passphrase *passphrase, struct qcow2_cipher **cipher,
                     struct qcow2_error *error)
{
  (void) passphrase;
  (void) cipher;
  return no_libgcrypt(error);
}

/* These are never called with a cipher: none can be made. */
int qcow2_cipher_decrypt(struct qcow2_cipher *cipher, uint64_t sector, uint8_t *buffer,
                         size_t length, struct qcow2_error *error)
{
  (void) cipher;
  (void) sector;
  (void) buffer;
  (void) length;
  return no_libgcrypt(error);
}

void qcow2_cipher_free(struct qcow2_cipher *cipher)
{
  (void) cipher;
}
