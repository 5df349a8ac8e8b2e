/* SPDX-License-Identifier: MIT */
/*
 * Damages an image in memory again and again, and checks each time that what can be read of it is
 * right.
 *
 *   flips IMAGE CONTENT flip [RULE...]    each bit of the first cluster flipped, one at a time
 *   flips IMAGE CONTENT truncate STEP     cut at each multiple of STEP bytes
 *
 * CONTENT is the disk as it must read. A RULE, "FIRST-LAST=WHAT", says what may become of a flip of
 * these bits (bit n of byte b is 8 * b + n, bit 0 the lowest):
 *   exact   nothing: the image opens and the whole disk reads as before; the rule of all other bits
 *   fail    opening, or reading some of it, may fail; what reads is as before
 *   size    the same, but the disk's size may be another
 *   error   opening must fail
 *   free    any content, or an error
 * Whatever happens, the library must not read outside the image, open a file, crash, or take longer
 * than SECONDS_MAX.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qcow2core.h"

#define SECONDS_MAX 60
#define PIECE_BYTES 512u

enum rule {
  EXACT,
  FAIL,
  SIZE,
  ERROR,
  FREE,
  RULES
};

static const char *const rule_names[RULES] = { "exact", "fail", "size", "error", "free" };

struct bytes {
  uint8_t *data;
  uint64_t length;
};

static struct bytes image, content;
static uint64_t bit_now, length_now; /* the damage being tried, for messages */
static unsigned outside_reads, opened_files;

/* ---- What the library must not do ------------------------------------------------------ */

/* The linker leads the library's calls here (--wrap). */
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
  (void) path;
  (void) flags;
  opened_files++;
  return -1;
}

int __wrap_openat(int directory, const char *path, int flags, ...)
{
  (void) directory;
  return __wrap_open(path, flags);
}

static int memory_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct bytes *bytes = context;

  if (length == 0 || offset > bytes->length || length > bytes->length - offset) {
    outside_reads++;
    return 5; /* EIO */
  }
  memcpy(buffer, bytes->data + offset, length);
  return 0;
}

static void too_long(int signal_number)
{
  (void) signal_number;
  /* NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c): the program is stuck, and ends here */
  printf("took more than %d seconds: bit %" PRIu64 ", length %" PRIu64 "\n", SECONDS_MAX, bit_now,
         length_now);
  fflush(stdout);
  /* NOLINTEND(bugprone-signal-handler,cert-sig30-c) */
  _exit(1);
}

/* ---- One damaged image -------------------------------------------------------------------- */

struct outcome {
  bool opened, size_differs;
  unsigned right, wrong, failed; /* pieces of the disk */
};

static void check_error(int code, const struct qcow2_error *error)
{
  if (code != error->code || error->message[0] == '\0') {
    printf("status %d with error %d \"%s\"\n", code, error->code, error->message);
    exit(1);
  }
}

static void read_piece(struct qcow2_view *view, uint64_t at, size_t length, struct outcome *outcome)
{
  uint8_t piece[PIECE_BYTES];
  struct qcow2_error error;
  int code = qcow2_view_read(view, at, piece, length, &error);

  if (code != 0) {
    check_error(code, &error);
    outcome->failed++;
  } else if (memcmp(piece, content.data + at, length) == 0)
    outcome->right++;
  else
    outcome->wrong++;
}

/* At once if that is right, else piece by piece. */
static void read_disk(struct qcow2_view *view, struct outcome *outcome)
{
  uint64_t size = qcow2_view_size(view);
  uint8_t *whole = malloc((size_t) content.length + 1);

  outcome->size_differs = size != content.length;
  if (size > content.length)
    size = content.length;
  if (whole != NULL && qcow2_view_read(view, 0, whole, (size_t) size, NULL) == 0 &&
      memcmp(whole, content.data, (size_t) size) == 0)
    outcome->right++;
  else
    for (uint64_t at = 0; at < size; at += PIECE_BYTES)
      read_piece(view, at, size - at < PIECE_BYTES ? (size_t) (size - at) : PIECE_BYTES, outcome);
  free(whole);
}

/* Look at the ends of a snapshot's disk. */
static void read_snapshot(struct qcow2_image *opened, size_t index)
{
  struct qcow2_extent extent;
  struct qcow2_error error;
  struct qcow2_view *view;
  uint8_t byte;

  if (qcow2_view_open(opened, index, &view, &error) != 0)
    return;
  if (qcow2_view_size(view) > 0) {
    qcow2_view_read(view, 0, &byte, 1, &error);
    qcow2_view_read(view, qcow2_view_size(view) - 1, &byte, 1, &error);
    qcow2_view_map(view, 0, qcow2_view_size(view), &extent, &error);
  }
  qcow2_view_close(view);
}

/* Ask everything that the image says of itself. */
static void describe(struct qcow2_image *opened)
{
  uint64_t runs = 1000, bytes;
  struct qcow2_layer_info layer;
  struct qcow2_encryption_info encryption;
  struct qcow2_error error;
  const struct qcow2_extension *extension;
  volatile uint8_t last;

  for (size_t i = 0; i < qcow2_layer_count(opened); i++) {
    qcow2_layer_get(opened, i, &layer, &error);
    qcow2_encryption_get(opened, i, &encryption, &error);
  }
  for (size_t i = 0; (extension = qcow2_extension_get(opened, 0, i)) != NULL; i++)
    if (extension->length > 0)
      last = extension->data[extension->length - 1];
  (void) last;
  for (size_t i = 0; qcow2_warning(opened, i) != NULL; i++)
    ;
  for (unsigned bit = 0; bit < 64; bit++)
    qcow2_feature_name(opened, QCOW2_FEATURE_COMPATIBLE, bit);
  for (size_t i = 0; i < qcow2_snapshot_count(opened) && i < 3; i++)
    read_snapshot(opened, i);
  for (size_t i = 0; i < qcow2_bitmap_count(opened) && i < 3; i++)
    qcow2_bitmap_dirty_bytes(opened, i, &runs, &bytes, &error);
}

static struct outcome try_image(void)
{
  static const char *const no_backing[] = { QCOW2_BACKING_NONE };
  struct qcow2_storage storage = { .context = &image, .size = image.length, .read = memory_read };
  struct qcow2_open_options options = { .struct_size = sizeof(options), .cache_bytes = 1 };
  struct outcome outcome = { .opened = false };
  struct qcow2_image *opened;
  struct qcow2_view *view;
  struct qcow2_error error;
  int code;

  alarm(SECONDS_MAX);
  code = qcow2_image_open_storage(&storage, &options, &opened, &error);
  if (code == QCOW2_ERROR_DENIED) { /* it names a backing file: the overlay alone */
    options.backing_paths = no_backing;
    options.backing_count = 1;
    code = qcow2_image_open_storage(&storage, &options, &opened, &error);
  }
  if (code != 0) {
    check_error(code, &error);
    return outcome;
  }
  outcome.opened = true;
  describe(opened);
  code = qcow2_view_open(opened, QCOW2_ACTIVE, &view, &error);
  if (code == 0) {
    read_disk(view, &outcome);
    qcow2_view_close(view);
  } else {
    check_error(code, &error);
    outcome.failed++;
  }
  qcow2_image_close(opened);
  return outcome;
}

static bool allows(enum rule rule, const struct outcome *outcome)
{
  switch (rule) {
  case EXACT:
    return outcome->opened && !outcome->size_differs && outcome->wrong == 0 && outcome->failed == 0;
  case FAIL: return outcome->wrong == 0 && (!outcome->opened || !outcome->size_differs);
  case SIZE: return outcome->wrong == 0;
  case ERROR: return !outcome->opened;
  case FREE:
  case RULES: break;
  }
  return true;
}

static bool judge(enum rule rule, const struct outcome *outcome, const char *what, uint64_t where)
{
  bool good = allows(rule, outcome) && outside_reads == 0 && opened_files == 0;

  if (!good) /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): the rules are from calloc() */
    printf("%s %" PRIu64 " (byte %" PRIu64
           ") must be \"%s\": opened %d, size differs %d, right %u, wrong %u, failed %u; reads "
           "outside %u, files opened %u\n",
           what, where, where / 8, rule_names[rule], outcome->opened, outcome->size_differs,
           outcome->right, outcome->wrong, outcome->failed, outside_reads, opened_files);
  outside_reads = opened_files = 0;
  return good;
}

/* ---- All of them ---------------------------------------------------------------------------- */

static void set_rule(uint8_t *rules, uint64_t bits, const char *text)
{
  char *end;
  uint64_t first = strtoull(text, &end, 10), last = *end == '-' ? strtoull(end + 1, &end, 10) : 0;

  if (*end == '=' && first <= last && last < bits)
    for (unsigned rule = 0; rule < RULES; rule++)
      if (strcmp(end + 1, rule_names[rule]) == 0) {
        memset(rules + first, (int) rule, (size_t) (last - first + 1));
        return;
      }
  fprintf(stderr, "not a rule: %s\n", text);
  exit(2);
}

static bool flip(int rule_count, char *rule_texts[])
{
  uint64_t bits = (UINT64_C(1) << image.data[23]) * 8; /* cluster_bits' last byte */
  uint8_t *rules = calloc(1, (size_t) bits);           /* EXACT */
  unsigned tried[RULES] = { 0 }, opened = 0;
  bool good = true;

  for (int i = 0; i < rule_count; i++)
    set_rule(rules, bits, rule_texts[i]);
  for (bit_now = 0; bit_now < bits; bit_now++) {
    struct outcome outcome;

    image.data[bit_now / 8] ^= (uint8_t) (1 << bit_now % 8);
    outcome = try_image();
    image.data[bit_now / 8] ^= (uint8_t) (1 << bit_now % 8);
    good = judge((enum rule) rules[bit_now], &outcome, "bit", bit_now) && good;
    tried[rules[bit_now]]++;
    opened += outcome.opened;
  }
  for (unsigned rule = 0; rule < RULES; rule++)
    printf("%s %u ", rule_names[rule], tried[rule]);
  printf("opened %u\n", opened);
  free(rules);
  return good;
}

static bool truncate_image(uint64_t step)
{
  uint64_t whole = image.length;
  unsigned tried = 0, right = 0, failed = 0;
  bool good = true;

  for (length_now = 0; length_now < whole; length_now += step, tried++) {
    uint8_t *data = image.data;
    struct outcome outcome;

    image.data = malloc((size_t) length_now +
                        1); /* a buffer of its own, so that a sanitizer sees a read past its end */
    image.length = length_now;
    memcpy(image.data, data, (size_t) length_now);
    outcome = try_image();
    free(image.data);
    image.data = data;
    good = judge(FAIL, &outcome, "length", length_now) && good;
    right += outcome.right;
    failed += outcome.failed;
  }
  printf("lengths %u right %u failed %u\n", tried, right, failed);
  return good;
}

static void load(const char *path, struct bytes *bytes)
{
  FILE *file = fopen(path, "rb");
  long length;

  if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0) {
    perror(path);
    exit(2);
  }
  rewind(file);
  bytes->length = (uint64_t) length;
  bytes->data = malloc((size_t) bytes->length + 1);
  if (bytes->data == NULL || fread(bytes->data, 1, (size_t) bytes->length, file) != bytes->length) {
    perror(path);
    exit(2);
  }
  fclose(file);
}

int main(int argc, char *argv[])
{
  struct outcome outcome;
  bool good;

  if (argc < 4)
    return 2;
  load(argv[1], &image);
  load(argv[2], &content);
  signal(SIGALRM, too_long);
  qcow2_image_probe(argv[1]);
  if (opened_files == 0) {
    fprintf(stderr, "files are opened without our seeing it: the linker's --wrap has no effect\n");
    return 2;
  }
  opened_files = 0;
  outcome = try_image();
  good = judge(EXACT, &outcome, "undamaged", 0);
  if (strcmp(argv[3], "flip") == 0)
    good = flip(argc - 4, argv + 4) && good;
  else
    good = truncate_image(strtoull(argv[4], NULL, 10)) && good;
  free(image.data);
  free(content.data);
  return good ? 0 : 1;
}
