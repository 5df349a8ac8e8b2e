/* SPDX-License-Identifier: MIT */
/* A state of a disk, opened by its image name for libtsk and for comparing it with another. */
#ifndef TSK_QCOW2_STATES_STATE_H
#define TSK_QCOW2_STATES_STATE_H

#include <qcow2core.h>
#include <stdbool.h>
#include <tsk/libtsk.h>

struct qcow2_disk;
struct tsk_qcow2_opened;
struct tsk_qcow2_state;

struct state {
  TSK_IMG_INFO *img;
  struct qcow2_disk *disk;
  struct qcow2_view *view;
};

/* Open it. False after complaining. The caller closes with state_close(). */
bool state_open(const char *name, struct state *state);

/* Open one state of an image that is open under the name. Close it before the image. Of warnings,
   only those of this state are printed. False after complaining. */
bool state_open_one(const struct qcow2_disk *image, const char *name,
                    const struct tsk_qcow2_state *wanted, struct state *state);

/* All NULL is allowed. */
void state_close(struct state *state);

/* What its name chose. */
const struct tsk_qcow2_opened *state_opened(const struct state *state);

/* How often reads of it met damage. If two answers are equal, no read between them met damage. */
uint64_t state_failures(const struct state *state);

#endif
