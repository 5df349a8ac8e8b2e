/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "report.h"

struct info_arguments {
  bool chain, json, no_more_options;
  const char *image;
};

static int parse_arguments(int argc, char *argv[], struct info_arguments *arguments)
{
  for (int i = 0; i < argc; i++) {
    bool option = argv[i][0] == '-' && argv[i][1] != '\0' && !arguments->no_more_options;

    if (option && strcmp(argv[i], "--") == 0)
      arguments->no_more_options = true;
    else if (option && strcmp(argv[i], "--json") == 0)
      arguments->json = true;
    else if (option && strcmp(argv[i], "--chain") == 0)
      arguments->chain = true;
    else if (option)
      return complain_usage("info has no option %s", argv[i]);
    else if (arguments->image != NULL)
      return complain_usage("info takes one image");
    else
      arguments->image = argv[i];
  }
  return arguments->image == NULL ? complain_usage("info needs an image") : EXIT_OK;
}

int command_info(int argc, char *argv[])
{
  struct info_arguments arguments = { 0 };
  struct tsk_qcow2_opened opened;
  struct qcow2_error error;
  int status = parse_arguments(argc, argv, &arguments);

  if (status != EXIT_OK)
    return status;
  if (tsk_qcow2_open_names(1, &arguments.image,
                           arguments.chain ? TSK_QCOW2_CHAIN_ONLY : TSK_QCOW2_HEADER_ONLY, &opened,
                           &error) != 0)
    return complain_failed("%s", error.message);
  if (arguments.json)
    status = info_print_json(&opened);
  else
    tsk_qcow2_report_print(stdout, &opened);
  tsk_qcow2_opened_close(&opened);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}
