/* SPDX-License-Identifier: MIT */
/* The facts about an image as text, for img_stat and for `tsk-qcow2 info`. */
#ifndef TSK_QCOW2_REPORT_H
#define TSK_QCOW2_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "open_names.h"

/* Print the facts, a line each, in TSK's "Name: value" layout. False: something of them cannot be
   read, and its line says so. */
bool tsk_qcow2_report_print(FILE *out, const struct tsk_qcow2_opened *opened);

/* "YYYY-MM-DD hh:mm:ss (UTC)" for a snapshot, in `out`; returns `out`. */
char *tsk_qcow2_report_date(const struct qcow2_snapshot *snapshot, char *out, size_t out_size);

/* The most runs of bits that a report looks at, in all bitmaps together, to count dirty bytes. This
   takes about a second. */
#define TSK_QCOW2_REPORT_RUNS UINT64_C(4000000)

#endif
