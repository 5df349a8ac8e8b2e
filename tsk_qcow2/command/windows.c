/* SPDX-License-Identifier: MIT */
/*
 * A thread fills windows, and the caller takes them in the same order. Most are short, so neither
 * is woken for each: the thread goes on when half of the windows were taken, and the caller when
 * half of them are filled.
 */
#include "windows.h"

#include <pthread.h>
#include <stdlib.h>

#include "complain.h"

/* This much of both disks is read at a time. */
#define WINDOW_BYTES ((size_t) 256 << 10)
#define WINDOWS 16u
/* After so many bytes that are the same, it is said how far the comparison is. */
#define SAME_BYTES_MAX (UINT64_C(256) << 20)

/* Windows are numbered as they are filled; number n is in slot n % WINDOWS. */
struct windows {
  struct qcow2_view *views[SIDES];
  uint64_t position, end; /* guest offset of the next window; where the last one ends */
  struct window slots[WINDOWS];
  bool has_thread;
  pthread_t thread;
  pthread_mutex_t lock; /* guards: */
  pthread_cond_t changed;
  uint64_t filled, taken; /* windows; the last one that was taken is still in use */
  bool is_over;           /* no more are filled */
  int code;
  struct qcow2_error error;
};

/* ---- One window --------------------------------------------------------------------- */

/* Room for one more. NULL: no memory. */
static struct qcow2_error *add_loss(struct losses *losses)
{
  size_t room = losses->room == 0 ? 4 : losses->room * 2;
  struct qcow2_error *list;

  if (losses->count < losses->room)
    return &losses->list[losses->count++];
  list = realloc(losses->list, room * sizeof(list[0]));
  if (list == NULL) {
    losses->is_out_of_memory = true;
    return NULL;
  }
  losses->list = list;
  losses->room = room;
  return &losses->list[losses->count++];
}

static void hear_loss(void *context, const struct qcow2_error *damage)
{
  struct losses *losses = context;
  struct qcow2_error *loss = add_loss(losses);

  if (loss != NULL)
    *loss = *damage;
}

static int read_side(const struct windows *windows, struct window *window, int side,
                     struct qcow2_error *error)
{
  struct losses *losses = &window->losses[side];
  int code;

  losses->count = 0;
  if (window->bytes[side] == NULL)
    window->bytes[side] = malloc(WINDOW_BYTES);
  if (window->bytes[side] == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = qcow2_view_salvage(windows->views[side], window->start, window->bytes[side],
                            window->length, hear_loss, losses, error);
  return code == 0 && losses->is_out_of_memory ? tsk_qcow2_complain_nomem(error) : code;
}

/* Find the next bytes that must be read, from windows->position on. */
static void find(struct windows *windows, struct window *window)
{
  uint64_t at = windows->position, run;
  int is_same;

  window->start = at;
  window->length = 0;
  for (; at < windows->end && window->length < WINDOW_BYTES; at += run) {
    uint64_t wanted = window->length > 0 ? WINDOW_BYTES - window->length : windows->end - at;

    if (wanted > windows->end - at)
      wanted = windows->end - at;
    /* It cannot fail: this is inside both. */
    qcow2_view_same(windows->views[SIDE_A], windows->views[SIDE_B], at, wanted, &run, &is_same,
                    NULL);
    if (is_same && (window->length > 0 || at - windows->position >= SAME_BYTES_MAX))
      break;
    if (is_same) {
      window->start = at + run;
      continue;
    }
    if (run > WINDOW_BYTES - window->length)
      run = WINDOW_BYTES - window->length;
    window->length += (size_t) run;
  }
  windows->position = at;
}

/* Fill the next window. */
static int fill(struct windows *windows, struct qcow2_error *error)
{
  struct window *window = &windows->slots[windows->filled % WINDOWS];
  int code = 0;

  find(windows, window);
  for (int side = 0; code == 0 && window->length > 0 && side < SIDES; side++)
    code = read_side(windows, window, side, error);
  return code;
}

/* ---- The thread, and the caller --------------------------------------------------- */

/* Fill one more window. The lock is released meanwhile. */
static void fill_next(struct windows *windows)
{
  struct qcow2_error error;
  int code;

  if (windows->position == windows->end) {
    windows->is_over = true;
    return;
  }
  pthread_mutex_unlock(&windows->lock);
  code = fill(windows, &error);
  pthread_mutex_lock(&windows->lock);
  if (code == 0) {
    windows->filled++;
    return;
  }
  windows->code = code;
  windows->error = error;
  windows->is_over = true;
}

/* How many windows were filled and not taken. */
static uint64_t ready(const struct windows *windows)
{
  return windows->filled - windows->taken;
}

static void *thread_main(void *context)
{
  struct windows *windows = context;

  pthread_mutex_lock(&windows->lock);
  while (!windows->is_over) {
    if (ready(windows) == WINDOWS - 1) /* one is in use */
      while (ready(windows) > WINDOWS / 2 && !windows->is_over)
        pthread_cond_wait(&windows->changed, &windows->lock);
    if (!windows->is_over)
      fill_next(windows);
    if (windows->is_over || ready(windows) == WINDOWS / 2)
      pthread_cond_signal(&windows->changed);
  }
  pthread_mutex_unlock(&windows->lock);
  return NULL;
}

/* Return when the next window is ready, or there is none. */
static void wait_for_window(struct windows *windows)
{
  if (ready(windows) > 0)
    return;
  if (!windows->has_thread)
    fill_next(windows);
  while (windows->has_thread && ready(windows) < WINDOWS / 2 && !windows->is_over)
    pthread_cond_wait(&windows->changed, &windows->lock);
}

const struct window *windows_next(struct windows *windows, int *code, struct qcow2_error *error)
{
  const struct window *window = NULL;

  pthread_mutex_lock(&windows->lock);
  wait_for_window(windows);
  if (ready(windows) > 0) {
    window = &windows->slots[windows->taken++ % WINDOWS];
    if (ready(windows) == WINDOWS / 2)
      pthread_cond_signal(&windows->changed);
  }
  *code = window == NULL ? windows->code : 0;
  if (*code != 0)
    *error = windows->error;
  pthread_mutex_unlock(&windows->lock);
  return window;
}

struct windows *windows_start(struct qcow2_view *const views[SIDES], uint64_t end)
{
  struct windows *windows = calloc(1, sizeof(*windows));

  if (windows == NULL)
    return NULL;
  windows->views[SIDE_A] = views[SIDE_A];
  windows->views[SIDE_B] = views[SIDE_B];
  windows->end = end;
  pthread_mutex_init(&windows->lock, NULL);
  pthread_cond_init(&windows->changed, NULL);
  windows->has_thread = pthread_create(&windows->thread, NULL, thread_main, windows) == 0;
  return windows;
}

void windows_free(struct windows *windows)
{
  if (windows == NULL)
    return;
  pthread_mutex_lock(&windows->lock);
  windows->is_over = true;
  pthread_cond_signal(&windows->changed);
  pthread_mutex_unlock(&windows->lock);
  if (windows->has_thread)
    pthread_join(windows->thread, NULL);
  pthread_cond_destroy(&windows->changed);
  pthread_mutex_destroy(&windows->lock);
  for (size_t i = 0; i < WINDOWS; i++)
    for (int side = 0; side < SIDES; side++) {
      free(windows->slots[i].bytes[side]);
      free(windows->slots[i].losses[side].list);
    }
  free(windows);
}
