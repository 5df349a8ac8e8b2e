/* SPDX-License-Identifier: MIT */
/* What the drop-in needs of the backend beyond <tsk_qcow2.h>. */
#ifndef TSK_QCOW2_BACKEND_H
#define TSK_QCOW2_BACKEND_H

/* Have the damage of images that are still open told as if they were closed now: for programs that
   exit without closing. */
void tsk_qcow2_report_counts(void);

#endif
