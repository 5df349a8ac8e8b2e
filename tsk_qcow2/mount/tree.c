/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../command/selector_file_name.h"

/* ---- Nodes by name ------------------------------------------------------------- */

static int compare(const void *first, const void *second)
{
  const struct tree_node *a = first, *b = second;

  if (a->parent != b->parent)
    return a->parent < b->parent ? -1 : 1;
  return strcmp(a->name, b->name);
}

/* What tsearch() keeps begins with a pointer to the node. */
static struct tree_node *find(const struct tree *tree, size_t directory, const char *name)
{
  const struct tree_node key = { .parent = directory, .name = (char *) (uintptr_t) name };
  void *const *found = tfind(&key, &tree->by_name, compare);

  return found == NULL ? NULL : *found;
}

/* ---- Adding -------------------------------------------------------------------- */

/* Room for one more in an array. Returns the array, or NULL: no memory. */
static void *grow(void *items, size_t count, size_t *room, size_t item_size)
{
  size_t wanted = *room == 0 ? 8 : *room * 2;
  void *grown;

  if (count < *room)
    return items;
  grown = realloc(items, wanted * item_size);
  if (grown != NULL)
    *room = wanted;
  return grown;
}

static bool make_room(struct tree *tree, struct tree_node *directory)
{
  void *nodes = grow(tree->nodes, tree->count, &tree->room, sizeof(tree->nodes[0]));
  size_t *children;

  if (nodes == NULL)
    return false;
  tree->nodes = nodes;
  if (directory == NULL)
    return true;
  children = grow(directory->children, directory->child_count, &directory->child_room,
                  sizeof(children[0]));
  if (children == NULL)
    return false;
  directory->children = children;
  return true;
}

static void node_free(struct tree_node *node)
{
  if (node == NULL)
    return;
  free(node->name);
  free(node->children);
  free(node);
}

/* Add a node of that name, which must be new, to a directory (NULL: it is the root). */
static size_t add(struct tree *tree, struct tree_node *directory, const char *name,
                  const struct tree_node *model)
{
  struct tree_node *node = malloc(sizeof(*node));

  if (node == NULL)
    return 0;
  *node = *model;
  node->number = tree->count;
  node->name = strdup(name);
  if (node->name == NULL || !make_room(tree, directory) ||
      tsearch(node, &tree->by_name, compare) == NULL) {
    node_free(node);
    return 0;
  }
  tree->nodes[tree->count] = node;
  if (directory != NULL)
    directory->children[directory->child_count++] = tree->count;
  return tree->count++;
}

bool tree_init(struct tree *tree, const struct timespec *time)
{
  const struct tree_node root = { .kind = TREE_DIRECTORY, .parent = TREE_ROOT, .time = *time };

  memset(tree, 0, sizeof(*tree));
  add(tree, NULL, "", &root);
  return tree->count == 1;
}

void tree_free(struct tree *tree)
{
  for (size_t i = 0; i < tree->count; i++) {
    tdelete(tree->nodes[i], &tree->by_name, compare);
    node_free(tree->nodes[i]);
  }
  free(tree->nodes);
  memset(tree, 0, sizeof(*tree));
}

size_t tree_add_directory(struct tree *tree, const char *name, const struct timespec *time)
{
  const struct tree_node directory = { .kind = TREE_DIRECTORY, .parent = TREE_ROOT, .time = *time };

  return add(tree, tree->nodes[TREE_ROOT], name, &directory);
}

size_t tree_add_file(struct tree *tree, size_t directory, const char *stem, const char *extension,
                     const struct tree_node *file)
{
  struct tree_node model = *file, *first;
  char name[SELECTOR_FILE_NAME_BYTES];
  unsigned number;

  model.parent = directory;
  selector_file_name_number(stem, 1, extension, name);
  first = find(tree, directory, name);
  if (first == NULL)
    return add(tree, tree->nodes[directory], name, &model);
  number = first->next_number < 2 ? 2 : first->next_number;
  do
    selector_file_name_number(stem, number++, extension, name);
  while (find(tree, directory, name) != NULL);
  first->next_number = number;
  return add(tree, tree->nodes[directory], name, &model);
}

/* ---- Looking ------------------------------------------------------------------- */

size_t tree_find(const struct tree *tree, size_t directory, const char *name)
{
  const struct tree_node *node = find(tree, directory, name);

  return node == NULL ? 0 : node->number;
}

const struct tree_node *tree_get(const struct tree *tree, size_t number)
{
  return number < tree->count ? tree->nodes[number] : NULL;
}

char *tree_path(const struct tree *tree, size_t number, char *out, size_t out_size)
{
  const struct tree_node *node = tree->nodes[number];
  const struct tree_node *directory = tree->nodes[node->parent];

  snprintf(out, out_size, "%s%s%s", directory->name, node->parent == TREE_ROOT ? "" : "/",
           node->name);
  return out;
}
