/* SPDX-License-Identifier: MIT */
#include "selector_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"

#define DIRECTORY_NAME "tsk-qcow2"
#define KEY_NAME "selector-key"
#define QUOTED_BYTES 256

/* ---- Where it is --------------------------------------------------------------- */

/* The path of the key's directory. The caller frees it. Errors: NOT_FOUND, NOMEM. */
static int find_directory(char **path, struct qcow2_error *error)
{
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  bool has_state = state != NULL && state[0] == '/';
  const char *start = has_state ? state : home, *rest = has_state ? "" : "/.local/state";
  size_t size;

  if (start == NULL || start[0] != '/')
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "the environment variable HOME, which leads to your key, is not set");
  size = strlen(start) + strlen(rest) + sizeof("/" DIRECTORY_NAME);
  *path = malloc(size);
  if (*path == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(*path, size, "%s%s/" DIRECTORY_NAME, start, rest);
  return 0;
}

static int complain_errno(struct qcow2_error *error, const char *directory, int os_errno)
{
  char quoted[QUOTED_BYTES], reason[128];

  if (strerror_r(os_errno, reason, sizeof(reason)) != 0)
    reason[0] = '\0';
  qcow2_error_set(error, QCOW2_ERROR_IO, "your key \"%s/" KEY_NAME "\" cannot be used: %s",
                  qcow2_text_escape(directory, strlen(directory), quoted, sizeof(quoted)), reason);
  error->os_errno = os_errno;
  return QCOW2_ERROR_IO;
}

static int complain_damaged(struct qcow2_error *error, const char *directory)
{
  char quoted[QUOTED_BYTES];

  return qcow2_error_set(error, QCOW2_ERROR_DENIED,
                         "your key \"%s/" KEY_NAME
                         "\" is damaged: delete it, and write your selectors anew",
                         qcow2_text_escape(directory, strlen(directory), quoted, sizeof(quoted)));
}

static int complain_absent(struct qcow2_error *error, const char *directory)
{
  char quoted[QUOTED_BYTES];

  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "user %u, who opens it, has no key yet (\"%s/" KEY_NAME "\")",
                         (unsigned) geteuid(),
                         qcow2_text_escape(directory, strlen(directory), quoted, sizeof(quoted)));
}

static int complain_shared(struct qcow2_error *error, const char *directory, const char *name)
{
  char quoted[QUOTED_BYTES];

  return qcow2_error_set(error, QCOW2_ERROR_DENIED,
                         "\"%s%s\" is not yours alone: it must belong to you, must not be a "
                         "symbolic link, and must give other users no rights",
                         qcow2_text_escape(directory, strlen(directory), quoted, sizeof(quoted)),
                         name);
}

static bool is_mine_alone(const struct stat *status)
{
  return status->st_uid == geteuid() && (status->st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

/* ---- Reading ------------------------------------------------------------------- */

/* Open the directory, which only this account may be able to use. Returns the descriptor, or a
   negative status. */
static int open_directory(const char *path, struct qcow2_error *error)
{
  int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;

  if (descriptor < 0 && errno == ENOENT)
    return complain_absent(error, path);
  if (descriptor < 0 && (errno == ENOTDIR || errno == ELOOP) && lstat(path, &status) == 0)
    return complain_shared(error, path, "");
  if (descriptor < 0)
    return complain_errno(error, path, errno);
  if (fstat(descriptor, &status) == 0 && is_mine_alone(&status))
    return descriptor;
  close(descriptor);
  return complain_shared(error, path, "");
}

static int read_key(int directory, const char *path, uint8_t *key, struct qcow2_error *error)
{
  int descriptor = openat(directory, KEY_NAME,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat status;
  int code = 0;

  if (descriptor < 0 && errno == ENOENT)
    return complain_absent(error, path);
  if (descriptor < 0)
    return errno == ELOOP ? complain_shared(error, path, "/" KEY_NAME)
                          : complain_errno(error, path, errno);
  if (fstat(descriptor, &status) != 0)
    code = complain_errno(error, path, errno);
  else if (!S_ISREG(status.st_mode) || !is_mine_alone(&status))
    code = complain_shared(error, path, "/" KEY_NAME);
  else if (status.st_size != TSK_QCOW2_SELECTOR_KEY_BYTES ||
           read(descriptor, key, TSK_QCOW2_SELECTOR_KEY_BYTES) != TSK_QCOW2_SELECTOR_KEY_BYTES)
    code = complain_damaged(error, path);
  close(descriptor);
  return code;
}

int tsk_qcow2_selector_key_read(uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES],
                                struct qcow2_error *error)
{
  char *path;
  int directory, code = find_directory(&path, error);

  if (code != 0)
    return code;
  directory = open_directory(path, error);
  code = directory < 0 ? directory : read_key(directory, path, key, error);
  if (directory >= 0)
    close(directory);
  free(path);
  return code;
}

/* ---- Making -------------------------------------------------------------------- */

/* Make the directory, and those above it. If one cannot be made, opening it fails later. */
static void make_directories(char *path)
{
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    (void) mkdir(path, S_IRWXU);
    *slash = '/';
  }
  (void) mkdir(path, S_IRWXU);
}

/* Make the key file. One that is there already is left alone. */
static int make_key(int directory, const char *path, struct qcow2_error *error)
{
  uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES];
  int descriptor, os_errno = 0;

  descriptor = openat(directory, KEY_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      S_IRUSR | S_IWUSR);
  if (descriptor < 0)
    return errno == EEXIST ? 0 : complain_errno(error, path, errno);
  if (getrandom(key, sizeof(key), 0) != sizeof(key) ||
      write(descriptor, key, sizeof(key)) != sizeof(key))
    os_errno = errno == 0 ? EIO : errno;
  if (close(descriptor) != 0 && os_errno == 0)
    os_errno = errno;
  explicit_bzero(key, sizeof(key));
  if (os_errno == 0)
    return 0;
  unlinkat(directory, KEY_NAME, 0);
  return complain_errno(error, path, os_errno);
}

int tsk_qcow2_selector_key_make(uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES],
                                struct qcow2_error *error)
{
  char *path;
  int directory, code = find_directory(&path, error);

  if (code != 0)
    return code;
  make_directories(path);
  directory = open_directory(path, error);
  code = directory < 0 ? directory : make_key(directory, path, error);
  if (code == 0)
    code = read_key(directory, path, key, error);
  if (directory >= 0)
    close(directory);
  free(path);
  return code;
}
