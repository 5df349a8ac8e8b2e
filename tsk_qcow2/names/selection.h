/* SPDX-License-Identifier: MIT */
/* What of an image a name chooses: what is after its first "@". */
#ifndef TSK_QCOW2_SELECTION_H
#define TSK_QCOW2_SELECTION_H

#include <stdio.h>

#include <qcow2core.h>

enum tsk_qcow2_selection_kind {
  TSK_QCOW2_SELECT_NOTHING,    /* there is no "@": the active disk */
  TSK_QCOW2_SELECT_ID_OR_NAME, /* a snapshot, by its ID or name */
  TSK_QCOW2_SELECT_ID,         /* by its ID */
  TSK_QCOW2_SELECT_NAME,       /* by its name */
  TSK_QCOW2_SELECT_INDEX       /* by its index in the snapshot table */
};

struct tsk_qcow2_selection {
  enum tsk_qcow2_selection_kind kind;
  char *text; /* what follows the word of that kind, maybe empty; NULL: NOTHING. Owned */
};

/* Parse what follows "@", up to a single comma or the end, to which *rest is advanced. The caller
   frees with tsk_qcow2_selection_free(), also after an error. Errors: NOMEM. */
int tsk_qcow2_selection_parse(const char **rest, struct tsk_qcow2_selection *selection,
                              struct qcow2_error *error);

/* The way back: write "@" and what follows. Nothing if nothing is chosen. */
void tsk_qcow2_selection_print(const struct tsk_qcow2_selection *selection, FILE *out);

/* Find the snapshot that is chosen; QCOW2_ACTIVE: nothing is. Errors: NOT_FOUND. */
int tsk_qcow2_selection_find(const struct tsk_qcow2_selection *selection,
                             const struct qcow2_image *image, size_t *snapshot_index,
                             struct qcow2_error *error);

/* All zero is allowed. */
void tsk_qcow2_selection_free(struct tsk_qcow2_selection *selection);

#endif
