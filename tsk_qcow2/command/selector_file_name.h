/* SPDX-License-Identifier: MIT */
/* The names of files that stand for states of an image, selectors and mounted ones: only letters,
   digits, ".", "_" and "-", so that shells need no quotes and Autopsy accepts them. */
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

/* Write only the part of the snapshot, begun so that it is no option and no hidden file. */
void selector_file_name_snapshot(const struct qcow2_snapshot *snapshot, size_t snapshot_index,
                                 char stem[SELECTOR_FILE_NAME_BYTES]);

/* Write only the part of the image: its base name without an extension that only says that it is an
   image. */
void selector_file_name_image(const char *image_path, char stem[SELECTOR_FILE_NAME_BYTES]);

/* Write the whole name: with a number from 2 on, and an extension, such as ".img". */
void selector_file_name_number(const char *stem, unsigned number, const char *extension,
                               char name[SELECTOR_FILE_NAME_BYTES]);

#endif
