/* SPDX-License-Identifier: MIT */
/* What is worth knowing about a file of the chain, though nothing is wrong with it. */
#ifndef TSK_QCOW2_NOTES_H
#define TSK_QCOW2_NOTES_H

#include <qcow2core.h>

#define TSK_QCOW2_NOTE_BYTES 512u

/* Write a sentence about a layer of the image to `out` (capacity TSK_QCOW2_NOTE_BYTES) and return
   it; NULL: there is nothing to say. `index` counts the sentences about this layer, from 0 on. */
const char *tsk_qcow2_note(const struct qcow2_image *image, size_t layer, size_t index, char *out);

#endif
