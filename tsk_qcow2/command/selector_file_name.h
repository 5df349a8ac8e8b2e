/* SPDX-License-Identifier: MIT */
/* The name of a new selector file: only letters, digits, ".", "_" and "-", so that shells need no
   quotes and Autopsy accepts it. */
#ifndef TSK_QCOW2_SELECTOR_FILE_NAME_H
#define TSK_QCOW2_SELECTOR_FILE_NAME_H

#include "image_name.h"

#define SELECTOR_FILE_NAME_BYTES 200

/* Write the name without its end: the name of the image, the name of the snapshot (NULL: the active
   disk), and what else the image name says about what is shown. A snapshot without a name has its
   ID or its index there. */
void selector_file_name_stem(const struct tsk_qcow2_name *image_name,
                             const struct qcow2_snapshot *snapshot, size_t snapshot_index,
                             char stem[SELECTOR_FILE_NAME_BYTES]);

/* Write the whole name: with a number from 2 on, and ".img", which Autopsy's file chooser shows. */
void selector_file_name_number(const char *stem, unsigned number,
                               char name[SELECTOR_FILE_NAME_BYTES]);

#endif
