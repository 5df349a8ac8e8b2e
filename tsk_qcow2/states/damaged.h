/* SPDX-License-Identifier: MIT */
/* Which files lie on ranges of a disk that cannot be read. */
#ifndef TSK_QCOW2_STATES_DAMAGED_H
#define TSK_QCOW2_STATES_DAMAGED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <tsk/libtsk.h>

#include "entries.h"

struct damaged_range {
  uint64_t start, end; /* guest bytes */
};

struct damaged {
  struct damaged_range *ranges; /* in ascending order */
  size_t range_count;
  bool is_cut;   /* there are more ranges, so files may be missing */
  json_t *files; /* the first DAMAGED_LISTED_MAX of them */
  uint64_t file_count;
};

#define DAMAGED_LISTED_MAX 1000u

/* Take the ranges of a state from what `verify --json` prints for it; NULL: there are none. False:
   no memory. The caller frees with damaged_free(), also after that. */
bool damaged_start(struct damaged *damaged, const json_t *verified_state);
void damaged_free(struct damaged *damaged);

/* Note a file of a file system if some of its content lies there. `prefix` comes before its
   path. */
void damaged_add_file(struct damaged *damaged, TSK_FS_FILE *file, const struct entries *entries,
                      size_t index, const char *prefix);

/* Note all entries whose metadata, or whose names if they are directories, cannot be read. */
void damaged_add_unread(struct damaged *damaged, const struct entries *entries, const char *prefix);

#endif
