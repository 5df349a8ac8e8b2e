/* SPDX-License-Identifier: MIT */
/* Views of other things than a disk or a VM state, for the layers above. */
#ifndef QCOW2_VIEW_H
#define QCOW2_VIEW_H

#include "image.h"

/* Open a view of all bytes of a storage, which the view owns from the call on, also when it fails.
   Errors of its read() are the view's. The view is closed like others, before the image. Errors:
   NOMEM, ARGUMENT (the image has no chain). */
int qcow2_view_open_storage(struct qcow2_image *image, const struct qcow2_storage *storage,
                            struct qcow2_view **view, struct qcow2_error *error);

/* Add a sentence to what qcow2_view_warning() says. Errors: NOMEM. */
int qcow2_view_warn(struct qcow2_view *view, const char *sentence, struct qcow2_error *error);

#endif
