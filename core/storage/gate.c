/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH, O_NOATIME */
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
#include "storage.h"

#ifndef O_NOATIME
#define O_NOATIME 0
#endif
#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

void qcow2_opened_file_close_directory(struct qcow2_opened_file *file)
{
  if (file->directory >= 0)
    close(file->directory);
  file->directory = -1;
}

/* ---- Opening one name in one directory --------------------------------- */

/* Which kinds of file may be opened. */
enum admission {
  ADMIT_REGULAR,          /* an image's word */
  ADMIT_REGULAR_OR_BLOCK  /* the user's word */
};

/* Why `status` may not be opened, as a clause; NULL: it may. */
static const char *admission_problem(const struct stat *status, enum admission admission)
{
  if (S_ISREG(status->st_mode))
    return NULL;
  if (S_ISBLK(status->st_mode))
    return admission == ADMIT_REGULAR_OR_BLOCK ? NULL : "it is a device";
  if (S_ISLNK(status->st_mode))
    return "it is a symbolic link";
  if (S_ISDIR(status->st_mode))
    return "it is a directory";
  if (S_ISCHR(status->st_mode))
    return "it is a device";
  return "it is not a regular file";
}

/* Evidence's access time stays as it is where we may ask for that (the owner and root may). */
static int open_quietly(int directory, const char *name)
{
  const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  int descriptor = openat(directory, name, flags | O_NOATIME);

  if (descriptor < 0 && errno == EPERM)
    descriptor = openat(directory, name, flags);
  return descriptor;
}

/* Open `name` in `directory`, which must be the same admitted file before and after. Returns the descriptor,
   or -1 with either *problem (a clause) or errno set. */
static int open_admitted(int directory, const char *name, enum admission admission,
                         struct stat *status, const char **problem)
{
  struct stat before;
  int descriptor, os_errno = 0;

  *problem = NULL;
  if (fstatat(directory, name, &before, AT_SYMLINK_NOFOLLOW) != 0)
    return -1;
  *problem = admission_problem(&before, admission);
  if (*problem != NULL)
    return -1;
  descriptor = open_quietly(directory, name);
  if (descriptor < 0)
    return -1;
  if (fstat(descriptor, status) != 0)
    os_errno = errno;
  else if (status->st_dev == before.st_dev && status->st_ino == before.st_ino &&
           admission_problem(status, admission) == NULL)
    return descriptor;
  else
    *problem = "it was exchanged for another file while it was being opened";
  close(descriptor);
  errno = os_errno;
  return -1;
}

/* The size of an admitted file in bytes. Returns 0 or an errno value. */
static int descriptor_size(int descriptor, const struct stat *status, uint64_t *size)
{
  off_t end = status->st_size;

  if (S_ISBLK(status->st_mode))
    end = lseek(descriptor, 0, SEEK_END);
  if (end < 0)
    return errno;
  *size = (uint64_t) end;
  return 0;
}

/* Make the opened file from its parts; it owns `path` (which may be NULL for no memory) and the descriptors
   from now on, also when this fails. */
static int opened_file_fill(struct qcow2_opened_file *file, char *path, int directory,
                            int descriptor, const struct stat *status, struct qcow2_error *error)
{
  uint64_t size = 0;
  int os_errno = descriptor_size(descriptor, status, &size);
  int code = 0;

  *file = (struct qcow2_opened_file){ .path = path,
                                      .descriptor = descriptor,
                                      .directory = directory,
                                      .allocated_size = (uint64_t) status->st_blocks * 512,
                                      .is_regular = S_ISREG(status->st_mode),
                                      .has_identity = true,
                                      .device = status->st_dev,
                                      .inode = status->st_ino };
  if (path == NULL)
    code = qcow2_error_set_nomem(error);
  else if (os_errno != 0)
    code = qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET, "cannot tell the size of a file");
  if (code == 0)
    code = qcow2_storage_from_descriptor(descriptor, size, &file->storage, error);
  if (code != 0) {
    close(descriptor);
    qcow2_opened_file_close(file);
  }
  return code;
}

/* ---- The user's word --------------------------------------------------- */

static int refuse_named(const char *path, const char *problem, int os_errno,
                        struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  qcow2_text_quote(path, quoted);
  if (problem != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "cannot open \"%s\": %s", quoted, problem);
  return qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET, "cannot open \"%s\"", quoted);
}

/* Open a file that has no path, such as /proc/self/fd/5 of a deleted one. It lies in no directory. */
static int open_pathless(const char *path, struct qcow2_opened_file *file, struct qcow2_error *error)
{
  int os_errno = errno;
  int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  const char *problem;
  struct stat status;

  if (descriptor < 0)
    return refuse_named(path, NULL, os_errno, error);
  problem = fstat(descriptor, &status) != 0 ? "it cannot be examined"
                                            : admission_problem(&status, ADMIT_REGULAR_OR_BLOCK);
  if (problem != NULL) {
    close(descriptor);
    return refuse_named(path, problem, 0, error);
  }
  return opened_file_fill(file, qcow2_text_duplicate(path), -1, descriptor, &status, error);
}

int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error)
{
  const char *problem = NULL;
  struct stat status;
  char *slash, *real = realpath(path, NULL);
  int directory, descriptor, os_errno;

  if (real == NULL)
    return errno == ENOENT ? open_pathless(path, file, error)
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
  descriptor = open_admitted(directory, slash[1] == '\0' ? "." : slash + 1, ADMIT_REGULAR_OR_BLOCK,
                             &status, &problem);
  if (descriptor < 0) {
    os_errno = errno;
    close(directory);
    free(real);
    return refuse_named(path, problem, os_errno, error);
  }
  return opened_file_fill(file, real, directory, descriptor, &status, error);
}

/* ---- An image's word --------------------------------------------------- */

static const char *base_name(const char *path)
{
  const char *slash = strrchr(path, '/');

  return slash == NULL ? path : slash + 1;
}

/* QEMU takes "word:" before the first slash as a protocol or a driver's options. */
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

/* Why the reference's text alone forbids to open it; NULL: it does not. */
static const char *reference_problem(const struct qcow2_reference *reference)
{
  const char *name = reference->name;

  if (reference->distrust != NULL)
    return reference->distrust;
  if (name[0] == '\0')
    return "its name is empty";
  if (has_protocol(name))
    return "it is not a plain file name but names a protocol or driver";
  if (name[0] == '/')
    return "it is an absolute path, and evidence may only lead to files below its own directory";
  if (has_dot_dot(name))
    return "its path contains \"..\", and evidence may only lead to files below its own directory";
  if (reference->from->directory < 0)
    return "the image has no directory of its own to look in";
  return NULL;
}

bool qcow2_gate_lies_beside(const struct qcow2_opened_file *file, const char *name)
{
  struct stat status;

  return file->directory >= 0 && fstatat(file->directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(status.st_mode);
}

/* A sentence that says when a file of the reference's base name lies beside the image. */
static void hint_beside(const struct qcow2_reference *reference, char *out, size_t out_size)
{
  const char *name = base_name(reference->name);
  char quoted[TEXT_ESCAPED_BYTES];

  out[0] = '\0';
  if (has_protocol(reference->name) || name[0] == '\0' || strcmp(name, "..") == 0 ||
      strcmp(name, reference->name) == 0 || !qcow2_gate_lies_beside(reference->from, name))
    return;
  snprintf(out, out_size, " A file named \"%s\" lies beside it.",
           qcow2_text_quote(name, quoted));
}

/* "D:\vm\base.raw": where a machine on Windows left it. */
static bool is_windows_path(const char *name)
{
  bool letter = (name[0] >= 'A' && name[0] <= 'Z') || (name[0] >= 'a' && name[0] <= 'z');

  return letter && name[1] == ':' && (name[2] == '\\' || name[2] == '/');
}

/* The reference's base name, to be looked for in the user's directories. NULL: it has none. */
static const char *searched_name(const struct qcow2_reference *reference)
{
  const char *name = base_name(reference->name);

  if (is_windows_path(reference->name)) {
    const char *backslash = strrchr(name, '\\');

    name = backslash == NULL ? name : backslash + 1;
  } else if (has_protocol(reference->name))
    return NULL;
  return name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? NULL : name;
}

/* A sentence that says what to add to the image name so that the reference leads somewhere. */
static void advise(const struct qcow2_reference *reference, char *out, size_t out_size)
{
  bool searchable = searched_name(reference) != NULL;
  bool given = reference->advice != NULL && reference->advice[0] != '\0';
  const char *search = reference->search_count > 0 ? "\",search=DIRECTORY\" with another directory than those searched"
                                                   : "\",search=DIRECTORY\"";

  if (reference->advice == NULL)
    out[0] = '\0';
  else if (!searchable && !given)
    snprintf(out, out_size, " Which file it is cannot be said for a deeper layer");
  else
    snprintf(out, out_size, " To say which file it is, add %s%s%s to the image name", reference->advice,
             searchable && given ? " or " : "", searchable ? search : "");
}

/* Refuse the reference for the given reason (a clause), and say what to type. Returns DENIED. */
static int refuse(const struct qcow2_reference *reference, const char *reason,
                  struct qcow2_error *error)
{
  char name[TEXT_ESCAPED_BYTES], from[TEXT_ESCAPED_BYTES], hint[TEXT_ESCAPED_BYTES + 64], advice[256];
  const char *image = reference->from->path == NULL ? "the image" : base_name(reference->from->path);

  hint_beside(reference, hint, sizeof(hint));
  advise(reference, advice, sizeof(advice));
  return qcow2_error_set(error, QCOW2_ERROR_DENIED, "the %s \"%s\" of \"%s\" was not opened: %s.%s%s",
                         reference->role, qcow2_text_quote(reference->name, name),
                         qcow2_text_quote(image, from), reason, hint, advice);
}

static int refuse_for_errno(const struct qcow2_reference *reference, int os_errno,
                            struct qcow2_error *error)
{
  char reason[160], system[128];

  if (os_errno == ENOENT)
    return refuse(reference, "there is no such file", error);
  snprintf(reason, sizeof(reason), "the system says \"%s\"",
           qcow2_errno_text(os_errno, system, sizeof(system)));
  return refuse(reference, reason, error);
}

/* Descend from `directory` (which this closes) along all but the last component of `name`, never through a
   symbolic link. Returns the last directory's descriptor, or -1 with *problem or errno set; *last is the
   last component. */
static int descend(int directory, char *name, const char **last, const char **problem)
{
  struct stat status;

  *problem = NULL;
  for (;;) {
    char *slash;
    int next;

    name += strspn(name, "/");
    slash = strchr(name, '/');
    if (slash == NULL)
      break;
    *slash = '\0';
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
      *problem = "its path passes a symbolic link";
    next = *problem != NULL
               ? -1
               : openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(directory);
    if (next < 0)
      return -1;
    directory = next;
    name = slash + 1;
  }
  *last = name[0] == '\0' ? "." : name; /* "dir/" is a directory, and refused as one */
  return directory;
}

/* The path of `name` below the directory in which `from` lies. NULL when there is no memory. */
static char *path_beside(const char *from, const char *name)
{
  size_t directory_length = (size_t) (base_name(from) - from);
  size_t size = directory_length + strlen(name) + 1;
  char *path = malloc(size);

  if (path != NULL)
    snprintf(path, size, "%.*s%s", (int) directory_length, from, name);
  return path;
}

/* Open the reference below the image's own directory. */
static int open_beside(const struct qcow2_reference *reference, struct qcow2_opened_file *file,
                       struct qcow2_error *error)
{
  const char *problem = reference_problem(reference);
  const char *last = NULL;
  char *name;
  struct stat status;
  int directory, descriptor, os_errno;

  if (problem != NULL)
    return refuse(reference, problem, error);
  name = qcow2_text_duplicate(reference->name);
  if (name == NULL)
    return qcow2_error_set_nomem(error);
  directory = fcntl(reference->from->directory, F_DUPFD_CLOEXEC, 0);
  if (directory >= 0)
    directory = descend(directory, name, &last, &problem);
  descriptor = directory < 0 ? -1 : open_admitted(directory, last, ADMIT_REGULAR, &status, &problem);
  os_errno = errno;
  free(name);
  if (descriptor >= 0)
    return opened_file_fill(file, path_beside(reference->from->path, reference->name), directory,
                            descriptor, &status, error);
  if (directory >= 0)
    close(directory);
  return problem != NULL ? refuse(reference, problem, error)
                         : refuse_for_errno(reference, os_errno, error);
}

/* Open a directory that a referrer names, below its own. Errors: DENIED, NOMEM. */
static int open_search_directory_below(const struct qcow2_opened_file *from, const char *name,
                                       int *directory, struct qcow2_error *error)
{
  const struct qcow2_reference reference = { .from = from, .name = name, .role = "search directory" };
  const char *problem = reference_problem(&reference), *last;
  size_t length = strlen(name);
  int os_errno;
  char *copy;

  if (problem != NULL)
    return refuse(&reference, problem, error);
  copy = malloc(length + 2);
  if (copy == NULL)
    return qcow2_error_set_nomem(error);
  memcpy(copy, name, length);
  memcpy(copy + length, "/", 2); /* so that every component is one to descend to */
  *directory = fcntl(from->directory, F_DUPFD_CLOEXEC, 0);
  if (*directory >= 0)
    *directory = descend(*directory, copy, &last, &problem);
  os_errno = errno;
  free(copy);
  if (*directory >= 0)
    return 0;
  return problem != NULL ? refuse(&reference, problem, error) : refuse_for_errno(&reference, os_errno, error);
}

/* Open one of the directories to search. Errors: IO, DENIED, NOMEM. */
static int open_search_directory(const struct qcow2_reference *reference, size_t index, int *directory,
                                 struct qcow2_error *error)
{
  const char *name = reference->search_directories[index];
  char quoted[TEXT_ESCAPED_BYTES];

  if (index < reference->search_from_count) {
    int code = open_search_directory_below(reference->search_from, name, directory, error);

    if (code == QCOW2_ERROR_DENIED && error != NULL)
      error->help = QCOW2_HELP_REFERRER;
    return code;
  }
  *directory = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (*directory >= 0)
    return 0;
  return qcow2_error_set_errno(error, errno, QCOW2_NO_OFFSET, "cannot search the directory \"%s\" for the %s",
                               qcow2_text_quote(name, quoted), reference->role);
}

/* The path of `name` in one of the directories to search. NULL: no memory. */
static char *path_in_directory(const struct qcow2_reference *reference, size_t index, const char *name)
{
  const char *given = reference->search_directories[index];
  char *directory = index < reference->search_from_count ? path_beside(reference->search_from->path, given)
                                                         : qcow2_text_duplicate(given);
  size_t size = directory == NULL ? 0 : strlen(directory) + strlen(name) + 2;
  char *path = directory == NULL ? NULL : malloc(size);

  if (path != NULL)
    snprintf(path, size, "%s/%s", directory, name);
  free(directory);
  return path;
}

/* Look in one of the directories to search by base name. Returns 1 if nothing is there, 0 if it was opened. */
static int open_in_directory(const struct qcow2_reference *reference, size_t index,
                             struct qcow2_opened_file *file, struct qcow2_error *error)
{
  const char *name = searched_name(reference), *problem = NULL;
  struct stat status;
  int directory = -1, descriptor, os_errno;
  int code = open_search_directory(reference, index, &directory, error);

  if (code != 0)
    return code;
  descriptor = open_admitted(directory, name, ADMIT_REGULAR, &status, &problem);
  os_errno = errno;
  if (descriptor < 0) {
    close(directory);
    if (problem != NULL)
      return refuse(reference, problem, error);
    return os_errno == ENOENT ? 1 : refuse_for_errno(reference, os_errno, error);
  }
  return opened_file_fill(file, path_in_directory(reference, index, name), directory, descriptor, &status, error);
}

int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error)
{
  for (size_t i = 0; searched_name(reference) != NULL && i < reference->search_count; i++) {
    int code = open_in_directory(reference, i, file, error);

    if (code <= 0)
      return code;
  }
  return open_beside(reference, file, error);
}
