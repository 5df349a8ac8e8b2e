/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECTORY, O_NOFOLLOW */
#endif
#include "stream_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

/* "HOST OFFSET-LENGTH.cluster", so that they sort by offset. */
#define FILE_NAME_BYTES 64
#define UNFINISHED ".unfinished" /* after that name, until the file is complete */

/* True if there is nothing in the directory; errno is set if it cannot be read. */
static bool is_empty(int descriptor)
{
  int copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *directory = copy < 0 ? NULL : fdopendir(copy);
  const struct dirent *entry = NULL;

  if (directory == NULL) {
    if (copy >= 0)
      close(copy);
    return false;
  }
  do {
    errno = 0;
    /* cppcheck-suppress readdirCalled ; there is one thread */
    entry = readdir(directory);
  } while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
  if (entry != NULL)
    errno = ENOTEMPTY;
  copy = errno;
  closedir(directory);
  errno = copy;
  return errno == 0;
}

int stream_files_open(struct stream_files *files, const char *directory)
{
  *files = (struct stream_files){ .directory = directory, .descriptor = -1 };
  if (mkdir(directory, 0777) != 0 && errno != EEXIST)
    return complain_failed("cannot make the directory %s: %s", directory, strerror(errno));
  files->descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (files->descriptor >= 0 && is_empty(files->descriptor))
    return EXIT_OK;
  if (errno == ENOTEMPTY)
    complain_failed("the directory %s is not empty: name one that is, or that does not exist yet",
                    directory);
  else
    complain_failed("cannot write to the directory %s: %s", directory, strerror(errno));
  stream_files_close(files);
  return EXIT_FAILED;
}

static bool write_all(int descriptor, const char *bytes, size_t length)
{
  while (length > 0) {
    ssize_t count = write(descriptor, bytes, length);

    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    bytes += count;
    length -= (size_t) count;
  }
  return true;
}

static bool write_file(const struct stream_files *files, const char *name,
                       const struct qcow2_residue_stream *stream)
{
  char unfinished[FILE_NAME_BYTES + sizeof(UNFINISHED)];
  bool is_written;
  int descriptor, os_errno;

  snprintf(unfinished, sizeof(unfinished), "%s" UNFINISHED, name);
  descriptor = openat(files->descriptor, unfinished,
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (descriptor < 0)
    return false;
  is_written = write_all(descriptor, stream->cluster, stream->cluster_size);
  if (close(descriptor) == 0 && is_written &&
      renameat(files->descriptor, unfinished, files->descriptor, name) == 0)
    return true;
  os_errno = errno;
  unlinkat(files->descriptor, unfinished, 0);
  errno = os_errno;
  return false;
}

bool stream_files_write(struct stream_files *files, const struct qcow2_residue_stream *stream)
{
  char name[FILE_NAME_BYTES];

  files->is_full = files->count == STREAM_FILES_MAX ||
                   STREAM_FILES_BYTES_MAX - files->bytes < stream->cluster_size;
  if (files->is_full)
    return true;
  snprintf(name, sizeof(name), "%020" PRIu64 "-%" PRIu64 ".cluster", stream->host_offset,
           stream->length);
  files->has_failed = !write_file(files, name, stream);
  if (files->has_failed) {
    complain_failed("cannot write %s/%s: %s", files->directory, name, strerror(errno));
    return true;
  }
  files->count++;
  files->bytes += stream->cluster_size;
  return false;
}

void stream_files_close(struct stream_files *files)
{
  if (files->directory != NULL && files->descriptor >= 0)
    close(files->descriptor);
  files->descriptor = -1;
}
