/* SPDX-License-Identifier: MIT */
/* Paths in the caller's options: the caller's own, or a referrer's; of this machine, or inside a
   disk. */
#ifndef QCOW2_GIVEN_H
#define QCOW2_GIVEN_H

#include "contents.h"

/* Who named the paths in the options. */
enum qcow2_named_by qcow2_given_by(const struct qcow2_open_options *options);

/* Open a path in the options. `role` is for messages. Errors: those of the gate, and of
   find_file_system. */
int qcow2_given_open(const struct qcow2_open_options *options, const char *path, const char *role,
                     struct qcow2_opened_file *file, struct qcow2_error *error);

#endif
