/* SPDX-License-Identifier: MIT */
/* What commands say on stderr, and warnings. */
#include <stdarg.h>
#include <stdio.h>

#include "command.h"

/* Where usage errors lead to. */
static const char *topic;

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

void complain_set_topic(const char *name)
{
  topic = name;
}

int complain_usage(const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  complain(format, arguments);
  va_end(arguments);
  fprintf(stderr, "Try: tsk-qcow2 %s%s\n", topic == NULL ? "--help" : "help ",
          topic == NULL ? "" : topic);
  return EXIT_USAGE;
}

void complain_warnings(const struct tsk_qcow2_opened *opened)
{
  const char *warning;

  for (size_t i = 0; (warning = tsk_qcow2_opened_warning(opened, i)) != NULL; i++)
    complain_failed("warning: %s", warning);
}

void complain_changes(const struct tsk_qcow2_opened *opened)
{
  char sentence[QCOW2_CHANGED_BYTES];

  for (size_t i = 0; opened->image != NULL && i < qcow2_layer_count(opened->image); i++)
    if (qcow2_layer_changed(opened->image, i, sentence, sizeof(sentence)))
      complain_failed("warning: %s", sentence);
}

void print_warnings(const struct tsk_qcow2_opened *opened)
{
  const char *warning;

  for (size_t i = 0; (warning = tsk_qcow2_opened_warning(opened, i)) != NULL; i++)
    printf("Warning: %s\n", warning);
}
