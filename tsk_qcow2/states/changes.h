/* SPDX-License-Identifier: MIT */
/* What can change of the files of a file system from one state to another. */
#ifndef TSK_QCOW2_STATES_CHANGES_H
#define TSK_QCOW2_STATES_CHANGES_H

#include "entries.h"

/* How a file is recognised in another state. */
enum compare_identity {
  IDENTITY_SEQUENCE, /* by inode and sequence number (NTFS) */
  IDENTITY_BIRTH,    /* by inode and birth time, where there is one */
  IDENTITY_PLACE,    /* FAT, whose inodes are places of names: by birth time and first cluster */
  IDENTITY_NONE      /* the file system is another one: nothing is the same file */
};

enum change_kind {
  CHANGE_CREATED,
  CHANGE_DELETED,
  CHANGE_REPLACED, /* the name leads to another file now */
  CHANGE_CHANGED,  /* a file of both states; `aspects` says what changed */
  CHANGE_UNKNOWN, /* it cannot be compared, since some of it, or of its directory, cannot be read */
  CHANGE_REMNANT, /* a deleted name that only B has */
  CHANGE_REMNANT_GONE, /* a deleted name that only A has */
  CHANGE_KINDS
};

/* What changed of a file. */
enum {
  ASPECT_RENAMED = 1,
  ASPECT_MOVED = 2, /* into another directory */
  ASPECT_CONTENT = 4,
  ASPECT_MODIFIED = 8, /* this and the next three: a time, in the order of enum entry_time */
  ASPECT_ACCESSED = 16,
  ASPECT_INODE_CHANGED = 32,
  ASPECT_BORN = 64,
  ASPECT_MODE = 128,
  ASPECT_OWNER = 256,
  ASPECT_SIZE = 512,
  ASPECT_LINKS = 1024
};
#define ASPECTS_OF_METADATA                                                               \
  (ASPECT_MODIFIED | ASPECT_ACCESSED | ASPECT_INODE_CHANGED | ASPECT_BORN | ASPECT_MODE | \
   ASPECT_OWNER | ASPECT_SIZE | ASPECT_LINKS)

/* What the inode of a file that came or went is in the other state. */
enum change_relation {
  RELATION_NONE,
  RELATION_LINK,  /* the same file, by another name */
  RELATION_REUSED /* another file */
};

struct change {
  enum change_kind kind;
  uint32_t a, b; /* indices of entries, or ENTRY_NONE */
  unsigned aspects;
  enum change_relation relation_a, relation_b; /* of the inode that `a`, or `b`, has */
  uint32_t other_of_a; /* index in B of the file that has the inode of `a`; or ENTRY_NONE */
  uint32_t other_of_b; /* index in A of the file that had the inode of `b` */
  bool name_remains;   /* DELETED: the name can still be seen in B, as a deleted one */
};

struct changes {
  struct change *list;
  size_t count, room;
  bool has_unread; /* a directory that is in use could not be read as a whole, in A or in B: it may
                      have names that are not here */
};

#endif
