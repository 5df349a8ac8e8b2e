/* SPDX-License-Identifier: MIT */
/* The persistent dirty bitmaps of an image. */
#ifndef QCOW2_BITMAPS_H
#define QCOW2_BITMAPS_H

#include "../format/bitmap.h"
#include "layer.h"

struct qcow2_bitmaps {
  struct qcow2_bitmaps_extension
      directory; /* all zero: there is none, or the extension is not valid */
  struct qcow2_bitmap *entries;
  size_t count;
  size_t lost_count; /* those that there are besides, as far as is known; 0: none */
};

/* Read the bitmap directory as far as it can be read: after an error, the entries before the damage
   are there, and lost_count is not 0. The caller frees with qcow2_bitmaps_free(). Errors: CORRUPT,
   TRUNCATED, IO, NOMEM. */
int qcow2_bitmaps_read(const struct qcow2_layer *layer, struct qcow2_bitmaps *bitmaps,
                       struct qcow2_error *error);

/* Check that the bitmap is of the known type and covers the disk. Errors: UNSUPPORTED, CORRUPT. */
int qcow2_bitmap_check_entry(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                             struct qcow2_error *error);

/* Why the bits of a bitmap cannot be read, as far as its entry and the file's size tell; 0: they
   can. Errors: UNSUPPORTED (unknown type), CORRUPT, TRUNCATED. */
int qcow2_bitmap_error(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                       struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_bitmaps_free(struct qcow2_bitmaps *bitmaps);

#endif
