/* SPDX-License-Identifier: MIT */
/* How much of a disk is stored under zeros: zero, allocated clusters keep their old bytes. */
#ifndef QCOW2_UNDER_ZEROS_H
#define QCOW2_UNDER_ZEROS_H

#include "stack.h"
#include "warnings.h"

/* Warn of how many bytes from guest offset `start` to the stack's end read as zeros though
   something is stored for them. The stack must not show that yet. Errors: NOMEM. */
int qcow2_under_zeros_warn(const struct qcow2_stack *stack, uint64_t start,
                           struct qcow2_warnings *warnings, struct qcow2_error *error);

#endif
