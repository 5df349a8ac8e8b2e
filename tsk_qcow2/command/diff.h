/* SPDX-License-Identifier: MIT */
/* The ways to compare two states. */
#ifndef TSK_QCOW2_DIFF_H
#define TSK_QCOW2_DIFF_H

#include "open_names.h"

/* What --ranges prints of two opened states. Returns an exit status. */
int diff_ranges(const struct tsk_qcow2_opened opened[2], bool is_json);

#endif
