/* SPDX-License-Identifier: MIT */
#include "deleted.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "inventory.h"

#define ENTRIES_AT_FIRST 16u

/* ---- One entry ---------------------------------------------------------------- */

/* Decode the entry at *host_offset, which becomes where the next one begins. */
static int decode_next(const struct qcow2_image *image, uint64_t *host_offset,
                       struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_layer *layer = image->chain.layers[0];
  uint8_t fixed[SNAPSHOT_FIXED_BYTES], *variable;
  struct qcow2_snapshot_lengths lengths;
  size_t length;
  int code = qcow2_storage_read(&layer->file.storage, *host_offset, fixed, sizeof(fixed), error);

  if (code == 0)
    code = qcow2_snapshot_measure(fixed, *host_offset, &lengths, error);
  if (code != 0)
    return code;
  length = (size_t) lengths.extra + lengths.id + lengths.name;
  variable = malloc(length + 1);
  if (variable == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(&layer->file.storage, *host_offset + sizeof(fixed), variable, length,
                            error);
  if (code == 0)
    code = qcow2_snapshot_decode(fixed, variable, &lengths, layer->size, snapshot, error);
  free(variable);
  *host_offset = (*host_offset + sizeof(fixed) + length + 7) & ~UINT64_C(7);
  return code;
}

int qcow2_deleted_decode(const struct qcow2_image *image, uint64_t host_offset,
                         struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  return decode_next(image, &host_offset, snapshot, error);
}

static uint64_t date_of(const struct qcow2_snapshot *snapshot)
{
  return (uint64_t) snapshot->date_seconds << 32 | snapshot->date_nanoseconds;
}

static bool is_same(const struct qcow2_snapshot *a, const struct qcow2_snapshot *b)
{
  return a->l1_offset == b->l1_offset && date_of(a) == date_of(b) && a->id_length == b->id_length &&
         memcmp(a->id, b->id, a->id_length) == 0 && a->name_length == b->name_length &&
         memcmp(a->name, b->name, a->name_length) == 0;
}

int qcow2_deleted_count_older(const struct qcow2_image *image,
                              const struct qcow2_deleted_entry *entry, size_t *count,
                              struct qcow2_error *error)
{
  uint64_t at = entry->table_offset;

  *count = 0;
  for (uint32_t i = 0;
       i < SNAPSHOT_COUNT_MAX && at < entry->host_offset && *count < image->snapshots.count; i++) {
    struct qcow2_snapshot snapshot;
    int code = decode_next(image, &at, &snapshot, NULL);

    if (code == QCOW2_ERROR_NOMEM)
      return qcow2_error_set_nomem(error);
    if (code != 0)
      break;
    *count += is_same(&snapshot, &image->snapshots.entries[*count]);
    qcow2_snapshot_free(&snapshot);
  }
  return 0;
}

/* ---- All entries ------------------------------------------------------------------ */

/* A list that grows. */
struct collection {
  struct qcow2_deleted_entries *entries;
  size_t capacity;
  bool has_no_memory;
};

static bool make_room(struct collection *collection, size_t capacity)
{
  struct qcow2_deleted_entries *more = realloc(collection->entries,
                                               sizeof(*more) + capacity * sizeof(more->entries[0]));

  collection->has_no_memory = collection->has_no_memory || more == NULL;
  if (more == NULL)
    return false;
  if (collection->entries == NULL)
    more->count = 0;
  collection->entries = more;
  collection->capacity = capacity;
  return true;
}

static void keep(void *context, const struct qcow2_residue_found *found)
{
  struct collection *collection = context;

  if (collection->entries->count == collection->capacity &&
      !make_room(collection, collection->capacity * 2))
    return;
  collection->entries->entries[collection->entries->count++] =
      (struct qcow2_deleted_entry){ .host_offset = found->host_offset,
                                    .table_offset = found->table_offset,
                                    .l1_offset = found->snapshot->l1_offset,
                                    .l1_size = found->snapshot->l1_size,
                                    .l1 = found->l1,
                                    .date = date_of(found->snapshot) };
}

static int compare_offsets(const void *one, const void *other)
{
  const struct qcow2_deleted_entry *a = one, *b = other;

  return a->host_offset < b->host_offset ? -1 : a->host_offset > b->host_offset;
}

static int compare_l1(const void *one, const void *other)
{
  const struct qcow2_deleted_entry *a = *(struct qcow2_deleted_entry *const *) one;
  const struct qcow2_deleted_entry *b = *(struct qcow2_deleted_entry *const *) other;

  return a->l1_offset < b->l1_offset ? -1 : a->l1_offset > b->l1_offset;
}

static uint64_t l1_end(const struct qcow2_deleted_entry *entry)
{
  return entry->l1_offset + (uint64_t) entry->l1_size * L1_ENTRY_BYTES;
}

/* Of `count` entries whose L1 tables are connected by bytes in common, leave the latest, if it is
   one. */
static void leave_latest(struct qcow2_deleted_entry **entries, size_t count)
{
  uint64_t date = 0;
  size_t latest_count = 0;

  for (size_t i = 0; i < count; i++)
    date = entries[i]->date > date ? entries[i]->date : date;
  for (size_t i = 0; i < count; i++)
    latest_count += entries[i]->date == date;
  for (size_t i = 0; i < count; i++)
    if ((entries[i]->date != date || latest_count > 1) && entries[i]->l1 != QCOW2_RESIDUE_L1_REUSED)
      entries[i]->l1 = QCOW2_RESIDUE_L1_GONE;
}

static int settle_overlaps(struct qcow2_deleted_entries *entries, struct qcow2_error *error)
{
  struct qcow2_deleted_entry **sorted = malloc((entries->count + 1) * sizeof(sorted[0]));
  size_t first = 0;
  uint64_t end = 0;

  if (sorted == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < entries->count; i++)
    sorted[i] = &entries->entries[i];
  qsort(sorted, entries->count, sizeof(sorted[0]), compare_l1);
  for (size_t i = 0; i < entries->count; i++) {
    if (sorted[i]->l1_offset >= end && i > first) {
      leave_latest(sorted + first, i - first);
      first = i;
    }
    end = l1_end(sorted[i]) > end ? l1_end(sorted[i]) : end;
  }
  if (entries->count > first)
    leave_latest(sorted + first, entries->count - first);
  free(sorted);
  return 0;
}

/* True if the image has the snapshot of an entry, with its L1 table at another offset. */
static bool is_elsewhere(const struct qcow2_image *image, const struct qcow2_snapshot *entry)
{
  for (size_t i = 0; i < image->snapshots.count; i++) {
    struct qcow2_snapshot live = image->snapshots.entries[i];

    if (date_of(&live) != date_of(entry) || live.l1_offset == entry->l1_offset)
      continue;
    live.l1_offset = entry->l1_offset;
    if (is_same(&live, entry))
      return true;
  }
  return false;
}

/* A snapshot table begins with the offset of an L1 table, and an L1 table with that of an L2 table.
   So where an entry seems to begin at an L1 table of one word, the snapshot table may have been
   written over the L1 table; or the L1 table over the first word of the entry, if the image still
   has the snapshot of that entry, and its true offset. */
static int settle_overwritten(const struct qcow2_image *image,
                              const struct qcow2_residue_looks *looks,
                              struct qcow2_deleted_entry *entry, struct qcow2_error *error)
{
  uint8_t bytes[SNAPSHOT_FIXED_BYTES];
  struct qcow2_snapshot snapshot;
  int code;

  if (!deleted_is_there(entry) ||
      qcow2_storage_read(&image->chain.layers[0]->file.storage, entry->l1_offset, bytes,
                         sizeof(bytes), NULL) != 0 ||
      !qcow2_residue_may_be_snapshot(looks, bytes))
    return 0;
  code = qcow2_deleted_decode(image, entry->l1_offset, &snapshot, error);
  if (code == QCOW2_ERROR_NOMEM)
    return code;
  if (code != 0 || !is_elsewhere(image, &snapshot))
    entry->l1 = QCOW2_RESIDUE_L1_GONE;
  if (code == 0)
    qcow2_snapshot_free(&snapshot);
  return 0;
}

static int settle_all(const struct qcow2_image *image, struct qcow2_deleted_entries *entries,
                      struct qcow2_error *error)
{
  const struct qcow2_layer *layer = image->chain.layers[0];
  struct qcow2_residue_looks looks = { .geometry = &layer->geometry,
                                       .file_size = layer->file.storage.size };
  int code = settle_overlaps(entries, error);

  for (size_t i = 0; code == 0 && i < entries->count; i++)
    code = settle_overwritten(image, &looks, &entries->entries[i], error);
  return code;
}

static int search(const struct qcow2_image *image, struct qcow2_deleted_entries **out,
                  struct qcow2_error *error)
{
  struct collection collection = { .entries = NULL };
  struct qcow2_residue_options options = { .struct_size = sizeof(options),
                                           .report = keep,
                                           .context = &collection };
  struct qcow2_residue_result result = { .is_complete = 0 };
  uint64_t failures = qcow2_storage_failures();
  int code = 0;

  if (make_room(&collection, ENTRIES_AT_FIRST))
    code = qcow2_inventory_snapshots(image, &options, &result, error);
  if (code == 0 && collection.has_no_memory)
    code = qcow2_error_set_nomem(error);
  if (code == 0) {
    collection.entries->is_complete = result.is_complete != 0;
    qsort(collection.entries->entries, collection.entries->count,
          sizeof(collection.entries->entries[0]), compare_offsets);
    code = settle_all(image, collection.entries, error);
    collection.entries->has_gaps = result.has_unreadable != 0 ||
                                   qcow2_storage_failures() != failures;
  }
  if (code == 0)
    *out = collection.entries;
  else
    free(collection.entries);
  return code;
}

int qcow2_deleted_entries(const struct qcow2_image *image,
                          const struct qcow2_deleted_entries **entries, struct qcow2_error *error)
{
  struct qcow2_deleted_entries *found = NULL;
  int code = 0;

  pthread_mutex_lock(&image->memo->lock);
  if (image->memo->deleted == NULL) {
    code = search(image, &found, error);
    image->memo->deleted = found;
    image->memo->has_gaps = image->memo->has_gaps || (found != NULL && found->has_gaps);
  }
  *entries = image->memo->deleted;
  pthread_mutex_unlock(&image->memo->lock);
  return code;
}

int qcow2_deleted_is_complete(const struct qcow2_image *image)
{
  bool has_gaps;

  pthread_mutex_lock(&image->memo->lock);
  has_gaps = image->memo->has_gaps;
  pthread_mutex_unlock(&image->memo->lock);
  return !has_gaps;
}

void qcow2_deleted_note_gaps(const struct qcow2_image *image)
{
  pthread_mutex_lock(&image->memo->lock);
  image->memo->has_gaps = true;
  pthread_mutex_unlock(&image->memo->lock);
}

int qcow2_image_deleted(const struct qcow2_image *image, qcow2_residue_report *report,
                        void *context, struct qcow2_error *error)
{
  const struct qcow2_deleted_entries *entries;
  int code = qcow2_deleted_entries(image, &entries, error);

  for (size_t i = 0; code == 0 && i < entries->count; i++) {
    const struct qcow2_deleted_entry *entry = &entries->entries[i];
    struct qcow2_snapshot snapshot;
    struct qcow2_residue_found found = { .kind = QCOW2_RESIDUE_SNAPSHOT_TABLE,
                                         .host_offset = entry->host_offset,
                                         .table_offset = entry->table_offset,
                                         .snapshot = &snapshot,
                                         .l1 = entry->l1 };

    code = qcow2_deleted_decode(image, entry->host_offset, &snapshot, error);
    if (code != 0)
      break;
    report(context, &found);
    qcow2_snapshot_free(&snapshot);
  }
  return code;
}
