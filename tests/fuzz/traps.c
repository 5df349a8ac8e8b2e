/* SPDX-License-Identifier: MIT */
#include "traps.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum trap {
  DIRECTORY,
  EMPTY,
  IMAGE,
  LINK,
  FIFO
};

/* In the order in which they are made. */
static const struct {
  const char *path;
  enum trap kind;
  const char *target; /* of a LINK */
  bool is_allowed;    /* an image in "images" may lead here; in "search" only if that is searched */
} TREE[] = {
  { "images", DIRECTORY, NULL, false },        { "images/sub", DIRECTORY, NULL, false },
  { "search", DIRECTORY, NULL, false },        { "secret", IMAGE, NULL, false },
  { "images/image.qcow2", IMAGE, NULL, true }, { "images/selector", EMPTY, NULL, true },
  { "images/base", EMPTY, NULL, true },        { "images/sub/base", EMPTY, NULL, true },
  { "images/link", LINK, "../secret", false }, { "images/here", LINK, ".", false },
  { "images/sub/up", LINK, "../..", false },   { "images/fifo", FIFO, NULL, false },
  { "search/found", EMPTY, NULL, true },       { "search/link", LINK, "../secret", false },
};

#define TREE_COUNT (sizeof(TREE) / sizeof(TREE[0]))

static char root[64];
static struct stat identities[TREE_COUNT];

static void remove_tree(void)
{
  char path[TRAP_PATH_BYTES];

  for (size_t i = TREE_COUNT; i-- > 0;)
    remove(fuzz_trap_path(TREE[i].path, path));
  remove(root);
}

/* A disk of zeros in clusters of 512 bytes, over the backing file "base", with a snapshot of ID
   "1". */
static void write_image(int descriptor)
{
  static const struct {
    uint16_t at;
    uint64_t value;
  } words[] = { { 0, UINT64_C(0x514649fb00000003) },
                { 8, 112 },
                { 16, UINT64_C(4) << 32 | 9 },
                { 24, 32768 },
                { 32, 1 },
                { 40, 512 },
                { 56, 1 },
                { 64, 1024 },
                { 96, UINT64_C(4) << 32 | 104 },
                { 112, UINT64_C(0x6261736500000000) },
                { 1024, 512 },
                { 1032, UINT64_C(1) << 32 | 1 << 16 },
                { 1064, UINT64_C(0x31) << 56 } };
  uint8_t image[1536] = { 0 };

  for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
    for (int byte = 0; byte < 8; byte++)
      image[words[i].at + byte] = (uint8_t) (words[i].value >> (56 - 8 * byte));
  FUZZ_CHECK(write(descriptor, image, sizeof(image)) == (ssize_t) sizeof(image));
}

static void make_file(const char *path, bool is_image)
{
  int descriptor = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

  FUZZ_CHECK(descriptor >= 0);
  if (is_image)
    write_image(descriptor);
  close(descriptor);
}

static void make_trap(size_t trap)
{
  char path[TRAP_PATH_BYTES];

  fuzz_trap_path(TREE[trap].path, path);
  switch (TREE[trap].kind) {
  case DIRECTORY: FUZZ_CHECK(mkdir(path, 0700) == 0); break;
  case LINK: FUZZ_CHECK(symlink(TREE[trap].target, path) == 0); break;
  case FIFO: FUZZ_CHECK(mkfifo(path, 0600) == 0); break;
  case EMPTY:
  case IMAGE: make_file(path, TREE[trap].kind == IMAGE); break;
  }
  FUZZ_CHECK(lstat(path, &identities[trap]) == 0);
}

static void make_tree(void)
{
  snprintf(root, sizeof(root), "%s/fuzz-traps-XXXXXX",
           access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  FUZZ_CHECK(mkdtemp(root) != NULL);
  atexit(remove_tree);
  for (size_t i = 0; i < TREE_COUNT; i++)
    make_trap(i);
}

const char *fuzz_trap_path(const char *name, char out[TRAP_PATH_BYTES])
{
  if (root[0] == '\0')
    make_tree();
  snprintf(out, TRAP_PATH_BYTES, "%s/%s", root, name);
  return out;
}

bool fuzz_trap_allows(const struct stat *file, bool searched)
{
  for (size_t i = 0; i < TREE_COUNT; i++)
    if (file->st_dev == identities[i].st_dev && file->st_ino == identities[i].st_ino)
      return TREE[i].is_allowed && (searched || strncmp(TREE[i].path, "search", 6) != 0);
  return false;
}
