/* SPDX-License-Identifier: MIT */
/* What of an image a name chooses: what is after its first "@". */
#ifndef TSK_QCOW2_SELECTION_H
#define TSK_QCOW2_SELECTION_H

#include <stdbool.h>
#include <stdio.h>

#include <qcow2core.h>

enum tsk_qcow2_selection_kind {
  TSK_QCOW2_SELECT_NOTHING,    /* there is no "@": the active disk */
  TSK_QCOW2_SELECT_ID_OR_NAME, /* a snapshot, by its ID or name */
  TSK_QCOW2_SELECT_ID,         /* by its ID */
  TSK_QCOW2_SELECT_NAME,       /* by its name */
  TSK_QCOW2_SELECT_INDEX,      /* by its index in the snapshot table */
  TSK_QCOW2_SELECT_DELETED,    /* a deleted snapshot, by its name */
  TSK_QCOW2_SELECT_DELETED_ID, /* by its ID */
  TSK_QCOW2_SELECT_DELETED_L1, /* by the host offset of its L1 table */
  TSK_QCOW2_SELECT_ABANDONED   /* "abandoned": a snapshot that is called so or, if there is none,
                                  the state that was left when a snapshot was applied */
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

/* What a selection leads to in an image. */
struct tsk_qcow2_selected {
  size_t snapshot_index; /* QCOW2_ACTIVE: the active disk, or what follows */
  uint64_t deleted_l1;   /* host offset of the L1 table of a deleted snapshot; 0: none is chosen */
  bool is_abandoned;     /* the state that was left when a snapshot was applied */
};

/* Find what is chosen. Errors: those of qcow2_snapshot_find() and qcow2_deleted_find(). */
int tsk_qcow2_selection_find(const struct tsk_qcow2_selection *selection,
                             const struct qcow2_image *image, struct tsk_qcow2_selected *selected,
                             struct qcow2_error *error);

/* True for the kinds of deleted snapshots, and for an abandoned state: their clusters have labels.
 */
static inline bool tsk_qcow2_selection_is_deleted(const struct tsk_qcow2_selection *selection)
{
  return selection->kind == TSK_QCOW2_SELECT_DELETED ||
         selection->kind == TSK_QCOW2_SELECT_DELETED_ID ||
         selection->kind == TSK_QCOW2_SELECT_DELETED_L1 ||
         selection->kind == TSK_QCOW2_SELECT_ABANDONED;
}

/* All zero is allowed. */
void tsk_qcow2_selection_free(struct tsk_qcow2_selection *selection);

#endif
