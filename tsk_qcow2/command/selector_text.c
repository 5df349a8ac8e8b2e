/* SPDX-License-Identifier: MIT */
#include "selector_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"
#include "name_compose.h"
#include "selector.h"
#include "selector_follow.h"
#include "selector_mac.h"

#define QUOTED_BYTES 256

/* The part of a real path below the directory. NULL: it is elsewhere, or a selector without
   authentication code may not lead there. */
static const char *below_directory(const char *directory, const char *real)
{
  size_t length = strlen(directory);
  struct stat status;

  if (strncmp(real, directory, length) != 0 || stat(real, &status) != 0 ||
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

/* tsk_qcow2_map_path: the path below the directory, from "./" on. Fails with EXDEV if it
   lies elsewhere. */
static char *map_below(void *context, const char *path)
{
  char *real = realpath(path, NULL), *text = NULL;
  const char *below = real == NULL ? NULL : below_directory(context, real);

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

/* Print why a selector for a name cannot be written. */
static int complain_name(const struct tsk_qcow2_name *name, const char *problem)
{
  char quoted[QUOTED_BYTES];

  return complain_failed("cannot write a selector for \"%s\": %s",
                         qcow2_text_escape(name->path, strlen(name->path), quoted, sizeof(quoted)),
                         problem);
}

/* Check that the name will be read as it is meant: as one line, whose IMAGE part is the image and
   not a file with a longer name. */
static int check_text(const struct tsk_qcow2_name *name, const char *directory, const char *text,
                      bool is_below)
{
  struct qcow2_error error;
  size_t length = 0;
  int code = is_below ? tsk_qcow2_name_path_length_below(directory, text, &length, &error)
                      : tsk_qcow2_name_path_length(text, &length, &error);
  struct tsk_qcow2_name only_image = { .path = tsk_qcow2_name_outermost(name)->path };
  char *image = is_below
                    ? tsk_qcow2_name_compose(&only_image, map_below, (void *) (uintptr_t) directory)
                    : tsk_qcow2_name_compose(&only_image, map_absolute, NULL);
  bool same = image != NULL && length == strlen(image);

  free(image);
  if (code != 0)
    return complain_name(name, error.message);
  if (strpbrk(text, "\r\n") != NULL)
    return complain_name(name,
                         "a path in a selector cannot have a line break; give the file another "
                         "name, or make a link to it by \"ln -s\"");
  return same ? EXIT_OK
              : complain_name(name, "the image name with the snapshot is also the name of another "
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

/* Write the image name. If all paths are below the directory, they are written relative to
   it; or else all are absolute, and the selector has an authentication code. */
static int write_name(const struct tsk_qcow2_name *name, const char *directory,
                      struct tsk_qcow2_selector *selector)
{
  char failed[QUOTED_BYTES] = "", *signed_text;
  struct qcow2_error error;
  bool is_below;
  int code;

  selector->name = leads_to_foreign(name)
                       ? NULL
                       : tsk_qcow2_name_compose(name, map_below, (void *) (uintptr_t) directory);
  is_below = selector->name != NULL;
  if (!is_below)
    selector->name = tsk_qcow2_name_compose(name, map_absolute, failed);
  if (selector->name == NULL)
    return complain_failed("cannot write a selector that leads to \"%s\": %s", failed,
                           strerror(errno));
  if (check_text(name, directory, selector->name, is_below) != EXIT_OK)
    return EXIT_FAILED;
  if (is_below)
    return EXIT_OK;
  signed_text = tsk_qcow2_selector_signed_text(selector->name, directory);
  code = signed_text == NULL ? QCOW2_ERROR_NOMEM
                             : tsk_qcow2_mac_sign(signed_text, selector->mac, &error);
  free(signed_text);
  selector->has_mac = code == 0;
  if (code == QCOW2_ERROR_NOMEM)
    return complain_failed("out of memory");
  return code == 0 ? EXIT_OK
                   : complain_failed("a selector in %s cannot lead to files elsewhere, because %s",
                                     directory, error.message);
}

int selector_text(const struct tsk_qcow2_name *name, const char *directory, char **text)
{
  struct tsk_qcow2_selector selector = { .name = NULL };
  int status = write_name(name, directory, &selector);

  *text = NULL;
  if (status == EXIT_OK && (*text = tsk_qcow2_selector_format(&selector)) == NULL)
    status = complain_failed("out of memory");
  if (*text != NULL && strlen(*text) > TSK_QCOW2_SELECTOR_BYTES_MAX) {
    status = complain_name(name, "it is too long");
    free(*text);
    *text = NULL;
  }
  tsk_qcow2_selector_free(&selector);
  return status;
}
