/* SPDX-License-Identifier: MIT */
/* The tables of a file, if its clusters had a certain size. */
#ifndef QCOW2_RESIDUE_TRIAL_H
#define QCOW2_RESIDUE_TRIAL_H

#include "../read/decompress.h"
#include "classify.h"
#include "guessed_refcounts.h"
#include "marks.h"
#include "randomness.h"

/* What a cluster can be. */
enum {
  TRIAL_TABLE = 1,  /* a table of entries of 8 bytes */
  TRIAL_L2 = 2,     /* an L2 table */
  TRIAL_L1 = 4,     /* an L1 table, or a part of one */
  TRIAL_REACHED = 8 /* an L2 table to which an L1 table leads */
};
#define TRIAL_KIND_BITS 4u

struct qcow2_trial {
  const struct qcow2_storage *storage;
  const struct qcow2_marks *marks;
  struct qcow2_geometry geometry;
  struct qcow2_residue_looks looks;
  uint64_t *tables; /* cluster << TRIAL_KIND_BITS | TRIAL_..., ascending */
  size_t count, capacity;
  uint64_t *work;  /* bytes that may still be read, for all trials */
  bool is_bounded; /* that limit, or another one, was reached */
  uint8_t *bytes;  /* a cluster */
  struct qcow2_guessed_refcounts refcounts;
  struct qcow2_decompressor *decompressor;
  uint8_t *packed, *cluster; /* two clusters; one */
};

/* Find the tables for this cluster size and these incompatible features: extended L2 entries, an
   external data file. The caller frees with qcow2_trial_free(), also after an
   error. Errors: NOMEM. */
int qcow2_trial_make(const struct qcow2_storage *storage, const struct qcow2_marks *marks,
                     unsigned cluster_bits, uint64_t features, uint64_t *work,
                     struct qcow2_trial *trial, struct qcow2_error *error);
void qcow2_trial_free(struct qcow2_trial *trial);

/* What the cluster at a host offset can be: TRIAL_..., or 0. */
unsigned qcow2_trial_kind(const struct qcow2_trial *trial, uint64_t host_offset);

/* True if the cluster of this file at an offset is no table, and the file's own refcounts call it
   used: so an L2 entry with that offset may lead to it, and to no external data file. */
bool qcow2_trial_is_own_cluster(struct qcow2_trial *trial, uint64_t offset);

/* Note that an L1 table leads to the table at a host offset, and count the L2 tables to which none
   does. */
void qcow2_trial_reach(struct qcow2_trial *trial, uint64_t host_offset);
uint64_t qcow2_trial_strays(const struct qcow2_trial *trial);

/* Read a cluster; what is not in the file, or cannot be read, becomes zeros. False: the limit of
   work is reached. */
bool qcow2_trial_read(struct qcow2_trial *trial, uint64_t host_offset, uint8_t *buffer);

/* Decompress the stream of an L2 entry into trial->cluster. *compression is tried first, and then
   the other; it becomes the one that worked. The stream must give one cluster exactly, and end with
   it. */
bool qcow2_trial_decompress(struct qcow2_trial *trial, uint64_t descriptor,
                            enum qcow2_compression *compression);

/* Count how many of these clusters, as far as they are not all zeros, are as random as ciphertext.
 */
void qcow2_trial_count_random(struct qcow2_trial *trial,
                              const struct qcow2_randomness_samples *samples,
                              struct qcow2_rebuilt *rebuilt);

#endif
