/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "interrupt.h"

/* clang-format off: a line for each */
static const struct {
  const char *name;
  int (*run)(int argc, char *argv[]);
} COMMANDS[] = {
  { "bitmap", command_bitmap },     { "check", command_check },
  { "diff", command_diff },         { "disable", command_disable },
  { "enable", command_enable },     { "help", command_help },
  { "info", command_info },         { "map", command_map },
  { "mount", command_mount },       { "report", command_report },
  { "residue", command_residue },   { "run", command_run },
  { "selector", command_selector }, { "snapshots", command_snapshots },
  { "status", command_status },     { "timeline", command_timeline },
  { "verify", command_verify },
};
/* clang-format on */

int main(int argc, char *argv[])
{
  interrupt_prepare();
  if (argc < 2) {
    help_print_all(stderr);
    return EXIT_USAGE;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
    return command_help(0, argv + argc);
  if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
    printf("tsk-qcow2 %s\n", qcow2_version());
    return EXIT_OK;
  }
  for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
    if (strcmp(argv[1], COMMANDS[i].name) != 0)
      continue;
    if (argc == 3 && strcmp(argv[2], "--help") == 0)
      return command_help(1, argv + 1);
    if (COMMANDS[i].run != command_help)
      complain_set_topic(COMMANDS[i].name);
    return COMMANDS[i].run(argc - 2, argv + 2);
  }
  return complain_usage("there is no command \"%s\"", argv[1]);
}
