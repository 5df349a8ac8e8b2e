/* SPDX-License-Identifier: MIT */
/* What info.json holds: what `tsk-qcow2 info --json` prints. */
#ifndef TSK_QCOW2_MOUNT_INFO_H
#define TSK_QCOW2_MOUNT_INFO_H

#include <stdbool.h>
#include <stddef.h>

/* No more than this is kept: an image's maker chooses how many snapshots there are, and how long
   their names. */
#define INFO_BYTES_MAX (64u << 20)

/* Call this before the image is opened and threads are started, since it makes a child process.
   NULL: it is too large, or could not be had. *is_damaged: some of it is lost or cannot be read.
   The caller frees it. */
char *info_bytes(const char *name, size_t *length, bool *is_damaged);

#endif
