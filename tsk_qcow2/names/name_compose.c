/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* open_memstream */
#endif
#include "name_compose.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct composer {
  FILE *out;
  tsk_qcow2_map_path *map;
  void *context;
  int os_errno; /* of the first failure */
};

/* The path as it is written into the text, or NULL after noting the failure. */
static char *mapped(struct composer *composer, const char *path)
{
  char *text = composer->map(composer->context, path);

  if (text == NULL && composer->os_errno == 0)
    composer->os_errno = errno;
  return text;
}

/* What leads into a disk around the image is the same text wherever it is written. */
static void put_path_option(struct composer *composer, const struct tsk_qcow2_name *name,
                            const char *option, const char *path)
{
  char *text = tsk_qcow2_name_leads_inside(name, path) ? strdup(path) : mapped(composer, path);

  if (text == NULL)
    return;
  fprintf(composer->out, ",%s=", option);
  tsk_qcow2_piece_print(text, composer->out);
  free(text);
}

static void put_path_options(struct composer *composer, const struct tsk_qcow2_name *name,
                             const char *option, const struct tsk_qcow2_strings *paths)
{
  for (size_t i = 0; i < paths->count; i++)
    put_path_option(composer, name, option, paths->items[i]);
}

static void put_format(const struct composer *composer, const char *format)
{
  if (format != NULL)
    fprintf(composer->out, ",format=%s", format);
}

static void put_backing(struct composer *composer, const struct tsk_qcow2_name *name)
{
  for (size_t i = 0; i < name->backing.count; i++)
    if (strcmp(name->backing.items[i], QCOW2_BACKING_NONE) == 0)
      fputs(",backing=" QCOW2_BACKING_NONE, composer->out);
    else {
      put_path_option(composer, name, "backing", name->backing.items[i]);
      put_format(composer, name->backing_formats.items[i]);
    }
}

static void put_number(const struct composer *composer, const char *option, uint64_t number)
{
  if (number != 0)
    fprintf(composer->out, ",%s=%" PRIu64, option, number);
}

static void put_layout(const struct composer *composer, const struct qcow2_layout *layout)
{
  put_number(composer, "l1", layout->l1_offset);
  if ((layout->flags & QCOW2_LAYOUT_NO_L1) != 0)
    fprintf(composer->out, ",l1=%s",
            (layout->flags & QCOW2_LAYOUT_BY_ORDER) != 0 ? "by-order" : "none");
  put_number(composer, "cluster-bits", layout->cluster_bits);
  put_number(composer, "size", layout->size);
  if ((layout->flags & QCOW2_LAYOUT_EXTENDED_L2) != 0)
    fputs(",extended-l2", composer->out);
  if ((layout->flags & QCOW2_LAYOUT_ZSTD) != 0)
    fputs(",compression=zstd", composer->out);
  put_number(composer, "luks", layout->luks_offset);
  if ((layout->flags & QCOW2_LAYOUT_AES) != 0)
    fputs(",encryption=aes", composer->out);
}

static void put_path(struct composer *composer, const struct tsk_qcow2_name *name)
{
  char *path = name->outer != NULL ? NULL : mapped(composer, name->path);

  if (name->outer != NULL)
    tsk_qcow2_piece_print(name->path, composer->out);
  else if (path != NULL)
    fputs(path, composer->out);
  free(path);
}

static void put_level(struct composer *composer, const struct tsk_qcow2_name *name)
{
  put_path(composer, name);
  tsk_qcow2_selection_print(&name->selection, composer->out);
  if (name->offset != 0)
    fprintf(composer->out, ",offset=%" PRIu64, name->offset);
  if (name->header_length != 0)
    fprintf(composer->out, ",header-length=%" PRIu32, name->header_length);
  if (name->vm_state)
    fputs(",vmstate", composer->out);
  if (name->residue)
    fputs(",residue", composer->out);
  if (name->only_kept)
    fputs(",only=kept", composer->out);
  if (name->by_neighbours)
    fputs(",by-neighbours", composer->out);
  if (name->under_zeros)
    fputs(",under-zeros", composer->out);
  put_layout(composer, &name->layout);
  put_backing(composer, name);
  if (name->data_file != NULL) {
    put_path_option(composer, name, "data-file", name->data_file);
    put_format(composer, name->data_format);
  }
  put_path_options(composer, name, "search", &name->search);
  put_path_options(composer, name, "key-file", &name->key_files);
  if (name->errors_zero)
    fputs(",errors=zero", composer->out);
}

/* The outermost disk comes first. */
static void put_name(struct composer *composer, const struct tsk_qcow2_name *name)
{
  const struct tsk_qcow2_name *levels[TSK_QCOW2_NESTED_MAX + 1];
  size_t count = 0;

  for (; name != NULL; name = name->outer)
    levels[count++] = name;
  while (count > 0)
    put_level(composer, levels[--count]);
}

char *tsk_qcow2_name_compose(const struct tsk_qcow2_name *name, tsk_qcow2_map_path *map,
                             void *context)
{
  struct composer composer = { .map = map, .context = context };
  char *text = NULL;
  size_t length;

  composer.out = open_memstream(&text, &length);
  if (composer.out == NULL)
    return NULL;
  put_name(&composer, name);
  if (fclose(composer.out) != 0 && composer.os_errno == 0)
    composer.os_errno = ENOMEM;
  if (composer.os_errno == 0)
    return text;
  free(text);
  errno = composer.os_errno;
  return NULL;
}
