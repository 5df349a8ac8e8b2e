/* SPDX-License-Identifier: MIT */
#include "volumes.h"

#include <string.h>

/* ---- Opening ------------------------------------------------------------------------ */

/* Open it as a file system of this type. */
static void open_as(const struct state *state, struct volume *volume, TSK_FS_TYPE_ENUM type)
{
  uint64_t failures = state_failures(state);

  tsk_error_reset();
  volume->fs = tsk_fs_open_img(state->img, (TSK_OFF_T) volume->offset, type);
  volume->is_damaged = state_failures(state) != failures;
}

static void open_file_system(const struct state *state, struct volume *volume)
{
  open_as(state, volume, TSK_FS_TYPE_DETECT);
  if (volume->fs != NULL &&
      volume->is_damaged) { /* maybe only where libtsk looked for other types */
    TSK_FS_TYPE_ENUM type = volume->fs->ftype;

    tsk_fs_close(volume->fs);
    open_as(state, volume, type);
  }
  if (volume->fs == NULL) {
    const char *problem = tsk_error_get();

    if (problem == NULL)
      problem = "";
    qcow2_text_escape(problem, strlen(problem), volume->problem, sizeof(volume->problem));
  }
}

static struct volume *add_volume(struct volumes *volumes, uint64_t offset, uint64_t length)
{
  struct volume *volume;

  if (volumes->count == VOLUMES_MAX) {
    volumes->is_cut = true;
    return NULL;
  }
  volume = &volumes->list[volumes->count++];
  memset(volume, 0, sizeof(*volume));
  volume->offset = offset;
  volume->length = length;
  return volume;
}

static void add_partition(const struct state *state, const TSK_VS_INFO *vs,
                          const TSK_VS_PART_INFO *part, struct volumes *volumes)
{
  uint64_t size = (uint64_t) state->img->size, offset, length;
  const char *description = part->desc == NULL ? "" : part->desc;
  struct volume *volume;

  if (__builtin_mul_overflow(part->start, (uint64_t) vs->block_size, &offset) || offset >= size)
    return; /* libtsk leaves these out where it checks; there is nothing to read */
  if (__builtin_mul_overflow(part->len, (uint64_t) vs->block_size, &length) ||
      length > size - offset)
    length = size - offset;
  volume = add_volume(volumes, offset, length);
  if (volume == NULL)
    return;
  volume->start = part->start;
  volume->sectors = part->len;
  qcow2_text_escape(description, strlen(description), volume->description,
                    sizeof(volume->description));
  open_file_system(state, volume);
}

static void add_partitions(const struct state *state, const TSK_VS_INFO *vs,
                           struct volumes *volumes)
{
  for (const TSK_VS_PART_INFO *part = vs->part_list; part != NULL; part = part->next)
    if ((part->flags & TSK_VS_PART_FLAG_ALLOC) != 0 && (part->flags & TSK_VS_PART_FLAG_META) == 0)
      add_partition(state, vs, part, volumes);
}

void volumes_open(const struct state *state, struct volumes *volumes)
{
  uint64_t failures = state_failures(state);
  TSK_VS_INFO *vs = tsk_vs_open(state->img, 0, TSK_VS_TYPE_DETECT);
  struct volume *volume;

  memset(volumes, 0, sizeof(*volumes));
  volumes->is_damaged = state_failures(state) != failures;
  if (vs != NULL) {
    add_partitions(state, vs, volumes);
    tsk_vs_close(vs);
  }
  if (volumes->count > 0)
    return;
  volume = add_volume(volumes, 0, (uint64_t) state->img->size);
  open_file_system(state, volume);
}

void volumes_close(struct volumes *volumes)
{
  for (size_t i = 0; i < volumes->count; i++)
    if (volumes->list[i].fs != NULL)
      tsk_fs_close(volumes->list[i].fs);
  volumes->count = 0;
}

/* ---- Matching ------------------------------------------------------------------------- */

static bool is_same_fs(const TSK_FS_INFO *a, const TSK_FS_INFO *b)
{
  return a != NULL && b != NULL && a->ftype == b->ftype && a->fs_id_used == b->fs_id_used &&
         a->fs_id_used <= sizeof(a->fs_id) && memcmp(a->fs_id, b->fs_id, a->fs_id_used) == 0;
}

static bool is_same_place(const struct volume *a, const struct volume *b)
{
  return a->offset == b->offset && strcmp(a->description, b->description) == 0;
}

static bool has_moved(const struct volume *a, const struct volume *b)
{
  return is_same_fs(a->fs, b->fs) && a->fs->fs_id_used > 0;
}

typedef bool match_function(const struct volume *a, const struct volume *b);

/* Pair what is not paired yet. */
static void match(const struct volumes *a, const struct volumes *b, match_function *is_match,
                  const struct volume *mate_of_a[], const struct volume *mate_of_b[])
{
  for (size_t i = 0; i < a->count; i++)
    for (size_t j = 0; mate_of_a[i] == NULL && j < b->count; j++)
      if (mate_of_b[j] == NULL && is_match(&a->list[i], &b->list[j])) {
        mate_of_a[i] = &b->list[j];
        mate_of_b[j] = &a->list[i];
      }
}

size_t volumes_match(const struct volumes *a, const struct volumes *b, struct volume_pair *pairs)
{
  const struct volume *mate_of_a[VOLUMES_MAX] = { NULL }, *mate_of_b[VOLUMES_MAX] = { NULL };
  size_t count = 0;

  match(a, b, is_same_place, mate_of_a, mate_of_b);
  match(a, b, has_moved, mate_of_a, mate_of_b);
  for (size_t i = 0; i < a->count; i++) {
    const struct volume *own = &a->list[i], *mate = mate_of_a[i];

    pairs[count++] = (struct volume_pair){ .fate = mate == NULL                  ? VOLUME_ONLY_A
                                                   : mate->offset == own->offset ? VOLUME_STAYED
                                                                                 : VOLUME_MOVED,
                                           .a = own,
                                           .b = mate,
                                           .is_same_fs = mate != NULL &&
                                                         is_same_fs(own->fs, mate->fs),
                                           .is_unsure = mate == NULL && b->is_damaged };
  }
  for (size_t j = 0; j < b->count; j++)
    if (mate_of_b[j] == NULL)
      pairs[count++] = (struct volume_pair){ .fate = VOLUME_ONLY_B,
                                             .b = &b->list[j],
                                             .is_unsure = a->is_damaged };
  return count;
}
