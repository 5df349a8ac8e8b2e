/* SPDX-License-Identifier: MIT */
#include "foreign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <tsk/libtsk.h>

#include "complain.h"
#include "qcow2names.h"

/* libtsk up to 4.14 turns errors of reads that are longer than this, or no multiple of the sector, into garbage. */
#define READ_BYTES_MAX 65536u
#define SECTOR_BYTES 512u

/* ---- The storage -------------------------------------------------------------- */

/* Read the `length` bytes at `offset`, all within READ_BYTES_MAX from a sector's start, through a buffer of whole sectors. */
static int read_piece(TSK_IMG_INFO *img, uint64_t offset, char *out, size_t length, char *sectors)
{
  size_t before = (size_t) (offset % SECTOR_BYTES);
  size_t whole = (before + length + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
  ssize_t count = tsk_img_read(img, (TSK_OFF_T) (offset - before), sectors, whole);

  if (count < (ssize_t) (before + length))
    return EIO;
  memcpy(out, sectors + before, length);
  return 0;
}

static int foreign_read(void *context, uint64_t offset, void *buffer, size_t length)
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

static void foreign_close(void *context)
{
  tsk_img_close(context);
}

/* ---- Opening ------------------------------------------------------------------ */

int tsk_qcow2_open_foreign(void *context, const struct qcow2_foreign *file,
                           struct qcow2_storage *storage, const char **format_name,
                           struct qcow2_error *error)
{
  const char *format;
  TSK_IMG_TYPE_ENUM type;
  TSK_IMG_INFO *img;
  int code = qcow2_foreign_choose(file, &format, error);

  (void) context;
  if (code != 0)
    return code;
  type = tsk_img_type_toid_utf8(format);
  if (type == TSK_IMG_TYPE_UNSUPP)
    return tsk_qcow2_complain(error, QCOW2_ERROR_UNSUPPORTED,
                              "the backing file is of format \"%s\", which this libtsk cannot read", format);
  img = tsk_img_open_utf8_sing(file->path, type, SECTOR_BYTES);
  if (img == NULL)
    return tsk_qcow2_complain(error, QCOW2_ERROR_CORRUPT, "libtsk cannot open the backing file as \"%s\": %s",
                              format, tsk_error_get());
  *storage = (struct qcow2_storage){
    .context = img, .size = (uint64_t) img->size, .read = foreign_read, .close = foreign_close
  };
  *format_name = format;
  return 0;
}
