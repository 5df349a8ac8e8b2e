/* SPDX-License-Identifier: MIT */
#include "selector_file_name.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The most bytes that are kept of an image's or a snapshot's name. */
#define PART_BYTES 72

static bool is_plain(char c)
{
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

/* Append text with each run of other characters as one "_". */
static void append_plain(char *out, const char *text, size_t length)
{
  size_t at = strlen(out), end = at + PART_BYTES;

  for (size_t i = 0; i < length && at < end; i++)
    if (is_plain(text[i]))
      out[at++] = text[i];
    else if (at == 0 || out[at - 1] != '_')
      out[at++] = '_';
  out[at] = '\0';
}

/* The length of a file name without an extension that only says that it is an image. */
static size_t without_extension(const char *name)
{
  static const char *const EXTENSIONS[] = { ".qcow2", ".qcow", ".img", ".raw" };
  size_t length = strlen(name);

  for (size_t i = 0; i < sizeof(EXTENSIONS) / sizeof(EXTENSIONS[0]); i++) {
    size_t extension = strlen(EXTENSIONS[i]);

    if (length > extension && strcasecmp(name + length - extension, EXTENSIONS[i]) == 0)
      return length - extension;
  }
  return length;
}

static void append_snapshot(char *out, const struct qcow2_snapshot *snapshot, size_t index)
{
  char number[32];

  if (snapshot->name_length > 0)
    append_plain(out, snapshot->name, snapshot->name_length);
  else if (snapshot->id_length > 0) {
    strcat(out, "id-");
    append_plain(out, snapshot->id, snapshot->id_length);
  } else {
    snprintf(number, sizeof(number), "index-%zu", index);
    strcat(out, number);
  }
}

static void begin_plainly(char *stem)
{
  if (stem[0] == '-' || stem[0] == '.') /* so that it is no option, and not hidden */
    stem[0] = '_';
}

void selector_file_name_snapshot(const struct qcow2_snapshot *snapshot, size_t snapshot_index,
                                 char stem[SELECTOR_FILE_NAME_BYTES])
{
  stem[0] = '\0';
  append_snapshot(stem, snapshot, snapshot_index);
  begin_plainly(stem);
}

void selector_file_name_image(const char *image_path, char stem[SELECTOR_FILE_NAME_BYTES])
{
  const char *slash = strrchr(image_path, '/');
  const char *image = slash == NULL ? image_path : slash + 1;

  stem[0] = '\0';
  append_plain(stem, image, without_extension(image));
  begin_plainly(stem);
}

void selector_file_name_stem(const struct tsk_qcow2_name *image_name,
                             const struct qcow2_snapshot *snapshot, size_t snapshot_index,
                             char stem[SELECTOR_FILE_NAME_BYTES])
{
  selector_file_name_image(image_name->path, stem);
  strcat(stem, "-");
  if (image_name->residue)
    strcat(stem, "residue");
  else if (image_name->selection.kind == TSK_QCOW2_SELECT_ABANDONED && snapshot == NULL)
    strcat(stem, "abandoned");
  else if (tsk_qcow2_selection_is_deleted(&image_name->selection)) {
    strcat(stem, "deleted-");
    append_snapshot(stem, snapshot, snapshot_index);
  } else if (snapshot == NULL)
    strcat(stem, "active");
  else
    append_snapshot(stem, snapshot, snapshot_index);
  if (image_name->vm_state)
    strcat(stem, "-vmstate");
  if (image_name->under_zeros)
    strcat(stem, "-under-zeros");
  if (image_name->only_kept)
    strcat(stem, "-only-kept");
  if (image_name->by_neighbours)
    strcat(stem, "-by-neighbours");
}

void selector_file_name_number(const char *stem, unsigned number, const char *extension,
                               char name[SELECTOR_FILE_NAME_BYTES])
{
  char suffix[16] = "";

  if (number > 1)
    snprintf(suffix, sizeof(suffix), "-%u", number);
  snprintf(name, SELECTOR_FILE_NAME_BYTES, "%.*s%s%s", SELECTOR_FILE_NAME_BYTES - 32, stem, suffix,
           extension);
}
