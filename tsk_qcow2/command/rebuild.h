/* SPDX-License-Identifier: MIT */
/* `residue --rebuild`: how a file can be read whose header was overwritten. */
#ifndef TSK_QCOW2_REBUILD_H
#define TSK_QCOW2_REBUILD_H

#include <stdbool.h>

/* Print the layouts that the file can have, and how to open each. `file` is a path, maybe with
   "offset=" after it. Returns an exit status. */
int rebuild_print(const char *file, bool is_json);

#endif
