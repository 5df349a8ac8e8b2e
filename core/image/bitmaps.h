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
  size_t lost_count; /* how many more there are or were, as far as is known */
};

/* Read the bitmap directory. After an error, `entries` has those before the damage, and lost_count
   is not 0. The caller frees *bitmaps with qcow2_bitmaps_free(), also after an error. Errors:
   CORRUPT, TRUNCATED, IO, NOMEM. */
int qcow2_bitmaps_read(const struct qcow2_layer *layer, struct qcow2_bitmaps *bitmaps,
                       struct qcow2_error *error);

/* Check that the bitmap is of the known type and covers the disk. Errors: UNSUPPORTED, CORRUPT. */
int qcow2_bitmap_check_entry(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                             struct qcow2_error *error);

/* Return 0 if the bits of a bitmap can be read, as far as its entry and the size of the file show,
   else the error. Errors: UNSUPPORTED (unknown type), CORRUPT, TRUNCATED. */
int qcow2_bitmap_error(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                       struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_bitmaps_free(struct qcow2_bitmaps *bitmaps);

#endif
