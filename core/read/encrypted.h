/* SPDX-License-Identifier: MIT */
/* Reading normal clusters of an encrypted image. */
#ifndef QCOW2_READ_ENCRYPTED_H
#define QCOW2_READ_ENCRYPTED_H

#include "cache.h"
#include "cipher.h"

/* Where the encrypted clusters of an image are read from. Borrowed pointers. */
struct qcow2_encrypted_source {
  struct qcow2_cipher *cipher;         /* NULL: the image is not encrypted */
  const struct qcow2_storage *storage; /* the image or the external data file */
  bool cipher_counts_guest;  /* the cipher's sector numbers are those of the guest (legacy AES), not
                                those of `storage` (LUKS) */
  uint32_t cluster_size;     /* bytes */
  struct qcow2_cache *cache; /* for chunks that are decrypted ahead */
  uint64_t cache_owner;
};

/* Read `length` bytes (> 0) at `host_offset` of the storage, which are at `guest_offset` of the
   disk, into `buffer`. Errors: IO, TRUNCATED, NOMEM, and UNSUPPORTED if libgcrypt fails. */
int qcow2_encrypted_read(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                         uint64_t guest_offset, uint8_t *buffer, size_t length,
                         struct qcow2_error *error);

/* True if the byte at `host_offset` is in a chunk that is in the cache and was used. */
bool qcow2_encrypted_is_at_hand(const struct qcow2_encrypted_source *source, uint64_t host_offset);

/* Decrypt the whole chunks in `length` bytes at `host_offset` into the cache. Errors are ignored:
   the reader gets them. */
void qcow2_encrypted_decode_ahead(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                                  uint64_t length);

#endif
