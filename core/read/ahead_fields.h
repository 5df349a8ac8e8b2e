/* SPDX-License-Identifier: MIT */
/* What the threads of an image and their queue consist of: ahead.c runs them, ahead_fork.c stops
   them for a fork(). */
#ifndef QCOW2_READ_AHEAD_FIELDS_H
#define QCOW2_READ_AHEAD_FIELDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/locks.h"

struct qcow2_ahead_reader;

#define JOBS_MAX 64u
/* By tests/bench/processors: with more threads than this, a reader that copies 64 KiB clusters is
   limited by copying. */
#define THREADS_MAX 11u

/* The lock of struct qcow2_ahead, and that of the list of all such structs. */
LOCK_KIND(ahead_lock);
LOCK_KIND(ahead_list_lock);

enum job_state {
  JOB_NONE,
  JOB_QUEUED,
  JOB_RUNNING
};

/* A unit in the queue, or one that is being decoded. */
struct job {
  enum job_state state GUARDED_BY(ahead_lock);
  struct qcow2_ahead_reader *reader GUARDED_BY(ahead_lock);
  uint64_t unit GUARDED_BY(ahead_lock);
  uint64_t number GUARDED_BY(ahead_lock); /* the lowest number is begun first */
};

struct qcow2_ahead {
  pthread_mutex_t lock;
  pthread_cond_t queued; /* a job was queued, or the threads must end */
  pthread_cond_t done;   /* a job is done */
  size_t budget;
  unsigned reached GUARDED_BY(ahead_lock); /* units, as long as there are no threads */
  struct job jobs[JOBS_MAX];
  uint64_t last_number GUARDED_BY(ahead_lock);
  pthread_t threads[THREADS_MAX] GUARDED_BY(ahead_lock);
  unsigned thread_count GUARDED_BY(ahead_lock), thread_limit GUARDED_BY(ahead_lock);
  unsigned busy GUARDED_BY(ahead_lock); /* threads that run a job */
  bool is_ending GUARDED_BY(ahead_lock), is_paused GUARDED_BY(ahead_lock);
  struct qcow2_ahead *next GUARDED_BY(ahead_list_lock); /* in the list of all such structs */
};

/* Take the object into account at each fork() from now on, until the second function is called. */
void qcow2_ahead_watch_forks(struct qcow2_ahead *ahead);
void qcow2_ahead_forget_forks(const struct qcow2_ahead *ahead);

#endif
