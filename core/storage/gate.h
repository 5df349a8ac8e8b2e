/* SPDX-License-Identifier: MIT */
/*
 * The gate: the only code that opens files. It decides which files an image may open.
 *
 * A path that the user gave is trusted, and followed wherever it leads. A path in an image is
 * followed only if it is relative, contains no "..", and leads to a regular file below the image's
 * own directory without a symbolic link on the way. A path in a referrer (a file that names images)
 * is treated like a path in an image. Every file is opened read-only, without blocking on a FIFO,
 * and without changing its access time where the operating system allows this.
 *
 * Inside a disk the same rules hold in the file system there (gate_inner.h).
 *
 * On Windows no path in an image is followed (gate_windows.c).
 */
#ifndef QCOW2_STORAGE_GATE_H
#define QCOW2_STORAGE_GATE_H

#include "reference.h"

/* Open a path that the user gave. It leads to a regular file or a block device; on Windows to a
   regular file, and it is in UTF-8. Errors: ARGUMENT (another kind of file), IO, NOMEM. */
int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error);

/* Open a file that an image or a referrer refers to. Errors: DENIED (with the reason, and what
   would help), IO, NOMEM. */
int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error);

#endif
