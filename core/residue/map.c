/* SPDX-License-Identifier: MIT */
#include "map.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"

#define STATES_PER_BYTE 4u
#define SECTOR_BYTES 512u
#define RANGES_MIN 64u

bool qcow2_residue_map_init(struct qcow2_residue_map *map, unsigned cluster_bits,
                            uint32_t shortest_stream, uint64_t state_capacity,
                            size_t range_capacity)
{
  range_capacity = range_capacity < RANGES_MIN ? RANGES_MIN : range_capacity;
  *map = (struct qcow2_residue_map){ .cluster_bits = cluster_bits,
                                     .shortest_stream = shortest_stream,
                                     .state_capacity = state_capacity,
                                     .range_capacity = range_capacity };
  map->states = malloc((size_t) divide_up(state_capacity, STATES_PER_BYTE) + 1);
  map->ranges = malloc(range_capacity * sizeof(map->ranges[0]));
  return map->states != NULL && map->ranges != NULL;
}

void qcow2_residue_map_free(struct qcow2_residue_map *map)
{
  free(map->states);
  free(map->ranges);
  memset(map, 0, sizeof(*map));
}

void qcow2_residue_map_move(struct qcow2_residue_map *map, uint64_t first, uint64_t end)
{
  map->first = first;
  map->end = min_u64(end, first + map->state_capacity);
  map->range_count = 0;
  map->is_sorted = true;
  map->is_too_dense = false;
  memset(map->states, 0, (size_t) divide_up(map->end - first, STATES_PER_BYTE));
}

/* No range is longer than the longest stream. So the ranges that reach a byte begin near it. */
static uint32_t longest(const struct qcow2_residue_map *map)
{
  return UINT32_C(2) << map->cluster_bits;
}

/* ---- States ------------------------------------------------------------------ */

enum qcow2_residue_state qcow2_residue_map_state(const struct qcow2_residue_map *map,
                                                 uint64_t cluster)
{
  uint64_t index = cluster - map->first;

  return (enum qcow2_residue_state)(
      map->states[index / STATES_PER_BYTE] >> index % STATES_PER_BYTE * 2 & 3);
}

/* A cluster can only come to be more in use than it was. */
static void raise_state(struct qcow2_residue_map *map, uint64_t cluster,
                        enum qcow2_residue_state state)
{
  uint64_t index = cluster - map->first;
  unsigned shift = index % STATES_PER_BYTE * 2;
  uint8_t *byte = &map->states[index / STATES_PER_BYTE];

  if (state > qcow2_residue_map_state(map, cluster))
    *byte = (uint8_t) ((*byte & ~(3u << shift)) | (unsigned) state << shift);
}

/* Raise the state of the clusters of [first, end) that the map has now. */
static void raise_states(struct qcow2_residue_map *map, uint64_t first, uint64_t end,
                         enum qcow2_residue_state state)
{
  first = first < map->first ? map->first : first;
  end = min_u64(end, map->end);
  for (uint64_t cluster = first; cluster < end; cluster++)
    raise_state(map, cluster, state);
}

void qcow2_residue_map_set_walked(struct qcow2_residue_map *map, uint64_t cluster)
{
  raise_states(map, cluster, cluster + 1, RESIDUE_WALKED);
}

bool qcow2_residue_map_is_walked(const struct qcow2_residue_map *map, uint64_t cluster)
{
  return cluster >= map->first && cluster < map->end &&
         qcow2_residue_map_state(map, cluster) == RESIDUE_WALKED;
}

/* ---- Sorting and merging ------------------------------------------------------- */

static int compare_ranges(const void *one, const void *other)
{
  const struct qcow2_residue_range *a = one, *b = other;

  if (a->offset != b->offset)
    return a->offset < b->offset ? -1 : 1;
  return a->length != b->length ? (a->length > b->length ? -1 : 1) : 0;
}

/* Of streams that begin at the same byte keep the longest, which comes first. Those that cannot be
   there together become plain. */
static void tell_streams(struct qcow2_residue_map *map)
{
  const struct qcow2_residue_range *last = NULL;
  uint64_t last_end = 0;
  size_t count = 0;

  for (size_t i = 0; i < map->range_count; i++) {
    struct qcow2_residue_range range = map->ranges[i];

    if (range.kind != RANGE_PLAIN && last != NULL && range.offset == last->offset)
      continue;
    if (range.kind != RANGE_PLAIN && last != NULL &&
        (range.offset - last->offset < map->shortest_stream ||
         last_end >= range.offset + SECTOR_BYTES))
      range.kind = RANGE_PLAIN;
    map->ranges[count] = range;
    if (range.kind != RANGE_PLAIN) {
      last = &map->ranges[count];
      last_end = range.offset + range.length;
    }
    count++;
  }
  map->range_count = count;
}

/* The plain range becomes known as a whole: so are the clusters inside it. */
static void close_range(struct qcow2_residue_map *map, const struct qcow2_residue_range *range)
{
  uint64_t size = UINT64_C(1) << map->cluster_bits;

  raise_states(map, divide_up(range->offset, size), (range->offset + range->length) / size,
               RESIDUE_USED);
}

/* Merge plain ranges that touch or overlap. */
static void merge_plain(struct qcow2_residue_map *map)
{
  struct qcow2_residue_range *open = NULL;
  size_t count = 0;

  for (size_t i = 0; i < map->range_count; i++) {
    struct qcow2_residue_range range = map->ranges[i];
    uint64_t end = range.offset + range.length;

    if (range.kind == RANGE_PLAIN && open != NULL && range.offset <= open->offset + open->length &&
        end - open->offset <= longest(map)) {
      if (end > open->offset + open->length)
        open->length = (uint32_t) (end - open->offset);
      continue;
    }
    map->ranges[count] = range;
    if (range.kind == RANGE_PLAIN) {
      if (open != NULL)
        close_range(map, open);
      open = &map->ranges[count];
    }
    count++;
  }
  if (open != NULL)
    close_range(map, open);
  map->range_count = count;
}

/* True if a range has a byte in a cluster that the map has and that is not in use as a whole. */
static bool says_something(const struct qcow2_residue_map *map,
                           const struct qcow2_residue_range *range)
{
  uint64_t first = range->offset >> map->cluster_bits;
  uint64_t last = (range->offset + range->length - 1) >> map->cluster_bits;

  first = first < map->first ? map->first : first;
  for (uint64_t cluster = first; cluster <= last && cluster < map->end; cluster++)
    if (qcow2_residue_map_state(map, cluster) < RESIDUE_USED)
      return true;
  return false;
}

static void drop_useless(struct qcow2_residue_map *map)
{
  size_t count = 0;

  for (size_t i = 0; i < map->range_count; i++)
    if (says_something(map, &map->ranges[i]))
      map->ranges[count++] = map->ranges[i];
  map->range_count = count;
}

static void sort(struct qcow2_residue_map *map)
{
  if (map->is_sorted)
    return;
  qsort(map->ranges, map->range_count, sizeof(map->ranges[0]), compare_ranges);
  tell_streams(map);
  merge_plain(map);
  drop_useless(map);
  map->is_sorted = true;
}

void qcow2_residue_map_finish(struct qcow2_residue_map *map)
{
  sort(map);
}

/* ---- Adding -------------------------------------------------------------------- */

/* Make room for a range, if need be by leaving the later half of the clusters for another time. */
static bool make_room(struct qcow2_residue_map *map)
{
  uint64_t middle;

  if (map->range_count < map->range_capacity)
    return true;
  sort(map);
  while (map->range_count > map->range_capacity / 4 * 3) {
    middle = map->ranges[map->range_count / 2].offset >> map->cluster_bits;
    if (middle <= map->first) {
      map->is_too_dense = true;
      return map->range_count < map->range_capacity;
    }
    map->end = min_u64(map->end, middle);
    drop_useless(map);
  }
  return true;
}

static void add_range(struct qcow2_residue_map *map, uint64_t offset, uint32_t length,
                      enum qcow2_residue_range_kind kind)
{
  struct qcow2_residue_range range = { offset, length, (uint32_t) kind };

  if (!says_something(map, &range) || !make_room(map) || !says_something(map, &range))
    return;
  raise_states(map, offset >> map->cluster_bits, ((offset + length - 1) >> map->cluster_bits) + 1,
               RESIDUE_PARTLY);
  map->ranges[map->range_count++] = range;
  map->is_sorted = false;
}

void qcow2_residue_map_add(struct qcow2_residue_map *map, uint64_t offset, uint64_t length)
{
  uint64_t size = UINT64_C(1) << map->cluster_bits;
  uint64_t end = offset + length;
  uint64_t whole = divide_up(offset, size), whole_end = end / size;

  if (length == 0)
    return;
  if (whole < whole_end)
    raise_states(map, whole, whole_end, RESIDUE_USED);
  if (whole > whole_end) { /* inside one cluster */
    add_range(map, offset, (uint32_t) length, RANGE_PLAIN);
    return;
  }
  if (offset < whole * size)
    add_range(map, offset, (uint32_t) (whole * size - offset), RANGE_PLAIN);
  if (end > whole_end * size)
    add_range(map, whole_end * size, (uint32_t) (end - whole_end * size), RANGE_PLAIN);
}

void qcow2_residue_map_add_stream(struct qcow2_residue_map *map, uint64_t offset, uint32_t length)
{
  if (length > 0)
    add_range(map, offset, length, RANGE_STREAM);
}

/* ---- Asking --------------------------------------------------------------------- */

size_t qcow2_residue_map_find(const struct qcow2_residue_map *map, uint64_t offset)
{
  uint64_t start = offset > longest(map) ? offset - longest(map) : 0;
  size_t low = 0, high = map->range_count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (map->ranges[middle].offset < start)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* RESIDUE_FREE is 0: four clusters at a time. */
bool qcow2_residue_map_is_free(const struct qcow2_residue_map *map, uint64_t first, uint64_t end)
{
  uint64_t cluster = first < map->first ? map->first : first;

  end = min_u64(end, map->end);
  while (cluster < end) {
    uint64_t index = cluster - map->first;
    bool is_whole = index % STATES_PER_BYTE == 0 && end - cluster >= STATES_PER_BYTE;

    if (is_whole ? map->states[index / STATES_PER_BYTE] != 0
                 : qcow2_residue_map_state(map, cluster) != RESIDUE_FREE)
      return false;
    cluster += is_whole ? STATES_PER_BYTE : 1;
  }
  return true;
}

/* The first byte of [offset, end), which is in one cluster, that a range has; or `end`. */
static uint64_t first_in_ranges(const struct qcow2_residue_map *map, uint64_t offset, uint64_t end)
{
  for (size_t i = qcow2_residue_map_find(map, offset);
       i < map->range_count && map->ranges[i].offset < end; i++)
    if (map->ranges[i].offset + map->ranges[i].length > offset)
      return map->ranges[i].offset > offset ? map->ranges[i].offset : offset;
  return end;
}

uint64_t qcow2_residue_map_free_end(const struct qcow2_residue_map *map, uint64_t offset,
                                    uint64_t end)
{
  while (offset < end) {
    uint64_t cluster = offset >> map->cluster_bits;
    uint64_t cluster_end = min_u64((cluster + 1) << map->cluster_bits, end), used = cluster_end;

    if (cluster < map->first || cluster >= map->end ||
        qcow2_residue_map_state(map, cluster) >= RESIDUE_USED)
      return offset;
    if (qcow2_residue_map_state(map, cluster) == RESIDUE_PARTLY)
      used = first_in_ranges(map, offset, cluster_end);
    if (used < cluster_end)
      return used;
    offset = cluster_end;
  }
  return end;
}
