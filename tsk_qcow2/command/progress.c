/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define BAR_CHARACTERS 30
#define DRAWING_INTERVAL_SECONDS 0.2

static double seconds_since(const struct timespec *start)
{
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double) (now.tv_sec - start->tv_sec) + (double) (now.tv_nsec - start->tv_nsec) / 1e9;
}

void progress_start(struct progress *progress, const char *title, uint64_t total)
{
  *progress = (struct progress){ .title = title,
                                 .total = total,
                                 .is_terminal = isatty(STDERR_FILENO) == 1 };
  clock_gettime(CLOCK_MONOTONIC, &progress->start);
  progress->shown = progress->start;
}

void progress_start_count(struct progress *progress, const char *title, uint64_t total)
{
  progress_start(progress, title, total);
  progress->is_count = true;
}

static void draw(const struct progress *progress, uint64_t done)
{
  double share = done >= progress->total ? 1 : (double) done / (double) progress->total;
  double seconds = seconds_since(&progress->start);
  double rate = seconds > 0 ? (double) done / seconds : 0;
  double left = share > 0 ? seconds / share - seconds : 0;
  int filled = (int) (share * BAR_CHARACTERS);
  char bar[BAR_CHARACTERS + 1];

  for (int i = 0; i < BAR_CHARACTERS; i++)
    bar[i] = i < filled ? '#' : '.';
  bar[BAR_CHARACTERS] = '\0';
  fprintf(stderr, "\r\033[K%.40s [%s] %3d%%, %.0f %s/s, %.0f s left", progress->title, bar,
          (int) (share * 100), progress->is_count ? rate : rate / 1e6,
          progress->is_count ? "files" : "MB", left);
  fflush(stderr);
}

void progress_show(struct progress *progress, uint64_t done)
{
  if (!progress->is_terminal || seconds_since(&progress->shown) < DRAWING_INTERVAL_SECONDS)
    return;
  clock_gettime(CLOCK_MONOTONIC, &progress->shown);
  progress->is_drawn = true;
  draw(progress, done);
}

void progress_hide(struct progress *progress)
{
  if (!progress->is_drawn)
    return;
  fputs("\r\033[K", stderr);
  fflush(stderr);
  progress->is_drawn = false;
}
