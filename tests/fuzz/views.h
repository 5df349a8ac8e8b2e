/* SPDX-License-Identifier: MIT */
/* Walking a view: what it maps, what it reads, and whether the two agree. */
#ifndef TESTS_FUZZ_VIEWS_H
#define TESTS_FUZZ_VIEWS_H

#include "fuzz.h"

/* All views of an input together may decode so much, so that a small image of large clusters does
   not take long. */
#define FUZZ_WALK_BYTES (UINT64_C(32) << 20)

struct fuzz_walk {
  const struct qcow2_image *image;
  struct qcow2_view *view;
  const struct fuzz_input *input;
  bool has_bad_sectors;     /* the image file is a fuzz_storage_failing() */
  struct qcow2_view *sound; /* if so: the same view of the image without them */
  uint64_t bytes_left;      /* that may still be decoded */
};

/* Walk the view, and close it. */
void fuzz_walk_view(struct fuzz_walk *walk);

#endif
