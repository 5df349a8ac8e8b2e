/* SPDX-License-Identifier: MIT */
/* The backing chain as a person draws it. */
#ifndef TSK_QCOW2_CHAIN_PICTURE_H
#define TSK_QCOW2_CHAIN_PICTURE_H

#include <qcow2core.h>
#include <stdio.h>

/* Print the files of the chain, the oldest at the bottom: the name, when the file was written, its
   size and that of its disk; and between two of them what the upper one calls the lower one, and
   where that was found. Nothing is printed if there is only one. */
void tsk_qcow2_chain_picture(FILE *out, const struct qcow2_image *image);

#endif
