/* SPDX-License-Identifier: MIT */
#include "gate_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"

/* ---- Walking a path ---------------------------------------------------------- */

/* A path, as far as it was followed. */
struct walk {
  const struct qcow2_file_system *file_system;
  const char *path;
  const char *at;                    /* the component that was looked for last */
  size_t length;                     /* of it */
  struct qcow2_inner_file directory; /* the one in which that component was looked for */
  struct qcow2_inner_file file;      /* what was found there */
};

/* Go to the next component that is not "." or empty. False: there is none. */
static bool walk_advance(struct walk *walk)
{
  do {
    walk->at += walk->length;
    walk->at += strspn(walk->at, "/");
    walk->length = strcspn(walk->at, "/");
  } while (walk->length == 1 && walk->at[0] == '.');
  return walk->length > 0;
}

/* Look for the component. Errors: those of find(). */
static int walk_find(struct walk *walk, struct qcow2_error *error)
{
  const struct qcow2_file_system *system = walk->file_system;
  char *name = qcow2_text_copy(walk->at, walk->length);
  int code;

  if (name == NULL)
    return qcow2_error_set_nomem(error);
  code = system->find(system->context, &walk->directory, name, &walk->file, error);
  free(name);
  return code;
}

/* Follow the path to its end, or to a component that is no directory although more follows: then
 *is_whole is false. walk->file is what was found last. Errors: those of find(). */
static int walk_all(struct walk *walk, bool *is_whole, struct qcow2_error *error)
{
  walk->file = walk->directory;
  *is_whole = true;
  while (walk_advance(walk)) {
    int code = walk_find(walk, error);

    if (code != 0)
      return code;
    *is_whole = walk->at[walk->length] == '\0';
    if (*is_whole || walk->file.kind != QCOW2_INNER_DIRECTORY)
      return 0;
    walk->directory = walk->file;
  }
  *is_whole = true; /* it ends in "/": a directory */
  return 0;
}

/* Why a file of this kind may not be opened, as a clause; NULL: it may. */
static const char *kind_problem(enum qcow2_inner_kind kind)
{
  switch (kind) {
  case QCOW2_INNER_REGULAR: return NULL;
  case QCOW2_INNER_DIRECTORY: return "it is a directory";
  case QCOW2_INNER_LINK: return "it is a symbolic link";
  case QCOW2_INNER_DEVICE: return "it is a device";
  case QCOW2_INNER_OTHER: break;
  }
  return "it is not a regular file";
}

/* ---- Opening ------------------------------------------------------------------ */

/* Open the file that was found. `path` (NULL: no memory) is owned from the call on, also on
   failure. */
static int open_found(const struct qcow2_file_system *system, const struct qcow2_inner_file *inner,
                      char *path, struct qcow2_opened_file *file, struct qcow2_error *error)
{
  char warning[QCOW2_FOREIGN_WARNING_BYTES] = "";
  int code;

  *file = (struct qcow2_opened_file) OPENED_FILE_NONE;
  if (path == NULL)
    return qcow2_error_set_nomem(error);
  code = system->open(system->context, inner, &file->storage, warning, error);
  if (code != 0) {
    qcow2_error_add_file(error, code, path);
    free(path);
    return code;
  }
  file->path = path;
  file->is_regular = true;
  file->has_identity = true;
  file->file_system = system;
  file->inner = *inner;
  return qcow2_opened_file_warn(file, warning, error);
}

/* References of the file start from the directory in which the walk found it. */
static void keep_directory(const struct walk *walk, struct qcow2_opened_file *file)
{
  file->has_inner_directory = true;
  file->inner_directory = walk->directory;
}

/* ---- Paths of the user --------------------------------------------------------- */

/* The path of a file in the file system, as it is kept. */
static char *whole_path(const struct qcow2_file_system *system, const char *path)
{
  size_t size = strlen(system->name) + strlen(path) + 1;
  char *whole = malloc(size);

  if (whole != NULL)
    snprintf(whole, size, "%s%s", system->name, path);
  return whole;
}

static int complain_missing(const struct walk *walk, const char *clause, struct qcow2_error *error)
{
  const char *start = walk->path;
  size_t before = (size_t) (walk->at - start);
  char name[TEXT_ESCAPED_BYTES], directory[TEXT_ESCAPED_BYTES], system[TEXT_ESCAPED_BYTES];

  while (before > 1 && start[before - 1] == '/')
    before--;
  qcow2_text_escape(walk->at, walk->length, name, sizeof(name));
  qcow2_text_escape(before == 0 ? "/" : start, before == 0 ? 1 : before, directory,
                    sizeof(directory));
  return qcow2_error_set(error, QCOW2_ERROR_IO,
                         "there is no \"%s\" in the directory \"%s\" of \"%s\"%s%s", name,
                         directory, qcow2_text_quote(walk->file_system->name, system),
                         clause[0] == '\0' ? "" : ": ", clause);
}

static int complain_kind(const struct walk *walk, const char *problem, struct qcow2_error *error)
{
  char path[TEXT_ESCAPED_BYTES], system[TEXT_ESCAPED_BYTES];
  size_t length = (size_t) (walk->at - walk->path) + walk->length;
  bool is_link = walk->file.kind == QCOW2_INNER_LINK;

  qcow2_text_escape(walk->path, length, path, sizeof(path));
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "cannot open \"%s\" in \"%s\": %s%s", path,
                         qcow2_text_quote(walk->file_system->name, system), problem,
                         is_link ? ", which is not followed; name the file that it leads to" : "");
}

static bool has_dot_dot(const char *path)
{
  for (const char *at = path; (at = strstr(at, "..")) != NULL; at++)
    if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
      return true;
  return false;
}

static int open_path(const struct qcow2_file_system *system, const char *path,
                     struct qcow2_opened_file *file, struct qcow2_error *error)
{
  struct walk walk = { .file_system = system, .path = path, .at = path, .directory = system->root };
  struct qcow2_error failure = { .code = 0 };
  const char *problem;
  bool is_whole = false;
  int code;

  if (has_dot_dot(path))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "a path inside a disk cannot contain \"..\": write it without");
  code = walk_all(&walk, &is_whole, &failure);
  if (code == QCOW2_ERROR_NOT_FOUND)
    return complain_missing(&walk, failure.message, error);
  if (code != 0) {
    if (error != NULL)
      *error = failure;
    return code;
  }
  problem = kind_problem(walk.file.kind);
  if (!is_whole && problem == NULL)
    problem = "it is not a directory";
  if (problem != NULL)
    return complain_kind(&walk, problem, error);
  code = open_found(system, &walk.file, whole_path(system, path), file, error);
  if (code == 0)
    keep_directory(&walk, file);
  return code;
}

static int open_number(const struct qcow2_file_system *system, const char *path,
                       struct qcow2_opened_file *file, struct qcow2_error *error)
{
  struct walk walk = { .file_system = system, .path = path, .at = path, .length = strlen(path) };
  int code = system->find_number(system->context, path + strlen("/#"), &walk.file, error);
  const char *problem;

  if (code != 0)
    return code;
  problem = kind_problem(walk.file.kind);
  return problem != NULL ? complain_kind(&walk, problem, error)
                         : open_found(system, &walk.file, whole_path(system, path), file, error);
}

int qcow2_gate_open_inner(const struct qcow2_file_system *system, const char *path,
                          struct qcow2_opened_file *file, struct qcow2_error *error)
{
  return strncmp(path, "/#", 2) == 0 ? open_number(system, path, file, error)
                                     : open_path(system, path, file, error);
}

/* ---- References of an image ------------------------------------------------------ */

int qcow2_gate_open_inner_reference(const struct qcow2_reference *reference,
                                    struct qcow2_opened_file *file, struct qcow2_error *error)
{
  const struct qcow2_opened_file *from = reference->from;
  struct walk walk = { .file_system = from->file_system,
                       .path = reference->name,
                       .at = reference->name,
                       .directory = from->inner_directory };
  struct qcow2_error failure = { .code = 0 };
  const char *problem;
  bool is_whole = false;
  int code = walk_all(&walk, &is_whole, &failure);

  if (code == QCOW2_ERROR_NOT_FOUND)
    return qcow2_reference_refuse(reference, "there is no such file", error);
  if (code != 0) {
    if (error != NULL)
      *error = failure;
    return code;
  }
  problem = kind_problem(walk.file.kind);
  if (!is_whole)
    problem = walk.file.kind == QCOW2_INNER_LINK ? "its path passes a symbolic link"
                                                 : "its path passes a file that is no directory";
  if (problem != NULL)
    return qcow2_reference_refuse(reference, problem, error);
  code = open_found(from->file_system, &walk.file,
                    qcow2_reference_path_beside(from->path, reference->name), file, error);
  if (code == 0)
    keep_directory(&walk, file);
  return code;
}

bool qcow2_gate_inner_lies_beside(const struct qcow2_opened_file *file, const char *name)
{
  const struct qcow2_file_system *system = file->file_system;
  struct qcow2_inner_file found;
  struct qcow2_error unwanted;

  return file->has_inner_directory &&
         system->find(system->context, &file->inner_directory, name, &found, &unwanted) == 0 &&
         found.kind == QCOW2_INNER_REGULAR &&
         !(found.number == file->inner.number && found.stream == file->inner.stream);
}
