/* SPDX-License-Identifier: MIT */
/* Disks that libtsk reads: VMDK, VHD, AFF, and raw ones in several parts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "foreign.h"
#include "libtsk.h"

/* In libtsk up to 4.15, a read that is longer than this, or that is not a multiple of the sector
   size, gives garbage instead of an error. */
#define READ_BYTES_MAX 65536u
#define SECTOR_BYTES 512u

#define TYPE_UNKNOWN 0xffff /* TSK_IMG_TYPE_UNSUPP */

/* ---- The storage -------------------------------------------------------------- */

/* Read the `length` bytes at `offset`, all within READ_BYTES_MAX from a sector's start, through a
   buffer of whole sectors. */
static int read_piece(struct tsk_qcow2_img *image, uint64_t offset, char *out, size_t length,
                      char *sectors)
{
  size_t before = (size_t) (offset % SECTOR_BYTES);
  size_t whole = (before + length + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
  ssize_t count = tsk_qcow2_libtsk()->img_read(image, (int64_t) (offset - before), sectors, whole);

  if (count < (ssize_t) (before + length))
    return EIO;
  memcpy(out, sectors + before, length);
  return 0;
}

static int tsk_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  char *sectors = malloc(READ_BYTES_MAX), *out = buffer;
  int os_errno = sectors == NULL ? ENOMEM : 0;

  while (os_errno == 0 && length > 0) {
    size_t room = READ_BYTES_MAX - (size_t) (offset % SECTOR_BYTES);
    size_t piece = length < room ? length : room;

    os_errno = read_piece(context, offset, out, piece, sectors);
    offset += piece;
    out += piece;
    length -= piece;
  }
  free(sectors);
  return os_errno;
}

static void tsk_close(void *context)
{
  tsk_qcow2_libtsk()->img_close(context);
}

/* ---- Opening ------------------------------------------------------------------ */

static int complain_unloaded(const char *format, struct qcow2_error *error)
{
  const char *problem = tsk_qcow2_libtsk_problem();
  char escaped[256];

  return qcow2_error_set(
      error, QCOW2_ERROR_UNSUPPORTED,
      "a file of format \"%s\" is read through libtsk, which cannot be loaded: %s. Install it, or "
      "give the same image name to a tool of The Sleuth Kit, such as img_cat",
      format, qcow2_text_escape(problem, strlen(problem), escaped, sizeof(escaped)));
}

int tsk_qcow2_open_by_tsk(void *context, const struct qcow2_foreign *file,
                          struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  struct tsk_qcow2_img *image;
  int type;

  (void) context;
  (void) warning;
  if (libtsk == NULL)
    return complain_unloaded(file->format, error);
  type = libtsk->img_type_toid_utf8(file->format);
  if (type == TYPE_UNKNOWN)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "this libtsk does not read files of format \"%s\"", file->format);
  image = libtsk->img_open_utf8_sing(file->path, type, SECTOR_BYTES);
  if (image == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "libtsk cannot open a file as \"%s\": %s. If it is of another format, "
                           "add \",format=FORMAT\" after its path",
                           file->format, libtsk->error_get());
  *storage = (struct qcow2_storage){
    .context = image, .size = (uint64_t) image->size, .read = tsk_read, .close = tsk_close
  };
  return 0;
}
