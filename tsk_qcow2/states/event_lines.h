/* SPDX-License-Identifier: MIT */
/* The lines that a name of a file system gives: those of fls -r -m. */
#ifndef TSK_QCOW2_STATES_EVENT_LINES_H
#define TSK_QCOW2_STATES_EVENT_LINES_H

#include <tsk/libtsk.h>

#include "events.h"

struct event_source {
  struct events *events;
  uint32_t state;
  const char *prefix; /* before each path: the partition */
  bool is_out_of_memory;
};

/* Add the lines of a name. `context` is the struct event_source. */
void event_lines_add(void *context, TSK_FS_FILE *file, const struct entries *entries, size_t index);

#endif
