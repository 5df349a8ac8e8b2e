/* SPDX-License-Identifier: MIT */
/* The input as a file. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

static char file_paths[FUZZ_FILES][64];

static void remove_files(void)
{
  for (size_t i = 0; i < FUZZ_FILES; i++)
    unlink(file_paths[i]);
}

static void name_files(void)
{
  const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

  for (unsigned i = 0; i < FUZZ_FILES; i++)
    snprintf(file_paths[i], sizeof(file_paths[i]), "%s/fuzz-image-%ld-%u", directory, (long) getpid(), i);
  atexit(remove_files);
}

const char *fuzz_input_file(const struct fuzz_input *input, unsigned number)
{
  int descriptor;

  if (file_paths[0][0] == '\0')
    name_files();
  descriptor = open(file_paths[number], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_CHECK(descriptor >= 0);
  FUZZ_CHECK(write(descriptor, input->bytes, input->length) == (ssize_t) input->length);
  close(descriptor);
  return file_paths[number];
}
