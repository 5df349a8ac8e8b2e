/* SPDX-License-Identifier: MIT */
/* What the first sectors of a disk say: where its partitions begin. Pure: no I/O. Sectors have 512
   bytes. */
#ifndef QCOW2_RESIDUE_DISK_START_H
#define QCOW2_RESIDUE_DISK_START_H

#include <stdbool.h>
#include <stdint.h>

#define DISK_START_BYTES 1024u
#define DISK_SECTOR_BYTES 512u
#define DISK_PARTITIONS_MAX 128u
/* Of a GPT: most have entries of 128 bytes, and none is read that has other ones. */
#define GPT_ENTRY_BYTES 128u

enum qcow2_disk_start_kind {
  DISK_START_UNKNOWN,
  DISK_START_MBR,
  DISK_START_GPT /* its header has a checksum, and says itself where it is */
};

struct qcow2_disk_range {
  uint64_t start, length; /* bytes */
};

struct qcow2_disk_start {
  enum qcow2_disk_start_kind kind;
  uint8_t guid[16];        /* GPT */
  uint64_t copy_offset;    /* GPT: of the copy of its header, bytes */
  uint64_t entries_offset; /* GPT: bytes */
  struct qcow2_disk_range partitions[DISK_PARTITIONS_MAX];
  uint32_t count;       /* of these; of a GPT, none yet */
  uint32_t entry_count; /* GPT: entries of GPT_ENTRY_BYTES */
};

/* Look at the first DISK_START_BYTES of a disk of `size` bytes. Leaves DISK_START_UNKNOWN if they
   are no partition table that can be believed. */
void qcow2_disk_start_look(const uint8_t *bytes, uint64_t size, struct qcow2_disk_start *start);

/* True if the sector is a valid GPT header that says that it is in this sector of the disk. */
bool qcow2_disk_is_gpt(const uint8_t *sector, uint64_t number);

/* Add the partition of a GPT's entry, if there is one. */
void qcow2_disk_start_add(struct qcow2_disk_start *start, const uint8_t *entry, uint64_t size);

#endif
