/* SPDX-License-Identifier: MIT */
#include "disk_start.h"

#include <string.h>
#include <zlib.h>

#include "../base/bytes.h"
#include "../base/checked.h"

#define MBR_ENTRIES 4u
#define MBR_ENTRIES_OFFSET 446u
#define MBR_ENTRY_BYTES 16u
#define GPT_HEADER_BYTES_MIN 92u

/* ---- MBR --------------------------------------------------------------------------- */

/* The first sector of an NTFS or FAT volume ends with the same two bytes. */
static bool is_boot_sector(const uint8_t *sector)
{
  return memcmp(sector + 3, "NTFS    ", 8) == 0 || memcmp(sector + 54, "FAT", 3) == 0 ||
         memcmp(sector + 82, "FAT32", 5) == 0;
}

static bool overlaps(const struct qcow2_disk_start *start, const struct qcow2_disk_range *range)
{
  for (uint32_t i = 0; i < start->count; i++)
    if (range->start < start->partitions[i].start + start->partitions[i].length &&
        start->partitions[i].start < range->start + range->length)
      return true;
  return false;
}

/* Take the four entries. False: they make no sense. */
static bool take_mbr(const uint8_t *sector, uint64_t size, struct qcow2_disk_start *start)
{
  for (unsigned i = 0; i < MBR_ENTRIES; i++) {
    const uint8_t *entry = sector + MBR_ENTRIES_OFFSET + i * MBR_ENTRY_BYTES;
    struct qcow2_disk_range range = { le32_get(entry + 8) * (uint64_t) DISK_SECTOR_BYTES,
                                      le32_get(entry + 12) * (uint64_t) DISK_SECTOR_BYTES };

    if (entry[0] != 0 && entry[0] != 0x80)
      return false;
    if (entry[4] == 0)
      continue;
    if (range.start == 0 || range.length == 0 || range.start >= size || overlaps(start, &range))
      return false;
    start->partitions[start->count++] = range;
  }
  return start->count > 0;
}

/* ---- GPT ----------------------------------------------------------------------------- */

bool qcow2_disk_is_gpt(const uint8_t *sector, uint64_t number)
{
  uint32_t length = le32_get(sector + 12);
  uint8_t copy[DISK_SECTOR_BYTES];

  if (memcmp(sector, "EFI PART", 8) != 0 || length < GPT_HEADER_BYTES_MIN ||
      length > sizeof(copy) || le64_get(sector + 24) != number)
    return false;
  memcpy(copy, sector, sizeof(copy));
  memset(copy + 16, 0, 4);
  return crc32(0, copy, length) == le32_get(sector + 16);
}

static void take_gpt(const uint8_t *header, struct qcow2_disk_start *start)
{
  uint64_t entries = le64_get(header + 72), copy = le64_get(header + 32);

  start->kind = DISK_START_GPT;
  memcpy(start->guid, header + 56, sizeof(start->guid));
  if (copy <= UINT64_MAX / DISK_SECTOR_BYTES)
    start->copy_offset = copy * DISK_SECTOR_BYTES;
  if (entries <= UINT64_MAX / DISK_SECTOR_BYTES && le32_get(header + 84) == GPT_ENTRY_BYTES) {
    start->entries_offset = entries * DISK_SECTOR_BYTES;
    start->entry_count = (uint32_t) min_u64(le32_get(header + 80), DISK_PARTITIONS_MAX);
  }
}

void qcow2_disk_start_add(struct qcow2_disk_start *start, const uint8_t *entry, uint64_t size)
{
  static const uint8_t UNUSED[16] = { 0 };
  uint64_t first = le64_get(entry + 32), last = le64_get(entry + 40);
  struct qcow2_disk_range range;

  if (memcmp(entry, UNUSED, sizeof(UNUSED)) == 0 || first == 0 || last < first ||
      last >= UINT64_MAX / DISK_SECTOR_BYTES || start->count == DISK_PARTITIONS_MAX)
    return;
  range = (struct qcow2_disk_range){ first * DISK_SECTOR_BYTES,
                                     (last - first + 1) * DISK_SECTOR_BYTES };
  if (range.start < size)
    start->partitions[start->count++] = range;
}

/* ---- Both ------------------------------------------------------------------------------ */

void qcow2_disk_start_look(const uint8_t *bytes, uint64_t size, struct qcow2_disk_start *start)
{
  memset(start, 0, sizeof(*start));
  if (qcow2_disk_is_gpt(bytes + DISK_SECTOR_BYTES, 1))
    take_gpt(bytes + DISK_SECTOR_BYTES, start);
  else if (bytes[510] == 0x55 && bytes[511] == 0xaa && !is_boot_sector(bytes) &&
           take_mbr(bytes, size, start))
    start->kind = DISK_START_MBR;
  else
    start->count = 0;
}
