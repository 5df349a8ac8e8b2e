/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: reads of one file fail, in whatever program. Variables:
 *   FAULT_FILE   the file
 *   FAULT_FIRST  the number of the first read of it that fails, from 0 on,
 *   FAULT_COUNT  and how many do
 *   FAULT_ENDS   if it is set, these give nothing, as at the end of a file that shrank; else EIO
 *   FAULT_LOG    the number of reads is appended here when the program ends
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_ulong reads;
static unsigned long first, count;
static struct stat file;

static const char *variable(const char *name)
{
  const char *value = getenv(name);

  if (value == NULL)
    abort();
  return value;
}

__attribute__((constructor)) static void arm(void)
{
  if (stat(variable("FAULT_FILE"), &file) != 0)
    abort();
  first = strtoul(variable("FAULT_FIRST"), NULL, 10);
  count = strtoul(variable("FAULT_COUNT"), NULL, 10);
}

__attribute__((destructor)) static void note_reads(void)
{
  FILE *out = fopen(variable("FAULT_LOG"), "a");

  if (out != NULL) {
    fprintf(out, "%lu\n", atomic_load(&reads));
    fclose(out);
  }
}

static int strikes(int descriptor)
{
  struct stat status;
  unsigned long number;

  if (fstat(descriptor, &status) != 0 || status.st_ino != file.st_ino ||
      status.st_dev != file.st_dev)
    return 0;
  number = atomic_fetch_add(&reads, 1);
  errno = EIO;
  return number >= first && number - first < count;
}

#define FAILURE (getenv("FAULT_ENDS") != NULL ? 0 : -1)

ssize_t pread64(int descriptor, void *buffer, size_t length, off64_t offset)
{
  ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");

  return strikes(descriptor) ? FAILURE : real(descriptor, buffer, length, offset);
}

ssize_t pread(int descriptor, void *buffer, size_t length, off_t offset)
{
  return pread64(descriptor, buffer, length, offset);
}

ssize_t read(int descriptor, void *buffer, size_t length)
{
  ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");

  return strikes(descriptor) ? FAILURE : real(descriptor, buffer, length);
}
