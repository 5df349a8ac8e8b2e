/* SPDX-License-Identifier: MIT */
/*
 * The gate: a name that an image refers to, with a directory of traps around the image. The first byte chooses whether a search directory
 * is given and whether the image's word counts, the rest is the name. Only regular files below the image's directory, and those in the
 * search directory, may ever be opened.
 */
#include "../../core/storage/gate.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

/* The files and traps, in the order in which they are made. A target makes a link, "/" at the end a directory, "|" a FIFO. */
static const struct {
  const char *path, *target;
  bool may_be_opened, by_search; /* by_search: only there */
} FILES[] = {
  { "images/", NULL, false, false },
  { "images/sub/", NULL, false, false },
  { "search/", NULL, false, false },
  { "secret", NULL, false, false },
  { "images/image.qcow2", NULL, true, false },
  { "images/base", NULL, true, false },
  { "images/sub/base", NULL, true, false },
  { "search/found", NULL, true, true },
  { "images/link", "../secret", false, false },
  { "images/sub/up", "../..", false, false },
  { "images/here", ".", false, false },
  { "search/link", "../secret", false, false },
  { "images/fifo|", NULL, false, false },
};

#define FILE_COUNT (sizeof(FILES) / sizeof(FILES[0]))

static char root[64];
static struct stat identities[FILE_COUNT];

static char *path_of(size_t file, char out[128])
{
  snprintf(out, 128, "%s/%s", root, FILES[file].path);
  out[strcspn(out, "|")] = '\0';
  return out;
}

static void remove_tree(void)
{
  char path[128];

  for (size_t i = FILE_COUNT; i-- > 0;)
    remove(path_of(i, path));
  remove(root);
}

static void make_file(size_t file)
{
  char path[128];
  const char *kind = FILES[file].path + strlen(FILES[file].path) - 1;
  int descriptor;

  path_of(file, path);
  if (FILES[file].target != NULL)
    FUZZ_CHECK(symlink(FILES[file].target, path) == 0);
  else if (*kind == '/')
    FUZZ_CHECK(mkdir(path, 0700) == 0);
  else if (*kind == '|')
    FUZZ_CHECK(mkfifo(path, 0600) == 0);
  else {
    descriptor = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    FUZZ_CHECK(descriptor >= 0);
    close(descriptor);
  }
  FUZZ_CHECK(lstat(path, &identities[file]) == 0);
}

static void make_tree(void)
{
  snprintf(root, sizeof(root), "%s/fuzz-gate-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  FUZZ_CHECK(mkdtemp(root) != NULL);
  atexit(remove_tree);
  for (size_t i = 0; i < FILE_COUNT; i++)
    make_file(i);
}

static void check_opened(const struct qcow2_opened_file *file, bool searched)
{
  bool allowed = false;

  for (size_t i = 0; i < FILE_COUNT; i++)
    if (file->device == identities[i].st_dev && file->inode == identities[i].st_ino)
      allowed = FILES[i].may_be_opened && (searched || !FILES[i].by_search);
  FUZZ_CHECK(allowed);
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
  char path[128], search[80], *name = malloc(input.length + 1);
  const char *directories[] = { search };
  struct qcow2_reference reference = { .from = &image,
                                       .name = name,
                                       .role = "backing file",
                                       .advice = (flags & 4) != 0 ? "\",backing=PATH\"" : "",
                                       .distrust = distrusted ? "it does not count" : NULL,
                                       .search_directories = directories,
                                       .search_count = searched };
  int code;

  FUZZ_CHECK(name != NULL);
  if (input.length > 0)
    memcpy(name, input.bytes, input.length);
  name[input.length] = '\0';
  if (root[0] == '\0')
    make_tree();
  snprintf(search, sizeof(search), "%s/search", root);
  FUZZ_CHECK(qcow2_gate_open_named(path_of(4, path), &image, NULL) == 0);
  code = qcow2_gate_open_reference(&reference, &file, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_opened(&file, searched);
  FUZZ_CHECK(code == 0 || code == QCOW2_ERROR_DENIED || code == QCOW2_ERROR_IO);
  qcow2_opened_file_close(&file);
  qcow2_opened_file_close(&image);
  free(name);
}
