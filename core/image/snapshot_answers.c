/* SPDX-License-Identifier: MIT */
/* The public functions about the snapshots of an image. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "image.h"

size_t qcow2_snapshot_count(const struct qcow2_image *image)
{
  return image->snapshots.count;
}

size_t qcow2_snapshot_lost_count(const struct qcow2_image *image)
{
  return image->chain.layers[0]->metadata.header.snapshot_count - image->snapshots.count;
}

const struct qcow2_snapshot *qcow2_snapshot_get(const struct qcow2_image *image, size_t index)
{
  return index < image->snapshots.count ? &image->snapshots.entries[index] : NULL;
}

static bool text_equals(const char *key, const char *text, size_t length)
{
  return strlen(key) == length && memcmp(key, text, length) == 0;
}

static bool snapshot_matches(const struct qcow2_snapshot *snapshot, const char *key,
                             enum qcow2_snapshot_key by)
{
  bool id = text_equals(key, snapshot->id, snapshot->id_length);
  bool name = text_equals(key, snapshot->name, snapshot->name_length);

  return (id && by != QCOW2_BY_NAME) || (name && by != QCOW2_BY_ID);
}

/* True if a list for this key contains the snapshot. An empty key: it contains all. */
static bool is_listed(const struct qcow2_snapshot *snapshot, const char *key,
                      enum qcow2_snapshot_key by)
{
  return key[0] == '\0' || snapshot_matches(snapshot, key, by);
}

/* Write a list of snapshots, as 'ID 1 "name"', as many as fit. Returns true if all fit. */
static bool list_snapshots(const struct qcow2_image *image, const char *key,
                           enum qcow2_snapshot_key by, char *out, size_t out_size)
{
  static const char more[] = ", and more";
  size_t used = 0;

  out[0] = '\0';
  for (size_t i = 0; i < image->snapshots.count; i++) {
    const struct qcow2_snapshot *snapshot = &image->snapshots.entries[i];
    char item[160], id[48], name[96];

    if (!is_listed(snapshot, key, by))
      continue;
    qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
    qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name));
    snprintf(item, sizeof(item), "%sID %s \"%s\"", used > 0 ? ", " : "", id, name);
    if (used + strlen(item) + sizeof(more) > out_size) {
      snprintf(out + used, out_size - used, "%s", more);
      return false;
    }
    memcpy(out + used, item, strlen(item) + 1);
    used += strlen(item);
  }
  return true;
}

static int not_found(const struct qcow2_image *image, const char *key, struct qcow2_error *error)
{
  size_t lost = qcow2_snapshot_lost_count(image);
  char list[560], quoted[TEXT_ESCAPED_BYTES];
  const char *what = key[0] == '\0' ? "the snapshot's name is empty" : "there is no such snapshot";
  bool lists_all = list_snapshots(image, "", QCOW2_BY_ID_OR_NAME, list, sizeof(list));

  qcow2_text_quote(key, quoted);
  if (image->snapshots.count == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "%s: \"%s\"; the image has %s", what,
                           quoted,
                           lost == 0 ? "no snapshots" : "a snapshot table that cannot be read");
  qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "%s: \"%s\"; the image has %s%s", what, quoted,
                  list, lost == 0 ? "" : ", and more that cannot be read");
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_FOUND,
                              lists_all ? QCOW2_HELP_NONE : QCOW2_HELP_SNAPSHOT_LIST, 0);
}

int qcow2_snapshot_find(const struct qcow2_image *image, const char *key,
                        enum qcow2_snapshot_key by, size_t *index, struct qcow2_error *error)
{
  char list[560], quoted[TEXT_ESCAPED_BYTES];
  size_t matches = 0, match = 0;

  for (size_t i = 0; key[0] != '\0' && i < image->snapshots.count; i++)
    if (snapshot_matches(&image->snapshots.entries[i], key, by) && matches++ == 0)
      match = i;
  if (matches == 1) {
    *index = match;
    return 0;
  }
  if (matches == 0)
    return not_found(image, key, error);
  list_snapshots(image, key, by, list, sizeof(list));
  qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "\"%s\" means several snapshots: %s",
                  qcow2_text_quote(key, quoted), list);
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_FOUND, QCOW2_HELP_SNAPSHOT_KEY, 0);
}

int qcow2_snapshot_check(const struct qcow2_image *image, size_t index, struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index);
  const struct qcow2_layer *top = image->chain.layers[0];
  uint64_t file_size = top->file.storage.size;
  char id[TEXT_ESCAPED_BYTES];
  int code;

  if (snapshot == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "there is no snapshot of that index: the image has %zu",
                           image->snapshots.count);
  code = qcow2_snapshot_vm_state_error(top, snapshot, error);
  if (code != 0 ||
      range_fits(snapshot->l1_offset, (uint64_t) snapshot->l1_size * L1_ENTRY_BYTES, file_size))
    return code;
  return qcow2_error_set_at(
      error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, snapshot->l1_offset,
      "the file ends at byte %" PRIu64
      ", before the end of the L1 table of snapshot ID %s at host offset %" PRIu64,
      file_size, qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
      snapshot->l1_offset);
}
