/* SPDX-License-Identifier: MIT */
/*
 * The gate: the only place that opens files, and that decides which files named inside an image may
 * be opened.
 *
 * The user's word (a path they typed) is followed wherever it leads. An image's word is followed
 * only if it is a relative path without "..", that reaches a regular file below the image's own
 * real directory without passing a symbolic link. The word of a referrer (a file that leads to
 * images) counts as an image's. Whatever is opened is opened read-only, without blocking on a FIFO,
 * and without changing its access time where the system allows that.
 *
 * On Windows an image's word is not followed (gate_windows.c).
 */
#ifndef QCOW2_STORAGE_GATE_H
#define QCOW2_STORAGE_GATE_H

#include "reference.h"

/* Open a path that is the user's word: a regular file or block device; on Windows a regular file,
   by a path in UTF-8. Errors: IO, NOMEM. */
int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error);

/* Open what an image refers to. Errors: DENIED (with the reason, and what to type), IO, NOMEM. */
int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error);

#endif
