/* SPDX-License-Identifier: MIT */
#include "sweep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"

#define CHUNK_BYTES ((size_t) 1 << 20)
#define WORKERS_MAX 8
/* Two chunks for each worker, so that a worker need not wait for the listener, and one for the
   listener. */
#define SLOTS_MAX (2 * WORKERS_MAX + 1)

/* Something to report of a chunk. */
struct remark {
  bool is_doubt; /* false: damage */
  struct qcow2_error what;
};

struct chunk {
  bool is_ready;
  int code; /* of the read */
  struct qcow2_error error;
  uint64_t guest_offset;
  size_t length;
  uint8_t *bytes; /* CHUNK_BYTES */
  struct remark *remarks;
  size_t remark_count, remark_room;
};

/* Chunks are numbered as they are taken; number n is in slot n % slot_count. */
struct sweep {
  struct qcow2_view *view;
  bool skip_zeros;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct chunk chunks[SLOTS_MAX];
  size_t slot_count;
  uint64_t taken, heard; /* how many chunks workers have taken, and the listener has handled */
  uint64_t position;     /* guest offset from which on no chunk was taken */
  bool stop;
};

/* ---- Workers ---------------------------------------------------------------- */

static void keep_remark(struct chunk *chunk, bool is_doubt, const struct qcow2_error *what)
{
  size_t room = chunk->remark_room == 0 ? 4 : chunk->remark_room * 2;

  if (chunk->remark_count == chunk->remark_room) {
    struct remark *remarks = realloc(chunk->remarks, room * sizeof(remarks[0]));

    if (remarks == NULL) {
      chunk->code = tsk_qcow2_complain_nomem(&chunk->error);
      return;
    }
    chunk->remarks = remarks;
    chunk->remark_room = room;
  }
  chunk->remarks[chunk->remark_count++] = (struct remark){ is_doubt, *what };
}

static void keep_damage(void *context, const struct qcow2_error *damage)
{
  keep_remark(context, false, damage);
}

static void keep_doubt(void *context, const struct qcow2_error *doubt)
{
  keep_remark(context, true, doubt);
}

static bool reads_zeros(enum qcow2_cluster_kind kind)
{
  return kind == QCOW2_CLUSTER_UNALLOCATED || kind == QCOW2_CLUSTER_ZERO ||
         kind == QCOW2_CLUSTER_ZERO_ALLOCATED;
}

/* Move on to the next byte that must be read. What cannot be mapped must be read, too: the read
   reports why. */
static void skip_zeros(struct sweep *sweep)
{
  uint64_t size = qcow2_view_size(sweep->view);
  struct qcow2_extent extent;

  while (sweep->skip_zeros && sweep->position < size &&
         qcow2_view_map(sweep->view, sweep->position, size - sweep->position, &extent, NULL) == 0 &&
         reads_zeros(extent.kind))
    sweep->position += extent.length;
}

/* Take the next chunk, when there is a slot for it. Call this with the lock held. NULL: all are
   taken. */
static struct chunk *take_chunk(struct sweep *sweep)
{
  uint64_t left;
  struct chunk *chunk;

  while (!sweep->stop && sweep->taken - sweep->heard == sweep->slot_count)
    pthread_cond_wait(&sweep->changed, &sweep->lock);
  if (sweep->stop)
    return NULL;
  skip_zeros(sweep);
  left = qcow2_view_size(sweep->view) - sweep->position;
  if (left == 0)
    return NULL;
  chunk = &sweep->chunks[sweep->taken++ % sweep->slot_count];
  chunk->guest_offset = sweep->position;
  /* Chunks end at multiples of their size, so that each cluster is in as few chunks as possible. */
  chunk->length = CHUNK_BYTES - (size_t) (sweep->position % CHUNK_BYTES);
  if (chunk->length > left)
    chunk->length = (size_t) left;
  sweep->position += chunk->length;
  return chunk;
}

static void *work(void *context)
{
  struct sweep *sweep = context;
  struct chunk *chunk;

  pthread_mutex_lock(&sweep->lock);
  while ((chunk = take_chunk(sweep)) != NULL) {
    int code;

    pthread_mutex_unlock(&sweep->lock);
    chunk->remark_count = 0;
    chunk->code = 0;
    code = qcow2_view_examine(sweep->view, chunk->guest_offset, chunk->bytes, chunk->length,
                              keep_damage, keep_doubt, chunk, &chunk->error);
    pthread_mutex_lock(&sweep->lock);
    chunk->code = code != 0 ? code : chunk->code;
    chunk->is_ready = true;
    pthread_cond_broadcast(&sweep->changed);
  }
  sweep->stop = true; /* for the other workers too, and for the listener when it has handled all */
  pthread_cond_broadcast(&sweep->changed);
  pthread_mutex_unlock(&sweep->lock);
  return NULL;
}

/* ---- The listener ------------------------------------------------------------ */

/* Wait for the chunk that comes next. NULL: there are no more. */
static struct chunk *next_chunk(struct sweep *sweep)
{
  struct chunk *chunk = &sweep->chunks[sweep->heard % sweep->slot_count];
  bool is_there;

  pthread_mutex_lock(&sweep->lock);
  while (!chunk->is_ready && !(sweep->stop && sweep->heard == sweep->taken))
    pthread_cond_wait(&sweep->changed, &sweep->lock);
  is_there = chunk->is_ready;
  pthread_mutex_unlock(&sweep->lock);
  return is_there ? chunk : NULL;
}

static void free_chunk(struct sweep *sweep, struct chunk *chunk)
{
  pthread_mutex_lock(&sweep->lock);
  chunk->is_ready = false;
  sweep->heard++;
  pthread_cond_broadcast(&sweep->changed);
  pthread_mutex_unlock(&sweep->lock);
}

static void pass_remarks(const struct chunk *chunk, const struct sweep_listener *listener)
{
  for (size_t i = 0; i < chunk->remark_count; i++)
    if (chunk->remarks[i].is_doubt)
      listener->doubt(listener->context, &chunk->remarks[i].what);
    else
      listener->damage(listener->context, &chunk->remarks[i].what);
}

static int listen(struct sweep *sweep, const struct sweep_listener *listener,
                  struct qcow2_error *error)
{
  struct chunk *chunk;

  while ((chunk = next_chunk(sweep)) != NULL) {
    if (chunk->code != 0) {
      *error = chunk->error;
      return chunk->code;
    }
    pass_remarks(chunk, listener);
    listener->bytes(listener->context, chunk->guest_offset, chunk->bytes, chunk->length);
    free_chunk(sweep, chunk);
  }
  return 0;
}

/* ---- The whole ---------------------------------------------------------------- */

static size_t worker_count(void)
{
  long cores = sysconf(_SC_NPROCESSORS_ONLN);

  return cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (size_t) cores;
}

static bool make_chunks(struct sweep *sweep)
{
  for (size_t i = 0; i < sweep->slot_count; i++) {
    sweep->chunks[i].bytes = malloc(CHUNK_BYTES);
    if (sweep->chunks[i].bytes == NULL)
      return false;
  }
  return true;
}

static void sweep_free(struct sweep *sweep)
{
  for (size_t i = 0; i < sweep->slot_count; i++) {
    free(sweep->chunks[i].bytes);
    free(sweep->chunks[i].remarks);
  }
  pthread_cond_destroy(&sweep->changed);
  pthread_mutex_destroy(&sweep->lock);
  free(sweep);
}

/* Run the workers beside the listener, and wait for their end. */
static int run(struct sweep *sweep, size_t workers, const struct sweep_listener *listener,
               struct qcow2_error *error)
{
  pthread_t threads[WORKERS_MAX];
  size_t started = 0;
  int code;

  while (started < workers && pthread_create(&threads[started], NULL, work, sweep) == 0)
    started++;
  code = started > 0 ? listen(sweep, listener, error)
                     : qcow2_error_set(error, QCOW2_ERROR_NOMEM, "no thread can be started");
  pthread_mutex_lock(&sweep->lock);
  sweep->stop = true;
  pthread_cond_broadcast(&sweep->changed);
  pthread_mutex_unlock(&sweep->lock);
  for (size_t i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  return code;
}

int sweep_view(struct qcow2_view *view, bool skip_zeros, const struct sweep_listener *listener,
               struct qcow2_error *error)
{
  struct sweep *sweep = calloc(1, sizeof(*sweep));
  size_t workers = worker_count();
  int code;

  if (sweep == NULL)
    return tsk_qcow2_complain_nomem(error);
  sweep->view = view;
  sweep->skip_zeros = skip_zeros;
  sweep->slot_count = 2 * workers + 1;
  pthread_mutex_init(&sweep->lock, NULL);
  pthread_cond_init(&sweep->changed, NULL);
  code = make_chunks(sweep) ? run(sweep, workers, listener, error)
                            : tsk_qcow2_complain_nomem(error);
  sweep_free(sweep);
  return code;
}
