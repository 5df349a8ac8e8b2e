/* SPDX-License-Identifier: MIT */
/* The damaged ranges of one view that reads have met: each is told once, and they are counted. */
#ifndef TSK_QCOW2_DAMAGE_H
#define TSK_QCOW2_DAMAGE_H

#include <pthread.h>
#include <qcow2core.h>
#include <stdbool.h>

struct tsk_qcow2_damaged_range {
  uint64_t start, end; /* guest offsets, bytes */
  int code;            /* enum qcow2_status */
};

/* All zero but for the lock: no damage. */
struct tsk_qcow2_damage {
  pthread_mutex_t lock;
  struct tsk_qcow2_damaged_range *ranges; /* in order, disjoint */
  size_t count, room;
  uint64_t told; /* how often tsk_qcow2_damage_add() said so */
};

void tsk_qcow2_damage_init(struct tsk_qcow2_damage *damage);

void tsk_qcow2_damage_free(struct tsk_qcow2_damage *damage);

/* Note the range of an error that a read gave. True if it should be told: it overlaps no known range, nor does it just go on with one of
   the same kind; and not too many have been told already. Any thread. */
bool tsk_qcow2_damage_add(struct tsk_qcow2_damage *damage, const struct qcow2_error *error);

/* The number of ranges that are known, those that touch counted as one, and their bytes. Once they are very many, further ones
   are left out, and *is_complete is false. Any thread. */
size_t tsk_qcow2_damage_count(struct tsk_qcow2_damage *damage, uint64_t *bytes, bool *is_complete);

#endif
