/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"

void fuzz_fail(const char *condition, const char *file, int line)
{
  fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
  abort();
}

/* ---- Text --------------------------------------------------------------- */

/* The length of the UTF-8 character at `text`, 0 if there is none. Looser than the reader's own: an
   independent look. */
static size_t character_length(const unsigned char *text)
{
  size_t length = text[0] < 0x80   ? 1
                  : text[0] < 0xc2 ? 0
                  : text[0] < 0xe0 ? 2
                  : text[0] < 0xf0 ? 3
                  : text[0] < 0xf5 ? 4
                                   : 0;

  for (size_t i = 1; i < length; i++)
    if ((text[i] & 0xc0) != 0x80)
      return 0;
  return length;
}

void fuzz_check_printable(const char *text)
{
  const unsigned char *at = (const unsigned char *) text;

  while (*at != '\0') {
    FUZZ_CHECK(*at >= 0x20 && *at != 0x7f);
    FUZZ_CHECK(character_length(at) > 0);
    at += character_length(at);
  }
}

void fuzz_check_escape(const char *text, size_t length)
{
  static const size_t sizes[] = { 1, 2, 4, 5, 33, 256 };

  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    char *out = malloc(sizes[i]);

    FUZZ_CHECK(out != NULL);
    FUZZ_CHECK(qcow2_text_escape(text, length, out, sizes[i]) == out);
    FUZZ_CHECK(memchr(out, '\0', sizes[i]) != NULL);
    fuzz_check_printable(out);
    free(out);
  }
}

/* ---- Errors ------------------------------------------------------------- */

#define UNTOUCHED 0x5a

struct qcow2_error fuzz_error_fresh(void)
{
  struct qcow2_error error;

  memset(&error, UNTOUCHED, sizeof(error));
  return error;
}

void fuzz_check_result(int code, const struct qcow2_error *error)
{
  const struct qcow2_error fresh = fuzz_error_fresh();

  if (code == 0) {
    FUZZ_CHECK(memcmp(error, &fresh, sizeof(fresh)) == 0);
    return;
  }
  FUZZ_CHECK(strcmp(qcow2_status_name(code), "UNKNOWN") != 0);
  FUZZ_CHECK(error->code == code);
  FUZZ_CHECK(memchr(error->message, '\0', sizeof(error->message)) != NULL);
  FUZZ_CHECK(error->message[0] != '\0');
  fuzz_check_printable(error->message);
}

/* ---- Input -------------------------------------------------------------- */

bool fuzz_is_version_1(const struct fuzz_input *input)
{
  return input->length >= 8 && be32_get(input->bytes + 4) == 1;
}

uint64_t fuzz_take(struct fuzz_input *input, unsigned width)
{
  uint64_t value = 0;

  for (unsigned i = 0; i < width && input->length > 0; i++) {
    value |= (uint64_t) *input->bytes++ << 8 * i;
    input->length--;
  }
  return value;
}

static int read_bytes(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct fuzz_input *input = context;

  FUZZ_CHECK(length > 0 && range_fits(offset, length, input->length));
  memcpy(buffer, input->bytes + offset, length);
  return 0;
}

struct qcow2_storage fuzz_storage(struct fuzz_input *input)
{
  return (struct qcow2_storage){ .context = input, .size = input->length, .read = read_bytes };
}

#define SECTOR 512u

bool fuzz_is_bad(const struct fuzz_input *input, uint64_t offset, uint64_t length)
{
  unsigned cluster_bits = input->length < 24 ? 0
                                             : (unsigned) min_u64(be32_get(input->bytes + 20), 21);

  for (uint64_t sector = offset / SECTOR; sector * SECTOR < offset + length; sector++)
    if (sector * SECTOR >> cluster_bits > 0 &&
        (sector * (input->length | 1) * UINT64_C(0x9e3779b97f4a7c15)) >> 61 == 0)
      return true;
  return false;
}

static int read_failing(void *context, uint64_t offset, void *buffer, size_t length)
{
  return fuzz_is_bad(context, offset, length) ? EIO : read_bytes(context, offset, buffer, length);
}

struct qcow2_storage fuzz_storage_failing(struct fuzz_input *input)
{
  return (struct qcow2_storage){ .context = input, .size = input->length, .read = read_failing };
}

/* ---- The input as a file ------------------------------------------------ */

static char file_paths[FUZZ_FILES][64];

static void remove_files(void)
{
  for (size_t i = 0; i < FUZZ_FILES; i++)
    unlink(file_paths[i]);
}

static void name_files(void)
{
  const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                          : access("/tmp", W_OK) == 0   ? "/tmp"
                                                        : ".";

  for (unsigned i = 0; i < FUZZ_FILES; i++)
    snprintf(file_paths[i], sizeof(file_paths[i]), "%s/fuzz-image-%ld-%u", directory,
             (long) getpid(), i);
  atexit(remove_files);
}

const char *fuzz_input_file(const struct fuzz_input *input, unsigned number)
{
  FILE *file;

  if (file_paths[0][0] == '\0')
    name_files();
  file = fopen(file_paths[number], "wb");
  FUZZ_CHECK(file != NULL);
  FUZZ_CHECK(fwrite(input->bytes, 1, input->length, file) == input->length);
  FUZZ_CHECK(fclose(file) == 0);
  return file_paths[number];
}
