/* SPDX-License-Identifier: MIT */
/* A storage that is a file of the system: what file.c and the system's own part of it share. */
#ifndef QCOW2_STORAGE_FILE_H
#define QCOW2_STORAGE_FILE_H

#include <stddef.h>
#include <stdint.h>

/* The storage's context. */
struct qcow2_file {
  int descriptor;
};

/* The storage's read function. The offset is each call's own: several threads may read at once. */
int qcow2_file_read(void *context, uint64_t offset, void *buffer, size_t length);

#endif
