/* SPDX-License-Identifier: MIT */
/* A look over a file of the chain when it is opened: its feature bits, and whether it reaches as
   far as its tables say. */
#ifndef QCOW2_SURVEY_H
#define QCOW2_SURVEY_H

#include "warnings.h"

/* Enough for all surveys of a chain: two images with the largest tables that the format allows, or
   any number of usual ones. */
#define SURVEY_BUDGET_BYTES (UINT64_C(96) << 20)

/* Add what is wrong with the layer to the warnings, and set layer->needed_size. Reads the L1 table,
   the refcount table, one refcount block and, where a file ends inside a cluster, L2 tables: at
   most *budget bytes, which it lowers by what it read. A table that cannot be read is left for the
   read that needs it. Errors: NOMEM. */
int qcow2_survey(struct qcow2_layer *layer, uint64_t *budget, struct qcow2_warnings *warnings,
                 struct qcow2_error *error);

#endif
