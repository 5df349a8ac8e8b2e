/* SPDX-License-Identifier: MIT */
/* What the backend and the mount need in addition to <qcow2names.h>. */
#ifndef TSK_QCOW2_DISK_H
#define TSK_QCOW2_DISK_H

#include <stdbool.h>

#include "../qcow2names.h"
#include "open_names.h"

/* As qcow2_disk_read(), for a caller that may hide an error from its own caller: after an error
   the buffer holds what can be read, and zeros for the rest, and each damaged range is reported. */
int tsk_qcow2_disk_read_filled(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                               size_t length, struct qcow2_error *error);

/* How often reads met damage, the same or not, so that a caller behind libtsk knows whether what it
   got is whole: libtsk may hide an error, and "errors=zero" makes one a success. */
uint64_t tsk_qcow2_disk_failures(const struct qcow2_disk *disk);

/* Give the sentences about files that changed, which come when `disk` is closed, to another
   callback than that of qcow2_disk_report_damage(). */
void tsk_qcow2_disk_report_changes(struct qcow2_disk *disk, qcow2_damage_sentence *report,
                                   void *context);

/* Report once how much damage was met, and which files changed, as qcow2_disk_close() does. For
   programs that exit without closing. */
void tsk_qcow2_disk_report_count(struct qcow2_disk *disk);

/* As qcow2_disk_read(), but after an error all damage in the range was reported, and not only the
   first: for a caller that does not read on from there. The buffer is undefined then. */
int tsk_qcow2_disk_read_once(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                             size_t length, struct qcow2_error *error);

/* As qcow2_disk_open() of one name, but of the image only: there is no view to read. */
int tsk_qcow2_disk_open_chain(const char *name, struct qcow2_disk **disk,
                              struct qcow2_error *error);

/* What the name chose. */
const struct tsk_qcow2_opened *tsk_qcow2_disk_opened(const struct qcow2_disk *disk);

/* A disk that an image holds. */
struct tsk_qcow2_state {
  size_t snapshot_index; /* QCOW2_ACTIVE: the active disk, */
  size_t layer;          /* of this file of the chain; else 0 */
  bool is_vm_state;      /* of the snapshot, in place of its disk */
  bool is_alone;         /* without the files below that layer */
  uint64_t deleted_l1;   /* the deleted snapshot whose L1 table is at this host offset; 0: none */
  bool is_residue;       /* the file's residue, in place of a disk */
};

/* Open a state of the image that `image` has open, by the same options; close it before that one.
   Errors: those of qcow2_view_open(). */
int tsk_qcow2_disk_open_state(const struct qcow2_disk *image, const struct tsk_qcow2_state *state,
                              struct qcow2_disk **disk, struct qcow2_error *error);

#endif
