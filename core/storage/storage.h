/* SPDX-License-Identifier: MIT */
/*
 * Sources of bytes. struct qcow2_storage (in qcow2core.h) is the vtable. Here are the functions by
 * which the core uses it, and a storage over a file.
 */
#ifndef QCOW2_STORAGE_STORAGE_H
#define QCOW2_STORAGE_STORAGE_H

#include <stdbool.h>

#include "../qcow2core.h"

/* Read exactly `length` bytes at `host_offset`. Errors: TRUNCATED if the storage ends before the
   last of them, IO if the storage's read fails. */
int qcow2_storage_read(const struct qcow2_storage *storage, uint64_t host_offset, void *buffer,
                       size_t length, struct qcow2_error *error);

/* Read as many of the bytes as can be read, in sectors of 512: the others, such as those after the
   end of the storage, become zeros. False: there are others. */
bool qcow2_storage_read_what_is_there(const struct qcow2_storage *storage, uint64_t host_offset,
                                      uint8_t *buffer, size_t length);

/* How many reads have failed in this thread, other than for the end of the storage. Code that goes
   on where something cannot be read compares this before and after, to find out that it did not see
   everything. */
uint64_t qcow2_storage_failures(void);

/* Close the storage, and set it to zero. All zero is allowed. */
void qcow2_storage_close(struct qcow2_storage *storage);

/* Make a storage over an open descriptor of a regular file or block device of `size` bytes. On
   success it owns the descriptor. Errors: NOMEM. */
int qcow2_storage_from_descriptor(int descriptor, uint64_t size, struct qcow2_storage *storage,
                                  struct qcow2_error *error);

/* Make the storage begin at its byte `start`, which becomes its byte 0. Errors: ARGUMENT (there is
   no such byte), NOMEM. */
int qcow2_storage_begin_at(struct qcow2_storage *storage, uint64_t start,
                           struct qcow2_error *error);

/* Skip a hole of the file. Returns the first offset from `host_offset` on (below the size of the
   storage) where other bytes than zeros may be, or the size. If this is not known, returns
   `host_offset`. */
uint64_t qcow2_storage_next_data(const struct qcow2_storage *storage, uint64_t host_offset);

/* The first offset from `host_offset` on (below the size of the storage), where a hole of the file
   begins, or the size. If this is not known, the size. */
uint64_t qcow2_storage_next_hole(const struct qcow2_storage *storage, uint64_t host_offset);

/* True if all bytes of the storage come from one that qcow2_storage_from_descriptor() made, and not
   from a caller's: directly, or as fragments of it. */
bool qcow2_storage_is_file(const struct qcow2_storage *storage);

#endif
