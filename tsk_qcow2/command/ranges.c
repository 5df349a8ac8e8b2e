/* SPDX-License-Identifier: MIT */
#include "ranges.h"

#include <stdlib.h>
#include <string.h>

#include "complain.h"

/* This much of both disks is read at a time. */
#define WINDOW_BYTES ((size_t) 1 << 20)
/* Equal bytes are looked for in blocks of this size, and then one by one. */
#define BLOCK_BYTES 4096u

/* What a side cannot read of the window, clipped to it. */
struct losses {
  struct qcow2_error *list; /* in ascending order */
  size_t count, room;
  bool is_out_of_memory;
};

struct comparison {
  struct qcow2_view *const *views;
  const struct ranges_listener *listener;
  uint64_t end;          /* where the shorter disk ends */
  uint64_t start;        /* guest offset of the window */
  size_t length;         /* of the window, bytes */
  uint8_t *bytes[SIDES]; /* WINDOW_BYTES each */
  struct losses losses[SIDES];
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

/* The first position from `at` on where the sides differ; `end` if there is none. */
static size_t find_difference(const struct comparison *comparison, size_t at, size_t end)
{
  const uint8_t *a = comparison->bytes[SIDE_A], *b = comparison->bytes[SIDE_B];

  while (end - at >= BLOCK_BYTES && memcmp(a + at, b + at, BLOCK_BYTES) == 0)
    at += BLOCK_BYTES;
  while (at < end && a[at] == b[at])
    at++;
  return at;
}

/* True if one of eight bytes is the same on both sides. */
static bool has_equal_byte(const uint8_t *a, const uint8_t *b)
{
  uint64_t of_a, of_b, differences;

  memcpy(&of_a, a, sizeof(of_a));
  memcpy(&of_b, b, sizeof(of_b));
  differences = of_a ^ of_b;
  /* Subtracting 1 from each byte sets the top bit of those that were 0, and perhaps of others, but
     only if one was 0. */
  return ((differences - UINT64_C(0x0101010101010101)) & ~differences &
          UINT64_C(0x8080808080808080)) != 0;
}

static size_t find_equal(const struct comparison *comparison, size_t at, size_t end)
{
  const uint8_t *a = comparison->bytes[SIDE_A], *b = comparison->bytes[SIDE_B];

  while (end - at >= sizeof(uint64_t) && !has_equal_byte(a + at, b + at))
    at += sizeof(uint64_t);
  while (at < end && a[at] != b[at])
    at++;
  return at;
}

/* A part of the window that both sides could read. */
static void compare_readable(struct comparison *comparison, size_t at, size_t end)
{
  while ((at = find_difference(comparison, at, end)) < end) {
    size_t stop = find_equal(comparison, at, end);

    add_range(comparison, &(struct range){ .kind = RANGE_DIFFERS,
                                           .start = comparison->start + at,
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

static void compare_window(struct comparison *comparison)
{
  uint64_t at = comparison->start, end = at + comparison->length, until;
  size_t index[SIDES] = { 0, 0 };

  for (; at < end; at = until) {
    struct range range = { .kind = RANGE_UNREADABLE, .start = at };

    until = end;
    for (int side = 0; side < SIDES; side++)
      range.reason[side] = loss_at(&comparison->losses[side], &index[side], at, &until);
    range.length = until - at;
    if (range.reason[SIDE_A] == NULL && range.reason[SIDE_B] == NULL)
      compare_readable(comparison, (size_t) (at - comparison->start),
                       (size_t) (until - comparison->start));
    else
      add_range(comparison, &range);
  }
}

/* ---- Reading -------------------------------------------------------------------- */

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

static int read_side(struct comparison *comparison, int side, struct qcow2_error *error)
{
  struct losses *losses = &comparison->losses[side];
  int code;

  losses->count = 0;
  code = qcow2_view_salvage(comparison->views[side], comparison->start, comparison->bytes[side],
                            comparison->length, hear_loss, losses, error);
  return code == 0 && losses->is_out_of_memory ? tsk_qcow2_complain_nomem(error) : code;
}

/* Find the next bytes that must be read, at `at` or after. False: there are none. */
static bool find_window(struct comparison *comparison, uint64_t at)
{
  struct qcow2_view *a = comparison->views[SIDE_A], *b = comparison->views[SIDE_B];
  uint64_t run;
  int is_same;

  comparison->length = 0;
  for (; at < comparison->end && comparison->length < WINDOW_BYTES; at += run) {
    uint64_t wanted = comparison->length > 0 ? WINDOW_BYTES - comparison->length
                                             : comparison->end - at;

    if (wanted > comparison->end - at)
      wanted = comparison->end - at;
    if (qcow2_view_same(a, b, at, wanted, &run, &is_same, NULL) != 0)
      return false; /* not inside both: cannot be */
    if (is_same && comparison->length > 0)
      return true;
    if (is_same) {
      comparison->listener->progress(comparison->listener->context, at + run);
      continue;
    }
    if (comparison->length == 0)
      comparison->start = at;
    if (run > WINDOW_BYTES - comparison->length)
      run = WINDOW_BYTES - comparison->length;
    comparison->length += (size_t) run;
  }
  return comparison->length > 0;
}

static int compare_common(struct comparison *comparison, struct qcow2_error *error)
{
  int code = 0;

  for (uint64_t at = 0; code == 0 && find_window(comparison, at);
       at = comparison->start + comparison->length) {
    for (int side = 0; code == 0 && side < SIDES; side++)
      code = read_side(comparison, side, error);
    if (code == 0)
      compare_window(comparison);
    comparison->listener->progress(comparison->listener->context,
                                   comparison->start + comparison->length);
  }
  return code;
}

/* What the longer disk has more. */
static void add_tail(struct comparison *comparison, const uint64_t sizes[SIDES])
{
  int longer = sizes[SIDE_A] > sizes[SIDE_B] ? SIDE_A : SIDE_B;

  add_range(comparison, &(struct range){ .kind = longer == SIDE_A ? RANGE_ONLY_A : RANGE_ONLY_B,
                                         .start = comparison->end,
                                         .length = sizes[longer] - comparison->end });
}

int ranges_compare(struct qcow2_view *const views[SIDES], const struct ranges_listener *listener,
                   struct qcow2_error *error)
{
  const uint64_t sizes[SIDES] = { qcow2_view_size(views[SIDE_A]), qcow2_view_size(views[SIDE_B]) };
  struct comparison comparison = {
    .views = views,
    .listener = listener,
    .end = sizes[SIDE_A] < sizes[SIDE_B] ? sizes[SIDE_A] : sizes[SIDE_B],
    .bytes = { malloc(WINDOW_BYTES), malloc(WINDOW_BYTES) },
  };
  int code = comparison.bytes[SIDE_A] == NULL || comparison.bytes[SIDE_B] == NULL
                 ? tsk_qcow2_complain_nomem(error)
                 : compare_common(&comparison, error);

  if (code == 0)
    add_tail(&comparison, sizes);
  end_pending(&comparison);
  for (int side = 0; side < SIDES; side++) {
    free(comparison.bytes[side]);
    free(comparison.losses[side].list);
  }
  return code;
}
