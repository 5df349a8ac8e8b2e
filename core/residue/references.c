/* SPDX-License-Identifier: MIT */
#include "references.h"

#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../check/checker.h"
#include "../storage/storage.h"

#define EXTENSION_HEADER_BYTES 8u
/* Where the header says where the backing file's name is. */
#define BACKING_FIELDS_OFFSET 8u
#define BACKING_FIELDS_BYTES 12u

/* The context of a walk. */
struct collecting {
  struct qcow2_residue_map *map;
  struct qcow2_residue_walk *walk;
};

static struct qcow2_residue_map *map_of(const struct qcow2_checker *checker)
{
  const struct collecting *collecting = checker->context;

  return collecting->map;
}

static struct qcow2_residue_walk *walk_of(const struct qcow2_checker *checker)
{
  const struct collecting *collecting = checker->context;

  return collecting->walk;
}

/* Cut a range to the file, and note how far the file is in use. Returns the length that is left. */
static uint64_t clip(const struct qcow2_checker *checker, uint64_t offset, uint64_t length)
{
  uint64_t size = checker->storage->size, last;

  if (offset >= size || length == 0)
    return 0;
  length = min_u64(length, size - offset);
  last = (offset + length - 1) >> checker->layer->geometry.cluster_bits;
  if (last > walk_of(checker)->last_used)
    walk_of(checker)->last_used = last;
  return length;
}

static void add(const struct qcow2_checker *checker, uint64_t offset, uint64_t length)
{
  length = clip(checker, offset, length);
  if (length > 0)
    qcow2_residue_map_add(map_of(checker), offset, length);
}

/* ---- What is named but never read -------------------------------------------------- */

#define HIDDEN_PER_BYTE 4u

enum qcow2_residue_hidden qcow2_residue_hidden_get(const uint8_t *hidden, uint64_t index)
{
  return (enum qcow2_residue_hidden)(
      hidden[index / HIDDEN_PER_BYTE] >> index % HIDDEN_PER_BYTE * 2 & 3);
}

static void hide(const struct qcow2_checker *checker, uint64_t host_offset,
                 enum qcow2_residue_hidden why)
{
  const struct qcow2_residue_map *map = map_of(checker);
  uint8_t *hidden = walk_of(checker)->hidden;
  uint64_t cluster = host_offset >> map->cluster_bits, index = cluster - map->first;

  if (hidden != NULL && cluster >= map->first && cluster < map->end)
    hidden[index / HIDDEN_PER_BYTE] |= (uint8_t) ((unsigned) why << index % HIDDEN_PER_BYTE * 2);
}

/* Note why some of the cluster is not read that a valid entry names; `readable` is where the disk
   ends. */
static void look_for_hidden(const struct qcow2_checker *checker,
                            const struct qcow2_checked_l2_entry *checked, uint64_t readable)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t descriptor = checked->entry.descriptor, bitmap = checked->entry.subcluster_bitmap;

  if (walk_of(checker)->hidden == NULL || (descriptor & L2_ENTRY_COMPRESSED) != 0 ||
      geometry->has_data_file || !qcow2_l2_entry_is_allocated(geometry, descriptor) ||
      qcow2_l2_entry_offset_problem(geometry, descriptor) != NULL)
    return;
  descriptor &= TABLE_OFFSET_MASK;
  if (readable < checked->guest_offset + geometry->cluster_size)
    hide(checker, descriptor, HIDDEN_PAST_DISK);
  else if (geometry->extended_l2 && (uint32_t) bitmap != UINT32_MAX)
    hide(checker, descriptor, HIDDEN_SUBCLUSTERS);
  else if (!geometry->extended_l2 && (checked->entry.descriptor & L2_ENTRY_ZERO) != 0)
    hide(checker, descriptor, HIDDEN_UNDER_ZEROS);
}

/* ---- The header ---------------------------------------------------------------- */

/* The end of the header extensions, with what marks it. */
static uint64_t extensions_end(const struct qcow2_metadata *metadata, uint64_t area_end)
{
  uint64_t end = metadata->header.header_length;

  if (metadata->has_more_extensions)
    return area_end;
  if (metadata->extension_count > 0) {
    const struct qcow2_extension *last = &metadata->extensions[metadata->extension_count - 1];

    end = last->host_offset + divide_up(last->length, 8) * 8;
  }
  return min_u64(end + EXTENSION_HEADER_BYTES, end > area_end ? end : area_end);
}

static void add_header(struct qcow2_checker *checker)
{
  const struct qcow2_metadata *metadata = &checker->layer->metadata;
  uint64_t area_end = checker->layer->geometry.cluster_size, name_offset = 0, name_length = 0;
  uint8_t fields[BACKING_FIELDS_BYTES];

  if (qcow2_storage_read(checker->storage, BACKING_FIELDS_OFFSET, fields, sizeof(fields), NULL) ==
      0) {
    name_offset = be64_get(fields);
    name_length = be32_get(fields + 8);
  } else
    checker->result->is_complete = 0;
  if (name_offset != 0) {
    add(checker, name_offset, name_length);
    area_end = min_u64(area_end, name_offset);
  }
  add(checker, 0, metadata->header.header_length);
  add(checker, 0, extensions_end(metadata, area_end));
}

/* ---- Tables -------------------------------------------------------------------- */

static void visit_reference(struct qcow2_checker *checker,
                            const struct qcow2_reference_made *reference, uint64_t offset,
                            uint64_t length)
{
  if (reference->use == USE_HEADER)
    add_header(checker);
  else if (reference->use == USE_SNAPSHOT_TABLE)
    add(checker, offset, checker->snapshots->table_bytes);
  else if (offset != 0) /* an L1 table is said to be there: it cannot be read */
    add(checker, offset, length);
}

static void visit_refcount_block(struct qcow2_checker *checker, uint64_t index, uint64_t cluster)
{
  unsigned cluster_bits = checker->layer->geometry.cluster_bits;

  (void) index;
  add(checker, cluster << cluster_bits, UINT64_C(1) << cluster_bits);
}

/* True if the disk can be read through the L2 table that the entry names. */
static bool names_l2(const struct qcow2_checker *checker,
                     const struct qcow2_checked_l1_entry *entry)
{
  return (entry->entry & TABLE_OFFSET_MASK) != 0 && entry->disk->l1_offset != 0 &&
         qcow2_l1_entry_problem(&checker->layer->geometry, entry->entry) == NULL;
}

static bool visit_l1_entry(struct qcow2_checker *checker,
                           const struct qcow2_checked_l1_entry *entry)
{
  const struct qcow2_residue_own *own = walk_of(checker)->own;

  if (own != NULL && own->l1_entry(own->context, entry))
    return true;
  if (names_l2(checker, entry))
    add(checker, entry->entry & TABLE_OFFSET_MASK, checker->layer->geometry.cluster_size);
  return true;
}

/* ---- Guest data ------------------------------------------------------------------ */

/* Where that ends which is read at `guest_offset` of the disk or the VM state; 0: nothing is. */
static uint64_t readable_end(const struct qcow2_checker *checker, size_t snapshot_index,
                             uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  const struct qcow2_snapshot *snapshot;
  uint64_t start;

  if (snapshot_index == QCOW2_ACTIVE)
    return guest_offset < checker->layer->size ? checker->layer->size : 0;
  snapshot = &checker->snapshots->entries[snapshot_index];
  if (guest_offset < snapshot->disk_size)
    return snapshot->disk_size;
  start = qcow2_geometry_l1_entries(geometry, snapshot->disk_size)
          << (geometry->cluster_bits + geometry->l2_bits);
  if (guest_offset < start || guest_offset - start >= snapshot->vm_state_size)
    return 0;
  return snapshot->vm_state_size > UINT64_MAX - start ? UINT64_MAX
                                                      : start + snapshot->vm_state_size;
}

/* An L2 table is looked at once, unless a disk ends inside what it maps: all disks see the same in
   it. */
static bool wants_l2(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *entry)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t cluster = (entry->entry & TABLE_OFFSET_MASK) >> geometry->cluster_bits;
  uint64_t end = readable_end(checker, entry->disk->snapshot_index, entry->guest_offset);
  uint64_t reach = UINT64_C(1) << (geometry->cluster_bits + geometry->l2_bits);
  const struct qcow2_residue_own *own = walk_of(checker)->own;

  if (own != NULL)
    return names_l2(checker, entry) && own->wants_l2(own->context, entry);
  if (!names_l2(checker, entry) || (end == 0 && walk_of(checker)->hidden == NULL))
    return false;
  if (end == 0)
    return true;
  if (end - entry->guest_offset < reach)
    return true;
  if (qcow2_residue_map_is_walked(map_of(checker), cluster))
    return false;
  qcow2_residue_map_set_walked(map_of(checker), cluster);
  return true;
}

static void add_part(const struct qcow2_checker *checker, const struct qcow2_cluster_part *part,
                     uint64_t length)
{
  if (part->kind == QCOW2_CLUSTER_NORMAL && !checker->layer->geometry.has_data_file) {
    if (checker->layer->metadata.header.crypt_method != 0) /* sectors are read as a whole */
      length = divide_up(length, ENCRYPTION_SECTOR_BYTES) * ENCRYPTION_SECTOR_BYTES;
    add(checker, part->host_offset, length);
  } else if (part->kind == QCOW2_CLUSTER_COMPRESSED) {
    length = clip(checker, part->host_offset, part->host_bytes);
    qcow2_residue_map_add_stream(map_of(checker), part->host_offset, (uint32_t) length);
  }
}

/* Add the cluster or stream that an entry names. */
static void add_named(const struct qcow2_checker *checker,
                      const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &checked->entry,
                                                         checked->guest_offset);

  if (part.kind == QCOW2_CLUSTER_COMPRESSED)
    add_part(checker, &part, part.length);
  else if ((checked->entry.descriptor & TABLE_OFFSET_MASK) != 0 && !geometry->has_data_file)
    add(checker, checked->entry.descriptor & TABLE_OFFSET_MASK, geometry->cluster_size);
}

static bool visit_entry(struct qcow2_checker *checker, const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_residue_own *own = walk_of(checker)->own;
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t readable = readable_end(checker, checked->disk->snapshot_index, checked->guest_offset);
  uint64_t end = min_u64(readable, checked->guest_offset + geometry->cluster_size);

  if (own != NULL) {
    if (!own->l2_entry(own->context, checked))
      add_named(checker, checked);
    return true;
  }
  look_for_hidden(checker, checked, readable);
  for (uint64_t at = checked->guest_offset; at < end;) {
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &checked->entry, at);

    add_part(checker, &part, min_u64(part.length, end - at));
    at += part.length;
  }
  return true;
}

/* ---- The whole --------------------------------------------------------------------- */

static const struct qcow2_checker_visitor COLLECT = { .reference = visit_reference,
                                                      .l1_entry = visit_l1_entry,
                                                      .wants_l2 = wants_l2,
                                                      .l2_entry = visit_entry };

uint32_t qcow2_residue_shortest_stream(const struct qcow2_layer *layer)
{
  uint32_t cluster_size = layer->geometry.cluster_size;

  /* deflate: 258 bytes in two bits at most; zstd: 128 KiB in a block of four bytes. */
  if (layer->metadata.header.compression == QCOW2_COMPRESSION_DEFLATE)
    return cluster_size < 4 * 1040 ? 4 : cluster_size / 1040;
  return cluster_size < 8 * 32768 ? 8 : cluster_size / 32768;
}

static bool walk_all(struct qcow2_checker *checker)
{
  return qcow2_checker_directories(checker) &&
         qcow2_checker_each_refcount_block(checker, checker->cluster_end, false,
                                           visit_refcount_block) &&
         qcow2_checker_walk_l1(checker) && qcow2_checker_walk_l2(checker);
}

int qcow2_residue_collect(const struct qcow2_image *image, struct qcow2_residue_map *map,
                          struct qcow2_residue_walk *walk, struct qcow2_error *error)
{
  struct qcow2_check_result result = { .is_complete = 1 };
  struct collecting collecting = { map, walk };
  struct qcow2_checker checker = { .visitor = &COLLECT,
                                   .context = &collecting,
                                   .layer = image->chain.layers[0],
                                   .snapshots = &image->snapshots,
                                   .bitmaps = &image->bitmaps,
                                   .options = { .work_bytes = walk->work },
                                   .result = &result };
  int code = qcow2_checker_start(&checker, error);

  checker.is_first_walk = false; /* nothing is reported */
  checker.tally.first = map->first;
  checker.tally.capacity = (size_t) (map->end - map->first);
  walk->is_bounded = code == 0 && !walk_all(&checker);
  walk->has_gaps = result.is_complete == 0 || image->bitmaps.lost_count > 0 ||
                   qcow2_snapshot_lost_count(image) > 0;
  walk->work = checker.work;
  qcow2_checker_end(&checker);
  if (code == 0)
    qcow2_residue_map_finish(map);
  return code;
}
