/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/error.h"
#include "../base/text.h"
#include "gate_inner.h"
#include "gate_opening.h"
#include "reference.h"

void qcow2_opened_file_close_directory(struct qcow2_opened_file *file)
{
  if (file->directory >= 0)
    close(file->directory);
  file->directory = -1;
}

/* ---- Paths that the user gave ------------------------------------------ */

static int refuse_named(const char *path, const char *problem, int os_errno,
                        struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  qcow2_text_quote(path, quoted);
  if (problem != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "cannot open \"%s\": %s", quoted, problem);
  return qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET, "cannot open \"%s\"", quoted);
}

/* Open a file that has no path, such as a deleted one by /proc/self/fd/5. Then no directory is
   known that contains it. */
static int open_pathless(const char *path, struct qcow2_opened_file *file,
                         struct qcow2_error *error)
{
  int os_errno = errno;
  int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  const char *problem;
  struct stat status;

  if (descriptor < 0)
    return refuse_named(path, NULL, os_errno, error);
  problem = fstat(descriptor, &status) != 0
                ? "it cannot be examined"
                : qcow2_gate_admission_problem(&status, ADMIT_REGULAR_OR_BLOCK);
  if (problem != NULL) {
    close(descriptor);
    return refuse_named(path, problem, 0, error);
  }
  return qcow2_gate_fill(file, qcow2_text_duplicate(path), -1, descriptor, &status, error);
}

int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error)
{
  const char *problem = NULL;
  struct stat status;
  char *slash, *real = realpath(path, NULL);
  int directory, descriptor, os_errno;

  if (real == NULL)
    return errno == ENOENT   ? open_pathless(path, file, error)
           : errno == ENOMEM ? qcow2_error_set_nomem(error)
                             : refuse_named(path, NULL, errno, error);
  slash = strrchr(real, '/'); /* realpath() gives an absolute path */
  *slash = '\0';
  directory = open(slash == real ? "/" : real, O_PATH | O_DIRECTORY | O_CLOEXEC);
  *slash = '/';
  if (directory < 0) {
    os_errno = errno;
    free(real);
    return refuse_named(path, NULL, os_errno, error);
  }
  descriptor = qcow2_gate_open_admitted(directory, slash[1] == '\0' ? "." : slash + 1,
                                        ADMIT_REGULAR_OR_BLOCK, &status, &problem);
  if (descriptor < 0) {
    os_errno = errno;
    close(directory);
    free(real);
    return refuse_named(path, problem, os_errno, error);
  }
  return qcow2_gate_fill(file, real, directory, descriptor, &status, error);
}

/* ---- Paths in an image ------------------------------------------------- */

bool qcow2_opened_file_lies_beside(const struct qcow2_opened_file *file, const char *name)
{
  struct stat status;

  if (file->file_system != NULL)
    return qcow2_gate_inner_lies_beside(file, name);
  return file->directory >= 0 &&
         fstatat(file->directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(status.st_mode) &&
         !(file->device == status.st_dev && file->inode == status.st_ino);
}

/* Open the reference as a path from the image's own directory. */
static int open_beside(const struct qcow2_reference *reference, struct qcow2_opened_file *file,
                       struct qcow2_error *error)
{
  const char *problem = qcow2_reference_problem(reference);
  const char *last = NULL;
  char *name;
  struct stat status;
  int directory, descriptor, os_errno;

  if (problem != NULL)
    return qcow2_reference_refuse(reference, problem, error);
  if (reference->from->file_system != NULL)
    return qcow2_gate_open_inner_reference(reference, file, error);
  name = qcow2_text_duplicate(reference->name);
  if (name == NULL)
    return qcow2_error_set_nomem(error);
  directory = fcntl(reference->from->directory, F_DUPFD_CLOEXEC, 0);
  if (directory >= 0)
    directory = qcow2_gate_descend(directory, name, &last, &problem);
  descriptor = directory < 0
                   ? -1
                   : qcow2_gate_open_admitted(directory, last, ADMIT_REGULAR, &status, &problem);
  os_errno = errno;
  free(name);
  if (descriptor >= 0)
    return qcow2_gate_fill(file,
                           qcow2_reference_path_beside(reference->from->path, reference->name),
                           directory, descriptor, &status, error);
  if (directory >= 0)
    close(directory);
  return problem != NULL ? qcow2_reference_refuse(reference, problem, error)
                         : qcow2_reference_refuse_errno(reference, os_errno, error);
}

/* ---- Searching ----------------------------------------------------------- */

/* Open a directory that a referrer names, which must be below its own. Errors: DENIED, NOMEM. */
static int open_search_directory_below(const struct qcow2_opened_file *from, const char *name,
                                       int *directory, struct qcow2_error *error)
{
  const struct qcow2_reference reference = { .from = from,
                                             .name = name,
                                             .role = "search directory" };
  const char *problem = qcow2_reference_problem(&reference), *last;
  size_t length = strlen(name);
  int os_errno;
  char *copy;

  if (problem != NULL)
    return qcow2_reference_refuse(&reference, problem, error);
  copy = malloc(length + 2);
  if (copy == NULL)
    return qcow2_error_set_nomem(error);
  memcpy(copy, name, length);
  memcpy(copy + length, "/", 2); /* so that the last component is opened too */
  *directory = fcntl(from->directory, F_DUPFD_CLOEXEC, 0);
  if (*directory >= 0)
    *directory = qcow2_gate_descend(*directory, copy, &last, &problem);
  os_errno = errno;
  free(copy);
  if (*directory >= 0)
    return 0;
  return problem != NULL ? qcow2_reference_refuse(&reference, problem, error)
                         : qcow2_reference_refuse_errno(&reference, os_errno, error);
}

/* A search for a name in several directories. */
struct search {
  const struct qcow2_reference *reference;
  size_t index;       /* of the directory that is searched now */
  int unopened_errno; /* why a directory could not be opened; 0: all could */
  size_t unopened;    /* the index of the first that could not be opened */
};

/* Open the directory that is searched now. Returns 0, or 1 if it could not be opened, which is
   noted. Errors: DENIED, NOMEM. */
static int open_search_directory(struct search *search, int *directory, struct qcow2_error *error)
{
  const struct qcow2_reference *reference = search->reference;
  const char *name = reference->search_directories[search->index];

  if (search->index < reference->search_from_count) {
    int code = open_search_directory_below(reference->search_from, name, directory, error);

    return code == QCOW2_ERROR_DENIED ? qcow2_error_add_help(error, code, QCOW2_HELP_REFERRER, 0)
                                      : code;
  }
  *directory = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (*directory >= 0)
    return 0;
  if (search->unopened_errno == 0) {
    search->unopened_errno = errno;
    search->unopened = search->index;
  }
  return 1;
}

/* The path of `name` in one of the directories to search. NULL: no memory. */
static char *path_in_directory(const struct qcow2_reference *reference, size_t index,
                               const char *name)
{
  const char *given = reference->search_directories[index];
  char *directory = index < reference->search_from_count
                        ? qcow2_reference_path_beside(reference->search_from->path, given)
                        : qcow2_text_duplicate(given);
  size_t size = directory == NULL ? 0 : strlen(directory) + strlen(name) + 2;
  char *path = directory == NULL ? NULL : malloc(size);

  if (path != NULL)
    snprintf(path, size, "%s/%s", directory, name);
  free(directory);
  return path;
}

/* Refuse the file of this name in the directory that is searched now. */
static int refuse_found(const struct search *search, const char *problem, struct qcow2_error *error)
{
  char directory[REFERENCE_DIRECTORY_BYTES], reason[sizeof(directory) + 160];

  snprintf(reason, sizeof(reason), "in the directory %s %s",
           qcow2_reference_directory(search->reference, search->index, directory), problem);
  return qcow2_reference_refuse(search->reference, reason, error);
}

/* Search one directory. Returns 0 if the file was found and opened, 1 if it is not there. */
static int open_in_directory(struct search *search, struct qcow2_opened_file *file,
                             struct qcow2_error *error)
{
  const struct qcow2_reference *reference = search->reference;
  char searched[REFERENCE_NAME_BYTES];
  const char *name = qcow2_reference_searched_name(reference, searched), *problem = NULL;
  struct stat status;
  int directory = -1, descriptor, os_errno;
  int code = open_search_directory(search, &directory, error);

  if (code != 0)
    return code;
  descriptor = qcow2_gate_open_admitted(directory, name, ADMIT_REGULAR, &status, &problem);
  /* The user named the directory, so what this machine has made in it is named, too. */
  if (descriptor < 0 && problem != NULL && search->index >= reference->search_from_count)
    descriptor = qcow2_gate_open_device(directory, name, &status, &problem);
  os_errno = errno;
  if (descriptor < 0) {
    close(directory);
    if (problem == NULL && os_errno == ENOENT)
      return 1;
    return problem == NULL ? qcow2_reference_refuse_errno(reference, os_errno, error)
                           : refuse_found(search, problem, error);
  }
  code = qcow2_gate_fill(file, path_in_directory(reference, search->index, name), directory,
                         descriptor, &status, error);
  if (code == 0 && reference->is_taken != NULL &&
      reference->is_taken(reference->taken_context, file)) {
    qcow2_opened_file_close(file);
    return 1;
  }
  return code;
}

/* Search all directories. Returns 0 if the file was found and opened, 1 if it was not found. */
static int open_by_search(struct search *search, struct qcow2_opened_file *file,
                          struct qcow2_error *error)
{
  const struct qcow2_reference *reference = search->reference;
  char name[REFERENCE_NAME_BYTES];
  int code = 1;

  for (size_t i = 0; qcow2_reference_searched_name(reference, name) != NULL && code > 0 &&
                     i < reference->search_count;
       i++) {
    search->index = i;
    code = open_in_directory(search, file, error);
  }
  return code;
}

/* True if the path in the image leads to another file than the one that was found. */
static bool leads_elsewhere(const struct qcow2_reference *reference,
                            const struct qcow2_opened_file *found)
{
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  bool elsewhere = open_beside(reference, &file, NULL) == 0 &&
                   !qcow2_opened_file_same(&file, found);

  qcow2_opened_file_close(&file);
  return elsewhere;
}

/* Make the warning about how the file was found: the path in the image leads to another file, or a
   directory could not be searched. */
static int note_search(const struct search *search, bool was_found, struct qcow2_opened_file *file,
                       struct qcow2_error *error)
{
  const struct qcow2_reference *reference = search->reference;
  char directory[REFERENCE_DIRECTORY_BYTES], system[128], advice[REFERENCE_DIRECTORY_BYTES],
      note[3 * sizeof(directory) + 400] = "";
  size_t used = 0;

  if (was_found && leads_elsewhere(reference, file))
    used = (size_t) snprintf(note, sizeof(note),
                             "the %s was found by searching the directory %s although another file "
                             "lies where the image says; to use that one, %s",
                             reference->role,
                             qcow2_reference_directory(reference, search->index, directory),
                             qcow2_reference_unsearch(reference, search->index, advice));
  if (search->unopened_errno != 0)
    snprintf(note + used, sizeof(note) - used,
             "%sthe directory %s could not be searched for the %s: %s", used > 0 ? "; " : "",
             qcow2_reference_directory(reference, search->unopened, directory), reference->role,
             qcow2_errno_text(search->unopened_errno, system, sizeof(system)));
  return qcow2_opened_file_warn(file, note, error);
}

/* The error if the file was not found, and a directory could not be searched. */
static int refuse_unsearched(const struct search *search, struct qcow2_error *error)
{
  const struct qcow2_reference *reference = search->reference;
  char name[TEXT_ESCAPED_BYTES], directory[REFERENCE_DIRECTORY_BYTES];

  return qcow2_error_set_errno(
      error, search->unopened_errno, QCOW2_NO_OFFSET,
      "the %s \"%s\" was not found, and the directory %s cannot be searched for it",
      reference->role, qcow2_text_quote(reference->name, name),
      qcow2_reference_directory(reference, search->unopened, directory));
}

int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error)
{
  struct search search = { .reference = reference };
  int code = open_by_search(&search, file, error);
  bool was_found = code == 0;

  if (code > 0) {
    code = open_beside(reference, file, error);
    if (code == QCOW2_ERROR_DENIED && search.unopened_errno != 0)
      return refuse_unsearched(&search, error);
  }
  return code != 0 ? code : note_search(&search, was_found, file, error);
}
