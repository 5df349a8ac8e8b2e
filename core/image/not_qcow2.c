/* SPDX-License-Identifier: MIT */
#include "not_qcow2.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../format/formats.h"
#include "../format/header.h"
#include "../format/tar.h"
#include "../storage/reference.h"
#include "../storage/storage.h"
#include "contents.h"

/* Images begin at multiples of this. */
#define SECTOR_BYTES 512u
/* The file is searched in pieces of this many bytes. */
#define PIECE_BYTES 65536u
/* The most images of an archive that a message lists. */
#define LISTED_MAX 4u

/* True if the bytes look like the start of a qcow2 image. */
static bool starts_image(const uint8_t *bytes, size_t length)
{
  size_t needed;

  return qcow2_format_qcow_version(bytes, length) > 0 &&
         qcow2_header_measure(bytes, length, &needed, NULL) == 0;
}

static bool starts_image_at(const struct qcow2_storage *storage, uint64_t offset)
{
  uint8_t start[HEADER_BYTES_TO_PROBE];

  return range_fits(offset, sizeof(start), storage->size) &&
         qcow2_storage_read(storage, offset, start, sizeof(start), NULL) == 0 &&
         starts_image(start, sizeof(start));
}

/* ---- At a sector ------------------------------------------------------------ */

/* Find the first image that begins at a sector of the start of the file, but not at its first.
   Where the file cannot be read, there is none. */
static bool find_at_sector(const struct qcow2_storage *storage, uint64_t *offset)
{
  uint8_t *piece = malloc(PIECE_BYTES);
  uint64_t end = min_u64(storage->size, NOT_QCOW2_SEARCHED_BYTES);
  bool found = false;

  for (uint64_t at = 0; piece != NULL && !found && at < end; at += PIECE_BYTES) {
    size_t length = (size_t) min_u64(end - at, PIECE_BYTES);

    if (qcow2_storage_read(storage, at, piece, length, NULL) != 0)
      break;
    for (size_t in = 0; !found && in + HEADER_BYTES_TO_PROBE <= length; in += SECTOR_BYTES)
      if (at + in > 0 && starts_image(piece + in, length - in)) {
        *offset = at + in;
        found = true;
      }
  }
  free(piece);
  if (found || !starts_image_at(storage, NOT_QCOW2_SEARCHED_BYTES))
    return found;
  *offset = NOT_QCOW2_SEARCHED_BYTES;
  return true;
}

static int explain_offset(uint64_t offset, struct qcow2_error *error)
{
  qcow2_error_set_at(error, QCOW2_ERROR_NOT_QCOW2, QCOW2_NO_OFFSET, offset,
                     "this is not a qcow2 image, but one begins at byte %" PRIu64 " of the file",
                     offset);
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_QCOW2, QCOW2_HELP_OFFSET, 0);
}

/* ---- In a tar archive --------------------------------------------------------- */

/* The images in an archive, as the message lists them. */
struct found {
  uint64_t first_offset;
  size_t count;
  char list[LISTED_MAX * (TEXT_ESCAPED_BYTES + 32)];
};

static void note_image(struct found *found, const struct qcow2_tar_member *member)
{
  char name[TEXT_ESCAPED_BYTES] = "one";
  size_t used = strlen(found->list);

  if (found->count++ == 0)
    found->first_offset = member->data_offset;
  if (found->count > LISTED_MAX)
    return;
  if (member->name[0] != '\0')
    qcow2_text_quote(qcow2_reference_base_name(member->name), name);
  snprintf(found->list + used, sizeof(found->list) - used, "%s%s%s%s at byte %" PRIu64,
           used > 0 ? ", " : "", member->name[0] == '\0' ? "" : "\"", name,
           member->name[0] == '\0' ? "" : "\"", member->data_offset);
}

/* Go on to the next member of an archive. False: there is none that can be read. */
static bool next_member(const struct qcow2_storage *storage, struct qcow2_tar_member *member)
{
  uint8_t block[TAR_BLOCK_BYTES], records[TAR_RECORDS_BYTES];
  uint64_t offset = member->next_offset;
  size_t length;

  if (!range_fits(offset, sizeof(block), storage->size) ||
      qcow2_storage_read(storage, offset, block, sizeof(block), NULL) != 0 ||
      !qcow2_tar_decode(block, storage->size, member))
    return false;
  length = (size_t) min_u64(member->size, sizeof(records));
  if (member->has_records &&
      qcow2_storage_read(storage, member->data_offset, records, length, NULL) == 0)
    qcow2_tar_take_records(records, length, member);
  return true;
}

static void find_members(const struct qcow2_storage *storage, struct found *found)
{
  struct qcow2_tar_member member = { 0 };

  for (size_t i = 0; i < NOT_QCOW2_MEMBERS_MAX && next_member(storage, &member); i++)
    if (member.is_regular && starts_image_at(storage, member.data_offset))
      note_image(found, &member);
}

/* The bytes of the member that begins at `offset`; UINT64_MAX: none does, or it is no archive. */
static uint64_t member_size(const struct qcow2_storage *storage, uint64_t offset)
{
  struct qcow2_tar_member member = { 0 };

  for (size_t i = 0; i < NOT_QCOW2_MEMBERS_MAX && next_member(storage, &member); i++)
    if (member.data_offset >= offset)
      return member.data_offset == offset && member.is_regular ? member.size : UINT64_MAX;
  return UINT64_MAX;
}

static int explain_archive(const struct found *found, struct qcow2_error *error)
{
  qcow2_error_set_at(error, QCOW2_ERROR_NOT_QCOW2, QCOW2_NO_OFFSET, found->first_offset,
                     "this is not a qcow2 image, but a tar archive that has %zu in it: %s%s",
                     found->count, found->list, found->count > LISTED_MAX ? ", and more" : "");
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_QCOW2, QCOW2_HELP_OFFSET, 0);
}

/* ---- The whole ------------------------------------------------------------------ */

static int explain_packed(const struct qcow2_storage *storage,
                          const struct qcow2_file_format *format, struct qcow2_error *error)
{
  bool is_tar = strcmp(format->name, "tar") == 0;
  struct found found = { 0 };

  if (is_tar)
    find_members(storage, &found);
  if (found.count > 0)
    return explain_archive(&found, error);
  qcow2_error_set(error, QCOW2_ERROR_NOT_QCOW2,
                  is_tar ? "this is not a qcow2 image, but a tar archive: unpack it first"
                         : "this is not a qcow2 image, but compressed by %s: unpack it first",
                  format->title);
  if (error != NULL)
    error->help_format = format->name;
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_QCOW2, QCOW2_HELP_UNPACK, 0);
}

/* A file in another known format. */
static int explain_format(const struct qcow2_file_format *format, struct qcow2_error *error)
{
  bool is_unreadable = format->use == FORMAT_UNREADABLE;

  qcow2_error_set(error, QCOW2_ERROR_NOT_QCOW2,
                  "this is not a qcow2 image, but starts as %s does%s", format->title,
                  is_unreadable ? "; convert it first: qemu-img convert -O raw IMAGE NEW" : "");
  if (error != NULL)
    error->help_format = format->name;
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_QCOW2,
                              is_unreadable ? QCOW2_HELP_NONE : QCOW2_HELP_ANOTHER_READER, 0);
}

int qcow2_not_qcow2_explain(const struct qcow2_storage *storage, struct qcow2_error *error)
{
  const struct qcow2_file_format *format;
  uint64_t offset;
  int code = qcow2_contents_recognise(storage, &format, error);

  if (code != 0)
    return code;
  if (format != NULL && format->use == FORMAT_PACKED)
    return explain_packed(storage, format, error);
  if (format != NULL)
    return explain_format(format, error);
  if (find_at_sector(storage, &offset))
    return explain_offset(offset, error);
  qcow2_error_set(error, QCOW2_ERROR_NOT_QCOW2,
                  storage->size == 0
                      ? "this is not a qcow2 image: it is empty"
                      : "this is not a qcow2 image: it does not start with \"QFI\\xfb\"");
  return qcow2_error_add_help(error, QCOW2_ERROR_NOT_QCOW2,
                              storage->size == 0 ? QCOW2_HELP_NONE : QCOW2_HELP_ANOTHER_READER, 0);
}

int qcow2_not_qcow2_begin_at(struct qcow2_opened_file *file, uint64_t offset,
                             struct qcow2_error *error)
{
  uint64_t size = offset == 0 ? UINT64_MAX : member_size(&file->storage, offset);
  int code = qcow2_opened_file_begin_at(file, offset, error);

  if (code == 0)
    file->storage.size = min_u64(file->storage.size, size);
  return code;
}

int qcow2_not_qcow2_probe(const struct qcow2_opened_file *file, bool *is_packed_qcow2,
                          struct qcow2_error *error)
{
  const struct qcow2_file_format *format = NULL;
  int code = 0;

  if (qcow2_format_name_says_packed(file->path))
    code = qcow2_contents_recognise(&file->storage, &format, error);
  *is_packed_qcow2 = format != NULL && format->use == FORMAT_PACKED;
  return code;
}
