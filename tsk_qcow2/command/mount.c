/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 mount: a program of its own does it, which links libfuse. */
#include "arguments.h"
#include "command.h"
#include "companion.h"

int command_mount(int argc, char *argv[])
{
  struct arguments arguments = { .command = "mount",
                                 .operands_wanted = 2,
                                 .wanted = "an image and a directory",
                                 .known = ARGUMENT_FOREGROUND | ARGUMENT_ALLOW_OTHER };
  const char *words[7] = { "tsk-qcow2-mount" };
  int count = 1, status = arguments_parse(argc, argv, &arguments);

  if (status != EXIT_OK)
    return status;
  if ((arguments.given & ARGUMENT_FOREGROUND) != 0)
    words[count++] = "--foreground";
  if ((arguments.given & ARGUMENT_ALLOW_OTHER) != 0)
    words[count++] = "--allow-other";
  words[count++] = "--";
  words[count++] = arguments.operands[0];
  words[count] = arguments.operands[1];
  return companion_run(words[0], "tsk-qcow2-fuse", words);
}
