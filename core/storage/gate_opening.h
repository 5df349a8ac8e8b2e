/* SPDX-License-Identifier: MIT */
/* How the gate opens what it has decided to open (POSIX). Only the gate includes this. */
#ifndef QCOW2_STORAGE_GATE_OPENING_H
#define QCOW2_STORAGE_GATE_OPENING_H

#include <fcntl.h>
#include <sys/stat.h>

#include "opened_file.h"

/* For directories from which names are opened: who may not list them may open these. */
#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

/* Which kinds of files may be opened. */
enum admission {
  ADMIT_REGULAR,         /* for a path in an image */
  ADMIT_REGULAR_OR_BLOCK /* for a path that the user gave */
};

/* Why a file with this status may not be opened, as a clause; NULL: it may. */
const char *qcow2_gate_admission_problem(const struct stat *status, enum admission admission);

/* Open `name` in `directory`. It must be admitted, and still be the same file after it was opened.
   Returns the descriptor, or -1 with either *problem (a clause) or errno set. */
int qcow2_gate_open_admitted(int directory, const char *name, enum admission admission,
                             struct stat *status, const char **problem);

/* The same for a block device of this machine: `directory` is on the file system of /dev, and the
   name leads to a device there, perhaps through symbolic links, as in a volume group's directory.
   If it is not so, returns -1 and leaves *problem and errno as they are. A device file or a link
   that came with evidence is on another file system. */
int qcow2_gate_open_device(int directory, const char *name, struct stat *status,
                           const char **problem);

/* Make the opened file. It owns `path` (NULL: there was no memory) and the descriptors from the
   call on; they are closed also on failure. */
int qcow2_gate_fill(struct qcow2_opened_file *file, char *path, int directory, int descriptor,
                    const struct stat *status, struct qcow2_error *error);

/* Open the directories in `name`, one in the other, from `directory` on (which this closes), never
   through a symbolic link. *last becomes the last component of `name`, which is not opened. Returns
   the descriptor of the last directory, or -1 with *problem or errno set. */
int qcow2_gate_descend(int directory, char *name, const char **last, const char **problem);

#endif
