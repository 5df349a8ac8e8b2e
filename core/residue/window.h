/* SPDX-License-Identifier: MIT */
/*
 * A map (map.h) of a part of a file, made where it is needed, and the means to find out where
 * compressed streams end. For one thread at a time.
 */
#ifndef QCOW2_RESIDUE_WINDOW_H
#define QCOW2_RESIDUE_WINDOW_H

#include "../read/decompress.h"
#include "references.h"

struct qcow2_residue_window {
  const struct qcow2_image *image;
  const struct qcow2_layer *layer; /* its topmost file */
  struct qcow2_residue_map map;
  struct qcow2_decompressor *decompressor;
  uint8_t *packed; /* room for a compressed stream: two clusters */
  uint8_t *cluster;
};

/* Make a window. Its map has room for the states of at most `clusters_max` clusters, and for
   `ranges_max` ranges. Nothing is in the map yet. The caller frees it with
   qcow2_residue_window_free(), also after an error. Errors: NOMEM. */
int qcow2_residue_window_make(struct qcow2_residue_window *window, const struct qcow2_image *image,
                              uint64_t clusters_max, size_t ranges_max, struct qcow2_error *error);
void qcow2_residue_window_free(struct qcow2_residue_window *window);

/* The number of clusters that the file has a part of. */
uint64_t qcow2_residue_window_file_clusters(const struct qcow2_residue_window *window);

/* Let the map begin with a cluster of the file. *walk is as for qcow2_residue_collect(). Errors:
   NOMEM, and UNSUPPORTED if a bound is reached: then the map has nothing. */
int qcow2_residue_window_move(struct qcow2_residue_window *window, uint64_t cluster,
                              struct qcow2_residue_walk *walk, struct qcow2_error *error);

/* True if the map has the cluster. */
bool qcow2_residue_window_has(const struct qcow2_residue_window *window, uint64_t cluster);

/* `buffer` has the file's `length` bytes at `offset`. Set those to zero that are in use, as the
   map's ranges say. The map has their clusters. Returns an errno value; 0: success. */
int qcow2_residue_window_clear(struct qcow2_residue_window *window, uint64_t offset,
                               uint8_t *buffer, size_t length);

/* The length of the old compressed stream that begins at `offset`, of which at most `length` bytes
   are there; 0: there is none. It gives one cluster exactly, and ends with it, as writers have
   it. */
size_t qcow2_residue_window_old_stream(struct qcow2_residue_window *window, uint64_t offset,
                                       uint64_t length);

#endif
