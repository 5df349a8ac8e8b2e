/* SPDX-License-Identifier: MIT */
/* From image names, as a user types them, to an opened image and view. */
#ifndef TSK_QCOW2_OPEN_NAMES_H
#define TSK_QCOW2_OPEN_NAMES_H

#include <qcow2core.h>
#include <stdbool.h>

/* What image names lead to. */
struct tsk_qcow2_opened {
  struct qcow2_image *image;
  struct qcow2_view *view; /* NULL if only the image was asked for */
  size_t snapshot_index;   /* of the view; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;        /* the view is the snapshot's VM state */
  bool errors_zero;        /* the user wants zeros for what cannot be read */
  bool is_residue;         /* the view is the file's residue */
  uint64_t deleted_l1; /* the view is of the deleted snapshot whose L1 table was there; 0: not */
  bool only_kept;      /* the user wants only what is surely the deleted snapshot's */
  bool under_zeros;    /* the user wants what is stored under zeros */
};

enum tsk_qcow2_depth {
  TSK_QCOW2_WHOLE,            /* the chain, and a view */
  TSK_QCOW2_CHAIN_ONLY,       /* the chain, no view */
  TSK_QCOW2_CHAIN_NO_THREADS, /* the same, and nothing is decoded ahead: the caller has threads */
  TSK_QCOW2_HEADER_ONLY       /* no file but the one named */
};

/* Open the image of names[0], or of the selector file that it leads to, with the other names as its
   backing chain. The directories of the environment variable TSK_QCOW2_SEARCH (separated by colons)
   are searched after those of the name's search=. If a passphrase is needed and the name has no
   key-file=, the environment variable TSK_QCOW2_KEY_FILE names the file. `open_foreign` opens
   backing and data files in other formats than EWF; NULL: libtsk does. The caller closes with
   tsk_qcow2_opened_close(). Errors: those of tsk_qcow2_name_parse(), qcow2_image_open(),
   qcow2_snapshot_find(). */
int tsk_qcow2_open_names(size_t count, const char *const names[], enum tsk_qcow2_depth depth,
                         qcow2_open_foreign *open_foreign, struct tsk_qcow2_opened *opened,
                         struct qcow2_error *error);

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

/* The image's warnings (qcow2_warning()), and after them the view's, if there is one
   (qcow2_view_warning()). NULL past the last one. */
const char *tsk_qcow2_opened_warning(const struct tsk_qcow2_opened *opened, size_t index);

/* All NULL is allowed. */
void tsk_qcow2_opened_close(struct tsk_qcow2_opened *opened);

#endif
