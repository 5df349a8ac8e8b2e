/* SPDX-License-Identifier: MIT */
/* The selector sub-command: writes selector files for snapshots. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "name_compose.h"
#include "recovered.h"
#include "selector.h"
#include "selector_file_name.h"
#include "selector_follow.h"
#include "selector_mac.h"

#define QUOTED_BYTES 256
/* The most names that are tried to find a free one. */
#define SAME_NAME_MAX 1000

/* What was asked for. */
struct request {
  bool all, vm_state;
  const char *directory; /* NULL: the working directory */
  char **images;         /* image names */
  int image_count;
};

/* The directory to which selectors are written. */
struct target {
  int descriptor;
  const char *given;                /* as given, or "."; for messages */
  char *real;                       /* the real path, with a "/" at its end */
  struct tsk_qcow2_strings written; /* the files there */
  struct tsk_qcow2_strings lines;   /* the lines to print about them, once all are written */
};

/* One selector to be written. */
struct piece {
  struct target *target;
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

/* ---- The directory --------------------------------------------------- */

static void target_close(struct target *target)
{
  tsk_qcow2_strings_free(&target->written);
  tsk_qcow2_strings_free(&target->lines);
  if (target->descriptor >= 0)
    close(target->descriptor);
  free(target->real);
}

/* The real path of a directory, with a "/" at its end. NULL with errno set. The caller frees. */
static char *real_directory(const char *path)
{
  char *real = realpath(path, NULL);
  size_t length = real == NULL ? 0 : strlen(real);
  char *with_slash = real == NULL ? NULL : realloc(real, length + 2);

  if (with_slash == NULL) {
    free(real);
    return NULL;
  }
  if (with_slash[length - 1] != '/')
    memcpy(with_slash + length, "/", 2);
  return with_slash;
}

static int target_open(const char *given, struct target *target)
{
  *target = (struct target){ .given = given == NULL ? "." : given };
  target->real = real_directory(target->given);
  target->descriptor = target->real == NULL ? -1
                                            : open(target->real, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (target->descriptor >= 0)
    return EXIT_OK;
  complain_failed("cannot write to the directory %s: %s", target->given, strerror(errno));
  free(target->real);
  return EXIT_FAILED;
}

/* Nothing is written into the directory of the evidence unless the user asks for it. */
static int refuse_beside(const struct target *target, const char *image)
{
  char *real = realpath(image, NULL);
  size_t length = real == NULL ? 0 : (size_t) (strrchr(real, '/') - real) + 1;
  bool beside = real != NULL && length == strlen(target->real) &&
                strncmp(real, target->real, length) == 0;

  free(real);
  return !beside ? EXIT_OK
                 : complain_failed(
                       "the selector would be written into the image's own directory, %s; "
                       "\"--directory DIR\" writes it somewhere else, and \"--directory .\" there",
                       target->real);
}

/* ---- The image name ------------------------------------------------------------- */

/* The path below the target's directory. NULL: it is elsewhere, or a selector without
   authentication code may not lead there. */
static const char *below_target(const struct target *target, const char *real)
{
  size_t length = strlen(target->real);
  struct stat status;

  if (strncmp(real, target->real, length) != 0 || stat(real, &status) != 0 ||
      !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
    return NULL;
  return real + length;
}

/* tsk_qcow2_map_path: the real path, absolute. `context` has QUOTED_BYTES for the last path that
   leads nowhere, or is NULL. */
static char *map_absolute(void *context, const char *path)
{
  char *real = realpath(path, NULL);
  int os_errno = errno;

  if (real == NULL && context != NULL)
    qcow2_text_escape(path, strlen(path), context, QUOTED_BYTES);
  errno = os_errno;
  return real;
}

/* tsk_qcow2_map_path: the path below the target's directory, from "./" on. Fails with EXDEV if it
   lies elsewhere. */
static char *map_below(void *context, const char *path)
{
  char *real = realpath(path, NULL), *text = NULL;
  const char *below = real == NULL ? NULL : below_target(context, real);

  if (real != NULL && below == NULL)
    errno = EXDEV;
  if (below != NULL) {
    text = malloc(strlen(below) + 3);
    if (text != NULL)
      sprintf(text, "./%s", below);
  }
  free(real);
  return text;
}

/* True if it is for an abandoned state, unless a snapshot is called so. */
static bool is_abandoned(const struct piece *piece)
{
  return piece->name.selection.kind == TSK_QCOW2_SELECT_ABANDONED && piece->snapshot == NULL;
}

/* Print why a selector for a name cannot be written. */
static int complain_name(const struct piece *piece, const char *problem)
{
  char quoted[QUOTED_BYTES];

  return complain_failed("cannot write a selector for \"%s\": %s",
                         qcow2_text_escape(piece->name.path, strlen(piece->name.path), quoted,
                                           sizeof(quoted)),
                         problem);
}

/* Check that the name will be read as it is meant: as one line, whose IMAGE part is the image and
   not a file with a longer name. */
static int check_text(const struct piece *piece, const char *text, bool is_below)
{
  struct qcow2_error error;
  size_t length = 0;
  int code = is_below ? tsk_qcow2_name_path_length_below(piece->target->real, text, &length, &error)
                      : tsk_qcow2_name_path_length(text, &length, &error);
  struct tsk_qcow2_name only_image = { .path = tsk_qcow2_name_outermost(&piece->name)->path };
  char *image = is_below ? tsk_qcow2_name_compose(&only_image, map_below,
                                                  (void *) (uintptr_t) piece->target)
                         : tsk_qcow2_name_compose(&only_image, map_absolute, NULL);
  bool same = image != NULL && length == strlen(image);

  free(image);
  if (code != 0)
    return complain_name(piece, error.message);
  if (strpbrk(text, "\r\n") != NULL)
    return complain_name(piece,
                         "a path in a selector cannot have a line break; give the file another "
                         "name, or make a link to it by \"ln -s\"");
  return same ? EXIT_OK
              : complain_name(piece, "the image name with the snapshot is also the name of another "
                                     "file; give that file another name");
}

/* True if a path in the options of a name is read through open_foreign. */
static bool is_foreign(const struct tsk_qcow2_name *name, const char *path, const char *format)
{
  return !tsk_qcow2_name_leads_inside(name, path) && qcow2_foreign_probe(path, format) != 0;
}

/* The same for all of them. */
static bool level_leads_to_foreign(const struct tsk_qcow2_name *name)
{
  for (size_t i = 0; i < name->backing.count; i++)
    if (strcmp(name->backing.items[i], QCOW2_BACKING_NONE) != 0 &&
        is_foreign(name, name->backing.items[i], name->backing_formats.items[i]))
      return true;
  return name->data_file != NULL && is_foreign(name, name->data_file, name->data_format);
}

/* The same for the disks around it too. A selector without authentication code may not do that. */
static bool leads_to_foreign(const struct tsk_qcow2_name *name)
{
  const struct tsk_qcow2_name *outermost = tsk_qcow2_name_outermost(name);
  bool is_inside = outermost != name;

  for (; name != NULL; name = name->outer)
    if (level_leads_to_foreign(name))
      return true;
  return is_inside && qcow2_image_probe(outermost->path) == 0 &&
         qcow2_foreign_probe(outermost->path, NULL) != 0;
}

/* Write the image name. If all paths are below the target's directory, they are written relative to
   it; or else all are absolute, and the selector has an authentication code. */
static int write_name(const struct piece *piece, struct tsk_qcow2_selector *selector)
{
  char failed[QUOTED_BYTES] = "", *signed_text;
  struct qcow2_error error;
  bool is_below;
  int code;

  selector->name = leads_to_foreign(&piece->name)
                       ? NULL
                       : tsk_qcow2_name_compose(&piece->name, map_below,
                                                (void *) (uintptr_t) piece->target);
  is_below = selector->name != NULL;
  if (!is_below)
    selector->name = tsk_qcow2_name_compose(&piece->name, map_absolute, failed);
  if (selector->name == NULL)
    return complain_failed("cannot write a selector that leads to \"%s\": %s", failed,
                           strerror(errno));
  if (check_text(piece, selector->name, is_below) != EXIT_OK)
    return EXIT_FAILED;
  if (is_below)
    return EXIT_OK;
  signed_text = tsk_qcow2_selector_signed_text(selector->name, piece->target->real);
  code = signed_text == NULL ? QCOW2_ERROR_NOMEM
                             : tsk_qcow2_mac_sign(signed_text, selector->mac, &error);
  free(signed_text);
  selector->has_mac = code == 0;
  if (code == QCOW2_ERROR_NOMEM)
    return complain_failed("out of memory");
  return code == 0 ? EXIT_OK
                   : complain_failed("a selector in %s cannot lead to files elsewhere, because %s",
                                     piece->target->real, error.message);
}

/* ---- The file --------------------------------------------------------------------- */

/* Make a new file with this name, or with a number added to it. Returns its descriptor, or -1 with
   errno set. */
static int create_file(const struct target *target, const char *stem,
                       char path[SELECTOR_FILE_NAME_BYTES])
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int descriptor = -1;

  errno = EEXIST;
  for (unsigned number = 1; number <= SAME_NAME_MAX && descriptor < 0 && errno == EEXIST;
       number++) {
    selector_file_name_number(stem, number, ".img", path); /* Autopsy's file chooser shows it */
    descriptor = openat(target->descriptor, path, flags, 0666);
  }
  return descriptor;
}

static int note(struct tsk_qcow2_strings *strings, const char *text)
{
  struct qcow2_error error;

  return tsk_qcow2_strings_add(strings, text, strlen(text), &error) == 0
             ? EXIT_OK
             : complain_failed("%s", error.message);
}

static int write_file(struct target *target, const char *stem, const char *text,
                      char name[SELECTOR_FILE_NAME_BYTES])
{
  size_t length = strlen(text);
  int descriptor = create_file(target, stem, name), os_errno = 0;

  if (descriptor < 0)
    return complain_failed("cannot write %s%s: %s", target->real, name, strerror(errno));
  if (note(&target->written, name) != EXIT_OK) {
    close(descriptor);
    unlinkat(target->descriptor, name, 0);
    return EXIT_FAILED;
  }
  errno = ENOSPC;
  if (write(descriptor, text, length) != (ssize_t) length)
    os_errno = errno;
  if (close(descriptor) != 0 && os_errno == 0)
    os_errno = errno;
  return os_errno == 0
             ? EXIT_OK
             : complain_failed("cannot write %s%s: %s", target->real, name, strerror(os_errno));
}

/* Write what a selector shows. */
#define SHOWS_BYTES (QUOTED_BYTES + RECOVERED_SHARES_BYTES + 256)

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
  status = note(&piece->target->lines, line);
  free(line);
  return status;
}

/* Print what was written. After a failure, remove all of it, so that nothing is left half done. */
static void conclude(const struct target *target, int status)
{
  for (size_t i = 0; status != EXIT_OK && i < target->written.count; i++)
    unlinkat(target->descriptor, target->written.items[i], 0);
  for (size_t i = 0; status == EXIT_OK && i < target->lines.count; i++)
    puts(target->lines.items[i]);
}

static int write_piece(const struct piece *piece)
{
  struct tsk_qcow2_selector selector = { .name = NULL };
  char stem[SELECTOR_FILE_NAME_BYTES], file[SELECTOR_FILE_NAME_BYTES], *text = NULL;
  int status = write_name(piece, &selector);

  if (status == EXIT_OK && (text = tsk_qcow2_selector_format(&selector)) == NULL)
    status = complain_failed("out of memory");
  if (text != NULL && strlen(text) > TSK_QCOW2_SELECTOR_BYTES_MAX)
    status = complain_name(piece, "it is too long");
  if (text != NULL && status == EXIT_OK) {
    selector_file_name_stem(&piece->name, piece->snapshot, piece->snapshot_index, stem);
    status = write_file(piece->target, stem, text, file);
  }
  if (status == EXIT_OK)
    status = note_written(piece, file);
  free(text);
  tsk_qcow2_selector_free(&selector);
  return status;
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
static int write_view(struct target *target, const struct tsk_qcow2_name *name,
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
static int write_recovered(struct target *target, const struct tsk_qcow2_name *name,
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

/* Write those of the deleted snapshots that can be read, and say which cannot. */
static int write_all_recovered(const struct request *request, struct target *target,
                               const struct tsk_qcow2_name *name, const struct qcow2_image *image)
{
  struct recovered_list *found = recovered_find(image, 0, true);
  int status = found == NULL ? EXIT_FAILED : EXIT_OK;

  for (size_t i = 0; status == EXIT_OK && i < found->count; i++) {
    status = write_recovered(target, name, &found->list[i], i, false);
    if (status == EXIT_OK && request->vm_state && found->list[i].snapshot.vm_state_size > 0)
      status = write_recovered(target, name, &found->list[i], i, true);
  }
  if (status == EXIT_OK)
    recovered_complain_missing(found);
  recovered_free(found);
  return status;
}

/* Write that of the deleted snapshot that the image name chooses. */
static int write_chosen_recovered(struct target *target, const struct tsk_qcow2_name *name,
                                  const struct tsk_qcow2_opened *opened)
{
  struct recovered_list *found = recovered_find(opened->image, opened->deleted_l1, true);
  int status = EXIT_FAILED;

  if (found != NULL && found->count == 1)
    status = write_recovered(target, name, &found->list[0], 0, name->vm_state);
  else if (found != NULL)
    recovered_complain_missing(found);
  recovered_free(found);
  return status;
}

static int write_all(const struct request *request, struct target *target,
                     const struct tsk_qcow2_name *name, const struct qcow2_image *image)
{
  int status = write_view(target, name, image, QCOW2_ACTIVE, false);

  for (size_t i = 0; status == EXIT_OK && i < qcow2_snapshot_count(image); i++) {
    status = write_view(target, name, image, i, false);
    if (status == EXIT_OK && request->vm_state && qcow2_snapshot_get(image, i)->vm_state_size > 0)
      status = write_view(target, name, image, i, true);
  }
  return status == EXIT_OK ? write_all_recovered(request, target, name, image) : status;
}

/* Write the selectors of a parsed image name, of which only the header was opened. */
static int write_opened(const struct request *request, struct target *target,
                        const struct tsk_qcow2_name *name, const struct tsk_qcow2_opened *opened)
{
  complain_warnings(opened);
  if (request->directory == NULL &&
      refuse_beside(target, tsk_qcow2_name_outermost(name)->path) != EXIT_OK)
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

static int write_image(const struct request *request, struct target *target, const char *image)
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
  struct target target;
  int status = parse_request(argc, argv, &request);

  if (status == EXIT_OK)
    status = target_open(request.directory, &target);
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
  conclude(&target, status);
  target_close(&target);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}
