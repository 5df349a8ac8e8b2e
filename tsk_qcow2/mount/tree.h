/* SPDX-License-Identifier: MIT */
/* The names in the mounted directory, and what each stands for. Nothing is read here. Once it is
   complete, any thread may look into it. */
#ifndef TSK_QCOW2_MOUNT_TREE_H
#define TSK_QCOW2_MOUNT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum tree_kind {
  TREE_DIRECTORY,
  TREE_STATE, /* a disk, or saved memory */
  TREE_INFO   /* info.json */
};

/* The number of the mounted directory itself. */
#define TREE_ROOT 0u

struct tree_node {
  enum tree_kind kind;
  size_t number;
  size_t parent; /* the number of its directory; the root is its own */
  char *name;
  uint64_t size;        /* bytes; directories: 0 */
  struct timespec time; /* of its last change */
  size_t content;       /* STATE: which one, a number that the caller gave */
  unsigned next_number; /* see tree_add_file() */
  size_t *children;     /* DIRECTORY: their numbers, */
  size_t child_count, child_room;
};

struct tree {
  struct tree_node **nodes; /* by number */
  size_t count, room;
  void *by_name; /* of all nodes, by directory and name: for tsearch() */
};

/* A tree with a root. False: no memory. The caller frees it with tree_free(), also then. */
bool tree_init(struct tree *tree, const struct timespec *time);
void tree_free(struct tree *tree);

/* Add a directory to the root. Returns its number; 0: no memory. */
size_t tree_add_directory(struct tree *tree, const char *name, const struct timespec *time);

/* Add a file called STEM and the extension, such as ".raw", or with "-2" after the stem, or "-3",
   and so on, the first name that the directory does not have, as selectors are called. `file` has
   its kind, size, time and content. Returns its number; 0: no memory. */
size_t tree_add_file(struct tree *tree, size_t directory, const char *stem, const char *extension,
                     const struct tree_node *file);

/* The number of what the directory has under this name; 0: nothing. */
size_t tree_find(const struct tree *tree, size_t directory, const char *name);

/* A node by its number; NULL: there is none. */
const struct tree_node *tree_get(const struct tree *tree, size_t number);

/* Write "snapshots/first.raw" for a file's number, cut to fit. Returns `out`. */
char *tree_path(const struct tree *tree, size_t number, char *out, size_t out_size);

#endif
