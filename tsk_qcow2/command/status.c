/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "command.h"

static const char *presence(const char *path)
{
  return access(path, R_OK) == 0 ? path : "missing";
}

/* What the user's own fls says is what counts in the end. */
static void print_fls(void)
{
  static const char *const answers[] = {
    [LOADER_NO_FLS] = "does not start, or is not in PATH",
    [LOADER_FLS_WITHOUT_QCOW2] = "does not know qcow2: it loads no " TSK_SONAME " from here, but another libtsk or one inside it;\n"
                                 "                     \"ldd $(command -v fls)\" says which, and tsk-qcow2 must be built for that one",
    [LOADER_FLS_WITH_QCOW2] = "knows qcow2",
  };

  printf("fls:                 %s\n", answers[loader_ask_fls()]);
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
  if (ours) {
    print_fls();
    printf("Inside libtsk too:   %s\n",
           loader_reaches_inside()
               ? "yes"
               : "no: this libtsk binds its own calls, so tsk_recover and tsk_loaddb do not see qcow2; fls and the others do");
  }
  printf("Never covered:       programs that carry a libtsk of their own, such as pstat and pytsk3\n");
  return ours ? EXIT_OK : EXIT_NOT_ENABLED;
}
