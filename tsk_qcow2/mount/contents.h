/* SPDX-License-Identifier: MIT */
/* What an image has to be mounted: its states and their names. */
#ifndef TSK_QCOW2_MOUNT_CONTENTS_H
#define TSK_QCOW2_MOUNT_CONTENTS_H

#include "states.h"
#include "tree.h"

struct contents {
  struct qcow2_disk *image;
  struct states *states;
  struct tree tree;
  size_t *nodes; /* of the states: their numbers in the tree */
  size_t state_count;
  uint64_t failed;    /* states that are not there, since they cannot be opened */
  bool is_incomplete; /* other states may not be there, or may be shown wrongly: something of the
                         image is lost or could not be read */
  char *info;         /* what info.json holds */
  size_t info_length;
  uint64_t total; /* the sum of all sizes, bytes */
  bool to_syslog; /* where damage is reported; else to stderr */
};

/* Open an image by its name, and find out what it has, with `info` (owned from the call on, also
   after a failure; NULL: there is no such file). Warnings, and the states that cannot be opened,
   are told on stderr. The caller frees it with contents_close(), also after a failure. Returns an
   exit status, after complaining. */
int contents_open(struct contents *contents, const char *name, char *info, size_t info_length);

/* All zero is allowed. */
void contents_close(struct contents *contents);

#endif
