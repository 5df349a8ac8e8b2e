/* SPDX-License-Identifier: MIT */
/*
 * Many threads read one image at once, with the smallest caches. tests/test_threads.py gives it
 * images. threads SECONDS SEED IMAGE EXPECTED... EXPECTED... are files with the bytes of the active
 * disk, of snapshot 0, of snapshot 1, and so on. Some threads read at random offsets, some in
 * sequence, some map, some open and close views or the image; and the process forks. It takes
 * longer than SECONDS only on a machine so busy that little was done until then. Prints what was
 * done; says what differs, and exits with 1.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SEEK_DATA */
#endif
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../core/qcow2core.h"

#define VIEWS_MAX 8u
#define RANDOM_BYTES_MAX 200000u
#define STREAM_PIECE_BYTES_MAX (1u << 20)
#define STREAM_PIECES_MAX 24u
#define FORK_EVERY_NANOSECONDS 20000000

struct expected {
  size_t snapshot_index;
  int descriptor; /* of the file with the bytes */
  uint64_t size;
  struct qcow2_view *view; /* shared by all threads */
};

static struct {
  const char *path;
  struct qcow2_image *image;
  struct expected views[VIEWS_MAX];
  size_t view_count;
  atomic_bool stop;
  atomic_bool failed;
  atomic_ulong reads, maps, opens, forks;
} shared;

struct worker {
  pthread_t thread;
  void (*work)(struct worker *worker);
  uint64_t random;
  uint8_t *got, *wanted; /* STREAM_PIECE_BYTES_MAX each */
};

static void fail(const char *what, const struct expected *expected, uint64_t offset,
                 const char *why)
{
  atomic_store(&shared.failed, true);
  atomic_store(&shared.stop, true);
  printf("%s, view %zu, offset %" PRIu64 ": %s\n", what, (size_t) (expected - shared.views), offset,
         why);
}

/* xorshift64*, whose upper bits are good. */
static uint64_t random_below(struct worker *worker, uint64_t limit)
{
  worker->random ^= worker->random >> 12;
  worker->random ^= worker->random << 25;
  worker->random ^= worker->random >> 27;
  return (worker->random * UINT64_C(2685821657736338717) >> 11) % limit;
}

static const struct expected *random_view(struct worker *worker)
{
  return &shared.views[random_below(worker, shared.view_count)];
}

/* Anywhere, but mostly near something that is no hole. */
static uint64_t random_offset(struct worker *worker, const struct expected *expected)
{
  uint64_t offset = random_below(worker, expected->size);
  uint64_t before = random_below(worker, 5000);
  off_t data = -1;

  if (random_below(worker, 4) != 0)
    data = lseek(expected->descriptor, (off_t) offset, SEEK_DATA);
  if (data < 0)
    return offset;
  return (uint64_t) data > before ? (uint64_t) data - before : (uint64_t) data;
}

static size_t at_most(uint64_t length, const struct expected *expected, uint64_t offset)
{
  uint64_t left = expected->size - offset;

  return (size_t) (length < left ? length : left);
}

/* ---- What threads do ---------------------------------------------------------- */

static bool expected_bytes(struct worker *worker, const struct expected *expected, uint64_t offset,
                           size_t length)
{
  return pread(expected->descriptor, worker->wanted, length, (off_t) offset) == (ssize_t) length;
}

static void check_read(struct worker *worker, struct qcow2_view *view,
                       const struct expected *expected, uint64_t offset, size_t length)
{
  struct qcow2_error error;

  atomic_fetch_add(&shared.reads, 1);
  if (qcow2_view_read(view, offset, worker->got, length, &error) != 0)
    fail("read", expected, offset, error.message);
  else if (!expected_bytes(worker, expected, offset, length) ||
           memcmp(worker->got, worker->wanted, length) != 0)
    fail("read", expected, offset, "wrong bytes");
}

static void read_at_random(struct worker *worker)
{
  const struct expected *expected = random_view(worker);
  uint64_t offset = random_offset(worker, expected);

  check_read(worker, expected->view, expected, offset,
             at_most(1 + random_below(worker, RANDOM_BYTES_MAX), expected, offset));
}

static void read_in_sequence(struct worker *worker)
{
  const struct expected *expected = random_view(worker);
  uint64_t offset = random_offset(worker, expected);
  uint64_t piece = 512 + random_below(worker, STREAM_PIECE_BYTES_MAX - 512);
  uint64_t pieces = 1 + random_below(worker, STREAM_PIECES_MAX);

  for (; pieces > 0 && offset < expected->size && !atomic_load(&shared.stop); pieces--) {
    size_t length = at_most(piece, expected, offset);

    check_read(worker, expected->view, expected, offset, length);
    offset += length;
  }
}

static void map_at_random(struct worker *worker)
{
  const struct expected *expected = random_view(worker);
  uint64_t offset = random_offset(worker, expected);
  struct qcow2_extent extent;
  struct qcow2_error error;
  size_t length;

  atomic_fetch_add(&shared.maps, 1);
  if (qcow2_view_map(expected->view, offset, expected->size - offset, &extent, &error) != 0) {
    fail("map", expected, offset, error.message);
    return;
  }
  if (extent.guest_offset != offset || extent.length == 0 ||
      extent.length > expected->size - offset)
    fail("map", expected, offset, "an extent of another place");
  if (extent.kind == QCOW2_CLUSTER_NORMAL || extent.kind == QCOW2_CLUSTER_COMPRESSED)
    return;
  length = at_most(extent.length < RANDOM_BYTES_MAX ? extent.length : RANDOM_BYTES_MAX, expected,
                   offset);
  memset(worker->got, 0, length);
  if (!expected_bytes(worker, expected, offset, length) ||
      memcmp(worker->got, worker->wanted, length) != 0)
    fail("map", expected, offset, "a hole where bytes are");
}

static void open_a_view(struct worker *worker)
{
  const struct expected *expected = random_view(worker);
  uint64_t offset = random_offset(worker, expected);
  struct qcow2_error error;
  struct qcow2_view *view;

  atomic_fetch_add(&shared.opens, 1);
  if (qcow2_view_open(shared.image, expected->snapshot_index, &view, &error) != 0) {
    fail("open a view", expected, 0, error.message);
    return;
  }
  for (uint64_t left = random_below(worker, 4); left > 0 && offset < expected->size;
       left--, offset += 4096)
    check_read(worker, view, expected, offset, at_most(4096, expected, offset));
  qcow2_view_close(view);
}

static struct qcow2_image *open_image(struct qcow2_error *error)
{
  struct qcow2_open_options options = { .struct_size = sizeof(options), .cache_bytes = 1 };
  struct qcow2_image *image;

  return qcow2_image_open(shared.path, &options, &image, error) == 0 ? image : NULL;
}

static void open_the_image(struct worker *worker)
{
  const struct expected *expected = random_view(worker);
  uint64_t offset = random_offset(worker, expected);
  struct qcow2_error error;
  struct qcow2_image *image = open_image(&error);
  struct qcow2_view *view = NULL;

  atomic_fetch_add(&shared.opens, 1);
  if (image == NULL || qcow2_view_open(image, expected->snapshot_index, &view, &error) != 0)
    fail("open the image", expected, 0, error.message);
  for (unsigned pieces = 0; view != NULL && pieces < 6 && offset < expected->size;
       pieces++, offset += 65536)
    check_read(worker, view, expected, offset, at_most(65536, expected, offset));
  qcow2_view_close(view);
  qcow2_image_close(image);
}

static void (*const WORKS[])(struct worker *worker) = {
  read_at_random,   read_at_random, read_at_random, read_in_sequence, read_in_sequence,
  read_in_sequence, map_at_random,  open_a_view,    open_the_image
};
#define WORKERS (sizeof(WORKS) / sizeof(WORKS[0]))

/* ---- The whole ----------------------------------------------------------------- */

static void *worker_run(void *argument)
{
  struct worker *worker = argument;

  while (!atomic_load(&shared.stop))
    worker->work(worker);
  return NULL;
}

static void start(struct worker *worker, size_t index, uint64_t seed)
{
  worker->work = WORKS[index];
  worker->random = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + index + 1;
  worker->got = malloc(STREAM_PIECE_BYTES_MAX);
  worker->wanted = malloc(STREAM_PIECE_BYTES_MAX);
  if (worker->got == NULL || worker->wanted == NULL ||
      pthread_create(&worker->thread, NULL, worker_run, worker) != 0)
    abort();
}

static void finish(struct worker *worker)
{
  pthread_join(worker->thread, NULL);
  free(worker->got);
  free(worker->wanted);
}

/* The child ends at once, in the midst of whatever the threads were doing. */
static void fork_once(void)
{
  pid_t child = fork();
  int status = -1;

  if (child == 0)
    _exit(0);
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
    fail("fork", &shared.views[0], 0, "the child did not end well");
  atomic_fetch_add(&shared.forks, 1);
}

static double now(void)
{
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static bool has_done_enough(void)
{
  return atomic_load(&shared.reads) > 50 && atomic_load(&shared.maps) > 50 &&
         atomic_load(&shared.opens) > 5 && atomic_load(&shared.forks) > 2;
}

static void run_workers(double seconds, uint64_t seed)
{
  static struct worker workers[WORKERS];
  const struct timespec pause = { .tv_nsec = FORK_EVERY_NANOSECONDS };
  double end = now() + seconds;

  for (size_t i = 0; i < WORKERS; i++)
    start(&workers[i], i, seed);
  while ((now() < end || !has_done_enough()) && !atomic_load(&shared.stop)) {
    nanosleep(&pause, NULL);
    fork_once();
  }
  atomic_store(&shared.stop, true);
  for (size_t i = 0; i < WORKERS; i++)
    finish(&workers[i]);
}

static bool prepare(int count, char *paths[])
{
  struct qcow2_error error;

  shared.image = open_image(&error);
  if (shared.image == NULL || (size_t) count > VIEWS_MAX)
    return false;
  for (int i = 0; i < count; i++) {
    struct expected *expected = &shared.views[i];

    expected->snapshot_index = i == 0 ? QCOW2_ACTIVE : (size_t) (i - 1);
    expected->descriptor = open(paths[i], O_RDONLY | O_CLOEXEC);
    if (expected->descriptor < 0 ||
        qcow2_view_open(shared.image, expected->snapshot_index, &expected->view, &error) != 0)
      return false;
    expected->size = qcow2_view_size(expected->view);
    if (lseek(expected->descriptor, 0, SEEK_END) != (off_t) expected->size)
      return false;
    shared.view_count++;
  }
  return true;
}

int main(int argc, char *argv[])
{
  double seconds = argc > 4 ? strtod(argv[1], NULL) : 0;

  if (argc <= 4)
    return 2;
  alarm((unsigned) (120 + 10 * seconds)); /* a deadlock ends here */
  shared.path = argv[3];
  if (!prepare(argc - 4, argv + 4)) {
    printf("the image cannot be opened, or is not as expected\n");
    return 2;
  }
  run_workers(seconds, strtoull(argv[2], NULL, 10));
  for (size_t i = 0; i < shared.view_count; i++) {
    qcow2_view_close(shared.views[i].view);
    close(shared.views[i].descriptor);
  }
  qcow2_image_close(shared.image);
  printf("%lu reads, %lu maps, %lu opens, %lu forks\n", atomic_load(&shared.reads),
         atomic_load(&shared.maps), atomic_load(&shared.opens), atomic_load(&shared.forks));
  return atomic_load(&shared.failed);
}
