/* SPDX-License-Identifier: MIT */
/* A state of a disk, opened by its image name for libtsk and for comparing it with another. */
#ifndef TSK_QCOW2_STATES_STATE_H
#define TSK_QCOW2_STATES_STATE_H

#include <qcow2core.h>
#include <stdbool.h>
#include <tsk/libtsk.h>

struct qcow2_disk;

struct state {
  TSK_IMG_INFO *img;
  struct qcow2_disk *disk;
  struct qcow2_view *view;
};

/* Open it. False after complaining. The caller closes with state_close(). */
bool state_open(const char *name, struct state *state);

/* Open one state of an image that is open under the name: QCOW2_ACTIVE, or the index of a snapshot.
   Close it before the image. Of warnings, only those of this state are printed. False after
   complaining. */
bool state_open_index(const struct qcow2_disk *image, const char *name, size_t snapshot_index,
                      struct state *state);

/* All NULL is allowed. */
void state_close(struct state *state);

/* How often reads of it met damage. If two answers are equal, no read between them met damage. */
uint64_t state_failures(const struct state *state);

#endif
