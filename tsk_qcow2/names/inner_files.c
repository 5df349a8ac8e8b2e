/* SPDX-License-Identifier: MIT */
#include "inner_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "complain.h"
#include "partitions.h"

#define QUOTED_BYTES 256

/* ---- Finding by name ----------------------------------------------------------- */

/* True if the file system does not distinguish upper and lower case. */
static bool ignores_case(const struct tsk_qcow2_fs *fs)
{
  return (fs->type & (LIBTSK_FS_NTFS | LIBTSK_FS_FAT | LIBTSK_FS_HFS)) != 0;
}

static enum qcow2_inner_kind kind_of(const struct tsk_qcow2_fs_meta *meta)
{
  switch (meta->type) {
  case LIBTSK_META_REGULAR: return QCOW2_INNER_REGULAR;
  case LIBTSK_META_DIRECTORY:
  case LIBTSK_META_VIRTUAL_DIRECTORY: return QCOW2_INNER_DIRECTORY;
  case LIBTSK_META_LINK: return QCOW2_INNER_LINK;
  case LIBTSK_META_CHARACTER_DEVICE:
  case LIBTSK_META_BLOCK_DEVICE: return QCOW2_INNER_DEVICE;
  default: return QCOW2_INNER_OTHER;
  }
}

/* The entries of a directory that have the name. SIZE_MAX: there is none. */
struct matches {
  size_t exact, otherwise; /* `otherwise`: in upper or lower case */
  const struct tsk_qcow2_fs_name *deleted;
};

static void match(const struct tsk_qcow2_inner_files *files, const void *dir, const char *wanted,
                  struct matches *matches)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  size_t count = libtsk->fs_dir_getsize(dir);
  bool any_case = ignores_case(files->open.fs);

  *matches = (struct matches){ SIZE_MAX, SIZE_MAX, NULL };
  for (size_t i = 0; i < count && matches->exact == SIZE_MAX; i++) {
    const struct tsk_qcow2_fs_name *name = libtsk->fs_dir_get_name(dir, i);
    bool is_exact, is_alike;

    if (name == NULL || name->tag != LIBTSK_NAME_TAG || name->name == NULL)
      continue;
    is_exact = strcmp(name->name, wanted) == 0;
    is_alike = is_exact || (any_case && strcasecmp(name->name, wanted) == 0);
    if (is_alike && (name->flags & LIBTSK_NAME_ALLOCATED) == 0)
      matches->deleted = name;
    else if (is_exact)
      matches->exact = i;
    else if (is_alike && matches->otherwise == SIZE_MAX)
      matches->otherwise = i;
  }
}

/* The clause about a name that is not there. */
static int complain_missing(const struct matches *matches, struct qcow2_error *error)
{
  return matches->deleted == NULL
             ? qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "%s", "")
             : qcow2_error_set(
                   error, QCOW2_ERROR_NOT_FOUND,
                   "that name was deleted; what its inode has now is read by \"/#%" PRIu64
                   "\" in place of the path",
                   matches->deleted->inode);
}

static int take_entry(const void *dir, const struct matches *matches,
                      struct qcow2_inner_file *found, struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  size_t index = matches->exact != SIZE_MAX ? matches->exact : matches->otherwise;
  struct tsk_qcow2_fs_file *file = index == SIZE_MAX ? NULL : libtsk->fs_dir_get(dir, index);
  int code = 0;

  if (index == SIZE_MAX)
    return complain_missing(matches, error);
  if (file == NULL || file->tag != LIBTSK_FILE_TAG || file->meta == NULL ||
      file->meta->tag != LIBTSK_META_TAG)
    code = qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "the name is there, but its inode cannot be read");
  else
    *found = (struct qcow2_inner_file){ .kind = kind_of(file->meta), .number = file->meta->inode };
  if (file != NULL)
    libtsk->fs_file_close(file);
  return code;
}

static int find_locked(struct tsk_qcow2_inner_files *files,
                       const struct qcow2_inner_file *directory, const char *name,
                       struct qcow2_inner_file *file, struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  void *dir = libtsk->fs_dir_open_meta(files->open.fs, directory->number);
  struct matches matches;
  int code;

  if (dir == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "libtsk cannot read a directory of \"%s\"%s: %.200s", files->name,
                           tsk_qcow2_inner_files_end(files) > files->open.disk->size
                               ? ", which is cut off by the end of the disk"
                               : "",
                           libtsk->error_get());
  match(files, dir, name, &matches);
  code = take_entry(dir, &matches, file, error);
  libtsk->fs_dir_close(dir);
  return code;
}

/* ---- Guarding ------------------------------------------------------------------- */

/* The start and the end of a use of the file system. What libtsk answered counts only if no read
   of the disk failed meanwhile. If one was cut, an error may come of that. */
static struct tsk_qcow2_inner_faults begin(struct tsk_qcow2_inner_files *files)
{
  pthread_mutex_lock(&files->open.lock);
  return tsk_qcow2_inner_image_faults(files->open.image);
}

static int end(struct tsk_qcow2_inner_files *files, const struct tsk_qcow2_inner_faults *before,
               int code, struct qcow2_error *error)
{
  const struct tsk_qcow2_inner_faults after = tsk_qcow2_inner_image_faults(files->open.image);
  char quoted[QUOTED_BYTES];

  tsk_qcow2_libtsk()->error_reset();
  pthread_mutex_unlock(&files->open.lock);
  if (after.failed == before->failed && (code == 0 || after.cut == before->cut))
    return code;
  qcow2_error_set(error, QCOW2_ERROR_IO,
                  "the file system of \"%s\" cannot be read, because the disk around it is damaged "
                  "or cut off where it is",
                  qcow2_text_escape(files->name, strlen(files->name), quoted, sizeof(quoted)));
  error->os_errno = EIO;
  return QCOW2_ERROR_IO;
}

static int files_find(void *context, const struct qcow2_inner_file *directory, const char *name,
                      struct qcow2_inner_file *file, struct qcow2_error *error)
{
  struct tsk_qcow2_inner_files *files = context;
  const struct tsk_qcow2_inner_faults before = begin(files);

  return end(files, &before, find_locked(files, directory, name, file, error), error);
}

static int files_open(void *context, const struct qcow2_inner_file *file,
                      struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  struct tsk_qcow2_inner_files *files = context;
  struct qcow2_storage opened = { 0 };
  const struct tsk_qcow2_inner_faults before = begin(files);
  int code = tsk_qcow2_inner_content_open(&files->open, file, &opened, warning, error);
  bool is_open = code == 0;

  code = end(files, &before, code, error);
  if (code == 0)
    *storage = opened;
  else if (is_open)
    opened.close(opened.context);
  return code;
}

/* ---- Finding by number ------------------------------------------------------------ */

/* Take a number and the "-" after it, if there is one. */
static bool take_number(const char **text, uint64_t max, uint64_t *value)
{
  char *after;

  if (**text < '0' || **text > '9')
    return false;
  errno = 0;
  *value = strtoull(*text, &after, 10);
  *text = after + (*after == '-' && after[1] != '\0');
  return errno == 0 && *value <= max;
}

/* Parse "INODE", "INODE-TYPE" or "INODE-TYPE-ID". */
static bool parse_number(const char *text, struct tsk_qcow2_inner_number *number)
{
  uint64_t type = 0, id = 0;

  *number = (struct tsk_qcow2_inner_number){ .inode = 0 };
  if (!take_number(&text, INT64_MAX, &number->inode))
    return false;
  number->has_type = *text != '\0';
  if (number->has_type && !take_number(&text, UINT16_MAX, &type))
    return false;
  number->has_id = *text != '\0';
  if (number->has_id && !take_number(&text, UINT16_MAX, &id))
    return false;
  number->type = (int) type;
  number->id = (uint16_t) id;
  return *text == '\0';
}

static int find_number_locked(struct tsk_qcow2_inner_files *files,
                              const struct tsk_qcow2_inner_number *number,
                              struct qcow2_inner_file *found, struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  struct tsk_qcow2_fs_file *file = libtsk->fs_file_open_meta(files->open.fs, NULL, number->inode);
  bool is_stream = number->has_type && number->type == LIBTSK_ATTR_DATA;
  char quoted[QUOTED_BYTES];

  if (file == NULL || file->tag != LIBTSK_FILE_TAG || file->meta == NULL ||
      file->meta->tag != LIBTSK_META_TAG)
    return qcow2_error_set(error, QCOW2_ERROR_IO, "there is no inode %" PRIu64 " in \"%s\": %s",
                           number->inode,
                           qcow2_text_escape(files->name, strlen(files->name), quoted,
                                             sizeof(quoted)),
                           libtsk->error_get());
  *found = (struct qcow2_inner_file){ .kind = is_stream ? QCOW2_INNER_REGULAR : kind_of(file->meta),
                                      .number = number->inode,
                                      .stream = tsk_qcow2_inner_stream(number) };
  libtsk->fs_file_close(file);
  return 0;
}

static int files_find_number(void *context, const char *text, struct qcow2_inner_file *file,
                             struct qcow2_error *error)
{
  struct tsk_qcow2_inner_files *files = context;
  struct tsk_qcow2_inner_number number;
  char quoted[QUOTED_BYTES];
  struct tsk_qcow2_inner_faults before;

  if (!parse_number(text, &number))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "\"#%s\" is not a number as fls prints it: #INODE, or of NTFS "
                           "#INODE-TYPE-ID",
                           qcow2_text_escape(text, strlen(text), quoted, sizeof(quoted)));
  before = begin(files);
  return end(files, &before, find_number_locked(files, &number, file, error), error);
}

/* ---- Opening ------------------------------------------------------------------------ */

static int complain_no_files(const struct tsk_qcow2_inner_files *files, const char *outer,
                             struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES], reason[QUOTED_BYTES], partitions[PARTITIONS_BYTES], said[QUOTED_BYTES];

  snprintf(said, sizeof(said), "%s", tsk_qcow2_libtsk()->error_get());
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "no file system that libtsk reads begins at sector %" PRIu64
                         " of \"%s\" (%s); %s",
                         files->start,
                         qcow2_text_escape(outer, strlen(outer), quoted, sizeof(quoted)),
                         qcow2_text_escape(said, strcspn(said, "\n"), reason, sizeof(reason)),
                         tsk_qcow2_partitions_list(files->open.image, partitions));
}

/* Open the file system, of whatever type. To find the type, libtsk reads in many places. If one of
   these reads failed, the file system is opened once more as what it is, so that only the reads
   that it needs count. NULL: there is none. */
static struct tsk_qcow2_fs *detect(struct tsk_qcow2_inner_files *files, int64_t offset)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  struct tsk_qcow2_img *img = tsk_qcow2_inner_image_img(files->open.image);
  const struct tsk_qcow2_inner_faults before = tsk_qcow2_inner_image_faults(files->open.image);
  struct tsk_qcow2_fs *fs = libtsk->fs_open_img(img, offset, 0);
  int type;

  if (fs == NULL || fs->tag != LIBTSK_FS_TAG ||
      tsk_qcow2_inner_image_faults(files->open.image).failed == before.failed)
    return fs;
  type = fs->type;
  libtsk->fs_close(fs);
  tsk_qcow2_inner_image_forget(files->open.image, before);
  return libtsk->fs_open_img(img, offset, type);
}

static int open_fs(struct tsk_qcow2_inner_files *files, const char *outer,
                   struct qcow2_error *error)
{
  uint64_t unit = files->start == 0 ? 1 : tsk_qcow2_partitions_unit(files->open.image);
  char quoted[QUOTED_BYTES];

  if (files->start >= files->open.disk->size / unit && files->start > 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "sector %" PRIu64 " is after the end of \"%s\", which has %" PRIu64
                           " sectors",
                           files->start,
                           qcow2_text_escape(outer, strlen(outer), quoted, sizeof(quoted)),
                           files->open.disk->size / unit);
  files->open.fs = detect(files, (int64_t) (files->start * unit));
  if (files->open.fs == NULL)
    return complain_no_files(files, outer, error);
  if (files->open.fs->tag == LIBTSK_FS_TAG && files->open.fs->block_bytes > 0)
    return 0;
  files->open.fs = NULL;
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "this version of libtsk is not known to tsk-qcow2");
}

static int fill(struct tsk_qcow2_inner_files *files, const char *outer, struct qcow2_error *error)
{
  size_t size = strlen(outer) + 2 + 20 + 1;
  struct tsk_qcow2_inner_faults before;
  int code;

  files->name = malloc(size);
  if (files->name == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(files->name, size, "%s//%" PRIu64, outer, files->start);
  before = begin(files);
  code = open_fs(files, outer, error);
  code = end(files, &before, code, error);
  if (code != 0)
    return code;
  files->core = (struct qcow2_file_system){ .context = files,
                                            .name = files->name,
                                            .root = { .kind = QCOW2_INNER_DIRECTORY,
                                                      .number = files->open.fs->root_inode },
                                            .find = files_find,
                                            .find_number = files_find_number,
                                            .open = files_open };
  return 0;
}

int tsk_qcow2_inner_files_open(const struct qcow2_storage *disk,
                               struct tsk_qcow2_inner_image *image, const char *outer,
                               uint64_t start, struct tsk_qcow2_inner_files **out,
                               struct qcow2_error *error)
{
  struct tsk_qcow2_inner_files *files = calloc(1, sizeof(*files));
  int code;

  if (files == NULL)
    return tsk_qcow2_complain_nomem(error);
  files->open.disk = disk;
  files->open.image = image;
  files->start = start;
  pthread_mutex_init(&files->open.lock, NULL);
  code = fill(files, outer, error);
  if (code != 0) {
    tsk_qcow2_inner_files_close(files);
    return code;
  }
  *out = files;
  return 0;
}

uint64_t tsk_qcow2_inner_files_end(const struct tsk_qcow2_inner_files *files)
{
  const struct tsk_qcow2_fs *fs = files->open.fs;
  uint64_t most = ((uint64_t) INT64_MAX - (uint64_t) fs->offset) / fs->block_bytes;

  return fs->last_block >= most ? INT64_MAX
                                : (uint64_t) fs->offset + (fs->last_block + 1) * fs->block_bytes;
}

void tsk_qcow2_inner_files_close(struct tsk_qcow2_inner_files *files)
{
  if (files == NULL)
    return;
  if (files->open.fs != NULL)
    tsk_qcow2_libtsk()->fs_close(files->open.fs);
  pthread_mutex_destroy(&files->open.lock);
  free(files->name);
  free(files);
}
