/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "program.h"

/* Put the drop-in's directory first in the loader's search path of the tool. False: no memory. */
static bool prepend_library_path(void)
{
  const char *old = getenv("LD_LIBRARY_PATH");
  size_t size = strlen(DROPIN_DIRECTORY) + (old == NULL ? 0 : strlen(old)) + 2;
  char *path = malloc(size);
  bool done;

  if (path == NULL)
    return false;
  /* An empty element would mean the working directory. */
  snprintf(path, size, "%s%s%s", DROPIN_DIRECTORY, old == NULL || *old == '\0' ? "" : ":",
           old == NULL ? "" : old);
  done = setenv("LD_LIBRARY_PATH", path, 1) == 0;
  free(path);
  return done;
}

/* A program that would take a qcow2 image for a raw disk is not run. */
static int check_program(const char *name)
{
  struct program_answer answer;
  char path[4096], why[768];

  if (!program_find(name, path, sizeof(path)))
    return EXIT_OK; /* execvp() says what is wrong */
  program_ask(path, false, &answer);
  program_explain(&answer, why, sizeof(why));
  if (why[0] == '\0')
    return EXIT_OK;
  return complain_failed("%s %s: it would take a qcow2 image for a raw disk. Make a raw copy for "
                         "it: tsk-qcow2 run img_cat disk.qcow2 >disk.raw",
                         path, why);
}

int command_run(int argc, char *argv[])
{
  bool is_missing;

  if (argc < 1)
    return complain_usage("run needs a tool: tsk-qcow2 run img_stat -i qcow2 disk.qcow2");
  if (access(DROPIN_DIRECTORY "/" TSK_SONAME, R_OK) != 0)
    return complain_failed("the plugin is not installed in %s", DROPIN_DIRECTORY);
  if (check_program(argv[0]) != EXIT_OK)
    return EXIT_FAILED;
  if (!prepend_library_path())
    return complain_failed("out of memory");
  execvp(argv[0], argv);
  is_missing = errno == ENOENT;
  if (is_missing)
    complain_failed("there is no program %s; those of The Sleuth Kit are in the package sleuthkit",
                    argv[0]);
  else
    complain_failed("cannot run %s: %s", argv[0], strerror(errno));
  return is_missing ? 127 : 126; /* as a shell does */
}
