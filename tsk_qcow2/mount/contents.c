/* SPDX-License-Identifier: MIT */
#include "contents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "../command/command.h"
#include "../command/recovered.h"
#include "../command/selector_file_name.h"
#include "info.h"

#define PATH_BYTES 512
/* States that cannot be opened are told one by one up to this number. */
#define TOLD_MAX 100u

/* What is being built. */
struct building {
  struct contents *contents;
  const struct qcow2_image *image;
  struct timespec image_time;
  uint64_t failed; /* states that cannot be opened */
};

/* ---- What is said ---------------------------------------------------------------- */

/* states_report */
static void report_state(void *context, size_t state, bool is_damage, const char *sentence)
{
  const struct contents *contents = context;
  const char *weight = is_damage ? "error" : "warning";
  char path[PATH_BYTES];

  tree_path(&contents->tree, contents->nodes[state], path, sizeof(path));
  if (contents->to_syslog)
    syslog(is_damage ? LOG_ERR : LOG_WARNING, "%s: %s: %s", weight, path, sentence);
  else
    complain_failed("%s: %s: %s", weight, path, sentence);
}

/* A file of the image changed while it was mounted. */
static void report_change(void *context, const char *sentence)
{
  const struct contents *contents = context;

  if (contents->to_syslog)
    syslog(LOG_WARNING, "warning: %s", sentence);
  else
    complain_failed("warning: %s", sentence);
}

/* ---- States ---------------------------------------------------------------------- */

/* A snapshot's date, or the time at which a file was changed. */
static struct timespec time_of_snapshot(const struct qcow2_snapshot *snapshot)
{
  return (struct timespec){ .tv_sec = (time_t) snapshot->date_seconds,
                            .tv_nsec = (long) (snapshot->date_nanoseconds % 1000000000u) };
}

static struct timespec time_of_file(const char *path)
{
  struct stat status;

  return path != NULL && stat(path, &status) == 0 ? status.st_mtim : (struct timespec){ 0 };
}

/* The directory of that name in the root, made when it is needed. 0: no memory. */
static size_t directory_of(struct building *building, const char *name)
{
  struct tree *tree = &building->contents->tree;
  size_t number = name == NULL ? TREE_ROOT : tree_find(tree, TREE_ROOT, name);

  return number != 0 || name == NULL ? number
                                     : tree_add_directory(tree, name, &building->image_time);
}

/* Note which file is a state's. */
static bool note_node(struct contents *contents, size_t state, size_t number)
{
  size_t *nodes = realloc(contents->nodes, (state + 1) * sizeof(nodes[0]));

  if (nodes == NULL)
    return false;
  contents->nodes = nodes;
  nodes[state] = number;
  contents->state_count++;
  return true;
}

/* Say that a state cannot be read: `name` is what its file would be called. */
static void complain_state(struct building *building, const char *directory, const char *name,
                           const struct qcow2_error *error)
{
  if (building->failed++ < TOLD_MAX)
    complain_failed("error: %s%s%s is not there: %s", directory == NULL ? "" : directory,
                    directory == NULL ? "" : "/", name, error->message);
}

/* Where a state's file goes, and what it is called. */
struct place {
  const char *directory; /* NULL: the root */
  const char *stem, *extension;
  struct timespec time;
};

/* Say what whoever reads the state's file must know. */
static void complain_view(struct contents *contents, size_t number, const struct qcow2_view *view)
{
  char path[PATH_BYTES];
  const char *warning;

  tree_path(&contents->tree, number, path, sizeof(path));
  contents->is_incomplete = contents->is_incomplete || qcow2_view_has_gaps(view);
  for (size_t i = 0; (warning = qcow2_view_warning(view, i)) != NULL; i++)
    complain_failed("warning: %s: %s", path, warning);
}

/* Add the file of a state that can be opened, or (`view` is NULL) will be at its first use. Returns
   an exit status. */
static int add_file(struct building *building, const struct place *place,
                    const struct tsk_qcow2_state *state, const struct qcow2_view *view,
                    uint64_t size)
{
  struct contents *contents = building->contents;
  struct tree_node file = { .kind = TREE_STATE, .size = size, .time = place->time };
  size_t directory = directory_of(building, place->directory), number;

  if (!states_add(contents->states, state, view == NULL, &file.content) ||
      (directory == TREE_ROOT && place->directory != NULL))
    return complain_failed("out of memory");
  number = tree_add_file(&contents->tree, directory, place->stem, place->extension, &file);
  if (number == 0 || !note_node(contents, file.content, number))
    return complain_failed("out of memory");
  contents->total += file.size <= UINT64_MAX - contents->total ? file.size : 0;
  if (view != NULL)
    complain_view(contents, number, view);
  return EXIT_OK;
}

/* Add a state; one that cannot be opened is reported, and left out. Returns an exit status. */
static int add_state(struct building *building, const struct place *place,
                     const struct tsk_qcow2_state *state)
{
  char name[SELECTOR_FILE_NAME_BYTES];
  struct qcow2_disk *disk = NULL;
  struct qcow2_error error;
  int code = tsk_qcow2_disk_open_state(building->contents->image, state, &disk, &error);
  int status = EXIT_OK;

  if (code == QCOW2_ERROR_NOMEM)
    return complain_failed("%s", error.message);
  if (code == 0 && qcow2_view_size(qcow2_disk_view(disk)) > INT64_MAX)
    code = qcow2_error_set(&error, QCOW2_ERROR_UNSUPPORTED, "no file can have 2^63 bytes or more");
  if (code == 0)
    status = add_file(building, place, state, qcow2_disk_view(disk),
                      qcow2_view_size(qcow2_disk_view(disk)));
  else {
    selector_file_name_number(place->stem, 1, place->extension, name);
    complain_state(building, place->directory, name, &error);
  }
  qcow2_disk_close(disk);
  return status;
}

static int add_active(struct building *building)
{
  const struct place place = { NULL, "active", ".raw", building->image_time };
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE };

  return add_state(building, &place, &state);
}

static int add_residue(struct building *building)
{
  const struct place place = { NULL, "residue", ".raw", building->image_time };
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE };

  return add_state(building, &place, &state);
}

/* Add the residue beside the states. It is opened at its first use: that takes a walk over all
   tables. Where it cannot be had by the image's name with ",residue", it is not there. */
static int add_residue_later(struct building *building)
{
  const struct place place = { NULL, "residue", ".raw", building->image_time };
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE, .is_residue = true };
  struct qcow2_layer_info top;

  if (qcow2_layer_get(building->image, 0, &top, NULL) != 0 || top.header == NULL ||
      top.header->version < 2 || top.file_size > INT64_MAX ||
      tsk_qcow2_disk_opened(building->contents->image)->under_zeros)
    return EXIT_OK;
  return add_file(building, &place, &state, NULL, top.file_size);
}

static int add_abandoned(struct building *building)
{
  const struct place place = { NULL, "abandoned", ".raw", building->image_time };
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE };

  return add_state(building, &place, &state);
}

static int add_snapshot(struct building *building, size_t index, bool vm_state)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(building->image, index);
  const struct tsk_qcow2_state state = { .snapshot_index = index, .is_vm_state = vm_state };
  char stem[SELECTOR_FILE_NAME_BYTES];
  const struct place place = { .directory = vm_state ? "vmstate" : "snapshots",
                               .stem = stem,
                               .extension = vm_state ? ".qevm" : ".raw",
                               .time = time_of_snapshot(snapshot) };

  selector_file_name_snapshot(snapshot, index, stem);
  return add_state(building, &place, &state);
}

static int add_snapshots(struct building *building)
{
  int status = EXIT_OK;

  for (size_t i = 0; status == EXIT_OK && i < qcow2_snapshot_count(building->image); i++) {
    status = add_snapshot(building, i, false);
    if (status == EXIT_OK && qcow2_snapshot_get(building->image, i)->vm_state_size > 0)
      status = add_snapshot(building, i, true);
  }
  return status;
}

/* ---- Deleted snapshots -------------------------------------------------------------- */

static int add_deleted(struct building *building, const struct qcow2_snapshot *snapshot,
                       size_t index, bool vm_state)
{
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE,
                                         .is_vm_state = vm_state,
                                         .deleted_l1 = snapshot->l1_offset };
  char stem[SELECTOR_FILE_NAME_BYTES];
  const struct place place = { .directory = "deleted",
                               .stem = stem,
                               .extension = vm_state ? ".qevm" : ".raw",
                               .time = time_of_snapshot(snapshot) };

  selector_file_name_snapshot(snapshot, index, stem);
  return add_state(building, &place, &state);
}

/* Those that can be read, or the one that the name chooses. */
static int add_all_deleted(struct building *building)
{
  const struct tsk_qcow2_opened *opened = tsk_qcow2_disk_opened(building->contents->image);
  struct recovered_list *found = recovered_find(building->image, opened->deleted_l1, false);
  int status = found == NULL ? EXIT_FAILED : EXIT_OK;

  for (size_t i = 0; status == EXIT_OK && i < found->count; i++) {
    const struct qcow2_snapshot *snapshot = &found->list[i].snapshot;

    status = add_deleted(building, snapshot, i, opened->is_vm_state);
    if (status == EXIT_OK && opened->deleted_l1 == 0 && snapshot->vm_state_size > 0)
      status = add_deleted(building, snapshot, i, true);
  }
  if (status == EXIT_OK)
    recovered_complain_missing(found);
  building->contents->is_incomplete = building->contents->is_incomplete ||
                                      (found != NULL && found->is_incomplete);
  recovered_free(found);
  return status;
}

/* ---- Layers ---------------------------------------------------------------------- */

/* A file of the chain as "1-base.raw", or "1-base-alone.raw". */
static int add_layer(struct building *building, size_t layer, bool alone)
{
  const struct tsk_qcow2_state state = { .snapshot_index = QCOW2_ACTIVE,
                                         .layer = layer,
                                         .is_alone = alone };
  char image[SELECTOR_FILE_NAME_BYTES], stem[SELECTOR_FILE_NAME_BYTES + 32];
  struct place place = { .directory = "layers", .stem = stem, .extension = ".raw" };
  struct qcow2_layer_info info = { .path = NULL };

  qcow2_layer_get(building->image, layer, &info, NULL);
  place.time = time_of_file(info.path);
  selector_file_name_image(info.path == NULL ? "image" : info.path, image);
  snprintf(stem, sizeof(stem), "%zu-%s%s", layer, image, alone ? "-alone" : "");
  return add_state(building, &place, &state);
}

/* Each file of the chain as the disk that it gives with those below it, but the topmost, which is
   the active disk; and by itself, but the lowest, which has none below. */
static int add_layers(struct building *building)
{
  size_t count = qcow2_layer_count(building->image);
  int status = EXIT_OK;

  for (size_t i = 0; status == EXIT_OK && count > 1 && i < count; i++) {
    if (i > 0)
      status = add_layer(building, i, false);
    if (status == EXIT_OK && i < count - 1)
      status = add_layer(building, i, true);
  }
  return status;
}

/* ---- The whole ------------------------------------------------------------------- */

static int add_info(struct building *building)
{
  struct contents *contents = building->contents;
  const struct tree_node file = { .kind = TREE_INFO,
                                  .size = contents->info_length,
                                  .time = building->image_time };

  if (contents->info == NULL) {
    complain_failed("error: info.json is not there: it has more than %u bytes, or could not be "
                    "made. Try: tsk-qcow2 info --json IMAGE",
                    INFO_BYTES_MAX);
    return EXIT_OK;
  }
  contents->total += file.size;
  return tree_add_file(&contents->tree, TREE_ROOT, "info", ".json", &file) != 0
             ? EXIT_OK
             : complain_failed("out of memory");
}

/* All states, or the one that the image's name chooses. */
static int add_states(struct building *building)
{
  const struct tsk_qcow2_opened *opened = tsk_qcow2_disk_opened(building->contents->image);
  int status;

  if (opened->is_residue)
    return add_residue(building);
  if (opened->is_abandoned)
    return add_abandoned(building);
  if (opened->deleted_l1 != 0)
    return add_all_deleted(building);
  if (opened->snapshot_index != QCOW2_ACTIVE)
    return add_snapshot(building, opened->snapshot_index, opened->is_vm_state);
  building->contents->is_incomplete = building->contents->is_incomplete ||
                                      qcow2_snapshot_lost_count(building->image) > 0;
  status = add_active(building);
  if (status == EXIT_OK)
    status = add_snapshots(building);
  if (status == EXIT_OK)
    status = add_all_deleted(building);
  if (status == EXIT_OK)
    status = add_layers(building);
  return status != EXIT_OK ? status : add_residue_later(building);
}

/* Say how many states were left out, unless each of them was told. */
static int conclude(const struct building *building)
{
  if (building->failed > TOLD_MAX)
    complain_failed("error: %" PRIu64 " states in all are not there; for all of them: tsk-qcow2 "
                    "verify IMAGE",
                    building->failed);
  building->contents->failed = building->failed;
  return building->contents->state_count > 0 ? EXIT_OK : EXIT_FAILED;
}

int contents_open(struct contents *contents, const char *name, char *info, size_t info_length)
{
  struct building building = { .contents = contents };
  struct qcow2_layer_info top;
  struct qcow2_error error;
  int status;

  *contents = (struct contents){ .info = info, .info_length = info_length };
  if (tsk_qcow2_disk_open_chain(name, &contents->image, &error) != 0)
    return complain_failed("%s", error.message);
  tsk_qcow2_disk_report_changes(contents->image, report_change, contents);
  building.image = qcow2_disk_image(contents->image);
  complain_warnings(tsk_qcow2_disk_opened(contents->image));
  contents->is_incomplete = tsk_qcow2_disk_opened(contents->image)->is_in_gaps;
  if (qcow2_layer_get(building.image, 0, &top, NULL) == 0)
    building.image_time = time_of_file(top.path);
  contents->states = states_new(contents->image, report_state, contents);
  if (contents->states == NULL || !tree_init(&contents->tree, &building.image_time))
    return complain_failed("out of memory");
  status = add_states(&building);
  if (status == EXIT_OK)
    status = add_info(&building);
  return status != EXIT_OK ? status : conclude(&building);
}

void contents_close(struct contents *contents)
{
  states_free(contents->states);
  qcow2_disk_close(contents->image);
  tree_free(&contents->tree);
  free(contents->nodes);
  free(contents->info);
  memset(contents, 0, sizeof(*contents));
}
