/* SPDX-License-Identifier: MIT */
/*
 * Opens, describes, reads and closes an image again and again, each time with another call failing:
 * an allocation, a read of a file, a call that opens one. tests/test_faults.py gives it images.
 *   faults [-b | -l] [-e STEP] NAME...
 * NAME... is an image name and its backing chain, as the tools take them. -b goes through libtsk's
 * interface instead of the core's. -l asks only what is left of what was deleted (leftovers.h). -e
 * tries only every STEP-th call. Prints the number of calls that failed; exits with 1 and says why
 * if
 *   - an answer differs from the one without faults: each must be an error, or right;
 *   - an error is not filled in, or filled in though there was none;
 *   - memory or a descriptor is left behind;
 *   - what failed once fails again, though the fault is over.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <tsk/libtsk.h>
#include <unistd.h>

#include "../../tsk_qcow2/tsk_qcow2.h"
#include "examine.h"
#include "leftovers.h"

/* ---- An image from open to close -------------------------------------------------- */

static int step_open(struct qcow2_error *error)
{
  return tsk_qcow2_open_names(run.name_count, run.names, TSK_QCOW2_WHOLE, NULL, &run.opened, error);
}

static void use_core(void)
{
  if (expected.open_code != 0) {
    struct qcow2_error error;

    memset(&error, UNTOUCHED, sizeof(error));
    if (step_open(&error) == 0)
      complain("it can be opened, though it must not: %s", run.names[0]);
    else
      check_error("open", error.code, &error);
    tsk_qcow2_opened_close(&run.opened);
    return;
  }
  if (!perform("open", step_open))
    return;
  examine();
  tsk_qcow2_opened_close(&run.opened);
}

static void use_leftovers(void)
{
  if (!perform("open", step_open))
    return;
  examine_leftovers();
  tsk_qcow2_opened_close(&run.opened);
}

static TSK_IMG_INFO *open_for_tsk(void)
{
  return tsk_qcow2_open((int) run.name_count, run.names, 0);
}

static void read_for_tsk(TSK_IMG_INFO *img)
{
  struct view_content *content = &expected.views[0];

  for (run.offset = 0; run.offset < content->size; run.offset += PIECE_BYTES) {
    uint64_t left = content->size - run.offset;
    ssize_t wanted = left < PIECE_BYTES ? (ssize_t) left : (ssize_t) PIECE_BYTES;
    ssize_t count = tsk_qcow2_read(img, (TSK_OFF_T) run.offset, (char *) run.buffer, PIECE_BYTES);

    if (count < 0 && (tsk_error_get_errno() == 0 || !fault_happened()))
      complain("a read for libtsk fails without a reason");
    if (count < 0 && !run.stays)
      count = tsk_qcow2_read(img, (TSK_OFF_T) run.offset, (char *) run.buffer, PIECE_BYTES);
    if (count < 0 && run.stays)
      continue;
    if (count != wanted || memcmp(run.buffer, content->bytes + run.offset, (size_t) wanted) != 0)
      complain("a read for libtsk gives %zd wrong bytes at %" PRIu64, count, run.offset);
  }
}

/* The backend: expected.views[0] is what use_core() found. */
static void use_tsk(void)
{
  TSK_IMG_INFO *img;

  if (tsk_qcow2_probe(run.names[0]) != 1)
    complain("it is not recognised as a qcow2 image");
  img = open_for_tsk();
  if (img == NULL && (tsk_error_get_errno() == 0 || tsk_error_get() == NULL || !fault_happened()))
    complain("tsk_qcow2_open() fails without a reason");
  if (img == NULL && !run.stays)
    img = open_for_tsk();
  if (img == NULL) {
    if (!run.stays)
      complain("tsk_qcow2_open() fails again: %s", tsk_error_get());
    return;
  }
  read_for_tsk(img);
  img->imgstat(img, run.nowhere);
  tsk_img_close(img);
}

/* ---- Every fault ------------------------------------------------------------------- */

static int open_descriptors(void)
{
  int count = 0;

  for (int i = 0; i < 256; i++)
    count += fcntl(i, F_GETFD, 0) != -1;
  return count;
}

/* Returns whether the fault happened: if not, there are no more calls to fail. */
static bool try_fault(void (*use)(void))
{
  long blocks = fault_live_blocks();
  int descriptors = open_descriptors();
  bool happened;

  fault_arm(run.kind, run.number, run.stays);
  use();
  happened = fault_disarm();
  if (fault_live_blocks() != blocks)
    complain("%ld blocks of memory are left behind", fault_live_blocks() - blocks);
  if (open_descriptors() != descriptors)
    complain("%d descriptors are left behind", open_descriptors() - descriptors);
  return happened;
}

static unsigned long try_faults(void (*use)(void), enum fault_kind kind, bool stays,
                                unsigned long step)
{
  unsigned long points = 0;

  run.kind = kind;
  run.stays = stays;
  for (run.number = 0; try_fault(use); run.number += step)
    points++;
  if (points == 0)
    complain("there is no call that could fail");
  return points;
}

/* Find out what is expected, twice: libraries keep what they make at their first use. */
static void use_without_faults(void (*use)(void))
{
  struct qcow2_error error;

  run.is_reference = true;
  expected.open_code = step_open(&error);
  tsk_qcow2_opened_close(&run.opened);
  use == use_leftovers ? use_leftovers() : use_core();
  run.is_reference = false;
  run.kind = FAULT_KINDS - 1;
  run.number = (unsigned long) -1;
  try_fault(use);
  if (try_fault(use))
    abort();
}

int main(int argc, char *argv[])
{
  unsigned long points = 0, step = 1;
  void (*use)(void) = use_core;
  int option;

  while ((option = getopt(argc, argv, "ble:")) != -1) {
    if (option == 'b')
      use = use_tsk;
    else if (option == 'l')
      use = use_leftovers;
    else if (option == 'e')
      step = strtoul(optarg, NULL, 10);
  }
  if (optind >= argc || step == 0)
    return 2;
  fault_take_libgcrypt();
  run.nowhere = fopen("/dev/null", "w");
  run.names = (const char *const *) &argv[optind];
  run.name_count = (size_t) (argc - optind);
  use_without_faults(use);
  for (int kind = 0; kind < FAULT_KINDS; kind++) {
    points += try_faults(use, (enum fault_kind) kind, false, step);
    if (kind != FAULT_READ_SIGNAL) /* for ever interrupted: for ever tried again */
      points += try_faults(use, (enum fault_kind) kind, true, step);
  }
  for (size_t i = 0; i < expected.view_count; i++)
    free(expected.views[i].bytes);
  fclose(run.nowhere);
  printf("%lu faults, %s\n", points, expected.open_code == 0 ? "opens" : "is refused");
  return complaint_count() > 0;
}
