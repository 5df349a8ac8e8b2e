/* SPDX-License-Identifier: MIT */
/*
 * libtsk, which is loaded when it is needed: nothing here is linked with it. If the program has
 * loaded libtsk, that one is used. Otherwise it is the one that this library was built for.
 *
 * The structures are the beginnings of libtsk's own, as far as they are the same in all versions
 * from 4.11 to 4.15. Each has a tag, by which it is recognised. tests/test_inside.py compares them
 * with the headers of the installed libtsk.
 */
#ifndef TSK_QCOW2_LIBTSK_H
#define TSK_QCOW2_LIBTSK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* TSK_IMG_INFO. */
struct tsk_qcow2_img {
  uint32_t tag;
  int type;
  int64_t size; /* bytes */
};

/* TSK_VS_INFO and TSK_VS_PART_INFO: a partition table, and a partition. */
struct tsk_qcow2_vs {
  int tag;
  struct tsk_qcow2_img *img;
  int type, is_backup;
  uint64_t offset;
  unsigned block_bytes; /* the unit of `start` */
};
#define LIBTSK_VS_TAG 0x52301642

struct tsk_qcow2_part {
  int tag;
  const struct tsk_qcow2_part *previous, *next;
  const struct tsk_qcow2_vs *vs;
  uint64_t start, length;
  const char *description;
  int16_t table, slot;
  uint32_t number;
  int flags;
};
#define LIBTSK_PART_TAG 0x40121253
#define LIBTSK_PART_ALLOCATED 1

/* TSK_FS_INFO. */
struct tsk_qcow2_fs {
  int tag;
  struct tsk_qcow2_img *img;
  int64_t offset; /* in the image, bytes */
  uint64_t inode_count, root_inode, first_inode, last_inode;
  uint64_t block_count, first_block, last_block, last_block_in_image;
  unsigned block_bytes, device_block_bytes, bytes_before_block, bytes_after_block;
  uint64_t journal_inode;
  int type; /* LIBTSK_FS_... */
};
#define LIBTSK_FS_TAG 0x10101010
#define LIBTSK_FS_NTFS 0x00000001
#define LIBTSK_FS_FAT 0x0000000e
#define LIBTSK_FS_EXT 0x00002180
#define LIBTSK_FS_HFS 0x00009000
#define LIBTSK_FS_BTRFS 0x00040000
#define LIBTSK_FS_XFS 0x00080000

/* TSK_FS_NAME: an entry of a directory. */
struct tsk_qcow2_fs_name {
  int tag;
  const char *name;
  size_t name_bytes;
  const char *short_name;
  size_t short_name_bytes;
  uint64_t inode;
  uint32_t sequence;
  uint64_t parent;
  uint32_t parent_sequence;
  uint64_t date_added;
  int type;
  int flags;
};
#define LIBTSK_NAME_TAG 0x23147869
#define LIBTSK_NAME_ALLOCATED 1

/* TSK_FS_META: an inode. */
struct tsk_qcow2_fs_meta {
  int tag;
  int flags;
  uint64_t inode;
  int type; /* LIBTSK_META_... */
  int mode;
  int link_count;
  int64_t size;
};
#define LIBTSK_META_TAG 0x13524635
#define LIBTSK_META_DELETED 2
#define LIBTSK_META_REGULAR 1
#define LIBTSK_META_DIRECTORY 2
#define LIBTSK_META_CHARACTER_DEVICE 4
#define LIBTSK_META_BLOCK_DEVICE 5
#define LIBTSK_META_LINK 6
#define LIBTSK_META_VIRTUAL_DIRECTORY 11

/* TSK_FS_FILE. */
struct tsk_qcow2_fs_file {
  int tag;
  const struct tsk_qcow2_fs_name *name;
  const struct tsk_qcow2_fs_meta *meta;
  struct tsk_qcow2_fs *fs;
};
#define LIBTSK_FILE_TAG 0x11212212

/* TSK_FS_ATTR_RUN: a fragment of a file. */
struct tsk_qcow2_fs_run {
  const struct tsk_qcow2_fs_run *next;
  uint64_t offset, address, length; /* blocks */
  uint64_t key_number;
  int flags; /* LIBTSK_RUN_... */
};
#define LIBTSK_RUN_FILLER 1 /* the file system has no entry for this part of the file */
#define LIBTSK_RUN_SPARSE 2
#define LIBTSK_RUN_ENCRYPTED 4

/* TSK_FS_ATTR: a content of a file. */
struct tsk_qcow2_fs_attr {
  const struct tsk_qcow2_fs_attr *next;
  const struct tsk_qcow2_fs_file *file;
  int flags; /* LIBTSK_ATTR_... */
  const char *name;
  size_t name_bytes;
  int type;
  uint16_t id;
  int64_t size; /* bytes */
  const struct tsk_qcow2_fs_run *runs, *last_run;
  uint32_t skipped_bytes; /* before the content, in the runs */
  int64_t allocated_bytes;
  int64_t initialized_bytes; /* what is after them reads as zeros */
};
#define LIBTSK_ATTR_IN_BLOCKS 0x02
#define LIBTSK_ATTR_ENCRYPTED 0x10
#define LIBTSK_ATTR_COMPRESSED 0x20
#define LIBTSK_ATTR_REPARSE_POINT 192 /* a type */
#define LIBTSK_ATTR_DATA 128

/* Callbacks of an image that libtsk does not open. */
typedef ssize_t tsk_qcow2_img_read(struct tsk_qcow2_img *img, int64_t offset, char *buffer,
                                   size_t length);
typedef void tsk_qcow2_img_close(struct tsk_qcow2_img *img);
typedef void tsk_qcow2_img_print(struct tsk_qcow2_img *img, void *out);

/* libtsk's functions, by their names without "tsk_". What returns a pointer returns NULL on
   failure. */
struct tsk_qcow2_libtsk {
  struct tsk_qcow2_img *(*img_open_utf8_sing)(const char *path, int type, unsigned sector_bytes);
  struct tsk_qcow2_img *(*img_open_external)(void *img, int64_t size, unsigned sector_bytes,
                                             tsk_qcow2_img_read *read, tsk_qcow2_img_close *close,
                                             tsk_qcow2_img_print *print);
  ssize_t (*img_read)(struct tsk_qcow2_img *img, int64_t offset, char *buffer, size_t length);
  void (*img_close)(struct tsk_qcow2_img *img);
  int (*img_type_toid_utf8)(const char *name);
  struct tsk_qcow2_vs *(*vs_open)(struct tsk_qcow2_img *img, uint64_t offset, int type);
  const struct tsk_qcow2_part *(*vs_part_get)(const struct tsk_qcow2_vs *vs, uint32_t index);
  void (*vs_close)(struct tsk_qcow2_vs *vs);
  struct tsk_qcow2_fs *(*fs_open_img)(struct tsk_qcow2_img *img, int64_t offset, int type);
  void (*fs_close)(struct tsk_qcow2_fs *fs);
  void *(*fs_dir_open_meta)(struct tsk_qcow2_fs *fs, uint64_t inode);
  size_t (*fs_dir_getsize)(const void *dir);
  const struct tsk_qcow2_fs_name *(*fs_dir_get_name)(const void *dir, size_t index);
  struct tsk_qcow2_fs_file *(*fs_dir_get)(const void *dir, size_t index);
  void (*fs_dir_close)(void *dir);
  struct tsk_qcow2_fs_file *(*fs_file_open_meta)(struct tsk_qcow2_fs *fs,
                                                 struct tsk_qcow2_fs_file *file, uint64_t inode);
  void (*fs_file_close)(struct tsk_qcow2_fs_file *file);
  const struct tsk_qcow2_fs_attr *(*fs_file_attr_get)(struct tsk_qcow2_fs_file *file);
  const struct tsk_qcow2_fs_attr *(*fs_file_attr_get_type)(struct tsk_qcow2_fs_file *file, int type,
                                                           uint16_t id, uint8_t has_id);
  int (*fs_file_attr_getsize)(struct tsk_qcow2_fs_file *file);
  const struct tsk_qcow2_fs_attr *(*fs_file_attr_get_idx)(struct tsk_qcow2_fs_file *file,
                                                          int index);
  ssize_t (*fs_attr_read)(const struct tsk_qcow2_fs_attr *attr, int64_t offset, char *buffer,
                          size_t length, int flags);
  const char *(*error_get)(void);
  void (*error_reset)(void);
};

/* The functions. NULL: libtsk cannot be loaded. Any thread. */
const struct tsk_qcow2_libtsk *tsk_qcow2_libtsk(void);

/* Why it cannot be loaded. */
const char *tsk_qcow2_libtsk_problem(void);

#endif
