/* SPDX-License-Identifier: MIT */
/*
 * A sweep goes through its views in rows: a row is the same chunk of each view. Threads fill rows,
 * ahead of those that hear them. What hears a view (a hash, say) hears one row after the other, so
 * each view keeps one thread busy at most; several views keep several.
 *
 * A thread that is free takes the row that was heard least of, or else fills the next one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "sweep.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "complain.h"
#include "sweep_row.h"

/* A chunk has this many bytes, or those of a cluster if that is larger, so that each cluster is in
   one chunk. */
#define CHUNK_BYTES_MIN ((size_t) 256 << 10)
#define CHUNK_BYTES_MAX ((size_t) 2 << 20)
#define BUFFER_BYTES ((size_t) 40 << 20) /* all chunks that are read at a time */
/* Threads: a thread that decodes a cluster has the cluster, its stream and its decoder, for which
   this allows four clusters. */
#define WORKERS_MAX 64u
#define WORKER_BYTES ((size_t) 64 << 20)
/* Rows that were filled and not heard yet. They are as many as the buffers allow, because to hear a
   hole takes as long as to hear data, and meanwhile other threads can decode what comes after it.
 */
#define ROWS_MAX 160u
/* A hole in all views is a row of its own, of this many bytes at most. */
#define HOLE_BYTES_MAX ((uint64_t) 1 << 30)

struct lane {
  uint64_t heard; /* rows */
  bool is_busy;   /* a thread hears it */
  bool has_left;
};

/* Rows are numbered as they are taken; number n is in slot n % ROWS_MAX. */
struct sweep {
  const struct sweep_lane *views;
  struct lane lanes[SWEEP_LANES_MAX];
  size_t lane_count;
  size_t chunk_bytes, buffers_max, workers;
  bool skip_zeros;
  const uint8_t *zeros; /* of a chunk */
  pthread_mutex_t lock;
  pthread_cond_t wake;
  size_t sleeping; /* threads */
  struct sweep_row rows[ROWS_MAX];
  uint64_t taken, freed;  /* rows */
  bool is_full;           /* no row is taken before half of the rows were heard */
  uint64_t position, end; /* guest offset from which on no row was taken; where the last one ends */
  uint8_t **buffers;      /* that no row has */
  size_t buffer_count, given;
  bool stop;
  int code;
  struct qcow2_error error;
};

/* ---- Rows, with the lock held -------------------------------------------------- */

static void fail_nomem(struct sweep *sweep)
{
  sweep->code = tsk_qcow2_complain_nomem(&sweep->error);
  sweep->stop = true;
}

/* How many bytes read as zeros in all views from here on, without any data in a file. What cannot
   be mapped is not counted: the read reports why. */
static uint64_t hole_length(const struct sweep *sweep)
{
  uint64_t length = sweep->end - sweep->position;

  for (size_t i = 0; i < sweep->lane_count && length > 0; i++) {
    struct qcow2_view *view = sweep->views[i].view;
    uint64_t size = qcow2_view_size(view), zeros;

    if (sweep->lanes[i].has_left || size <= sweep->position)
      continue;
    zeros = sweep_zeros_length(view, sweep->position, length);
    if (zeros < size - sweep->position && zeros < length)
      length = zeros;
  }
  return length;
}

/* The length of the next row. *is_hole: it is a hole. */
static uint64_t next_length(const struct sweep *sweep, bool *is_hole)
{
  uint64_t left = sweep->end - sweep->position, hole = hole_length(sweep);
  uint64_t length = sweep->chunk_bytes - sweep->position % sweep->chunk_bytes;

  if (hole > HOLE_BYTES_MAX)
    hole = HOLE_BYTES_MAX;
  if (hole < left) /* so that the next row begins at the start of a chunk */
    hole -= hole < length ? hole : (sweep->position + hole) % sweep->chunk_bytes;
  *is_hole = hole > 0;
  return hole > 0 ? hole : length < left ? length : left;
}

static bool can_take(struct sweep *sweep)
{
  uint64_t count = sweep->taken - sweep->freed;

  if (count == ROWS_MAX || sweep->buffers_max - sweep->given < sweep->lane_count)
    sweep->is_full = true;
  else if (count <= ROWS_MAX / 2 && sweep->given <= sweep->buffers_max / 2)
    sweep->is_full = false;
  return !sweep->is_full && sweep->position < sweep->end;
}

static bool give_buffers(struct sweep *sweep, struct sweep_row *row)
{
  size_t wanted = row->is_hole ? 0 : sweep->lane_count;

  for (row->buffer_count = 0; row->buffer_count < wanted; row->buffer_count++) {
    uint8_t *buffer = sweep->buffer_count > 0 ? sweep->buffers[--sweep->buffer_count]
                                              : malloc(sweep->chunk_bytes);

    if (buffer == NULL) {
      fail_nomem(sweep);
      return false;
    }
    row->buffers[row->buffer_count] = buffer;
    sweep->given++;
  }
  return true;
}

/* Take back the buffers of the row but the first `kept`. */
static void take_back(struct sweep *sweep, struct sweep_row *row, size_t kept)
{
  while (row->buffer_count > kept) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without this list there are no rows */
    sweep->buffers[sweep->buffer_count++] = row->buffers[--row->buffer_count];
    sweep->given--;
  }
}

/* Take the next row. NULL: there is none. */
static struct sweep_row *take_row(struct sweep *sweep)
{
  struct sweep_row *row = &sweep->rows[sweep->taken % ROWS_MAX];
  uint64_t skipped = 1;

  if (!can_take(sweep))
    return NULL;
  for (; sweep->skip_zeros && skipped > 0; sweep->position += skipped)
    skipped = hole_length(sweep);
  if (sweep->position == sweep->end)
    return NULL;
  row->is_ready = false;
  row->guest_offset = sweep->position;
  row->length = next_length(sweep, &row->is_hole);
  if (!give_buffers(sweep, row))
    return NULL;
  for (size_t i = 0; i < sweep->lane_count; i++)
    row->pieces[i].is_wanted = !sweep->lanes[i].has_left;
  sweep->position += row->length;
  sweep->taken++;
  return row;
}

/* The row that a lane hears next. NULL: it is not there. */
static struct sweep_row *next_row(struct sweep *sweep, const struct lane *lane)
{
  struct sweep_row *row = &sweep->rows[lane->heard % ROWS_MAX];

  return lane->heard < sweep->taken && row->is_ready ? row : NULL;
}

/* Of the lanes that no thread hears and whose next row is there, the one that is least advanced.
   NULL: there is none. */
static struct lane *next_lane(struct sweep *sweep)
{
  struct lane *next = NULL;

  for (size_t i = 0; i < sweep->lane_count; i++) {
    struct lane *lane = &sweep->lanes[i];

    if (!lane->is_busy && (next == NULL || lane->heard < next->heard) &&
        next_row(sweep, lane) != NULL)
      next = lane;
  }
  return next;
}

static void free_heard_rows(struct sweep *sweep)
{
  uint64_t heard = sweep->taken;

  for (size_t i = 0; i < sweep->lane_count; i++)
    if (sweep->lanes[i].heard < heard)
      heard = sweep->lanes[i].heard;
  for (; sweep->freed < heard; sweep->freed++)
    take_back(sweep, &sweep->rows[sweep->freed % ROWS_MAX], 0);
}

static void leave(struct sweep *sweep, struct lane *lane)
{
  bool is_last = true;

  lane->has_left = true;
  for (size_t i = 0; i < sweep->lane_count; i++)
    is_last = is_last && sweep->lanes[i].has_left;
  if (is_last)
    sweep->position = sweep->end;
}

static bool is_done(const struct sweep *sweep)
{
  return sweep->stop || (sweep->position == sweep->end && sweep->freed == sweep->taken);
}

/* ---- Threads ------------------------------------------------------------------- */

/* Begin to do something without the lock. Another thread is woken if there is more to do. */
static void unlock(struct sweep *sweep)
{
  if (sweep->sleeping > 0 && (next_lane(sweep) != NULL || can_take(sweep)))
    pthread_cond_signal(&sweep->wake);
  pthread_mutex_unlock(&sweep->lock);
}

/* Returns false to leave the sweep. */
static bool hear_piece(const struct sweep *sweep, const struct sweep_lane *view,
                       const struct sweep_row *row, const struct sweep_piece *piece)
{
  bool goes_on = true;

  for (size_t i = 0; i < piece->remark_count; i++)
    if (piece->remarks[i].is_doubt)
      view->doubt(view->context, &piece->remarks[i].what);
    else
      view->damage(view->context, &piece->remarks[i].what);
  if (piece->bytes != NULL)
    return view->bytes(view->context, row->guest_offset, piece->bytes, (size_t) piece->length);
  for (uint64_t at = 0; at < piece->length && goes_on; at += sweep->chunk_bytes) {
    uint64_t left = piece->length - at;
    size_t length = left < sweep->chunk_bytes ? (size_t) left : sweep->chunk_bytes;

    goes_on = view->bytes(view->context, row->guest_offset + at, sweep->zeros, length);
  }
  return goes_on;
}

static void hear(struct sweep *sweep, struct lane *lane)
{
  size_t number = (size_t) (lane - sweep->lanes);
  const struct sweep_row *row = next_row(sweep, lane);

  if (!lane->has_left) {
    bool goes_on;

    lane->is_busy = true;
    unlock(sweep);
    goes_on = hear_piece(sweep, &sweep->views[number], row, &row->pieces[number]);
    pthread_mutex_lock(&sweep->lock);
    lane->is_busy = false;
    if (!goes_on)
      leave(sweep, lane);
  }
  lane->heard++;
  free_heard_rows(sweep);
}

static void fill(struct sweep *sweep, struct sweep_row *row)
{
  struct qcow2_error error;
  int code;

  unlock(sweep);
  code = sweep_row_fill(row, sweep->views, sweep->lane_count, &error);
  pthread_mutex_lock(&sweep->lock);
  take_back(sweep, row, row->used);
  row->is_ready = true;
  if (code != 0 && sweep->code == 0) {
    sweep->code = code;
    sweep->error = error;
    sweep->stop = true;
  }
}

static void *work(void *context)
{
  struct sweep *sweep = context;

  pthread_mutex_lock(&sweep->lock);
  while (!is_done(sweep)) {
    struct lane *lane = next_lane(sweep);
    struct sweep_row *row = lane == NULL ? take_row(sweep) : NULL;

    if (lane != NULL)
      hear(sweep, lane);
    else if (row != NULL)
      fill(sweep, row);
    else if (!is_done(sweep)) {
      sweep->sleeping++;
      pthread_cond_wait(&sweep->wake, &sweep->lock);
      sweep->sleeping--;
    }
  }
  pthread_cond_broadcast(&sweep->wake);
  pthread_mutex_unlock(&sweep->lock);
  return NULL;
}

/* ---- The whole ------------------------------------------------------------------ */

static size_t chunk_bytes_for(const struct qcow2_image *image)
{
  size_t bytes = CHUNK_BYTES_MIN;

  for (size_t i = 0; i < qcow2_layer_count(image); i++) {
    struct qcow2_layer_info info;

    if (qcow2_layer_get(image, i, &info, NULL) == 0 && !info.is_raw &&
        (size_t) 1 << info.header->cluster_bits > bytes)
      bytes = (size_t) 1 << info.header->cluster_bits;
  }
  return bytes < CHUNK_BYTES_MAX ? bytes : CHUNK_BYTES_MAX;
}

size_t sweep_lanes_max(const struct qcow2_image *image)
{
  size_t lanes = BUFFER_BYTES / chunk_bytes_for(image) / 2;

  return lanes < SWEEP_LANES_MAX ? lanes : SWEEP_LANES_MAX;
}

static size_t workers_for(size_t chunk_bytes)
{
  size_t most = WORKER_BYTES / (4 * chunk_bytes);
  cpu_set_t set; /* the processors that this process may use */
  size_t processors = sched_getaffinity(0, sizeof(set), &set) == 0 ? (size_t) CPU_COUNT(&set) : 1;

  if (most > WORKERS_MAX)
    most = WORKERS_MAX;
  return processors < most ? processors : most;
}

static void sweep_free(struct sweep *sweep)
{
  for (; sweep->freed < sweep->taken; sweep->freed++)
    take_back(sweep, &sweep->rows[sweep->freed % ROWS_MAX], 0);
  while (sweep->buffer_count > 0)
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without this list there are none */
    free(sweep->buffers[--sweep->buffer_count]);
  for (size_t i = 0; i < ROWS_MAX; i++)
    sweep_row_free(&sweep->rows[i]);
  pthread_cond_destroy(&sweep->wake);
  pthread_mutex_destroy(&sweep->lock);
  free(sweep->buffers);
  free((void *) (uintptr_t) sweep->zeros);
  free(sweep);
}

static struct sweep *sweep_new(const struct qcow2_image *image, const struct sweep_lane *lanes,
                               size_t lane_count)
{
  struct sweep *sweep = calloc(1, sizeof(*sweep));

  if (sweep == NULL)
    return NULL;
  pthread_mutex_init(&sweep->lock, NULL);
  pthread_cond_init(&sweep->wake, NULL);
  sweep->views = lanes;
  sweep->lane_count = lane_count;
  sweep->chunk_bytes = chunk_bytes_for(image);
  sweep->buffers_max = BUFFER_BYTES / sweep->chunk_bytes;
  sweep->workers = workers_for(sweep->chunk_bytes);
  sweep->buffers = calloc(sweep->buffers_max, sizeof(sweep->buffers[0]));
  sweep->zeros = calloc(1, sweep->chunk_bytes);
  for (size_t i = 0; i < lane_count; i++)
    if (qcow2_view_size(lanes[i].view) > sweep->end)
      sweep->end = qcow2_view_size(lanes[i].view);
  if (sweep->buffers != NULL && sweep->zeros != NULL)
    return sweep;
  sweep_free(sweep);
  return NULL;
}

/* Work in this thread and in others, if these can be started, to the end. */
static void run(struct sweep *sweep)
{
  pthread_t threads[WORKERS_MAX];
  size_t started = 0;

  while (started + 1 < sweep->workers && pthread_create(&threads[started], NULL, work, sweep) == 0)
    started++;
  work(sweep);
  for (size_t i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
}

int sweep_views(const struct qcow2_image *image, const struct sweep_lane *lanes, size_t lane_count,
                uint64_t start, bool skip, struct qcow2_error *error)
{
  struct sweep *sweep = sweep_new(image, lanes, lane_count);
  int code;

  if (sweep == NULL)
    return tsk_qcow2_complain_nomem(error);
  sweep->skip_zeros = skip;
  sweep->position = start < sweep->end ? start : sweep->end;
  run(sweep);
  code = sweep->code;
  if (code != 0)
    *error = sweep->error;
  sweep_free(sweep);
  return code;
}
