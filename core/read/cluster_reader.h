/* SPDX-License-Identifier: MIT */
/* From a mapping to bytes, for one qcow2 file of the chain. */
#ifndef QCOW2_READ_CLUSTER_READER_H
#define QCOW2_READ_CLUSTER_READER_H

#include "compressed.h"
#include "encrypted.h"

/* Where the clusters of a file are read from. Borrowed pointers. */
struct qcow2_cluster_source {
  const struct qcow2_storage *data; /* has the normal clusters: the image, or its data file */
  struct qcow2_encrypted_source encrypted;   /* for normal clusters, if it has a cipher */
  struct qcow2_compressed_source compressed; /* never encrypted */
};

/* Read `length` bytes (> 0) at `guest_offset`, all inside the mapping, into `buffer`. An
   unallocated cluster reads as zeros; the caller has found out that no backing file has it. Errors:
   IO, TRUNCATED, CORRUPT, NOMEM, and UNSUPPORTED if libgcrypt fails. */
int qcow2_cluster_read(const struct qcow2_cluster_source *source,
                       const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                       size_t length, struct qcow2_error *error);

/* True if reading at `guest_offset`, inside the mapping, needs decompression or decryption, and the
   result is not in the cache, or was decoded ahead and not used yet. */
bool qcow2_cluster_needs_decoding(const struct qcow2_cluster_source *source,
                                  const struct qcow2_mapping *mapping, uint64_t guest_offset);

/* Decode the bytes of the mapping into the cache, if they need decoding. Errors are ignored: the
   reader gets them. */
void qcow2_cluster_decode_ahead(const struct qcow2_cluster_source *source,
                                const struct qcow2_mapping *mapping);

#endif
