/* SPDX-License-Identifier: MIT */
#include "views.h"

#include <stdlib.h>
#include <string.h>

#include "../../core/base/checked.h"

#define EXTENTS_MAX 40
#define PIECE_BYTES 1500u /* no multiple of anything */
#define FAR_PLACES 12

/* ---- Reading ---------------------------------------------------------------- */

/* What qcow2_view_salvage() reports of one read. */
struct damage {
  uint64_t guest_offset; /* of the read */
  size_t length;
  uint64_t last; /* where the last reported range began */
  size_t count;
  bool is_lost[PIECE_BYTES]; /* byte by byte */
};

static void note_damage(void *context, const struct qcow2_error *error)
{
  struct damage *damage = context;
  uint64_t end = damage->guest_offset + damage->length, start;

  fuzz_check_result(error->code, error);
  FUZZ_CHECK(error->guest_length > 0 && error->guest_offset >= damage->last &&
             error->guest_offset < end);
  FUZZ_CHECK(error->guest_length <= UINT64_MAX - error->guest_offset);
  damage->last = error->guest_offset;
  damage->count++;
  start = error->guest_offset - damage->guest_offset;
  memset(damage->is_lost + start, true,
         (size_t) min_u64(damage->length - start, error->guest_length));
}

/* Salvaged bytes are zeros where damage was reported, and elsewhere what a read of them alone
   gives. No more is reported than is lost, except for bad sectors, with which neighbouring bytes
   are lost too. */
static void check_salvage(const struct fuzz_walk *walk, uint64_t guest_offset, size_t length,
                          int read_code, const uint8_t *read_bytes)
{
  struct qcow2_view *view = walk->view;
  struct damage damage = { .guest_offset = guest_offset, .length = length, .last = guest_offset };
  struct qcow2_error error = fuzz_error_fresh();
  uint8_t bytes[PIECE_BYTES], alone;
  int code = qcow2_view_salvage(view, guest_offset, bytes, length, note_damage, &damage, &error);

  fuzz_check_result(code, &error);
  FUZZ_CHECK(code == 0);
  FUZZ_CHECK((damage.count == 0) == (read_code == 0));
  if (read_code == 0)
    FUZZ_CHECK(memcmp(bytes, read_bytes, length) == 0);
  for (size_t i = 0; read_code != 0 && i < length; i++)
    if (damage.is_lost[i])
      FUZZ_CHECK(bytes[i] == 0 && (i % 64 != 0 || walk->has_bad_sectors ||
                                   qcow2_view_read(view, guest_offset + i, &alone, 1, NULL) != 0));
    else if (i % 64 == 0)
      FUZZ_CHECK(qcow2_view_read(view, guest_offset + i, &alone, 1, NULL) == 0 &&
                 alone == bytes[i]);
}

/* Read a piece at once, in two parts, and as far as it goes. Returns the status of the first; the
   bytes are in `bytes`. */
static int read_piece(const struct fuzz_walk *walk, uint64_t guest_offset, size_t length,
                      uint8_t *bytes)
{
  struct qcow2_view *view = walk->view;
  struct qcow2_error error = fuzz_error_fresh();
  uint8_t parts[PIECE_BYTES];
  size_t half = length / 2;
  int code = qcow2_view_read(view, guest_offset, bytes, length, &error);
  int first = qcow2_view_read(view, guest_offset, parts, half, NULL);
  int second = qcow2_view_read(view, guest_offset + half, parts + half, length - half, NULL);

  fuzz_check_result(code, &error);
  FUZZ_CHECK((code == 0) == (first == 0 && second == 0));
  if (code == 0)
    FUZZ_CHECK(memcmp(bytes, parts, length) == 0);
  else
    FUZZ_CHECK(error.guest_length > 0 && error.guest_offset >= guest_offset &&
               error.guest_offset < guest_offset + length);
  check_salvage(walk, guest_offset, length, code, bytes);
  if (code == 0 && walk->sound != NULL)
    FUZZ_CHECK(qcow2_view_read(walk->sound, guest_offset, parts, length, NULL) == 0 &&
               memcmp(bytes, parts, length) == 0);
  return code;
}

/* ---- Mapping ---------------------------------------------------------------- */

static void check_shape(const struct fuzz_walk *walk, const struct qcow2_extent *extent,
                        uint64_t guest_offset, uint64_t length)
{
  bool has_place = extent->kind == QCOW2_CLUSTER_NORMAL ||
                   extent->kind == QCOW2_CLUSTER_ZERO_ALLOCATED ||
                   extent->kind == QCOW2_CLUSTER_COMPRESSED;

  FUZZ_CHECK(extent->guest_offset == guest_offset &&
             extent->layer < qcow2_layer_count(walk->image));
  FUZZ_CHECK(extent->length > 0 && extent->length <= length);
  FUZZ_CHECK((extent->host_offset != QCOW2_NO_OFFSET) == has_place);
  FUZZ_CHECK((extent->host_bytes > 0) == (extent->kind == QCOW2_CLUSTER_COMPRESSED));
}

/* A look-up in the middle must say the same. */
static void check_middle(struct qcow2_view *view, const struct qcow2_extent *extent)
{
  struct qcow2_error error = fuzz_error_fresh();
  uint64_t skip = extent->length / 2;
  struct qcow2_extent middle;

  FUZZ_CHECK(qcow2_view_map(view, extent->guest_offset + skip, extent->length - skip, &middle,
                            &error) == 0);
  FUZZ_CHECK(middle.kind == extent->kind && middle.layer == extent->layer);
  if (extent->kind == QCOW2_CLUSTER_NORMAL || extent->kind == QCOW2_CLUSTER_ZERO_ALLOCATED)
    FUZZ_CHECK(middle.host_offset == extent->host_offset + skip);
  else
    FUZZ_CHECK(middle.host_offset == extent->host_offset &&
               middle.host_bytes == extent->host_bytes);
}

/* Whether the layer's normal clusters are plain bytes, in the image or in its data file, which
   holds the same. */
static bool is_plain(const struct fuzz_walk *walk, size_t layer)
{
  struct qcow2_layer_info info;

  qcow2_layer_get(walk->image, layer, &info, NULL);
  return info.is_raw || info.header->crypt_method == 0;
}

/* Whether an extent's first bytes, which are plain, can be read. */
static bool is_readable(const struct fuzz_walk *walk, const struct qcow2_extent *extent,
                        size_t length)
{
  struct qcow2_layer_info info;

  if (!range_fits(extent->host_offset, length, walk->input->length))
    return false;
  qcow2_layer_get(walk->image, extent->layer, &info, NULL);
  return !walk->has_bad_sectors || extent->layer > 0 || info.data_path != NULL ||
         !fuzz_is_bad(walk->input, extent->host_offset, length);
}

/* What a read of an extent's first bytes must give. Every file there is holds the input. */
static void check_content(const struct fuzz_walk *walk, const struct qcow2_extent *extent, int code,
                          const uint8_t *bytes, size_t length)
{
  static const uint8_t zeros[PIECE_BYTES];
  const struct fuzz_input *input = walk->input;

  switch (extent->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
  case QCOW2_CLUSTER_ZERO:
  case QCOW2_CLUSTER_ZERO_ALLOCATED:
    FUZZ_CHECK(code == 0 && memcmp(bytes, zeros, length) == 0);
    break;
  case QCOW2_CLUSTER_NORMAL:
    if (!is_plain(walk, extent->layer))
      break;
    FUZZ_CHECK((code == 0) == is_readable(walk, extent, length));
    FUZZ_CHECK(code != 0 || memcmp(bytes, input->bytes + extent->host_offset, length) == 0);
    break;
  case QCOW2_CLUSTER_COMPRESSED: break;
  case QCOW2_CLUSTER_INVALID: FUZZ_CHECK(code == QCOW2_ERROR_CORRUPT); break;
  }
}

/* ---- Walking ---------------------------------------------------------------- */

/* What reading an extent costs at most, in bytes that are decoded. */
static uint64_t cost(const struct fuzz_walk *walk, const struct qcow2_extent *extent)
{
  struct qcow2_layer_info info;

  if (extent->kind != QCOW2_CLUSTER_COMPRESSED)
    return PIECE_BYTES;
  qcow2_layer_get(walk->image, extent->layer, &info, NULL);
  /* A stream that fails is decoded anew by each read, and that is about fifty times. */
  return UINT64_C(50) << info.header->cluster_bits;
}

/* Read the start of an extent, and where it meets the next. */
static void read_extent(struct fuzz_walk *walk, const struct qcow2_extent *extent)
{
  uint64_t size = qcow2_view_size(walk->view), end = extent->guest_offset + extent->length;
  size_t length = (size_t) min_u64(extent->length, PIECE_BYTES);
  uint64_t start = end - min_u64(extent->length, PIECE_BYTES / 2);
  uint8_t bytes[PIECE_BYTES];
  int code;

  if (cost(walk, extent) > walk->bytes_left)
    return;
  walk->bytes_left -= cost(walk, extent);
  code = read_piece(walk, extent->guest_offset, length, bytes);
  check_content(walk, extent, code, bytes, length);
  read_piece(walk, start, (size_t) min_u64(size - start, PIECE_BYTES), bytes);
}

/* Map and read at one place. Returns how far that went. */
static uint64_t walk_place(struct fuzz_walk *walk, uint64_t guest_offset)
{
  uint64_t left = qcow2_view_size(walk->view) - guest_offset;
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_extent extent;
  uint8_t byte;
  int code = qcow2_view_map(walk->view, guest_offset, left, &extent, &error);

  fuzz_check_result(code, &error);
  if (code != 0) {
    FUZZ_CHECK(error.guest_offset == guest_offset && error.guest_length > 0 &&
               error.guest_length <= left);
    FUZZ_CHECK(qcow2_view_read(walk->view, guest_offset, &byte, 1, NULL) == code);
    FUZZ_CHECK(qcow2_view_read(walk->view, guest_offset + error.guest_length - 1, &byte, 1, NULL) !=
               0);
    return error.guest_length;
  }
  check_shape(walk, &extent, guest_offset, left);
  check_middle(walk->view, &extent);
  read_extent(walk, &extent);
  return extent.length;
}

static void check_end(struct qcow2_view *view)
{
  uint64_t size = qcow2_view_size(view);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_extent extent;
  uint8_t byte;

  FUZZ_CHECK(qcow2_view_read(view, size, &byte, 1, &error) == QCOW2_ERROR_ARGUMENT);
  FUZZ_CHECK(qcow2_view_read(view, UINT64_MAX, &byte, 1, &error) == QCOW2_ERROR_ARGUMENT);
  FUZZ_CHECK(qcow2_view_map(view, size, 1, &extent, &error) == QCOW2_ERROR_ARGUMENT);
  fuzz_check_result(QCOW2_ERROR_ARGUMENT, &error);
  error = fuzz_error_fresh();
  FUZZ_CHECK(qcow2_view_read(view, size, &byte, 0, &error) == 0);
}

void fuzz_walk_view(struct fuzz_walk *walk)
{
  uint64_t size = qcow2_view_size(walk->view), at = 0;

  check_end(walk->view);
  for (int i = 0; at < size && i < EXTENTS_MAX; i++)
    at += walk_place(walk, at);
  for (int i = 1; at < size && i <= FAR_PLACES; i++)
    walk_place(walk, size - 1 - (size - 1 - at) / (uint64_t) i);
  qcow2_view_close(walk->view);
  qcow2_view_close(walk->sound);
  walk->view = walk->sound = NULL;
}
