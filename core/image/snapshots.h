/* SPDX-License-Identifier: MIT */
/* The snapshot table of an image ("Snapshots"). */
#ifndef QCOW2_SNAPSHOTS_H
#define QCOW2_SNAPSHOTS_H

#include "layer.h"

struct qcow2_snapshots {
  struct qcow2_snapshot *entries;
  size_t count;
  uint64_t table_bytes; /* what the entries take in the file */
};

/* Read the table as far as it can be read: after an error, the entries before the damage are there.
   The caller frees with qcow2_snapshots_free(). Errors: CORRUPT, TRUNCATED, IO, NOMEM. */
int qcow2_snapshots_read(const struct qcow2_layer *layer, struct qcow2_snapshots *snapshots,
                         struct qcow2_error *error);

/* The error that opening a view of the snapshot's disk, or of its VM state, gives; 0: it can be
   opened. Errors: CORRUPT. */
int qcow2_snapshot_disk_error(const struct qcow2_layer *layer,
                              const struct qcow2_snapshot *snapshot, struct qcow2_error *error);
int qcow2_snapshot_vm_state_error(const struct qcow2_layer *layer,
                                  const struct qcow2_snapshot *snapshot, struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_snapshots_free(struct qcow2_snapshots *snapshots);

#endif
