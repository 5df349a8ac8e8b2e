/* SPDX-License-Identifier: MIT */
#include "arguments.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct {
  const char *text;
  unsigned flag;
  size_t value; /* 0, or where in struct arguments its value goes */
} OPTIONS[] = {
  { "--allow-other", ARGUMENT_ALLOW_OTHER, 0 },
  { "--body", ARGUMENT_BODY, 0 },
  { "--chain", ARGUMENT_CHAIN, 0 },
  { "--csv", ARGUMENT_CSV, 0 },
  { "--decode", ARGUMENT_DECODE, 0 },
  { "--deleted", ARGUMENT_DELETED, 0 },
  { "--foreground", ARGUMENT_FOREGROUND, 0 },
  { "--json", ARGUMENT_JSON, 0 },
  { "--list", ARGUMENT_LIST, offsetof(struct arguments, list) },
  { "--map", ARGUMENT_MAP, offsetof(struct arguments, map) },
  { "--no-hash", ARGUMENT_NO_HASH, 0 },
  { "--ranges", ARGUMENT_RANGES, 0 },
  { "--rebuild", ARGUMENT_REBUILD, 0 },
  { "--recovered", ARGUMENT_RECOVERED, 0 },
  { "--streams", ARGUMENT_STREAMS, offsetof(struct arguments, streams) },
  { "--svg", ARGUMENT_SVG, 0 },
  { "--svg=disk", ARGUMENT_SVG_DISK, 0 },
  { "--svg=file", ARGUMENT_SVG_FILE, 0 },
  { "--svg=layers", ARGUMENT_SVG_LAYERS, 0 },
  { "--vmstate", ARGUMENT_VM_STATE, 0 },
};

static const char *wanted(const struct arguments *arguments)
{
  return arguments->wanted == NULL ? "one image" : arguments->wanted;
}

/* Take an option, and its value from `next` if it has one. *taken becomes the number of arguments
   that these are. */
static int take_option(struct arguments *arguments, const char *option, const char *next,
                       int *taken)
{
  for (size_t i = 0; i < sizeof(OPTIONS) / sizeof(OPTIONS[0]); i++) {
    if (strcmp(option, OPTIONS[i].text) != 0 || (arguments->known & OPTIONS[i].flag) == 0)
      continue;
    arguments->given |= OPTIONS[i].flag;
    *taken = OPTIONS[i].value == 0 ? 1 : 2;
    if (*taken == 2 && next == NULL)
      return complain_usage("%s: %s needs a value", arguments->command, option);
    if (*taken == 2)
      memcpy((char *) arguments + OPTIONS[i].value, &next, sizeof(next));
    return EXIT_OK;
  }
  return complain_usage("%s has no option %s", arguments->command, option);
}

/* As with fls, the further names may be meant as a backing chain. */
static int complain_too_many(const struct arguments *arguments)
{
  return complain_usage(
      "%s takes %s; backing files are named in the image name: 'TOP,backing=NEXT,backing=BASE'",
      arguments->command, wanted(arguments));
}

int arguments_parse(int argc, char *argv[], struct arguments *arguments)
{
  bool no_more_options = false;

  for (int i = 0, taken = 1; i < argc; i += taken, taken = 1) {
    bool option = argv[i][0] == '-' && argv[i][1] != '\0' && !no_more_options;

    if (option && strcmp(argv[i], "--") == 0)
      no_more_options = true;
    else if (option && take_option(arguments, argv[i], argv[i + 1], &taken) != EXIT_OK)
      return EXIT_USAGE;
    else if (!option && arguments->operand_count == arguments->operands_wanted)
      return complain_too_many(arguments);
    else if (!option)
      arguments->operands[arguments->operand_count++] = argv[i];
  }
  if (arguments->operand_count < arguments->operands_wanted)
    return complain_usage("%s needs %s", arguments->command, wanted(arguments));
  return EXIT_OK;
}

int arguments_open(const struct arguments *arguments, int operand, enum tsk_qcow2_depth depth,
                   struct tsk_qcow2_opened *opened)
{
  struct qcow2_error error;

  if (tsk_qcow2_open_names(1, &arguments->operands[operand], depth, NULL, opened, &error) != 0)
    return complain_failed("%s", error.message);
  return EXIT_OK;
}

int arguments_finish(struct tsk_qcow2_opened *opened, int status)
{
  if (status == EXIT_OK && opened->is_in_gaps)
    status = EXIT_DAMAGED;
  complain_changes(opened);
  tsk_qcow2_opened_close(opened);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}
