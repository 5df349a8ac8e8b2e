/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH, O_NOATIME */
#endif
#include "gate_opening.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../base/error.h"
#include "storage.h"
#include "watch.h"

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

const char *qcow2_gate_admission_problem(const struct stat *status, enum admission admission)
{
  if (S_ISREG(status->st_mode))
    return NULL;
  if (S_ISBLK(status->st_mode))
    return admission == ADMIT_REGULAR_OR_BLOCK ? NULL : "it is a device";
  if (S_ISLNK(status->st_mode))
    return "it is a symbolic link";
  if (S_ISDIR(status->st_mode))
    return "it is a directory";
  if (S_ISCHR(status->st_mode))
    return "it is a device";
  return "it is not a regular file";
}

/* The access time of evidence must not change. Only its owner and root may ask for this. */
static int open_quietly(int directory, const char *name)
{
  const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  int descriptor = openat(directory, name, flags | O_NOATIME);

  if (descriptor < 0 && errno == EPERM)
    descriptor = openat(directory, name, flags);
  return descriptor;
}

int qcow2_gate_open_admitted(int directory, const char *name, enum admission admission,
                             struct stat *status, const char **problem)
{
  struct stat before;
  int descriptor, os_errno = 0;

  *problem = NULL;
  if (fstatat(directory, name, &before, AT_SYMLINK_NOFOLLOW) != 0)
    return -1;
  *problem = qcow2_gate_admission_problem(&before, admission);
  if (*problem != NULL)
    return -1;
  descriptor = open_quietly(directory, name);
  if (descriptor < 0)
    return -1;
  if (fstat(descriptor, status) != 0)
    os_errno = errno;
  else if (status->st_dev == before.st_dev && status->st_ino == before.st_ino &&
           qcow2_gate_admission_problem(status, admission) == NULL)
    return descriptor;
  else
    *problem = "it was exchanged for another file while it was being opened";
  close(descriptor);
  errno = os_errno;
  return -1;
}

/* Find the file system of /dev. False: /dev is a directory of another file system, in which
   evidence can lie too. */
static bool find_dev(dev_t *device)
{
  struct stat dev, root;

  if (stat("/dev", &dev) != 0 || stat("/", &root) != 0 || dev.st_dev == root.st_dev)
    return false;
  *device = dev.st_dev;
  return true;
}

int qcow2_gate_open_device(int directory, const char *name, struct stat *status,
                           const char **problem)
{
  const int os_errno = errno;
  struct stat of_directory, before;
  dev_t dev;
  int descriptor = -1;

  if (find_dev(&dev) && fstat(directory, &of_directory) == 0 && of_directory.st_dev == dev &&
      fstatat(directory, name, &before, 0) == 0 && S_ISBLK(before.st_mode) && before.st_dev == dev)
    descriptor = openat(directory, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (descriptor >= 0 && fstat(descriptor, status) == 0 && S_ISBLK(status->st_mode) &&
      status->st_rdev == before.st_rdev) {
    *problem = NULL;
    return descriptor;
  }
  if (descriptor >= 0)
    close(descriptor);
  errno = os_errno;
  return -1;
}

/* Find the size of an admitted file in bytes. Returns 0 or an errno value. */
static int descriptor_size(int descriptor, const struct stat *status, uint64_t *size)
{
  off_t end = status->st_size;

  if (S_ISBLK(status->st_mode))
    end = lseek(descriptor, 0, SEEK_END);
  if (end < 0)
    return errno;
  *size = (uint64_t) end;
  return 0;
}

int qcow2_gate_fill(struct qcow2_opened_file *file, char *path, int directory, int descriptor,
                    const struct stat *status, struct qcow2_error *error)
{
  uint64_t size = 0;
  int os_errno = descriptor_size(descriptor, status, &size);
  int code = 0;

  *file = (struct qcow2_opened_file){ .path = path,
                                      .descriptor = descriptor,
                                      .directory = directory,
                                      .allocated_size = (uint64_t) status->st_blocks * 512,
                                      .is_regular = S_ISREG(status->st_mode),
                                      .has_identity = true,
                                      .device = status->st_dev,
                                      .inode = status->st_ino };
  if (S_ISBLK(status->st_mode)) { /* it is the same device by whatever file */
    file->device = status->st_rdev;
    file->inode = UINT64_MAX;
  }
  if (path == NULL)
    code = qcow2_error_set_nomem(error);
  else if (os_errno != 0)
    code = qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET,
                                 "cannot tell the size of a file");
  if (code == 0)
    code = qcow2_storage_from_descriptor(descriptor, size, &file->storage, error);
  if (code == 0)
    qcow2_watch_begin(file);
  else {
    close(descriptor);
    qcow2_opened_file_close(file);
  }
  return code;
}

int qcow2_gate_descend(int directory, char *name, const char **last, const char **problem)
{
  struct stat status;

  *problem = NULL;
  for (;;) {
    char *slash;
    int next;

    name += strspn(name, "/");
    slash = strchr(name, '/');
    if (slash == NULL)
      break;
    *slash = '\0';
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
      *problem = "its path passes a symbolic link";
    next = *problem != NULL
               ? -1
               : openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(directory);
    if (next < 0)
      return -1;
    directory = next;
    name = slash + 1;
  }
  *last = name[0] == '\0' ? "." : name; /* "dir/" will be refused as a directory */
  return directory;
}
