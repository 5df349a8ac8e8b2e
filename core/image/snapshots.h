/* SPDX-License-Identifier: MIT */
/* The snapshot table of an image ("Snapshots"). */
#ifndef QCOW2_SNAPSHOTS_H
#define QCOW2_SNAPSHOTS_H

#include "layer.h"

struct qcow2_snapshots {
  struct qcow2_snapshot *entries;
  size_t count;
  uint64_t table_bytes; /* the length of these entries in the file */
  size_t long_count; /* entries with more extra data than is allowed, or that seem to have them */
  uint64_t long_offset; /* host offset of the first of these, bytes */
};

/* Read the snapshot table. After an error, `entries` has those before the damage. The caller frees
 *snapshots with qcow2_snapshots_free(), also after an error. Errors: CORRUPT, TRUNCATED, IO, NOMEM.
 */
int qcow2_snapshots_read(const struct qcow2_layer *layer, struct qcow2_snapshots *snapshots,
                         struct qcow2_error *error);

/* Return 0 if a view of the snapshot's disk, or of its VM state, can be opened, else the error.
   Errors: CORRUPT. */
int qcow2_snapshot_disk_error(const struct qcow2_layer *layer,
                              const struct qcow2_snapshot *snapshot, struct qcow2_error *error);
int qcow2_snapshot_vm_state_error(const struct qcow2_layer *layer,
                                  const struct qcow2_snapshot *snapshot, struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_snapshots_free(struct qcow2_snapshots *snapshots);

#endif
