/* SPDX-License-Identifier: MIT */
#include "ranges.h"

#include <string.h>

#include "complain.h"

/* Equal bytes are looked for in blocks of this size, then eight by eight, and then one by one. */
#define BLOCK_BYTES 4096u

struct comparison {
  const struct ranges_listener *listener;
  bool has_pending; /* there is a range that may go on: */
  struct range pending;
  struct qcow2_error reasons[SIDES]; /* its own */
};

/* ---- Telling of ranges --------------------------------------------------------- */

static void end_pending(struct comparison *comparison)
{
  if (comparison->has_pending)
    comparison->listener->range(comparison->listener->context, &comparison->pending);
  comparison->has_pending = false;
}

/* True if both give the same reason to be unreadable, or none. */
static bool is_same_reason(const struct qcow2_error *a, const struct qcow2_error *b)
{
  return a == NULL || b == NULL ? a == b : a->code == b->code;
}

static bool goes_on(const struct comparison *comparison, const struct range *next)
{
  const struct range *pending = &comparison->pending;

  return comparison->has_pending && pending->kind == next->kind &&
         pending->start + pending->length == next->start &&
         is_same_reason(pending->reason[SIDE_A], next->reason[SIDE_A]) &&
         is_same_reason(pending->reason[SIDE_B], next->reason[SIDE_B]);
}

static void add_range(struct comparison *comparison, const struct range *next)
{
  if (next->length == 0)
    return;
  if (goes_on(comparison, next)) {
    comparison->pending.length += next->length;
    return;
  }
  end_pending(comparison);
  comparison->pending = *next;
  comparison->has_pending = true;
  for (int side = 0; side < SIDES; side++)
    if (next->reason[side] != NULL) {
      comparison->reasons[side] = *next->reason[side];
      comparison->pending.reason[side] = &comparison->reasons[side];
    }
}

/* ---- Comparing bytes ------------------------------------------------------------- */

/* The bits in which eight bytes differ. */
static uint64_t differences(const uint8_t *a, const uint8_t *b)
{
  uint64_t of_a, of_b;

  memcpy(&of_a, a, sizeof(of_a));
  memcpy(&of_b, b, sizeof(of_b));
  return of_a ^ of_b;
}

/* True if one of eight bytes is the same on both sides. */
static bool has_equal_byte(const uint8_t *a, const uint8_t *b)
{
  uint64_t bits = differences(a, b);

  /* Subtracting 1 from each byte sets the top bit of those that were 0, and perhaps of others, but
     only if one was 0. */
  return ((bits - UINT64_C(0x0101010101010101)) & ~bits & UINT64_C(0x8080808080808080)) != 0;
}

/* The first position from `at` on where the sides differ; `end` if there is none. */
static size_t find_difference(const struct window *window, size_t at, size_t end)
{
  const uint8_t *a = window->bytes[SIDE_A], *b = window->bytes[SIDE_B];

  while (end - at >= BLOCK_BYTES && memcmp(a + at, b + at, BLOCK_BYTES) == 0)
    at += BLOCK_BYTES;
  while (end - at >= sizeof(uint64_t) && differences(a + at, b + at) == 0)
    at += sizeof(uint64_t);
  while (at < end && a[at] == b[at])
    at++;
  return at;
}

static size_t find_equal(const struct window *window, size_t at, size_t end)
{
  const uint8_t *a = window->bytes[SIDE_A], *b = window->bytes[SIDE_B];

  while (end - at >= sizeof(uint64_t) && !has_equal_byte(a + at, b + at))
    at += sizeof(uint64_t);
  while (at < end && a[at] != b[at])
    at++;
  return at;
}

/* A part of the window that both sides could read. */
static void compare_readable(struct comparison *comparison, const struct window *window, size_t at,
                             size_t end)
{
  while ((at = find_difference(window, at, end)) < end) {
    size_t stop = find_equal(window, at, end);

    add_range(comparison, &(struct range){ .kind = RANGE_DIFFERS,
                                           .start = window->start + at,
                                           .length = stop - at });
    at = stop;
  }
}

/* The loss that holds the guest offset, or NULL. *until is lowered to where that changes. */
static const struct qcow2_error *loss_at(const struct losses *losses, size_t *index,
                                         uint64_t guest_offset, uint64_t *until)
{
  const struct qcow2_error *loss;
  uint64_t change;

  while (*index < losses->count &&
         losses->list[*index].guest_offset + losses->list[*index].guest_length <= guest_offset)
    (*index)++;
  if (*index == losses->count)
    return NULL;
  loss = &losses->list[*index];
  change = loss->guest_offset > guest_offset ? loss->guest_offset
                                             : loss->guest_offset + loss->guest_length;
  if (change < *until)
    *until = change;
  return loss->guest_offset > guest_offset ? NULL : loss;
}

static void compare_window(struct comparison *comparison, const struct window *window)
{
  uint64_t at = window->start, end = at + window->length, until;
  size_t index[SIDES] = { 0, 0 };

  for (; at < end; at = until) {
    struct range range = { .kind = RANGE_UNREADABLE, .start = at };

    until = end;
    for (int side = 0; side < SIDES; side++)
      range.reason[side] = loss_at(&window->losses[side], &index[side], at, &until);
    range.length = until - at;
    if (range.reason[SIDE_A] == NULL && range.reason[SIDE_B] == NULL)
      compare_readable(comparison, window, (size_t) (at - window->start),
                       (size_t) (until - window->start));
    else
      add_range(comparison, &range);
  }
}

/* ---- The whole ------------------------------------------------------------------ */

static int compare_common(struct comparison *comparison, struct windows *windows,
                          struct qcow2_error *error)
{
  const struct window *window;
  int code;

  while ((window = windows_next(windows, &code, error)) != NULL) {
    compare_window(comparison, window);
    comparison->listener->progress(comparison->listener->context, window->start + window->length);
  }
  return code;
}

/* What the longer disk has more. */
static void add_tail(struct comparison *comparison, const uint64_t sizes[SIDES])
{
  int longer = sizes[SIDE_A] > sizes[SIDE_B] ? SIDE_A : SIDE_B;
  uint64_t end = sizes[SIDES - 1 - longer];

  add_range(comparison, &(struct range){ .kind = longer == SIDE_A ? RANGE_ONLY_A : RANGE_ONLY_B,
                                         .start = end,
                                         .length = sizes[longer] - end });
}

int ranges_compare(struct qcow2_view *const views[SIDES], const struct ranges_listener *listener,
                   struct qcow2_error *error)
{
  const uint64_t sizes[SIDES] = { qcow2_view_size(views[SIDE_A]), qcow2_view_size(views[SIDE_B]) };
  struct comparison comparison = { .listener = listener };
  struct windows *windows = windows_start(views, sizes[SIDE_A] < sizes[SIDE_B] ? sizes[SIDE_A]
                                                                               : sizes[SIDE_B]);
  int code = windows == NULL ? tsk_qcow2_complain_nomem(error)
                             : compare_common(&comparison, windows, error);

  if (code == 0)
    add_tail(&comparison, sizes);
  end_pending(&comparison);
  windows_free(windows);
  return code;
}
