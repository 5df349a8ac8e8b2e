/* SPDX-License-Identifier: MIT */
/* Header extensions: the first ones are kept, and all that are known are understood. Pure: no
   I/O. */
#ifndef QCOW2_FORMAT_EXTENSIONS_H
#define QCOW2_FORMAT_EXTENSIONS_H

#include "metadata.h"

/* Decode the extensions in [area_start, area_end) of cluster 0, of which `length` bytes exist, into
   the metadata; the caller frees that, also after an error. Errors: CORRUPT, TRUNCATED, NOMEM. */
int qcow2_extensions_decode(const uint8_t *bytes, size_t length, uint64_t area_start,
                            uint64_t area_end, struct qcow2_metadata *metadata,
                            struct qcow2_error *error);

#endif
