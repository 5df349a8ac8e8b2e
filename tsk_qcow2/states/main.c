/* SPDX-License-Identifier: MIT */
/* tsk-qcow2-states: started by tsk-qcow2, which has checked the arguments. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "states.h"
#include "../command/command.h"
#include "../command/interrupt.h"

static void set_zone(const char *zone)
{
  setenv("TZ", zone, 1);
  tzset();
}

/* The options come first, one word each, and "--" ends them. */
static int run_diff(char *argv[])
{
  struct diff_options options = { .is_json = false };
  const char *names[2];

  for (; *argv != NULL && strcmp(*argv, "--") != 0; argv++) {
    options.is_json = options.is_json || strcmp(*argv, "--json") == 0;
    options.is_body = options.is_body || strcmp(*argv, "--body") == 0;
    options.with_deleted = options.with_deleted || strcmp(*argv, "--deleted") == 0;
  }
  if (argv[0] == NULL || argv[1] == NULL || argv[2] == NULL)
    return complain_usage("diff needs two images");
  set_zone("UTC"); /* FAT has local times: they are shown as they are stored */
  names[0] = argv[1];
  names[1] = argv[2];
  return states_diff(names, &options);
}

/* As above, with "--zone=ZONE", which was checked. */
static int run_timeline(char *argv[])
{
  struct timeline_options options = { .is_csv = false };

  for (; *argv != NULL && strcmp(*argv, "--") != 0; argv++) {
    options.is_csv = options.is_csv || strcmp(*argv, "--csv") == 0;
    options.with_recovered = options.with_recovered || strcmp(*argv, "--recovered") == 0;
    if (strncmp(*argv, "--zone=", 7) == 0)
      set_zone(*argv + 7);
  }
  if (argv[0] == NULL || argv[1] == NULL)
    return complain_usage("timeline needs one image");
  return states_timeline(argv[1], &options);
}

/* As above; "--verified": stdin has what verify printed. */
static int run_survey(char *argv[])
{
  bool has_verified = false;

  for (; *argv != NULL && strcmp(*argv, "--") != 0; argv++)
    has_verified = has_verified || strcmp(*argv, "--verified") == 0;
  if (argv[0] == NULL || argv[1] == NULL)
    return complain_usage("survey needs one image");
  set_zone("UTC");
  return states_survey(argv[1], has_verified);
}

static int finish(int status)
{
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}

int main(int argc, char *argv[])
{
  interrupt_prepare();
  if (argc >= 2 && strcmp(argv[1], "diff") == 0)
    return finish(run_diff(argv + 2));
  if (argc >= 2 && strcmp(argv[1], "timeline") == 0)
    return finish(run_timeline(argv + 2));
  if (argc >= 2 && strcmp(argv[1], "survey") == 0)
    return finish(run_survey(argv + 2));
  return complain_usage("tsk-qcow2-states is started by tsk-qcow2 only");
}
