/* SPDX-License-Identifier: MIT */
/* A storage over a file of the operating system: what file.c shares with file_posix.c and
   file_windows.c. */
#ifndef QCOW2_STORAGE_FILE_H
#define QCOW2_STORAGE_FILE_H

#include <stddef.h>
#include <stdint.h>

/* The storage's context. */
struct qcow2_file {
  int descriptor;
  uint64_t start; /* where in the file the storage begins, bytes */
};

/* The storage's read function. It uses no file position, so several threads may call it at once. */
int qcow2_file_read(void *context, uint64_t offset, void *buffer, size_t length);

/* The first offset from `offset` on (both count from `start`) that is in no hole of the file;
   UINT64_MAX: there is none; `offset` if that is not known. */
uint64_t qcow2_file_next_data(const struct qcow2_file *file, uint64_t offset);

/* The first offset from `offset` on where a hole begins, such as the end of the file; UINT64_MAX if
   that is not known. */
uint64_t qcow2_file_next_hole(const struct qcow2_file *file, uint64_t offset);

#endif
