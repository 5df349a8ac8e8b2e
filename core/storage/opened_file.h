/* SPDX-License-Identifier: MIT */
/* What the gate opened. */
#ifndef QCOW2_STORAGE_OPENED_FILE_H
#define QCOW2_STORAGE_OPENED_FILE_H

#include <stdbool.h>

#include "../qcow2core.h"

/* A file that passed the gate. OPENED_FILE_NONE: none. */
struct qcow2_opened_file {
  struct qcow2_storage storage;
  char *path;     /* as resolved, for people; NULL for a caller's storage */
  char *warning;  /* about where it was found; NULL: none */
  int descriptor; /* of the file, owned by the storage; -1: not a file of the system */
  int directory; /* descriptor of the real directory it lies in, where its own references start; -1:
                    none */
  uint64_t allocated_size; /* bytes on its file system; 0: not known */
  bool is_regular;         /* false: a block device, or not a file of the system */
  bool has_identity;
  uint64_t device, inode; /* on Windows: the volume's serial number, and the index on it */
};

#define OPENED_FILE_NONE              \
  {                                   \
    .descriptor = -1, .directory = -1 \
  }

/* Close everything, and forget it. */
void qcow2_opened_file_close(struct qcow2_opened_file *file);

/* Close the directory only: no more references will be resolved from this file. */
void qcow2_opened_file_close_directory(struct qcow2_opened_file *file);

/* True if both are the same file of the system, under whatever names. */
bool qcow2_opened_file_same(const struct qcow2_opened_file *a, const struct qcow2_opened_file *b);

/* True if another regular file of that name (one component) lies in the directory of the file. On
   Windows never. */
bool qcow2_opened_file_lies_beside(const struct qcow2_opened_file *file, const char *name);

#endif
