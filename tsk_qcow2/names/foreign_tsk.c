/* SPDX-License-Identifier: MIT */
/*
 * Disks that libtsk reads: VMDK, VHD, AFF, and raw ones in several parts. Nothing here is linked
 * with libtsk. If the program has loaded libtsk, that one is used; otherwise libtsk is loaded when
 * it is needed. Only the beginning of TSK_IMG_INFO is used, which is the same in all versions.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_DEFAULT */
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "foreign.h"

/* In libtsk up to 4.15, a read that is longer than this, or that is not a multiple of the sector
   size, gives garbage instead of an error. */
#define READ_BYTES_MAX 65536u
#define SECTOR_BYTES 512u

/* The beginning of libtsk's TSK_IMG_INFO. */
struct image_start {
  uint32_t tag;
  int type;
  int64_t size; /* bytes */
};

/* libtsk's functions; types are its TSK_IMG_TYPE_ENUM. */
static struct {
  struct image_start *(*open)(const char *path, int type, unsigned sector_bytes); /* NULL: failed */
  ssize_t (*read)(struct image_start *image, int64_t offset, char *buffer, size_t length);
  void (*close)(struct image_start *image);
  int (*type)(const char *name); /* TYPE_UNKNOWN: it cannot read this type */
  const char *(*error)(void);
} tsk;
#define TYPE_UNKNOWN 0xffff /* TSK_IMG_TYPE_UNSUPP */

static bool is_loaded;
static char load_problem[256];

/* ---- libtsk --------------------------------------------------------------------- */

#define FIND(member, name) \
  (tsk_qcow2_find_function(library, "tsk_" name, &tsk.member, sizeof(tsk.member)) != 0)

static bool find_all(void *library)
{
  return FIND(open, "img_open_utf8_sing") && FIND(read, "img_read") && FIND(close, "img_close") &&
         FIND(type, "img_type_toid_utf8") && FIND(error, "error_get");
}

/* Some builds of libtsk load the system's libbfio. Its functions then replace the ones inside
   libewf and libvslvm, and these crash. If libewf and libvslvm are loaded first, each in its own
   scope, they find their own functions. */
static void load_first(void)
{
  /* cppcheck-suppress leakReturnValNotUsed */
  dlopen("libewf.so.2", RTLD_NOW | RTLD_LOCAL);
  /* cppcheck-suppress leakReturnValNotUsed */
  dlopen("libvslvm.so.1", RTLD_NOW | RTLD_LOCAL);
}

/* The libtsk of the program, if it has one, or else the one that this library was built for. */
static void load(void)
{
  void *library = NULL;

  is_loaded = find_all(RTLD_DEFAULT);
  if (!is_loaded && TSK_LIBRARY[0] == '/') {
    load_first();
    library = dlopen(TSK_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    is_loaded = library != NULL && find_all(library);
  }
  if (!is_loaded)
    snprintf(load_problem, sizeof(load_problem), "%s",
             TSK_LIBRARY[0] == '/' ? dlerror() : "tsk-qcow2 was built without it");
}

static bool has_libtsk(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, load);
  return is_loaded;
}

/* ---- The storage -------------------------------------------------------------- */

/* Read the `length` bytes at `offset`, all within READ_BYTES_MAX from a sector's start, through a
   buffer of whole sectors. */
static int read_piece(struct image_start *image, uint64_t offset, char *out, size_t length,
                      char *sectors)
{
  size_t before = (size_t) (offset % SECTOR_BYTES);
  size_t whole = (before + length + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
  ssize_t count = tsk.read(image, (int64_t) (offset - before), sectors, whole);

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
  tsk.close(context);
}

/* ---- Opening ------------------------------------------------------------------ */

static int complain_unloaded(const char *format, struct qcow2_error *error)
{
  char escaped[sizeof(load_problem)];

  return qcow2_error_set(
      error, QCOW2_ERROR_UNSUPPORTED,
      "a file of format \"%s\" is read through libtsk, which cannot be loaded: %s. Install it, or "
      "give the same image name to a tool of The Sleuth Kit, such as img_cat",
      format, qcow2_text_escape(load_problem, strlen(load_problem), escaped, sizeof(escaped)));
}

int tsk_qcow2_open_by_tsk(void *context, const struct qcow2_foreign *file,
                          struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  struct image_start *image;
  int type;

  (void) context;
  (void) warning;
  if (!has_libtsk())
    return complain_unloaded(file->format, error);
  type = tsk.type(file->format);
  if (type == TYPE_UNKNOWN)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "this libtsk does not read files of format \"%s\"", file->format);
  image = tsk.open(file->path, type, SECTOR_BYTES);
  if (image == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "libtsk cannot open a file as \"%s\": %s. If it is of another format, "
                           "add \",format=FORMAT\" after its path",
                           file->format, tsk.error());
  *storage = (struct qcow2_storage){
    .context = image, .size = (uint64_t) image->size, .read = tsk_read, .close = tsk_close
  };
  return 0;
}
