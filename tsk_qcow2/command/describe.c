/* SPDX-License-Identifier: MIT */
/* The sub-commands that describe an image: info, snapshots, bitmap. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "report.h"

/* What a sub-command takes. Options that it does not know are refused. */
struct arguments {
  const char *command;
  const char *operands[2]; /* IMAGE, NAME */
  int operand_count, operands_wanted;
  bool knows_chain, knows_json;
  bool chain, json;
};

static int take_option(struct arguments *arguments, const char *option)
{
  if (strcmp(option, "--json") == 0 && arguments->knows_json)
    arguments->json = true;
  else if (strcmp(option, "--chain") == 0 && arguments->knows_chain)
    arguments->chain = true;
  else
    return complain_usage("%s has no option %s", arguments->command, option);
  return EXIT_OK;
}

static int parse_arguments(int argc, char *argv[], struct arguments *arguments)
{
  bool no_more_options = false;

  for (int i = 0; i < argc; i++) {
    bool option = argv[i][0] == '-' && argv[i][1] != '\0' && !no_more_options;

    if (option && strcmp(argv[i], "--") == 0)
      no_more_options = true;
    else if (option && take_option(arguments, argv[i]) != EXIT_OK)
      return EXIT_USAGE;
    else if (!option && arguments->operand_count == arguments->operands_wanted)
      return complain_usage("%s: too many arguments", arguments->command);
    else if (!option)
      arguments->operands[arguments->operand_count++] = argv[i];
  }
  if (arguments->operand_count < arguments->operands_wanted)
    return complain_usage("%s needs %s", arguments->command,
                          arguments->operands_wanted == 1 ? "an image" : "an image and a name");
  return EXIT_OK;
}

static int open_image(const struct arguments *arguments, struct tsk_qcow2_opened *opened)
{
  struct qcow2_error error;

  if (tsk_qcow2_open_names(1, arguments->operands,
                           arguments->chain ? TSK_QCOW2_CHAIN_ONLY : TSK_QCOW2_HEADER_ONLY, NULL,
                           opened, &error) != 0)
    return complain_failed("%s", error.message);
  return EXIT_OK;
}

/* Close the image, and make sure that all output got out. */
static int finish(struct tsk_qcow2_opened *opened, int status)
{
  tsk_qcow2_opened_close(opened);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status;
}

int command_info(int argc, char *argv[])
{
  struct arguments arguments = {
    .command = "info", .operands_wanted = 1, .knows_chain = true, .knows_json = true
  };
  struct tsk_qcow2_opened opened;
  int status = parse_arguments(argc, argv, &arguments);

  if (status == EXIT_OK)
    status = open_image(&arguments, &opened);
  if (status != EXIT_OK)
    return status;
  if (arguments.json)
    status = info_print_json(&opened);
  else
    tsk_qcow2_report_print(stdout, &opened);
  return finish(&opened, status);
}

static void print_snapshot_row(size_t index, const struct qcow2_snapshot *snapshot)
{
  char id[64], name[1024], date[64];

  printf("%5zu  %-6s %-25s %15" PRIu64 " %15" PRIu64 "  %s\n", index,
         qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
         tsk_qcow2_report_date(snapshot, date, sizeof(date)), snapshot->disk_size,
         snapshot->vm_state_size,
         qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)));
}

int command_snapshots(int argc, char *argv[])
{
  struct arguments arguments = { .command = "snapshots", .operands_wanted = 1 };
  const struct qcow2_snapshot *snapshot;
  struct tsk_qcow2_opened opened;
  int status = parse_arguments(argc, argv, &arguments);
  const char *warning;

  if (status == EXIT_OK)
    status = open_image(&arguments, &opened);
  if (status != EXIT_OK)
    return status;
  printf("%5s  %-6s %-25s %15s %15s  %s\n", "Index", "ID", "Date", "Disk size", "VM state size", "Name");
  for (size_t i = 0; (snapshot = qcow2_snapshot_get(opened.image, i)) != NULL; i++)
    print_snapshot_row(i, snapshot);
  for (size_t i = 0; (warning = qcow2_warning(opened.image, i)) != NULL; i++)
    fprintf(stderr, "tsk-qcow2: warning: %s\n", warning);
  return finish(&opened, EXIT_OK);
}

/* Print the dirty ranges: "START LENGTH" lines, or a JSON list. */
static int print_dirty(const struct qcow2_image *image, size_t index, bool json)
{
  struct qcow2_range range = { 0, 0 };
  struct qcow2_error error;
  const char *separator = "\n";

  printf("%s", json ? "[" : "");
  for (;;) {
    if (qcow2_bitmap_next_dirty(image, index, range.guest_offset + range.length, &range, &error) != 0)
      return complain_failed("%s", error.message);
    if (range.length == 0)
      break;
    if (json)
      printf("%s  { \"start\": %" PRIu64 ", \"length\": %" PRIu64 " }", separator, range.guest_offset,
             range.length);
    else
      printf("%" PRIu64 " %" PRIu64 "\n", range.guest_offset, range.length);
    separator = ",\n";
  }
  printf("%s", json ? "\n]\n" : "");
  return EXIT_OK;
}

int command_bitmap(int argc, char *argv[])
{
  struct arguments arguments = { .command = "bitmap", .operands_wanted = 2, .knows_json = true };
  struct tsk_qcow2_opened opened;
  struct qcow2_error error;
  size_t index;
  int status = parse_arguments(argc, argv, &arguments);

  if (status == EXIT_OK)
    status = open_image(&arguments, &opened);
  if (status != EXIT_OK)
    return status;
  if (qcow2_bitmap_find(opened.image, arguments.operands[1], &index, &error) != 0)
    return finish(&opened, complain_failed("%s", error.message));
  if (!qcow2_bitmap_get(opened.image, index)->is_consistent)
    fprintf(stderr, "tsk-qcow2: warning: the bitmap is inconsistent: it may miss writes\n");
  return finish(&opened, print_dirty(opened.image, index, arguments.json));
}
