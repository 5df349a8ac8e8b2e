/* SPDX-License-Identifier: MIT */
/* An image whose header, or L1 table, was lost, opened by the layout that the caller gives. */
#ifndef QCOW2_IMAGE_LAYOUT_H
#define QCOW2_IMAGE_LAYOUT_H

#include "warnings.h"

/* Make the topmost layer of an opened file, which it owns from the call on, also on failure. What
   options->layout leaves open is taken from the header. Errors: those of the header, if it is
   needed, ARGUMENT, NOMEM. */
int qcow2_layout_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                      const struct qcow2_shared *shared, struct qcow2_layer **layer,
                      struct qcow2_error *error);

/* Add the sentences that say that a layer is read by a layout that was given, and what is not known
   about it. `is_alone`: no backing file is read below it. Errors: NOMEM. */
int qcow2_layout_warn(const struct qcow2_layer *layer, bool is_alone,
                      struct qcow2_warnings *warnings, struct qcow2_error *error);

#endif
