/* SPDX-License-Identifier: MIT */
/* The header and its extensions, decoded and validated once ("Header", "Header extensions"); of
   qcow version 1, too. Pure: no I/O. */
#ifndef QCOW2_FORMAT_HEADER_H
#define QCOW2_FORMAT_HEADER_H

#include "metadata.h"

/* The number of bytes at a file's start from which its cluster size is known. */
#define HEADER_BYTES_TO_PROBE 24u

/* True if the bytes start as an image of any version of qcow does. */
bool qcow2_header_is_qcow(const uint8_t *bytes, size_t length);

/* The number of bytes of the file that qcow2_header_decode() needs: cluster 0, or what version 1
   needs. `bytes` are the first HEADER_BYTES_TO_PROBE, or fewer if the file is shorter.
   Errors: NOT_QCOW2, TRUNCATED, UNSUPPORTED (version, cluster size), CORRUPT. */
int qcow2_header_measure(const uint8_t *bytes, size_t length, size_t *needed,
                         struct qcow2_error *error);

/* Decode these bytes, of which `length` exist (fewer than needed only if the file is shorter).
   `given_length` replaces the header's length if that cannot be right; 0: none is given.
   On success the caller frees with qcow2_metadata_free(). Errors: TRUNCATED, UNSUPPORTED, CORRUPT,
   NOMEM. */
int qcow2_header_decode(const uint8_t *bytes, size_t length, uint32_t given_length,
                        struct qcow2_metadata *metadata, struct qcow2_error *error);

#endif
