/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "chain_picture.h"
#include "notes.h"

#define TEXT_BYTES 1024
#define XCP_NG_EXTENSION UINT32_C(0x76617465)

/* Print "Label: text", the text escaped. */
static void print_text(FILE *out, const char *label, const char *text, size_t length)
{
  char escaped[TEXT_BYTES];

  fprintf(out, "%s: %s\n", label, qcow2_text_escape(text, length, escaped, sizeof(escaped)));
}

char *tsk_qcow2_report_date(const struct qcow2_snapshot *snapshot, char *out, size_t out_size)
{
  time_t seconds = (time_t) snapshot->date_seconds;
  struct tm parts;

  if (gmtime_r(&seconds, &parts) == NULL ||
      strftime(out, out_size, "%Y-%m-%d %H:%M:%S (UTC)", &parts) == 0)
    snprintf(out, out_size, "%" PRIu32, snapshot->date_seconds);
  return out;
}

static void print_features(FILE *out, const struct qcow2_image *image, const char *label,
                           enum qcow2_feature_type type, uint64_t bits)
{
  for (unsigned bit = 0; bit < 64; bit++) {
    const char *name = qcow2_feature_name(image, type, bit);
    char escaped[256] = "(not named)";

    if ((bits >> bit & 1) == 0)
      continue;
    if (name != NULL)
      qcow2_text_escape(name, strlen(name), escaped, sizeof(escaped));
    fprintf(out, "%s feature: bit %u, %s\n", label, bit, escaped);
  }
}

/* Append to the text in `out`. */
static void append(char *out, size_t out_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *out, size_t out_size, const char *format, ...)
{
  size_t used = strlen(out);
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(out + used, out_size - used, format, arguments);
  va_end(arguments);
}

static void print_luks(FILE *out, const struct qcow2_encryption_info *info)
{
  char slots[64] = "", uuid[sizeof(info->uuid) * 4 + 1];

  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    if (info->slots[i].is_active)
      append(slots, sizeof(slots), "%s%u", slots[0] == '\0' ? "" : ", ", i);
  fprintf(out, "Encryption: LUKS (%s-%" PRIu32 "-%s-%s%s%s, %s; active key slots %s)\n",
          info->cipher, info->key_bits, info->mode, info->ivgen,
          info->ivgen_hash[0] == '\0' ? "" : ":", info->ivgen_hash, info->hash,
          slots[0] == '\0' ? "none" : slots);
  fprintf(out, "LUKS UUID: %s\n",
          qcow2_text_escape(info->uuid, strlen(info->uuid), uuid, sizeof(uuid)));
}

/* False: the encryption cannot be described. */
static bool print_encryption(FILE *out, const struct qcow2_image *image, uint32_t method)
{
  struct qcow2_encryption_info info;
  struct qcow2_error error;

  if (method == 0)
    fprintf(out, "Encryption: none\n");
  else if (qcow2_encryption_get(image, 0, &info, &error) != 0) {
    fprintf(out, "Encryption: LUKS (its header cannot be used: %s)\n", error.message);
    return false;
  } else if (method == 1)
    fprintf(out, "Encryption: legacy AES (%s-%" PRIu32 "-%s-%s)\n", info.cipher, info.key_bits,
            info.mode, info.ivgen);
  else
    print_luks(out, &info);
  return true;
}

/* What version 1 has not. */
static void print_refcounts_and_features(FILE *out, const struct qcow2_image *image,
                                         const struct qcow2_header *header)
{
  fprintf(out, "Refcount width in bits: %u\n", 1u << header->refcount_order);
  print_features(out, image, "Incompatible", QCOW2_FEATURE_INCOMPATIBLE,
                 header->incompatible_features);
  print_features(out, image, "Compatible", QCOW2_FEATURE_COMPATIBLE, header->compatible_features);
  print_features(out, image, "Autoclear", QCOW2_FEATURE_AUTOCLEAR, header->autoclear_features);
}

/* False: some of it cannot be described. So it is for the functions below that return a bool. */
static bool print_header(FILE *out, const struct qcow2_image *image,
                         const struct qcow2_header *header)
{
  bool is_whole;

  fprintf(out, "Format: %s, version %" PRIu32 "\n", header->version == 1 ? "qcow" : "qcow2",
          header->version);
  fprintf(out, "Virtual size in bytes: %" PRIu64 "\n", header->size);
  if (header->size % 512 != 0)
    fprintf(out, "Note: the virtual size is not a multiple of 512; QEMU shows %" PRIu64 " bytes\n",
            header->size / 512 * 512);
  fprintf(out, "Cluster size: %" PRIu32 "\n", UINT32_C(1) << header->cluster_bits);
  fprintf(out, "Compression: %s\n",
          header->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "deflate");
  is_whole = print_encryption(out, image, header->crypt_method);
  if (header->version > 1)
    print_refcounts_and_features(out, image, header);
  if (header->backing_file != NULL)
    print_text(out, "Backing file, as written", header->backing_file, header->backing_file_length);
  if (header->backing_format != NULL)
    print_text(out, "Backing format, as written", header->backing_format,
               header->backing_format_length);
  if (header->data_file != NULL)
    print_text(out, "External data file, as written", header->data_file, header->data_file_length);
  return is_whole;
}

static void print_notes(FILE *out, const struct qcow2_image *image, size_t layer)
{
  char note[TSK_QCOW2_NOTE_BYTES];

  for (size_t i = 0; tsk_qcow2_note(image, layer, i, note) != NULL; i++)
    fprintf(out, "  note: %s\n", note);
}

static void print_layer(FILE *out, size_t index, const struct qcow2_layer_info *layer)
{
  char escaped[TEXT_BYTES];

  fprintf(out, "Layer %zu: %s, %" PRIu64 " bytes, a disk of %" PRIu64 " bytes: ", index,
          layer->format, layer->file_size, layer->size);
  fprintf(out, "%s\n",
          qcow2_text_escape(layer->path == NULL ? "" : layer->path,
                            layer->path == NULL ? 0 : strlen(layer->path), escaped,
                            sizeof(escaped)));
  if (layer->data_path != NULL)
    print_text(out, "  its data file", layer->data_path, strlen(layer->data_path));
}

static void print_chain(FILE *out, const struct qcow2_image *image)
{
  struct qcow2_layer_info layer;

  for (size_t i = 0; i < qcow2_layer_count(image); i++)
    if (qcow2_layer_get(image, i, &layer, NULL) == 0) {
      print_layer(out, i, &layer);
      print_notes(out, image, i);
    }
}

static void print_extensions(FILE *out, const struct qcow2_image *image)
{
  const struct qcow2_extension *extension;

  for (size_t i = 0; (extension = qcow2_extension_get(image, 0, i)) != NULL; i++)
    fprintf(out,
            "Header extension: 0x%08" PRIx32 ", %" PRIu32 " bytes at host offset %" PRIu64 "%s\n",
            extension->type, extension->length, extension->host_offset,
            extension->type == XCP_NG_EXTENSION ? " (XCP-ng's)" : "");
}

/* The facts that are there only if the machine was running. */
static void print_machine(FILE *out, const struct qcow2_snapshot *snapshot)
{
  fprintf(out, ", VM state of %" PRIu64 " bytes, VM clock %" PRIu64 ".%09" PRIu64 " s",
          snapshot->vm_state_size, snapshot->vm_clock_nanoseconds / 1000000000,
          snapshot->vm_clock_nanoseconds % 1000000000);
  if (snapshot->icount != -1)
    fprintf(out, ", icount %" PRId64, snapshot->icount);
}

static void print_snapshot(FILE *out, const char *word, const struct qcow2_snapshot *snapshot)
{
  char id[256], name[TEXT_BYTES], date[64];

  fprintf(out, "%s: ID %s, name \"%s\", %s, disk of %" PRIu64 " bytes%s", word,
          qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
          qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)),
          tsk_qcow2_report_date(snapshot, date, sizeof(date)), snapshot->disk_size,
          snapshot->has_disk_size ? "" : " (not recorded: the active disk's)");
  print_machine(out, snapshot);
}

static void print_snapshots(FILE *out, const struct tsk_qcow2_opened *opened)
{
  const struct qcow2_snapshot *snapshot;

  for (size_t i = 0; (snapshot = qcow2_snapshot_get(opened->image, i)) != NULL; i++) {
    print_snapshot(out, "Snapshot", snapshot);
    fprintf(out, "%s\n", i == opened->snapshot_index ? " <- this one is open" : "");
  }
}

/* Where the chosen deleted snapshot is printed. */
struct chosen {
  FILE *out;
  uint64_t l1_offset;
  bool is_printed;
};

static void print_if_chosen(void *context, const struct qcow2_residue_found *found)
{
  struct chosen *chosen = context;

  if (found->snapshot->l1_offset != chosen->l1_offset || chosen->is_printed ||
      (found->l1 != QCOW2_RESIDUE_L1_THERE && found->l1 != QCOW2_RESIDUE_L1_UNKNOWN))
    return;
  print_snapshot(chosen->out, "Deleted snapshot, recovered", found->snapshot);
  fprintf(chosen->out, ", L1 table at host offset %" PRIu64 " <- this one is open\n",
          found->snapshot->l1_offset);
  chosen->is_printed = true;
}

/* A state that the image no longer has, if the name chose one. */
static bool print_recovered(FILE *out, const struct tsk_qcow2_opened *opened)
{
  struct chosen chosen = { out, opened->deleted_l1, false };
  struct qcow2_error error;
  bool is_whole = true;

  if (opened->is_abandoned)
    fprintf(out, "Abandoned state, if there is one, recovered by guess <- this one is chosen\n");
  if (opened->deleted_l1 != 0 &&
      qcow2_image_deleted(opened->image, print_if_chosen, &chosen, &error) != 0) {
    fprintf(out, "Deleted snapshot, recovered: %s\n", error.message);
    is_whole = false;
  }
  if (opened->is_in_recovered)
    fprintf(out, "Inside a disk that is recovered\n");
  return is_whole;
}

static bool print_bitmaps(FILE *out, const struct qcow2_image *image)
{
  bool is_whole = true;
  const struct qcow2_bitmap *bitmap;
  uint64_t bytes, runs = TSK_QCOW2_REPORT_RUNS;
  struct qcow2_error error;
  char name[TEXT_BYTES];

  for (size_t i = 0; (bitmap = qcow2_bitmap_get(image, i)) != NULL; i++) {
    fprintf(out, "Bitmap: name \"%s\", granularity %" PRIu64 " bytes, %s%s%s",
            qcow2_text_escape(bitmap->name, bitmap->name_length, name, sizeof(name)),
            bitmap->granularity, bitmap->is_consistent ? "consistent" : "inconsistent",
            (bitmap->flags & QCOW2_BITMAP_IN_USE) != 0 ? ", in use" : "",
            (bitmap->flags & QCOW2_BITMAP_AUTO) != 0 ? ", auto" : "");
    if (qcow2_bitmap_dirty_bytes(image, i, &runs, &bytes, &error) != 0) {
      fprintf(out, ", cannot be read: %s\n", error.message);
      is_whole = false;
    } else
      fprintf(out, ", %s%" PRIu64 " bytes dirty\n",
              runs > 0 ? "" : "too fragmented to count: at least ", bytes);
  }
  return is_whole;
}

static void print_sizes(FILE *out, const struct qcow2_layer_info *top)
{
  if (top->offset > 0)
    fprintf(out, "Offset of the image in its file: %" PRIu64 "\n", top->offset);
  fprintf(out, "File size in bytes%s: %" PRIu64 "\n", top->offset > 0 ? ", from there on" : "",
          top->file_size);
  if (top->allocated_size > 0)
    fprintf(out, "File size on its file system: %" PRIu64 "\n", top->allocated_size);
  fprintf(out, "File size that its tables need: %" PRIu64 "\n", top->needed_size);
  if (top->file_size > top->needed_size)
    fprintf(out,
            "Bytes after that: %" PRIu64 ", from host offset %" PRIu64
            " on (\",residue\" after the image name reads them)\n",
            top->file_size - top->needed_size, top->needed_size);
}

bool tsk_qcow2_report_print(FILE *out, const struct tsk_qcow2_opened *opened)
{
  struct qcow2_layer_info top;
  const char *warning;
  bool is_whole;

  if (qcow2_layer_get(opened->image, 0, &top, NULL) != 0)
    return false;
  is_whole = print_header(out, opened->image, top.header);
  print_sizes(out, &top);
  print_chain(out, opened->image);
  tsk_qcow2_chain_picture(out, opened->image);
  print_extensions(out, opened->image);
  print_snapshots(out, opened);
  is_whole = print_recovered(out, opened) && is_whole;
  if (opened->errors_zero)
    fprintf(out, "Errors: what cannot be read reads as zeros (errors=zero)\n");
  if (opened->is_residue)
    fprintf(out,
            "Residue: a stream of %" PRIu64 " bytes, in which every byte that something refers to "
            "is zero (residue)\n",
            top.file_size);
  if (opened->under_zeros)
    fprintf(out, "Zeros: what is stored under zero, allocated clusters is shown (under-zeros)\n");
  is_whole = print_bitmaps(out, opened->image) && is_whole;
  for (size_t i = 0; (warning = tsk_qcow2_opened_warning(opened, i)) != NULL; i++)
    fprintf(out, "Warning: %s\n", warning);
  return is_whole;
}
