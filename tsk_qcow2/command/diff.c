/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 diff: what changed from one state to another. */
#include "diff.h"

#include <string.h>

#include "arguments.h"
#include "command.h"
#include "companion.h"

static int compare_ranges(const struct arguments *arguments)
{
  struct tsk_qcow2_opened opened[2];
  int status = EXIT_OK;

  memset(opened, 0, sizeof(opened));
  for (int i = 0; status == EXIT_OK && i < 2; i++) {
    status = arguments_open(arguments, i, TSK_QCOW2_WHOLE, &opened[i]);
    if (status == EXIT_OK)
      complain_warnings(&opened[i]);
  }
  if (status == EXIT_OK)
    status = diff_ranges(opened, (arguments->given & ARGUMENT_JSON) != 0);
  complain_changes(&opened[0]);
  tsk_qcow2_opened_close(&opened[0]);
  return arguments_finish(&opened[1], status);
}

/* File systems are read by libtsk, in a program of its own. */
static int compare_files(const struct arguments *arguments)
{
  const char *argv[9] = { "tsk-qcow2-states", "diff" };
  char library[4096];
  int count = 2;

  if (!loader_picks(library, sizeof(library)))
    return complain_failed("files are compared by libtsk, which cannot be loaded: %s. Without it, "
                           "ranges can be compared: tsk-qcow2 diff --ranges A B",
                           library);
  if ((arguments->given & ARGUMENT_JSON) != 0)
    argv[count++] = "--json";
  if ((arguments->given & ARGUMENT_BODY) != 0)
    argv[count++] = "--body";
  if ((arguments->given & ARGUMENT_DELETED) != 0)
    argv[count++] = "--deleted";
  argv[count++] = "--";
  argv[count++] = arguments->operands[0];
  argv[count] = arguments->operands[1];
  return companion_run("tsk-qcow2-states", NULL, argv);
}

int command_diff(int argc, char *argv[])
{
  struct arguments arguments = { .command = "diff",
                                 .operands_wanted = 2,
                                 .wanted = "two images",
                                 .known = ARGUMENT_JSON | ARGUMENT_RANGES | ARGUMENT_DELETED |
                                          ARGUMENT_BODY };
  int status = arguments_parse(argc, argv, &arguments);

  if (status != EXIT_OK)
    return status;
  if ((arguments.given & ARGUMENT_JSON) != 0 && (arguments.given & ARGUMENT_BODY) != 0)
    return complain_usage("diff prints either --json or --body");
  if ((arguments.given & ARGUMENT_RANGES) == 0)
    return compare_files(&arguments);
  if ((arguments.given & (ARGUMENT_DELETED | ARGUMENT_BODY)) != 0)
    return complain_usage("--deleted and --body are for files, and not for --ranges");
  return compare_ranges(&arguments);
}
