/* SPDX-License-Identifier: MIT */
/* `tsk-qcow2 residue`: what is in the file though nothing refers to it? --json prints what
   residue-json.md describes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "command.h"
#include "json_value.h"
#include "rebuild.h"
#include "recovered.h"
#include "report.h"
#include "residue_deleted.h"
#include "shell.h"
#include "stream_files.h"

/* The most things of a kind that are listed, and the most bytes of a name. All are counted. */
#define LISTED_MAX 10000u
#define NAME_BYTES_MAX 1024u
#define TEXT_BYTES (4 * NAME_BYTES_MAX + 8)

struct residue {
  bool is_json;
  struct qcow2_residue_result result;
  uint64_t counts[QCOW2_RESIDUE_KINDS];         /* of what was found */
  json_t *snapshots, *bitmaps, *tables, *lines; /* `lines` for text, the others for JSON */
  const char *name;                             /* as typed */
  bool is_named;                                /* the name has ",residue" already */
  struct stream_files files;                    /* --streams */
  struct recovered_list *deleted;
};

/* ---- What is found --------------------------------------------------------------- */

static const char *l1_name(enum qcow2_residue_l1 l1)
{
  switch (l1) {
  case QCOW2_RESIDUE_L1_THERE: return "there";
  case QCOW2_RESIDUE_L1_GONE: return "gone";
  case QCOW2_RESIDUE_L1_REUSED: return "reused";
  case QCOW2_RESIDUE_L1_UNKNOWN: break;
  }
  return "unknown";
}

static size_t cut(size_t length)
{
  return length < NAME_BYTES_MAX ? length : NAME_BYTES_MAX;
}

static json_t *snapshot_value(const struct qcow2_residue_found *found)
{
  const struct qcow2_snapshot *snapshot = found->snapshot;
  char date[64];

  return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "host_offset",
                   json_number(found->host_offset), "id",
                   json_text(snapshot->id, cut(snapshot->id_length)), "name",
                   json_text(snapshot->name, cut(snapshot->name_length)), "date",
                   tsk_qcow2_report_date(snapshot, date, sizeof(date)), "date_seconds",
                   json_number(snapshot->date_seconds), "date_nanoseconds",
                   json_number(snapshot->date_nanoseconds), "disk_size",
                   snapshot->has_disk_size ? json_number(snapshot->disk_size) : json_null(),
                   "vm_state_size", json_number(snapshot->vm_state_size), "l1_offset",
                   json_number(snapshot->l1_offset), "l1_size", json_number(snapshot->l1_size),
                   "l1", l1_name(found->l1));
}

static json_t *bitmap_value(const struct qcow2_residue_found *found)
{
  const struct qcow2_bitmap *bitmap = found->bitmap;

  return json_pack("{s:o, s:o, s:o, s:o}", "host_offset", json_number(found->host_offset), "name",
                   json_text(bitmap->name, cut(bitmap->name_length)), "granularity",
                   json_number(bitmap->granularity), "table_offset",
                   json_number(bitmap->table_offset));
}

static json_t *snapshot_line(const struct qcow2_residue_found *found)
{
  const struct qcow2_snapshot *snapshot = found->snapshot;
  char id[TEXT_BYTES], name[TEXT_BYTES], date[64], *line = malloc(3 * TEXT_BYTES);
  json_t *value;

  if (line == NULL)
    return NULL;
  qcow2_text_escape(snapshot->id, cut(snapshot->id_length), id, sizeof(id));
  qcow2_text_escape(snapshot->name, cut(snapshot->name_length), name, sizeof(name));
  snprintf(line, 3 * TEXT_BYTES,
           "Old snapshot entry: ID %s, name \"%s\", %s, disk of %" PRIu64
           " bytes, VM state of %" PRIu64 " bytes; at host offset %" PRIu64
           "; its L1 table, at %" PRIu64 ", is %s",
           id, name, tsk_qcow2_report_date(snapshot, date, sizeof(date)), snapshot->disk_size,
           snapshot->vm_state_size, found->host_offset, snapshot->l1_offset, l1_name(found->l1));
  value = json_string(line);
  free(line);
  return value;
}

static json_t *bitmap_line(const struct qcow2_residue_found *found)
{
  char name[TEXT_BYTES];

  qcow2_text_escape(found->bitmap->name, cut(found->bitmap->name_length), name, sizeof(name));
  return json_sprintf("Old bitmap entry: name \"%s\", granularity %" PRIu64
                      " bytes; at host offset %" PRIu64,
                      name, found->bitmap->granularity, found->host_offset);
}

/* Keep what was found, to be printed after the totals. */
static void keep_found(void *context, const struct qcow2_residue_found *found)
{
  struct residue *residue = context;

  if (residue->counts[found->kind]++ >= LISTED_MAX)
    return;
  if (found->snapshot != NULL)
    json_array_append_new(residue->is_json ? residue->snapshots : residue->lines,
                          residue->is_json ? snapshot_value(found) : snapshot_line(found));
  else if (found->bitmap != NULL)
    json_array_append_new(residue->is_json ? residue->bitmaps : residue->lines,
                          residue->is_json ? bitmap_value(found) : bitmap_line(found));
  else if (residue->is_json)
    json_array_append_new(residue->tables,
                          json_pack("{s:s, s:o}", "kind", qcow2_residue_kind_name(found->kind),
                                    "host_offset", json_number(found->host_offset)));
}

/* qcow2_residue_report_stream */
static int write_stream(void *context, const struct qcow2_residue_stream *stream)
{
  struct residue *residue = context;

  return stream_files_write(&residue->files, stream);
}

/* ---- As text ----------------------------------------------------------------------- */

static const char *where_text(unsigned where)
{
  static const char *const texts[QCOW2_RESIDUE_WHERES] = {
    "clusters that nothing refers to",
    "clusters after the last one in use",
    "stored under zeros",
    "unallocated or zero subclusters",
    "after the end of a disk",
    "beside compressed streams",
    "after the end of tables",
    "after the header",
  };

  return texts[where];
}

static const char *kind_text(unsigned kind)
{
  static const char *const texts[QCOW2_RESIDUE_KINDS] = {
    "holes",
    "zeros",
    "data",
    "old L1 tables",
    "old L2 tables",
    "old refcount tables",
    "old refcount blocks",
    "old snapshot tables",
    "old bitmap directories",
    "qcow2 headers",
    "old compressed streams",
  };

  return texts[kind];
}

static void print_bytes(const struct qcow2_residue_result *result)
{
  printf("Residue: %" PRIu64 " of the file's %" PRIu64 " bytes\n\n%-38s %16s %16s\n",
         result->residue_bytes, result->file_bytes, "Where", "bytes", "not zeros");
  for (unsigned i = 0; i < QCOW2_RESIDUE_WHERES; i++)
    if (result->where_bytes[i] > 0)
      printf("%-38s %16" PRIu64 " %16" PRIu64 "\n", where_text(i), result->where_bytes[i],
             result->where_data_bytes[i]);
  printf("\n%-38s %16s\n", "What it looks like", "bytes");
  for (unsigned i = 0; i < QCOW2_RESIDUE_KINDS; i++)
    if (result->kind_bytes[i] > 0)
      printf("%-38s %16" PRIu64 "\n", kind_text(i), result->kind_bytes[i]);
  if (result->random_bytes > 0)
    printf("%-38s %16" PRIu64 "\n", "data, random: encrypted or compressed", result->random_bytes);
}

static void print_found(const struct residue *residue)
{
  static const enum qcow2_residue_kind LISTED[] = { QCOW2_RESIDUE_SNAPSHOT_TABLE,
                                                    QCOW2_RESIDUE_BITMAP_DIRECTORY };

  if (json_array_size(residue->lines) > 0)
    putchar('\n');
  for (size_t i = 0; i < json_array_size(residue->lines); i++)
    printf("%s\n", json_string_value(json_array_get(residue->lines, i)));
  for (size_t i = 0; i < sizeof(LISTED) / sizeof(LISTED[0]); i++)
    if (residue->counts[LISTED[i]] > LISTED_MAX)
      printf("... and %" PRIu64 " more entries of %s\n", residue->counts[LISTED[i]] - LISTED_MAX,
             kind_text(LISTED[i]));
}

/* Print a command for the image with an option added, after what it is for. */
static void print_command(const struct residue *residue, const char *purpose, const char *tool,
                          const char *option, const char *end)
{
  char quoted[SHELL_COMMAND_BYTES], *name;
  size_t size = strlen(residue->name) + strlen(option) + 1;

  name = malloc(size);
  if (name == NULL)
    return;
  snprintf(name, size, "%s%s", residue->name, option);
  if (!tsk_qcow2_shell_quote(name, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "IMAGE%s", option);
  printf("%s: %s %s%s\n", purpose, tool, quoted, end);
  free(name);
}

static void print_streams(const struct residue *residue)
{
  const struct stream_files *files = &residue->files;
  char quoted[SHELL_COMMAND_BYTES];

  if (files->directory == NULL) {
    if (residue->result.stream_count > 0)
      printf("\nOld compressed streams: %" PRIu64 "; \"--streams DIRECTORY\" writes them out\n",
             residue->result.stream_count);
    return;
  }
  if (!tsk_qcow2_shell_quote(files->directory, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "DIRECTORY");
  printf("\nOld compressed streams: %" PRIu64 ", of which %" PRIu64 " (%" PRIu64
         " bytes) were written to %s\n",
         residue->result.stream_count, files->count, files->bytes, quoted);
  if (files->is_full)
    printf("No more were written: the limits are %" PRIu64 " files and %" PRIu64 " bytes.\n",
           STREAM_FILES_MAX, STREAM_FILES_BYTES_MAX);
}

static void print_incomplete(const struct qcow2_residue_result *result)
{
  if (result->is_complete)
    return;
  if (result->checked_to < result->file_bytes || result->has_unreadable)
    printf("Incomplete: the file was looked at up to byte %" PRIu64 "%s.\n", result->checked_to,
           result->has_unreadable ? ", and some of it cannot be read" : "");
  else
    printf("Incomplete: there are more old entries, or what looks like them, than are listed.\n");
}

static void print_next(const struct residue *residue)
{
  const struct qcow2_residue_result *result = &residue->result;
  uint64_t data = 0;

  for (unsigned i = 0; i < QCOW2_RESIDUE_WHERES; i++)
    data += result->where_data_bytes[i];
  printf("\n");
  print_incomplete(result);
  if (data == 0) {
    printf(result->is_complete ? "Nothing is left: all residue is zeros.\n"
                               : "All residue that was looked at is zeros.\n");
    return;
  }
  if (result->where_data_bytes[QCOW2_RESIDUE_UNDER_ZEROS] > 0 && !residue->is_named)
    print_command(residue, "The disk with what is stored under zeros", "img_stat -i qcow2",
                  ",under-zeros", "");
  print_command(residue, "All residue, for carvers", "img_cat -i qcow2",
                residue->is_named ? "" : ",residue", " > residue.raw");
}

/* ---- As JSON ------------------------------------------------------------------------ */

static json_t *where_value(const struct qcow2_residue_result *result)
{
  json_t *object = json_object();

  for (unsigned i = 0; i < QCOW2_RESIDUE_WHERES; i++)
    json_object_set_new(object, qcow2_residue_where_name((enum qcow2_residue_where) i),
                        json_pack("{s:o, s:o}", "bytes", json_number(result->where_bytes[i]),
                                  "data_bytes", json_number(result->where_data_bytes[i])));
  return object;
}

static json_t *kinds_value(const struct qcow2_residue_result *result)
{
  json_t *object = json_object();

  for (unsigned i = 0; i < QCOW2_RESIDUE_KINDS; i++)
    json_object_set_new(object, qcow2_residue_kind_name((enum qcow2_residue_kind) i),
                        json_number(result->kind_bytes[i]));
  return object;
}

static json_t *streams_value(const struct residue *residue)
{
  const struct stream_files *files = &residue->files;

  return json_pack("{s:o, s:o, s:o, s:b}", "count", json_number(residue->result.stream_count),
                   "written", json_number(files->count), "written_bytes", json_number(files->bytes),
                   "limited", files->is_full);
}

static int print_json(const struct residue *residue, const struct tsk_qcow2_opened *opened)
{
  const struct qcow2_residue_result *result = &residue->result;
  uint64_t tables = 0;
  json_t *root;

  for (unsigned i = 0; i < QCOW2_RESIDUE_KINDS; i++)
    if (i != QCOW2_RESIDUE_SNAPSHOT_TABLE && i != QCOW2_RESIDUE_BITMAP_DIRECTORY)
      tables += residue->counts[i];
  root = json_pack(
      "{s:o, s:o, s:b, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:O, s:O, s:o, s:o, s:o, s:o}",
      "file_size", json_number(result->file_bytes), "residue_bytes",
      json_number(result->residue_bytes), "complete", result->is_complete, "checked_to",
      json_number(result->checked_to), "unreadable", result->has_unreadable, "where",
      where_value(result), "kinds", kinds_value(result), "random_bytes",
      json_number(result->random_bytes), "snapshot_count",
      json_number(residue->counts[QCOW2_RESIDUE_SNAPSHOT_TABLE]), "bitmap_count",
      json_number(residue->counts[QCOW2_RESIDUE_BITMAP_DIRECTORY]), "table_count",
      json_number(tables), "snapshots", residue->snapshots, "bitmaps", residue->bitmaps, "tables",
      residue->tables, "streams", streams_value(residue), "deleted",
      residue_deleted_value(residue->deleted), "recovered", recovered_value(opened), "warnings",
      json_warnings(opened));
  return json_print_whole(root);
}

/* ---- The command ---------------------------------------------------------------------- */

/* Look for deleted snapshots, and how much of them is left. False: after complaining. */
static bool look_for_deleted(const struct tsk_qcow2_opened *opened, struct residue *residue)
{
  const struct qcow2_image *image = opened->image;

  residue->deleted = recovered_find(image, 0, true);
  if (residue->deleted == NULL)
    return false;
  if (residue->deleted->is_incomplete || opened->is_in_gaps)
    residue->result.is_complete = 0;
  if (!qcow2_deleted_is_complete(image) || opened->is_in_gaps)
    residue->result.has_unreadable = 1;
  return true;
}

static int look_at_image(const struct tsk_qcow2_opened *opened, struct residue *residue)
{
  struct qcow2_residue_options options = { .struct_size = sizeof(options),
                                           .report = keep_found,
                                           .context = residue,
                                           .report_stream = residue->files.directory == NULL
                                                                ? NULL
                                                                : write_stream };
  struct qcow2_error error;
  int status = EXIT_OK;

  if (qcow2_image_residue(opened->image, &options, &residue->result, &error) != 0)
    return complain_failed("%s", error.message);
  if (!look_for_deleted(opened, residue))
    return EXIT_FAILED;
  if (residue->is_json)
    status = print_json(residue, opened);
  else {
    print_warnings(opened);
    print_bytes(&residue->result);
    print_found(residue);
    print_streams(residue);
    residue_deleted_print(residue->deleted, residue->name);
    print_next(residue);
  }
  if (residue->files.has_failed)
    status = EXIT_FAILED;
  if (status != EXIT_OK)
    return status;
  return residue->result.is_complete && !residue->files.is_full ? EXIT_OK : EXIT_INCOMPLETE;
}

/* Look at what is open, unless it is one state. */
static int look(const struct tsk_qcow2_opened *opened, const struct arguments *arguments)
{
  struct residue residue = { .is_json = (arguments->given & ARGUMENT_JSON) != 0,
                             .name = arguments->operands[0],
                             .is_named = opened->is_residue,
                             .snapshots = json_array(),
                             .bitmaps = json_array(),
                             .tables = json_array(),
                             .lines = json_array() };
  int status = EXIT_OK;

  if (opened->snapshot_index != QCOW2_ACTIVE || opened->deleted_l1 != 0 || opened->is_abandoned ||
      opened->under_zeros)
    status = complain_usage(
        "residue looks at the whole file, with all its snapshots: name it without \"@\" and "
        "\"under-zeros\"");
  else if (arguments->streams != NULL)
    status = stream_files_open(&residue.files, arguments->streams);
  if (status == EXIT_OK)
    status = look_at_image(opened, &residue);
  stream_files_close(&residue.files);
  recovered_free(residue.deleted);
  json_decref(residue.snapshots);
  json_decref(residue.bitmaps);
  json_decref(residue.tables);
  json_decref(residue.lines);
  return status;
}

int command_residue(int argc, char *argv[])
{
  struct arguments arguments = { .command = "residue",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_JSON | ARGUMENT_STREAMS | ARGUMENT_REBUILD |
                                          ARGUMENT_MAP };
  struct tsk_qcow2_opened opened;
  int status = arguments_parse(argc, argv, &arguments);

  if (status == EXIT_OK && (arguments.given & ARGUMENT_REBUILD) != 0)
    return arguments.streams != NULL || arguments.map != NULL
               ? complain_usage(
                     "residue: --rebuild looks at the tables only: leave out --streams and --map")
               : rebuild_print(arguments.operands[0], (arguments.given & ARGUMENT_JSON) != 0);
  if (status == EXIT_OK && arguments.map != NULL)
    return arguments.streams != NULL
               ? complain_usage("residue: --map lists the clusters of one deleted snapshot only: "
                                "leave out --streams")
               : residue_deleted_map(&arguments);
  if (status == EXIT_OK)
    status = arguments_open(&arguments, 0, TSK_QCOW2_HEADER_ONLY, &opened);
  return status == EXIT_OK ? arguments_finish(&opened, look(&opened, &arguments)) : status;
}
