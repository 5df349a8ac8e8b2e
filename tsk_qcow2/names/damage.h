/* SPDX-License-Identifier: MIT */
/* The damaged ranges of one view that reads have met. Each is reported once, and they are
   counted. */
#ifndef TSK_QCOW2_DAMAGE_H
#define TSK_QCOW2_DAMAGE_H

#include <pthread.h>
#include <qcow2core.h>
#include <stdbool.h>

struct tsk_qcow2_damaged_range {
  uint64_t start, end; /* guest offsets, bytes */
  int code;            /* enum qcow2_status */
};

/* The range that an error of a read concerns. */
struct tsk_qcow2_damaged_range tsk_qcow2_damaged_range_of(const struct qcow2_error *error);

/* True if `next` belongs to the damaged range `known`: it overlaps it, or continues it. Two damaged
   table entries side by side are two ranges, each with its own reason. All code that counts damaged
   ranges uses this rule. */
bool tsk_qcow2_damage_goes_on(const struct tsk_qcow2_damaged_range *known,
                              const struct tsk_qcow2_damaged_range *next);

/* All zero but for the lock: no damage. */
struct tsk_qcow2_damage {
  pthread_mutex_t lock;
  struct tsk_qcow2_damaged_range *ranges; /* in order, disjoint */
  size_t count, room;
  bool has_dropped;  /* a range that could not be kept */
  uint64_t reported; /* how often tsk_qcow2_damage_add() returned true */
};

void tsk_qcow2_damage_init(struct tsk_qcow2_damage *damage);

void tsk_qcow2_damage_free(struct tsk_qcow2_damage *damage);

/* Note the range of a read error. True if it should be reported: it belongs to no known range, and
   not too many ranges were reported already. Any thread. */
bool tsk_qcow2_damage_add(struct tsk_qcow2_damage *damage, const struct qcow2_error *error);

/* The number of known ranges, and their bytes. If there are more than can be kept, the rest are
   left out, and *is_complete is false. Any thread. */
size_t tsk_qcow2_damage_count(struct tsk_qcow2_damage *damage, uint64_t *bytes, bool *is_complete);

#endif
