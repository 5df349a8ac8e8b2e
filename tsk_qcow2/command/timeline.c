/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 timeline: the file systems of all states in mactime's body format. libtsk reads them,
   in a program of its own. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "command.h"
#include "companion.h"

#define ZONE_BYTES 128
#define ZONES "/usr/share/zoneinfo"

/* The C library takes a zone that it does not know for UTC. */
static bool is_zone(const char *zone)
{
  char path[ZONE_BYTES + sizeof(ZONES "/")];

  if (strcmp(zone, "UTC") == 0)
    return true;
  if (zone[0] == '\0' || zone[0] == '/' || strstr(zone, "..") != NULL || strlen(zone) >= ZONE_BYTES)
    return false;
  snprintf(path, sizeof(path), "%s/%s", ZONES, zone);
  return access(path, R_OK) == 0;
}

/* Take "--zone ZONE" out of the arguments. Returns EXIT_OK, or EXIT_USAGE after complaining. */
static int take_zone(int *argc, char *argv[], const char **zone)
{
  int kept = 0;

  *zone = "UTC";
  for (int i = 0; i < *argc; i++) {
    if (strcmp(argv[i], "--zone") != 0) {
      argv[kept++] = argv[i];
      continue;
    }
    if (++i == *argc)
      return complain_usage("--zone needs a time zone, such as Europe/Berlin");
    *zone = argv[i];
  }
  *argc = kept;
  if (!is_zone(*zone))
    return complain_usage("there is no time zone \"%s\"; those that there are lie below " ZONES,
                          *zone);
  return EXIT_OK;
}

int command_timeline(int argc, char *argv[])
{
  struct arguments arguments = { .command = "timeline",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_CSV | ARGUMENT_RECOVERED };
  char library[4096], zone_option[ZONE_BYTES + 16];
  const char *zone;
  const char *words[8] = { "tsk-qcow2-states", "timeline" };
  int count = 2, status = take_zone(&argc, argv, &zone);

  if (status == EXIT_OK)
    status = arguments_parse(argc, argv, &arguments);
  if (status != EXIT_OK)
    return status;
  if (!loader_picks(library, sizeof(library)))
    return complain_failed("file systems are read by libtsk, which cannot be loaded: %s. "
                           "Install it, or take the states to a machine that has it: "
                           "tsk-qcow2 selector --all IMAGE",
                           library);
  snprintf(zone_option, sizeof(zone_option), "--zone=%s", zone);
  words[count++] = zone_option;
  if ((arguments.given & ARGUMENT_CSV) != 0)
    words[count++] = "--csv";
  if ((arguments.given & ARGUMENT_RECOVERED) != 0)
    words[count++] = "--recovered";
  words[count++] = "--";
  words[count] = arguments.operands[0];
  return companion_run("tsk-qcow2-states", NULL, words);
}
