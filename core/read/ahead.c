/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* pthread_setname_np */
#include "ahead.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "../base/checked.h"
#include "../base/system.h"
#include "ahead_fields.h"
#include "streams.h"

/* A thread that decodes a cluster has the cluster, its stream of up to two clusters, and its
   decoder: four clusters at most. */
#define THREADS_BYTES_MAX (24u << 20)
/* Threads are started when this many units were reached: for fewer it does not pay. */
#define UNITS_BEFORE_THREADS 16u
/* The number of begun units that are remembered: more than are guessed at a time. */
#define BEGUN_SLOTS 256u

struct qcow2_ahead_reader {
  struct qcow2_ahead *ahead;
  struct qcow2_ahead_disk disk;
  unsigned threads_max; /* that decode its units at a time */
  struct qcow2_window window;
  uint64_t unit_count;
  _Atomic uint64_t last_unit; /* that was reached; UINT64_MAX: none yet */
  uint64_t begun[BEGUN_SLOTS] GUARDED_BY(
      ahead_lock); /* units that a thread began and the reader has not reached: number + 1, or 0 */
  struct qcow2_streams streams GUARDED_BY(ahead_lock);
};

static void lock(struct qcow2_ahead *ahead) LOCKS(ahead_lock)
{
  pthread_mutex_lock(&ahead->lock);
}

static void unlock(struct qcow2_ahead *ahead) UNLOCKS(ahead_lock)
{
  pthread_mutex_unlock(&ahead->lock);
}

/* ---- Jobs, with the lock held --------------------------------------------- */

static struct job *job_find(struct qcow2_ahead *ahead, const struct qcow2_ahead_reader *reader,
                            uint64_t unit) NEEDS_LOCK(ahead_lock)
{
  for (size_t i = 0; i < JOBS_MAX; i++) {
    struct job *job = &ahead->jobs[i];

    if (job->state != JOB_NONE && job->reader == reader && job->unit == unit)
      return job;
  }
  return NULL;
}

/* The queued job with the lowest number, of one reader or (NULL) of all. NULL: none is queued. */
static struct job *job_next(struct qcow2_ahead *ahead, const struct qcow2_ahead_reader *reader)
    NEEDS_LOCK(ahead_lock)
{
  struct job *next = NULL;

  for (size_t i = 0; i < JOBS_MAX; i++) {
    struct job *job = &ahead->jobs[i];

    if (job->state == JOB_QUEUED && (reader == NULL || job->reader == reader) &&
        (next == NULL || job->number < next->number))
      next = job;
  }
  return next;
}

/* Queue a unit. Returns false if the queue is full. */
static bool job_add(struct qcow2_ahead *ahead, struct qcow2_ahead_reader *reader, uint64_t unit)
    NEEDS_LOCK(ahead_lock)
{
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (ahead->jobs[i].state == JOB_NONE) {
      ahead->jobs[i] = (struct job){ JOB_QUEUED, reader, unit, ++ahead->last_number };
      return true;
    }
  return false;
}

/* The element of `begun` for the unit. Several units share it. */
static uint64_t *begun_slot(struct qcow2_ahead_reader *reader, uint64_t unit) NEEDS_LOCK(ahead_lock)
{
  return &reader->begun[unit % BEGUN_SLOTS];
}

/* Run the job. The lock is released while it decodes. */
static void job_run(struct qcow2_ahead *ahead, struct job *job) NEEDS_LOCK(ahead_lock)
{
  const struct qcow2_ahead_disk *disk = &job->reader->disk;
  uint64_t guest_offset = job->unit * disk->unit;

  *begun_slot(job->reader, job->unit) = job->unit + 1;
  job->state = JOB_RUNNING;
  unlock(ahead);
  disk->work(disk->context, guest_offset, min_u64(disk->unit, disk->end - guest_offset));
  lock(ahead);
  job->state = JOB_NONE;
  pthread_cond_broadcast(&ahead->done);
}

/* ---- Threads ---------------------------------------------------------------- */

/* The job that a thread may begin. NULL: there is none. */
static struct job *job_for_thread(struct qcow2_ahead *ahead) NEEDS_LOCK(ahead_lock)
{
  struct job *job = ahead->is_paused ? NULL : job_next(ahead, NULL);

  return job != NULL && ahead->busy < job->reader->threads_max ? job : NULL;
}

static void *thread_main(void *context)
{
  struct qcow2_ahead *ahead = context;

  pthread_setname_np(pthread_self(), "qcow2-ahead");
  lock(ahead);
  while (!ahead->is_ending) {
    struct job *job = job_for_thread(ahead);

    if (job == NULL) {
      pthread_cond_wait(&ahead->queued, &ahead->lock);
      continue;
    }
    ahead->busy++;
    job_run(ahead, job);
    ahead->busy--;
  }
  unlock(ahead);
  return NULL;
}

/* Start the threads. If that fails, the readers decode everything. */
static void start_threads(struct qcow2_ahead *ahead) NEEDS_LOCK(ahead_lock)
{
  while (ahead->thread_count < ahead->thread_limit &&
         qcow2_system_thread_start(&ahead->threads[ahead->thread_count], thread_main, ahead) == 0)
    ahead->thread_count++;
  ahead->thread_limit = ahead->thread_count;
}

/* One processor is left to the reader. */
static unsigned processors_to_spare(void)
{
  return (unsigned) min_u64(qcow2_system_processors() - 1, THREADS_MAX);
}

struct qcow2_ahead *qcow2_ahead_new(size_t budget) LOCK_NOT_CHECKED
{
  struct qcow2_ahead *ahead = calloc(1, sizeof(*ahead));

  if (ahead == NULL)
    return NULL;
  pthread_mutex_init(&ahead->lock, NULL);
  pthread_cond_init(&ahead->queued, NULL);
  pthread_cond_init(&ahead->done, NULL);
  ahead->budget = budget;
  ahead->thread_limit = processors_to_spare();
  qcow2_ahead_watch_forks(ahead);
  return ahead;
}

/* No reader is left, so no thread is started meanwhile. */
static void join_threads(const struct qcow2_ahead *ahead) LOCK_NOT_CHECKED
{
  for (unsigned i = 0; i < ahead->thread_count; i++)
    pthread_join(ahead->threads[i], NULL);
}

void qcow2_ahead_free(struct qcow2_ahead *ahead)
{
  if (ahead == NULL)
    return;
  qcow2_ahead_forget_forks(ahead);
  lock(ahead);
  ahead->is_ending = true;
  pthread_cond_broadcast(&ahead->queued);
  unlock(ahead);
  join_threads(ahead);
  pthread_cond_destroy(&ahead->done);
  pthread_cond_destroy(&ahead->queued);
  pthread_mutex_destroy(&ahead->lock);
  free(ahead);
}

/* ---- Readers ---------------------------------------------------------------- */

static bool has_threads(struct qcow2_ahead *ahead)
{
  bool answer;

  lock(ahead);
  answer = ahead->thread_limit > 0;
  unlock(ahead);
  return answer;
}

/* A walk has other units in the cache that it will need again, so it gets half of the budget. */
static struct qcow2_window window_of(size_t units)
{
  return (
      struct qcow2_window){ .copying = (unsigned) min_u64(units, UNITS_GUESSED_MAX),
                            .walking = (unsigned) min_u64(divide_up(units, 2), UNITS_GUESSED_MAX) };
}

struct qcow2_ahead_reader *qcow2_ahead_reader_new(struct qcow2_ahead *ahead,
                                                  const struct qcow2_ahead_disk *disk)
{
  struct qcow2_window window = window_of(ahead->budget / disk->unit);
  struct qcow2_ahead_reader *reader;

  if (window.copying == 0 || !has_threads(ahead))
    return NULL;
  reader = calloc(1, sizeof(*reader));
  if (reader == NULL)
    return NULL;
  reader->ahead = ahead;
  reader->disk = *disk;
  reader->threads_max = THREADS_BYTES_MAX / (4 * disk->unit);
  reader->window = window;
  reader->unit_count = divide_up(disk->end, disk->unit);
  atomic_init(&reader->last_unit, UINT64_MAX);
  return reader;
}

/* Remove the reader's queued jobs. Returns true if one of its jobs is running. */
static bool drop_jobs(struct qcow2_ahead *ahead, const struct qcow2_ahead_reader *reader)
    NEEDS_LOCK(ahead_lock)
{
  bool is_running = false;

  for (size_t i = 0; i < JOBS_MAX; i++) {
    struct job *job = &ahead->jobs[i];

    if (job->state == JOB_QUEUED && job->reader == reader)
      job->state = JOB_NONE;
    is_running = is_running || (job->state == JOB_RUNNING && job->reader == reader);
  }
  return is_running;
}

void qcow2_ahead_reader_free(struct qcow2_ahead_reader *reader)
{
  struct qcow2_ahead *ahead;

  if (reader == NULL)
    return;
  ahead = reader->ahead;
  lock(ahead);
  while (drop_jobs(ahead, reader))
    pthread_cond_wait(&ahead->done, &ahead->lock);
  unlock(ahead);
  free(reader);
}

/* The reader has reached a unit: replace its queued units by those that will probably be read next.
   Returns how many were queued. */
static unsigned queue_ahead(struct qcow2_ahead *ahead, struct qcow2_ahead_reader *reader,
                            uint64_t guest_offset) NEEDS_LOCK(ahead_lock)
{
  uint64_t units[UNITS_GUESSED_MAX], unit = guest_offset / reader->disk.unit;
  size_t count = qcow2_streams_note(&reader->streams, unit, guest_offset % reader->disk.unit == 0,
                                    &reader->window, units);
  unsigned queued = 0;

  if (ahead->reached < UNITS_BEFORE_THREADS) {
    ahead->reached++;
    return 0;
  }
  if (ahead->thread_count == 0 && count > 0)
    start_threads(ahead);
  if (*begun_slot(reader, unit) == unit + 1)
    *begun_slot(reader, unit) = 0;
  drop_jobs(ahead, reader);
  for (size_t i = 0; i < count && ahead->thread_count > 0; i++)
    if (units[i] < reader->unit_count && *begun_slot(reader, units[i]) != units[i] + 1 &&
        job_add(ahead, reader, units[i]))
      queued++;
  return queued;
}

/* Return when the unit is not a job of a thread: remove it from the queue, or wait until it is
 * done. */
static void settle(struct qcow2_ahead *ahead, const struct qcow2_ahead_reader *reader,
                   uint64_t unit) NEEDS_LOCK(ahead_lock)
{
  struct job *job;

  while ((job = job_find(ahead, reader, unit)) != NULL) {
    struct job *other;

    if (job->state == JOB_QUEUED) {
      job->state = JOB_NONE;
      return;
    }
    if (reader->disk.in_parts && !reader->streams.is_sure)
      return; /* perhaps the reader needs only a part */
    other = job_next(ahead, reader);
    if (other != NULL)
      job_run(ahead, other);
    else
      pthread_cond_wait(&ahead->done, &ahead->lock);
  }
}

void qcow2_ahead_reach(struct qcow2_ahead_reader *reader, uint64_t guest_offset)
{
  struct qcow2_ahead *ahead = reader->ahead;
  uint64_t unit = guest_offset / reader->disk.unit;
  unsigned queued;

  if (atomic_exchange_explicit(&reader->last_unit, unit, memory_order_relaxed) == unit)
    return;
  lock(ahead);
  queued = queue_ahead(ahead, reader, guest_offset);
  unlock(ahead);
  for (; queued > 0; queued--) /* without the lock, since the threads that wake up need it */
    pthread_cond_signal(&ahead->queued);
  lock(ahead);
  settle(ahead, reader, unit);
  unlock(ahead);
}
