/* SPDX-License-Identifier: MIT */
/* What is wrong with an image though it can be opened. */
#ifndef QCOW2_WARNINGS_H
#define QCOW2_WARNINGS_H

#include "layer.h"

struct qcow2_warnings {
  char **sentences;
  size_t count;
};

/* Add a sentence, naming the file if `path` is not NULL. Errors: NOMEM. */
int qcow2_warnings_add(struct qcow2_warnings *warnings, const char *path, const char *sentence,
                       struct qcow2_error *error);

/* Look over a qcow2 layer: feature bits, and whether the file reaches as far as its tables say. Reads the L1 table, the
   refcount table and one refcount block, a bounded number of bytes. What it finds is added, and is no error.
   Errors: NOMEM. */
int qcow2_warnings_survey(struct qcow2_warnings *warnings, const struct qcow2_layer *layer,
                          struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_warnings_free(struct qcow2_warnings *warnings);

#endif
