/* SPDX-License-Identifier: MIT */
/*
 * What in a file whose layout is not known may be part of a table: sectors of 512 bytes, found by
 * reading the file once. The cluster size is not known yet, so each sector is looked at alone. The
 * host offsets in a table are multiples of the cluster size; so what they have in common says how
 * large a cluster can be at most.
 */
#ifndef QCOW2_RESIDUE_MARKS_H
#define QCOW2_RESIDUE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../format/geometry.h"

#define MARK_SECTOR_BYTES 512u

/* Sectors in a row that look like parts of tables. */
struct qcow2_run_of_marks {
  uint64_t first; /* sector */
  uint32_t count;
  uint8_t bits;        /* all offsets are multiples of 1 << bits; not above CLUSTER_BITS_MAX */
  uint8_t is_standard; /* they can have entries of 8 bytes */
  uint8_t is_extended; /* they can have entries of 16 bytes */
  uint8_t is_to_data;  /* they can be of an L2 table that leads to an external data file */
};

struct qcow2_marks {
  struct qcow2_run_of_marks *runs;
  size_t count, capacity;
  uint64_t sectors[CLUSTER_BITS_MAX + 1]; /* that have host offsets, by what these have in common */
  uint64_t to_data_file[CLUSTER_BITS_MAX + 1]; /* that can be of an L2 table that leads to an
                                                  external data file, with this cluster size */
  uint64_t *entries; /* host offsets at which an entry of a snapshot table may begin */
  size_t entry_count;
  uint64_t luks_offset; /* of the first LUKS header; 0: none */
  bool is_complete;     /* false: there were more than are kept, or something cannot be read */
};

/* Read the file, and note all marks. The caller frees with qcow2_marks_free(), also after an error.
   Errors: NOMEM. */
int qcow2_marks_find(const struct qcow2_storage *storage, struct qcow2_marks *marks,
                     struct qcow2_error *error);
void qcow2_marks_free(struct qcow2_marks *marks);

#endif
