/* SPDX-License-Identifier: MIT */
/* From the records of one file system in two states to what changed. Pure: reads nothing. */
#ifndef TSK_QCOW2_STATES_COMPARE_H
#define TSK_QCOW2_STATES_COMPARE_H

#include "changes.h"

/* Compare. ASPECT_CONTENT means that the content may have changed, and the caller finds out. If two
   layouts are equal and nothing was touched, the content is the same. The changes are in the order
   of B; files that are gone come last. False: no memory. The caller frees with changes_free(). */
bool compare_entries(const struct entries *a, const struct entries *b,
                     enum compare_identity identity, struct changes *changes);

void changes_free(struct changes *changes);

#endif
