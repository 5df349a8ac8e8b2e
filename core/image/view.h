/* SPDX-License-Identifier: MIT */
/* Functions about views that are not public. */
#ifndef QCOW2_VIEW_H
#define QCOW2_VIEW_H

#include "image.h"
#include "stack.h"

/* Open a view of all bytes of a storage, which the view owns from the call on, also on failure.
   Errors of its read() are errors of the view. The caller closes the view like others, before the
   image. Errors: NOMEM, ARGUMENT (QCOW2_OPEN_NO_CHAIN). */
int qcow2_view_open_storage(struct qcow2_image *image, const struct qcow2_storage *storage,
                            struct qcow2_view **view, struct qcow2_error *error);

/* What a view of tables that are not those of a disk of the image is made of. */
struct qcow2_view_tables {
  qcow2_stack_top *find;
  void (*close)(void *context);
  void *context;        /* passed to both */
  uint64_t start, size; /* guest offset where the view begins, and its length, bytes */
  bool is_alone;        /* no backing file is read */
  bool under_zeros;     /* as with QCOW2_VIEW_UNDER_ZEROS; `find` does so itself */
};

/* Open a view of such tables in the topmost image, which the view owns from the call on, also on
   failure. Errors: NOMEM, ARGUMENT (QCOW2_OPEN_NO_CHAIN). */
int qcow2_view_open_tables(struct qcow2_image *image, const struct qcow2_view_tables *tables,
                           struct qcow2_view **view, struct qcow2_error *error);

/* The context of the tables that a view was opened of; NULL: it was opened in another way. *start
   becomes the guest offset where the view begins. */
void *qcow2_view_tables_context(const struct qcow2_view *view, qcow2_stack_top *find,
                                uint64_t *start);

/* Add a sentence to those of qcow2_view_warning(). Errors: NOMEM. */
int qcow2_view_warn(struct qcow2_view *view, const char *sentence, struct qcow2_error *error);

/* The same, and qcow2_view_has_gaps() becomes true. */
int qcow2_view_warn_of_gaps(struct qcow2_view *view, const char *sentence,
                            struct qcow2_error *error);

#endif
