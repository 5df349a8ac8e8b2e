/* SPDX-License-Identifier: MIT */
/*
 * L1 and L2 tables. The first bytes choose the geometry and what is asked, the rest is what the
 * file holds, over and over again: so every table offset leads to a table, however large the
 * clusters. The answer must be that of a model which looks at one byte at a time.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"
#include "../../core/read/mapping.h"
#include "fuzz.h"

#define CACHE_BYTES 65536u

/* A file whose bytes repeat: 16 bytes, the longest entry, divide the period. */
struct repeated {
  const uint8_t *bytes;
  size_t period;
  uint64_t size; /* bytes */
};

static int read_repeated(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct repeated *file = context;
  uint8_t *out = buffer;

  FUZZ_CHECK(length > 0 && range_fits(offset, length, file->size));
  for (size_t at = 0; at < length;) {
    size_t from = (size_t) ((offset + at) % file->period);
    size_t count = (size_t) min_u64(length - at, file->period - from);

    memcpy(out + at, file->bytes + from, count);
    at += count;
  }
  return 0;
}

static uint64_t word_at(const struct repeated *file, uint64_t offset)
{
  return be64_get(file->bytes + offset % file->period);
}

/* ---- The model ---------------------------------------------------------- */

enum answer {
  ANSWER_ERROR,
  ANSWER_KIND
};

/* What there is to say of one guest byte. */
struct meaning {
  enum answer answer;
  enum qcow2_cluster_kind kind;
  uint64_t host_offset; /* of the byte, or of the compressed stream */
};

/* Extended entries: the subcluster's two bits. `place` is of the byte. */
static struct meaning extended_meaning(uint64_t bitmap, uint64_t subcluster, bool allocated,
                                       uint64_t place)
{
  bool data = (bitmap >> subcluster & 1) != 0, zero = (bitmap >> (subcluster + 32) & 1) != 0;

  if (data && (zero || !allocated))
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
  if (data)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_NORMAL, place };
  if (zero && allocated)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_ZERO_ALLOCATED, place };
  return (struct meaning){ ANSWER_KIND, zero ? QCOW2_CLUSTER_ZERO : QCOW2_CLUSTER_UNALLOCATED,
                           QCOW2_NO_OFFSET };
}

static struct meaning standard_meaning(uint64_t word, bool allocated, uint64_t place,
                                       uint32_t version)
{
  bool zero = (word & 1) != 0;

  if (zero && version == 2)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
  if (!allocated)
    return (struct meaning){ ANSWER_KIND, zero ? QCOW2_CLUSTER_ZERO : QCOW2_CLUSTER_UNALLOCATED,
                             QCOW2_NO_OFFSET };
  return (struct meaning){ ANSWER_KIND, zero ? QCOW2_CLUSTER_ZERO_ALLOCATED : QCOW2_CLUSTER_NORMAL,
                           place };
}

/* Version 1: all bits of a word are its offset, unless the highest is set. */
static struct meaning version_1_meaning(const struct qcow2_geometry *geometry, uint64_t word,
                                        uint64_t in_cluster)
{
  unsigned length_bits = geometry->cluster_bits;

  if (word >> 63 != 0)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_COMPRESSED,
                             word << (1 + length_bits) >> (1 + length_bits) };
  if (word == 0)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_UNALLOCATED, QCOW2_NO_OFFSET };
  if (word % geometry->cluster_size != 0 || word >> 56 != 0)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
  return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_NORMAL, word + in_cluster };
}

static struct meaning entry_meaning(const struct qcow2_geometry *geometry, uint64_t word,
                                    uint64_t bitmap, uint64_t guest_offset)
{
  uint64_t offset = word >> 9 << 17 >> 8, in_cluster = guest_offset % geometry->cluster_size;
  bool start_of_data = geometry->has_data_file && word >> 63 != 0 &&
                       (geometry->extended_l2 || (word & 1) == 0 || guest_offset == in_cluster);
  bool allocated = offset != 0 || start_of_data;

  if (geometry->version == 1)
    return version_1_meaning(geometry, word, in_cluster);
  if ((word >> 62 & 1) != 0) {
    if (geometry->has_data_file)
      return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_COMPRESSED,
                             word << (geometry->cluster_bits - 6) >> (geometry->cluster_bits - 6) };
  }
  if (offset % geometry->cluster_size != 0 ||
      (geometry->has_data_file && allocated && offset != guest_offset - in_cluster))
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
  if (geometry->extended_l2)
    return extended_meaning(bitmap, in_cluster * 32 / geometry->cluster_size, allocated,
                            offset + in_cluster);
  return standard_meaning(word, allocated, offset + in_cluster, geometry->version);
}

static struct meaning meaning_of(const struct qcow2_tables *tables, uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  const struct repeated *file = tables->slices.storage->context;
  uint64_t l2_entries = geometry->version == 1
                            ? UINT64_C(1) << geometry->l2_bits
                            : geometry->cluster_size / (geometry->extended_l2 ? 16 : 8);
  uint64_t cluster = guest_offset / geometry->cluster_size, l1_index = cluster / l2_entries;
  uint64_t entry_bytes = geometry->extended_l2 ? 16 : 8, word, l2_offset, entry;

  if (l1_index >= tables->l1_size)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_UNALLOCATED, QCOW2_NO_OFFSET };
  if (tables->l1_offset == 0 || !range_fits(tables->l1_offset + l1_index * 8, 8, file->size))
    return (struct meaning){ .answer = ANSWER_ERROR };
  word = word_at(file, tables->l1_offset + l1_index * 8);
  l2_offset = word >> 9 << 17 >> 8;
  if (geometry->version == 1 && word != l2_offset)
    return (struct meaning){ ANSWER_KIND, QCOW2_CLUSTER_INVALID, QCOW2_NO_OFFSET };
  if (l2_offset == 0 || l2_offset % geometry->cluster_size != 0)
    return (struct meaning){ ANSWER_KIND,
                             l2_offset == 0 ? QCOW2_CLUSTER_UNALLOCATED : QCOW2_CLUSTER_INVALID,
                             QCOW2_NO_OFFSET };
  entry = l2_offset + cluster % l2_entries * entry_bytes;
  if (!range_fits(entry, entry_bytes, file->size))
    return (struct meaning){ .answer = ANSWER_ERROR };
  return entry_meaning(geometry, word_at(file, entry), word_at(file, entry + 8), guest_offset);
}

/* ---- Checks ------------------------------------------------------------- */

/* Compare the mapping with the model at one of the mapping's bytes. */
static void check_byte(const struct qcow2_tables *tables, const struct qcow2_mapping *mapping,
                       uint64_t guest_offset)
{
  struct meaning meaning = meaning_of(tables, guest_offset);
  uint64_t host_offset = mapping->host_offset;

  if (mapping->kind == QCOW2_CLUSTER_NORMAL || mapping->kind == QCOW2_CLUSTER_ZERO_ALLOCATED)
    host_offset += guest_offset - mapping->guest_offset;
  FUZZ_CHECK(meaning.answer == ANSWER_KIND);
  FUZZ_CHECK(meaning.kind == mapping->kind);
  FUZZ_CHECK(meaning.host_offset == host_offset);
}

static void check_shape(const struct qcow2_tables *tables, const struct qcow2_mapping *mapping,
                        uint64_t guest_offset, uint64_t length)
{
  uint64_t in_cluster = guest_offset % tables->geometry->cluster_size;

  FUZZ_CHECK(mapping->guest_offset == guest_offset);
  FUZZ_CHECK(mapping->length > 0 && mapping->length <= length);
  FUZZ_CHECK((mapping->problem != NULL) == (mapping->kind == QCOW2_CLUSTER_INVALID));
  if (mapping->kind == QCOW2_CLUSTER_COMPRESSED) {
    FUZZ_CHECK(in_cluster + mapping->length <= tables->geometry->cluster_size);
    FUZZ_CHECK(mapping->host_bytes <= 2 * tables->geometry->cluster_size);
    FUZZ_CHECK(
        tables->geometry->version == 1 ||
        (mapping->host_bytes > 0 && (mapping->host_offset + mapping->host_bytes) % 512 == 0));
  } else
    FUZZ_CHECK(mapping->host_bytes == 0);
}

/* Asked again at one of its bytes, a run must say the same of what is left of it. */
static void check_again(const struct qcow2_tables *tables, const struct qcow2_mapping *first,
                        uint64_t skip)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_mapping again;
  uint64_t left = first->length - skip;

  FUZZ_CHECK(qcow2_mapping_find(tables, first->guest_offset + skip, left, &again, &error) == 0);
  FUZZ_CHECK(again.kind == first->kind);
  FUZZ_CHECK(again.length <= left);
  FUZZ_CHECK(again.problem == first->problem);
  check_byte(tables, &again, again.guest_offset);
}

static void check_mapping(const struct qcow2_tables *tables, uint64_t guest_offset, uint64_t length)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_mapping mapping;
  int code = qcow2_mapping_find(tables, guest_offset, length, &mapping, &error);

  fuzz_check_result(code, &error);
  if (code != 0) {
    FUZZ_CHECK(meaning_of(tables, guest_offset).answer == ANSWER_ERROR);
    FUZZ_CHECK(mapping.length > 0);
    FUZZ_CHECK(meaning_of(tables, guest_offset + mapping.length - 1).answer == ANSWER_ERROR);
    return;
  }
  check_shape(tables, &mapping, guest_offset, length);
  check_byte(tables, &mapping, guest_offset);
  check_byte(tables, &mapping, guest_offset + mapping.length / 2);
  check_byte(tables, &mapping, guest_offset + mapping.length - 1);
  check_again(tables, &mapping, mapping.length / 2);
  check_again(tables, &mapping, mapping.length - 1);
}

/* ---- The target --------------------------------------------------------- */

static struct qcow2_geometry version_1_geometry(unsigned bits)
{
  struct qcow2_header header = { .version = 1,
                                 .cluster_bits = CLUSTER_BITS_MIN + bits % 8,
                                 .l2_bits = 6 + bits / 8 % 8 };

  return qcow2_geometry_of(&header);
}

static struct qcow2_geometry take_geometry(struct fuzz_input *input)
{
  unsigned flags = (unsigned) fuzz_take(input, 1), bits = (unsigned) fuzz_take(input, 1);
  bool extended = (flags & 1) != 0, data_file = (flags & 2) != 0, version_2 = (flags & 7) == 4;
  unsigned smallest = extended ? CLUSTER_BITS_MIN_EXTENDED : CLUSTER_BITS_MIN;
  struct qcow2_header header = { .version = version_2 ? 2 : 3,
                                 .cluster_bits = smallest +
                                                 bits % (CLUSTER_BITS_MAX + 1 - smallest) };

  if ((flags & 15) == 8)
    return version_1_geometry(bits);
  header.incompatible_features = (extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0) |
                                 (data_file ? QCOW2_INCOMPATIBLE_DATA_FILE : 0);
  return qcow2_geometry_of(&header);
}

void fuzz_mapping(const uint8_t *data, size_t size)
{
  struct fuzz_input input = { data, size };
  struct qcow2_geometry geometry = take_geometry(&input);
  struct repeated file = { .bytes = NULL };
  struct qcow2_storage storage = { .context = &file, .read = read_repeated };
  struct qcow2_tables tables = {
    .geometry = &geometry, .slices = { .storage = &storage, .cluster_size = geometry.cluster_size }
  };
  uint64_t reach, guest_offset, length;

  tables.l1_size = 1 + (uint32_t) fuzz_take(&input, 1) % 64;
  tables.l1_offset = fuzz_take(&input, 1) % 4 * geometry.cluster_size;
  file.size = (fuzz_take(&input, 4) << (fuzz_take(&input, 1) % 32)) + 1;
  reach = (uint64_t) (tables.l1_size + 1) << (geometry.cluster_bits + geometry.l2_bits);
  guest_offset = fuzz_take(&input, 8) % reach;
  length = 1 + fuzz_take(&input, 4);
  file.bytes = input.bytes;
  file.period = input.length / 16 * 16;
  if (file.period == 0)
    return;
  storage.size = file.size;
  tables.slices.cache = qcow2_cache_new(CACHE_BYTES, false, 0);
  FUZZ_CHECK(tables.slices.cache != NULL);
  check_mapping(&tables, guest_offset, length);
  check_mapping(&tables, guest_offset - guest_offset % geometry.cluster_size,
                UINT64_MAX - guest_offset);
  qcow2_cache_free(tables.slices.cache);
}
