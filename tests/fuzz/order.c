/* SPDX-License-Identifier: MIT */
/*
 * A whole image, read in ascending order and then in one that the input's bytes choose: from a
 * file, where threads decode ahead, and from memory, where none do. Both must give the same.
 */
#include <string.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"
#include "fuzz.h"

#define SNAPSHOTS_TO_READ 2
#define UNIT_BYTES_MIN 65536u
#define PIECE_BYTES 700u
/* So much may be decoded of a view: a small image of large clusters shall not take long. */
#define VIEW_BYTES (UINT64_C(6) << 20)
#define UNITS_MAX 60u
#define JUMPS 24u

static const struct qcow2_passphrase PASSPHRASE = { "secret", 6 };

/* The same view twice. */
struct pair {
  struct qcow2_view *ahead, *plain;
  uint64_t unit; /* bytes that are decoded ahead at once */
};

static void read_both(const struct pair *pair, uint64_t guest_offset)
{
  uint8_t ahead[PIECE_BYTES], plain[PIECE_BYTES];
  size_t length = (size_t) min_u64(PIECE_BYTES, qcow2_view_size(pair->plain) - guest_offset);
  struct qcow2_error ahead_error = fuzz_error_fresh(), plain_error = fuzz_error_fresh();
  int code = qcow2_view_read(pair->ahead, guest_offset, ahead, length, &ahead_error);

  fuzz_check_result(code, &ahead_error);
  FUZZ_CHECK(qcow2_view_read(pair->plain, guest_offset, plain, length, &plain_error) == code);
  if (code == 0)
    FUZZ_CHECK(memcmp(ahead, plain, length) == 0);
  else
    FUZZ_CHECK(ahead_error.guest_offset == plain_error.guest_offset &&
               ahead_error.host_offset == plain_error.host_offset);
}

static void read_view(const struct pair *pair, struct fuzz_input choices)
{
  uint64_t size = qcow2_view_size(pair->plain);
  uint64_t units = min_u64(divide_up(size, pair->unit),
                           min_u64(UNITS_MAX, VIEW_BYTES / pair->unit));

  for (uint64_t i = 0; i < units; i++)
    read_both(pair, min_u64(i * pair->unit + i * 1000 % pair->unit, size - 1));
  for (unsigned i = 0; i < JUMPS && units > 0; i++)
    read_both(pair, min_u64(fuzz_take(&choices, 1) % units * pair->unit + i * 512, size - 1));
}

static void read_views(struct qcow2_image *ahead, struct qcow2_image *plain, struct pair *pair,
                       struct fuzz_input choices)
{
  FUZZ_CHECK(qcow2_snapshot_count(ahead) == qcow2_snapshot_count(plain));
  for (size_t i = 0; i <= SNAPSHOTS_TO_READ && i <= qcow2_snapshot_count(plain); i++) {
    size_t index = i == 0 ? QCOW2_ACTIVE : i - 1;
    int code = qcow2_view_open(plain, index, &pair->plain, NULL);

    if (code != 0)
      continue;
    FUZZ_CHECK(qcow2_view_open(ahead, index, &pair->ahead, NULL) == 0);
    read_view(pair, choices);
    qcow2_view_close(pair->ahead);
    qcow2_view_close(pair->plain);
  }
}

/* Whether the image needs more than this target gives it. LUKS takes time, and is read as legacy
   AES is. */
static bool is_fit(const struct fuzz_input *input)
{
  return input->length >= 112 && be32_get(input->bytes + 32) < 2;
}

void fuzz_order(const uint8_t *data, size_t size)
{
  static const char *const backing[] = { QCOW2_BACKING_NONE };
  struct fuzz_input input = { data, size }, choices = { data + size / 2, size - size / 2 };
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .backing_paths = backing,
                                        .backing_count = 1 };
  struct qcow2_storage storage = fuzz_storage(&input);
  struct qcow2_image *ahead, *plain;
  struct pair pair = { .unit = UNIT_BYTES_MIN };

  if (!is_fit(&input))
    return;
  options.passphrases = &PASSPHRASE;
  options.passphrase_count = be32_get(data + 32);
  if (qcow2_image_open_storage(&storage, &options, &plain, NULL) != 0)
    return;
  if (be32_get(data + 20) > 16)
    pair.unit = UINT64_C(1) << be32_get(data + 20);
  FUZZ_CHECK(qcow2_image_open(fuzz_input_file(&input, 0), &options, &ahead, NULL) == 0);
  read_views(ahead, plain, &pair, choices);
  qcow2_image_close(ahead);
  qcow2_image_close(plain);
}
