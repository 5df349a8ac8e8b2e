/* SPDX-License-Identifier: MIT */
/*
 * The header of qcow version 1, the format before qcow2. cluster.h has its table entries. It has no
 * refcounts, snapshots, zero clusters, bitmaps and header extensions. Pure: no I/O.
 *
 *   bytes 0  magic                    bytes 24  virtual size (64 bits)
 *         4  version                        32  cluster_bits (8 bits)
 *         8  where the backing file's       33  l2_bits (8 bits)
 *            name is (64 bits)              36  crypt_method
 *        16  length of that name            40  where the L1 table is (64 bits)
 *        20  time of the backing file
 */
#ifndef QCOW2_FORMAT_VERSION_1_H
#define QCOW2_FORMAT_VERSION_1_H

#include "metadata.h"

/* The header and the backing file's name are in this many bytes at the start of the file. */
#define VERSION_1_AREA_BYTES 65536u

/* Decode the header. `bytes` are the first VERSION_1_AREA_BYTES of the file, or all of it
   (`length`) if it is shorter; they start with the magic and version 1. Whether it succeeds or not,
   the caller frees with qcow2_metadata_free(). Errors: TRUNCATED, CORRUPT, NOMEM. */
int qcow2_version_1_header_decode(const uint8_t *bytes, size_t length,
                                  struct qcow2_metadata *metadata, struct qcow2_error *error);

#endif
