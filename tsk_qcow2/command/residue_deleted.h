/* SPDX-License-Identifier: MIT */
/* What `tsk-qcow2 residue` says about deleted snapshots. */
#ifndef TSK_QCOW2_RESIDUE_DELETED_H
#define TSK_QCOW2_RESIDUE_DELETED_H

#include <jansson.h>

#include "arguments.h"
#include "recovered.h"

/* Print a line for each deleted snapshot that can be read, with how much of it is left and the
   command that lists its files. `name` is the image's, as typed. */
void residue_deleted_print(const struct recovered_list *all, const char *name);

/* The same as a list for JSON. NULL: no memory. */
json_t *residue_deleted_value(const struct recovered_list *all);

/* `--map NAME`: print the labels of a deleted snapshot. Returns an exit status, after complaining.
 */
int residue_deleted_map(const struct arguments *arguments);

#endif
