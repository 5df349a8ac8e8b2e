/* SPDX-License-Identifier: MIT */
/*
 * An ordinary file is read where its fragments are: libtsk's list of them is turned into the core's
 * once, and libtsk is not called again. All others are read by libtsk: content inside the inode, or
 * compressed by NTFS or HFS+, or with bytes around each block (raw CDs).
 */
#include "inner_content.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "ext4_extents.h"

/* How many fragments are read in both ways when a file is opened, and how many bytes of each. */
#define COMPARED_MAX 8u
#define COMPARED_BYTES 512u

/* ---- Numbers ------------------------------------------------------------------ */

#define HAS_TYPE (UINT64_C(1) << 33)
#define HAS_ID (UINT64_C(1) << 32)

uint64_t tsk_qcow2_inner_stream(const struct tsk_qcow2_inner_number *number)
{
  return (number->has_type ? HAS_TYPE | (uint64_t) number->type << 16 : 0) |
         (number->has_id ? HAS_ID | number->id : 0);
}

/* The way back. */
static struct tsk_qcow2_inner_number number_of(const struct qcow2_inner_file *file)
{
  return (struct tsk_qcow2_inner_number){ .inode = file->number,
                                          .has_type = (file->stream & HAS_TYPE) != 0,
                                          .has_id = (file->stream & HAS_ID) != 0,
                                          .type = (int) (file->stream >> 16 & UINT16_MAX),
                                          .id = (uint16_t) file->stream };
}

/* ---- Content that libtsk reads --------------------------------------------------- */

struct content {
  struct tsk_qcow2_inner_fs *open;
  struct tsk_qcow2_fs_file *file;
  const struct tsk_qcow2_fs_attr *attr;
};

/* Read exactly these bytes. The caller holds the lock. Returns 0 or an errno value. */
static int read_by_libtsk(const struct content *content, uint64_t offset, char *out, size_t length)
{
  const struct tsk_qcow2_inner_image *image = content->open->image;
  const struct tsk_qcow2_inner_faults faults = tsk_qcow2_inner_image_faults(image);

  while (length > 0) {
    ssize_t count = tsk_qcow2_libtsk()->fs_attr_read(content->attr, (int64_t) offset, out, length,
                                                     0);

    if (count <= 0 || (size_t) count > length)
      return EIO;
    out += count;
    offset += (uint64_t) count;
    length -= (size_t) count;
  }
  return tsk_qcow2_inner_image_faults(image).failed == faults.failed ? 0 : EIO;
}

static int content_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  struct content *content = context;
  int os_errno;

  pthread_mutex_lock(&content->open->lock);
  os_errno = read_by_libtsk(content, offset, buffer, length);
  tsk_qcow2_libtsk()->error_reset();
  pthread_mutex_unlock(&content->open->lock);
  return os_errno;
}

static void content_close(void *context)
{
  struct content *content = context;

  tsk_qcow2_libtsk()->fs_file_close(content->file);
  free(content);
}

/* The storage owns the file from the call on, also on failure. */
static int keep_content(const struct content *given, struct qcow2_storage *storage,
                        struct qcow2_error *error)
{
  struct content *content = malloc(sizeof(*content));

  if (content == NULL) {
    tsk_qcow2_libtsk()->fs_file_close(given->file);
    return tsk_qcow2_complain_nomem(error);
  }
  *content = *given;
  *storage = (struct qcow2_storage){ .context = content,
                                     .size = (uint64_t) given->attr->size,
                                     .read = content_read,
                                     .close = content_close };
  return 0;
}

/* ---- Fragments -------------------------------------------------------------------- */

/* A list of libtsk's that is turned into one of the core's. */
struct turning {
  const struct tsk_qcow2_fs *fs;
  const struct tsk_qcow2_fs_attr *attr;
  struct qcow2_fragments *fragments;
  uint64_t skip; /* bytes of the runs that are not content */
  uint64_t done; /* bytes of the content that are in the list */
};

/* Append bytes of the runs: those to skip are left out, and so is what lies after the content.
   What lies after its initialized part reads as zeros. */
static int turn_bytes(struct turning *turning, uint64_t length, uint64_t outer_offset,
                      struct qcow2_error *error)
{
  uint64_t size = (uint64_t) turning->attr->size;
  uint64_t initialized = (uint64_t) turning->attr->initialized_bytes;
  bool is_stored = outer_offset < QCOW2_FRAGMENT_LOST;
  uint64_t skip = turning->skip < length ? turning->skip : length;
  int code = 0;

  turning->skip -= skip;
  length -= skip;
  outer_offset += is_stored ? skip : 0;
  while (code == 0 && length > 0 && turning->done < size) {
    bool is_zero = is_stored && turning->done >= initialized;
    uint64_t limit = is_stored && !is_zero && initialized < size ? initialized : size;
    uint64_t piece = length < limit - turning->done ? length : limit - turning->done;

    code = qcow2_fragments_add(turning->fragments, piece,
                               is_zero ? QCOW2_FRAGMENT_ZERO : outer_offset, error);
    turning->done += piece;
    length -= piece;
    outer_offset += is_stored ? piece : 0;
  }
  return code;
}

/* What the file system has no entry for: in ext4, XFS and btrfs, that is a hole. In others it is a
   part of the list that is lost. */
static uint64_t unlisted(const struct tsk_qcow2_fs *fs)
{
  return (fs->type & (LIBTSK_FS_EXT | LIBTSK_FS_XFS | LIBTSK_FS_BTRFS)) != 0 ? QCOW2_FRAGMENT_ZERO
                                                                             : QCOW2_FRAGMENT_LOST;
}

/* Where the run is on the disk. LOST: not inside the file system. */
static uint64_t run_offset(const struct tsk_qcow2_fs *fs, const struct tsk_qcow2_fs_run *run)
{
  if ((run->flags & LIBTSK_RUN_SPARSE) != 0)
    return QCOW2_FRAGMENT_ZERO;
  if ((run->flags & LIBTSK_RUN_FILLER) != 0)
    return unlisted(fs);
  if (run->address > fs->last_block || run->length > fs->last_block - run->address + 1)
    return QCOW2_FRAGMENT_LOST;
  return (uint64_t) fs->offset + run->address * fs->block_bytes;
}

static int complain_list(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                         "the file system's list of the file's fragments is not in order");
}

static int turn_runs(struct turning *turning, struct qcow2_error *error)
{
  const struct tsk_qcow2_fs *fs = turning->fs;
  const uint64_t blocks_max = (uint64_t) INT64_MAX / fs->block_bytes;
  uint64_t next = 0; /* block of the runs */

  for (const struct tsk_qcow2_fs_run *run = turning->attr->runs; run != NULL; run = run->next) {
    int code;

    if (run->offset != next || run->length > blocks_max - next || fs->last_block >= blocks_max)
      return complain_list(error);
    if ((run->flags & LIBTSK_RUN_ENCRYPTED) != 0)
      return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                             "the file is encrypted by its file system");
    next += run->length;
    code = turn_bytes(turning, run->length * fs->block_bytes, run_offset(fs, run), error);
    if (code != 0)
      return code;
  }
  return turn_bytes(turning, (uint64_t) turning->attr->size - turning->done, unlisted(fs), error);
}

/* Make the storage from the list of the content's runs. */
static int turn(const struct content *content, struct qcow2_storage *storage,
                struct qcow2_error *error)
{
  struct turning turning = { .fs = content->open->fs,
                             .attr = content->attr,
                             .skip = content->attr->skipped_bytes };
  int code = qcow2_fragments_new(content->open->disk, &turning.fragments, error);

  if (code != 0)
    return code;
  code = turn_runs(&turning, error);
  if (code != 0) {
    qcow2_fragments_free(turning.fragments);
    return code;
  }
  qcow2_fragments_finish(turning.fragments, storage);
  return 0;
}

/* True if libtsk reads other bytes here, because it decrypts them, for instance. Not if it cannot
   read: it reads larger pieces than these, of which others may be damaged. */
static bool reads_otherwise(const struct content *content, const struct qcow2_storage *storage,
                            uint64_t offset, size_t length)
{
  struct tsk_qcow2_inner_image *image = content->open->image;
  const struct tsk_qcow2_inner_faults before = tsk_qcow2_inner_image_faults(image);
  struct tsk_qcow2_inner_faults after;
  char mine[COMPARED_BYTES], its[COMPARED_BYTES];
  bool is_other;

  if (storage->read(storage->context, offset, mine, length) != 0)
    return false;
  is_other = read_by_libtsk(content, offset, its, length) != 0 || memcmp(mine, its, length) != 0;
  after = tsk_qcow2_inner_image_faults(image);
  tsk_qcow2_inner_image_forget(image, before);
  return is_other && after.failed == before.failed && after.cut == before.cut;
}

/* Compare some places. What libtsk gives is right. */
static bool is_as_libtsk_reads(const struct content *content, const struct qcow2_storage *storage)
{
  uint64_t step = storage->size / COMPARED_MAX;

  for (unsigned i = 0; i < COMPARED_MAX; i++) {
    uint64_t offset = i * step, left = storage->size - offset;
    size_t length = left < COMPARED_BYTES ? (size_t) left : COMPARED_BYTES;

    if (length > 0 && reads_otherwise(content, storage, offset, length))
      return false;
  }
  return true;
}

/* ---- Opening --------------------------------------------------------------------- */

/* True if the content lies in blocks of the disk as it is. */
static bool is_plain(const struct content *content)
{
  const struct tsk_qcow2_fs *fs = content->open->fs;

  return (content->attr->flags & LIBTSK_ATTR_IN_BLOCKS) != 0 &&
         (content->attr->flags & LIBTSK_ATTR_COMPRESSED) == 0 && fs->bytes_before_block == 0 &&
         fs->bytes_after_block == 0;
}

/* Make the storage. It owns content->file from the call on, also on failure. */
static int open_content(const struct content *content, struct qcow2_storage *storage,
                        struct qcow2_error *error)
{
  int code;

  if (!is_plain(content))
    return keep_content(content, storage, error);
  code = turn(content, storage, error);
  if (code == 0 && !is_as_libtsk_reads(content, storage)) {
    storage->close(storage->context);
    return keep_content(content, storage, error);
  }
  tsk_qcow2_libtsk()->fs_file_close(content->file);
  return code;
}

/* True if Windows keeps the content elsewhere: compressed by "compact /exe", deduplicated, or in a
   cloud. What is in the file is zeros then. */
static bool is_reparse_point(struct tsk_qcow2_fs_file *file)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  int count = libtsk->fs_file_attr_getsize(file);

  for (int i = 0; i < count; i++) {
    const struct tsk_qcow2_fs_attr *attr = libtsk->fs_file_attr_get_idx(file, i);

    if (attr != NULL && attr->type == LIBTSK_ATTR_REPARSE_POINT)
      return true;
  }
  return false;
}

/* What cannot be read right is refused. */
static int check(const struct content *content, struct qcow2_error *error)
{
  const struct tsk_qcow2_fs_attr *attr = content->attr;

  if (attr == NULL || attr->size < 0 || attr->initialized_bytes < 0)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT, "libtsk finds no content of the file: %s",
                           tsk_qcow2_libtsk()->error_get());
  if ((attr->flags & LIBTSK_ATTR_ENCRYPTED) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the file is encrypted by NTFS (EFS), which libtsk does not decrypt");
  if ((content->open->fs->type & LIBTSK_FS_NTFS) != 0 && is_reparse_point(content->file))
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the file is a reparse point: Windows keeps its content elsewhere, "
                           "compressed or deduplicated, and libtsk does not read that");
  if ((content->file->meta->flags & LIBTSK_META_DELETED) != 0 && attr->size == 0)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "the file was deleted, and its inode no longer says where its content "
                           "was");
  return 0;
}

/* A file of ext4 whose fragments libtsk cannot list. */
static int open_ext4(const struct content *content, uint64_t inode, struct qcow2_storage *storage,
                     struct qcow2_error *error)
{
  const struct tsk_qcow2_inner_fs *open = content->open;

  return tsk_qcow2_ext4_open(open->disk, (uint64_t) open->fs->offset, inode, storage, error);
}

/* The content that the number means. NULL: there is none. */
static const struct tsk_qcow2_fs_attr *choose(struct tsk_qcow2_fs_file *file,
                                              const struct tsk_qcow2_inner_number *number)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();

  return number->has_type
             ? libtsk->fs_file_attr_get_type(file, number->type, number->id, number->has_id)
             : libtsk->fs_file_attr_get(file);
}

int tsk_qcow2_inner_content_open(struct tsk_qcow2_inner_fs *open,
                                 const struct qcow2_inner_file *inner,
                                 struct qcow2_storage *storage, char *warning,
                                 struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  const struct tsk_qcow2_inner_number number = number_of(inner);
  struct content content = { .open = open };
  bool is_ext4, is_deleted;
  int code;

  content.file = libtsk->fs_file_open_meta(open->fs, NULL, number.inode);
  if (content.file == NULL || content.file->meta == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT, "libtsk cannot read inode %" PRIu64 ": %s",
                           number.inode, libtsk->error_get());
  content.attr = choose(content.file, &number);
  is_ext4 = content.attr == NULL && (open->fs->type & LIBTSK_FS_EXT) != 0;
  code = is_ext4 ? open_ext4(&content, number.inode, storage, error) : check(&content, error);
  is_deleted = (content.file->meta->flags & LIBTSK_META_DELETED) != 0;
  if (code != 0 || is_ext4)
    libtsk->fs_file_close(content.file);
  if (code != 0)
    return code;
  if (is_deleted)
    snprintf(warning, QCOW2_FOREIGN_WARNING_BYTES,
             "the file was deleted from its file system, so its content may have been "
             "overwritten since, in part or as a whole");
  return is_ext4 ? 0 : open_content(&content, storage, error);
}
