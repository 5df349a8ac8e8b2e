/* SPDX-License-Identifier: MIT */
/* Unit tests of what places L2 tables that nothing leads to: landmarks of file systems, tables with
   votes, the order in the file, and the refcounts of a file whose header is lost. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../../core/base/bytes.h"
#include "../../core/image/layer.h"
#include "../../core/residue/classify.h"
#include "../../core/residue/guessed_refcounts.h"
#include "../../core/residue/order.h"
#include "../../core/residue/placed.h"
#include "../../core/residue/volumes.h"
#include "unit.h"

static void be64_put(uint8_t *bytes, uint64_t value)
{
  be32_put(bytes, (uint32_t) (value >> 32));
  be32_put(bytes + 4, (uint32_t) value);
}

/* ---- Landmarks --------------------------------------------------------------------- */

#define START UINT64_C(4096)
#define ROOM (UINT64_C(1) << 20)

/* The superblock of ext4: 1000 blocks of 1 KiB, in groups of 64, with few copies. */
static void make_ext(uint8_t *superblock, uint16_t group)
{
  memset(superblock, 0, 1024);
  le32_put(superblock + 4, 1000);
  le32_put(superblock + 20, 1);
  le32_put(superblock + 32, 64);
  le32_put(superblock + 56, 0xef53);
  le32_put(superblock + 88, (uint32_t) group << 16);
  le32_put(superblock + 100, 1);
  memset(superblock + 104, 'e', 16);
}

void test_volume_ext(void)
{
  uint8_t head[VOLUME_HEAD_BYTES] = { 0 }, copy[1024];
  struct qcow2_volume volume;
  struct qcow2_landmark landmark;

  make_ext(head + 1024, 1);
  CHECK(!qcow2_volume_recognise(head, START, ROOM, &volume)); /* a copy is no start */
  make_ext(head + 1024, 0);
  CHECK(!qcow2_volume_recognise(head, START, 1000 * 1024 - 1, &volume));
  le32_put(head + 1124, 0x400 | 1); /* a checksum, which is wrong */
  CHECK(!qcow2_volume_recognise(head, START, ROOM, &volume));
  le32_put(head + 1124, 1);
  CHECK(qcow2_volume_recognise(head, START, ROOM, &volume));
  CHECK(volume.kind == VOLUME_EXT && volume.bytes == 1000 * 1024 && volume.landmarks == 15);
  for (uint32_t group = 1; group <= 15; group++)
    CHECK(qcow2_volume_landmark(&volume, group, &landmark) ==
          (group == 1 || group == 3 || group == 5 || group == 7 || group == 9));
  CHECK(qcow2_volume_landmark(&volume, 9, &landmark));
  CHECK(landmark.guest_offset == START + (1 + 9 * 64) * 1024);
  make_ext(copy, 9);
  CHECK(qcow2_volume_has(&volume, &landmark, copy));
  copy[104] = 'f'; /* of another file system */
  CHECK(!qcow2_volume_has(&volume, &landmark, copy));
  make_ext(copy, 7);
  CHECK(!qcow2_volume_has(&volume, &landmark, copy));
}

void test_volume_bitmaps(void)
{
  struct qcow2_volume volume = { .kind = VOLUME_EXT,
                                 .start = START,
                                 .bytes = 1000 * 1024,
                                 .block_bytes = 1024,
                                 .group_blocks = 64 };
  uint8_t description[EXT_GROUP_BYTES] = { 0 }, bitmap[8] = { 0 };
  struct qcow2_landmark landmark;

  CHECK(!qcow2_volume_bitmap(&volume, 2, description, &landmark)); /* in block 0 */
  description[0] = 20;
  CHECK(qcow2_volume_bitmap(&volume, 2, description, &landmark));
  CHECK(landmark.guest_offset == START + 20 * 1024 && landmark.length == 8);
  CHECK(qcow2_volume_has(&volume, &landmark, bitmap)); /* zeros, and their checksum */
  bitmap[3] = 1;
  CHECK(!qcow2_volume_has(&volume, &landmark, bitmap));
  description[18] = 2; /* it was never written */
  CHECK(!qcow2_volume_bitmap(&volume, 2, description, &landmark));
  description[18] = 0;
  description[1] = 4; /* after the end */
  CHECK(!qcow2_volume_bitmap(&volume, 2, description, &landmark));
}

void test_volume_xfs(void)
{
  uint8_t head[VOLUME_HEAD_BYTES] = "XFSB", group[1024] = "XFSB";
  struct qcow2_volume volume;
  struct qcow2_landmark landmark;

  be32_put(head + 4, 4096);
  be64_put(head + 8, 200);
  head[32] = group[32] = 'u';
  be32_put(head + 84, 64);
  be32_put(head + 88, 1000000); /* groups, of which most have no blocks */
  head[102] = 2;
  CHECK(qcow2_volume_recognise(head, START, ROOM, &volume));
  CHECK(volume.kind == VOLUME_XFS && volume.landmarks == 3);
  CHECK(qcow2_volume_landmark(&volume, 3, &landmark));
  CHECK(landmark.guest_offset == START + 3 * 64 * 4096);
  be32_put(group + 512, 0x58414746); /* "XAGF" */
  be32_put(group + 520, 3);
  CHECK(qcow2_volume_has(&volume, &landmark, group));
  be32_put(group + 520, 2);
  CHECK(!qcow2_volume_has(&volume, &landmark, group));
  be32_put(group + 520, 3);
  group[32] = 'v';
  CHECK(!qcow2_volume_has(&volume, &landmark, group));
}

void test_volume_ntfs(void)
{
  uint8_t head[VOLUME_HEAD_BYTES] = { 0 }, record[DISK_SECTOR_BYTES] = "FILE";
  struct qcow2_volume volume;
  struct qcow2_landmark landmark;

  be64_put(head + 3, UINT64_C(0x4e54465320202020)); /* "NTFS    " */
  head[12] = 2;
  head[13] = 8;
  head[28] = 8;
  le32_put(head + 40, 999);
  le32_put(head + 48, 4);
  le32_put(head + 56, 125); /* after the end */
  head[72] = 1;
  CHECK(!qcow2_volume_recognise(head, 0, ROOM, &volume)); /* it says that it begins at START */
  CHECK(qcow2_volume_recognise(head, START, ROOM, &volume));
  CHECK(qcow2_volume_landmark(&volume, 1, &landmark));
  CHECK(landmark.guest_offset == START + 999 * 512 && qcow2_volume_has(&volume, &landmark, head));
  head[72] = 2;
  CHECK(!qcow2_volume_has(&volume, &landmark, head));
  CHECK(qcow2_volume_landmark(&volume, 2, &landmark));
  CHECK(landmark.guest_offset == START + 4 * 4096 && qcow2_volume_has(&volume, &landmark, record));
  record[44] = 1; /* the next record */
  CHECK(!qcow2_volume_has(&volume, &landmark, record));
  CHECK(!qcow2_volume_landmark(&volume, 3, &landmark));
}

void test_volume_gpt(void)
{
  struct qcow2_disk_start start = { .kind = DISK_START_GPT, .copy_offset = 99 * 512 };
  uint8_t sector[DISK_SECTOR_BYTES] = "EFI PART";
  struct qcow2_volume volume;
  struct qcow2_landmark landmark;

  sector[12] = 92;
  sector[24] = 99;
  le32_put(sector + 16, (uint32_t) crc32(0, sector, 92));
  qcow2_volume_of_gpt(&start, &volume);
  CHECK(volume.landmarks == 1 && qcow2_volume_landmark(&volume, 1, &landmark));
  CHECK(qcow2_volume_has(&volume, &landmark, sector));
  volume.id[0] = 1; /* of another disk */
  CHECK(!qcow2_volume_has(&volume, &landmark, sector));
}

/* ---- Tables ------------------------------------------------------------------------ */

static struct qcow2_geometry small_clusters(void)
{
  struct qcow2_header header = { .version = 3, .cluster_bits = 9 };

  return qcow2_geometry_of(&header);
}

void test_placed_for_one_place(void)
{
  struct qcow2_placed_table tables[] = {
    { 1024, 7, 2 }, { 2048, 7, 5 }, { 512, 3, 1 }, { 0, 3, 1 }
  };
  struct qcow2_placed placed = { .tables = tables, .count = 4 };

  qcow2_placed_keep_best(&placed);
  CHECK(placed.count == 2 && placed.contested == 2);
  CHECK(qcow2_placed_find(&placed, 7)->l2_offset == 2048);
  CHECK(qcow2_placed_find(&placed, 3)->l2_offset == 0); /* in whatever order they were found */
  CHECK(qcow2_placed_find(&placed, 5) == NULL);
}

void test_placed_doubt(void)
{
  const struct qcow2_geometry geometry = small_clusters();
  uint64_t offsets[2] = { 512, 1024 };
  uint8_t entries[16] = { 1, [8] = 7 }; /* a bit for each of 64 entries of two tables */
  struct qcow2_placed placed = { .lost_tables = offsets, .lost_entries = entries, .lost = 2 };
  uint8_t table[512] = { 0 };

  be64_put(table + 8, 4096); /* its second entry, which only the second table has */
  CHECK(qcow2_placed_is_doubtful(&placed, &geometry, table));
  be64_put(table + 5 * 8, 4608);
  CHECK(!qcow2_placed_is_doubtful(&placed, &geometry, table));
  be64_put(table + 5 * 8, 0);
  qcow2_placed_forget(&placed, &geometry, 1024);
  CHECK(placed.lost == 1 && offsets[0] == 512);
  CHECK(!qcow2_placed_is_doubtful(&placed, &geometry, table));
  placed.lost_entries = NULL; /* it is not known what they have */
  CHECK(qcow2_placed_is_doubtful(&placed, &geometry, table));
  placed.lost = 0;
  CHECK(!qcow2_placed_is_doubtful(&placed, &geometry, table));
}

/* A file in memory, of clusters of 512 bytes. */
static uint8_t file[16 * 512];

static int read_file(void *context, uint64_t offset, void *buffer, size_t length)
{
  (void) context;
  memcpy(buffer, file + offset, length);
  return 0;
}

static void put_entry(unsigned cluster, unsigned index, uint64_t value)
{
  be64_put(file + cluster * 512u + index * 8u, value);
}

/* Place the tables in the clusters 1 and `second` of a disk that has two. Returns how many are. */
static size_t place_by_order(unsigned second)
{
  uint64_t lost[2] = { 512, second * UINT64_C(512) };
  struct qcow2_placed_table tables[2];
  struct qcow2_placed placed = { .tables = tables, .lost_tables = lost, .lost = 2 };
  struct qcow2_layer layer = { .geometry = small_clusters() };

  layer.file.storage = (struct qcow2_storage){ .read = read_file, .size = sizeof(file) };
  CHECK(qcow2_order_place(&layer, &placed, 2, NULL) == 0);
  CHECK(placed.count == placed.by_order && placed.count + placed.lost == 2);
  return placed.by_order;
}

void test_order(void)
{
  memset(file, 0, sizeof(file));
  put_entry(1, 0, 2 * 512);
  put_entry(1, 5, 3 * 512);
  put_entry(4, 0, 5 * 512);
  CHECK(place_by_order(4) == 2);
  put_entry(1, 6, 6 * 512); /* past the next table */
  CHECK(place_by_order(4) == 0);
  put_entry(1, 6, 2 * 512); /* back */
  CHECK(place_by_order(4) == 0);
  put_entry(1, 6, 3 * 512); /* the same again */
  CHECK(place_by_order(4) == 0);
  put_entry(1, 6, 0);
  put_entry(1, 0, 512); /* the table itself */
  CHECK(place_by_order(4) == 0);
}

/* Entries of an external data file, with clusters of 512 bytes: 64 of them map 32 KiB. */
void test_in_place(void)
{
  const uint64_t copied = UINT64_C(1) << 63, reach = 64 * 512;
  uint8_t table[512] = { 0 };

  CHECK(!qcow2_residue_are_in_place(table, 64, 1, 9)); /* none leads anywhere */
  be64_put(table, copied | reach);
  be64_put(table + 5 * 8, copied | (reach + 5 * 512));
  CHECK(qcow2_residue_are_in_place(table, 64, 1, 9));
  CHECK(!qcow2_residue_are_in_place(table, 64, 1, 10)); /* they would be larger clusters */
  be64_put(table + 5 * 8, copied | (reach + 6 * 512));
  CHECK(!qcow2_residue_are_in_place(table, 64, 1, 9));
  be64_put(table + 5 * 8, copied | (2 * reach + 5 * 512)); /* in another part of the disk */
  CHECK(!qcow2_residue_are_in_place(table, 64, 1, 9));
}

/* ---- Refcounts ---------------------------------------------------------------------- */

static void put_refcount(unsigned block, unsigned cluster, unsigned refcount)
{
  file[block * 512 + cluster * 2 + 1] = (uint8_t) refcount;
}

/* True if the cluster 1 can be the refcount table of a file with a data cluster 5. */
static bool is_refcount_table(struct qcow2_guessed_refcounts *refcounts)
{
  static uint8_t block[512];
  static const struct qcow2_storage storage = { .read = read_file, .size = sizeof(file) };
  static uint64_t work;
  uint64_t tables[1] = { 5 * 512 };

  work = 1 << 20;
  *refcounts = (struct qcow2_guessed_refcounts){
    .storage = &storage, .cluster_bits = 9, .work = &work, .block = block
  };
  return qcow2_guessed_refcounts_try(refcounts, 512, tables, 1);
}

void test_guessed_refcounts(void)
{
  struct qcow2_guessed_refcounts refcounts;
  uint64_t tables[1] = { 5 * 512 };

  memset(file, 0, sizeof(file));
  put_entry(1, 0, 2 * 512);
  put_entry(7, 0, 8 * 512); /* another one */
  for (unsigned block = 2; block <= 8; block += 6)
    for (unsigned cluster = 1; cluster < 9; cluster++)
      put_refcount(block, cluster, 1);
  CHECK(is_refcount_table(&refcounts) && refcounts.order == 4 && refcounts.in_use == 1);
  CHECK(qcow2_guessed_refcount(&refcounts, 5 * 512) == 1);
  CHECK(!qcow2_guessed_refcounts_try(&refcounts, 7 * 512, tables, 1)); /* it is no better */
  CHECK(refcounts.table_offset == 512);
  *refcounts.work = 4096;
  CHECK(qcow2_guessed_refcount(&refcounts, 5 * 512) == -1); /* that is not enough for two reads */
  put_refcount(2, 1, 2);
  CHECK(!is_refcount_table(&refcounts));
  put_refcount(2, 1, 1);
  put_refcount(2, 2, 0);
  CHECK(!is_refcount_table(&refcounts));
  put_refcount(2, 2, 1);
  put_entry(1, 0, 2 * 512 + 8); /* this is where no block begins */
  CHECK(!is_refcount_table(&refcounts));
  put_entry(9, 0, 9 * 512); /* a table that is its own block, which counts it */
  put_refcount(9, 9, 1);
  CHECK(!qcow2_guessed_refcounts_try(&refcounts, 9 * 512, tables, 1));
}
