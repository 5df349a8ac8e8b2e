/* SPDX-License-Identifier: MIT */
/* The sub-commands that describe an image: info, snapshots, bitmap. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "command.h"
#include "report.h"
#include "shell.h"

static enum tsk_qcow2_depth depth_of(const struct arguments *arguments)
{
  return (arguments->given & ARGUMENT_CHAIN) != 0 ? TSK_QCOW2_CHAIN_ONLY : TSK_QCOW2_HEADER_ONLY;
}

/* The status if all that there is to be said was said: whether the image is damaged. */
static int status_of(const struct tsk_qcow2_opened *opened)
{
  bool is_sure = qcow2_deleted_is_complete(opened->image) != 0;

  if (!is_sure)
    complain_failed("some of the file cannot be read, so another deleted snapshot may be meant");
  return is_sure && !qcow2_image_is_damaged(opened->image) ? EXIT_OK : EXIT_DAMAGED;
}

/* Parse the arguments, and open the image. */
static int start(int argc, char *argv[], struct arguments *arguments,
                 struct tsk_qcow2_opened *opened)
{
  int status = arguments_parse(argc, argv, arguments);

  return status == EXIT_OK ? arguments_open(arguments, 0, depth_of(arguments), opened) : status;
}

int command_info(int argc, char *argv[])
{
  struct arguments arguments = { .command = "info",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_CHAIN | ARGUMENT_JSON };
  struct tsk_qcow2_opened opened;
  char command[SHELL_COMMAND_BYTES];
  int status = start(argc, argv, &arguments, &opened);

  if (status != EXIT_OK)
    return status;
  if ((arguments.given & ARGUMENT_JSON) != 0)
    status = info_print_json(&opened);
  else {
    status = tsk_qcow2_report_print(stdout, &opened) ? EXIT_OK : EXIT_DAMAGED;
    printf("Note: data were not read. More: %s\n",
           tsk_qcow2_shell_command("verify", arguments.operands[0], command));
  }
  return arguments_finish(&opened, status == EXIT_OK ? status_of(&opened) : status);
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

/* The status if all snapshots that there are were listed: whether others are lost, or some of them
   cannot be read. */
static int status_of_snapshots(const struct qcow2_image *image)
{
  bool is_whole = qcow2_snapshot_lost_count(image) == 0;
  struct qcow2_error error;

  for (size_t i = 0; is_whole && i < qcow2_snapshot_count(image); i++)
    is_whole = qcow2_snapshot_check(image, i, &error) == 0;
  return is_whole ? EXIT_OK : EXIT_DAMAGED;
}

int command_snapshots(int argc, char *argv[])
{
  struct arguments arguments = { .command = "snapshots", .operands_wanted = 1 };
  const struct qcow2_snapshot *snapshot;
  struct tsk_qcow2_opened opened;
  int status = start(argc, argv, &arguments, &opened);

  if (status != EXIT_OK)
    return status;
  printf("%5s  %-6s %-25s %15s %15s  %s\n", "Index", "ID", "Date", "Disk size", "VM state size",
         "Name");
  for (size_t i = 0; (snapshot = qcow2_snapshot_get(opened.image, i)) != NULL; i++)
    print_snapshot_row(i, snapshot);
  complain_warnings(&opened);
  return arguments_finish(&opened, status_of_snapshots(opened.image));
}

/* Print the dirty ranges: "START LENGTH" lines, or a JSON list. */
static int print_dirty(const struct qcow2_image *image, size_t index, bool json)
{
  struct qcow2_range range = { 0, 0 };
  struct qcow2_error error;
  const char *separator = "\n";

  printf("%s", json ? "[" : "");
  for (;;) {
    if (qcow2_bitmap_next_dirty(image, index, range.guest_offset + range.length, &range, &error) !=
        0)
      return complain_failed("%s", error.message);
    if (range.length == 0)
      break;
    if (json)
      printf("%s  { \"start\": %" PRIu64 ", \"length\": %" PRIu64 " }", separator,
             range.guest_offset, range.length);
    else
      printf("%" PRIu64 " %" PRIu64 "\n", range.guest_offset, range.length);
    separator = ",\n";
  }
  printf("%s", json ? "\n]\n" : "");
  return EXIT_OK;
}

int command_bitmap(int argc, char *argv[])
{
  struct arguments arguments = { .command = "bitmap",
                                 .operands_wanted = 2,
                                 .wanted = "an image and a name",
                                 .known = ARGUMENT_JSON };
  struct tsk_qcow2_opened opened;
  struct qcow2_error error;
  size_t index;
  int status = start(argc, argv, &arguments, &opened);

  if (status != EXIT_OK)
    return status;
  complain_warnings(&opened);
  if (qcow2_bitmap_find(opened.image, arguments.operands[1], &index, &error) != 0)
    return arguments_finish(&opened, complain_failed("%s", error.message));
  if (!qcow2_bitmap_get(opened.image, index)->is_consistent)
    fprintf(stderr, "tsk-qcow2: warning: the bitmap is inconsistent: it may miss writes\n");
  return arguments_finish(&opened,
                          print_dirty(opened.image, index, (arguments.given & ARGUMENT_JSON) != 0));
}
