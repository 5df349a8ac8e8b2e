/* SPDX-License-Identifier: MIT */
#include "anchors.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../storage/storage.h"
#include "volumes.h"

/* What is read, at least a page each time: that is how often a table can be looked into. */
#define WORK_BYTES (UINT64_C(2) << 30)
#define READ_COST_MIN UINT64_C(4096)
/* A file system without a partition table is believed to be that of the whole disk if no more than
   this is left behind it. */
#define DISK_REST_BYTES_MAX (UINT64_C(16) << 20)
#define NO_INDEX UINT32_MAX

/* A table that has no place. */
struct candidate {
  uint32_t l1_index; /* where it seems to belong; NO_INDEX: nothing is known */
  bool disagrees;    /* with itself, or with another one: it stays without a place */
};

struct anchors {
  const struct qcow2_anchored *given;
  const struct qcow2_geometry *geometry;
  struct candidate *candidates; /* as placed->lost_tables */
  uint32_t *l1_indexes;         /* the same; for giving places */
  uint64_t work;
  uint8_t bytes[LANDMARK_BYTES_MAX];
};

/* ---- Reading through tables ---------------------------------------------------------- */

static bool spend(struct anchors *anchors, uint64_t cost)
{
  if (anchors->work < cost)
    return false;
  anchors->work -= cost;
  return true;
}

/* Read one run through the table. Returns its length; 0: it cannot be read. */
static size_t read_run(struct anchors *anchors, uint64_t l2_offset, uint64_t guest_offset,
                       uint8_t *out, size_t length)
{
  const struct qcow2_layer *layer = anchors->given->layer;
  struct qcow2_mapping mapping;

  if (qcow2_mapping_find_in_l2(&layer->tables, l2_offset, guest_offset, length, &mapping, NULL) !=
      0)
    return 0;
  qcow2_layer_cut_at_file_end(layer, &mapping);
  if (!spend(anchors, mapping.kind == QCOW2_CLUSTER_COMPRESSED ? anchors->geometry->cluster_size
                                                               : READ_COST_MIN))
    return 0;
  length = (size_t) min_u64(length, mapping.length);
  return qcow2_cluster_read(&layer->source, &mapping, guest_offset, out, length, NULL) == 0 ? length
                                                                                            : 0;
}

/* Read bytes of the disk as if the table were the one that maps them. */
static bool read_through(struct anchors *anchors, uint64_t l2_offset, uint64_t guest_offset,
                         uint8_t *out, size_t length)
{
  size_t done = 0, count = 1;

  if (length > geometry_l2_left(anchors->geometry, guest_offset))
    return false;
  for (; done < length && count > 0; done += count)
    count = read_run(anchors, l2_offset, guest_offset + done, out + done, length - done);
  return done == length;
}

static bool is_taken(const struct qcow2_placed *placed, uint64_t l1_index)
{
  return qcow2_placed_find(placed, l1_index) != NULL;
}

/* The table that is placed there, or that the base has there; 0: none. */
static uint64_t known_table(const struct anchors *anchors, uint64_t l1_index)
{
  const struct qcow2_anchored *given = anchors->given;
  const struct qcow2_placed_table *placed = qcow2_placed_find(given->placed, l1_index);
  uint8_t word[8];

  if (placed != NULL)
    return placed->l2_offset;
  if (l1_index >= given->base_l1_size ||
      qcow2_storage_read(&given->layer->file.storage,
                         given->base_l1_offset + l1_index * L1_ENTRY_BYTES, word, sizeof(word),
                         NULL) != 0)
    return 0;
  return be64_get(word) & TABLE_OFFSET_MASK;
}

/* Read bytes of the disk where it is known which table maps them. */
static bool read_known(struct anchors *anchors, uint64_t guest_offset, uint8_t *out, size_t length)
{
  uint64_t l2_offset = known_table(anchors, geometry_l1_index(anchors->geometry, guest_offset));

  return l2_offset != 0 && read_through(anchors, l2_offset, guest_offset, out, length);
}

/* ---- Places ---------------------------------------------------------------------------- */

static void suggest(struct candidate *candidate, uint32_t l1_index)
{
  candidate->disagrees = candidate->disagrees ||
                         (candidate->l1_index != NO_INDEX && candidate->l1_index != l1_index);
  candidate->l1_index = l1_index;
}

static int compare_indexes(const void *one, const void *other)
{
  const uint32_t *a = one, *b = other;

  return *a < *b ? -1 : *a > *b;
}

/* Of the `count` sorted indexes, keep those that stand there twice. Returns how many. */
static size_t keep_doubles(uint32_t *sorted, size_t count)
{
  size_t kept = 0;

  for (size_t i = 1; i < count; i++)
    if (sorted[i] == sorted[i - 1] && (kept == 0 || sorted[kept - 1] != sorted[i]))
      sorted[kept++] = sorted[i];
  return kept;
}

/* Tables that seem to belong to the same place disagree. */
static void compare_candidates(struct anchors *anchors)
{
  struct candidate *candidates = anchors->candidates;
  uint32_t *sorted = anchors->l1_indexes;
  size_t lost = anchors->given->placed->lost, count = 0;

  for (size_t i = 0; i < lost; i++)
    if (candidates[i].l1_index != NO_INDEX)
      sorted[count++] = candidates[i].l1_index;
  qsort(sorted, count, sizeof(sorted[0]), compare_indexes);
  count = keep_doubles(sorted, count);
  for (size_t i = 0; count > 0 && i < lost; i++)
    if (bsearch(&candidates[i].l1_index, sorted, count, sizeof(sorted[0]), compare_indexes) != NULL)
      candidates[i].disagrees = true;
}

/* Give the candidates the places that were found. */
static void settle(struct anchors *anchors)
{
  struct qcow2_placed *placed = anchors->given->placed;
  struct candidate *candidates = anchors->candidates;
  size_t lost = placed->lost, left = 0;

  compare_candidates(anchors);
  for (size_t i = 0; i < lost; i++) {
    bool is_found = candidates[i].l1_index != NO_INDEX && !candidates[i].disagrees;

    anchors->l1_indexes[i] = is_found ? candidates[i].l1_index : NO_INDEX;
    placed->by_content += is_found;
    if (!is_found)
      candidates[left++] = candidates[i];
  }
  qcow2_placed_add(placed, anchors->geometry, anchors->l1_indexes);
}

/* ---- With an external data file ------------------------------------------------------------ */

/* The first offset in the part of the disk that the table maps, by an entry of it; an external data
   file has each cluster where it is on the disk. False: it has none. */
static bool find_own_place(struct anchors *anchors, uint64_t l2_offset, uint64_t *guest_offset)
{
  const struct qcow2_geometry *geometry = anchors->geometry;
  uint32_t piece = (uint32_t) min_u64(geometry->cluster_size, READ_COST_MIN);

  for (uint32_t at = 0; at < geometry->cluster_size; at += piece) {
    if (!spend(anchors, READ_COST_MIN) ||
        qcow2_storage_read(&anchors->given->layer->file.storage, l2_offset + at, anchors->bytes,
                           piece, NULL) != 0)
      return false;
    for (uint32_t i = 0; i < piece; i += geometry->l2_entry_bytes) {
      uint64_t descriptor = be64_get(anchors->bytes + i);

      *guest_offset = descriptor & TABLE_OFFSET_MASK;
      if (qcow2_l2_entry_is_allocated(geometry, descriptor))
        return true;
    }
  }
  return false;
}

static void take_own_places(struct anchors *anchors)
{
  const struct qcow2_placed *placed = anchors->given->placed;
  uint64_t guest_offset;

  for (size_t i = 0; i < placed->lost; i++)
    if (find_own_place(anchors, placed->lost_tables[i], &guest_offset)) {
      uint64_t l1_index = geometry_l1_index(anchors->geometry, guest_offset);

      if (l1_index < anchors->given->end_index && !is_taken(placed, l1_index))
        suggest(&anchors->candidates[i], (uint32_t) l1_index);
    }
  settle(anchors);
}

/* ---- Landmarks -------------------------------------------------------------------------- */

/* Look for the table that has the landmark. */
static void look_for(struct anchors *anchors, const struct qcow2_volume *volume,
                     const struct qcow2_landmark *landmark)
{
  const struct qcow2_placed *placed = anchors->given->placed;
  uint64_t l1_index = geometry_l1_index(anchors->geometry, landmark->guest_offset);

  if (landmark->length > sizeof(anchors->bytes) || l1_index >= anchors->given->end_index ||
      is_taken(placed, l1_index))
    return;
  for (size_t i = 0; i < placed->lost; i++)
    if (read_through(anchors, placed->lost_tables[i], landmark->guest_offset, anchors->bytes,
                     landmark->length) &&
        qcow2_volume_has(volume, landmark, anchors->bytes))
      suggest(&anchors->candidates[i], (uint32_t) l1_index);
}

static void look_for_landmarks(struct anchors *anchors, const struct qcow2_volume *volume)
{
  struct qcow2_landmark landmark;

  for (uint32_t i = 1; i <= volume->landmarks && anchors->work >= READ_COST_MIN; i++)
    if (qcow2_volume_landmark(volume, i, &landmark))
      look_for(anchors, volume, &landmark);
  settle(anchors);
}

/* Those of block groups, as far as the table that describes these is known. */
static void look_for_bitmaps(struct anchors *anchors, const struct qcow2_volume *volume)
{
  uint8_t description[EXT_GROUP_BYTES];
  struct qcow2_landmark landmark;

  if (volume->kind != VOLUME_EXT || volume->groups_offset == 0)
    return;
  for (uint32_t i = 0; i <= volume->landmarks && anchors->given->placed->lost > 0; i++) {
    if (!read_known(anchors, volume->groups_offset + (uint64_t) i * EXT_GROUP_BYTES, description,
                    sizeof(description)))
      break;
    if (qcow2_volume_bitmap(volume, i, description, &landmark))
      look_for(anchors, volume, &landmark);
  }
  settle(anchors);
}

/* ---- File systems -------------------------------------------------------------------------- */

/* Find the file system that begins at `start`, through the table that is known to map it, or
   through the only one that shows a file system there. False: there is none. */
static bool find_volume(struct anchors *anchors, const struct qcow2_disk_range *range,
                        struct qcow2_volume *volume)
{
  const struct qcow2_placed *placed = anchors->given->placed;
  uint64_t l1_index = geometry_l1_index(anchors->geometry, range->start);
  struct qcow2_volume found;
  uint8_t head[VOLUME_HEAD_BYTES];

  *volume = (struct qcow2_volume){ .kind = VOLUME_UNKNOWN };
  if (read_known(anchors, range->start, head, sizeof(head)) &&
      qcow2_volume_recognise(head, range->start, range->length, volume))
    return true;
  for (size_t i = 0; !is_taken(placed, l1_index) && i < placed->lost; i++)
    if (read_through(anchors, placed->lost_tables[i], range->start, head, sizeof(head)) &&
        qcow2_volume_recognise(head, range->start, range->length, &found)) {
      suggest(&anchors->candidates[i], (uint32_t) l1_index);
      *volume = found;
    }
  settle(anchors);
  return volume->kind != VOLUME_UNKNOWN && is_taken(placed, l1_index);
}

static void look_into(struct anchors *anchors, const struct qcow2_disk_range *range)
{
  struct qcow2_volume volume;

  if (!find_volume(anchors, range, &volume))
    return;
  look_for_landmarks(anchors, &volume);
  look_for_bitmaps(anchors, &volume);
}

/* ---- The start of the disk ------------------------------------------------------------------ */

/* How far these bytes can be believed to be the start of the disk. 0: not at all. */
static unsigned belief(const struct anchors *anchors, const uint8_t *head)
{
  uint64_t size = anchors->given->size;
  struct qcow2_disk_start start;
  struct qcow2_volume volume;

  qcow2_disk_start_look(head, size, &start);
  if (start.kind != DISK_START_UNKNOWN)
    return start.kind == DISK_START_GPT ? 3 : 2;
  return qcow2_volume_recognise(head, 0, size, &volume) &&
         size - volume.bytes <= DISK_REST_BYTES_MAX;
}

/* Find the first table, if it is not known: only one is the best. */
static void find_first_table(struct anchors *anchors)
{
  const struct qcow2_placed *placed = anchors->given->placed;
  uint8_t head[VOLUME_HEAD_BYTES];
  unsigned best = 1;

  if (is_taken(placed, 0))
    return;
  for (size_t i = 0; i < placed->lost; i++) {
    unsigned this_one = read_through(anchors, placed->lost_tables[i], 0, head, sizeof(head))
                            ? belief(anchors, head)
                            : 0;

    if (this_one < best)
      continue;
    for (size_t j = 0; this_one > best && j < i; j++)
      anchors->candidates[j].l1_index = NO_INDEX;
    suggest(&anchors->candidates[i], 0);
    best = this_one;
  }
  settle(anchors);
}

static void read_partitions(struct anchors *anchors, struct qcow2_disk_start *start)
{
  uint8_t entry[GPT_ENTRY_BYTES];

  for (uint32_t i = 0; i < start->entry_count; i++)
    if (read_known(anchors, start->entries_offset + (uint64_t) i * GPT_ENTRY_BYTES, entry,
                   sizeof(entry)))
      qcow2_disk_start_add(start, entry, anchors->given->size);
}

/* Find out what is on the disk, from its start on. */
static void look_at_disk(struct anchors *anchors)
{
  const struct qcow2_disk_range whole = { 0, anchors->given->size };
  struct qcow2_disk_start start;
  struct qcow2_volume gpt;
  uint8_t head[VOLUME_HEAD_BYTES];

  find_first_table(anchors);
  if (!read_known(anchors, 0, head, sizeof(head)))
    return;
  qcow2_disk_start_look(head, anchors->given->size, &start);
  if (start.kind == DISK_START_UNKNOWN) {
    look_into(anchors, &whole);
    return;
  }
  if (start.kind == DISK_START_GPT) {
    read_partitions(anchors, &start);
    qcow2_volume_of_gpt(&start, &gpt);
    look_for_landmarks(anchors, &gpt);
  }
  for (uint32_t i = 0; i < start.count; i++)
    look_into(anchors, &start.partitions[i]);
}

int qcow2_anchors_place(const struct qcow2_anchored *given, struct qcow2_error *error)
{
  size_t lost = given->placed->lost;
  struct anchors *anchors;
  int code = 0;

  if (lost == 0 || given->end_index == 0 || given->end_index > NO_INDEX)
    return 0;
  anchors = calloc(1, sizeof(*anchors));
  if (anchors == NULL)
    return qcow2_error_set_nomem(error);
  anchors->given = given;
  anchors->geometry = &given->layer->geometry;
  anchors->work = WORK_BYTES;
  anchors->candidates = malloc(lost * sizeof(anchors->candidates[0]));
  anchors->l1_indexes = malloc(lost * sizeof(anchors->l1_indexes[0]));
  if (anchors->candidates == NULL || anchors->l1_indexes == NULL)
    code = qcow2_error_set_nomem(error);
  else {
    for (size_t i = 0; i < lost; i++)
      anchors->candidates[i] = (struct candidate){ .l1_index = NO_INDEX };
    if (anchors->geometry->has_data_file)
      take_own_places(anchors);
    look_at_disk(anchors);
  }
  free(anchors->candidates);
  free(anchors->l1_indexes);
  free(anchors);
  return code;
}
