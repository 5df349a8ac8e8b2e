/* SPDX-License-Identifier: MIT */
/* What the drop-in and other programs of ours need of the backend beyond <tsk_qcow2.h>. */
#ifndef TSK_QCOW2_BACKEND_H
#define TSK_QCOW2_BACKEND_H

#include "../tsk_qcow2.h"

struct qcow2_disk;
struct tsk_qcow2_state;

/* As tsk_qcow2_open(), but of an image that is open already, whose name is kept as the new one's.
   Close it before that image. */
TSK_IMG_INFO *tsk_qcow2_img_open_state(const struct qcow2_disk *image, const char *name,
                                       const struct tsk_qcow2_state *state);

/* What an image that tsk_qcow2_open() made reads. Closed with the image. */
struct qcow2_disk *tsk_qcow2_img_disk(const TSK_IMG_INFO *img);

/* Give the sentences about files that changed, which come when the image is closed, to another
   callback than that of tsk_qcow2_report_damage(). */
void tsk_qcow2_report_changes(TSK_IMG_INFO *img, tsk_qcow2_damage_sentence *report, void *context);

/* Report the damage of all images that are still open, as if they were closed now. For programs
   that exit without closing. */
void tsk_qcow2_report_counts(void);

#endif
