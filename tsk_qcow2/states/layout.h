/* SPDX-License-Identifier: MIT */
/* What a file's content is made of: a short summary by which unchanged files are known without
   reading them. */
#ifndef TSK_QCOW2_STATES_LAYOUT_H
#define TSK_QCOW2_STATES_LAYOUT_H

#include <qcow2core.h>
#include <stdbool.h>
#include <tsk/libtsk.h>

struct layout {
  uint64_t digest;      /* of streams, sizes, runs and resident bytes, with a key of this process */
  uint64_t first_block; /* the first with content; 0: none */
  bool is_touched;      /* the bytes to which the runs lead may differ in the other view */
};

/* How many calls of qcow2_view_same() are left. There is a bound, because a file system can be made
   whose runs overlap without end. Once it is used up, everything counts as touched. */
struct layout_budget {
  uint64_t calls;
};

/* Two views of disks whose bytes are compared where both have the same offset; NULL: there is
   nothing to compare with. */
struct layout_views {
  struct qcow2_view *view, *other;
};

/* The first of a file's attributes that hold content, and the one after another; NULL: none. */
const TSK_FS_ATTR *layout_first_stream(TSK_FS_FILE *file);
const TSK_FS_ATTR *layout_next_stream(const TSK_FS_ATTR *attr);

/* Summarize a file. False: its attributes could not be loaded. */
bool layout_of(TSK_FS_FILE *file, const struct layout_views *views, struct layout_budget *budget,
               struct layout *layout);

/* True if the tables show that both views have the same bytes in the run. False if only reading can
   tell, or if there are no such bytes. */
bool layout_is_same_run(const TSK_FS_INFO *fs, const TSK_FS_ATTR_RUN *run,
                        const struct layout_views *views, struct layout_budget *budget);

#endif
