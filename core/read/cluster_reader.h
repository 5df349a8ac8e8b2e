/* SPDX-License-Identifier: MIT */
/* Mapping -> bytes, for one qcow2 file of the chain. */
#ifndef QCOW2_READ_CLUSTER_READER_H
#define QCOW2_READ_CLUSTER_READER_H

#include "compressed.h"
#include "encrypted.h"

/* Where a file's clusters are read from. Borrowed pointers. */
struct qcow2_cluster_source {
  const struct qcow2_storage
      *data; /* holds the normal clusters: the image or the external data file */
  struct qcow2_encrypted_source encrypted;   /* the normal clusters, if it has a cipher */
  struct qcow2_compressed_source compressed; /* never encrypted */
};

/* Read `length` bytes (> 0) at `guest_offset`, which the mapping covers, into `buffer`. What is
   unallocated reads as zeros: the caller asks only where there is no backing file. Errors: IO,
   TRUNCATED, CORRUPT, NOMEM, and UNSUPPORTED if libgcrypt fails. */
int qcow2_cluster_read(const struct qcow2_cluster_source *source,
                       const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                       size_t length, struct qcow2_error *error);

/* True if reading at `guest_offset`, which the mapping covers, means to decode something that is
   not in the cache, or was put there ahead and not used yet. */
bool qcow2_cluster_needs_decoding(const struct qcow2_cluster_source *source,
                                  const struct qcow2_mapping *mapping, uint64_t guest_offset);

/* Decode what the mapping covers into the cache, if it is of a kind that takes work. Errors are
   left to the reader. */
void qcow2_cluster_decode_ahead(const struct qcow2_cluster_source *source,
                                const struct qcow2_mapping *mapping);

#endif
