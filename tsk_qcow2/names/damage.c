/* SPDX-License-Identifier: MIT */
#include "damage.h"

#include <stdlib.h>
#include <string.h>

/* The most ranges that are kept: 1.5 MiB. */
#define RANGES_MAX 65536u
/* The most ranges that are reported one by one. */
#define REPORTED_MAX 100u

void tsk_qcow2_damage_init(struct tsk_qcow2_damage *damage)
{
  memset(damage, 0, sizeof(*damage));
  pthread_mutex_init(&damage->lock, NULL);
}

void tsk_qcow2_damage_free(struct tsk_qcow2_damage *damage)
{
  free(damage->ranges);
  pthread_mutex_destroy(&damage->lock);
  memset(damage, 0, sizeof(*damage));
}

/* The index of the first range that ends at `offset` or after it. */
static size_t find(const struct tsk_qcow2_damage *damage, uint64_t offset)
{
  size_t low = 0, high = damage->count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (damage->ranges[middle].end < offset)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

struct tsk_qcow2_damaged_range tsk_qcow2_damaged_range_of(const struct qcow2_error *error)
{
  return (struct tsk_qcow2_damaged_range){ .start = error->guest_offset,
                                           .end = error->guest_offset + error->guest_length,
                                           .code = error->code };
}

bool tsk_qcow2_damage_goes_on(const struct tsk_qcow2_damaged_range *known,
                              const struct tsk_qcow2_damaged_range *next)
{
  bool overlap = known->start < next->end && next->start < known->end;
  bool touch = known->start <= next->end && next->start <= known->end;

  return overlap || (touch && known->code == next->code && next->code != QCOW2_ERROR_CORRUPT);
}

static bool make_room(struct tsk_qcow2_damage *damage)
{
  size_t room = damage->room == 0 ? 16 : damage->room * 2;
  struct tsk_qcow2_damaged_range *ranges;

  if (damage->count < damage->room)
    return true;
  if (damage->count >= RANGES_MAX)
    return false;
  ranges = realloc(damage->ranges, room * sizeof(ranges[0]));
  if (ranges == NULL)
    return false;
  damage->ranges = ranges;
  damage->room = room;
  return true;
}

/* Put the range at `index`. It replaces the next `replaced` ranges, which it covers. */
static void put(struct tsk_qcow2_damage *damage, size_t index, size_t replaced,
                const struct tsk_qcow2_damaged_range *range)
{
  struct tsk_qcow2_damaged_range *slot = damage->ranges + index;

  memmove(slot + 1, slot + replaced, (damage->count - index - replaced) * sizeof(slot[0]));
  *slot = *range;
  damage->count = damage->count - replaced + 1;
}

static bool add(struct tsk_qcow2_damage *damage, struct tsk_qcow2_damaged_range range)
{
  size_t index = find(damage, range.start), replaced = 0;

  if (index < damage->count && damage->ranges[index].end == range.start &&
      !tsk_qcow2_damage_goes_on(&damage->ranges[index], &range))
    index++; /* a range that ends where this one begins, but does not go on in it */
  for (; index + replaced < damage->count; replaced++) {
    const struct tsk_qcow2_damaged_range *known = &damage->ranges[index + replaced];

    if (!tsk_qcow2_damage_goes_on(known, &range))
      break;
    range.start = known->start < range.start ? known->start : range.start;
    range.end = known->end > range.end ? known->end : range.end;
  }
  if (replaced > 0 || make_room(damage))
    put(damage, index, replaced, &range);
  else
    damage->has_dropped = true;
  return replaced == 0;
}

bool tsk_qcow2_damage_add(struct tsk_qcow2_damage *damage, const struct qcow2_error *error)
{
  bool is_new;

  pthread_mutex_lock(&damage->lock);
  is_new = add(damage, tsk_qcow2_damaged_range_of(error)) && damage->reported < REPORTED_MAX;
  damage->reported += is_new;
  pthread_mutex_unlock(&damage->lock);
  return is_new;
}

size_t tsk_qcow2_damage_count(struct tsk_qcow2_damage *damage, uint64_t *bytes, bool *is_complete)
{
  size_t count;

  *bytes = 0;
  pthread_mutex_lock(&damage->lock);
  count = damage->count;
  for (size_t i = 0; i < count; i++)
    *bytes += damage->ranges[i].end - damage->ranges[i].start;
  *is_complete = !damage->has_dropped;
  pthread_mutex_unlock(&damage->lock);
  return count;
}
