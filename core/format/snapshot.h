/* SPDX-License-Identifier: MIT */
/* One entry of the snapshot table ("Snapshots"). Pure: no I/O. */
#ifndef QCOW2_FORMAT_SNAPSHOT_H
#define QCOW2_FORMAT_SNAPSHOT_H

#include "geometry.h"

#define SNAPSHOT_FIXED_BYTES 40u
/* QEMU's limits; no legal image exceeds them. */
#define SNAPSHOT_COUNT_MAX UINT32_C(65536)
#define SNAPSHOT_TABLE_BYTES_MAX (UINT64_C(64) << 20)
#define SNAPSHOT_EXTRA_BYTES_MAX UINT32_C(1024)

/* The lengths, in bytes, of what follows the fixed part: extra data, ID, name. The next entry
   begins at a multiple of 8. */
struct qcow2_snapshot_lengths {
  uint32_t extra;
  uint32_t id;
  uint32_t name;
};

/* Read the lengths from the fixed part. `host_offset` is the entry's, for the error. Errors:
   CORRUPT. */
int qcow2_snapshot_measure(const uint8_t fixed[SNAPSHOT_FIXED_BYTES], uint64_t host_offset,
                           struct qcow2_snapshot_lengths *lengths, struct qcow2_error *error);

/* Decode an entry; `variable` holds extra data, ID and name. A snapshot without a recorded disk
   size gets `active_size`. The caller frees with qcow2_snapshot_free(). Errors: NOMEM. */
int qcow2_snapshot_decode(const uint8_t fixed[SNAPSHOT_FIXED_BYTES], const uint8_t *variable,
                          const struct qcow2_snapshot_lengths *lengths, uint64_t active_size,
                          struct qcow2_snapshot *snapshot, struct qcow2_error *error);

/* True if a decoded entry can be an entry. Zeros, and other bytes that are no entry, look like an
   entry that has no ID and no name, and whose L1 table cannot exist. The lengths in such an entry
   do not lead to the next one. */
bool qcow2_snapshot_is_entry(const struct qcow2_geometry *geometry,
                             const struct qcow2_snapshot *snapshot);

/* Why the snapshot's disk, or its VM state, cannot be read through the L1 table that the entry
   names, as a predicate ("is larger than 32 MiB"). NULL: as far as the entry shows, it can be read,
   or there is no VM state. */
const char *qcow2_snapshot_disk_problem(const struct qcow2_geometry *geometry,
                                        const struct qcow2_snapshot *snapshot);
const char *qcow2_snapshot_vm_state_problem(const struct qcow2_geometry *geometry,
                                            const struct qcow2_snapshot *snapshot);

/* Free what a decoded snapshot owns. */
void qcow2_snapshot_free(struct qcow2_snapshot *snapshot);

#endif
