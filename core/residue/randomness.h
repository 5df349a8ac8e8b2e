/* SPDX-License-Identifier: MIT */
/*
 * Bytes that are as random as ciphertext.
 *
 * In ciphertext each value of a byte is as frequent as any other. Text, tables and programs are
 * nowhere near that; compressed files are near, and some cannot be told from it. So this says what
 * may be encrypted, not what is. Pure: no I/O.
 */
#ifndef QCOW2_RESIDUE_RANDOMNESS_H
#define QCOW2_RESIDUE_RANDOMNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No more of a cluster is looked at. */
#define RANDOMNESS_BYTES_MAX 65536u
#define RANDOMNESS_SAMPLES_MAX 64u

/* True if the bytes, at least 512 and at most RANDOMNESS_BYTES_MAX, are as random as ciphertext. */
bool qcow2_randomness_is_high(const uint8_t *bytes, size_t length);

/* Host offsets of clusters, spread evenly over all that were offered. All zero: none. */
struct qcow2_randomness_samples {
  uint64_t offsets[RANDOMNESS_SAMPLES_MAX];
  unsigned count;
  uint64_t seen;
  unsigned step_bits; /* every (1 << step_bits)th is taken */
};

void qcow2_randomness_offer(struct qcow2_randomness_samples *samples, uint64_t host_offset);

#endif
