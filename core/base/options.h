/* SPDX-License-Identifier: MIT */
/* Options that callers pass in structs. The structs begin with their size, and later versions are
   longer. */
#ifndef QCOW2_BASE_OPTIONS_H
#define QCOW2_BASE_OPTIONS_H

#include "../qcow2core.h"

/* Copy the caller's struct to `options` (`size` bytes), as much as the caller's version of it has;
   the rest becomes zero. NULL: all of it becomes zero. A caller built with a later version may set
   fields that are not known here: that is an error, since such a field may ask for less trust.
   Errors: ARGUMENT. */
int qcow2_options_take(const void *given, void *options, size_t size, struct qcow2_error *error);

#endif
