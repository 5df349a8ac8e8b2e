/* SPDX-License-Identifier: MIT */
/* Header extensions. All known ones are decoded; the first EXTENSIONS_KEPT_MAX, known or not, are
   kept to be shown. Pure: no I/O. */
#ifndef QCOW2_FORMAT_EXTENSIONS_H
#define QCOW2_FORMAT_EXTENSIONS_H

#include "metadata.h"

/* Decode the extensions in [area_start, area_end) of cluster 0, of which `length` bytes exist, into
   the metadata; the caller frees it, even after an error. Errors: CORRUPT, TRUNCATED, NOMEM. */
int qcow2_extensions_decode(const uint8_t *bytes, size_t length, uint64_t area_start,
                            uint64_t area_end, struct qcow2_metadata *metadata,
                            struct qcow2_error *error);

#endif
