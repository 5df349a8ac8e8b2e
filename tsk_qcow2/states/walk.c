/* SPDX-License-Identifier: MIT */
/* Directories are taken one after the other from the list of entries itself, which is the queue:
   no function calls itself, and no directory is read more than a few times, however often it is
   named. */
#include "walk.h"

#include <string.h>

#include "inode_counts.h"

/* How often a directory is gone into, under different names. What is left of deleted directories
   can have several. */
#define ENTERED_MAX 8
/* What libtsk loads of one directory at a time. */
#define DIRECTORY_BYTES_MAX (INT64_C(1) << 30)

struct walk {
  TSK_FS_INFO *fs;
  const struct walk_options *options;
  struct entries *entries;
  struct inode_counts entered; /* directories */
  bool is_out_of_memory;
};

/* ---- One name --------------------------------------------------------------------- */

static void set_times(struct entry *entry, const TSK_FS_META *meta)
{
  const int64_t times[ENTRY_TIMES] = { meta->mtime, meta->atime, meta->ctime, meta->crtime };
  const uint32_t nanoseconds[ENTRY_TIMES] = { meta->mtime_nano, meta->atime_nano, meta->ctime_nano,
                                              meta->crtime_nano };

  memcpy(entry->times, times, sizeof(times));
  memcpy(entry->nanoseconds, nanoseconds, sizeof(nanoseconds));
}

static void set_meta(struct entry *entry, const TSK_FS_META *meta)
{
  entry->flags |= ENTRY_HAS_META;
  if ((meta->flags & TSK_FS_META_FLAG_UNALLOC) != 0)
    entry->flags |= ENTRY_META_DELETED;
  if (TSK_FS_IS_DIR_META(meta->type))
    entry->flags |= ENTRY_IS_DIRECTORY;
  if (meta->type == TSK_FS_META_TYPE_REG)
    entry->flags |= ENTRY_IS_REGULAR;
  entry->type = (uint8_t) meta->type;
  entry->size = meta->size;
  entry->sequence = meta->seq;
  entry->mode = (uint32_t) meta->mode;
  entry->uid = (uint32_t) meta->uid;
  entry->gid = (uint32_t) meta->gid;
  entry->links = (uint32_t) meta->nlink;
  set_times(entry, meta);
}

static void set_layout(const struct walk *walk, struct entry *entry, TSK_FS_FILE *file)
{
  struct layout layout;

  if (!layout_of(file, &walk->options->views, walk->options->budget, &layout))
    entry->flags |= ENTRY_META_UNSURE;
  entry->layout = layout.digest;
  entry->first_block = layout.first_block;
  if (layout.is_touched)
    entry->flags |= ENTRY_TOUCHED;
}

static bool is_wanted(const struct walk *walk, const TSK_FS_NAME *name)
{
  if (name == NULL || name->name == NULL || strcmp(name->name, ".") == 0 ||
      strcmp(name->name, "..") == 0)
    return false;
  if ((name->flags & TSK_FS_NAME_FLAG_UNALLOC) != 0 && !walk->options->with_deleted)
    return false;
  if (name->type == TSK_FS_NAME_TYPE_VIRT_DIR)
    return walk->options->with_deleted;
  return name->type != TSK_FS_NAME_TYPE_VIRT || walk->options->with_virtual;
}

/* Fill the new entry from what libtsk knows of the file. */
static void describe(const struct walk *walk, struct entry *entry, TSK_FS_FILE *file,
                     const TSK_FS_NAME *name)
{
  uint64_t failures = state_failures(walk->options->state);

  entry->inode = name->meta_addr;
  entry->type = (uint8_t) (name->type + 32);
  entry->sequence = name->meta_seq;
  if ((name->flags & TSK_FS_NAME_FLAG_UNALLOC) != 0)
    entry->flags |= ENTRY_DELETED;
  if (file != NULL && file->meta != NULL) {
    set_meta(entry, file->meta);
    if (walk->options->with_layout)
      set_layout(walk, entry, file);
  }
  if (state_failures(walk->options->state) != failures)
    entry->flags |= ENTRY_META_UNSURE;
}

/* Open a file of a directory. libtsk may leave out the metadata, as it does for a deleted name
   whose inode has the next sequence number by now. Then they are added here, as fls does. */
static TSK_FS_FILE *open_file(const struct walk *walk, const TSK_FS_DIR *directory, size_t i)
{
  TSK_FS_FILE *file = tsk_fs_dir_get(directory, i), *with_meta;

  if (file == NULL || file->meta != NULL || file->name == NULL || file->name->meta_addr == 0)
    return file;
  with_meta = tsk_fs_file_open_meta(walk->fs, NULL, file->name->meta_addr);
  if (with_meta == NULL)
    return file;
  with_meta->name = file->name;
  file->name = NULL;
  tsk_fs_file_close(file);
  return with_meta;
}

/* Record the name at `i` of a directory. False: no more can be recorded. */
static bool add_name(struct walk *walk, const TSK_FS_DIR *directory, size_t i, uint32_t parent)
{
  const TSK_FS_NAME *name = tsk_fs_dir_get_name(directory, i);
  uint64_t failures = state_failures(walk->options->state);
  TSK_FS_FILE *file;
  struct entry *entry;

  if (!is_wanted(walk, name))
    return true;
  entry = entries_add(walk->entries, name->name);
  if (entry == NULL) {
    walk->is_out_of_memory = !walk->entries->is_cut;
    return false;
  }
  entry->parent = parent;
  entry->depth = parent == ENTRY_NONE ? 1 : walk->entries->list[parent].depth + 1;
  file = open_file(walk, directory, i);
  if (state_failures(walk->options->state) != failures)
    entry->flags |= ENTRY_META_UNSURE;
  describe(walk, entry, file, name);
  if (walk->options->visit != NULL)
    walk->options->visit(walk->options->context, file, walk->entries, walk->entries->count - 1);
  if (file != NULL)
    tsk_fs_file_close(file);
  return true;
}

/* ---- Directories ------------------------------------------------------------------- */

static void set_incomplete(struct walk *walk, uint32_t index)
{
  if (index == ENTRY_NONE)
    walk->entries->is_root_incomplete = true;
  else
    walk->entries->list[index].flags |= ENTRY_INCOMPLETE;
}

/* True if a directory claims more bytes than its file system has. */
static bool is_oversized(const struct walk *walk, uint32_t index)
{
  const struct entry *entry = &walk->entries->list[index];

  return entry->size > DIRECTORY_BYTES_MAX ||
         (uint64_t) entry->size / walk->fs->block_size > walk->fs->block_count;
}

/* Record the names of a directory. False: no more can be recorded. */
static bool add_directory(struct walk *walk, uint64_t inode, uint32_t index)
{
  uint64_t failures = state_failures(walk->options->state);
  TSK_FS_DIR *directory = tsk_fs_dir_open_meta(walk->fs, inode);
  bool goes_on = true;

  if (directory == NULL || state_failures(walk->options->state) != failures)
    set_incomplete(walk, index);
  if (directory == NULL)
    return true;
  for (size_t i = 0; goes_on && i < tsk_fs_dir_getsize(directory); i++) {
    goes_on = add_name(walk, directory, i, index);
    if (walk->options->progress != NULL)
      walk->options->progress(walk->options->context, walk->entries->count);
  }
  if (!goes_on)
    set_incomplete(walk, index);
  tsk_fs_dir_close(directory);
  return goes_on;
}

/* True if a directory lies in itself. */
static bool is_in_itself(const struct walk *walk, uint32_t index)
{
  const struct entry *list = walk->entries->list;
  uint64_t inode = list[index].inode;

  for (uint32_t i = list[index].parent; i != ENTRY_NONE; i = list[i].parent)
    if (list[i].inode == inode)
      return true;
  return inode == walk->fs->root_inum;
}

/* Count that a directory is gone into. False: that was often enough. */
static bool enter(struct walk *walk, uint64_t inode)
{
  uint32_t count = 0;

  if (!inode_counts_add(&walk->entered, inode, &count))
    walk->is_out_of_memory = true;
  return !walk->is_out_of_memory && count <= ENTERED_MAX;
}

/* True if the entry is a directory that is to be gone into. */
static bool is_to_follow(struct walk *walk, uint32_t index)
{
  struct entry *entry = &walk->entries->list[index];

  if ((entry->flags & ENTRY_IS_DIRECTORY) == 0)
    return false;
  /* The inode of a deleted name may be another file's by now. */
  if ((entry->flags & ENTRY_DELETED) != 0 && (entry->flags & ENTRY_META_DELETED) == 0)
    return false;
  if (entry->depth >= ENTRIES_DEPTH_MAX || is_oversized(walk, index)) {
    walk->entries->is_cut = walk->entries->is_cut || entry->depth >= ENTRIES_DEPTH_MAX;
    set_incomplete(walk, index);
    return false;
  }
  return !is_in_itself(walk, index) && enter(walk, entry->inode);
}

/* What is left in the queue has not been gone into. */
static void set_rest_incomplete(struct walk *walk, size_t index)
{
  for (; index < walk->entries->count; index++)
    if ((walk->entries->list[index].flags & ENTRY_IS_DIRECTORY) != 0)
      walk->entries->list[index].flags |= ENTRY_INCOMPLETE;
}

bool walk_file_system(TSK_FS_INFO *fs, const struct walk_options *options, struct entries *entries)
{
  struct walk walk = { .fs = fs, .options = options, .entries = entries };
  size_t next = 0;
  bool goes_on = add_directory(&walk, fs->root_inum, ENTRY_NONE);

  for (; goes_on && next < entries->count; next++)
    if (is_to_follow(&walk, (uint32_t) next))
      goes_on = add_directory(&walk, entries->list[next].inode, (uint32_t) next);
  set_rest_incomplete(&walk, next);
  inode_counts_free(&walk.entered);
  return !walk.is_out_of_memory;
}
