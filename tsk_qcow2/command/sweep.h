/* SPDX-License-Identifier: MIT */
/* Reading several views side by side, once each, with all cores. Damaged ranges are skipped. */
#ifndef TSK_QCOW2_SWEEP_H
#define TSK_QCOW2_SWEEP_H

#include "sweep_lane.h"

/* How many views of the image's chain can be read side by side within the bound of memory: 10 to
   SWEEP_LANES_MAX. */
size_t sweep_lanes_max(const struct qcow2_image *image);

/* Read the views (at least one, at most sweep_lanes_max()), from guest offset `start` on. Bytes
   that several of them store in the same bytes of the same file are read once. With `skip_zeros`,
   what reads as zeros without any data in a file is left out. Buffers take 40 MiB at most. Errors:
   those of qcow2_view_examine(). */
int sweep_views(const struct qcow2_image *image, const struct sweep_lane *lanes, size_t lane_count,
                uint64_t start, bool skip_zeros, struct qcow2_error *error);

#endif
