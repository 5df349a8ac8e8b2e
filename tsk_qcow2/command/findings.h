/* SPDX-License-Identifier: MIT */
/* What the findings of a check mean for reading. */
#ifndef TSK_QCOW2_FINDINGS_H
#define TSK_QCOW2_FINDINGS_H

#include <qcow2core.h>

/* The number of findings because of which reading may fail, or give other bytes than were
   written. */
uint64_t findings_serious(const struct qcow2_check_result *result);

/* The bytes of the clusters that are marked as used, but that nothing refers to. */
uint64_t findings_unreferenced_bytes(const struct qcow2_check_result *result,
                                     const struct qcow2_layer_info *layer);

#endif
