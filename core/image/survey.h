/* SPDX-License-Identifier: MIT */
/* The survey of a file of the chain when it is opened: its feature bits, and whether the file is as
   long as its tables need. */
#ifndef QCOW2_SURVEY_H
#define QCOW2_SURVEY_H

#include "warnings.h"

/* The limit for all surveys of a chain. It is enough for two images with the largest tables that
   the format allows, or for any number of usual ones. */
#define SURVEY_BUDGET_BYTES (UINT64_C(96) << 20)

/* Add what is wrong with the layer to the warnings, and set layer->needed_size. Reads the L1 table,
   the refcount table, one refcount block and, if a file ends inside a cluster, L2 tables: at most
   *budget bytes; *budget is reduced by what was read. A table that cannot be read is skipped,
   with a warning. Errors: NOMEM. */
int qcow2_survey(struct qcow2_layer *layer, uint64_t *budget, struct qcow2_warnings *warnings,
                 struct qcow2_error *error);

#endif
