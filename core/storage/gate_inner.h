/* SPDX-License-Identifier: MIT */
/*
 * The gate inside a disk: the rules of gate.h, applied to a file system that the caller reads. A
 * path of the user may contain neither ".." nor a symbolic link here, because nothing would follow
 * them as the machine of that disk did.
 */
#ifndef QCOW2_STORAGE_GATE_INNER_H
#define QCOW2_STORAGE_GATE_INNER_H

#include "reference.h"

/* Open what the user named: "/PATH", or "/#NUMBER". Errors: ARGUMENT (not a regular file), IO
   (there is no such file), NOMEM, and those of the file system. */
int qcow2_gate_open_inner(const struct qcow2_file_system *file_system, const char *path,
                          struct qcow2_opened_file *file, struct qcow2_error *error);

/* Open what an image inside a disk refers to. The text of the reference was checked. Errors: DENIED
   (with the reason, and what would help), NOMEM, and those of the file system. */
int qcow2_gate_open_inner_reference(const struct qcow2_reference *reference,
                                    struct qcow2_opened_file *file, struct qcow2_error *error);

/* qcow2_opened_file_lies_beside(), for a file inside a disk. */
bool qcow2_gate_inner_lies_beside(const struct qcow2_opened_file *file, const char *name);

#endif
