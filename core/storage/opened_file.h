/* SPDX-License-Identifier: MIT */
/* A file that the gate opened. */
#ifndef QCOW2_STORAGE_OPENED_FILE_H
#define QCOW2_STORAGE_OPENED_FILE_H

#include <stdbool.h>

#include "../qcow2core.h"

/* What shows that a regular file changed: its size, and when it and its inode were last written. */
struct qcow2_file_stamp {
  bool is_known;
  uint64_t size;            /* bytes */
  int64_t written, changed; /* nanoseconds since 1970 */
};

/* A file that passed the gate. OPENED_FILE_NONE: no file. */
struct qcow2_opened_file {
  struct qcow2_storage storage;
  char *path;     /* where it was found, for messages; NULL: a storage of the caller */
  char *warning;  /* about how it was found; NULL: none */
  int descriptor; /* of the file, owned by the storage; -1: it is inside a disk, or of the caller */
  int directory;  /* descriptor of the directory that contains it, from which its references start;
                     -1: none */
  uint64_t allocated_size; /* bytes on its file system; 0: not known */
  bool is_regular;         /* false: a block device, or a storage of the caller */
  bool is_in_use;          /* another process has it open for writing, as far as its locks show */
  struct qcow2_file_stamp stamp; /* when it was opened */
  bool has_identity;
  uint64_t start;         /* where in the file the image begins, bytes */
  uint64_t device, inode; /* on Windows: the volume's serial number, and the index on it */
  /* Of a file inside a disk: */
  const struct qcow2_file_system *file_system; /* not owned; NULL: it is this machine's file */
  struct qcow2_inner_file inner, inner_directory;
  bool has_inner_directory; /* its references start from `inner_directory` */
};

#define OPENED_FILE_NONE              \
  {                                   \
    .descriptor = -1, .directory = -1 \
  }

/* Close the file and its directory, and set *file to OPENED_FILE_NONE. */
void qcow2_opened_file_close(struct qcow2_opened_file *file);

/* Close only the directory, when no more references from this file are to be opened. */
void qcow2_opened_file_close_directory(struct qcow2_opened_file *file);

/* True if references can start from the directory that contains it. */
bool qcow2_opened_file_has_directory(const struct qcow2_opened_file *file);

/* Let the image in the file begin at byte `start`. Errors: ARGUMENT (there is no such byte),
   NOMEM. */
int qcow2_opened_file_begin_at(struct qcow2_opened_file *file, uint64_t start,
                               struct qcow2_error *error);

/* Let the file have a warning, which is copied; "": none. On failure the file is closed. Errors:
   NOMEM. */
int qcow2_opened_file_warn(struct qcow2_opened_file *file, const char *warning,
                           struct qcow2_error *error);

/* True if both are the same image in the same file, even if their paths are different. */
bool qcow2_opened_file_same(const struct qcow2_opened_file *a, const struct qcow2_opened_file *b);

/* True if the directory that contains the file also contains another regular file with this name
   (one component). On Windows always false. */
bool qcow2_opened_file_lies_beside(const struct qcow2_opened_file *file, const char *name);

#endif
