/* SPDX-License-Identifier: MIT */
/* Tests of the names in a mounted directory (tsk_qcow2/mount/tree). */
#include <stdio.h>
#include <string.h>

#include "../../tsk_qcow2/command/selector_file_name.h"
#include "../../tsk_qcow2/mount/tree.h"
#include "unit.h"

/* Names are made as for selectors: the first that is free, in the order in which they come. */
void test_mounted_names(void)
{
  static const struct {
    const char *stem, *name;
  } cases[] = {
    { "a", "a.raw" },           { "a", "a-2.raw" }, { "a-2", "a-2-2.raw" }, { "b-2", "b-2.raw" },
    { "b", "b.raw" },           { "b", "b-3.raw" }, { "a", "a-3.raw" },     { "a-2", "a-2-3.raw" },
    { "a-2-2", "a-2-2-2.raw" }, { "A", "A.raw" },
  };
  const struct timespec time = { .tv_sec = 7 };
  const struct tree_node file = { .kind = TREE_STATE, .size = 512, .time = time };
  struct tree tree;
  size_t directory;

  CHECK(tree_init(&tree, &time));
  directory = tree_add_directory(&tree, "snapshots", &time);
  CHECK(directory != 0);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    size_t number = tree_add_file(&tree, directory, cases[i].stem, ".raw", &file);

    CHECK(number != 0 && strcmp(tree_get(&tree, number)->name, cases[i].name) == 0);
    CHECK(tree_find(&tree, directory, cases[i].name) == number);
    CHECK(tree_find(&tree, TREE_ROOT, cases[i].name) == 0);
  }
  CHECK(tree_get(&tree, directory)->child_count == sizeof(cases) / sizeof(cases[0]));
  tree_free(&tree);
}

void test_mounted_paths(void)
{
  const struct timespec time = { .tv_sec = 7 };
  const struct tree_node file = { .kind = TREE_INFO };
  char path[64], small[8];
  struct tree tree;
  size_t directory, number;

  CHECK(tree_init(&tree, &time));
  CHECK(tree_find(&tree, TREE_ROOT, "") == 0 && tree_find(&tree, TREE_ROOT, "snapshots") == 0);
  directory = tree_add_directory(&tree, "snapshots", &time);
  CHECK(tree_find(&tree, TREE_ROOT, "snapshots") == directory);
  number = tree_add_file(&tree, directory, "first", ".raw", &file);
  CHECK(strcmp(tree_path(&tree, number, path, sizeof(path)), "snapshots/first.raw") == 0);
  CHECK(strcmp(tree_path(&tree, number, small, sizeof(small)), "snapsho") == 0);
  number = tree_add_file(&tree, TREE_ROOT, "info", ".json", &file);
  CHECK(strcmp(tree_path(&tree, number, path, sizeof(path)), "info.json") == 0);
  CHECK(tree_get(&tree, number)->parent == TREE_ROOT && tree_get(&tree, number + 1) == NULL);
  tree_free(&tree);
}

/* As many as an image can have, all of one name, take no longer than others. */
void test_mounted_same_names(void)
{
  const struct timespec time = { .tv_sec = 7 };
  const struct tree_node file = { .kind = TREE_STATE };
  char name[SELECTOR_FILE_NAME_BYTES];
  struct tree tree;
  bool good = true;

  CHECK(tree_init(&tree, &time));
  for (unsigned i = 1; good && i <= 65536; i++) {
    size_t number = tree_add_file(&tree, TREE_ROOT, "same", ".raw", &file);

    selector_file_name_number("same", i, ".raw", name);
    good = number != 0 && strcmp(tree_get(&tree, number)->name, name) == 0;
  }
  CHECK(good);
  tree_free(&tree);
}
