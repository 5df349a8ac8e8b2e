/* SPDX-License-Identifier: MIT */
#include "ext4_extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"

#define SUPERBLOCK_OFFSET 1024u
#define SUPERBLOCK_BYTES 1024u
#define SUPERBLOCK_MAGIC 0xef53u
#define BLOCK_BITS_MAX 16u
#define INCOMPATIBLE_META_BG 0x10u
#define INCOMPATIBLE_64BIT 0x80u
#define INODE_BYTES 128u /* of an inode: those that every inode has */
#define INODE_HAS_EXTENTS 0x80000u
#define INODE_TREE_OFFSET 40u
#define INODE_TREE_BYTES 60u
#define TREE_MAGIC 0xf30au
#define TREE_DEPTH_MAX 5u
#define TREE_ENTRY_BYTES 12u /* of its header, too */
/* More than the blocks of a tree with the most fragments that can be read. */
#define TREE_BLOCKS_MAX 131072u
#define WRITTEN_LENGTH_MAX 32768u /* longer: the extent was never written */

struct ext4 {
  const struct qcow2_storage *disk;
  uint64_t start; /* of the file system, bytes */
  uint32_t block_bytes;
  uint64_t block_count;
  uint32_t first_data_block, inodes_per_group, inode_bytes, descriptor_bytes;
};

/* A block of the tree, and how far the walk is in it. */
struct node {
  uint8_t *bytes; /* owned */
  unsigned count, next, depth;
};

struct walk {
  const struct ext4 *ext4;
  struct qcow2_fragments *fragments;
  uint64_t size, done;                   /* bytes of the file, and of those in the list */
  struct node nodes[TREE_DEPTH_MAX + 1]; /* from the root to the block that is walked */
  size_t level;
  unsigned blocks_read;
};

static uint32_t le16(const uint8_t *at)
{
  return at[0] | (uint32_t) at[1] << 8;
}

static uint32_t le32(const uint8_t *at)
{
  return le16(at) | le16(at + 2) << 16;
}

static int complain_tree(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                         "the file's extent tree in ext4 breaks the format's rules");
}

static int complain_layout(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "libtsk cannot list the file's fragments, and its file system is not an "
                         "ext4 of the usual layout");
}

/* ---- Reading ------------------------------------------------------------------ */

/* Read at an offset in the file system. */
static int read_at(const struct ext4 *ext4, uint64_t offset, void *buffer, size_t length,
                   struct qcow2_error *error)
{
  const struct qcow2_storage *disk = ext4->disk;
  uint64_t at = ext4->start + offset;

  if (at >= ext4->start && at <= disk->size && length <= disk->size - at &&
      disk->read(disk->context, at, buffer, length) == 0)
    return 0;
  qcow2_error_set(error, QCOW2_ERROR_IO,
                  "the file system of the file cannot be read at byte %" PRIu64
                  " of the disk around it",
                  at);
  error->os_errno = EIO;
  return QCOW2_ERROR_IO;
}

static int read_superblock(struct ext4 *ext4, struct qcow2_error *error)
{
  uint8_t bytes[SUPERBLOCK_BYTES];
  uint32_t incompatible, block_bits;
  int code = read_at(ext4, SUPERBLOCK_OFFSET, bytes, sizeof(bytes), error);

  if (code != 0)
    return code;
  incompatible = le32(bytes + 0x60);
  block_bits = 10 + le32(bytes + 0x18);
  if (le16(bytes + 0x38) != SUPERBLOCK_MAGIC || block_bits < 10 || block_bits > BLOCK_BITS_MAX ||
      (incompatible & INCOMPATIBLE_META_BG) != 0)
    return complain_layout(error);
  ext4->block_bytes = UINT32_C(1) << block_bits;
  ext4->block_count = le32(bytes + 0x04);
  ext4->first_data_block = le32(bytes + 0x14);
  ext4->inodes_per_group = le32(bytes + 0x28);
  ext4->inode_bytes = le16(bytes + 0x58);
  ext4->descriptor_bytes = 32;
  if ((incompatible & INCOMPATIBLE_64BIT) != 0) {
    ext4->block_count |= (uint64_t) le32(bytes + 0x150) << 32;
    ext4->descriptor_bytes = le16(bytes + 0xfe);
  }
  return ext4->inodes_per_group == 0 || ext4->inode_bytes < INODE_BYTES ||
                 ext4->descriptor_bytes < 32 || ext4->block_count > UINT64_C(1) << 47
             ? complain_layout(error)
             : 0;
}

static int read_inode(const struct ext4 *ext4, uint64_t inode, uint8_t bytes[INODE_BYTES],
                      struct qcow2_error *error)
{
  uint64_t group = (inode - 1) / ext4->inodes_per_group;
  uint64_t index = (inode - 1) % ext4->inodes_per_group;
  uint64_t descriptors = ((uint64_t) ext4->first_data_block + 1) * ext4->block_bytes;
  uint8_t descriptor[64] = { 0 };
  size_t length = ext4->descriptor_bytes < 64 ? 32 : 64;
  uint64_t table;
  int code = inode == 0 || group > UINT32_MAX ? complain_layout(error) : 0;

  if (code == 0)
    code = read_at(ext4, descriptors + group * ext4->descriptor_bytes, descriptor, length, error);
  if (code != 0)
    return code;
  table = le32(descriptor + 8) | (uint64_t) le32(descriptor + 0x28) << 32;
  if (table >= ext4->block_count)
    return complain_layout(error);
  return read_at(ext4, table * ext4->block_bytes + index * ext4->inode_bytes, bytes, INODE_BYTES,
                 error);
}

/* ---- The tree ------------------------------------------------------------------- */

/* Go down to a block of the tree, which is in `bytes` (owned from the call on, also on failure).
   `depth` is what its header must say. */
static int enter(struct walk *walk, uint8_t *bytes, size_t size, unsigned depth,
                 struct qcow2_error *error)
{
  unsigned count = le16(bytes + 2);

  if (le16(bytes) != TREE_MAGIC || le16(bytes + 6) != depth ||
      count > size / TREE_ENTRY_BYTES - 1) {
    free(bytes);
    return complain_tree(error);
  }
  walk->nodes[walk->level++] = (struct node){ bytes, count, 0, depth };
  return 0;
}

static int enter_child(struct walk *walk, const uint8_t *entry, unsigned depth,
                       struct qcow2_error *error)
{
  const struct ext4 *ext4 = walk->ext4;
  uint64_t block = le32(entry + 4) | (uint64_t) le16(entry + 8) << 32;
  uint8_t *bytes;
  int code;

  if (block >= ext4->block_count || ++walk->blocks_read > TREE_BLOCKS_MAX)
    return complain_tree(error);
  bytes = malloc(ext4->block_bytes);
  if (bytes == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = read_at(ext4, block * ext4->block_bytes, bytes, ext4->block_bytes, error);
  if (code == 0)
    return enter(walk, bytes, ext4->block_bytes, depth, error);
  free(bytes);
  return code;
}

/* Append bytes, as far as they are in the file. */
static int append(struct walk *walk, uint64_t length, uint64_t outer_offset,
                  struct qcow2_error *error)
{
  uint64_t left = walk->size - walk->done;

  if (length > left)
    length = left;
  walk->done += length;
  return length == 0 ? 0 : qcow2_fragments_add(walk->fragments, length, outer_offset, error);
}

/* What no extent has is a hole. */
static int take_extent(struct walk *walk, const uint8_t *entry, struct qcow2_error *error)
{
  const struct ext4 *ext4 = walk->ext4;
  uint64_t offset = (uint64_t) le32(entry) * ext4->block_bytes;
  uint64_t block = le32(entry + 8) | (uint64_t) le16(entry + 6) << 32;
  uint64_t length = le16(entry + 4);
  bool is_written = length <= WRITTEN_LENGTH_MAX;
  int code = 0;

  length -= is_written ? 0 : WRITTEN_LENGTH_MAX;
  if (length == 0 || (offset < walk->done && walk->done < walk->size) ||
      block >= ext4->block_count || length > ext4->block_count - block)
    return complain_tree(error);
  if (offset > walk->done)
    code = append(walk, offset - walk->done, QCOW2_FRAGMENT_ZERO, error);
  return code != 0
             ? code
             : append(walk, length * ext4->block_bytes,
                      is_written ? ext4->start + block * ext4->block_bytes : QCOW2_FRAGMENT_ZERO,
                      error);
}

/* Walk all entries below the root, in order. */
static int walk_tree(struct walk *walk, struct qcow2_error *error)
{
  int code = 0;

  while (code == 0 && walk->level > 0) {
    struct node *node = &walk->nodes[walk->level - 1];
    const uint8_t *entry = node->bytes + (node->next + 1) * TREE_ENTRY_BYTES;

    if (node->next++ == node->count) {
      /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each node frees the bytes that it owns */
      free(node->bytes);
      walk->level--;
    } else
      code = node->depth == 0 ? take_extent(walk, entry, error)
                              : enter_child(walk, entry, node->depth - 1, error);
  }
  while (walk->level > 0)
    free(walk->nodes[--walk->level].bytes);
  return code == 0 ? append(walk, walk->size - walk->done, QCOW2_FRAGMENT_ZERO, error) : code;
}

static int walk_inode(struct walk *walk, const uint8_t inode[INODE_BYTES],
                      struct qcow2_error *error)
{
  const uint8_t *root = inode + INODE_TREE_OFFSET;
  unsigned depth = le16(root + 6);
  uint8_t *bytes;
  int code;

  if ((le32(inode + 0x20) & INODE_HAS_EXTENTS) == 0)
    return complain_layout(error);
  if (depth > TREE_DEPTH_MAX || walk->size > INT64_MAX)
    return complain_tree(error);
  bytes = malloc(INODE_TREE_BYTES);
  if (bytes == NULL)
    return tsk_qcow2_complain_nomem(error);
  memcpy(bytes, root, INODE_TREE_BYTES);
  code = enter(walk, bytes, INODE_TREE_BYTES, depth, error);
  return code == 0 ? walk_tree(walk, error) : code;
}

int tsk_qcow2_ext4_open(const struct qcow2_storage *disk, uint64_t start, uint64_t number,
                        struct qcow2_storage *storage, struct qcow2_error *error)
{
  struct ext4 ext4 = { .disk = disk, .start = start };
  struct walk walk = { .ext4 = &ext4 };
  uint8_t inode[INODE_BYTES];
  int code = read_superblock(&ext4, error);

  if (code == 0)
    code = read_inode(&ext4, number, inode, error);
  if (code == 0)
    code = qcow2_fragments_new(disk, &walk.fragments, error);
  if (code != 0)
    return code;
  walk.size = le32(inode + 4) | (uint64_t) le32(inode + 0x6c) << 32;
  code = walk_inode(&walk, inode, error);
  if (code != 0)
    qcow2_fragments_free(walk.fragments);
  else
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each node frees the bytes that it owns */
    qcow2_fragments_finish(walk.fragments, storage);
  return code;
}
