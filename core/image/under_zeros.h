/* SPDX-License-Identifier: MIT */
/* Counting the bytes that are stored under zeros: clusters of the kind ZERO_ALLOCATED still contain
   their old bytes. */
#ifndef QCOW2_UNDER_ZEROS_H
#define QCOW2_UNDER_ZEROS_H

#include "stack.h"
#include "warnings.h"

/* Add a warning: how many bytes from guest offset `start` to the end of the stack read as zeros,
   but are stored. stack->under_zeros must still be false. Errors: NOMEM. */
int qcow2_under_zeros_warn(const struct qcow2_stack *stack, uint64_t start,
                           struct qcow2_warnings *warnings, struct qcow2_error *error);

#endif
