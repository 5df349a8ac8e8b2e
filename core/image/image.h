/* SPDX-License-Identifier: MIT */
/* What struct qcow2_image holds, for the files that answer questions about it. Fixed once it is
   open, but for what counts. */
#ifndef QCOW2_IMAGE_H
#define QCOW2_IMAGE_H

#include <stdatomic.h>

#include "bitmaps.h"
#include "chain.h"
#include "snapshots.h"
#include "warnings.h"

struct qcow2_image {
  struct qcow2_shared shared;
  struct qcow2_chain chain;
  struct qcow2_snapshots snapshots; /* of the topmost image, and so are the bitmaps */
  struct qcow2_bitmaps bitmaps;
  struct qcow2_warnings warnings;
  _Atomic uint64_t views_opened; /* ever: so each view's blocks are its own */
};

#endif
