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

/* How many reads failed. libtsk may pass on what a failed read left in its buffer, so whatever it
   says is worth nothing if this number has grown meanwhile. */
uint64_t tsk_qcow2_inner_image_failures(const struct tsk_qcow2_inner_image *image);

/* Set that number back, after a use of which nothing was kept. */
void tsk_qcow2_inner_image_forget(struct tsk_qcow2_inner_image *image, uint64_t failures);

#endif
