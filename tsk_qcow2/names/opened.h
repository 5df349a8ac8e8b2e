/* SPDX-License-Identifier: MIT */
/* What image names lead to, opened. */
#ifndef TSK_QCOW2_OPENED_H
#define TSK_QCOW2_OPENED_H

#include <qcow2core.h>
#include <stdbool.h>

#include "inside.h"

struct tsk_qcow2_opened {
  struct qcow2_image *image;
  struct qcow2_view *view;         /* NULL if only the image was asked for */
  struct tsk_qcow2_inside *inside; /* the disk around the image; NULL: there is none */
  size_t snapshot_index;           /* of the view; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;                /* the view is the snapshot's VM state */
  bool errors_zero;                /* the user wants zeros for what cannot be read */
  bool is_residue;                 /* the view is the file's residue */
  bool is_abandoned;    /* the view is of the state that was left when a snapshot was applied */
  uint64_t deleted_l1;  /* the view is of the deleted snapshot whose L1 table was there; 0: not */
  bool only_kept;       /* the user wants only what is surely the deleted snapshot's */
  bool by_neighbours;   /* the user wants clusters that no table names, placed by guess */
  bool under_zeros;     /* the user wants what is stored under zeros */
  bool is_in_recovered; /* a disk around the image is of a deleted snapshot, or of an abandoned
                           state */
  bool is_in_gaps;      /* qcow2_view_has_gaps() is true of a disk around the image */
};

/* True if the name chose one state of the image, and not the image with all of its states. */
static inline bool tsk_qcow2_opened_is_one(const struct tsk_qcow2_opened *opened)
{
  return opened->snapshot_index != QCOW2_ACTIVE || opened->deleted_l1 != 0 ||
         opened->is_abandoned || opened->is_residue;
}

/* True if the name chose a state that the image no longer has, or an image in the disk of one. */
static inline bool tsk_qcow2_opened_is_recovered(const struct tsk_qcow2_opened *opened)
{
  return opened->deleted_l1 != 0 || opened->is_abandoned || opened->is_in_recovered;
}

/* True if what the view shows may be wrong, because some of a file could not be read when the view,
   or a disk around the image, was opened. */
static inline bool tsk_qcow2_opened_has_gaps(const struct tsk_qcow2_opened *opened,
                                             const struct qcow2_view *view)
{
  return opened->is_in_gaps || (view != NULL && qcow2_view_has_gaps(view) != 0);
}

/* Open a view of a state of an image that tsk_qcow2_open_names() opened. If the name asked for what
   is under zeros, the view shows it. If the name asked for the residue, or for a deleted snapshot,
   the view is of that, whatever the state. Errors: those of qcow2_view_open_as() and
   qcow2_view_open_residue(). */
int tsk_qcow2_open_state(const struct tsk_qcow2_opened *opened, size_t snapshot_index,
                         bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error);

/* The same for the deleted snapshot whose L1 table is at a host offset. Errors: those of
   qcow2_view_open_deleted(). */
int tsk_qcow2_open_deleted(const struct tsk_qcow2_opened *opened, uint64_t l1_offset,
                           bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error);

/* The warnings about the disk around the image, the image's (qcow2_warning()), and the view's, if
   there is one (qcow2_view_warning()). NULL past the last one. */
const char *tsk_qcow2_opened_warning(const struct tsk_qcow2_opened *opened, size_t index);

/* All NULL is allowed. */
void tsk_qcow2_opened_close(struct tsk_qcow2_opened *opened);

#endif
