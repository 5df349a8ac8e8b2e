/* SPDX-License-Identifier: MIT */
/* The selector sub-command: writes selector files for snapshots. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "recovered.h"
#include "selector_file_name.h"
#include "selector_follow.h"
#include "selector_target.h"
#include "selector_text.h"

#define QUOTED_BYTES 256
#define SHOWS_BYTES (QUOTED_BYTES + RECOVERED_SHARES_BYTES + 256)

/* What was asked for. */
struct request {
  bool all, vm_state;
  const char *directory; /* NULL: the working directory */
  char **images;         /* image names */
  int image_count;
};

/* One selector to be written. */
struct piece {
  struct selector_target *target;
  struct tsk_qcow2_name name;            /* borrows its strings */
  const struct qcow2_snapshot *snapshot; /* NULL: the active disk */
  size_t snapshot_index;
  const uint64_t *label_bytes; /* of a deleted snapshot; NULL: it is none */
};

/* ---- Arguments ---------------------------------------------------------------- */

static int check_request(const struct request *request)
{
  if (request->image_count == 0)
    return complain_usage("selector needs an image");
  if (request->vm_state && !request->all)
    return complain_usage(
        "selector: --vmstate goes with --all; for one snapshot, say IMAGE@SNAPSHOT,vmstate");
  return EXIT_OK;
}

/* Parse argv, in which the images are moved to the front. */
static int parse_request(int argc, char *argv[], struct request *request)
{
  bool no_more_options = false;

  *request = (struct request){ .images = argv };
  for (int i = 0; i < argc; i++) {
    bool option = argv[i][0] == '-' && argv[i][1] != '\0' && !no_more_options;

    if (!option)
      argv[request->image_count++] = argv[i];
    else if (strcmp(argv[i], "--") == 0)
      no_more_options = true;
    else if (strcmp(argv[i], "--all") == 0)
      request->all = true;
    else if (strcmp(argv[i], "--vmstate") == 0)
      request->vm_state = true;
    else if (strcmp(argv[i], "--directory") == 0 && i + 1 < argc)
      request->directory = argv[++i];
    else
      return complain_usage(strcmp(argv[i], "--directory") == 0 ? "selector: %s needs a directory"
                                                                : "selector has no option %s",
                            argv[i]);
  }
  return check_request(request);
}

/* ---- One selector ------------------------------------------------------------------ */

/* True if it is for an abandoned state, unless a snapshot is called so. */
static bool is_abandoned(const struct piece *piece)
{
  return piece->name.selection.kind == TSK_QCOW2_SELECT_ABANDONED && piece->snapshot == NULL;
}

/* Write what a selector shows. */
static void say_what_it_shows(const struct piece *piece, char shows[SHOWS_BYTES])
{
  char id[64], name[QUOTED_BYTES], shares[RECOVERED_SHARES_BYTES];
  const struct qcow2_snapshot *snapshot = piece->snapshot;
  size_t used;

  if (snapshot == NULL)
    snprintf(shows, SHOWS_BYTES, "%s",
             piece->name.residue   ? "the residue"
             : is_abandoned(piece) ? "an abandoned state, recovered by guess"
                                   : "the active disk");
  else
    snprintf(shows, SHOWS_BYTES, "%s%ssnapshot %s \"%s\"",
             piece->name.vm_state ? "saved memory of " : "",
             piece->label_bytes == NULL ? "" : "deleted ",
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)));
  used = strlen(shows);
  if (piece->name.under_zeros)
    used += (size_t) snprintf(shows + used, SHOWS_BYTES - used,
                              ", with what is stored under zeros");
  if (piece->label_bytes != NULL)
    snprintf(shows + used, SHOWS_BYTES - used, ", recovered: of the disk's bytes %s",
             recovered_shares(piece->label_bytes, shares));
}

/* Note that the file was written, and the line "FILE  WHAT IT SHOWS". */
static int note_written(const struct piece *piece, const char *file)
{
  const char *given = piece->target->given;
  bool is_here = strcmp(given, ".") == 0, has_slash = given[strlen(given) - 1] == '/';
  char shows[SHOWS_BYTES], *line;
  size_t size;
  int status;

  say_what_it_shows(piece, shows);
  size = strlen(given) + strlen(file) + strlen(shows) + 8;
  line = malloc(size);
  if (line == NULL)
    return complain_failed("out of memory");
  snprintf(line, size, "%s%s%s  %s", is_here ? "" : given, is_here || has_slash ? "" : "/", file,
           shows);
  status = selector_target_note(piece->target, line);
  free(line);
  return status;
}

static int write_piece(const struct piece *piece)
{
  char stem[SELECTOR_FILE_NAME_BYTES], file[SELECTOR_FILE_NAME_BYTES], *text;
  int status = selector_text(&piece->name, piece->target->real, &text);

  if (status != EXIT_OK)
    return status;
  selector_file_name_stem(&piece->name, piece->snapshot, piece->snapshot_index, stem);
  status = selector_target_write(piece->target, stem, text, file);
  free(text);
  return status == EXIT_OK ? note_written(piece, file) : status;
}

/* ---- Which states ----------------------------------------------------------------- */

/* True if the ID can stand in a selector, and no other snapshot has it. */
static bool has_own_id(const struct qcow2_image *image, const struct qcow2_snapshot *snapshot)
{
  size_t index;

  return snapshot->id_length > 0 && strspn(snapshot->id, "0123456789") == snapshot->id_length &&
         qcow2_snapshot_find(image, snapshot->id, QCOW2_BY_ID, &index, NULL) == 0;
}

/* Write the selector of one view. Everything except the view is taken from `name`. */
static int write_view(struct selector_target *target, const struct tsk_qcow2_name *name,
                      const struct qcow2_image *image, size_t index, bool vm_state)
{
  struct piece piece = { .target = target, .name = *name, .snapshot_index = index };
  char number[24];

  piece.snapshot = index == QCOW2_ACTIVE ? NULL : qcow2_snapshot_get(image, index);
  piece.name.vm_state = vm_state;
  if (piece.snapshot != NULL && has_own_id(image, piece.snapshot)) {
    piece.name.selection.kind = TSK_QCOW2_SELECT_ID;
    piece.name.selection.text = (char *) (uintptr_t) piece.snapshot->id;
  } else if (piece.snapshot != NULL) {
    snprintf(number, sizeof(number), "%zu", index);
    piece.name.selection.kind = TSK_QCOW2_SELECT_INDEX;
    piece.name.selection.text = number;
  } else if (!tsk_qcow2_selection_is_deleted(&name->selection))
    piece.name.selection.kind = TSK_QCOW2_SELECT_NOTHING;
  return write_piece(&piece);
}

/* Write the selector of a deleted snapshot, which is named by its L1 table unless `name` has a
   selection. */
static int write_recovered(struct selector_target *target, const struct tsk_qcow2_name *name,
                           const struct recovered_snapshot *recovered, size_t index, bool vm_state)
{
  struct piece piece = { .target = target,
                         .name = *name,
                         .snapshot = &recovered->snapshot,
                         .snapshot_index = index,
                         .label_bytes = recovered->bytes };
  char offset[24];

  piece.name.vm_state = vm_state;
  if (name->selection.kind == TSK_QCOW2_SELECT_NOTHING) {
    snprintf(offset, sizeof(offset), "%" PRIu64, recovered->snapshot.l1_offset);
    piece.name.selection.kind = TSK_QCOW2_SELECT_DELETED_L1;
    piece.name.selection.text = offset;
  }
  return write_piece(&piece);
}

static int write_all_recovered(const struct request *request, struct selector_target *target,
                               const struct tsk_qcow2_name *name,
                               const struct recovered_list *found)
{
  int status = EXIT_OK;

  for (size_t i = 0; status == EXIT_OK && i < found->count; i++) {
    status = write_recovered(target, name, &found->list[i], i, false);
    if (status == EXIT_OK && request->vm_state && found->list[i].snapshot.vm_state_size > 0)
      status = write_recovered(target, name, &found->list[i], i, true);
  }
  return status;
}

/* Write that of the deleted snapshot that the image name chooses. */
static int write_chosen_recovered(struct selector_target *target, const struct tsk_qcow2_name *name,
                                  const struct tsk_qcow2_opened *opened)
{
  struct recovered_list *found = recovered_find(opened->image, opened->deleted_l1, true);
  int status = EXIT_FAILED;

  if (found != NULL && found->count == 1)
    status = write_recovered(target, name, &found->list[0], 0, name->vm_state);
  else if (found != NULL)
    recovered_complain_missing(found);
  target->is_incomplete = target->is_incomplete || (found != NULL && found->is_incomplete);
  recovered_free(found);
  return status;
}

static int write_all_live(const struct request *request, struct selector_target *target,
                          const struct tsk_qcow2_name *name, const struct qcow2_image *image)
{
  int status = write_view(target, name, image, QCOW2_ACTIVE, false);

  for (size_t i = 0; status == EXIT_OK && i < qcow2_snapshot_count(image); i++) {
    status = write_view(target, name, image, i, false);
    if (status == EXIT_OK && request->vm_state && qcow2_snapshot_get(image, i)->vm_state_size > 0)
      status = write_view(target, name, image, i, true);
  }
  return status;
}

/* Deleted snapshots are looked for before anything is written, since that can take long. */
static int write_all(const struct request *request, struct selector_target *target,
                     const struct tsk_qcow2_name *name, const struct qcow2_image *image)
{
  struct recovered_list *found = recovered_find(image, 0, true);
  int status = found == NULL ? EXIT_FAILED : write_all_live(request, target, name, image);

  if (status == EXIT_OK)
    status = write_all_recovered(request, target, name, found);
  if (status == EXIT_OK)
    recovered_complain_missing(found);
  target->is_incomplete = target->is_incomplete || qcow2_snapshot_lost_count(image) > 0 ||
                          (found != NULL && found->is_incomplete);
  recovered_free(found);
  return status;
}

/* Write the selectors of a parsed image name, of which only the header was opened. */
static int write_opened(const struct request *request, struct selector_target *target,
                        const struct tsk_qcow2_name *name, const struct tsk_qcow2_opened *opened)
{
  complain_warnings(opened);
  target->is_incomplete = target->is_incomplete || opened->is_in_gaps;
  if (request->directory == NULL &&
      selector_target_refuse_beside(target, tsk_qcow2_name_outermost(name)->path) != EXIT_OK)
    return EXIT_FAILED;
  if (!request->all && opened->deleted_l1 != 0)
    return write_chosen_recovered(target, name, opened);
  if (!request->all)
    return write_view(target, name, opened->image, opened->snapshot_index, name->vm_state);
  if (name->selection.kind != TSK_QCOW2_SELECT_NOTHING)
    return complain_usage("selector: --all takes an image, not one of its snapshots: name it "
                          "without \"@\"");
  return name->residue ? complain_usage("selector: --all takes an image, not its residue: name it "
                                        "without \",residue\"")
                       : write_all(request, target, name, opened->image);
}

static int write_image(const struct request *request, struct selector_target *target,
                       const char *image)
{
  struct tsk_qcow2_opened opened;
  struct tsk_qcow2_name name;
  struct qcow2_error error;
  const char *outermost;
  int is_selector, status;

  if (tsk_qcow2_name_parse(image, &name, &error) != 0)
    return complain_failed("%s", error.message);
  outermost = tsk_qcow2_name_outermost(&name)->path;
  is_selector = tsk_qcow2_is_selector(outermost, &error);
  if (is_selector > 0)
    status = complain_failed("%s is a selector file itself: name the image that is in it",
                             outermost);
  else if (is_selector < 0 ||
           tsk_qcow2_open_names(1, &image, TSK_QCOW2_HEADER_ONLY, NULL, &opened, &error) != 0)
    status = complain_failed("%s", error.message);
  else {
    status = write_opened(request, target, &name, &opened);
    tsk_qcow2_opened_close(&opened);
  }
  tsk_qcow2_name_free(&name);
  return status;
}

int command_selector(int argc, char *argv[])
{
  struct request request;
  struct selector_target target;
  int status = parse_request(argc, argv, &request);

  if (status == EXIT_OK)
    status = selector_target_open(request.directory, &target);
  if (status != EXIT_OK)
    return status;
  for (int i = 0; status == EXIT_OK && i < request.image_count; i++) {
    status = write_image(&request, &target, request.images[i]);
    if (status != EXIT_OK && i > 0) /* as with fls, the further names may be meant as a backing
                                       chain */
      fputs("If the further names are backing files, put them into the first name: tsk-qcow2 "
            "selector 'TOP,backing=NEXT'\n",
            stderr);
  }
  selector_target_conclude(&target, status);
  if (status == EXIT_OK && target.is_incomplete)
    status = EXIT_DAMAGED;
  selector_target_close(&target);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}
