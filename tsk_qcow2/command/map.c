/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 map: the disk in runs. What --json prints is described in map-json.md. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "command.h"
#include "pictures.h"
#include "progress.h"
#include "recovered.h"
#include "runs.h"

#define PATH_BYTES 4096

struct map {
  bool is_json, is_first, is_recovered;
  struct qcow2_view *labelled; /* the view, if it has labels and these are wanted; or NULL */
  struct qcow2_error failure;  /* why a label cannot be found; code 0: none has failed */
  uint64_t bytes[RUN_KINDS];
  struct progress progress;
};

/* ---- Runs ------------------------------------------------------------------------- */

static const char *truth(bool value)
{
  return value ? "true" : "false";
}

/* What qemu-img map calls these facts, and others, which it does not give. `label` may be NULL. */
static void print_json(struct map *map, const struct run *run, const char *label)
{
  bool is_data = run->kind == RUN_DATA || run->kind == RUN_COMPRESSED;

  printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
         ", \"depth\": %zu, \"present\": %s, \"zero\": %s, \"data\": %s, \"compressed\": %s",
         map->is_first ? "" : ",\n", run->start, run->length, run->layer,
         truth(run->kind != RUN_UNALLOCATED), truth(run_is_zero(run)), truth(is_data),
         truth(run->kind == RUN_COMPRESSED));
  if (run->host_offset != QCOW2_NO_OFFSET && !run->is_encrypted)
    printf(", \"offset\": %" PRIu64, run->host_offset);
  printf(", \"kind\": \"%s\", \"host_offset\": ", run_kind_name(run->kind));
  if (run->host_offset == QCOW2_NO_OFFSET)
    printf("null");
  else
    printf("%" PRIu64, run->host_offset);
  printf(", \"recovered\": %s, \"label\": ", truth(map->is_recovered));
  if (label == NULL)
    printf("null }");
  else
    printf("\"%s\" }", label);
  map->is_first = false;
}

/* How many of the bytes from `start` on have one label. 0: it cannot be found, see `failure`. */
static uint64_t same_label(struct map *map, uint64_t start, uint64_t length,
                           enum qcow2_label *label)
{
  struct qcow2_labelled next;
  uint64_t done = 0;

  for (; done < length; done += next.length) {
    if (qcow2_view_label(map->labelled, start + done, length - done, &next, &map->failure) != 0)
      return 0;
    if (done > 0 && next.label != *label)
      break;
    *label = next.label;
  }
  return done;
}

/* A part of the run for each label. False: a label cannot be found. */
static bool print_labelled(struct map *map, const struct run *run)
{
  struct run part = *run;
  enum qcow2_label label = QCOW2_LABEL_KEPT;
  uint64_t end = run->start + run->length;

  for (; part.start < end; part.start += part.length) {
    part.length = same_label(map, part.start, end - part.start, &label);
    if (part.length == 0)
      return false;
    print_json(map, &part, qcow2_label_name(label));
    if (part.host_offset != QCOW2_NO_OFFSET)
      part.host_offset += part.length;
  }
  return true;
}

static void print_text(const struct run *run)
{
  printf("%16" PRIu64 " %16" PRIu64 "  %-15s %5zu", run->start, run->length,
         run_kind_name(run->kind), run->layer);
  if (run->host_offset != QCOW2_NO_OFFSET)
    printf(" %16" PRIu64, run->host_offset);
  putchar('\n');
}

static bool hear_run(void *context, const struct run *run)
{
  struct map *map = context;

  progress_hide(&map->progress);
  if (!map->is_json)
    print_text(run);
  else if (map->labelled == NULL)
    print_json(map, run, NULL);
  else if (!print_labelled(map, run))
    return false;
  map->bytes[run->kind] += run->length;
  progress_show(&map->progress, run->start + run->length);
  return ferror(stdout) == 0;
}

/* ---- Around them -------------------------------------------------------------------- */

static void print_head(const struct tsk_qcow2_opened *opened)
{
  char path[PATH_BYTES], title[RECOVERED_TITLE_BYTES], shares[RECOVERED_SHARES_BYTES];
  struct qcow2_layer_info layer;

  for (size_t i = 0; qcow2_layer_get(opened->image, i, &layer, NULL) == 0; i++) {
    const char *name = layer.data_path != NULL ? layer.data_path : layer.path;

    printf("Layer %zu: %s (%s%s)\n", i,
           name == NULL ? "-" : qcow2_text_escape(name, strlen(name), path, sizeof(path)),
           layer.format, layer.data_path != NULL ? ", its data file" : "");
  }
  if (tsk_qcow2_opened_is_recovered(opened))
    printf("Recovered: %s; in bytes: %s\n", recovered_title(opened, opened->view, title),
           recovered_view_shares(opened->view, shares));
  printf("\n%16s %16s  %-15s %5s %16s\n", "Start", "Length", "Kind", "Layer", "Host offset");
}

static void print_totals(const struct map *map)
{
  putchar('\n');
  for (unsigned kind = 0; kind < RUN_KINDS; kind++)
    if (map->bytes[kind] > 0)
      printf("%-15s %16" PRIu64 " bytes\n", run_kind_name((enum run_kind) kind), map->bytes[kind]);
}

static int print_map(const struct tsk_qcow2_opened *opened, bool is_json)
{
  struct map map = { .is_json = is_json,
                     .is_first = true,
                     .is_recovered = tsk_qcow2_opened_is_recovered(opened) };
  const struct runs_listener listener = { .context = &map, .run = hear_run };
  uint64_t labels[QCOW2_LABELS_MAX];
  struct qcow2_error error;
  int code;

  complain_warnings(opened);
  if (is_json && qcow2_view_label_bytes(opened->view, labels, NULL) == 0)
    map.labelled = opened->view;
  if (is_json)
    printf("[");
  else
    print_head(opened);
  progress_start(&map.progress, "Mapping", qcow2_view_size(opened->view));
  code = runs_find(opened->image, opened->view, &listener, &error);
  progress_hide(&map.progress);
  if (code != 0 || map.failure.code != 0)
    return complain_failed("%s", code != 0 ? error.message : map.failure.message);
  if (is_json)
    printf("]\n");
  else
    print_totals(&map);
  return map.bytes[RUN_INVALID] + map.bytes[RUN_UNREADABLE] > 0 ||
                 tsk_qcow2_opened_has_gaps(opened, opened->view)
             ? EXIT_DAMAGED
             : EXIT_OK;
}

/* ---- Pictures ------------------------------------------------------------------------- */

#define GAP 16u

/* What the options choose; all that there are if they choose none. */
static bool is_wanted(unsigned given, unsigned option)
{
  return (given & (ARGUMENT_SVG_DISK | ARGUMENT_SVG_LAYERS | ARGUMENT_SVG_FILE)) == 0 ||
         (given & option) != 0;
}

/* Write the pictures one below the other. Returns the height of all. */
static unsigned write_pictures(const struct qcow2_image *image, const struct picture_pair *pair,
                               const struct picture *file, unsigned given, FILE *out)
{
  bool has_layers = qcow2_layer_count(image) > 1 || (given & ARGUMENT_SVG_LAYERS) != 0;
  unsigned y = 0;

  if (is_wanted(given, ARGUMENT_SVG_DISK))
    y += picture_write(&pair->kinds, y, out) + GAP;
  if (is_wanted(given, ARGUMENT_SVG_LAYERS) && has_layers)
    y += picture_write(&pair->layers, y, out) + GAP;
  if (file != NULL)
    y += picture_write(file, y, out) + GAP;
  return y - GAP;
}

static int print_pictures(const struct qcow2_image *image, const struct picture_pair *pair,
                          const struct picture *file, unsigned given)
{
  char *text = NULL;
  size_t size;
  FILE *body = open_memstream(&text, &size);
  unsigned height;

  if (body == NULL)
    return complain_failed("out of memory");
  height = write_pictures(image, pair, file, given, body);
  if (fclose(body) == 0)
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
           "height=\"%u\" style=\"color-scheme:light dark\">\n%s</svg>\n",
           PICTURE_WIDTH, height, PICTURE_WIDTH, height, text);
  free(text);
  return EXIT_OK;
}

static int draw_map(const struct tsk_qcow2_opened *opened, unsigned given)
{
  struct picture_pair *pair = NULL;
  struct picture *file = NULL;
  struct qcow2_error error;
  bool is_whole = true, has_damage;
  int code, status = EXIT_FAILED;

  complain_warnings(opened);
  code = pictures_of_disk(opened->image, opened->view, &pair, &error);
  if (code == 0 && is_wanted(given, ARGUMENT_SVG_FILE) &&
      picture_of_file(opened->image, &file, &error) != 0) {
    complain_failed("%s", error.message);
    is_whole = false;
    code = (given & ARGUMENT_SVG_FILE) != 0 ? error.code : 0;
  } else if (code != 0)
    complain_failed("%s", error.message);
  if (file != NULL && file->is_incomplete) {
    complain_failed("the picture of the file may be wrong: not all tables could be looked at");
    is_whole = false;
  }
  if (code == 0)
    status = print_pictures(opened->image, pair, file, given);
  has_damage = code == 0 &&
               (pair->kinds.has_damage || tsk_qcow2_opened_has_gaps(opened, opened->view));
  if (status == EXIT_OK && (has_damage || !is_whole))
    status = has_damage ? EXIT_DAMAGED : EXIT_INCOMPLETE;
  free(file);
  free(pair);
  return status;
}

/* ---- The command ---------------------------------------------------------------------- */

int command_map(int argc, char *argv[])
{
  struct arguments arguments = { .command = "map",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_JSON | ARGUMENT_SVG | ARGUMENT_SVG_DISK |
                                          ARGUMENT_SVG_LAYERS | ARGUMENT_SVG_FILE };
  struct tsk_qcow2_opened opened;
  bool is_svg;
  int status = arguments_parse(argc, argv, &arguments);

  if (status == EXIT_OK)
    status = arguments_open(&arguments, 0, TSK_QCOW2_WHOLE, &opened);
  if (status != EXIT_OK)
    return status;
  is_svg = (arguments.given & ~(unsigned) ARGUMENT_JSON) != 0;
  if (is_svg && (arguments.given & ARGUMENT_JSON) != 0)
    status = complain_usage("map prints either --json or --svg");
  else if (opened.is_residue)
    status = complain_usage("map shows where a disk is stored, and residue is no disk: name the "
                            "image without \",residue\"");
  else if (is_svg)
    status = draw_map(&opened, arguments.given);
  else
    status = print_map(&opened, (arguments.given & ARGUMENT_JSON) != 0);
  return arguments_finish(&opened, status);
}
