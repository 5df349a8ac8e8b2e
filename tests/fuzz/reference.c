/* SPDX-License-Identifier: MIT */
/*
 * The gate: a name that an image refers to, among traps. The first byte chooses whether a search
 * directory is given and whether what the image names may be opened, the rest is the name. Only
 * regular files below the image's directory, and those in the search directory, may ever be opened.
 */
#include "../../core/storage/gate.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "traps.h"

static void check_opened(const struct qcow2_opened_file *file, bool searched)
{
  struct stat status = { .st_dev = file->device, .st_ino = file->inode };

  FUZZ_CHECK(fuzz_trap_allows(&status, searched));
  FUZZ_CHECK(file->path != NULL && file->descriptor >= 0);
  FUZZ_CHECK((fcntl(file->descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY);
}

void fuzz_reference(const uint8_t *data, size_t size)
{
  struct fuzz_input input = { data, size };
  unsigned flags = (unsigned) fuzz_take(&input, 1);
  bool searched = (flags & 1) != 0, distrusted = (flags & 2) != 0;
  struct qcow2_opened_file image = OPENED_FILE_NONE, file = OPENED_FILE_NONE;
  struct qcow2_error error = fuzz_error_fresh();
  char path[TRAP_PATH_BYTES], search[TRAP_PATH_BYTES], *name = malloc(input.length + 1);
  const char *directories[] = { fuzz_trap_path("search", search) };
  struct qcow2_reference reference = { .from = &image,
                                       .name = name,
                                       .role = "backing file",
                                       .is_of_image = true,
                                       .help_options = (flags & 4) != 0 ? QCOW2_OPTION_BACKING_PATHS
                                                                        : 0,
                                       .distrust = distrusted ? "it does not count" : NULL,
                                       .search_directories = directories,
                                       .search_count = searched };
  int code;

  FUZZ_CHECK(name != NULL);
  if (input.length > 0)
    memcpy(name, input.bytes, input.length);
  name[input.length] = '\0';
  FUZZ_CHECK(qcow2_gate_open_named(fuzz_trap_path("images/image.qcow2", path), &image, NULL) == 0);
  code = qcow2_gate_open_reference(&reference, &file, &error);
  fuzz_check_result(code, &error);
  FUZZ_CHECK(code == 0 || code == QCOW2_ERROR_DENIED || code == QCOW2_ERROR_IO);
  FUZZ_CHECK(code != 0 || !distrusted || searched);
  if (code == 0)
    check_opened(&file, searched);
  qcow2_opened_file_close(&file);
  qcow2_opened_file_close(&image);
  free(name);
}
