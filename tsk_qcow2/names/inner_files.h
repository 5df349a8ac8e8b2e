/* SPDX-License-Identifier: MIT */
/* A file system inside a disk, read by libtsk. */
#ifndef TSK_QCOW2_INNER_FILES_H
#define TSK_QCOW2_INNER_FILES_H

#include <pthread.h>

#include "inner_image.h"

struct tsk_qcow2_inner_files {
  struct qcow2_file_system core; /* what the core gets; its context is this structure */
  const struct qcow2_storage *disk;
  struct tsk_qcow2_inner_image *image; /* over that disk */
  struct tsk_qcow2_fs *fs;
  pthread_mutex_t lock; /* for all use of `fs`: libtsk's file systems are for one thread */
  uint64_t start;       /* as the user gave it */
  char *name;           /* OUTER//START */
  struct tsk_qcow2_inner_files *next;
};

/* Open the file system that begins at sector `start` of the disk, of which `image` is the image for
   libtsk. `outer` is the disk's name, for messages. Errors: UNSUPPORTED (no file system that libtsk
   reads), ARGUMENT, IO, NOMEM. */
int tsk_qcow2_inner_files_open(const struct qcow2_storage *disk,
                               struct tsk_qcow2_inner_image *image, const char *outer,
                               uint64_t start, struct tsk_qcow2_inner_files **files,
                               struct qcow2_error *error);

/* NULL is allowed. */
void tsk_qcow2_inner_files_close(struct tsk_qcow2_inner_files *files);

#endif
