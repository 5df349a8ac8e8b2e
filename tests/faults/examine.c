/* SPDX-License-Identifier: MIT */
#include "examine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAINTS_MAX 20

static const char *const KIND_NAMES[FAULT_KINDS] = { "no memory",        "read error",
                                                     "file ends",        "partial read",
                                                     "interrupted read", "system call fails" };

struct expected expected;
struct run run;

static int complaints;

void complain(const char *format, ...)
{
  va_list arguments;

  if (run.is_reference)
    printf("without faults: ");
  else
    printf("%s, call %lu%s: ", KIND_NAMES[run.kind], run.number,
           run.stays ? " and all after it" : "");
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  if (++complaints >= COMPLAINTS_MAX)
    exit(1);
}

int complaint_count(void)
{
  return complaints;
}

void say(struct text *text, const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  text->used += (size_t) vsnprintf(text->bytes + text->used, sizeof(text->bytes) - text->used,
                                   format, arguments);
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

void check_error(const char *what, int code, const struct qcow2_error *error)
{
  bool out_of_memory = code == QCOW2_ERROR_NOMEM || error->os_errno == ENOMEM;
  bool cannot_read = code == QCOW2_ERROR_IO || strstr(error->message, "cannot be read") != NULL;

  if (is_untouched(error)) {
    complain("%s: fails with %d, and the error is not filled in", what, code);
    return;
  }
  if (code >= 0 || error->code != code ||
      memchr(error->message, 0, sizeof(error->message)) == NULL || error->message[0] == '\0')
    complain("%s: fails with %d, but the error says %d", what, code, error->code);
  if (run.is_reference || expected.open_code != 0)
    return;
  if (!fault_happened() || run.kind == FAULT_READ_PARTIAL || run.kind == FAULT_READ_SIGNAL)
    complain("%s: fails without a reason: %s", what, error->message);
  if (run.kind == FAULT_MEMORY ? !out_of_memory : !cannot_read && run.kind != FAULT_SYSTEM)
    complain("%s: fails for the wrong reason, %d: %s", what, code, error->message);
}

bool perform(const char *what, int (*step)(struct qcow2_error *error))
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
      say(&run.text, "%s %s %s %" PRIu64 " %" PRIu64 "\n", info.path,
          info.data_path == NULL ? "-" : info.data_path, info.format, info.file_size, info.size);
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
      say(&run.text, "%" PRIu32 " %s-%s %s %s\n", info.method, info.cipher, info.mode, info.ivgen,
          info.uuid);
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
    say(&run.text, "%zu %s %s %" PRIu64 " %" PRIu64 "\n", found, snapshot->id, snapshot->name,
        snapshot->disk_size, snapshot->vm_state_size);
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
        code = qcow2_bitmap_next_dirty(run.opened.image, i, range.guest_offset + range.length,
                                       &range, error);
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
  bool may_be_cut = (section == SNAPSHOTS || section == BITMAPS) &&
                    run.warning_count > expected.warning_count;

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

/* A fault may make the reader warn that something cannot be read, but not that the image is
   wrong. */
static void check_warnings(void)
{
  const char *warning;

  for (run.warning_count = 0;
       (warning = qcow2_warning(run.opened.image, run.warning_count)) != NULL;
       run.warning_count++) {
    bool is_known = strstr(warning, "cannot be read") != NULL ||
                    strstr(warning, "could not be searched") != NULL;

    if (run.is_reference && expected.warning_count < WARNINGS_MAX)
      snprintf(expected.warnings[expected.warning_count++], sizeof(expected.warnings[0]), "%s",
               warning);
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
             ? qcow2_view_open_vm_state(run.opened.image, run.content->snapshot_index, &run.view,
                                        error)
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
    say(&run.text, "%" PRIu64 " %d %zu %" PRIu64 "\n", at, (int) extent.kind, extent.layer,
        extent.host_offset);
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

static void check_map(struct view_content *content)
{
  if (run.is_reference)
    content->map = run.text;
  else if (strcmp(content->map.bytes, run.text.bytes) != 0)
    complain("map: is\n%sand should be\n%s", run.text.bytes, content->map.bytes);
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
  else if (perform("map", step_map))
    check_map(content);
  read_view(content);
  qcow2_view_close(run.view);
}

static void expect_view(size_t snapshot_index, bool is_vm_state)
{
  if (expected.view_count == VIEWS_MAX)
    abort();
  expected.views[expected.view_count++] = (struct view_content){ .snapshot_index = snapshot_index,
                                                                 .is_vm_state = is_vm_state };
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
    if (expected.views[i].snapshot_index == QCOW2_ACTIVE ||
        expected.views[i].snapshot_index < count)
      visit_view(&expected.views[i]);
}

void examine(void)
{
  check_warnings();
  describe();
  visit_views();
}
