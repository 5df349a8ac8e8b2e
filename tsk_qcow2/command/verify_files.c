/* SPDX-License-Identifier: MIT */
/* The files that states are read from, and their tables and refcounts. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "findings.h"
#include "json_value.h"
#include "notes.h"
#include "verify.h"

/* The most work of checking all files of the chain, in bytes of tables: see struct
   qcow2_check_options. */
#define WORK_BYTES (UINT64_C(64) << 30)
#define ESCAPED_BYTES 4096

/* ---- Their names ----------------------------------------------------------- */

static char *escape_path(const char *path, char out[ESCAPED_BYTES])
{
  return qcow2_text_escape(path == NULL ? "" : path, path == NULL ? 0 : strlen(path), out,
                           ESCAPED_BYTES);
}

void verify_print_files(const struct verify *verify)
{
  const struct qcow2_image *image = verify->opened.image;
  struct qcow2_layer_info layer;
  char path[ESCAPED_BYTES], note[TSK_QCOW2_NOTE_BYTES];

  for (size_t i = 0; !verify->json && qcow2_layer_get(image, i, &layer, NULL) == 0; i++) {
    printf("File: %s (%s, %s)\n", escape_path(layer.path, path), i == 0 ? "image" : "backing file",
           layer.format);
    if (layer.data_path != NULL)
      printf("File: %s (data file, %s)\n", escape_path(layer.data_path, path), layer.data_format);
    for (size_t n = 0; tsk_qcow2_note(image, i, n, note) != NULL; n++)
      printf("  note: %s\n", note);
  }
}

static json_t *path_value(const char *path)
{
  return json_text(path, path == NULL ? 0 : strlen(path));
}

/* True for files with refcounts, against which their tables can be checked. */
static bool can_be_checked(const struct qcow2_layer_info *layer)
{
  return !layer->is_raw && layer->header->version > 1;
}

static json_t *tables_value(const struct qcow2_layer_info *layer,
                            const struct qcow2_check_result *result)
{
  if (!can_be_checked(layer))
    return json_null();
  return json_pack("{s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "corruptions",
                   json_number(result->corruptions), "leaks", json_number(result->leaks), "defects",
                   json_number(result->defects), "unreadable", json_number(result->unreadable),
                   "complete", result->is_complete, "unreferenced_clusters",
                   json_number(result->unreferenced_clusters), "unreferenced_bytes",
                   json_number(findings_unreferenced_bytes(result, layer)));
}

static void keep_values(struct verify *verify, size_t index, const struct qcow2_layer_info *layer,
                        const struct qcow2_check_result *result)
{
  json_t *files = verify->tables.files;

  json_array_append_new(files,
                        json_pack("{s:o, s:s, s:s, s:o, s:o, s:o}", "path", path_value(layer->path),
                                  "role", index == 0 ? "image" : "backing_file", "format",
                                  layer->format, "size", json_number(layer->file_size), "tables",
                                  tables_value(layer, result), "notes",
                                  json_notes(verify->opened.image, index)));
  if (layer->data_path != NULL)
    json_array_append_new(files,
                          json_pack("{s:o, s:s, s:s, s:n, s:n, s:[]}", "path",
                                    path_value(layer->data_path), "role", "data_file", "format",
                                    layer->data_format, "size", "tables", "notes"));
}

/* ---- Their tables ------------------------------------------------------------ */

/* Print what the check found. */
static void print_result(const struct qcow2_layer_info *layer,
                         const struct qcow2_check_result *result)
{
  uint64_t serious = findings_serious(result), of_refcounts = result->of_refcounts;
  char path[ESCAPED_BYTES];

  escape_path(layer->path, path);
  if (serious > 0)
    printf("Tables of %s: %" PRIu64
           " finding%s; reading what these name may fail, or give other bytes than were written\n",
           path, serious, serious == 1 ? "" : "s");
  if (of_refcounts > 0)
    printf("Refcounts of %s: %" PRIu64 " finding%s; reading does not use refcounts\n", path,
           of_refcounts, of_refcounts == 1 ? "" : "s");
  if (result->leaks > 0)
    printf("Not referred to in %s: %" PRIu64 " clusters (%" PRIu64 " bytes) of %" PRIu64
           " that are marked as used; "
           "%" PRIu64 " more with fewer references than their refcounts say\n",
           path, result->unreferenced_clusters, findings_unreferenced_bytes(result, layer),
           result->unreferenced_clusters + result->used_clusters,
           result->leaks - result->unreferenced_clusters);
  if (!result->is_complete)
    printf("Not checked in %s: tables and refcounts from byte %" PRIu64 " of %" PRIu64 " on\n",
           path, result->checked_to, layer->file_size);
}

static void add_result(struct verify_tables *tables, const struct qcow2_layer_info *layer,
                       const struct qcow2_check_result *result)
{
  uint64_t serious = findings_serious(result), of_refcounts = result->of_refcounts;

  if (tables->first_path == NULL &&
      (serious > 0 || of_refcounts > 0 || result->leaks > 0 || !result->is_complete))
    tables->first_path = layer->path;
  tables->finding_count += serious;
  tables->refcount_count += of_refcounts;
  tables->leak_count += result->leaks;
  tables->unreferenced_count += result->unreferenced_clusters;
  tables->unreferenced_bytes += findings_unreferenced_bytes(result, layer);
  tables->unfinished_count += !result->is_complete;
}

int verify_check_files(struct verify *verify)
{
  const struct qcow2_image *image = verify->opened.image;
  struct qcow2_check_options options = { .struct_size = sizeof(options),
                                         .work_bytes = WORK_BYTES / qcow2_layer_count(image) };
  struct qcow2_layer_info layer;
  struct qcow2_error error;

  for (size_t i = 0; qcow2_layer_get(image, i, &layer, NULL) == 0; i++) {
    struct qcow2_check_result result = { .is_complete = 1 };

    if (can_be_checked(&layer) && qcow2_layer_check(image, i, &options, &result, &error) != 0)
      return complain_failed("%s", error.message);
    if (can_be_checked(&layer))
      add_result(&verify->tables, &layer, &result);
    if (verify->json)
      keep_values(verify, i, &layer, &result);
    else if (can_be_checked(&layer))
      print_result(&layer, &result);
  }
  return EXIT_OK;
}
