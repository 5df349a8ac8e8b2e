/* SPDX-License-Identifier: MIT */
#include "interrupt.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int SIGNALS[] = { SIGINT, SIGTERM, SIGHUP };

#define SIGNAL_COUNT (sizeof(SIGNALS) / sizeof(SIGNALS[0]))
#define ERASE_LINE "\r\033[K"

/* On a terminal it replaces the progress bar, if one is drawn. */
static const char *sentence;

/* The signal is raised again, and ends the program once this returns. */
static void say_and_end(int number)
{
  ssize_t written = write(STDERR_FILENO, sentence, strlen(sentence));

  (void) written;
  raise(number);
}

/* At the end of the program the output is complete: then the sentence would be wrong. */
static void have_ended(void)
{
  struct sigaction old;

  fflush(stdout);
  for (size_t i = 0; i < SIGNAL_COUNT; i++)
    if (sigaction(SIGNALS[i], NULL, &old) == 0 && old.sa_handler == say_and_end)
      signal(SIGNALS[i], SIG_DFL);
}

void interrupt_prepare(void)
{
  struct sigaction action = { .sa_handler = say_and_end, .sa_flags = (int) SA_RESETHAND }, old;

  sentence = ERASE_LINE "tsk-qcow2: interrupted: the output is not complete\n";
  if (isatty(STDERR_FILENO) != 1)
    sentence += strlen(ERASE_LINE);
  for (size_t i = 0; i < SIGNAL_COUNT; i++)
    if (sigaction(SIGNALS[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
      sigaction(SIGNALS[i], &action, NULL);
  atexit(have_ended);
}
