/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of a part of a file are referred to. Pure: no I/O.
 *
 * Most clusters are referred to as a whole or not at all: two bits for each say so. Of the others
 * the ranges are kept, in a list that is sorted when it is full or asked. A compressed stream is a
 * range whose end is not known until it is decoded.
 */
#ifndef QCOW2_RESIDUE_MAP_H
#define QCOW2_RESIDUE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qcow2_residue_state {
  RESIDUE_FREE,   /* nothing refers to the cluster */
  RESIDUE_PARTLY, /* something refers to parts of it: the ranges say to which */
  RESIDUE_USED,   /* something refers to all of it */
  RESIDUE_WALKED  /* the same: an L2 table whose entries were looked at */
};

enum qcow2_residue_range_kind {
  RANGE_PLAIN,
  RANGE_STREAM,  /* where it ends is not known: at the end of its last sector at the latest */
  RANGE_DECODED, /* a stream whose end is known */
};

struct qcow2_residue_range {
  uint64_t offset; /* host offset, bytes */
  uint32_t length; /* bytes */
  uint32_t kind;   /* enum qcow2_residue_range_kind */
};

struct qcow2_residue_map {
  unsigned cluster_bits;
  uint32_t shortest_stream; /* bytes; a stream that gives a whole cluster is not shorter */
  uint64_t first, end;      /* clusters that the map has now */
  uint8_t *states;          /* two bits for each cluster from `first` on */
  uint64_t state_capacity;  /* clusters */
  struct qcow2_residue_range *ranges;
  size_t range_count, range_capacity;
  bool is_sorted;
  bool is_too_dense; /* the ranges of one cluster alone do not fit */
};

/* False if there is no memory. At least a handful of ranges fit. The caller frees it with
   qcow2_residue_map_free(). */
bool qcow2_residue_map_init(struct qcow2_residue_map *map, unsigned cluster_bits,
                            uint32_t shortest_stream, uint64_t state_capacity,
                            size_t range_capacity);
void qcow2_residue_map_free(struct qcow2_residue_map *map);

/* Begin anew with the clusters from `first` on, to `end` at most. If the ranges do not fit, the
   end moves down while they are added. */
void qcow2_residue_map_move(struct qcow2_residue_map *map, uint64_t first, uint64_t end);

/* Note that something refers to [offset, offset + length), bytes. */
void qcow2_residue_map_add(struct qcow2_residue_map *map, uint64_t offset, uint64_t length);

/* Note that there is a compressed stream, which ends at offset + length at the latest. */
void qcow2_residue_map_add_stream(struct qcow2_residue_map *map, uint64_t offset, uint32_t length);

/* Note that the entries of the L2 table that is this cluster were added. */
void qcow2_residue_map_set_walked(struct qcow2_residue_map *map, uint64_t cluster);

/* True if that was noted. */
bool qcow2_residue_map_is_walked(const struct qcow2_residue_map *map, uint64_t cluster);

/* Once everything was added: sort. Streams that cannot both be there, because they begin too close
   to each other or have whole sectors in common, become plain ranges. */
void qcow2_residue_map_finish(struct qcow2_residue_map *map);

/* The state of a cluster that the map has now: RESIDUE_WALKED counts as RESIDUE_USED. */
enum qcow2_residue_state qcow2_residue_map_state(const struct qcow2_residue_map *map,
                                                 uint64_t cluster);

/* True if nothing refers to any byte of the clusters from `first` on, before `end`, that the map
   has now. */
bool qcow2_residue_map_is_free(const struct qcow2_residue_map *map, uint64_t first, uint64_t end);

/* The index of the first range that can reach [offset, ...), bytes; those from it on are sorted by
   their offsets. */
size_t qcow2_residue_map_find(const struct qcow2_residue_map *map, uint64_t offset);

/* The first byte of [offset, end) to which something refers, or that is in a cluster that the map
   does not have; or `end`. Of streams that were not decoded, the last sectors count as a whole. */
uint64_t qcow2_residue_map_free_end(const struct qcow2_residue_map *map, uint64_t offset,
                                    uint64_t end);

#endif
