/* SPDX-License-Identifier: MIT */
/* Backing files in formats that libtsk reads: VMDK, VHD, EWF (E01), AFF. */
#ifndef TSK_QCOW2_FOREIGN_H
#define TSK_QCOW2_FOREIGN_H

#include <qcow2core.h>

/* A qcow2_open_foreign: opens through libtsk what an image declares to be vmdk or vpc, and what the user names with the usual
   extension of a format. */
qcow2_open_foreign tsk_qcow2_open_foreign;

#endif
