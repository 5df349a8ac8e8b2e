/* SPDX-License-Identifier: MIT */
/* From one file system to records of its names. */
#ifndef TSK_QCOW2_STATES_WALK_H
#define TSK_QCOW2_STATES_WALK_H

#include "entries.h"
#include "layout.h"
#include "state.h"

struct walk_options {
  const struct state *state;
  struct layout_views views;
  struct layout_budget *budget;
  bool with_deleted; /* names that are not in use any more, and files without a name, too */
  bool with_virtual; /* what libtsk adds for areas of the file system, too */
  bool with_layout;
  void (*progress)(void *context, size_t names); /* NULL is allowed */
  void *context;
  /* Called for each name as it is recorded; NULL is allowed. The file's metadata may be NULL. */
  void (*visit)(void *context, TSK_FS_FILE *file, const struct entries *entries, size_t index);
};

/* Record all names below the root directory. A directory that lies in itself is not gone into
   again, and one of very many names not under each of them. False: no memory. */
bool walk_file_system(TSK_FS_INFO *fs, const struct walk_options *options, struct entries *entries);

#endif
