/* SPDX-License-Identifier: MIT */
#include "inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "inner_files.h"

#define QUOTED_BYTES 256

struct tsk_qcow2_inside {
  struct tsk_qcow2_outer outer;
  char *name;
  struct tsk_qcow2_inner_image *image;        /* NULL: not needed yet */
  struct tsk_qcow2_inner_files *file_systems; /* those that were opened, the last one first */
  struct tsk_qcow2_strings warnings;
};

int tsk_qcow2_inside_new(const struct tsk_qcow2_outer *outer, const char *name,
                         struct tsk_qcow2_inside **out, struct qcow2_error *error)
{
  struct tsk_qcow2_inside *inside = calloc(1, sizeof(*inside));
  char *copy = strdup(name);

  if (inside == NULL || copy == NULL) {
    free(inside);
    free(copy);
    outer->storage.close(outer->storage.context);
    return tsk_qcow2_complain_nomem(error);
  }
  inside->outer = *outer;
  inside->name = copy;
  *out = inside;
  return 0;
}

void tsk_qcow2_inside_close(struct tsk_qcow2_inside *inside)
{
  if (inside == NULL)
    return;
  while (inside->file_systems != NULL) {
    struct tsk_qcow2_inner_files *next = inside->file_systems->next;

    tsk_qcow2_inner_files_close(inside->file_systems);
    inside->file_systems = next;
  }
  tsk_qcow2_inner_image_close(inside->image);
  inside->outer.storage.close(inside->outer.storage.context);
  tsk_qcow2_strings_free(&inside->warnings);
  free(inside->name);
  free(inside);
}

/* ---- File systems -------------------------------------------------------------- */

static int complain_unloaded(struct qcow2_error *error)
{
  const char *problem = tsk_qcow2_libtsk_problem();
  char escaped[QUOTED_BYTES];

  return qcow2_error_set(
      error, QCOW2_ERROR_UNSUPPORTED,
      "an image inside a disk is found by libtsk, which cannot be loaded: %s. Install it, or give "
      "the same image name to a tool of The Sleuth Kit, such as img_cat",
      qcow2_text_escape(problem, strlen(problem), escaped, sizeof(escaped)));
}

static int open_image(struct tsk_qcow2_inside *inside, struct qcow2_error *error)
{
  if (inside->image != NULL)
    return 0;
  return tsk_qcow2_libtsk() == NULL
             ? complain_unloaded(error)
             : tsk_qcow2_inner_image_open(&inside->outer.storage, &inside->image, error);
}

/* A copy of a disk may have been broken off. */
static int warn_of_end(struct tsk_qcow2_inside *inside, const struct tsk_qcow2_inner_files *files,
                       struct qcow2_error *error)
{
  uint64_t size = inside->outer.storage.size, end = tsk_qcow2_inner_files_end(files);
  char quoted[QUOTED_BYTES], sentence[QUOTED_BYTES + 200];

  if (end <= size)
    return 0;
  snprintf(sentence, sizeof(sentence),
           "the disk around it is truncated: it ends at byte %" PRIu64
           ", but the file system of \"%s\" reaches to byte %" PRIu64
           "; what is lost reads as an error",
           size, qcow2_text_escape(files->name, strlen(files->name), quoted, sizeof(quoted)), end);
  return tsk_qcow2_inside_warn(inside, sentence, error);
}

int tsk_qcow2_inside_find(void *context, const char *path,
                          const struct qcow2_file_system **file_system, const char **rest,
                          struct qcow2_error *error)
{
  struct tsk_qcow2_inside *inside = context;
  struct tsk_qcow2_inner_files *files = inside->file_systems;
  char *after;
  uint64_t start = strtoull(path + 2, &after, 10); /* the parser has checked it */
  int code = open_image(inside, error);

  if (code != 0)
    return code;
  while (files != NULL && files->start != start)
    files = files->next;
  if (files == NULL) {
    code = tsk_qcow2_inner_files_open(&inside->outer.storage, inside->image, inside->name, start,
                                      &files, error);
    if (code != 0)
      return code;
    files->next = inside->file_systems;
    inside->file_systems = files;
    code = warn_of_end(inside, files, error);
    if (code != 0)
      return code;
  }
  *file_system = &files->core;
  *rest = after;
  return 0;
}

/* ---- What is wrong with it -------------------------------------------------------- */

int tsk_qcow2_inside_warn(struct tsk_qcow2_inside *inside, const char *sentence,
                          struct qcow2_error *error)
{
  return tsk_qcow2_strings_add(&inside->warnings, sentence, strlen(sentence), error);
}

const char *tsk_qcow2_inside_warning(const struct tsk_qcow2_inside *inside, size_t index)
{
  return inside != NULL && index < inside->warnings.count ? inside->warnings.items[index] : NULL;
}

void tsk_qcow2_inside_report(struct tsk_qcow2_inside *inside, qcow2_damage_sentence *report,
                             void *report_context)
{
  if (inside != NULL && inside->outer.report != NULL)
    inside->outer.report(inside->outer.storage.context, report, report_context);
}

uint64_t tsk_qcow2_inside_failures(const struct tsk_qcow2_inside *inside)
{
  return inside == NULL || inside->outer.failures == NULL
             ? 0
             : inside->outer.failures(inside->outer.storage.context);
}
