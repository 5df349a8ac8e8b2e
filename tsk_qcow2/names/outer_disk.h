/* SPDX-License-Identifier: MIT */
/* A disk of an opened image, as the disk around another image. */
#ifndef TSK_QCOW2_OUTER_DISK_H
#define TSK_QCOW2_OUTER_DISK_H

#include "opened.h"

/* Make an outer disk of the view, which it owns from the call on, with its image, also on failure.
   `name` is how the user named it. Errors: NOMEM. */
int tsk_qcow2_outer_disk_new(const struct tsk_qcow2_opened *opened, const char *name,
                             struct tsk_qcow2_outer *outer, struct qcow2_error *error);

/* The same of a storage that lies in the disk around it, opened->inside. On success it owns that,
   and opened->inside becomes NULL; it owns the storage also on failure. Errors: NOMEM. */
int tsk_qcow2_outer_disk_wrap(struct tsk_qcow2_opened *opened, const struct qcow2_storage *storage,
                              struct tsk_qcow2_outer *outer, struct qcow2_error *error);

#endif
