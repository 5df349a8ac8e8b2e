/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_OFD_GETLK */
#endif
#include "watch.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "../base/text.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK F_GETLK
#endif
#ifdef __APPLE__
#define STATUS_CHANGED(status) (status).st_ctimespec
#define STATUS_WRITTEN(status) (status).st_mtimespec
#else
#define STATUS_CHANGED(status) (status).st_ctim
#define STATUS_WRITTEN(status) (status).st_mtim
#endif

/* QEMU locks byte 100 + N of an image if it has permission N. 1 is writing, 2 is writing what is
   there already, 3 is resizing. */
#define QEMU_FIRST_WRITE_BYTE 101
#define QEMU_WRITE_BYTES 3

/* Asking for a lock changes nothing. It need not be one that we could take. */
static bool is_locked_for_writing(int descriptor)
{
  struct flock lock = { .l_type = F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_start = QEMU_FIRST_WRITE_BYTE,
                        .l_len = QEMU_WRITE_BYTES };

  return fcntl(descriptor, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int64_t nanoseconds(const struct timespec *moment)
{
  return (int64_t) moment->tv_sec * 1000000000 + moment->tv_nsec;
}

static struct qcow2_file_stamp stamp_of(const struct stat *status)
{
  return (struct qcow2_file_stamp){ .is_known = S_ISREG(status->st_mode),
                                    .size = (uint64_t) status->st_size,
                                    .written = nanoseconds(&STATUS_WRITTEN(*status)),
                                    .changed = nanoseconds(&STATUS_CHANGED(*status)) };
}

void qcow2_watch_begin(struct qcow2_opened_file *file)
{
  struct stat status;

  file->is_in_use = is_locked_for_writing(file->descriptor);
  if (fstat(file->descriptor, &status) == 0)
    file->stamp = stamp_of(&status);
}

/* What changed, as a clause. */
static void describe_change(const struct qcow2_file_stamp *before,
                            const struct qcow2_file_stamp *now, char *out, size_t size)
{
  time_t seconds = (time_t) (now->written / 1000000000);
  struct tm parts;
  char date[64] = "";

  if (now->size != before->size)
    snprintf(out, size, "it had %" PRIu64 " bytes, and now has %" PRIu64, before->size, now->size);
  else if (now->written == before->written)
    snprintf(out, size, "its attributes are others");
  else if (gmtime_r(&seconds, &parts) != NULL &&
           strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S (UTC)", &parts) > 0)
    snprintf(out, size, "it was written at %s", date);
  else
    snprintf(out, size, "it was written");
}

bool qcow2_watch_has_changed(const struct qcow2_opened_file *file, char *sentence, size_t size)
{
  char quoted[TEXT_ESCAPED_BYTES], change[160];
  struct qcow2_file_stamp now;
  struct stat status;

  if (file->descriptor < 0 || !file->stamp.is_known || fstat(file->descriptor, &status) != 0)
    return false;
  now = stamp_of(&status);
  if (now.size == file->stamp.size && now.written == file->stamp.written &&
      now.changed == file->stamp.changed)
    return false;
  describe_change(&file->stamp, &now, change, sizeof(change));
  snprintf(sentence, size,
           "the file \"%s\" changed while it was open here: %s; what was read may be of different "
           "moments",
           qcow2_text_quote(file->path, quoted), change);
  return true;
}
