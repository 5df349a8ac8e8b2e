/* SPDX-License-Identifier: MIT */
/* The layouts that a trial's L1 tables give, weighed. */
#ifndef QCOW2_RESIDUE_LAYOUTS_H
#define QCOW2_RESIDUE_LAYOUTS_H

#include "trial.h"

#define LAYOUTS_MAX ((size_t) 1000)
#define LAYOUT_SNAPSHOTS_MAX ((size_t) 1000)

struct qcow2_layouts {
  struct qcow2_rebuilt *items; /* their `snapshot` points into `snapshots` */
  size_t count;                /* of `items` */
  uint64_t found;              /* with those for which there was no room */
  struct qcow2_snapshot *snapshots;
  size_t snapshot_count;
};

/* The caller frees with qcow2_layouts_free(), also after an error. Errors: NOMEM. */
int qcow2_layouts_make(struct qcow2_layouts *layouts, struct qcow2_error *error);
void qcow2_layouts_free(struct qcow2_layouts *layouts);

/* Add those of a trial. Errors: NOMEM. */
int qcow2_layouts_add(struct qcow2_layouts *layouts, struct qcow2_trial *trial,
                      struct qcow2_error *error);

/* Put the most likely first. */
void qcow2_layouts_sort(struct qcow2_layouts *layouts);

#endif
