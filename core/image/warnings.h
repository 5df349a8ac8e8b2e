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

/* All zero is allowed. */
void qcow2_warnings_free(struct qcow2_warnings *warnings);

#endif
