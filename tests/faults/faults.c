/* SPDX-License-Identifier: MIT */
/*
 * Opens, describes, reads and closes an image again and again, each time with another call failing: an allocation, a read of a file, a
 * call that opens one. tests/test_faults.py gives it images.
 *   faults [-b] [-e STEP] NAME...
 * NAME... is an image name and its backing chain, as the tools take them. -b goes through libtsk's interface instead of the core's.
 * -e tries only every STEP-th call. Prints the number of calls that failed; exits with 1 and says why if
 *   - an answer differs from the one without faults: each must be an error, or right;
 *   - an error is not filled in, or filled in though there was none;
 *   - memory or a descriptor is left behind;
 *   - what failed once fails again, though the fault is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tsk/libtsk.h>
#include <unistd.h>

#include "../../tsk_qcow2/open_names.h"
#include "../../tsk_qcow2/tsk_qcow2.h"
#include "inject.h"

#define TEXT_BYTES 65536u
#define PIECE_BYTES 100003u /* of a read: no multiple of anything */
#define VIEWS_MAX 8u
#define WARNINGS_MAX 8u
#define UNTOUCHED 0xa5 /* fills an error before each call */
#define COMPLAINTS_MAX 20

static const char *const KIND_NAMES[FAULT_KINDS] = { "no memory",    "read error",       "file ends",
                                                     "partial read", "interrupted read", "system call fails" };

/* ---- What is found out about an image ----------------------------------------- */

struct text {
  char bytes[TEXT_BYTES];
  size_t used;
};

enum section { LAYERS, ENCRYPTION, SNAPSHOTS, BITMAPS, MAP, SECTIONS };

struct view_content {
  size_t snapshot_index;
  bool is_vm_state;
  uint64_t size;
  uint8_t *bytes;
  struct text map;
};

/* What the image is without faults. */
static struct {
  int open_code;
  struct text sections[SECTIONS];
  char warnings[WARNINGS_MAX][1024];
  size_t warning_count;
  struct view_content views[VIEWS_MAX];
  size_t view_count;
} expected;

/* The run that is on. */
static struct {
  const char *const *names;
  size_t name_count;
  bool is_reference;
  enum fault_kind kind;
  unsigned long number;
  bool stays;
  struct tsk_qcow2_opened opened;
  size_t warning_count;
  struct text text;
  /* what the current step is about */
  const struct view_content *content;
  struct qcow2_view *view;
  uint64_t offset;
  size_t length;
  uint8_t buffer[PIECE_BYTES];
  FILE *nowhere;
} run;

static int complaints;

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
  va_list arguments;

  if (run.is_reference)
    printf("without faults: ");
  else
    printf("%s, call %lu%s: ", KIND_NAMES[run.kind], run.number, run.stays ? " and all after it" : "");
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  if (++complaints >= COMPLAINTS_MAX)
    exit(1);
}

static void say(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *text, const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  text->used += (size_t) vsnprintf(text->bytes + text->used, sizeof(text->bytes) - text->used, format, arguments);
  va_end(arguments);
  if (text->used >= sizeof(text->bytes)) {
    printf("the test's image says too much\n");
    exit(1);
  }
}

/* ---- One step, with its error --------------------------------------------------- */

static bool is_untouched(const struct qcow2_error *error)
{
  const uint8_t *bytes = (const uint8_t *) error;

  for (size_t i = 0; i < sizeof(*error); i++)
    if (bytes[i] != UNTOUCHED)
      return false;
  return true;
}

static void check_error(const char *what, int code, const struct qcow2_error *error)
{
  bool out_of_memory = code == QCOW2_ERROR_NOMEM || error->os_errno == ENOMEM;

  if (is_untouched(error)) {
    complain("%s: fails with %d, and the error is not filled in", what, code);
    return;
  }
  if (code >= 0 || error->code != code || memchr(error->message, 0, sizeof(error->message)) == NULL ||
      error->message[0] == '\0')
    complain("%s: fails with %d, but the error says %d", what, code, error->code);
  if (run.is_reference || expected.open_code != 0)
    return;
  if (!fault_happened() || run.kind == FAULT_READ_PARTIAL || run.kind == FAULT_READ_SIGNAL)
    complain("%s: fails without a reason: %s", what, error->message);
  if (run.kind == FAULT_MEMORY ? !out_of_memory : code != QCOW2_ERROR_IO && run.kind != FAULT_SYSTEM)
    complain("%s: fails for the wrong reason, %d: %s", what, code, error->message);
}

/* Do a step, and once more if that fails but the fault is over. Returns whether it went well. */
static bool perform(const char *what, int (*step)(struct qcow2_error *error))
{
  for (int tries = 0; tries < 2; tries++) {
    struct qcow2_error error;
    int code;

    memset(&error, UNTOUCHED, sizeof(error));
    run.text.used = 0;
    run.text.bytes[0] = '\0';
    code = step(&error);
    if (code == 0 && !is_untouched(&error))
      complain("%s: succeeds, and fills in an error: %s", what, error.message);
    if (code == 0)
      return true;
    check_error(what, code, &error);
    if (run.stays || run.is_reference)
      return false;
  }
  complain("%s: fails again though the fault is over", what);
  return false;
}

/* ---- Describing ------------------------------------------------------------------ */

static int step_layers(struct qcow2_error *error)
{
  const struct qcow2_extension *extension;
  struct qcow2_layer_info info;
  int code = 0;

  for (size_t i = 0; code == 0 && i < qcow2_layer_count(run.opened.image); i++) {
    code = qcow2_layer_get(run.opened.image, i, &info, error);
    if (code == 0)
      say(&run.text, "%s %s %s %" PRIu64 " %" PRIu64 "\n", info.path, info.data_path == NULL ? "-" : info.data_path,
          info.format, info.file_size, info.size);
    for (size_t j = 0; (extension = qcow2_extension_get(run.opened.image, i, j)) != NULL; j++)
      say(&run.text, "%" PRIu32 " %" PRIu32 "\n", extension->type, extension->length);
  }
  return code;
}

static int step_encryption(struct qcow2_error *error)
{
  int code = 0;

  for (size_t i = 0; code == 0 && i < qcow2_layer_count(run.opened.image); i++) {
    struct qcow2_encryption_info info;

    code = qcow2_encryption_get(run.opened.image, i, &info, error);
    if (code == 0)
      say(&run.text, "%" PRIu32 " %s-%s %s %s\n", info.method, info.cipher, info.mode, info.ivgen, info.uuid);
  }
  return code;
}

static int step_snapshots(struct qcow2_error *error)
{
  int code = 0;

  for (size_t i = 0; code == 0 && i < qcow2_snapshot_count(run.opened.image); i++) {
    const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(run.opened.image, i);
    size_t found = 0;

    code = qcow2_snapshot_find(run.opened.image, snapshot->id, QCOW2_BY_ID, &found, error);
    say(&run.text, "%zu %s %s %" PRIu64 " %" PRIu64 "\n", found, snapshot->id, snapshot->name, snapshot->disk_size,
        snapshot->vm_state_size);
  }
  return code;
}

static int step_bitmaps(struct qcow2_error *error)
{
  int code = 0;

  for (size_t i = 0; code == 0 && i < qcow2_bitmap_count(run.opened.image); i++) {
    struct qcow2_range range = { 0, 0 };
    uint64_t runs = 1000, bytes = 0;

    say(&run.text, "%s\n", qcow2_bitmap_get(run.opened.image, i)->name);
    code = qcow2_bitmap_dirty_bytes(run.opened.image, i, &runs, &bytes, error);
    if (code == 0)
      say(&run.text, "%" PRIu64 "\n", bytes);
    do {
      if (code == 0)
        code = qcow2_bitmap_next_dirty(run.opened.image, i, range.guest_offset + range.length, &range, error);
      if (code == 0)
        say(&run.text, "%" PRIu64 " %" PRIu64 "\n", range.guest_offset, range.length);
    } while (code == 0 && range.length > 0);
  }
  return code;
}

/* A directory that could not be read is reported by a warning, and then it may be shorter. */
static void check_section(const char *what, enum section section)
{
  const struct text *whole = &expected.sections[section];
  bool may_be_cut = (section == SNAPSHOTS || section == BITMAPS) && run.warning_count > expected.warning_count;

  if (run.text.used == whole->used || (may_be_cut && run.text.used < whole->used))
    if (memcmp(run.text.bytes, whole->bytes, run.text.used) == 0)
      return;
  complain("%s: is\n%sand should be\n%s", what, run.text.bytes, whole->bytes);
}

static void describe(void)
{
  static const struct {
    const char *name;
    int (*step)(struct qcow2_error *error);
  } steps[] = { [LAYERS] = { "layers", step_layers },
                [ENCRYPTION] = { "encryption", step_encryption },
                [SNAPSHOTS] = { "snapshots", step_snapshots },
                [BITMAPS] = { "bitmaps", step_bitmaps } };

  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
    if (!perform(steps[i].name, steps[i].step))
      continue;
    if (run.is_reference)
      expected.sections[i] = run.text;
    else
      check_section(steps[i].name, (enum section) i);
  }
}

/* A fault may make the reader warn that something cannot be read, but not that the image is wrong. */
static void check_warnings(void)
{
  const char *warning;

  for (run.warning_count = 0; (warning = qcow2_warning(run.opened.image, run.warning_count)) != NULL; run.warning_count++) {
    bool is_known = strstr(warning, "cannot be read as a whole") != NULL;

    if (run.is_reference)
      snprintf(expected.warnings[expected.warning_count++ % WARNINGS_MAX], sizeof(expected.warnings[0]), "%s", warning);
    for (size_t i = 0; i < expected.warning_count; i++)
      is_known = is_known || strcmp(expected.warnings[i], warning) == 0;
    if (!is_known)
      complain("a wrong warning: %s", warning);
  }
}

/* ---- Reading --------------------------------------------------------------------- */

static int step_view(struct qcow2_error *error)
{
  return run.content->is_vm_state
             ? qcow2_view_open_vm_state(run.opened.image, run.content->snapshot_index, &run.view, error)
             : qcow2_view_open(run.opened.image, run.content->snapshot_index, &run.view, error);
}

static int step_map(struct qcow2_error *error)
{
  uint64_t size = qcow2_view_size(run.view);
  struct qcow2_extent extent = { .length = 0 };

  for (uint64_t at = 0; at < size; at += extent.length) {
    int code = qcow2_view_map(run.view, at, size - at, &extent, error);

    if (code != 0)
      return code;
    if (extent.guest_offset != at || extent.length == 0 || extent.length > size - at) {
      complain("map: an extent at %" PRIu64 " instead of %" PRIu64, extent.guest_offset, at);
      return 0;
    }
    say(&run.text, "%" PRIu64 " %d %zu %" PRIu64 "\n", at, (int) extent.kind, extent.layer, extent.host_offset);
  }
  return 0;
}

static int step_read(struct qcow2_error *error)
{
  memset(run.buffer, UNTOUCHED, run.length);
  return qcow2_view_read(run.view, run.offset, run.buffer, run.length, error);
}

/* Read the view from its start to its end, or take that for what is expected. */
static void read_view(struct view_content *content)
{
  for (run.offset = 0; run.offset < content->size; run.offset += run.length) {
    uint64_t left = content->size - run.offset;

    run.length = left < PIECE_BYTES ? (size_t) left : PIECE_BYTES;
    if (!perform("read", step_read))
      continue;
    if (run.is_reference)
      memcpy(content->bytes + run.offset, run.buffer, run.length);
    else if (memcmp(content->bytes + run.offset, run.buffer, run.length) != 0)
      complain("read: wrong bytes from %" PRIu64 " on", run.offset);
  }
}

static void visit_view(struct view_content *content)
{
  run.content = content;
  if (!perform("open a view", step_view))
    return;
  if (run.is_reference) {
    content->size = qcow2_view_size(run.view);
    content->bytes = fault_own_memory((size_t) content->size + 1);
  }
  if (qcow2_view_size(run.view) != content->size)
    complain("the view's size is %" PRIu64, qcow2_view_size(run.view));
  else if (perform("map", step_map) && run.is_reference)
    content->map = run.text;
  else if (strcmp(content->map.bytes, run.text.bytes) != 0 && !run.stays)
    complain("map: is\n%sand should be\n%s", run.text.bytes, content->map.bytes);
  read_view(content);
  qcow2_view_close(run.view);
}

static void expect_view(size_t snapshot_index, bool is_vm_state)
{
  if (expected.view_count == VIEWS_MAX)
    abort();
  expected.views[expected.view_count++] =
      (struct view_content){ .snapshot_index = snapshot_index, .is_vm_state = is_vm_state };
}

static void visit_views(void)
{
  size_t count = qcow2_snapshot_count(run.opened.image);

  for (size_t i = 0; run.is_reference && i < count; i++) {
    if (i == 0)
      expect_view(QCOW2_ACTIVE, false);
    expect_view(i, false);
    if (qcow2_snapshot_get(run.opened.image, i)->vm_state_size > 0)
      expect_view(i, true);
  }
  if (run.is_reference && count == 0)
    expect_view(QCOW2_ACTIVE, false);
  for (size_t i = 0; i < expected.view_count; i++)
    if (expected.views[i].snapshot_index == QCOW2_ACTIVE || expected.views[i].snapshot_index < count)
      visit_view(&expected.views[i]);
}

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
  check_warnings();
  describe();
  visit_views();
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

  if (tsk_qcow2_recognise(run.names[0]) != 1)
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

static unsigned long try_faults(void (*use)(void), enum fault_kind kind, bool stays, unsigned long step)
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
  use_core();
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

  while ((option = getopt(argc, argv, "be:")) != -1) {
    if (option == 'b')
      use = use_tsk;
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
  return complaints > 0;
}
