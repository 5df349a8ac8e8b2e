/* SPDX-License-Identifier: MIT */
/*
 * Table-driven tests of pure functions and of the cache. tests/test_unit.py runs each by name:
 *   unit            lists the tests
 *   unit NAME...    runs these; says what differs, and exits with 1
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/base/checked.h"
#include "../../core/format/cluster.h"
#include "../../core/format/formats.h"
#include "../../core/format/header.h"
#include "../../core/read/cache.h"
#include "../../core/read/slabs.h"
#include "../../core/read/streams.h"
#include "unit.h"

static int failures;

void check(int condition, const char *text, int line)
{
  if (condition)
    return;
  failures++;
  printf("line %d: not true: %s\n", line, text);
}

void check_number(uint64_t got, uint64_t expected, const char *what, const char *name)
{
  if (got == expected)
    return;
  failures++;
  printf("%s: %s is %" PRIu64 " (0x%" PRIx64 "), expected %" PRIu64 " (0x%" PRIx64 ")\n", name,
         what, got, got, expected, expected);
}

static struct qcow2_geometry geometry(uint32_t version, unsigned cluster_bits,
                                      uint64_t incompatible)
{
  struct qcow2_header header = { .version = version,
                                 .cluster_bits = cluster_bits,
                                 .incompatible_features = incompatible };

  return qcow2_geometry_of(&header);
}

/* ---- L2 entries ----------------------------------------------------------- */

#define NONE QCOW2_NO_OFFSET
#define COPIED L2_ENTRY_COPIED
#define EXTENDED QCOW2_INCOMPATIBLE_EXTENDED_L2
#define DATA_FILE QCOW2_INCOMPATIBLE_DATA_FILE
#define SUB_ALLOCATED(n) (UINT64_C(1) << (n))
#define SUB_ZERO(n) (UINT64_C(1) << ((n) + 32))

struct entry_case {
  const char *name;
  uint32_t version;
  unsigned cluster_bits;
  uint64_t features, descriptor, bitmap, guest_offset;
  enum qcow2_cluster_kind kind;
  uint64_t host_offset;
  uint32_t length, host_bytes;
};

static const struct entry_case ENTRIES[] = {
  /* Standard entries, 64 KiB clusters. */
  { "empty", 3, 16, 0, 0, 0, 0, QCOW2_CLUSTER_UNALLOCATED, NONE, 65536, 0 },
  { "normal", 3, 16, 0, COPIED | 0x50000, 0, 0, QCOW2_CLUSTER_NORMAL, 0x50000, 65536, 0 },
  { "normal, not COPIED", 3, 16, 0, 0x50000, 0, 0, QCOW2_CLUSTER_NORMAL, 0x50000, 65536, 0 },
  { "normal, inside", 3, 16, 0, COPIED | 0x50000, 0, 0x7ffff, QCOW2_CLUSTER_NORMAL, 0x5ffff, 1, 0 },
  { "normal, highest offset", 3, 16, 0, UINT64_C(0x00ffffffffff0000), 0, 0, QCOW2_CLUSTER_NORMAL,
    UINT64_C(0x00ffffffffff0000), 65536, 0 },
  { "reserved bits are ignored", 3, 16, 0, UINT64_C(0x3f00000000050000) | 0x1fe, 0, 0,
    QCOW2_CLUSTER_NORMAL, 0x50000, 65536, 0 },
  { "zero", 3, 16, 0, 1, 0, 0, QCOW2_CLUSTER_ZERO, NONE, 65536, 0 },
  { "zero, inside", 3, 16, 0, 1, 0, 100, QCOW2_CLUSTER_ZERO, NONE, 65436, 0 },
  { "zero, allocated", 3, 16, 0, COPIED | 0x50001, 0, 5, QCOW2_CLUSTER_ZERO_ALLOCATED, 0x50005,
    65531, 0 },
  { "zero flag in version 2", 2, 16, 0, 1, 0, 0, QCOW2_CLUSTER_INVALID, NONE, 65536, 0 },
  { "allocated zero flag in version 2", 2, 16, 0, 0x50001, 0, 0, QCOW2_CLUSTER_INVALID, NONE, 65536,
    0 },
  { "normal in version 2", 2, 16, 0, 0x50000, 0, 0, QCOW2_CLUSTER_NORMAL, 0x50000, 65536, 0 },
  { "unaligned", 3, 16, 0, 0x50200, 0, 0, QCOW2_CLUSTER_INVALID, NONE, 65536, 0 },
  { "zero, allocated, unaligned", 3, 16, 0, 0x50201, 0, 0, QCOW2_CLUSTER_INVALID, NONE, 65536, 0 },
  { "512-byte clusters", 3, 9, 0, 0x50200, 0, 0, QCOW2_CLUSTER_NORMAL, 0x50200, 512, 0 },
  { "2 MiB clusters", 3, 21, 0, 0x200000, 0, 0x3fffff, QCOW2_CLUSTER_NORMAL, 0x3fffff, 1, 0 },
  /* Compressed: x = 62 - (cluster_bits - 8). With 64 KiB clusters the offset has 54 bits, the
     sectors 8. */
  { "compressed", 3, 16, 0, L2_ENTRY_COMPRESSED | 0x50000, 0, 0, QCOW2_CLUSTER_COMPRESSED, 0x50000,
    65536, 512 },
  { "compressed, odd offset", 3, 16, 0, L2_ENTRY_COMPRESSED | 0x50001, 0, 9,
    QCOW2_CLUSTER_COMPRESSED, 0x50001, 65527, 511 },
  { "compressed, bit 0 is no zero flag", 3, 16, 0, L2_ENTRY_COMPRESSED | 1, 0, 0,
    QCOW2_CLUSTER_COMPRESSED, 1, 65536, 511 },
  { "compressed, most sectors", 3, 16, 0,
    L2_ENTRY_COMPRESSED | UINT64_C(0x3fc0000000000000) | 0x50003, 0, 0, QCOW2_CLUSTER_COMPRESSED,
    0x50003, 65536, 256 * 512 - 3 },
  { "compressed, highest offset", 3, 16, 0, L2_ENTRY_COMPRESSED | UINT64_C(0x003fffffffffffff), 0,
    0, QCOW2_CLUSTER_COMPRESSED, UINT64_C(0x003fffffffffffff), 65536, 1 },
  { "compressed, 512-byte clusters", 3, 9, 0,
    L2_ENTRY_COMPRESSED | UINT64_C(0x2000000000000000) | 7, 0, 0, QCOW2_CLUSTER_COMPRESSED, 7, 512,
    1017 },
  { "compressed, 2 MiB clusters", 3, 21, 0, L2_ENTRY_COMPRESSED | UINT64_C(0x3ffe000000000000) | 1,
    0, 0, QCOW2_CLUSTER_COMPRESSED, 1, 2097152, 8192 * 512 - 1 },
  { "compressed with COPIED", 3, 16, 0, COPIED | L2_ENTRY_COMPRESSED | 0x50000, 0, 0,
    QCOW2_CLUSTER_COMPRESSED, 0x50000, 65536, 512 },
  /* External data file. */
  { "data file, in place", 3, 16, DATA_FILE, COPIED | 0x50000, 0, 0x50010, QCOW2_CLUSTER_NORMAL,
    0x50010, 65520, 0 },
  { "data file, elsewhere", 3, 16, DATA_FILE, COPIED | 0x50000, 0, 0x60000, QCOW2_CLUSTER_INVALID,
    NONE, 65536, 0 },
  { "data file, offset 0 with COPIED", 3, 16, DATA_FILE, COPIED, 0, 0, QCOW2_CLUSTER_NORMAL, 0,
    65536, 0 },
  { "data file, offset 0 without COPIED", 3, 16, DATA_FILE, 0, 0, 0, QCOW2_CLUSTER_UNALLOCATED,
    NONE, 65536, 0 },
  { "data file, offset 0 elsewhere", 3, 16, DATA_FILE, COPIED, 0, 0x10000, QCOW2_CLUSTER_INVALID,
    NONE, 65536, 0 },
  { "data file, zero", 3, 16, DATA_FILE, COPIED | 1, 0, 0x10000, QCOW2_CLUSTER_ZERO, NONE, 65536,
    0 },
  { "data file, zeros over the first cluster", 3, 16, DATA_FILE, COPIED | 1, 0, 0,
    QCOW2_CLUSTER_ZERO_ALLOCATED, 0, 65536, 0 },
  { "data file, compressed", 3, 16, DATA_FILE, L2_ENTRY_COMPRESSED | 0x50000, 0, 0,
    QCOW2_CLUSTER_INVALID, NONE, 65536, 0 },
  { "no data file, offset 0 with COPIED", 3, 16, 0, COPIED, 0, 0, QCOW2_CLUSTER_UNALLOCATED, NONE,
    65536, 0 },
  /* Extended entries: 16 KiB clusters of 32 subclusters of 512 bytes. */
  { "extended, nothing", 3, 14, EXTENDED, 0, 0, 0, QCOW2_CLUSTER_UNALLOCATED, NONE, 16384, 0 },
  { "extended, all allocated", 3, 14, EXTENDED, 0x8000, 0xffffffff, 0, QCOW2_CLUSTER_NORMAL, 0x8000,
    16384, 0 },
  { "extended, first allocated", 3, 14, EXTENDED, 0x8000, SUB_ALLOCATED(0), 1, QCOW2_CLUSTER_NORMAL,
    0x8001, 511, 0 },
  { "extended, hole in an allocated cluster", 3, 14, EXTENDED, 0x8000, SUB_ALLOCATED(0), 512,
    QCOW2_CLUSTER_UNALLOCATED, NONE, 15872, 0 },
  { "extended, last allocated", 3, 14, EXTENDED, 0x8000, SUB_ALLOCATED(31), 31 * 512,
    QCOW2_CLUSTER_NORMAL, 0x8000 + 31 * 512, 512, 0 },
  { "extended, zero", 3, 14, EXTENDED, 0, SUB_ZERO(3) | SUB_ZERO(4), 3 * 512 + 7,
    QCOW2_CLUSTER_ZERO, NONE, 1017, 0 },
  { "extended, zero in an allocated cluster", 3, 14, EXTENDED, 0x8000,
    SUB_ZERO(3) | SUB_ALLOCATED(4), 3 * 512, QCOW2_CLUSTER_ZERO_ALLOCATED, 0x8000 + 3 * 512, 512,
    0 },
  { "extended, bit 0 is no zero flag", 3, 14, EXTENDED, 0x8001, SUB_ALLOCATED(0), 0,
    QCOW2_CLUSTER_NORMAL, 0x8000, 512, 0 },
  { "extended, both bits", 3, 14, EXTENDED, 0x8000, SUB_ZERO(3) | SUB_ALLOCATED(3), 3 * 512,
    QCOW2_CLUSTER_INVALID, NONE, 512, 0 },
  { "extended, both bits elsewhere", 3, 14, EXTENDED, 0x8000,
    SUB_ZERO(3) | SUB_ALLOCATED(3) | SUB_ALLOCATED(2), 1024, QCOW2_CLUSTER_NORMAL, 0x8000 + 1024,
    512, 0 },
  { "extended, allocated without a cluster", 3, 14, EXTENDED, 0, SUB_ALLOCATED(3), 3 * 512,
    QCOW2_CLUSTER_INVALID, NONE, 512, 0 },
  { "extended, compressed ignores the bitmap", 3, 14, EXTENDED, L2_ENTRY_COMPRESSED | 0x8000,
    ~UINT64_C(0), 512, QCOW2_CLUSTER_COMPRESSED, 0x8000, 15872, 512 },
  { "extended, unaligned", 3, 14, EXTENDED, 0x8200, 0xffffffff, 0, QCOW2_CLUSTER_INVALID, NONE,
    16384, 0 },
  { "extended, data file, offset 0", 3, 14, EXTENDED | DATA_FILE, COPIED, SUB_ALLOCATED(0), 0,
    QCOW2_CLUSTER_NORMAL, 0, 512, 0 },
};

static void test_l2_entries(void)
{
  for (size_t i = 0; i < sizeof(ENTRIES) / sizeof(ENTRIES[0]); i++) {
    const struct entry_case *test = &ENTRIES[i];
    struct qcow2_geometry g = geometry(test->version, test->cluster_bits, test->features);
    struct qcow2_l2_entry entry = { test->descriptor, test->bitmap };
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(&g, &entry, test->guest_offset);

    check_number((uint64_t) part.kind, (uint64_t) test->kind, "kind", test->name);
    check_number(part.host_offset, test->host_offset, "host offset", test->name);
    check_number(part.length, test->length, "length", test->name);
    check_number(part.host_bytes, test->host_bytes, "host bytes", test->name);
    check_number(part.problem != NULL, test->kind == QCOW2_CLUSTER_INVALID, "having a problem",
                 test->name);
  }
}

/* Every pattern of the two bits over three neighbouring subclusters, from every subcluster on: the
   run must be what a naive walk finds. */
static void test_subcluster_runs(void)
{
  struct qcow2_geometry g = geometry(3, 14, EXTENDED);

  for (unsigned pattern = 0; pattern < 4096; pattern++)
    for (unsigned first = 0; first < 32; first++) {
      struct qcow2_l2_entry entry = { 0x8000, 0 };
      unsigned end = first + 1;
      struct qcow2_cluster_part part;

      for (unsigned n = 0; n < 32; n++)
        entry.subcluster_bitmap |= (uint64_t) (pattern >> (n % 6) & 1) << n |
                                   (uint64_t) (pattern >> (6 + n % 6) & 1) << (n + 32);
      while (end < 32 && ((entry.subcluster_bitmap >> end ^ entry.subcluster_bitmap >> first) &
                          UINT64_C(0x100000001)) == 0)
        end++;
      part = qcow2_l2_entry_decode(&g, &entry, first * 512);
      if (part.length != (end - first) * 512)
        check_number(part.length, (end - first) * 512, "run length", "a pattern of subclusters");
    }
}

static void test_l1_entries(void)
{
  struct qcow2_geometry g = geometry(3, 16, 0);

  CHECK(qcow2_l1_entry_problem(&g, COPIED | 0x50000) == NULL);
  CHECK(qcow2_l1_entry_problem(&g, UINT64_C(0x7f00000000050000) | 0x1ff) ==
        NULL); /* reserved bits */
  CHECK(qcow2_l1_entry_problem(&g, 0x50200) != NULL);
}

/* ---- Geometry ------------------------------------------------------------- */

static void test_geometry(void)
{
  struct qcow2_geometry small = geometry(3, 9, 0), large = geometry(3, 21, EXTENDED);

  check_number(small.cluster_size, 512, "cluster size", "512 bytes");
  check_number(small.l2_bits, 6, "L2 bits", "512 bytes");
  check_number(qcow2_geometry_l1_entries(&small, 0), 0, "L1 entries for 0 bytes", "512 bytes");
  check_number(qcow2_geometry_l1_entries(&small, 1), 1, "L1 entries for 1 byte", "512 bytes");
  check_number(qcow2_geometry_l1_entries(&small, 32768), 1, "L1 entries for 32 KiB", "512 bytes");
  check_number(qcow2_geometry_l1_entries(&small, 32769), 2, "L1 entries for 32 KiB + 1",
               "512 bytes");
  check_number(qcow2_geometry_l1_entries(&small, UINT64_MAX), UINT64_C(1) << 49,
               "L1 entries for 2^64 - 1", "512 bytes");
  check_number(large.subcluster_size, 65536, "subcluster size", "2 MiB extended");
  check_number(large.l2_bits, 17, "L2 bits", "2 MiB extended");
  check_number(geometry_l1_index(&small, 32768), 1, "L1 index", "512 bytes");
  check_number(geometry_l2_index(&small, 32768 + 512 * 63 + 511), 63, "L2 index", "512 bytes");
  check_number(geometry_in_cluster(&small, 32768 + 511), 511, "offset in cluster", "512 bytes");
}

static void test_checked_arithmetic(void)
{
  CHECK(range_fits(0, 0, 0));
  CHECK(range_fits(10, 0, 10));
  CHECK(!range_fits(10, 1, 10));
  CHECK(!range_fits(11, 0, 10));
  CHECK(!range_fits(UINT64_MAX, 2, 10));
  CHECK(!range_fits(2, UINT64_MAX, 10));
  CHECK(range_fits(UINT64_MAX - 1, 1, UINT64_MAX));
  CHECK(divide_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
  CHECK(divide_up(0, 7) == 0);
  CHECK(divide_up(8, 7) == 2);
}

/* ---- Header --------------------------------------------------------------- */

static void test_header_probe(void)
{
  const uint8_t *v2 = (const uint8_t *) "QFI\xfb\0\0\0\2";

  CHECK(qcow2_format_qcow_version(v2, 8) == 2);
  CHECK(qcow2_format_qcow_version((const uint8_t *) "QFI\xfb\0\0\0\x09", 8) == 9);
  CHECK(qcow2_format_qcow_version((const uint8_t *) "QFI\xfb\0\0\0\1", 8) == 1);
  CHECK(qcow2_format_qcow_version((const uint8_t *) "QFI\xfb\0\0\0\0", 8) == 0);
  CHECK(qcow2_format_qcow_version(v2, 7) == 0);
  CHECK(qcow2_format_qcow_version((const uint8_t *) "QFI\xfa\0\0\0\2", 8) == 0);
  CHECK(qcow2_format_qcow_version(v2, 0) == 0);
}

/* ---- Text ----------------------------------------------------------------- */

static void test_text_escape(void)
{
  static const struct {
    const char *text, *expected;
    size_t size;
  } cases[] = {
    { "plain", "plain", 64 },
    { "caf\xc3\xa9", "caf\xc3\xa9", 64 },
    { "a\nb\x1b[31m", "a\\x0ab\\x1b[31m", 64 },
    { "back\\slash", "back\\x5cslash", 64 },
    { "\xff\xc3", "\\xff\\xc3", 64 },
    { "\xc0\x80", "\\xc0\\x80", 64 },          /* overlong NUL */
    { "\xed\xa0\x80", "\\xed\\xa0\\x80", 64 }, /* surrogate */
    { "\xe2\x80\xae"
      "x",
      "\\xe2\\x80\\xaex", 64 },       /* right-to-left override */
    { "\xc2\x9b", "\\xc2\\x9b", 64 }, /* C1 control */
    { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", 64 },
    { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", 64 }, /* above U+10FFFF */
    { "0123456789", "0123456789", 11 },
    { "0123456789", "012345...", 10 },
    { "\n\n\n", "\\x0a...", 8 },
    { "abc", "", 1 },
  };
  char out[64];

  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    memset(out, '#', sizeof(out));
    qcow2_text_escape(cases[i].text, strlen(cases[i].text), out, cases[i].size);
    if (strcmp(out, cases[i].expected) != 0) {
      failures++;
      printf("case %zu: \"%s\" instead of \"%s\"\n", i, out, cases[i].expected);
    }
  }
}

/* ---- What is guessed to be read next -------------------------------------------- */

static struct qcow2_streams streams;
static const struct qcow2_window even = { .copying = 8, .walking = 8 };

/* Reach each of the units from `first` on, `step` apart, below `end`; check how many are guessed at
   the last of them, and that the first is `next`. */
static void reach_units(uint64_t first, uint64_t end, uint64_t step, uint64_t expected,
                        uint64_t next, const char *name)
{
  uint64_t guessed[UNITS_GUESSED_MAX], count = 0;

  for (uint64_t unit = first; unit < end; unit += step)
    count = qcow2_streams_note(&streams, unit, false, &even, guessed);
  check_number(count, expected, "guessed units", name);
  if (count > 0)
    check_number(guessed[0], next, "the next", name);
}

static void test_streams_in_order(void)
{
  memset(&streams, 0, sizeof(streams));
  reach_units(1000, 1001, 1, 0, 0, "one unit is no order");
  reach_units(1001, 1002, 1, 3, 1002, "two are");
  reach_units(1002, 1100, 1, 8, 1100, "up to the window");
  reach_units(5000, 5003, 1, 4, 5003, "another place");
  reach_units(1100, 1101, 1, 8, 1101, "and back at the first");
}

static void test_streams_with_gaps(void)
{
  memset(&streams, 0, sizeof(streams));
  reach_units(0, 3000, 3, 3, 2998, "two of three skipped: the next three, of which one is right");
}

static void test_streams_out_of_order(void)
{
  memset(&streams, 0, sizeof(streams));
  reach_units(0, 400000, 1000, 0, 0, "jumps");
  memset(&streams, 0, sizeof(streams));
  for (uint64_t unit = 1000; unit > 0; unit--)
    reach_units(unit, unit + 1, 1, 0, 0, "backwards");
  memset(&streams, 0, sizeof(streams));
  reach_units(70, 71, 1, 0, 0, "the first");
  reach_units(0, 1, 1, 0, 0, "unit 0 was not reached before");
}

/* Only a reader that enters four units in a row at the first byte is believed to copy. */
static void test_streams_copying(void)
{
  static const struct qcow2_window window = { .copying = 8, .walking = 2 };
  uint64_t guessed[UNITS_GUESSED_MAX];

  memset(&streams, 0, sizeof(streams));
  for (uint64_t unit = 0; unit < 20; unit++)
    check_number(qcow2_streams_note(&streams, unit, unit >= 6, &window, guessed),
                 unit == 0  ? 0
                 : unit < 9 ? 2
                            : min_u64(8, 3 + unit / 2),
                 "guessed units", "copying from the sixth on");
  check_number(qcow2_streams_note(&streams, 21, true, &window, guessed), 2, "guessed units",
               "a gap");
  check_number(qcow2_streams_note(&streams, 22, false, &window, guessed), 2, "guessed units",
               "not at the first byte");
}

/* A second walk takes the steps of the first. */
static void test_streams_steps(void)
{
  static const uint64_t walk[] = { 70, 900, 13, 400, 24, 800 };

  memset(&streams, 0, sizeof(streams));
  for (int round = 0; round < 2; round++)
    for (size_t i = 0; i < 6; i++)
      reach_units(walk[i], walk[i] + 1, 1, round == 0 ? 0 : 8, walk[(i + 1) % 6],
                  "a walk, and again");
}

/* ---- The cache -------------------------------------------------------------- */

#define BLOCK 1000u

struct loads {
  unsigned count;
  int code; /* what to answer */
};

/* Fill a block with a byte that identifies its key. */
static int count_load(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                      struct qcow2_error *error)
{
  struct loads *loads = context;

  (void) error;
  __atomic_add_fetch(&loads->count, 1, __ATOMIC_RELAXED);
  memset(block->data, (int) ((key.offset + key.space) & 0xff), block->length);
  block->filled = block->length;
  return loads->code;
}

static int use_block(struct qcow2_cache *cache, uint64_t offset, struct loads *loads)
{
  struct qcow2_cache_key key = { 1, offset };
  struct qcow2_cache_block *block;
  int code = qcow2_cache_pin(cache, key, BLOCK, count_load, loads, &block, NULL);

  if (code != 0)
    return code;
  CHECK(block->filled == BLOCK && block->data[BLOCK - 1] == (uint8_t) (offset + 1));
  qcow2_cache_unpin(cache, block);
  return 0;
}

static void test_cache_hits(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(100 * BLOCK, false, 0);
  struct loads loads = { 0, 0 };

  for (uint64_t round = 0; round < 3; round++)
    for (uint64_t offset = 0; offset < 20; offset++)
      use_block(cache, offset, &loads);
  check_number(loads.count, 20, "loads", "20 blocks used three times");
  qcow2_cache_free(cache);
}

static void use_blocks(struct qcow2_cache *cache, uint64_t first, uint64_t end, struct loads *loads)
{
  for (uint64_t offset = first; offset < end; offset++)
    use_block(cache, offset, loads);
}

/* The budget holds, and what was used last stays. */
static void test_cache_eviction(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(20 * BLOCK, false, 0);
  struct loads loads = { 0, 0 };

  for (uint64_t offset = 100; offset < 200; offset++) {
    use_block(cache, offset, &loads);
    use_blocks(cache, 0, 10, &loads);
  }
  check_number(loads.count, 10 + 100, "loads", "blocks that are used between others");
  use_block(cache, 100, &loads);
  check_number(loads.count, 10 + 100 + 1, "loads", "a block that was used long ago");
  qcow2_cache_free(cache);
}

/* A block that fills the cache alone is used piece by piece without being loaded again, and pinned
   blocks may exceed the budget. */
static void test_cache_large_block(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(BLOCK, false, 0);
  struct qcow2_cache_block *first, *second;
  struct loads loads = { 0, 0 };

  for (int piece = 0; piece < 5; piece++)
    use_block(cache, 7, &loads);
  check_number(loads.count, 1, "loads", "one block in pieces");
  CHECK(qcow2_cache_pin(cache, (struct qcow2_cache_key){ 1, 8 }, BLOCK, count_load, &loads, &first,
                        NULL) == 0);
  CHECK(qcow2_cache_pin(cache, (struct qcow2_cache_key){ 1, 9 }, BLOCK, count_load, &loads, &second,
                        NULL) == 0);
  CHECK(first->data[0] == 9 && second->data[0] == 10);
  qcow2_cache_unpin(cache, first);
  qcow2_cache_unpin(cache, second);
  qcow2_cache_free(cache);
}

/* Four walks over `blocks` by a cache that holds fewer than 200. */
static unsigned loads_of_walks(uint64_t blocks, bool keeps_part)
{
  struct qcow2_cache *cache = qcow2_cache_new(200 * BLOCK, keeps_part, 0);
  struct loads loads = { 0, 0 };

  for (int round = 0; round < 4; round++)
    use_blocks(cache, 0, blocks, &loads);
  qcow2_cache_free(cache);
  return loads.count;
}

static void test_cache_walks(void)
{
  check_number(loads_of_walks(150, false), 150, "loads", "walks over what fits");
  check_number(loads_of_walks(150, true), 150, "loads", "walks over what fits");
  check_number(loads_of_walks(300, false), 4 * 300, "loads", "longer walks find nothing ...");
  CHECK(loads_of_walks(300, true) < 300 + 3 * 170); /* ... unless a part is kept */
}

/* Bytes are copied out of a block that is there, which counts as a use. */
static void test_cache_copy(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(4 * BLOCK, false, 0);
  struct loads loads = { 0, 0 };
  struct qcow2_cache_key key = { 1, 7 };
  uint8_t bytes[2] = { 0, 0 };

  CHECK(!qcow2_cache_copy(cache, key, 0, bytes, 1));
  CHECK(use_block(cache, 7, &loads) == 0);
  CHECK(qcow2_cache_copy(cache, key, BLOCK - 1, bytes, 1) && bytes[0] == 8 && bytes[1] == 0);
  qcow2_cache_load_ahead(cache, (struct qcow2_cache_key){ 1, 8 }, BLOCK, count_load, &loads);
  CHECK(qcow2_cache_copy(cache, (struct qcow2_cache_key){ 1, 8 }, 0, bytes, 2) && bytes[1] == 9);
  CHECK(qcow2_cache_is_used(cache, (struct qcow2_cache_key){ 1, 8 }));
  qcow2_cache_free(cache);
}

/* Fill a block, and look whether someone else gets it before that is done. */
static int load_and_look(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                         struct qcow2_error *error)
{
  struct qcow2_cache *cache = context;
  struct qcow2_cache_block *other;
  uint8_t byte;

  (void) error;
  memset(block->data, 8, block->length);
  block->filled = block->length;
  CHECK(!qcow2_cache_copy(cache, key, 0, &byte, 1) && !qcow2_cache_is_used(cache, key));
  CHECK(!qcow2_cache_pin_ready(cache, key, &other));
  return 0;
}

/* A block that is being loaded is not there yet. */
static void test_cache_while_it_loads(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(4 * BLOCK, false, 0);
  struct qcow2_cache_key key = { 1, 7 };
  struct qcow2_cache_block *block;
  uint8_t byte;

  CHECK(qcow2_cache_pin(cache, key, BLOCK, load_and_look, cache, &block, NULL) == 0);
  CHECK(qcow2_cache_copy(cache, key, 0, &byte, 1) && byte == 8);
  qcow2_cache_unpin(cache, block);
  qcow2_cache_free(cache);
}

/* What was loaded ahead counts as used from its first use on. */
static void test_cache_ahead(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(40 * BLOCK, false, 0);
  struct loads loads = { 0, 0 };
  struct qcow2_cache_block *block;
  struct qcow2_cache_key key = { 1, 7 };

  CHECK(!qcow2_cache_pin_ready(cache, key, &block));
  qcow2_cache_load_ahead(cache, key, BLOCK, count_load, &loads);
  qcow2_cache_load_ahead(cache, key, BLOCK, count_load, &loads);
  CHECK(loads.count == 1 && !qcow2_cache_is_used(cache, key));
  CHECK(qcow2_cache_pin_ready(cache, key, &block) && block->data[0] == 8);
  qcow2_cache_unpin(cache, block);
  CHECK(qcow2_cache_is_used(cache, key));
  loads.code = QCOW2_ERROR_IO;
  qcow2_cache_load_ahead(cache, (struct qcow2_cache_key){ 1, 8 }, BLOCK, count_load, &loads);
  loads.code = 0;
  CHECK(use_block(cache, 8, &loads) == 0); /* a failure ahead is forgotten */
  qcow2_cache_free(cache);
}

static void test_cache_failed_load(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(20 * BLOCK, false, 0);
  struct loads loads = { 0, QCOW2_ERROR_IO };

  CHECK(use_block(cache, 7, &loads) == QCOW2_ERROR_IO);
  CHECK(use_block(cache, 7, &loads) == QCOW2_ERROR_IO);
  loads.code = 0;
  CHECK(use_block(cache, 7, &loads) == 0);
  check_number(loads.count, 3, "loads", "a failed load is tried again");
  qcow2_cache_free(cache);
}

struct hammer {
  struct qcow2_cache *cache;
  struct loads *loads;
  unsigned seed;
};

static void *hammer_cache(void *context)
{
  struct hammer *hammer = context;

  for (int i = 0; i < 20000; i++) {
    hammer->seed = hammer->seed * 1103515245u + 12345u;
    use_block(hammer->cache, hammer->seed >> 16 & 63, hammer->loads);
  }
  return NULL;
}

/* A cache of five blocks holds twenty while the lender does not use its budget, and gives that back
   when the lender does. */
static void test_cache_lends(void)
{
  struct qcow2_cache *lender = qcow2_cache_new(40 * (BLOCK + 200), false, 0);
  struct qcow2_cache *borrower = qcow2_cache_new(5 * (BLOCK + 200), false, 0);
  struct loads loads = { 0, 0 }, lent = { 0, 0 };

  qcow2_cache_lend(lender, borrower);
  for (int round = 0; round < 3; round++)
    use_blocks(borrower, 0, 20, &loads);
  check_number(loads.count, 20, "loads", "twenty blocks, most of them in borrowed memory");
  use_blocks(borrower, 20, 40, &loads);
  use_blocks(borrower, 0, 20, &loads);
  check_number(loads.count, 60, "loads", "forty blocks: no more than twenty are held");
  use_blocks(lender, 0, 40, &lent);
  use_blocks(lender, 0, 40, &lent);
  check_number(lent.count, 40, "loads", "the lender has its whole budget");
  use_blocks(borrower, 10, 20, &loads);
  CHECK(loads.count >= 64); /* at most six were left */
  loads.count = 0;
  use_blocks(borrower, 15, 20, &loads);
  check_number(loads.count, 0, "loads", "the borrower has its own budget");
  qcow2_cache_free(borrower);
  qcow2_cache_free(lender);
}

static void test_cache_threads(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(16 * BLOCK, false,
                                              0); /* a quarter of what is asked for */
  struct loads loads = { 0, 0 };
  struct hammer hammers[4];
  pthread_t threads[4];

  for (unsigned i = 0; i < 4; i++) {
    hammers[i] = (struct hammer){ cache, &loads, i + 1 };
    CHECK(pthread_create(&threads[i], NULL, hammer_cache, &hammers[i]) == 0);
  }
  for (unsigned i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  CHECK(loads.count > 64 && loads.count < 4 * 20000);
  qcow2_cache_free(cache);
}

/* Blocks of the usual length stay whole while others come and go, and take their place. */
static void test_cache_slabs(void)
{
  struct qcow2_cache *cache = qcow2_cache_new(3 * SLAB_BYTES, true, BLOCK);
  struct loads loads = { 0, 0 };
  struct qcow2_cache_block *block;
  unsigned first_walk;

  use_blocks(cache, 0, 4000, &loads);
  check_number(loads.count, 4000, "loads", "blocks of two slabs");
  use_blocks(cache, 0, 4000, &loads);
  check_number(loads.count, 4000, "loads", "blocks that are there");
  use_blocks(cache, 0, 20000, &loads);
  first_walk = loads.count;
  for (uint64_t offset = 0; offset < 3000; offset++) {
    CHECK(qcow2_cache_pin(cache, (struct qcow2_cache_key){ 2, offset }, 3 * BLOCK, count_load,
                          &loads, &block, NULL) == 0);
    qcow2_cache_unpin(cache, block);
  }
  check_number(loads.count, first_walk + 3000, "loads", "blocks of another length");
  use_blocks(cache, 0, 20000, &loads);
  qcow2_cache_free(cache);
}

/* ---- Slabs ------------------------------------------------------------------ */

#define ITEMS 10000u

static void check_items(uint32_t *const *items, uint32_t step)
{
  for (uint32_t i = 0; i < ITEMS; i += step)
    CHECK(items[i][0] == i && items[i][BLOCK / 4 - 1] == i);
}

static void take_items(struct qcow2_slabs *slabs, uint32_t **items, uint32_t first, uint32_t step)
{
  for (uint32_t i = first; i < ITEMS; i += step) {
    bool is_in_slab;

    items[i] = qcow2_slabs_take(slabs, BLOCK, SLAB_BYTES, &is_in_slab);
    CHECK(items[i] != NULL && is_in_slab);
    if (items[i] != NULL)
      items[i][0] = items[i][BLOCK / 4 - 1] = i;
  }
}

/* No item is another's, whatever was given back before; and empty slabs are given back. */
static void test_slabs(void)
{
  static uint32_t *items[ITEMS];
  struct qcow2_slabs slabs = { .item_bytes = BLOCK };
  struct slab *with_room;

  take_items(&slabs, items, 0, 1);
  check_items(items, 1);
  with_room = slabs.with_room;
  for (uint32_t i = 1; i < ITEMS; i += 2)
    qcow2_slabs_give(&slabs, items[i], true);
  check_items(items, 2);
  take_items(&slabs, items, 1, 2);
  CHECK(slabs.with_room == with_room);
  check_items(items, 1);
  for (uint32_t i = 0; i < ITEMS; i++)
    qcow2_slabs_give(&slabs, items[(i * 7 + 3) % ITEMS], true);
  CHECK(slabs.with_room == NULL);
}

/* Items that are few, or not of the usual size, take no slab. */
static void test_slabs_are_not_for_all(void)
{
  static const struct {
    size_t bytes, held_bytes;
  } OTHERS[] = { { BLOCK, SLAB_BYTES - 1 }, { BLOCK + 1, SLAB_BYTES } };
  struct qcow2_slabs slabs = { .item_bytes = BLOCK };

  for (size_t i = 0; i < sizeof(OTHERS) / sizeof(OTHERS[0]); i++) {
    bool is_in_slab;
    void *item = qcow2_slabs_take(&slabs, OTHERS[i].bytes, OTHERS[i].held_bytes, &is_in_slab);

    CHECK(item != NULL && !is_in_slab && slabs.with_room == NULL);
    qcow2_slabs_give(&slabs, item, is_in_slab);
  }
}

/* ---- The list --------------------------------------------------------------- */

static const struct {
  const char *name;
  void (*run)(void);
} TESTS[] = {
  { "cache_eviction", test_cache_eviction },
  { "cache_large_block", test_cache_large_block },
  { "cache_walks", test_cache_walks },
  { "cache_copy", test_cache_copy },
  { "cache_while_it_loads", test_cache_while_it_loads },
  { "cache_ahead", test_cache_ahead },
  { "cache_failed_load", test_cache_failed_load },
  { "cache_hits", test_cache_hits },
  { "cache_lends", test_cache_lends },
  { "cache_slabs", test_cache_slabs },
  { "cache_threads", test_cache_threads },
  { "checked_arithmetic", test_checked_arithmetic },
  { "geometry", test_geometry },
  { "header_probe", test_header_probe },
  { "l1_entries", test_l1_entries },
  { "l2_entries", test_l2_entries },
  { "slabs", test_slabs },
  { "slabs_are_not_for_all", test_slabs_are_not_for_all },
  { "streams_in_order", test_streams_in_order },
  { "streams_with_gaps", test_streams_with_gaps },
  { "streams_out_of_order", test_streams_out_of_order },
  { "streams_copying", test_streams_copying },
  { "streams_steps", test_streams_steps },
  { "subcluster_runs", test_subcluster_runs },
  { "text_escape", test_text_escape },
  { "in_place", test_in_place },
  { "guessed_refcounts", test_guessed_refcounts },
  { "order", test_order },
  { "placed_doubt", test_placed_doubt },
  { "placed_for_one_place", test_placed_for_one_place },
  { "volume_bitmaps", test_volume_bitmaps },
  { "volume_ext", test_volume_ext },
  { "volume_gpt", test_volume_gpt },
  { "volume_ntfs", test_volume_ntfs },
  { "volume_xfs", test_volume_xfs },
#ifndef _WIN32
  { "compare", test_compare },
  { "compare_many_of_one_name", test_compare_many_of_one_name },
  { "damaged_ranges", test_damaged_ranges },
  { "damaged_ranges_without_end", test_damaged_ranges_without_end },
  { "image_names", test_image_names },
  { "mounted_names", test_mounted_names },
  { "mounted_paths", test_mounted_paths },
  { "mounted_same_names", test_mounted_same_names },
  { "long_complaints", test_long_complaints },
  { "paths_of_entries", test_paths_of_entries },
  { "selectors", test_selectors },
#endif
};

#define TEST_COUNT (sizeof(TESTS) / sizeof(TESTS[0]))

/* Returns 0 if there is no test of this name. */
static int run_test(const char *name)
{
  for (size_t i = 0; i < TEST_COUNT; i++) {
    if (strcmp(name, TESTS[i].name) == 0) {
      TESTS[i].run();
      return 1;
    }
  }
  return 0;
}

int main(int argc, char *argv[])
{
  for (size_t i = 0; argc < 2 && i < TEST_COUNT; i++)
    puts(TESTS[i].name);
  for (int i = 1; i < argc; i++) {
    if (!run_test(argv[i]))
      return 2;
  }
  return failures > 0;
}
