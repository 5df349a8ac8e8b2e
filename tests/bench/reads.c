/* SPDX-License-Identifier: MIT */
/*
 * reads IMAGE open                   open the image and its disk, read the first sector
 * reads IMAGE random MIB N           read N times 4 KiB at random offsets of MIB of the disk, once
 *                                    these have been read
 * reads nbd+unix:... random MIB N    the same through an NBD server, which caches nothing: so they
 *                                    are not read before
 * reads IMAGE blocks                 read the blocks of 64 KiB whose numbers stand on stdin, of the
 *                                    first two snapshots
 * Prints the seconds that took, of random reads those for each, and the peak of the memory that was
 * resident, in KiB.
 */
#include <err.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qcow2core.h"

#define PIECE 4096u
/* Where the working set begins: after the partition table, in the file system. */
#define START (UINT64_C(256) << 20)

struct source {
  struct qcow2_image *image;
  struct qcow2_view *view;
  struct nbd_handle *nbd; /* NULL: the image */
};

static double now(void)
{
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

static void open_source(struct source *source, const char *name)
{
  struct qcow2_error error;

  memset(source, 0, sizeof(*source));
  if (strncmp(name, "nbd", 3) == 0) {
    source->nbd = nbd_create();
    if (source->nbd == NULL || nbd_connect_uri(source->nbd, name) != 0)
      errx(1, "%s", nbd_get_error());
    return;
  }
  if (qcow2_image_open(name, NULL, &source->image, &error) != 0 ||
      qcow2_view_open(source->image, QCOW2_ACTIVE, &source->view, &error) != 0)
    errx(1, "%s", error.message);
}

static void close_source(struct source *source)
{
  qcow2_view_close(source->view);
  qcow2_image_close(source->image);
  nbd_close(source->nbd);
}

static void read_piece(const struct source *source, uint64_t offset, size_t length)
{
  static char buffer[PIECE];
  struct qcow2_error error;

  if (source->nbd == NULL) {
    if (qcow2_view_read(source->view, offset, buffer, length, &error) != 0)
      errx(1, "%s", error.message);
  } else if (nbd_pread(source->nbd, buffer, length, offset, 0) != 0)
    errx(1, "%s", nbd_get_error());
}

static double measure_open(const char *name)
{
  struct source source;
  double start = now();

  open_source(&source, name);
  read_piece(&source, 0, 512);
  start = now() - start;
  close_source(&source);
  return start;
}

static double measure_random(const char *name, uint64_t bytes, unsigned long count)
{
  uint64_t pieces = bytes / PIECE;
  struct source source;
  uint64_t random = 1;
  double start;

  if (pieces == 0)
    errx(2, "nothing to read");
  open_source(&source, name);
  for (uint64_t i = 0; i < pieces && source.nbd == NULL; i++)
    read_piece(&source, START + i * PIECE, PIECE);
  start = now();
  for (unsigned long i = 0; i < count; i++) {
    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    read_piece(&source, START + (random >> 33) % pieces * PIECE, PIECE);
  }
  start = now() - start;
  close_source(&source);
  return start / (double) count;
}

static double measure_blocks(const char *name)
{
  static char buffer[1 << 16];
  struct qcow2_error error;
  struct qcow2_image *image;
  struct qcow2_view *views[2];
  double start = now();
  char line[32];

  if (qcow2_image_open(name, NULL, &image, &error) != 0 ||
      qcow2_view_open(image, 0, &views[0], &error) != 0 ||
      qcow2_view_open(image, 1, &views[1], &error) != 0)
    errx(1, "%s", error.message);
  while (fgets(line, sizeof(line), stdin) != NULL) {
    unsigned long block = strtoul(line, NULL, 10);

    for (int i = 0; i < 2; i++)
      if (qcow2_view_read(views[i], (uint64_t) block << 16, buffer, sizeof(buffer), &error) != 0)
        errx(1, "%s", error.message);
  }
  qcow2_view_close(views[1]);
  qcow2_view_close(views[0]);
  qcow2_image_close(image);
  return now() - start;
}

/* What the system counts for a child began with its parent's memory; this begins with the
   program. */
static unsigned long peak_kib(void)
{
  FILE *status = fopen("/proc/self/status", "re");
  unsigned long kib = 0;
  char line[256];

  if (status == NULL)
    err(1, "/proc/self/status");
  while (kib == 0 && fgets(line, sizeof(line), status) != NULL)
    if (strncmp(line, "VmHWM:", 6) == 0)
      kib = strtoul(line + 6, NULL, 10);
  fclose(status);
  return kib;
}

int main(int argc, char **argv)
{
  unsigned long mib = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
  double seconds;

  if (argc == 3 && strcmp(argv[2], "open") == 0)
    seconds = measure_open(argv[1]);
  else if (argc == 3 && strcmp(argv[2], "blocks") == 0)
    seconds = measure_blocks(argv[1]);
  else if (argc == 5 && strcmp(argv[2], "random") == 0)
    seconds = measure_random(argv[1], (uint64_t) mib << 20, strtoul(argv[4], NULL, 10));
  else
    errx(2, "usage: reads IMAGE open | reads IMAGE blocks | reads IMAGE random MIB N");
  printf("%.9f %lu\n", seconds, peak_kib());
  return 0;
}
