/* SPDX-License-Identifier: MIT */
/*
 * The list is an array that is sorted by the offset in the file: each element says where a fragment
 * starts, in the file and in the outer storage. A fragment ends where the next one starts.
 */
#include "fragments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"

#define FRAGMENTS_AT_FIRST 16u

struct fragment {
  uint64_t offset;       /* in the file */
  uint64_t outer_offset; /* QCOW2_FRAGMENT_... or in the outer storage */
};

struct qcow2_fragments {
  struct qcow2_storage outer; /* not owned */
  struct fragment *list;
  size_t count, capacity;
  uint64_t size; /* of the file, bytes */
};

/* A part of a read that lies in one fragment. */
struct part {
  uint64_t outer_offset; /* of its first byte; or QCOW2_FRAGMENT_... */
  uint64_t length;       /* bytes, to the end of the fragment */
};

static bool is_stored(uint64_t outer_offset)
{
  return outer_offset != QCOW2_FRAGMENT_ZERO && outer_offset != QCOW2_FRAGMENT_LOST;
}

/* ---- Making ---------------------------------------------------------------- */

int qcow2_fragments_new(const struct qcow2_storage *outer, struct qcow2_fragments **out,
                        struct qcow2_error *error)
{
  struct qcow2_fragments *fragments = calloc(1, sizeof(*fragments));

  if (fragments == NULL)
    return qcow2_error_set_nomem(error);
  fragments->outer = *outer;
  *out = fragments;
  return 0;
}

void qcow2_fragments_free(struct qcow2_fragments *fragments)
{
  if (fragments == NULL)
    return;
  free(fragments->list);
  free(fragments);
}

/* True if bytes at `outer_offset` continue the last fragment. */
static bool continues(const struct qcow2_fragments *fragments, uint64_t outer_offset)
{
  const struct fragment *last;

  if (fragments->count == 0)
    return false;
  last = &fragments->list[fragments->count - 1];
  return is_stored(last->outer_offset)
             ? outer_offset == last->outer_offset + (fragments->size - last->offset)
             : outer_offset == last->outer_offset;
}

static int make_room(struct qcow2_fragments *fragments, struct qcow2_error *error)
{
  size_t capacity = fragments->capacity == 0 ? FRAGMENTS_AT_FIRST : 2 * fragments->capacity;
  struct fragment *list;

  if (fragments->count < fragments->capacity)
    return 0;
  if (fragments->count >= QCOW2_FRAGMENTS_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the file lies in more than %" PRIu32 " fragments", QCOW2_FRAGMENTS_MAX);
  list = realloc(fragments->list, capacity * sizeof(*list));
  if (list == NULL)
    return qcow2_error_set_nomem(error);
  fragments->list = list;
  fragments->capacity = capacity;
  return 0;
}

int qcow2_fragments_add(struct qcow2_fragments *fragments, uint64_t length, uint64_t outer_offset,
                        struct qcow2_error *error)
{
  int code;

  if (!range_fits(fragments->size, length, INT64_MAX) ||
      (is_stored(outer_offset) && !range_fits(outer_offset, length, INT64_MAX)))
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "the file system gives a file an impossible size or offset");
  if (!continues(fragments, outer_offset)) {
    code = make_room(fragments, error);
    if (code != 0)
      return code;
    fragments->list[fragments->count++] = (struct fragment){ fragments->size, outer_offset };
  }
  fragments->size += length;
  return 0;
}

/* ---- Looking up ------------------------------------------------------------ */

/* The index of the fragment that has the byte at `offset`, which is below the size. */
static size_t find(const struct qcow2_fragments *fragments, uint64_t offset)
{
  size_t low = 0, high = fragments->count;

  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;

    if (fragments->list[middle].offset <= offset)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/* What the fragment has from `offset` on. */
static struct part part_at(const struct qcow2_fragments *fragments, size_t index, uint64_t offset)
{
  const struct fragment *fragment = &fragments->list[index];
  uint64_t end = index + 1 < fragments->count ? fragment[1].offset : fragments->size;
  struct part part = { fragment->outer_offset, end - offset };

  if (is_stored(part.outer_offset))
    part.outer_offset += offset - fragment->offset;
  return part;
}

/* ---- The storage ----------------------------------------------------------- */

/* Read the first bytes of a part. Returns 0 or an errno value. */
static int read_part(const struct qcow2_storage *outer, const struct part *part, void *out,
                     size_t length)
{
  if (part->outer_offset == QCOW2_FRAGMENT_ZERO) {
    memset(out, 0, length);
    return 0;
  }
  if (part->outer_offset == QCOW2_FRAGMENT_LOST ||
      !range_fits(part->outer_offset, length, outer->size))
    return EIO;
  return outer->read(outer->context, part->outer_offset, out, length);
}

static int fragments_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct qcow2_fragments *fragments = context;
  size_t index = find(fragments, offset);
  char *out = buffer;

  while (length > 0) {
    struct part part = part_at(fragments, index++, offset);
    size_t piece = (size_t) min_u64(part.length, length);
    int os_errno = read_part(&fragments->outer, &part, out, piece);

    if (os_errno != 0)
      return os_errno;
    out += piece;
    offset += piece;
    length -= piece;
  }
  return 0;
}

static void fragments_close(void *context)
{
  qcow2_fragments_free(context);
}

void qcow2_fragments_finish(struct qcow2_fragments *fragments, struct qcow2_storage *storage)
{
  *storage = (struct qcow2_storage){
    .context = fragments, .size = fragments->size, .read = fragments_read, .close = fragments_close
  };
}

const struct qcow2_storage *qcow2_fragments_outer(const struct qcow2_storage *storage)
{
  const struct qcow2_fragments *fragments = storage->context;

  return storage->read == fragments_read ? &fragments->outer : NULL;
}

uint64_t qcow2_fragments_next(const struct qcow2_storage *storage, uint64_t offset, bool in_hole)
{
  const struct qcow2_fragments *fragments = storage->context;

  if (offset >= fragments->size)
    return fragments->size;
  for (size_t index = find(fragments, offset); index < fragments->count; index++) {
    if ((fragments->list[index].outer_offset == QCOW2_FRAGMENT_ZERO) == in_hole)
      return offset;
    offset += part_at(fragments, index, offset).length;
  }
  return offset;
}

void qcow2_fragments_explain(const struct qcow2_storage *storage, uint64_t offset, size_t length,
                             char *out, size_t out_size)
{
  const struct qcow2_fragments *fragments = storage->context;
  uint64_t first = QCOW2_FRAGMENT_ZERO, end = offset + length;

  for (size_t index = find(fragments, offset); offset < end; index++) {
    struct part part = part_at(fragments, index, offset);
    uint64_t needed = min_u64(part.length, end - offset);

    if (part.outer_offset == QCOW2_FRAGMENT_LOST) {
      snprintf(out, out_size, "the file system around it does not say where they are");
      return;
    }
    if (is_stored(part.outer_offset) &&
        !range_fits(part.outer_offset, needed, fragments->outer.size)) {
      snprintf(out, out_size,
               "they are at byte %" PRIu64 " of the disk around it, which ends at byte %" PRIu64,
               part.outer_offset, fragments->outer.size);
      return;
    }
    if (is_stored(part.outer_offset) && first == QCOW2_FRAGMENT_ZERO)
      first = part.outer_offset;
    offset += part.length;
  }
  snprintf(out, out_size, "they are at byte %" PRIu64 " of the disk around it", first);
}
