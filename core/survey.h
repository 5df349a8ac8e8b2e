/* SPDX-License-Identifier: MIT */
/* A look over a file of the chain when it is opened: its feature bits, and whether it reaches as far as its tables say. */
#ifndef QCOW2_SURVEY_H
#define QCOW2_SURVEY_H

#include "warnings.h"

/* Add what is wrong with the layer to the warnings, and set layer->needed_size. Reads the L1 table, the refcount table, one refcount
   block and, where the file ends inside the last cluster in use, L2 tables: a bounded number of bytes. A table that cannot be
   read is left for the read that needs it. Errors: NOMEM. */
int qcow2_survey(struct qcow2_layer *layer, struct qcow2_warnings *warnings,
                 struct qcow2_error *error);

#endif
