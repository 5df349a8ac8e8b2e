/* SPDX-License-Identifier: MIT */
/* The partitions of a state, and what two states have in common. */
#ifndef TSK_QCOW2_STATES_VOLUMES_H
#define TSK_QCOW2_STATES_VOLUMES_H

#include "state.h"

#define VOLUMES_MAX 256u
#define VOLUME_TEXT_BYTES 256u

struct volume {
  uint64_t start, sectors; /* as mmls prints them; 0 and 0: the disk has no partitions */
  uint64_t offset, length; /* the same in bytes */
  char description[VOLUME_TEXT_BYTES]; /* escaped; "" for a disk without partitions */
  TSK_FS_INFO *fs;                     /* NULL: there is none that libtsk reads */
  char problem[VOLUME_TEXT_BYTES];     /* if so: why, escaped */
  bool is_damaged;                     /* damage was met while it was opened */
};

struct volumes {
  struct volume list[VOLUMES_MAX];
  size_t count;
  bool is_cut;     /* there are more */
  bool is_damaged; /* damage was met while the partition table was read */
};

/* Find the partitions that are in use, and open their file systems. A disk without a partition
   table is one volume. */
void volumes_open(const struct state *state, struct volumes *volumes);

void volumes_close(struct volumes *volumes);

enum volume_fate {
  VOLUME_STAYED,
  VOLUME_MOVED, /* the same file system at another place */
  VOLUME_ONLY_A,
  VOLUME_ONLY_B
};

struct volume_pair {
  enum volume_fate fate;
  const struct volume *a, *b; /* NULL: none */
  bool is_same_fs; /* the same type and identifier, if it has one; false: it was made anew */
  bool is_unsure;  /* of a side that has none: damage was met in its partition table */
};

/* Match the volumes of two states, by where they start and their type, and else by the identifier
   of the file system. `pairs` has room for 2 * VOLUMES_MAX. Returns how many there are. */
size_t volumes_match(const struct volumes *a, const struct volumes *b, struct volume_pair *pairs);

#endif
