/* SPDX-License-Identifier: MIT */
/* What the parts of qcow2_image_residue() share. */
#ifndef QCOW2_RESIDUE_INVENTORY_H
#define QCOW2_RESIDUE_INVENTORY_H

#include "classify.h"
#include "window.h"

/* So many clusters that look like tables are told apart by what they point to, for each part of the
   file; what more there are count as L2 tables. */
#define INVENTORY_TABLES_MAX ((size_t) 1 << 20)
/* So many old entries are remembered, so that each is reported once. No more are reported. */
#define INVENTORY_ENTRIES_MAX 65536u
/* So many places where more entries may be are remembered, for each part of the file. */
#define INVENTORY_PLACES_MAX 65536u
/* More than the longest entry, whose ID and name have 65,535 bytes each. */
#define INVENTORY_BUFFER_BYTES ((size_t) 256 << 10)

/* What a byte of a cluster is. */
enum {
  MASK_USED,
  MASK_RESIDUE,
  MASK_STREAM /* residue: part of an old compressed stream */
};

/* Bytes of a part of the file that nothing refers to. */
struct qcow2_entry_buffer {
  uint8_t *bytes;  /* room for INVENTORY_BUFFER_BYTES */
  uint64_t offset; /* host offset */
  size_t length;   /* bytes */
  bool is_last;    /* the next byte is in use, or not in the file */
};

struct qcow2_inventory {
  const struct qcow2_image *image;
  const struct qcow2_storage *storage;
  struct qcow2_residue_options options;
  struct qcow2_residue_result *result;
  struct qcow2_residue_window window;
  struct qcow2_residue_walk walk;
  struct qcow2_residue_looks looks;
  bool snapshots_only;     /* look for old snapshot entries, and at nothing else */
  uint8_t *bytes, *mask;   /* a cluster each; the mask has MASK_... */
  uint64_t streams_end;    /* where the last old stream that was found ends, host offset */
  bool has_enough_streams; /* no more are to be reported */
  uint64_t *tables;        /* clusters that look like tables, in ascending order */
  size_t table_count, table_capacity;
  uint64_t *seen; /* hashes of entries that were reported; 0: free */
  size_t seen_count;
  struct qcow2_entry_buffer buffer;
  uint64_t entries_end; /* the end of the last old table that was found; host offset */
  uint64_t free_from;   /* nothing refers to what is before this part from here on; host offset */
  uint64_t searched_to; /* the end of what was searched for more entries; host offset */
  uint64_t *places;     /* where more entries may be: host offsets, in ascending order */
  size_t place_count;
};

/* Report the entries of old snapshot tables, and do nothing else of what qcow2_image_residue()
   does. */
int qcow2_inventory_snapshots(const struct qcow2_image *image,
                              const struct qcow2_residue_options *options,
                              struct qcow2_residue_result *result, struct qcow2_error *error);

/* Report a cluster of a kind. */
void qcow2_inventory_report(const struct qcow2_inventory *inventory, enum qcow2_residue_kind kind,
                            uint64_t host_offset);

/* Read bytes of the file; what cannot be read, or is after its end, becomes zeros. */
void qcow2_inventory_read(const struct qcow2_inventory *inventory, uint64_t host_offset,
                          uint8_t *buffer, size_t length);

/* The bytes from a host offset on that nothing refers to: `wanted` of them, or more, or as many as
   there are; *length says how many. `wanted` is less than INVENTORY_BUFFER_BYTES. */
const uint8_t *qcow2_inventory_peek(struct qcow2_inventory *inventory, uint64_t host_offset,
                                    size_t wanted, size_t *length);

/* Report the old entries at a host offset, one after another, of a snapshot table or a bitmap
   directory. *end is where they end, rounded up to a multiple of 8: the offset, if there are none.
   Errors: NOMEM. */
int qcow2_inventory_entries(struct qcow2_inventory *inventory, uint64_t host_offset, uint64_t *end,
                            struct qcow2_error *error);

/* Find and report all old entries in this part of the file. Errors: NOMEM. */
int qcow2_inventory_search(struct qcow2_inventory *inventory, struct qcow2_error *error);

/* Where the residue is of a cluster that is in use in part. */
enum qcow2_residue_where qcow2_inventory_where_partly(const struct qcow2_inventory *inventory,
                                                      uint64_t cluster);

/* Find the old compressed streams that begin in the first `length` bytes of the cluster at
   `offset`: at its start, where another stream ends, and where each of these ends. Those that began
   before may reach into it. Marks their bytes in the mask, in which what is in use is marked.
   Returns true if there are any. */
bool qcow2_inventory_streams(struct qcow2_inventory *inventory, uint64_t offset, size_t length);

/* Tell the tables of this part of the file apart, count and report them. */
void qcow2_inventory_tables(struct qcow2_inventory *inventory);

#endif
