/* SPDX-License-Identifier: MIT */
#include "companion.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

/* The path of a program in the directory of this one. False: there is none. */
static bool find_beside(const char *name, char path[COMPANION_PATH_BYTES])
{
  char self[COMPANION_PATH_BYTES];
  ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
  char *slash;

  if (length <= 0)
    return false;
  self[length] = '\0';
  slash = strrchr(self, '/');
  if (slash == NULL)
    return false;
  *slash = '\0';
  length = snprintf(path, COMPANION_PATH_BYTES, "%s/%s", self, name);
  return length < (ssize_t) COMPANION_PATH_BYTES && access(path, X_OK) == 0;
}

void companion_find(const char *name, char path[COMPANION_PATH_BYTES])
{
  if (!find_beside(name, path))
    snprintf(path, COMPANION_PATH_BYTES, "%s/%s", COMPANION_DIRECTORY, name);
}

int companion_run(const char *name, const char *package, const char *const argv[])
{
  char path[COMPANION_PATH_BYTES];
  char *const *arguments;

  companion_find(name, path);
  fflush(stdout);
  memcpy(&arguments, &argv, sizeof(arguments)); /* execv() changes none of them */
  execv(path, arguments);
  if (errno == ENOENT && package != NULL)
    return complain_failed("%s is not there: it is in a package of its own. On Debian and Ubuntu: "
                           "sudo apt-get install %s",
                           path, package);
  return complain_failed("cannot run %s: %s", path, strerror(errno));
}
