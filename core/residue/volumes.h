/* SPDX-License-Identifier: MIT */
/*
 * What the beginning of a file system says about where in it something can be recognised: a
 * landmark. Each says itself which one it is, or has a checksum. Pure: no I/O.
 */
#ifndef QCOW2_RESIDUE_VOLUMES_H
#define QCOW2_RESIDUE_VOLUMES_H

#include <stdbool.h>
#include <stdint.h>

#include "disk_start.h"

#define VOLUME_HEAD_BYTES 2048u
/* No landmark is longer. */
#define LANDMARK_BYTES_MAX 65536u
/* Bytes of the description of an ext4 block group; groups with shorter ones have checksums that are
   too short to be believed. */
#define EXT_GROUP_BYTES 64u

enum qcow2_volume_kind {
  VOLUME_UNKNOWN,
  VOLUME_GPT, /* no file system, but it has a landmark: the copy of its header */
  VOLUME_EXT,
  VOLUME_XFS,
  VOLUME_NTFS
};

struct qcow2_volume {
  enum qcow2_volume_kind kind;
  uint64_t start, bytes; /* in the disk; its length, as it says */
  uint8_t id[16];
  uint32_t block_bytes, sector_bytes;
  uint64_t first_block;    /* ext: of the first block group */
  uint64_t group_blocks;   /* ext, XFS: blocks of a group */
  uint32_t landmarks;      /* they are counted from 1 to this */
  uint32_t copies[2];      /* ext: the only groups with a copy of the superblock, if has_two */
  bool is_sparse, has_two; /* ext: few groups have a copy */
  uint64_t mft[2];         /* NTFS: where its MFT and the copy of that begin, in the disk, bytes */
  uint32_t checksum_seed;  /* ext */
  uint64_t groups_offset;  /* ext: where the block groups are described, in the disk, bytes. 0:
                              their bitmaps have no checksums */
};

/* Something that can be recognised. */
struct qcow2_landmark {
  uint64_t guest_offset;
  uint32_t length; /* bytes */
  uint32_t number;
  bool is_bitmap; /* of the block group `number` of ext4, with this checksum */
  uint32_t checksum;
};

/* Find out what begins at `start` of the disk, by its first VOLUME_HEAD_BYTES. It must fit into
   `room` bytes. False: it is not known. */
bool qcow2_volume_recognise(const uint8_t *head, uint64_t start, uint64_t room,
                            struct qcow2_volume *volume);

/* A disk's GPT as a volume. */
void qcow2_volume_of_gpt(const struct qcow2_disk_start *start, struct qcow2_volume *volume);

/* Make the landmark of that number. False: it has none of that number. */
bool qcow2_volume_landmark(const struct qcow2_volume *volume, uint32_t number,
                           struct qcow2_landmark *landmark);

/* Make the landmark of an ext4 block group's bitmap by the EXT_GROUP_BYTES that describe it. False:
   it has none. */
bool qcow2_volume_bitmap(const struct qcow2_volume *volume, uint32_t group,
                         const uint8_t *description, struct qcow2_landmark *landmark);

/* True if these are the bytes of the landmark. */
bool qcow2_volume_has(const struct qcow2_volume *volume, const struct qcow2_landmark *landmark,
                      const uint8_t *bytes);

#endif
