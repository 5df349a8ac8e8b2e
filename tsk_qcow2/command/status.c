/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "command.h"

static const char *presence(const char *path)
{
  return access(path, R_OK) == 0 ? path : "missing";
}

int command_status(int argc, char *argv[])
{
  char path[4096];
  bool loads, ours;

  (void) argv;
  if (argc > 0)
    return complain_usage("status takes no arguments");
  loads = loader_picks(path, sizeof(path));
  ours = loads && loader_is_dropin(path);
  printf("tsk-qcow2 %s\n", qcow2_version());
  printf("Plugin:              %s\n", presence(DROPIN_DIRECTORY "/" TSK_SONAME));
  printf("Real libtsk:         %s\n", presence(TSK_LIBRARY));
  printf("The loader picks:    %s\n", path);
  if (getenv("LD_LIBRARY_PATH") != NULL)
    printf("                     (LD_LIBRARY_PATH is set and counts here)\n");
  printf("Enabled:             %s\n", ours ? "yes" : "no (tsk-qcow2 enable, or tsk-qcow2 run TOOL)");
  if (ours)
    printf("Inside libtsk too:   %s\n",
           loader_reaches_inside()
               ? "yes"
               : "no: this libtsk binds its own calls, so tsk_recover and tsk_loaddb do not see qcow2; fls and the others do");
  printf("Never covered:       programs that carry a libtsk of their own, such as pstat and pytsk3\n");
  return ours ? EXIT_OK : EXIT_NOT_ENABLED;
}
