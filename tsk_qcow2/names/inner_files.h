/* SPDX-License-Identifier: MIT */
/* A file system inside a disk, read by libtsk. */
#ifndef TSK_QCOW2_INNER_FILES_H
#define TSK_QCOW2_INNER_FILES_H

#include "inner_content.h"

struct tsk_qcow2_inner_files {
  struct qcow2_file_system core; /* what the core gets; its context is this structure */
  struct tsk_qcow2_inner_fs open;
  uint64_t start; /* as the user gave it */
  char *name;     /* OUTER//START */
  struct tsk_qcow2_inner_files *next;
};

/* Open the file system that begins at sector `start` of the disk, of which `image` is the image for
   libtsk. `outer` is the disk's name, for messages. Errors: UNSUPPORTED (no file system that libtsk
   reads), ARGUMENT, IO, NOMEM. */
int tsk_qcow2_inner_files_open(const struct qcow2_storage *disk,
                               struct tsk_qcow2_inner_image *image, const char *outer,
                               uint64_t start, struct tsk_qcow2_inner_files **files,
                               struct qcow2_error *error);

/* The byte of the disk to which the file system reaches. */
uint64_t tsk_qcow2_inner_files_end(const struct tsk_qcow2_inner_files *files);

/* NULL is allowed. */
void tsk_qcow2_inner_files_close(struct tsk_qcow2_inner_files *files);

#endif
