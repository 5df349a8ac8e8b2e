/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "selector_target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

/* The most names that are tried to find a free one. */
#define SAME_NAME_MAX 1000

void selector_target_close(struct selector_target *target)
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

int selector_target_open(const char *given, struct selector_target *target)
{
  *target = (struct selector_target){ .given = given == NULL ? "." : given };
  target->real = real_directory(target->given);
  target->descriptor = target->real == NULL ? -1
                                            : open(target->real, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (target->descriptor >= 0)
    return EXIT_OK;
  complain_failed("cannot write to the directory %s: %s", target->given, strerror(errno));
  free(target->real);
  return EXIT_FAILED;
}

int selector_target_refuse_beside(const struct selector_target *target, const char *image)
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

/* Make a new file with this name, or with a number added to it. Returns its descriptor, or -1 with
   errno set. */
static int create_file(const struct selector_target *target, const char *stem,
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

int selector_target_write(struct selector_target *target, const char *stem, const char *text,
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

int selector_target_note(struct selector_target *target, const char *line)
{
  return note(&target->lines, line);
}

void selector_target_conclude(const struct selector_target *target, int status)
{
  for (size_t i = 0; status != EXIT_OK && i < target->written.count; i++)
    unlinkat(target->descriptor, target->written.items[i], 0);
  for (size_t i = 0; status == EXIT_OK && i < target->lines.count; i++)
    puts(target->lines.items[i]);
}
