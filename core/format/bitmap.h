/* SPDX-License-Identifier: MIT */
/* The bitmaps extension, and the entries of the bitmap directory ("Bitmaps extension", "Bitmaps").
   Pure: no I/O. */
#ifndef QCOW2_FORMAT_BITMAP_H
#define QCOW2_FORMAT_BITMAP_H

#include "header.h"

#define BITMAP_COUNT_MAX UINT32_C(65535)
#define BITMAP_DIRECTORY_BYTES_MAX (UINT64_C(64) << 20)
/* QEMU makes and reads no larger ones. */
#define BITMAP_BYTES_MAX (UINT64_C(512) << 20)
#define BITMAP_FIXED_BYTES 24u
#define BITMAP_TABLE_ENTRY_BYTES 8u
/* A bitmap table entry holds a host offset as an L2 entry does; without one, this bit says that all
   bits are set. */
#define BITMAP_TABLE_ENTRY_ALL_ONES UINT64_C(1)
#define BITMAP_TABLE_ENTRY_RESERVED UINT64_C(0xff000000000001fe)

struct qcow2_bitmaps_extension {
  uint32_t count;
  uint64_t directory_size;   /* bytes */
  uint64_t directory_offset; /* host offset */
};

/* Decode and check the bitmaps extension. The metadata must have one. Errors: CORRUPT. */
int qcow2_bitmaps_extension_decode(const struct qcow2_metadata *metadata,
                                   struct qcow2_bitmaps_extension *bitmaps,
                                   struct qcow2_error *error);

/* Decode the directory entry that starts at `bytes`, of which `length` are left in the directory;
   *used is its length there. `host_offset` is the entry's, for errors. The caller frees with
   qcow2_bitmap_free(). Errors: CORRUPT, NOMEM. */
int qcow2_bitmap_decode(const uint8_t *bytes, uint64_t length, uint64_t host_offset,
                        uint32_t cluster_size, struct qcow2_bitmap *bitmap, uint64_t *used,
                        struct qcow2_error *error);

/* Free what a decoded bitmap owns. */
void qcow2_bitmap_free(struct qcow2_bitmap *bitmap);

/* Why a bitmap table entry is not valid, as a predicate ("has reserved bits set"). NULL: it is
   valid. */
const char *qcow2_bitmap_table_entry_problem(uint64_t entry, uint32_t cluster_size);

/* What one bitmap table entry says of its cluster of bits. */
enum qcow2_bitmap_cluster {
  BITMAP_ALL_ZEROS,
  BITMAP_ALL_ONES,
  BITMAP_STORED
};

/* Decode a valid bitmap table entry; *host_offset is set for BITMAP_STORED. */
enum qcow2_bitmap_cluster qcow2_bitmap_table_entry_decode(uint64_t entry, uint64_t *host_offset);

#endif
