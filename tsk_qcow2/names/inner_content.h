/* SPDX-License-Identifier: MIT */
/* The content of a file inside a disk, as a storage. */
#ifndef TSK_QCOW2_INNER_CONTENT_H
#define TSK_QCOW2_INNER_CONTENT_H

#include <pthread.h>

#include "inner_image.h"

/* An open file system. */
struct tsk_qcow2_inner_fs {
  const struct qcow2_storage *disk;    /* in which it lies */
  struct tsk_qcow2_inner_image *image; /* over that disk */
  struct tsk_qcow2_fs *fs;
  pthread_mutex_t lock; /* for all use of `fs`: libtsk's file systems are for one thread */
};

/* Which content of a file a number like 64-128-1 means: the inode, the type of the attribute, and
   its ID. */
struct tsk_qcow2_inner_number {
  uint64_t inode;
  bool has_type, has_id;
  int type;
  uint16_t id;
};

/* Which content it is, as `stream` of struct qcow2_inner_file. */
uint64_t tsk_qcow2_inner_stream(const struct tsk_qcow2_inner_number *number);

/* The open() of struct qcow2_file_system. The caller holds the lock. */
int tsk_qcow2_inner_content_open(struct tsk_qcow2_inner_fs *open,
                                 const struct qcow2_inner_file *file, struct qcow2_storage *storage,
                                 char *warning, struct qcow2_error *error);

#endif
