/* SPDX-License-Identifier: MIT */
/* A storage, as an image that libtsk's functions read. */
#ifndef TSK_QCOW2_INNER_IMAGE_H
#define TSK_QCOW2_INNER_IMAGE_H

#include <qcow2core.h>

#include "libtsk.h"

struct tsk_qcow2_inner_image;

/* Make an image of the storage, which must last longer. Errors: UNSUPPORTED, NOMEM. */
int tsk_qcow2_inner_image_open(const struct qcow2_storage *storage,
                               struct tsk_qcow2_inner_image **image, struct qcow2_error *error);

void tsk_qcow2_inner_image_close(struct tsk_qcow2_inner_image *image);

struct tsk_qcow2_img *tsk_qcow2_inner_image_img(struct tsk_qcow2_inner_image *image);

/* How many of libtsk's reads failed; and how many were cut before a sector that cannot be read.
   libtsk reads more than it needs. If a read is cut before what it needs, it notices that, but may
   go on without it. If a read fails, it may take what is in its buffer for the answer. */
struct tsk_qcow2_inner_faults {
  uint64_t failed, cut;
};
struct tsk_qcow2_inner_faults tsk_qcow2_inner_image_faults(
    const struct tsk_qcow2_inner_image *image);

/* Set these numbers back, after a use of which nothing was kept. */
void tsk_qcow2_inner_image_forget(struct tsk_qcow2_inner_image *image,
                                  struct tsk_qcow2_inner_faults faults);

#endif
