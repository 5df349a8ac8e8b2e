/* SPDX-License-Identifier: MIT */
#include "volumes.h"

#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"

#define EXT_SUPERBLOCK_OFFSET 1024u
#define EXT_SUPERBLOCK_BYTES 1024u
#define EXT_MAGIC 0xef53u
#define EXT_COMPAT_SPARSE_SUPER2 0x200u
#define EXT_INCOMPAT_META_BG 0x10u
#define EXT_INCOMPAT_64BIT 0x80u
#define EXT_INCOMPAT_CHECKSUM_SEED 0x2000u
#define EXT_RO_COMPAT_SPARSE_SUPER 1u
#define EXT_RO_COMPAT_CHECKSUMS 0x400u
#define EXT_GROUP_BITMAP_UNINIT 2u
/* 512 TiB, with groups of 128 MiB. */
#define GROUPS_MAX (UINT32_C(1) << 22)
#define XFS_SECTOR_BYTES_MAX 4096u

static void fail(struct qcow2_volume *volume)
{
  volume->kind = VOLUME_UNKNOWN;
}

/* The number of the last group that has blocks. */
static uint32_t last_group(uint64_t blocks, uint64_t group_blocks)
{
  return blocks == 0 ? 0 : (uint32_t) min_u64((blocks - 1) / group_blocks, GROUPS_MAX - 1);
}

/* ---- ext2, ext3, ext4 ------------------------------------------------------------------ */

/* As in ext4: neither begun nor ended with all bits inverted. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t length)
{
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (unsigned bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (UINT32_C(0x82f63b78) & (0 - (crc & 1)));
  }
  return crc;
}

static bool ext_has_checksums(const uint8_t *superblock)
{
  return (le32_get(superblock + 100) & EXT_RO_COMPAT_CHECKSUMS) != 0;
}

/* True if this is a superblock. */
static bool is_ext(const uint8_t *superblock)
{
  return le16_get(superblock + 56) == EXT_MAGIC && le32_get(superblock + 24) <= 6 &&
         le32_get(superblock + 32) > 0 && le32_get(superblock + 20) <= 1 &&
         (!ext_has_checksums(superblock) ||
          crc32c(UINT32_MAX, superblock, EXT_SUPERBLOCK_BYTES - 4) ==
              le32_get(superblock + EXT_SUPERBLOCK_BYTES - 4));
}

static void take_ext_checksums(const uint8_t *superblock, struct qcow2_volume *volume)
{
  uint32_t incompatible = le32_get(superblock + 96);

  if (!ext_has_checksums(superblock) || (incompatible & EXT_INCOMPAT_64BIT) == 0 ||
      le16_get(superblock + 254) != EXT_GROUP_BYTES || (incompatible & EXT_INCOMPAT_META_BG) != 0)
    return;
  volume->checksum_seed = (incompatible & EXT_INCOMPAT_CHECKSUM_SEED) != 0
                              ? le32_get(superblock + 624)
                              : crc32c(UINT32_MAX, volume->id, sizeof(volume->id));
  volume->groups_offset = volume->start + (volume->first_block + 1) * volume->block_bytes;
}

static void take_ext(const uint8_t *superblock, struct qcow2_volume *volume)
{
  uint64_t blocks = le32_get(superblock + 4);

  if ((le32_get(superblock + 96) & EXT_INCOMPAT_64BIT) != 0)
    blocks |= (uint64_t) le32_get(superblock + 336) << 32;
  volume->kind = VOLUME_EXT;
  volume->block_bytes = UINT32_C(1024) << le32_get(superblock + 24);
  volume->first_block = le32_get(superblock + 20);
  volume->group_blocks = le32_get(superblock + 32);
  memcpy(volume->id, superblock + 104, sizeof(volume->id));
  if (blocks > UINT64_MAX / volume->block_bytes ||
      volume->group_blocks > UINT64_C(8) * volume->block_bytes ||
      le16_get(superblock + 90) != 0) { /* this would be a copy */
    fail(volume);
    return;
  }
  volume->bytes = blocks * volume->block_bytes;
  volume->landmarks = last_group(blocks - min_u64(blocks, volume->first_block),
                                 volume->group_blocks);
  volume->has_two = (le32_get(superblock + 92) & EXT_COMPAT_SPARSE_SUPER2) != 0;
  volume->is_sparse = (le32_get(superblock + 100) & EXT_RO_COMPAT_SPARSE_SUPER) != 0;
  volume->copies[0] = le32_get(superblock + 588);
  volume->copies[1] = le32_get(superblock + 592);
  take_ext_checksums(superblock, volume);
}

static bool is_power_of(uint32_t base, uint32_t number)
{
  while (number % base == 0)
    number /= base;
  return number == 1;
}

static bool ext_has_copy(const struct qcow2_volume *volume, uint32_t group)
{
  if (volume->has_two)
    return group == volume->copies[0] || group == volume->copies[1];
  return !volume->is_sparse || is_power_of(3, group) || is_power_of(5, group) ||
         is_power_of(7, group);
}

static uint64_t ext_group_offset(const struct qcow2_volume *volume, uint32_t group)
{
  return volume->start + (volume->first_block + group * volume->group_blocks) * volume->block_bytes;
}

static bool is_ext_copy(const struct qcow2_volume *volume, uint32_t group, const uint8_t *bytes)
{
  return is_ext(bytes) && memcmp(bytes + 104, volume->id, sizeof(volume->id)) == 0 &&
         le16_get(bytes + 90) == (uint16_t) group &&
         UINT32_C(1024) << le32_get(bytes + 24) == volume->block_bytes &&
         le32_get(bytes + 32) == volume->group_blocks;
}

bool qcow2_volume_bitmap(const struct qcow2_volume *volume, uint32_t group,
                         const uint8_t *description, struct qcow2_landmark *landmark)
{
  uint64_t block = le32_get(description) | (uint64_t) le32_get(description + 32) << 32;

  if ((le16_get(description + 18) & EXT_GROUP_BITMAP_UNINIT) != 0 || block == 0 ||
      volume->group_blocks % 8 != 0 || block >= volume->bytes / volume->block_bytes)
    return false;
  *landmark = (struct qcow2_landmark){ .guest_offset = volume->start + block * volume->block_bytes,
                                       .length = (uint32_t) volume->group_blocks / 8,
                                       .number = group,
                                       .is_bitmap = true,
                                       .checksum = le16_get(description + 24) |
                                                   (uint32_t) le16_get(description + 56) << 16 };
  return true;
}

/* ---- XFS ----------------------------------------------------------------------------------- */

static void take_xfs(const uint8_t *head, struct qcow2_volume *volume)
{
  uint64_t blocks = be64_get(head + 8);

  volume->kind = VOLUME_XFS;
  volume->block_bytes = be32_get(head + 4);
  volume->sector_bytes = be16_get(head + 102);
  volume->group_blocks = be32_get(head + 84);
  memcpy(volume->id, head + 32, sizeof(volume->id));
  if (volume->block_bytes < 512 || volume->block_bytes > LANDMARK_BYTES_MAX ||
      volume->sector_bytes < 512 || volume->sector_bytes > XFS_SECTOR_BYTES_MAX ||
      volume->group_blocks == 0 || blocks > UINT64_MAX / volume->block_bytes) {
    fail(volume);
    return;
  }
  volume->bytes = blocks * volume->block_bytes;
  volume->landmarks = last_group(blocks, volume->group_blocks);
}

/* In the second sector of an allocation group is its number. */
static bool is_xfs_group(const struct qcow2_volume *volume, uint32_t group, const uint8_t *bytes)
{
  const uint8_t *second = bytes + volume->sector_bytes;

  return memcmp(bytes, "XFSB", 4) == 0 && memcmp(bytes + 32, volume->id, sizeof(volume->id)) == 0 &&
         memcmp(second, "XAGF", 4) == 0 && be32_get(second + 8) == group;
}

/* ---- NTFS ------------------------------------------------------------------------------------ */

enum {
  NTFS_BOOT = 1,
  NTFS_MFT,
  NTFS_MFT_COPY
};

static void take_ntfs(const uint8_t *head, struct qcow2_volume *volume)
{
  uint64_t sectors = le64_get(head + 40);
  uint64_t cluster = (uint64_t) le16_get(head + 11) * head[13];

  volume->kind = VOLUME_NTFS;
  volume->sector_bytes = le16_get(head + 11);
  memcpy(volume->id, head + 72, 8);
  /* It says where its partition begins. */
  if (volume->sector_bytes != DISK_SECTOR_BYTES || head[13] == 0 || head[13] > 128 ||
      le32_get(head + 28) != (uint32_t) (volume->start / DISK_SECTOR_BYTES) ||
      sectors >= UINT64_MAX / DISK_SECTOR_BYTES) {
    fail(volume);
    return;
  }
  volume->bytes = (sectors + 1) * DISK_SECTOR_BYTES; /* with the copy of this sector */
  volume->landmarks = NTFS_MFT_COPY;
  for (unsigned i = 0; i < 2; i++) {
    uint64_t at = le64_get(head + 48 + i * 8);

    volume->mft[i] = at >= volume->bytes / cluster ? 0 : volume->start + at * cluster;
  }
}

/* True if this is the first record of an MFT. */
static bool is_mft(const uint8_t *record)
{
  return memcmp(record, "FILE", 4) == 0 && le64_get(record + 32) == 0 && le32_get(record + 44) == 0;
}

static bool is_ntfs_boot(const struct qcow2_volume *volume, const uint8_t *bytes)
{
  return memcmp(bytes + 3, "NTFS    ", 8) == 0 && memcmp(bytes + 72, volume->id, 8) == 0;
}

/* ---- All ------------------------------------------------------------------------------------- */

bool qcow2_volume_recognise(const uint8_t *head, uint64_t start, uint64_t room,
                            struct qcow2_volume *volume)
{
  *volume = (struct qcow2_volume){ .start = start };
  if (memcmp(head, "XFSB", 4) == 0)
    take_xfs(head, volume);
  else if (memcmp(head + 3, "NTFS    ", 8) == 0)
    take_ntfs(head, volume);
  else if (is_ext(head + EXT_SUPERBLOCK_OFFSET))
    take_ext(head + EXT_SUPERBLOCK_OFFSET, volume);
  if (volume->bytes > room || volume->bytes > UINT64_MAX - start)
    fail(volume);
  return volume->kind != VOLUME_UNKNOWN;
}

void qcow2_volume_of_gpt(const struct qcow2_disk_start *start, struct qcow2_volume *volume)
{
  *volume = (struct qcow2_volume){ .kind = VOLUME_GPT, .start = start->copy_offset };
  memcpy(volume->id, start->guid, sizeof(volume->id));
  volume->landmarks = start->copy_offset != 0;
}

bool qcow2_volume_landmark(const struct qcow2_volume *volume, uint32_t number,
                           struct qcow2_landmark *landmark)
{
  *landmark = (struct qcow2_landmark){ .number = number, .length = DISK_SECTOR_BYTES };
  switch (volume->kind) {
  case VOLUME_UNKNOWN: return false;
  case VOLUME_GPT: landmark->guest_offset = volume->start; return true;
  case VOLUME_EXT:
    landmark->guest_offset = ext_group_offset(volume, number);
    landmark->length = EXT_SUPERBLOCK_BYTES;
    return ext_has_copy(volume, number);
  case VOLUME_XFS:
    landmark->guest_offset = volume->start + number * volume->group_blocks * volume->block_bytes;
    landmark->length = volume->sector_bytes + 16;
    return true;
  case VOLUME_NTFS:
    landmark->guest_offset = number == NTFS_BOOT ? volume->start + volume->bytes - DISK_SECTOR_BYTES
                                                 : volume->mft[number - NTFS_MFT];
    return landmark->guest_offset != 0;
  }
  return false;
}

bool qcow2_volume_has(const struct qcow2_volume *volume, const struct qcow2_landmark *landmark,
                      const uint8_t *bytes)
{
  if (landmark->is_bitmap)
    return crc32c(volume->checksum_seed, bytes, landmark->length) == landmark->checksum;
  switch (volume->kind) {
  case VOLUME_UNKNOWN: return false;
  case VOLUME_GPT:
    return qcow2_disk_is_gpt(bytes, volume->start / DISK_SECTOR_BYTES) &&
           memcmp(bytes + 56, volume->id, sizeof(volume->id)) == 0;
  case VOLUME_EXT: return is_ext_copy(volume, landmark->number, bytes);
  case VOLUME_XFS: return is_xfs_group(volume, landmark->number, bytes);
  case VOLUME_NTFS:
    return landmark->number == NTFS_BOOT ? is_ntfs_boot(volume, bytes) : is_mft(bytes);
  }
  return false;
}
