/* SPDX-License-Identifier: MIT */
/* Functions about views that are not public. */
#ifndef QCOW2_VIEW_H
#define QCOW2_VIEW_H

#include "image.h"

/* Open a view of all bytes of a storage, which the view owns from the call on, also on failure.
   Errors of its read() are errors of the view. The caller closes the view like others, before the
   image. Errors: NOMEM, ARGUMENT (QCOW2_OPEN_NO_CHAIN). */
int qcow2_view_open_storage(struct qcow2_image *image, const struct qcow2_storage *storage,
                            struct qcow2_view **view, struct qcow2_error *error);

/* Add a sentence to those of qcow2_view_warning(). Errors: NOMEM. */
int qcow2_view_warn(struct qcow2_view *view, const char *sentence, struct qcow2_error *error);

#endif
