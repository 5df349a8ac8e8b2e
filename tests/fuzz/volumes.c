/* SPDX-License-Identifier: MIT */
/*
 * The start of a disk, that of a file system, and landmarks. What is recognised lies where it can
 * be, and each landmark of a file system is recognised, but not as another one.
 *
 * Checksums would keep a fuzzer out, so they are made right before, if the first byte says so.
 */
#include "../../core/residue/volumes.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"
#include "fuzz.h"

#define LANDMARKS_MAX 200u
#define EXT_START 1024u
#define EXT_BYTES 1024u

struct looking {
  struct fuzz_input rest; /* what follows the head */
  uint8_t head[VOLUME_HEAD_BYTES];
  uint64_t start, room;
  uint8_t bytes[LANDMARK_BYTES_MAX];
};

static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t length)
{
  for (size_t i = 0; i < length; i++)
    for (unsigned bit = 0; bit < 8; bit++) {
      bool is_odd = ((crc ^ bytes[i] >> bit) & 1) != 0;

      crc = crc >> 1 ^ (is_odd ? UINT32_C(0x82f63b78) : 0);
    }
  return crc;
}

static void repair_ext(uint8_t *superblock)
{
  le32_put(superblock + EXT_BYTES - 4, crc32c(UINT32_MAX, superblock, EXT_BYTES - 4));
}

static void repair_gpt(uint8_t *sector)
{
  uint32_t length = le32_get(sector + 12);

  le32_put(sector + 16, 0);
  if (length <= DISK_SECTOR_BYTES)
    le32_put(sector + 16, (uint32_t) crc32(0, sector, length));
}

static void take_bytes(struct fuzz_input *input, uint8_t *out, size_t length)
{
  size_t count = (size_t) min_u64(length, input->length);

  memset(out, 0, length);
  if (count > 0)
    memcpy(out, input->bytes, count);
  input->bytes += count;
  input->length -= count;
}

/* ---- Landmarks --------------------------------------------------------------------- */

/* Ask for as many bytes as the landmark has, and no more. */
static bool has(const struct qcow2_volume *volume, const struct qcow2_landmark *landmark,
                const uint8_t *bytes)
{
  uint8_t *exact = malloc(landmark->length);
  bool it_has;

  FUZZ_CHECK(exact != NULL);
  memcpy(exact, bytes, landmark->length);
  it_has = qcow2_volume_has(volume, landmark, exact);
  free(exact);
  return it_has;
}

/* Write into looking->bytes what stands at a landmark, as the file system's own head is. False: its
   head does not say that. */
static bool make(struct looking *looking, const struct qcow2_volume *volume, uint32_t number)
{
  uint8_t *bytes = looking->bytes;

  memset(bytes, 0, sizeof(looking->bytes));
  switch (volume->kind) {
  case VOLUME_EXT:
    memcpy(bytes, looking->head + EXT_START, EXT_BYTES);
    bytes[90] = (uint8_t) number;
    bytes[91] = (uint8_t) (number >> 8);
    repair_ext(bytes);
    return true;
  case VOLUME_XFS:
    memcpy(bytes, looking->head, DISK_SECTOR_BYTES);
    be32_put(bytes + volume->sector_bytes, 0x58414746); /* "XAGF" */
    be32_put(bytes + volume->sector_bytes + 8, number);
    return true;
  case VOLUME_NTFS: memcpy(bytes, looking->head, DISK_SECTOR_BYTES); return number == 1;
  case VOLUME_GPT:
  case VOLUME_UNKNOWN: break;
  }
  return false;
}

static void look_at_landmark(struct looking *looking, const struct qcow2_volume *volume,
                             uint32_t number)
{
  struct qcow2_landmark landmark, other;

  if (!qcow2_volume_landmark(volume, number, &landmark))
    return;
  FUZZ_CHECK(landmark.number == number && !landmark.is_bitmap);
  FUZZ_CHECK(landmark.length > 0 && landmark.length <= LANDMARK_BYTES_MAX);
  FUZZ_CHECK(landmark.guest_offset >= volume->start);
  FUZZ_CHECK(landmark.guest_offset - volume->start < volume->bytes);
  has(volume, &landmark, looking->bytes);
  if (!make(looking, volume, number))
    return;
  FUZZ_CHECK(has(volume, &landmark, looking->bytes));
  other = landmark;
  other.number++;
  FUZZ_CHECK(!has(volume, &other, looking->bytes));
}

static void look_at_bitmap(struct looking *looking, const struct qcow2_volume *volume)
{
  uint8_t description[EXT_GROUP_BYTES];
  struct qcow2_landmark landmark;
  uint32_t group = (uint32_t) fuzz_take(&looking->rest, 4);

  take_bytes(&looking->rest, description, sizeof(description));
  if (volume->groups_offset == 0 || !qcow2_volume_bitmap(volume, group, description, &landmark))
    return;
  FUZZ_CHECK(landmark.is_bitmap && landmark.number == group);
  FUZZ_CHECK(landmark.length > 0 && landmark.length <= LANDMARK_BYTES_MAX);
  FUZZ_CHECK(landmark.guest_offset - volume->start < volume->bytes);
  take_bytes(&looking->rest, looking->bytes, sizeof(looking->bytes));
  FUZZ_CHECK(has(volume, &landmark, looking->bytes) ==
             (landmark.checksum == crc32c(volume->checksum_seed, looking->bytes, landmark.length)));
}

static void look_at_volume(struct looking *looking)
{
  struct qcow2_volume volume;

  if (!qcow2_volume_recognise(looking->head, looking->start, looking->room, &volume)) {
    FUZZ_CHECK(volume.kind == VOLUME_UNKNOWN);
    return;
  }
  FUZZ_CHECK(volume.kind > VOLUME_GPT && volume.start == looking->start);
  FUZZ_CHECK(volume.bytes <= looking->room && volume.bytes <= UINT64_MAX - volume.start);
  take_bytes(&looking->rest, looking->bytes, 2 * DISK_SECTOR_BYTES);
  for (uint32_t i = 1; i <= volume.landmarks && i <= LANDMARKS_MAX; i++)
    look_at_landmark(looking, &volume, i);
  for (uint32_t i = volume.landmarks; i > LANDMARKS_MAX && i + 8 > volume.landmarks; i--)
    look_at_landmark(looking, &volume, i);
  if (volume.kind == VOLUME_EXT)
    look_at_bitmap(looking, &volume);
}

/* ---- The start of the disk ----------------------------------------------------------- */

/* The copy of a GPT is recognised where the GPT says that it is. */
static void look_at_gpt(struct looking *looking, const struct qcow2_disk_start *start)
{
  struct qcow2_landmark landmark;
  struct qcow2_volume volume;

  qcow2_volume_of_gpt(start, &volume);
  FUZZ_CHECK(volume.kind == VOLUME_GPT);
  if (volume.landmarks == 0)
    return;
  FUZZ_CHECK(volume.landmarks == 1 && qcow2_volume_landmark(&volume, 1, &landmark));
  FUZZ_CHECK(landmark.guest_offset == start->copy_offset && landmark.length == DISK_SECTOR_BYTES);
  memcpy(looking->bytes, looking->head + DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
  le64_put(looking->bytes + 24, start->copy_offset / DISK_SECTOR_BYTES);
  repair_gpt(looking->bytes);
  FUZZ_CHECK(has(&volume, &landmark, looking->bytes));
  looking->bytes[20] ^= 1;
  FUZZ_CHECK(!has(&volume, &landmark, looking->bytes));
}

static void look_at_start(struct looking *looking)
{
  struct fuzz_input entries = looking->rest;
  struct qcow2_disk_start start;
  uint8_t entry[GPT_ENTRY_BYTES];

  qcow2_disk_start_look(looking->head, looking->room, &start);
  FUZZ_CHECK((start.kind == DISK_START_MBR) == (start.count > 0));
  FUZZ_CHECK(start.entry_count <= DISK_PARTITIONS_MAX);
  if (start.kind == DISK_START_GPT)
    look_at_gpt(looking, &start);
  while (entries.length > 0) {
    take_bytes(&entries, entry, sizeof(entry));
    qcow2_disk_start_add(&start, entry, looking->room);
  }
  FUZZ_CHECK(start.count <= DISK_PARTITIONS_MAX);
  for (uint32_t i = 0; i < start.count; i++) {
    FUZZ_CHECK(start.partitions[i].start > 0 && start.partitions[i].start < looking->room);
    FUZZ_CHECK(start.partitions[i].length > 0);
  }
}

void fuzz_volumes(const uint8_t *data, size_t size)
{
  struct looking *looking = calloc(1, sizeof(*looking));
  bool is_repaired;

  FUZZ_CHECK(looking != NULL);
  looking->rest = (struct fuzz_input){ data, size };
  is_repaired = (fuzz_take(&looking->rest, 1) & 1) != 0;
  looking->start = fuzz_take(&looking->rest, 8);
  looking->room = fuzz_take(&looking->rest, 8);
  take_bytes(&looking->rest, looking->head, sizeof(looking->head));
  if (is_repaired) {
    repair_ext(looking->head + EXT_START);
    repair_gpt(looking->head + DISK_SECTOR_BYTES);
  }
  look_at_start(looking);
  look_at_volume(looking);
  free(looking);
}
