/* SPDX-License-Identifier: MIT */
/* The headers of tar archives, as far as it takes to find the members' bytes: ustar, pax and GNU.
   Pure: no I/O. */
#ifndef QCOW2_FORMAT_TAR_H
#define QCOW2_FORMAT_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Headers and data begin at multiples of this. */
#define TAR_BLOCK_BYTES 512u
/* The limit of the pax records that are looked at. Programs write a few hundred bytes. */
#define TAR_RECORDS_BYTES 4096u
/* Prefix, slash, name, NUL. */
#define TAR_NAME_BYTES (155u + 1u + 100u + 1u)

/* A member. All zero before the first. */
struct qcow2_tar_member {
  uint64_t data_offset;      /* bytes */
  uint64_t size;             /* of its data, bytes */
  uint64_t next_offset;      /* of the next header */
  bool is_regular;           /* its data are the bytes of a file */
  bool has_records;          /* its data are pax records about the next member */
  char name[TAR_NAME_BYTES]; /* empty if it is stored elsewhere */
  /* What it says about the next member: */
  uint64_t told_size; /* 0: nothing */
  bool is_name_told;  /* its name is not in its header */
};

/* Decode the block at member->next_offset of an archive of `archive_size` bytes: *member becomes
   the member that it is the header of. If its data leave the archive, there is no next header.
   False: it is no header. */
bool qcow2_tar_decode(const uint8_t block[TAR_BLOCK_BYTES], uint64_t archive_size,
                      struct qcow2_tar_member *member);

/* Keep what the records that are the member's data say about the next member. */
void qcow2_tar_take_records(const uint8_t *records, size_t length, struct qcow2_tar_member *member);

#endif
