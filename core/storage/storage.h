/* SPDX-License-Identifier: MIT */
/*
 * Where bytes come from. struct qcow2_storage (in qcow2core.h) is the small vtable; here is how the
 * rest of the core reads through it, and the storages there are.
 */
#ifndef QCOW2_STORAGE_STORAGE_H
#define QCOW2_STORAGE_STORAGE_H

#include <stdbool.h>

#include "../qcow2core.h"

/* Read exactly `length` bytes at host offset `host_offset`.
   Errors: TRUNCATED if the storage ends before them, IO if the storage's read fails. */
int qcow2_storage_read(const struct qcow2_storage *storage, uint64_t host_offset, void *buffer,
                       size_t length, struct qcow2_error *error);

/* Close the storage, and forget it. One that was never opened (all zero) is left alone. */
void qcow2_storage_close(struct qcow2_storage *storage);

/* A storage over an open descriptor of a regular file or block device of `size` bytes. It owns the
   descriptor from success on. Errors: NOMEM. */
int qcow2_storage_from_descriptor(int descriptor, uint64_t size, struct qcow2_storage *storage,
                                  struct qcow2_error *error);

/* Skip a hole: the first offset from `host_offset` on (below the storage's size) that may hold
   anything but zeros, or the storage's size. `host_offset` itself if that is not known. */
uint64_t qcow2_storage_next_data(const struct qcow2_storage *storage, uint64_t host_offset);

/* True if it is such a storage, and not a caller's. */
bool qcow2_storage_is_file(const struct qcow2_storage *storage);

#endif
