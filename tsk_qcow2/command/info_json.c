/* SPDX-License-Identifier: MIT */
/*
 * `tsk-qcow2 info --json`, as info-json.md describes it. Keys are the format's own terms, sizes and
 * offsets are bytes, absent things are null or empty lists. Names are escaped as in messages,
 * because JSON cannot contain bytes that are not UTF-8.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "json_value.h"
#include "recovered.h"
#include "report.h"

/* The most bytes of a header extension's data that are shown. */
#define HEX_BYTES_MAX 1024u

static json_t *features(const struct qcow2_image *image, enum qcow2_feature_type type,
                        uint64_t bits)
{
  json_t *list = json_array();

  for (unsigned bit = 0; bit < 64; bit++) {
    const char *name = qcow2_feature_name(image, type, bit);

    if ((bits >> bit & 1) != 0)
      json_array_append_new(list, json_pack("{s:i, s:o}", "bit", (int) bit, "name",
                                            json_text(name, name == NULL ? 0 : strlen(name))));
  }
  return list;
}

/* Every feature bit that has a name, from the image's table or else from the format. */
static json_t *feature_names_value(const struct qcow2_image *image)
{
  static const char *const types[] = { "incompatible", "compatible", "autoclear" };
  json_t *list = json_array();

  for (unsigned i = 0; i < 3 * 64; i++) {
    const char *name = qcow2_feature_name(image, (enum qcow2_feature_type)(i / 64), i % 64);

    if (name != NULL)
      json_array_append_new(list, json_pack("{s:s, s:i, s:o}", "type", types[i / 64], "bit",
                                            (int) (i % 64), "name", json_text(name, strlen(name))));
  }
  return list;
}

static json_t *header_value(const struct qcow2_image *image, const struct qcow2_header *header)
{
  static const char *const encryption[] = { "none", "aes", "luks" };

  return json_pack(
      "{s:i, s:i, s:o, s:i, s:s, s:s, s:o, s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}",
      "version", (int) header->version, "header_length", (int) header->header_length,
      "virtual_size", json_number(header->size), "cluster_size", 1 << header->cluster_bits,
      "compression", header->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "deflate",
      "encryption", encryption[header->crypt_method], "refcount_bits",
      header->version == 1 ? json_null() : json_integer(1 << header->refcount_order), "l1_offset",
      json_number(header->l1_offset), "l1_size", (json_int_t) header->l1_size,
      "refcount_table_offset", json_number(header->refcount_table_offset), "snapshot_count",
      (json_int_t) header->snapshot_count, "incompatible_features",
      features(image, QCOW2_FEATURE_INCOMPATIBLE, header->incompatible_features),
      "compatible_features", features(image, QCOW2_FEATURE_COMPATIBLE, header->compatible_features),
      "autoclear_features", features(image, QCOW2_FEATURE_AUTOCLEAR, header->autoclear_features),
      "backing_file", json_text(header->backing_file, header->backing_file_length),
      "backing_format", json_text(header->backing_format, header->backing_format_length),
      "data_file", json_text(header->data_file, header->data_file_length));
}

static json_t *slots_value(const struct qcow2_encryption_info *info)
{
  json_t *list = json_array();

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    json_array_append_new(list, json_pack("{s:b, s:I}", "active", info->slots[i].is_active,
                                          "iterations", (json_int_t) info->slots[i].iterations));
  return list;
}

/* An empty string as null. */
static json_t *name_value(const char *name)
{
  return name[0] == '\0' ? json_null() : json_text(name, strlen(name));
}

static json_t *luks_value(const struct qcow2_encryption_info *info)
{
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "hash", name_value(info->hash), "uuid",
                   name_value(info->uuid), "header_offset", json_number(info->header_offset),
                   "payload_offset", json_number(info->payload_offset), "key_slots",
                   slots_value(info));
}

/* null: not encrypted. A LUKS header that cannot be used gives {"error": ...}. */
static json_t *encryption_value(const struct qcow2_image *image)
{
  struct qcow2_encryption_info info;
  struct qcow2_error error;

  if (qcow2_encryption_get(image, 0, &info, &error) != 0)
    return json_pack("{s:s}", "error", error.message);
  if (info.method == 0)
    return json_null();
  return json_pack("{s:o, s:i, s:o, s:o, s:o, s:o}", "cipher", name_value(info.cipher), "key_bits",
                   (int) info.key_bits, "mode", name_value(info.mode), "ivgen",
                   name_value(info.ivgen), "ivgen_hash", name_value(info.ivgen_hash), "luks",
                   info.method == 2 ? luks_value(&info) : json_null());
}

static json_t *path_value(const char *path)
{
  return json_text(path, path == NULL ? 0 : strlen(path));
}

static json_t *layers_value(const struct qcow2_image *image)
{
  struct qcow2_layer_info layer;
  json_t *list = json_array();

  for (size_t i = 0; qcow2_layer_get(image, i, &layer, NULL) == 0; i++)
    json_array_append_new(
        list,
        json_pack("{s:s, s:o, s:o, s:o, s:b, s:o, s:o, s:s?, s:o, s:o, s:o, s:o}", "format",
                  layer.format, "path", path_value(layer.path), "offset", json_number(layer.offset),
                  "written", layer.written == 0 ? json_null() : json_integer(layer.written),
                  "hidden", layer.is_hidden, "notes", json_notes(image, i), "data_path",
                  path_value(layer.data_path), "data_format", layer.data_format, "file_size",
                  json_number(layer.file_size), "allocated_size",
                  layer.allocated_size == 0 ? json_null() : json_number(layer.allocated_size),
                  "needed_size", layer.is_raw ? json_null() : json_number(layer.needed_size),
                  "virtual_size", json_number(layer.size)));
  return list;
}

static json_t *snapshot_value(const struct qcow2_image *image, size_t index, uint64_t *runs)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index);
  struct qcow2_error error;
  int code = qcow2_snapshot_check(image, index, &error);

  (void) runs;
  return json_pack("{s:o, s:o, s:I, s:I, s:o, s:o, s:b, s:o, s:I, s:s?}", "id",
                   json_text(snapshot->id, snapshot->id_length), "name",
                   json_text(snapshot->name, snapshot->name_length), "date_seconds",
                   (json_int_t) snapshot->date_seconds, "date_nanoseconds",
                   (json_int_t) snapshot->date_nanoseconds, "vm_clock_nanoseconds",
                   json_number(snapshot->vm_clock_nanoseconds), "disk_size",
                   json_number(snapshot->disk_size), "disk_size_recorded", snapshot->has_disk_size,
                   "vm_state_size", json_number(snapshot->vm_state_size), "icount",
                   (json_int_t) snapshot->icount, "error", code == 0 ? NULL : error.message);
}

/* Up to HEX_BYTES_MAX bytes as hexadecimal digits. */
static json_t *hex_value(const uint8_t *bytes, size_t length)
{
  char digits[2 * HEX_BYTES_MAX + 1] = "";

  for (size_t i = 0; bytes != NULL && i < length && i < HEX_BYTES_MAX; i++)
    snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
  return json_string(digits);
}

static json_t *extensions_value(const struct qcow2_image *image)
{
  const struct qcow2_extension *extension;
  json_t *list = json_array();
  char type[16];

  for (size_t i = 0; (extension = qcow2_extension_get(image, 0, i)) != NULL; i++) {
    snprintf(type, sizeof(type), "0x%08" PRIx32, extension->type);
    json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:o}", "type", type, "length",
                                          (json_int_t) extension->length, "host_offset",
                                          (json_int_t) extension->host_offset, "data_hex",
                                          hex_value(extension->data, extension->length)));
  }
  return list;
}

static json_t *bitmap_value(const struct qcow2_image *image, size_t index, uint64_t *runs)
{
  const struct qcow2_bitmap *bitmap = qcow2_bitmap_get(image, index);
  struct qcow2_error error;
  uint64_t bytes;
  int code = qcow2_bitmap_dirty_bytes(image, index, runs, &bytes, &error);

  return json_pack("{s:o, s:o, s:b, s:b, s:b, s:o, s:s?}", "name",
                   json_text(bitmap->name, bitmap->name_length), "granularity",
                   json_number(bitmap->granularity), "consistent", bitmap->is_consistent, "in_use",
                   (bitmap->flags & QCOW2_BITMAP_IN_USE) != 0, "auto",
                   (bitmap->flags & QCOW2_BITMAP_AUTO) != 0, "dirty_bytes",
                   code == 0 && *runs > 0 ? json_number(bytes) : json_null(), "error",
                   code == 0 ? NULL : error.message);
}

/* ---- The whole --------------------------------------------------------------- */

/* True if the object says why something cannot be read. */
static bool has_error(const json_t *value)
{
  return json_is_string(json_object_get(value, "error"));
}

/* Print a list of `count` items as a member. `runs` is the number of runs of bits that may be
   looked at to describe the items. *is_whole becomes false if one of them cannot be read. */
static bool print_list(const char *key, const struct qcow2_image *image, size_t count,
                       json_t *(*item)(const struct qcow2_image *image, size_t index,
                                       uint64_t *runs),
                       bool *is_whole)
{
  uint64_t runs = TSK_QCOW2_REPORT_RUNS;
  bool good = true;

  printf(",\n  \"%s\": [", key);
  for (size_t i = 0; good && i < count; i++) {
    json_t *value = item(image, i, &runs);

    *is_whole = *is_whole && !has_error(value);
    good = json_print_item(value, i == 0);
  }
  json_print_list_end(count == 0);
  return good;
}

int info_print_json(const struct tsk_qcow2_opened *opened)
{
  const struct qcow2_image *image = opened->image;
  struct qcow2_layer_info top;
  json_t *encryption;
  bool is_whole;

  if (qcow2_layer_get(image, 0, &top, NULL) != 0)
    return complain_failed("the image has no header");
  encryption = encryption_value(image);
  is_whole = !has_error(encryption);
  printf("{\n  \"format\": \"qcow2\"");
  if (!json_print_member("header", header_value(image, top.header)) ||
      !json_print_member("encryption_details", encryption) ||
      !json_print_member("layers", layers_value(image)) ||
      !print_list("snapshots", image, qcow2_snapshot_count(image), snapshot_value, &is_whole) ||
      !json_print_member("lost_snapshot_count", json_number(qcow2_snapshot_lost_count(image))) ||
      !print_list("bitmaps", image, qcow2_bitmap_count(image), bitmap_value, &is_whole) ||
      !json_print_member("lost_bitmap_count", json_number(qcow2_bitmap_lost_count(image))) ||
      !json_print_member("header_extensions", extensions_value(image)) ||
      !json_print_member("feature_names", feature_names_value(image)) ||
      !json_print_member("recovered", recovered_value(opened)) ||
      !json_print_member("warnings", json_warnings(opened)))
    return complain_failed("cannot write the JSON: out of memory");
  printf("\n}\n");
  return is_whole ? EXIT_OK : EXIT_DAMAGED; /* whether all was written is found out at the end */
}
