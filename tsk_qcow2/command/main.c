/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct {
  const char *name;
  int (*run)(int argc, char *argv[]);
} COMMANDS[] = {
  { "bitmap", command_bitmap },
  { "check", command_check },
  { "disable", command_disable },
  { "enable", command_enable },
  { "help", command_help },
  { "info", command_info },
  { "run", command_run },
  { "selector", command_selector },
  { "snapshots", command_snapshots },
  { "status", command_status },
  { "verify", command_verify },
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

void complain_warnings(const struct qcow2_image *image)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_warning(image, i)) != NULL; i++)
    complain_failed("warning: %s", warning);
}

int main(int argc, char *argv[])
{
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
    return COMMANDS[i].run(argc - 2, argv + 2);
  }
  return complain_usage("there is no command \"%s\"", argv[1]);
}
