/* SPDX-License-Identifier: MIT */
/* The text of references: which of them the gate may follow, what to search for, and the errors for
   those that are refused. */
#include "reference.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"
#include "json_name.h"

const char *qcow2_reference_base_name(const char *path)
{
  const char *slash = strrchr(path, '/');

  return slash == NULL ? path : slash + 1;
}

char *qcow2_reference_path_beside(const char *from, const char *name)
{
  size_t directory_length = (size_t) (qcow2_reference_base_name(from) - from);
  size_t size = directory_length + strlen(name) + 1;
  char *path = malloc(size);

  if (path != NULL)
    snprintf(path, size, "%.*s%s", (int) directory_length, from, name);
  return path;
}

static const char JSON_PREFIX[] = "json:";

static bool is_json(const char *name)
{
  return strncmp(name, JSON_PREFIX, strlen(JSON_PREFIX)) == 0;
}

/* "D:\vm\base.raw", "\\server\share\base.raw", "..\base.raw": a path on the Windows machine that
   made the image. */
static bool is_windows_path(const char *name)
{
  bool letter = (name[0] >= 'A' && name[0] <= 'Z') || (name[0] >= 'a' && name[0] <= 'z');

  return (letter && name[1] == ':' && (name[2] == '\\' || name[2] == '/')) ||
         strncmp(name, "\\\\", 2) == 0 || strncmp(name, ".\\", 2) == 0 ||
         strncmp(name, "..\\", 3) == 0;
}

/* For QEMU, "NAME:" before the first slash is a protocol, or the options of a driver. */
static bool has_protocol(const char *name)
{
  size_t plain = strcspn(name, ":/");

  return name[plain] == ':';
}

static bool has_dot_dot(const char *name)
{
  while (*name != '\0') {
    size_t length = strcspn(name, "/");

    if (length == 2 && name[0] == '.' && name[1] == '.')
      return true;
    name += length + (name[length] == '/');
  }
  return false;
}

const char *qcow2_reference_problem(const struct qcow2_reference *reference)
{
  const char *name = reference->name;

  if (reference->distrust != NULL)
    return reference->distrust;
  if (name[0] == '\0')
    return "its name is empty";
  if (is_windows_path(name))
    return "it is a path on the Windows machine that made the image";
  if (has_protocol(name))
    return "it is not a plain file name but names a protocol or driver";
  if (name[0] == '/')
    return "it is an absolute path, and evidence may only lead to files below its own directory";
  if (has_dot_dot(name))
    return "its path contains \"..\", and evidence may only lead to files below its own directory";
  if (!qcow2_opened_file_has_directory(reference->from))
    return "the image has no directory of its own to look in";
  return NULL;
}

const char *qcow2_reference_searched_name(const struct qcow2_reference *reference,
                                          char out[REFERENCE_NAME_BYTES])
{
  char file_name[REFERENCE_NAME_BYTES];
  const char *whole = reference->name, *name;

  if (is_json(whole)) {
    if (!qcow2_json_file_name(whole + strlen(JSON_PREFIX), file_name, sizeof(file_name)))
      return NULL;
    whole = file_name;
  }
  name = qcow2_reference_base_name(whole);
  if (is_windows_path(whole)) {
    const char *backslash = strrchr(name, '\\');

    name = backslash == NULL ? name : backslash + 1;
  } else if (has_protocol(whole))
    return NULL;
  if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
      strchr(name, '/') != NULL || strlen(name) >= REFERENCE_NAME_BYTES)
    return NULL;
  strcpy(out, name);
  return out;
}

/* If the file's name is inside the reference, or if a file of the name that would be searched for
   is in the image's directory, write what says so, else an empty string. */
static void hint_beside(const struct qcow2_reference *reference, char *out, size_t out_size)
{
  char buffer[REFERENCE_NAME_BYTES], quoted[TEXT_ESCAPED_BYTES];
  const char *name;
  size_t used = 0;

  out[0] = '\0';
  if (is_json(reference->name) &&
      qcow2_json_file_name(reference->name + strlen(JSON_PREFIX), buffer, sizeof(buffer)))
    used = (size_t) snprintf(out, out_size, "; the file name in it is \"%s\"",
                             qcow2_text_quote(buffer, quoted));
  name = qcow2_reference_searched_name(reference, buffer);
  if (name != NULL && strcmp(name, reference->name) != 0 &&
      qcow2_opened_file_lies_beside(reference->from, name))
    snprintf(out + used, out_size - used, ". A file named \"%s\" lies beside it",
             qcow2_text_quote(name, quoted));
}

/* The options by which the caller can name the file, or have it found. */
static int helpful_options(const struct qcow2_reference *reference)
{
  char name[REFERENCE_NAME_BYTES];
  bool is_searchable = reference->is_of_image &&
                       qcow2_reference_searched_name(reference, name) != NULL;

  return reference->help_options | (is_searchable ? QCOW2_OPTION_SEARCH_DIRECTORIES : 0);
}

int qcow2_reference_refuse(const struct qcow2_reference *reference, const char *reason,
                           struct qcow2_error *error)
{
  char name[TEXT_ESCAPED_BYTES], from[TEXT_ESCAPED_BYTES], hint[2 * TEXT_ESCAPED_BYTES + 96];
  int options = helpful_options(reference);
  const char *image = reference->from->path == NULL
                          ? "the image"
                          : qcow2_reference_base_name(reference->from->path);

  hint_beside(reference, hint, sizeof(hint));
  qcow2_error_set(error, QCOW2_ERROR_DENIED, "the %s \"%s\" of \"%s\" was not opened: %s%s%s",
                  reference->role, qcow2_text_quote(reference->name, name),
                  qcow2_text_quote(image, from), reason, hint,
                  reference->is_of_image && options == 0
                      ? ". Of a file below the topmost image, no other can be named"
                      : "");
  return qcow2_error_add_help(error, QCOW2_ERROR_DENIED,
                              options == 0 ? QCOW2_HELP_NONE : QCOW2_HELP_NAME_FILE, options);
}

int qcow2_reference_refuse_errno(const struct qcow2_reference *reference, int os_errno,
                                 struct qcow2_error *error)
{
  char reason[160], system[128], quoted[TEXT_ESCAPED_BYTES];

  if (os_errno == ENOENT)
    return qcow2_reference_refuse(reference, "there is no such file", error);
  if (os_errno == EMFILE || os_errno == ENFILE ||
      os_errno == ENOMEM) /* another name would not help */
    return qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET, "cannot open the %s \"%s\"%s",
                                 reference->role, qcow2_text_quote(reference->name, quoted),
                                 os_errno == EMFILE
                                     ? " (\"ulimit -n 4096\" lets more files be open)"
                                     : "");
  snprintf(reason, sizeof(reason), "the system says \"%s\"",
           qcow2_errno_text(os_errno, system, sizeof(system)));
  return qcow2_reference_refuse(reference, reason, error);
}

/* True if the directory comes from the environment variable. */
static bool is_by_variable(const struct qcow2_reference *reference, size_t index)
{
  return reference->search_count - index <= reference->search_variable_count;
}

const char *qcow2_reference_directory(const struct qcow2_reference *reference, size_t index,
                                      char out[REFERENCE_DIRECTORY_BYTES])
{
  char quoted[TEXT_ESCAPED_BYTES];

  qcow2_text_quote(reference->search_directories[index], quoted);
  if (is_by_variable(reference, index))
    snprintf(out, REFERENCE_DIRECTORY_BYTES, "\"%s\" (from %s)", quoted,
             reference->search_variable);
  else
    snprintf(out, REFERENCE_DIRECTORY_BYTES, "\"%s\"", quoted);
  return out;
}

const char *qcow2_reference_unsearch(const struct qcow2_reference *reference, size_t index,
                                     char out[REFERENCE_DIRECTORY_BYTES])
{
  if (is_by_variable(reference, index))
    snprintf(out, REFERENCE_DIRECTORY_BYTES, "unset %s", reference->search_variable);
  else
    snprintf(out, REFERENCE_DIRECTORY_BYTES, "do not have this directory searched");
  return out;
}
