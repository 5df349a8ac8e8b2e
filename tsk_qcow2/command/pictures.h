/* SPDX-License-Identifier: MIT */
/* The pictures that there are. */
#ifndef TSK_QCOW2_PICTURES_H
#define TSK_QCOW2_PICTURES_H

#include "picture.h"
#include "runs.h"

/* The disk by kind of cluster, and by the file of the chain that provides each part. The caller
   frees what it gets with free(). Errors: NOMEM. */
struct picture_pair {
  struct picture kinds, layers;
};
int pictures_of_disk(const struct qcow2_image *image, struct qcow2_view *view,
                     struct picture_pair **pair, struct qcow2_error *error);

/* The image file by what each cluster is. No other file of the chain is needed. The caller frees it
   with free(). Errors: those of qcow2_image_check(). */
int picture_of_file(const struct qcow2_image *image, struct picture **picture,
                    struct qcow2_error *error);

#endif
