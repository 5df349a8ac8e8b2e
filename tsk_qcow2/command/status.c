/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "command.h"
#include "program.h"

static const char *presence(const char *path)
{
  return access(path, R_OK) == 0 ? path : "missing";
}

/* What the user's own fls reports decides in the end. */
static void print_fls(void)
{
  static const char *const answers[] = {
    [LOADER_NO_FLS] = "does not start, or is not in PATH",
    [LOADER_FLS_WITHOUT_QCOW2] = "does not know qcow2: it loads no " TSK_SONAME
                                 " from here, but another libtsk or one inside it;\n"
                                 "                     \"ldd $(command -v fls)\" says which, and "
                                 "tsk-qcow2 must be built for that one",
    [LOADER_FLS_WITH_QCOW2] = "knows qcow2",
  };

  printf("fls:                 %s\n", answers[loader_ask_fls()]);
}

struct found {
  size_t understand, take_for_raw;
};

/* Count a program. If it takes qcow2 images for raw disks, print its name. */
static void visit_program(void *context, const char *path, const struct program_answer *answer)
{
  struct found *found = context;
  const char *label = found->take_for_raw == 0 ? "Read it as raw:" : "";
  char why[768];

  if (answer->kind == PROGRAM_UNDERSTANDS) {
    found->understand++;
    return;
  }
  found->take_for_raw++;
  program_explain(answer, why, sizeof(why));
  printf("%-20s %s %s\n", label, path, why);
}

static void print_programs(bool is_enabled)
{
  struct found found = { 0, 0 };

  program_each_in_path(is_enabled, visit_program, &found);
  if (found.take_for_raw == 0)
    printf("Read it as raw:      none in PATH\n");
  printf("Understand qcow2:    %zu programs in PATH%s\n", found.understand,
         is_enabled ? "" : ", with tsk-qcow2 run");
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
  printf("Enabled:             %s\n",
         ours ? "yes" : "no (tsk-qcow2 enable, or tsk-qcow2 run TOOL)");
  if (ours)
    print_fls();
  printf("Calls inside libtsk: %s\n",
         program_libtsk_binds_calls()
             ? "do not reach the plugin, which handles the programs' calls instead"
             : "reach the plugin");
  print_programs(ours);
  printf("Never reached:       what contains a libtsk of its own, such as Python's pytsk3\n");
  return ours ? EXIT_OK : EXIT_NOT_ENABLED;
}
