/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 diff: what changed from one state to another. */
#include "diff.h"

#include <string.h>

#include "arguments.h"
#include "command.h"

int command_diff(int argc, char *argv[])
{
  struct arguments arguments = { .command = "diff",
                                 .operands_wanted = 2,
                                 .takes_two_images = true,
                                 .known = ARGUMENT_JSON | ARGUMENT_RANGES };
  struct tsk_qcow2_opened opened[2];
  int status = arguments_parse(argc, argv, &arguments);

  if (status != EXIT_OK)
    return status;
  if ((arguments.given & ARGUMENT_RANGES) == 0)
    return complain_usage("diff needs --ranges");
  memset(opened, 0, sizeof(opened));
  for (int i = 0; status == EXIT_OK && i < 2; i++) {
    status = arguments_open(&arguments, i, TSK_QCOW2_WHOLE, &opened[i]);
    if (status == EXIT_OK)
      complain_warnings(&opened[i]);
  }
  if (status == EXIT_OK)
    status = diff_ranges(opened, (arguments.given & ARGUMENT_JSON) != 0);
  tsk_qcow2_opened_close(&opened[0]);
  return arguments_finish(&opened[1], status);
}
