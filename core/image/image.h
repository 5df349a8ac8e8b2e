/* SPDX-License-Identifier: MIT */
/* The members of struct qcow2_image, for the files of this folder. They do not change after the
   image was opened, except for the caches, the threads and `views_opened`. */
#ifndef QCOW2_IMAGE_H
#define QCOW2_IMAGE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bitmaps.h"
#include "chain.h"
#include "snapshots.h"
#include "warnings.h"

/* What is found out about an image once, when it is wanted. */
struct qcow2_image_memo {
  pthread_mutex_t lock;
  void *deleted; /* residue/deleted.h: one allocation; NULL: not found out yet */
  bool has_gaps; /* what was found out of deleted snapshots may be wrong, or not be all */
};

struct qcow2_image {
  struct qcow2_shared shared;
  struct qcow2_chain chain;
  struct qcow2_snapshots snapshots; /* of the topmost image, and so are the bitmaps */
  struct qcow2_bitmaps bitmaps;
  struct qcow2_warnings warnings;
  struct qcow2_image_memo *memo;
  _Atomic uint64_t views_opened; /* gives each view a number for its blocks in the cache */
};

#endif
