/* SPDX-License-Identifier: MIT */
/* Times as text. */
#ifndef TSK_QCOW2_STATES_MOMENT_H
#define TSK_QCOW2_STATES_MOMENT_H

#include <stddef.h>
#include <stdint.h>

#define MOMENT_BYTES 64

/* Write a time in UTC as ISO 8601 has it, with nanoseconds unless they are 0; "-" for the time 0,
   which file systems have where they have none. Returns `out`. */
const char *moment_text(int64_t seconds, uint32_t nanoseconds, char out[MOMENT_BYTES]);

#endif
