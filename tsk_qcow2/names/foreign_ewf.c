/* SPDX-License-Identifier: MIT */
/*
 * EWF images (E01), read by libewf, which is loaded when it is needed. libtsk reads them through
 * libewf too, but gives zeros for what is damaged or missing. libewf only notes such parts; here
 * each read asks for these notes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_DEFAULT's relatives */
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

/* libewf's LIBEWF_ACCESS_FLAG_READ, and its value for "format by the file's name". */
#define EWF_READ 1
#define EWF_ANY_FORMAT 0
/* When libewf reads missing segments, it leaks as much memory as it is asked for. After this many
   bytes it is not called any more: all reads fail. */
#define MISSING_BYTES_MAX (UINT64_C(64) << 20)

/* libewf's functions. Handles and errors are its own; unless said otherwise they return 1, 0 for
   "no", or -1. */
static struct {
  int (*glob)(const char *name, size_t length, uint8_t format, char **names[], int *count,
              void **error);
  int (*glob_free)(char *names[], int count, void **error);
  int (*init)(void **handle, void **error);
  int (*free)(void **handle, void **error);
  int (*open)(void *handle, char *const names[], int count, int flags, void **error);
  int (*close)(void *handle, void **error); /* 0 */
  int (*is_corrupted)(void *handle, void **error);
  int (*get_size)(void *handle, uint64_t *bytes, void **error);
  int (*get_sector_bytes)(void *handle, uint32_t *bytes, void **error);
  int (*get_bad_count)(void *handle, uint32_t *count, void **error);
  int (*get_bad)(void *handle, uint32_t index, uint64_t *first_sector, uint64_t *sectors,
                 void **error);
  ssize_t (*read)(void *handle, void *buffer, size_t length, int64_t offset,
                  void **error); /* bytes, or -1 */
  int (*print_error)(void *error, char *out, size_t size);
  void (*free_error)(void **error);
} ewf;

static bool is_loaded;

struct ewf_image {
  pthread_mutex_t lock; /* libewf's handles are for one thread at a time */
  void *handle;
  uint32_t sector_bytes;
  bool lacks_segments;
  uint64_t bad_sectors; /* as far as was read */
};

/* ---- libewf ------------------------------------------------------------------- */

#define FIND(member, name) \
  (tsk_qcow2_find_function(library, "libewf_" name, &ewf.member, sizeof(ewf.member)) != 0)

static void load(void)
{
  void *library = dlopen("libewf.so.2", RTLD_NOW | RTLD_LOCAL);

  if (library == NULL)
    library = dlopen("libewf.so.3", RTLD_NOW | RTLD_LOCAL);
  is_loaded = library != NULL && FIND(glob, "glob") && FIND(glob_free, "glob_free") &&
              FIND(init, "handle_initialize") && FIND(free, "handle_free") &&
              FIND(open, "handle_open") && FIND(close, "handle_close") &&
              FIND(is_corrupted, "handle_segment_files_corrupted") &&
              FIND(get_size, "handle_get_media_size") &&
              FIND(get_sector_bytes, "handle_get_bytes_per_sector") &&
              FIND(get_bad_count, "handle_get_number_of_checksum_errors") &&
              FIND(get_bad, "handle_get_checksum_error") &&
              (FIND(read, "handle_read_buffer_at_offset") || FIND(read, "handle_read_random")) &&
              FIND(print_error, "error_sprint") && FIND(free_error, "error_free");
}

int tsk_qcow2_has_libewf(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, load);
  return is_loaded;
}

/* Report libewf's error, which this frees. */
static int complain_ewf(struct qcow2_error *error, void **problem)
{
  char reason[256] = "", escaped[300];

  if (*problem != NULL && ewf.print_error(*problem, reason, sizeof(reason)) < 0)
    reason[0] = '\0';
  ewf.free_error(problem);
  return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                         "libewf cannot open the EWF image: %s; ewfinfo may say more",
                         qcow2_text_escape(reason, strlen(reason), escaped, sizeof(escaped)));
}

/* ---- The storage ----------------------------------------------------------------- */

/* True if libewf noted that some of these bytes are not as they were acquired. */
static bool holds_bad(struct ewf_image *image, uint64_t offset, size_t length)
{
  bool is_bad = false;
  uint64_t first = offset / image->sector_bytes, last = (offset + length - 1) / image->sector_bytes;
  uint32_t count = 0;

  if (ewf.get_bad_count(image->handle, &count, NULL) != 1)
    return true;
  image->bad_sectors = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t start, sectors;

    if (ewf.get_bad(image->handle, i, &start, &sectors, NULL) != 1)
      return true;
    image->bad_sectors += sectors;
    is_bad = is_bad || (start <= last && first < start + sectors);
  }
  return is_bad;
}

static int read_locked(struct ewf_image *image, uint64_t offset, char *out, size_t length)
{
  if (image->lacks_segments && image->bad_sectors > MISSING_BYTES_MAX / image->sector_bytes)
    return EIO;
  for (size_t done = 0; done < length;) {
    ssize_t count = ewf.read(image->handle, out + done, length - done, (int64_t) (offset + done),
                             NULL);

    if (count <= 0)
      return EIO;
    done += (size_t) count;
  }
  return holds_bad(image, offset, length) ? EIO : 0;
}

static int ewf_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  struct ewf_image *image = context;
  int os_errno;

  pthread_mutex_lock(&image->lock);
  os_errno = read_locked(image, offset, buffer, length);
  pthread_mutex_unlock(&image->lock);
  return os_errno;
}

static void ewf_close(void *context)
{
  struct ewf_image *image = context;

  ewf.close(image->handle, NULL);
  ewf.free(&image->handle, NULL);
  pthread_mutex_destroy(&image->lock);
  free(image);
}

/* ---- Opening ---------------------------------------------------------------------- */

/* Open all segments. If the file's name is not that of a first segment, open only this file.
   Returns 1, or something else with *problem set. */
static int open_segments(void *handle, const char *path, int *count, void **problem)
{
  char *alone = (char *) (uintptr_t) path;
  char **names = NULL;
  int done = ewf.glob(path, strlen(path), EWF_ANY_FORMAT, &names, count, NULL);

  if (done != 1) {
    *count = 1;
    return ewf.open(handle, &alone, 1, EWF_READ, problem);
  }
  done = ewf.open(handle, names, *count, EWF_READ, problem);
  ewf.glob_free(names, *count, NULL);
  return done;
}

static int image_open(struct ewf_image *image, const char *path, uint64_t *size, char *warning,
                      struct qcow2_error *error)
{
  void *problem = NULL;
  int count = 0;

  if (ewf.init(&image->handle, &problem) != 1 ||
      open_segments(image->handle, path, &count, &problem) != 1 ||
      ewf.get_size(image->handle, size, &problem) != 1 ||
      ewf.get_sector_bytes(image->handle, &image->sector_bytes, &problem) != 1)
    return complain_ewf(error, &problem);
  if (image->sector_bytes == 0 || *size > INT64_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT, "the EWF image has an impossible size");
  image->lacks_segments = ewf.is_corrupted(image->handle, NULL) != 0;
  if (image->lacks_segments)
    snprintf(warning, QCOW2_FOREIGN_WARNING_BYTES,
             "segments of this EWF image are missing or damaged (%d file%s found); reading what "
             "was in them is an error, and ewfverify says more",
             count, count == 1 ? " was" : "s were");
  return 0;
}

int tsk_qcow2_open_ewf(void *context, const struct qcow2_foreign *file,
                       struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  struct ewf_image *image = calloc(1, sizeof(*image));
  uint64_t size = 0;
  int code;

  (void) context;
  if (image == NULL)
    return tsk_qcow2_complain_nomem(error);
  pthread_mutex_init(&image->lock, NULL);
  code = image_open(image, file->path, &size, warning, error);
  if (code != 0) {
    ewf_close(image);
    return code;
  }
  *storage = (struct qcow2_storage){
    .context = image, .size = size, .read = ewf_read, .close = ewf_close
  };
  return 0;
}
