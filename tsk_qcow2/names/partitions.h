/* SPDX-License-Identifier: MIT */
/* Where the partitions of a disk begin, as mmls prints it. */
#ifndef TSK_QCOW2_PARTITIONS_H
#define TSK_QCOW2_PARTITIONS_H

#include "inner_image.h"

/* The bytes of a unit of START: of a sector, as the partition table counts them. */
unsigned tsk_qcow2_partitions_unit(struct tsk_qcow2_inner_image *image);

/* Enough for the list of partitions in a message. */
#define PARTITIONS_BYTES 420

/* Write a clause about where the partitions begin; returns `out`. */
char *tsk_qcow2_partitions_list(struct tsk_qcow2_inner_image *image, char out[PARTITIONS_BYTES]);

#endif
