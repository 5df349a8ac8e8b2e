/* SPDX-License-Identifier: MIT */
/* A look over a qcow2 file when it is opened: its feature bits, and whether it reaches as far as its tables say. */
#ifndef QCOW2_SURVEY_H
#define QCOW2_SURVEY_H

#include "warnings.h"

/* Set layer->needed_size, and add what is wrong to the warnings. Reads the L1 table, the refcount table and one refcount block: a
   bounded number of bytes. A table that cannot be read is left for the read that needs it. Errors: NOMEM. */
int qcow2_survey(struct qcow2_layer *layer, struct qcow2_warnings *warnings,
                 struct qcow2_error *error);

#endif
