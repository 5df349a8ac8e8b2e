/* SPDX-License-Identifier: MIT */
/* What the drop-in needs of the backend beyond <tsk_qcow2.h>. */
#ifndef TSK_QCOW2_BACKEND_H
#define TSK_QCOW2_BACKEND_H

/* Report the damage of all images that are still open, as if they were closed now. For programs
   that exit without closing. */
void tsk_qcow2_report_counts(void);

#endif
