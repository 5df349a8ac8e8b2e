/* SPDX-License-Identifier: MIT */
/*
 * Measures the peak of memory and the time that an image costs.
 *
 *   measure image BYTES IMAGE [PASSPHRASE]   open it, ask all that it says of itself, and read
 * BYTES of its disk and of its snapshots' disks: from the start, and a byte here and there measure
 * run OUTPUT COMMAND...            run a command with its standard output to a file
 *
 * Prints the peak in KiB above what there was before, milliseconds to open, milliseconds in all,
 * and what became of it: "ok" or the error. For `run`: the peak as a whole, 0, milliseconds, and
 * the exit status.
 */
#define _GNU_SOURCE /* wait4 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "qcow2core.h"

#define PIECE_BYTES 65536u
#define SPREAD_READS 1000u
/* What a report counts of all bitmaps together: see TSK_QCOW2_REPORT_RUNS. */
#define BITMAP_RUNS UINT64_C(4000000)

static long milliseconds(void)
{
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A number of KiB from /proc/self/status. */
static long status_kib(const char *key)
{
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long value = -1;

  while (file != NULL && fgets(line, sizeof(line), file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0)
      value = strtol(line + strlen(key), NULL, 10);
  if (file != NULL)
    fclose(file);
  return value;
}

/* Let the peak start from here, where the system can do that. */
static void reset_peak(void)
{
  FILE *file = fopen("/proc/self/clear_refs", "w");

  if (file != NULL) {
    fputs("5", file);
    fclose(file);
  }
}

/* Read what `bytes` allows from the start, and a byte here and there. Damage is no reason to
   stop. */
static void read_view(struct qcow2_image *image, size_t index, uint64_t bytes)
{
  static uint8_t piece[PIECE_BYTES];
  struct qcow2_view *view;
  uint64_t size;

  if (qcow2_view_open(image, index, &view, NULL) != 0)
    return;
  size = qcow2_view_size(view);
  for (uint64_t at = 0; at < size && at < bytes; at += PIECE_BYTES)
    qcow2_view_read(view, at, piece, size - at < PIECE_BYTES ? (size_t) (size - at) : PIECE_BYTES,
                    NULL);
  for (uint64_t i = 0; i < SPREAD_READS && size > SPREAD_READS; i++)
    qcow2_view_read(view, size / SPREAD_READS * i, piece, 1, NULL);
  qcow2_view_close(view);
}

static void use(struct qcow2_image *image, uint64_t bytes)
{
  size_t snapshots = qcow2_snapshot_count(image), index, warnings = 0;
  uint64_t runs = BITMAP_RUNS, dirty;

  while (qcow2_warning(image, warnings) != NULL)
    warnings++;
  for (size_t i = 0; i < qcow2_bitmap_count(image); i++)
    qcow2_bitmap_dirty_bytes(image, i, &runs, &dirty, NULL);
  qcow2_snapshot_find(image, "no such snapshot", QCOW2_BY_ID_OR_NAME, &index, NULL);
  read_view(image, QCOW2_ACTIVE, bytes);
  if (snapshots > 0)
    read_view(image, snapshots - 1, bytes);
  fprintf(stderr, "%zu layers, %zu snapshots, %zu bitmaps, %zu warnings\n",
          qcow2_layer_count(image), snapshots, qcow2_bitmap_count(image), warnings);
}

static int measure_image(uint64_t bytes, const char *path, const char *passphrase)
{
  struct qcow2_passphrase secret = { passphrase, passphrase == NULL ? 0 : strlen(passphrase) };
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .passphrases = &secret,
                                        .passphrase_count = passphrase == NULL ? 0 : 1 };
  struct qcow2_image *image = NULL;
  struct qcow2_error error;
  long before, opened, start = milliseconds();
  int code;

  reset_peak();
  before = status_kib("VmRSS:");
  code = qcow2_image_open(path, &options, &image, &error);
  opened = milliseconds();
  if (code == 0)
    use(image, bytes);
  printf("%ld %ld %ld %s\n", status_kib("VmHWM:") - before, opened - start, milliseconds() - start,
         code == 0 ? "ok" : error.message);
  if (code == 0)
    qcow2_image_close(image);
  return 0;
}

static int measure_command(const char *output, char *command[])
{
  long start = milliseconds();
  struct rusage usage;
  int status = 0;
  pid_t child = fork();

  if (child == 0) {
    int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (file >= 0 && dup2(file, STDOUT_FILENO) >= 0)
      execvp(command[0], command);
    _exit(127);
  }
  if (child < 0 || wait4(child, &status, 0, &usage) != child)
    return 2;
  printf("%ld 0 %ld %d\n", usage.ru_maxrss, milliseconds() - start,
         WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  return 0;
}

int main(int argc, char *argv[])
{
  if (argc >= 4 && strcmp(argv[1], "image") == 0)
    return measure_image(strtoull(argv[2], NULL, 10), argv[3], argv[4]);
  if (argc >= 4 && strcmp(argv[1], "run") == 0)
    return measure_command(argv[2], argv + 3);
  return 2;
}
