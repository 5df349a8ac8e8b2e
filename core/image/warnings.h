/* SPDX-License-Identifier: MIT */
/* Sentences about what is wrong with an image that can be opened. */
#ifndef QCOW2_WARNINGS_H
#define QCOW2_WARNINGS_H

#include "layer.h"

struct qcow2_warnings {
  char **sentences;
  size_t count;
  bool of_damage; /* some are about something that is lost, or cannot be read */
};

/* Add a sentence. If `path` is not NULL, the file is named at its end. Errors: NOMEM. */
int qcow2_warnings_add(struct qcow2_warnings *warnings, const char *path, const char *sentence,
                       struct qcow2_error *error);

/* The same for a sentence about something that is lost, or cannot be read. */
int qcow2_warnings_add_damage(struct qcow2_warnings *warnings, const char *path,
                              const char *sentence, struct qcow2_error *error);

/* All zero is allowed. */
void qcow2_warnings_free(struct qcow2_warnings *warnings);

#endif
