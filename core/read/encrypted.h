/* SPDX-License-Identifier: MIT */
/* Normal clusters of an encrypted image. */
#ifndef QCOW2_READ_ENCRYPTED_H
#define QCOW2_READ_ENCRYPTED_H

#include "cache.h"
#include "cipher.h"

/* Where an image's encrypted clusters are read from. Borrowed pointers. */
struct qcow2_encrypted_source {
  struct qcow2_cipher *cipher;         /* NULL: the image is not encrypted */
  const struct qcow2_storage *storage; /* the image or the external data file */
  bool cipher_counts_guest;  /* it numbers the guest's sectors (legacy AES), not those of `storage`
                                (LUKS) */
  uint32_t cluster_size;     /* bytes */
  struct qcow2_cache *cache; /* holds what was decrypted ahead */
  uint64_t cache_owner;
};

/* Read `length` bytes (> 0) at `host_offset` in the storage, which are the disk's at
   `guest_offset`, into `buffer`. Errors: IO, TRUNCATED, NOMEM, and UNSUPPORTED if libgcrypt
   fails. */
int qcow2_encrypted_read(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                         uint64_t guest_offset, uint8_t *buffer, size_t length,
                         struct qcow2_error *error);

/* True if the byte at `host_offset` is in the cache, and some near it were used. */
bool qcow2_encrypted_is_at_hand(const struct qcow2_encrypted_source *source, uint64_t host_offset);

/* Decrypt `length` bytes at `host_offset` into the cache, as far as that is possible. Errors are
   left to the reader. */
void qcow2_encrypted_decode_ahead(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                                  uint64_t length);

#endif
