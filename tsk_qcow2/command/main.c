/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

static const char USAGE[] =
    "usage: tsk-qcow2 COMMAND ...\n"
    "\n"
    "  run TOOL [ARG...]       run a Sleuth Kit tool with qcow2 support, changing nothing on the system\n"
    "  enable                  make every Sleuth Kit program on this machine understand qcow2 (root)\n"
    "  disable                 undo enable (root)\n"
    "  status                  say whether it is enabled, and what the loader picks\n"
    "  info [--chain] [--json] IMAGE\n"
    "                          header, features, snapshots, extensions, warnings; opens no other file,\n"
    "                          unless --chain asks for the backing files and the data file too\n"
    "  snapshots IMAGE         the snapshots, a line each\n"
    "  bitmap [--json] IMAGE NAME\n"
    "                          the ranges that a dirty bitmap marks: start and length in bytes\n"
    "  verify [--json] [--vmstate] [--no-hash] IMAGE\n"
    "                          read the disk and every snapshot (with --vmstate, saved memory too), say what\n"
    "                          cannot be read and why, and print sizes and SHA-256; --no-hash skips holes.\n"
    "                          Exit status: 0 good, 4 damaged, 1 unusable\n"
    "  --help, --version\n"
    "\n"
    "Image names: IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...\n"
    "  @ID or @NAME, @id=ID, @name=NAME    a snapshot inside the image\n"
    "  @index=N                            the same by its place in the table, from 0 on\n"
    "  backing=PATH                        the backing file; repeat it for deeper layers\n"
    "  backing=none                        examine the overlay alone: its holes read as zeros\n"
    "  search=DIRECTORY                    look there for files that the image refers to\n"
    "  data-file=PATH                      the external data file\n"
    "  key-file=PATH                       the file that holds the passphrase; repeat it for encrypted\n"
    "                                      backing files with passphrases of their own\n"
    "  vmstate                             the snapshot's saved memory instead of its disk\n"
    "  errors=zero                         what cannot be read is given as zeros, and told on stderr\n"
    "  \",,\" stands for a comma.\n"
    "\n"
    "Example: tsk-qcow2 run fls -i qcow2 -o 2048 disk.qcow2@before-update\n";

static const struct {
  const char *name;
  int (*run)(int argc, char *argv[]);
} COMMANDS[] = {
  { "bitmap", command_bitmap }, { "disable", command_disable },     { "enable", command_enable },
  { "info", command_info },     { "run", command_run },             { "snapshots", command_snapshots },
  { "status", command_status }, { "verify", command_verify },
};

static void complain(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

static void complain(const char *format, va_list arguments)
{
  fflush(stdout);
  fputs("tsk-qcow2: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
}

int complain_failed(const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  complain(format, arguments);
  va_end(arguments);
  return EXIT_FAILED;
}

int complain_usage(const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  complain(format, arguments);
  va_end(arguments);
  fputs("Try: tsk-qcow2 --help\n", stderr);
  return EXIT_USAGE;
}

int main(int argc, char *argv[])
{
  if (argc < 2) {
    fputs(USAGE, stderr);
    return EXIT_USAGE;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    fputs(USAGE, stdout);
    return EXIT_OK;
  }
  if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
    printf("tsk-qcow2 %s\n", qcow2_version());
    return EXIT_OK;
  }
  for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++)
    if (strcmp(argv[1], COMMANDS[i].name) == 0)
      return COMMANDS[i].run(argc - 2, argv + 2);
  return complain_usage("there is no command \"%s\"", argv[1]);
}
