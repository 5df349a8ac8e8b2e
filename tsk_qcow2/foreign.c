/* SPDX-License-Identifier: MIT */
#include "foreign.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <tsk/libtsk.h>

#include "complain.h"

/* libtsk up to 4.14 turns errors of reads that are longer than this, or no multiple of the sector, into garbage. */
#define READ_BYTES_MAX 65536u
#define SECTOR_BYTES 512u

/* ---- Which format ----------------------------------------------------------- */

/* A format of libtsk's, by its name there. */
struct format {
  const char *type;
  const char *declared;   /* QEMU's name; NULL: QEMU has none */
  const char *extensions; /* of file names, each between dots */
  bool leads_further;     /* a file of this format can name others */
};

static const struct format FORMATS[] = {
  { "vmdk", "vmdk", ".vmdk.", true },
  { "vhd", "vpc", ".vhd.vpc.", false },
  { "ewf", NULL, ".e01.ex01.s01.", true },
  { "aff", NULL, ".aff.", false },
  { "afd", NULL, ".afd.", true },
  { "afm", NULL, ".afm.", true },
};

static bool has_extension(const char *path, const char *extensions)
{
  const char *dot = strrchr(path, '.');
  size_t length = dot == NULL || strchr(dot, '/') != NULL ? 0 : strlen(dot);

  for (const char *at = extensions; length > 1 && at[1] != '\0'; at = strchr(at + 1, '.'))
    if (strncasecmp(at, dot, length) == 0 && at[length] == '.')
      return true;
  return false;
}

/* The format of the file: what the user's name for it says, else what the image declares. NULL: none of ours. */
static const struct format *choose_format(const struct qcow2_foreign *file)
{
  const size_t count = sizeof(FORMATS) / sizeof(FORMATS[0]);

  for (size_t i = 0; file->is_callers_word && i < count; i++)
    if (has_extension(file->path, FORMATS[i].extensions))
      return &FORMATS[i];
  for (size_t i = 0; file->declared_format != NULL && i < count; i++)
    if (FORMATS[i].declared != NULL && strcmp(FORMATS[i].declared, file->declared_format) == 0)
      return &FORMATS[i];
  return NULL;
}

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
  const struct format *format = choose_format(file);
  TSK_IMG_TYPE_ENUM type;
  TSK_IMG_INFO *img;

  (void) context;
  if (format == NULL)
    return QCOW2_NOT_FOREIGN;
  if (format->leads_further && !file->is_callers_word)
    return tsk_qcow2_complain(error, QCOW2_ERROR_DENIED,
                              "the backing file is declared to be of format \"%s\", which can lead to further files, so it "
                              "needs your word: add \",backing=PATH\" to the image name", format->type);
  type = tsk_img_type_toid_utf8(format->type);
  if (type == TSK_IMG_TYPE_UNSUPP)
    return tsk_qcow2_complain(error, QCOW2_ERROR_UNSUPPORTED,
                              "the backing file is of format \"%s\", which this libtsk cannot read", format->type);
  img = tsk_img_open_utf8_sing(file->path, type, SECTOR_BYTES);
  if (img == NULL)
    return tsk_qcow2_complain(error, QCOW2_ERROR_CORRUPT, "libtsk cannot open the backing file as \"%s\": %s",
                              format->type, tsk_error_get());
  *storage = (struct qcow2_storage){
    .context = img, .size = (uint64_t) img->size, .read = foreign_read, .close = foreign_close
  };
  *format_name = format->type;
  return 0;
}
