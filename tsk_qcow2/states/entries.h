/* SPDX-License-Identifier: MIT */
/* The names of one file system, each with what its metadata say, as compact records. */
#ifndef TSK_QCOW2_STATES_ENTRIES_H
#define TSK_QCOW2_STATES_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds for a file system: how many names are recorded, how many bytes these names have, how deep
   directories are followed, and how long the paths are that are shown. */
#define ENTRIES_MAX 4000000u
#define ENTRY_NAMES_BYTES_MAX ((size_t) 512 << 20)
#define ENTRIES_DEPTH_MAX 1000u
#define ENTRY_PATH_BYTES 16384u

#define ENTRY_NONE UINT32_MAX /* in place of an index; as a parent: the root directory */

enum entry_time {
  TIME_MODIFIED,
  TIME_ACCESSED,
  TIME_CHANGED,
  TIME_BORN,
  ENTRY_TIMES
};

/* Flags. */
enum {
  ENTRY_DELETED = 1, /* the name is not in use any more */
  ENTRY_HAS_META = 2,
  ENTRY_IS_DIRECTORY = 4,
  ENTRY_IS_REGULAR = 8,
  ENTRY_TOUCHED = 16,      /* the bytes to which its runs lead may differ in the other state */
  ENTRY_INCOMPLETE = 32,   /* a directory: some of its names could not be read */
  ENTRY_META_UNSURE = 64,  /* damage was met while its metadata were read */
  ENTRY_META_DELETED = 128 /* the metadata are not in use any more */
};

struct entry {
  uint64_t inode;
  int64_t size; /* bytes */
  int64_t times[ENTRY_TIMES];
  uint32_t nanoseconds[ENTRY_TIMES];
  uint64_t layout; /* a keyed hash of what its content is made of: runs, sizes, resident bytes */
  uint64_t first_block; /* of its content; 0: none */
  uint64_t name_offset; /* in the pool of names */
  uint32_t parent;      /* index of the directory's entry */
  uint32_t depth;
  uint32_t sequence; /* of the inode, as the metadata say; 0 where the file system has none */
  uint32_t mode, uid, gid, links;
  uint16_t flags;
  uint8_t type; /* TSK_FS_META_TYPE_ENUM, or what the name says: TSK_FS_NAME_TYPE_ENUM + 32 */
};

struct entries {
  struct entry *list; /* a directory stands before what it holds */
  size_t count, room;
  char *names; /* each ends with NUL */
  size_t names_used, names_room;
  bool is_root_incomplete; /* some names of the root directory could not be read */
  bool is_cut;             /* there are more, or deeper ones */
};

/* Append an entry with this name. NULL: no memory, or too many (then is_cut is set). */
struct entry *entries_add(struct entries *entries, const char *name);

const char *entry_name(const struct entries *entries, size_t index);

/* Write the path of an entry, "/" before each name, control characters and the like escaped; what
   does not fit is "..." at its start. Returns where in `out` it starts. */
const char *entry_path(const struct entries *entries, size_t index, char out[ENTRY_PATH_BYTES]);

/* True if all of it could be read: no directory or file lacks anything. */
bool entries_are_whole(const struct entries *entries);

void entries_free(struct entries *entries);

#endif
