/* SPDX-License-Identifier: MIT */
#include "rebuild.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "image_name.h"
#include "json_value.h"
#include "shell.h"

#define NAME_BYTES_MAX 1024u
#define OPTIONS_BYTES 256u
/* Fewer clusters say nothing about encryption. */
#define RANDOM_CLUSTERS_MIN 8u

struct rebuild {
  const char *path;
  uint64_t offset; /* where in its file the image begins */
  bool is_json;
  size_t count;
  size_t random;   /* of these: those of which all clusters that were looked at are random */
  json_t *layouts; /* JSON only */
};

/* ---- Words ------------------------------------------------------------------------- */

static const char *size_name(enum qcow2_rebuilt_size source)
{
  switch (source) {
  case QCOW2_REBUILT_BY_SNAPSHOT: return "snapshot";
  case QCOW2_REBUILT_BY_PARTITIONS: return "partitions";
  case QCOW2_REBUILT_BY_OTHERS: return "other-snapshot";
  case QCOW2_REBUILT_BY_TABLES: break;
  }
  return "tables";
}

static const char *size_text(enum qcow2_rebuilt_size source)
{
  switch (source) {
  case QCOW2_REBUILT_BY_SNAPSHOT: return "by the snapshot's entry";
  case QCOW2_REBUILT_BY_PARTITIONS: return "by the disk's partition table";
  case QCOW2_REBUILT_BY_OTHERS: return "by the entry of another snapshot";
  case QCOW2_REBUILT_BY_TABLES: break;
  }
  return "to the last cluster that is stored: it may be larger";
}

/* True if only L2 tables are left. */
static bool has_no_l1(const struct qcow2_layout *layout)
{
  return (layout->flags & QCOW2_LAYOUT_NO_L1) != 0;
}

/* True if the tables lead to a data file, of which only the user can know which one it is. */
static bool has_data_file(const struct qcow2_layout *layout)
{
  return (layout->flags & QCOW2_LAYOUT_DATA_FILE) != 0;
}

/* The state that is opened by such a layout. */
static const char *selection_of(const struct qcow2_layout *layout)
{
  return has_no_l1(layout) ? "@abandoned" : "";
}

/* What to add to the path. */
static void print_options(const struct qcow2_layout *layout, char out[OPTIONS_BYTES])
{
  char l1[24] = "none";

  if (!has_no_l1(layout))
    snprintf(l1, sizeof(l1), "%" PRIu64, layout->l1_offset);
  snprintf(out, OPTIONS_BYTES, ",l1=%s,cluster-bits=%" PRIu32 ",size=%" PRIu64 "%s%s%s", l1,
           layout->cluster_bits, layout->size,
           (layout->flags & QCOW2_LAYOUT_EXTENDED_L2) != 0 ? ",extended-l2" : "",
           (layout->flags & QCOW2_LAYOUT_ZSTD) != 0 ? ",compression=zstd" : "",
           has_data_file(layout) ? ",data-file=PATH" : "");
}

/* The image name. NULL: no memory; the caller frees. */
static char *compose(const struct rebuild *rebuild, const char *selection,
                     const struct qcow2_layout *layout)
{
  char options[OPTIONS_BYTES], offset[40] = "";
  size_t size = strlen(rebuild->path) + strlen(selection) + sizeof(offset) + sizeof(options);
  char *name = malloc(size);

  print_options(layout, options);
  if (rebuild->offset != 0)
    snprintf(offset, sizeof(offset), ",offset=%" PRIu64, rebuild->offset);
  if (name != NULL)
    snprintf(name, size, "%s%s%s%s", rebuild->path, selection, offset, options);
  return name;
}

static size_t name_length(const struct qcow2_snapshot *snapshot)
{
  return snapshot->name_length < NAME_BYTES_MAX ? snapshot->name_length : NAME_BYTES_MAX;
}

/* ---- As text ------------------------------------------------------------------------- */

static void print_command(const struct rebuild *rebuild, const struct qcow2_layout *layout,
                          const char *selection)
{
  char quoted[SHELL_COMMAND_BYTES], *name = compose(rebuild, selection, layout);

  if (name == NULL || !tsk_qcow2_shell_quote(name, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "IMAGE,...");
  printf("   img_stat -i qcow2 %s\n", quoted);
  free(name);
}

/* What speaks for the layout, and against it. */
static void print_counts(const struct qcow2_rebuilt *rebuilt)
{
  printf("   %" PRIu64 " L2 tables, %" PRIu64 " lost; %" PRIu64 " clusters, %" PRIu64
         " of them compressed; %" PRIu64 " entries lead %s\n",
         rebuilt->l2_tables, rebuilt->lost_l2_tables, rebuilt->clusters + rebuilt->compressed,
         rebuilt->compressed, rebuilt->bad_entries,
         has_data_file(&rebuilt->layout) ? "elsewhere than to their offsets of the disk"
                                         : "nowhere");
  if (rebuilt->streams_tried > 0)
    printf("   %" PRIu64 " of %" PRIu64 " compressed clusters could be decompressed\n",
           rebuilt->streams_good, rebuilt->streams_tried);
  if (rebuilt->tables_counted > 0)
    printf("   %" PRIu64 " of its %" PRIu64
           " tables are in use by the file's refcounts, which have "
           "%" PRIu32 " bits\n",
           rebuilt->tables_in_use, rebuilt->tables_counted, rebuilt->refcount_bits);
  if (rebuilt->clusters_random > 0)
    printf("   %" PRIu32 " of %" PRIu32
           " clusters that were looked at are as random as ciphertext or compressed files\n",
           rebuilt->clusters_random, rebuilt->clusters_tried);
  if (!rebuilt->is_exact)
    printf("   all its clusters also lie at multiples of twice this cluster size\n");
}

static void print_layout(const struct rebuild *rebuild, const struct qcow2_rebuilt *rebuilt)
{
  const struct qcow2_layout *layout = &rebuilt->layout;
  char name[4 * NAME_BYTES_MAX + 8];

  printf("%zu. clusters of %" PRIu32 " bytes%s, ", rebuild->count,
         UINT32_C(1) << layout->cluster_bits,
         (layout->flags & QCOW2_LAYOUT_EXTENDED_L2) != 0 ? " with extended L2 entries" : "");
  if (has_no_l1(layout))
    printf("no L1 table, a disk of %" PRIu64 " bytes (%s)\n", layout->size,
           rebuilt->size_source == QCOW2_REBUILT_BY_TABLES && !has_data_file(layout)
               ? "as many as its L2 tables are for: it may be larger"
               : size_text(rebuilt->size_source));
  else
    printf("L1 table at host offset %" PRIu64 ", a disk of %" PRIu64 " bytes (%s)\n",
           layout->l1_offset, layout->size, size_text(rebuilt->size_source));
  if (rebuilt->snapshot != NULL)
    printf("   it is the L1 table of the snapshot \"%s\"\n",
           qcow2_text_escape(rebuilt->snapshot->name, name_length(rebuilt->snapshot), name,
                             sizeof(name)));
  print_counts(rebuilt);
  if (has_data_file(layout))
    printf("   its data are in another file, its data file: put the path of that for PATH\n");
  print_command(rebuild, layout, selection_of(layout));
  if (rebuilt->stray_tables > 0 && rebuilt->snapshot != NULL) {
    printf("   %" PRIu64 " more L2 tables have lost their L1 table. To place them by guess:\n",
           rebuilt->stray_tables);
    print_command(rebuild, layout, "@abandoned");
  }
}

static void print_text(const struct rebuild *rebuild, const struct qcow2_rebuild_result *result)
{
  if (result->layouts > rebuild->count)
    printf("... and %" PRIu64 " more\n", result->layouts - rebuild->count);
  if (result->layouts == 0)
    printf("Neither L1 nor L2 tables were found.\n");
  else
    printf("\nAll of this is guessed by the form of the tables; the most likely comes first.\n");
  if (result->has_header)
    printf("The file has a qcow2 header: it may need none of this.\n");
  if (rebuild->random > 0)
    printf(
        "Where all clusters are as random as ciphertext, the image may have been encrypted; a disk "
        "full of compressed files looks the same. With legacy AES, add: "
        ",encryption=aes,key-file=PATH\n%s",
        result->luks_offset != 0
            ? ""
            : "No LUKS header was found; without one, LUKS cannot be decrypted.\n");
  if (result->luks_offset != 0)
    printf("A LUKS header is at host offset %" PRIu64
           ". If the image was encrypted, add: ,luks=%" PRIu64 ",key-file=PATH\n",
           result->luks_offset, result->luks_offset);
  if (!result->is_complete)
    printf("Incomplete: a limit was reached, or some of the file cannot be read.\n");
}

/* ---- As JSON --------------------------------------------------------------------------- */

static json_t *layout_value(const struct rebuild *rebuild, const struct qcow2_rebuilt *rebuilt)
{
  const struct qcow2_layout *layout = &rebuilt->layout;
  char *name = compose(rebuild, selection_of(layout), layout);
  json_t *value =
      json_pack("{s:o, s:o, s:o, s:o, s:b, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                "s:o, s:b, s:o, s:b, s:o, s:o, s:o}",
                "image", name == NULL ? json_null() : json_text(name, strlen(name)), "l1_offset",
                has_no_l1(layout) ? json_null() : json_number(layout->l1_offset), "cluster_bits",
                json_number(layout->cluster_bits), "size", json_number(layout->size), "extended_l2",
                (layout->flags & QCOW2_LAYOUT_EXTENDED_L2) != 0, "compression",
                (layout->flags & QCOW2_LAYOUT_ZSTD) != 0 ? "zstd" : "deflate", "size_source",
                size_name(rebuilt->size_source), "snapshot",
                rebuilt->snapshot == NULL
                    ? json_null()
                    : json_text(rebuilt->snapshot->name, name_length(rebuilt->snapshot)),
                "l2_tables", json_number(rebuilt->l2_tables), "lost_l2_tables",
                json_number(rebuilt->lost_l2_tables), "clusters", json_number(rebuilt->clusters),
                "compressed", json_number(rebuilt->compressed), "bad_entries",
                json_number(rebuilt->bad_entries), "tables_in_use",
                json_number(rebuilt->tables_in_use), "tables_counted",
                json_number(rebuilt->tables_counted), "streams_tried",
                json_number(rebuilt->streams_tried), "streams_good",
                json_number(rebuilt->streams_good), "exact", rebuilt->is_exact, "stray_tables",
                json_number(rebuilt->stray_tables), "data_file", has_data_file(layout),
                "refcount_bits",
                rebuilt->refcount_bits == 0 ? json_null() : json_number(rebuilt->refcount_bits),
                "clusters_tried", json_number(rebuilt->clusters_tried), "clusters_random",
                json_number(rebuilt->clusters_random));

  free(name);
  return value;
}

static int print_json(const struct rebuild *rebuild, const struct qcow2_rebuild_result *result)
{
  return json_print_whole(
      json_pack("{s:o, s:o, s:O, s:b, s:b, s:o}", "file_size", json_number(result->file_bytes),
                "layout_count", json_number(result->layouts), "layouts", rebuild->layouts,
                "complete", result->is_complete, "header", result->has_header, "luks_offset",
                result->luks_offset == 0 ? json_null() : json_number(result->luks_offset)));
}

/* ---- Both --------------------------------------------------------------------------------- */

static void take_layout(void *context, const struct qcow2_rebuilt *rebuilt)
{
  struct rebuild *rebuild = context;

  rebuild->count++;
  rebuild->random += rebuilt->clusters_tried >= RANDOM_CLUSTERS_MIN &&
                     rebuilt->clusters_random == rebuilt->clusters_tried;
  if (rebuild->is_json)
    json_array_append_new(rebuild->layouts, layout_value(rebuild, rebuilt));
  else
    print_layout(rebuild, rebuilt);
}

/* Look for layouts, and print them. */
static int print_all(const char *path, uint64_t offset, bool is_json,
                     struct qcow2_rebuild_result *result)
{
  struct rebuild rebuild = {
    .path = path, .offset = offset, .is_json = is_json, .layouts = json_array()
  };
  struct qcow2_rebuild_options options = {
    .struct_size = sizeof(options), .report = take_layout, .context = &rebuild, .offset = offset
  };
  struct qcow2_error error;
  int status = EXIT_OK;

  if (qcow2_rebuild(path, &options, result, &error) != 0)
    status = complain_failed("%s", error.message);
  else if (is_json)
    status = print_json(&rebuild, result);
  else
    print_text(&rebuild, result);
  json_decref(rebuild.layouts);
  return status;
}

int rebuild_print(const char *file, bool is_json)
{
  struct qcow2_rebuild_result result = { .layouts = 0 };
  struct tsk_qcow2_name name;
  struct qcow2_error error;
  const char *rest;
  int status;

  if (tsk_qcow2_name_parse(file, &name, &error) != 0)
    return complain_failed("%s", error.message);
  rest = file + (strncmp(file, name.path, strlen(name.path)) == 0 ? strlen(name.path) : 0);
  if (rest[0] != '\0' && (strncmp(rest, ",offset=", 8) != 0 || strchr(rest + 1, ',') != NULL))
    status = complain_usage("residue: --rebuild takes a file, with \"offset=\" at most");
  else
    status = print_all(name.path, name.offset, is_json, &result);
  tsk_qcow2_name_free(&name);
  if (status != EXIT_OK)
    return status;
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  if (!result.is_complete)
    return EXIT_INCOMPLETE;
  return result.layouts > 0 ? EXIT_OK : EXIT_FAILED;
}
