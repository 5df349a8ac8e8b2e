/* SPDX-License-Identifier: MIT */
#include "layout.h"

#include <string.h>

#include "keyed_hash.h"

/* True if an attribute holds content: what a file's reader sees, and alternate data streams. */
static bool is_content(const TSK_FS_ATTR *attr)
{
  switch ((unsigned) attr->type) {
  case TSK_FS_ATTR_TYPE_DEFAULT:
  case TSK_FS_ATTR_TYPE_NTFS_DATA:
  case TSK_FS_ATTR_TYPE_HFS_DATA:
  case TSK_FS_ATTR_TYPE_HFS_RSRC:
  case TSK_FS_ATTR_TYPE_HFS_EXT_ATTR: return true;
  default: return false;
  }
}

static const TSK_FS_ATTR *find_stream(const TSK_FS_ATTR *attr)
{
  while (attr != NULL && ((attr->flags & TSK_FS_ATTR_INUSE) == 0 || !is_content(attr)))
    attr = attr->next;
  return attr;
}

const TSK_FS_ATTR *layout_first_stream(TSK_FS_FILE *file)
{
  /* Loads them, if that was not done yet. */
  if (tsk_fs_file_attr_getsize(file) <= 0 || file->meta->attr == NULL)
    return NULL;
  return find_stream(file->meta->attr->head);
}

const TSK_FS_ATTR *layout_next_stream(const TSK_FS_ATTR *attr)
{
  return find_stream(attr->next);
}

/* True if the tables show that both views have the same bytes there. */
static bool is_same_range(const struct layout_views *views, uint64_t guest_offset, uint64_t length,
                          struct layout_budget *budget)
{
  while (length > 0) {
    uint64_t run;
    int is_same;

    if (budget->calls == 0 ||
        qcow2_view_same(views->view, views->other, guest_offset, length, &run, &is_same, NULL) !=
            0 ||
        !is_same)
      return false;
    budget->calls--;
    guest_offset += run;
    length -= run < length ? run : length;
  }
  return true;
}

/* True if the run has bytes on the disk. */
static bool has_bytes(const TSK_FS_ATTR_RUN *run)
{
  return (run->flags & (TSK_FS_ATTR_RUN_FLAG_SPARSE | TSK_FS_ATTR_RUN_FLAG_FILLER)) == 0 &&
         run->len > 0;
}

/* True if the run's bytes may be others in the other view, also if it does not fit the disk. */
bool layout_is_same_run(const TSK_FS_INFO *fs, const TSK_FS_ATTR_RUN *run,
                        const struct layout_views *views, struct layout_budget *budget)
{
  uint64_t offset, length;

  return !__builtin_mul_overflow(run->addr, (uint64_t) fs->block_size, &offset) &&
         !__builtin_add_overflow(offset, (uint64_t) fs->offset, &offset) &&
         !__builtin_mul_overflow(run->len, (uint64_t) fs->block_size, &length) &&
         is_same_range(views, offset, length, budget);
}

static bool is_touched(const TSK_FS_INFO *fs, const TSK_FS_ATTR_RUN *run,
                       const struct layout_views *views, struct layout_budget *budget)
{
  return views->other != NULL && !layout_is_same_run(fs, run, views, budget);
}

static void add_runs(const TSK_FS_INFO *fs, const TSK_FS_ATTR *attr,
                     const struct layout_views *views, struct layout_budget *budget,
                     struct keyed_hash *hash, struct layout *layout)
{
  keyed_hash_add_number(hash, (uint64_t) attr->nrd.initsize);
  keyed_hash_add_number(hash, attr->nrd.skiplen);
  keyed_hash_add_number(hash, attr->nrd.compsize);
  for (const TSK_FS_ATTR_RUN *run = attr->nrd.run; run != NULL; run = run->next) {
    keyed_hash_add_number(hash, run->offset);
    keyed_hash_add_number(hash, run->addr);
    keyed_hash_add_number(hash, run->len);
    keyed_hash_add_number(hash, (uint64_t) run->flags);
    if (!has_bytes(run))
      continue;
    if (layout->first_block == 0)
      layout->first_block = run->addr;
    layout->is_touched = layout->is_touched || is_touched(fs, run, views, budget);
  }
}

static void add_attribute(const TSK_FS_INFO *fs, const TSK_FS_ATTR *attr,
                          const struct layout_views *views, struct layout_budget *budget,
                          struct keyed_hash *hash, struct layout *layout)
{
  keyed_hash_add_number(hash, (uint64_t) attr->type);
  keyed_hash_add_number(hash, (uint64_t) attr->flags);
  keyed_hash_add_number(hash, (uint64_t) attr->size);
  keyed_hash_add_number(hash, attr->name == NULL ? 0 : strlen(attr->name) + 1);
  if (attr->name != NULL)
    keyed_hash_add(hash, attr->name, strlen(attr->name));
  if ((attr->flags & TSK_FS_ATTR_NONRES) != 0)
    add_runs(fs, attr, views, budget, hash, layout);
  else if (attr->rd.buf != NULL && attr->size >= 0 && (uint64_t) attr->size <= attr->rd.buf_size)
    keyed_hash_add(hash, attr->rd.buf, (size_t) attr->size);
}

bool layout_of(TSK_FS_FILE *file, const struct layout_views *views, struct layout_budget *budget,
               struct layout *layout)
{
  struct keyed_hash hash;

  memset(layout, 0, sizeof(*layout));
  keyed_hash_start(&hash);
  if (file->meta->link != NULL)
    keyed_hash_add(&hash, file->meta->link, strlen(file->meta->link) + 1);
  for (const TSK_FS_ATTR *attr = layout_first_stream(file); attr != NULL;
       attr = layout_next_stream(attr))
    add_attribute(file->fs_info, attr, views, budget, &hash, layout);
  layout->digest = keyed_hash_finish(&hash);
  return file->meta->attr_state != TSK_FS_META_ATTR_ERROR;
}
