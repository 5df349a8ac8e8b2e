/* SPDX-License-Identifier: MIT */
#include "cluster.h"

#include "../base/checked.h"

/* The bits of subcluster 0 in an extended entry's bitmap: "allocated", "reads as zeros". */
#define SUBCLUSTER_0_BITS (UINT64_C(1) << 32 | 1)

/* ---- Rules ------------------------------------------------------------- */

/* True for an allocated cluster at offset 0 of an external data file. Only bit 63 distinguishes it
   from one that is unallocated or, with the zero flag, has no host cluster. QEMU keeps that bit
   when zeros are written over the disk's first cluster, though it then takes it for one without. */
static bool is_data_file_start(const struct qcow2_geometry *geometry, uint64_t descriptor)
{
  return geometry->has_data_file && (descriptor & L2_ENTRY_COPIED) != 0;
}

bool qcow2_l2_entry_is_allocated(const struct qcow2_geometry *geometry, uint64_t descriptor)
{
  return (descriptor & TABLE_OFFSET_MASK) != 0 || is_data_file_start(geometry, descriptor);
}

/* The same for the cluster at a guest offset. Zeros that are not the disk's first have no host
   cluster at offset 0. */
static bool is_allocated_at(const struct qcow2_geometry *geometry, uint64_t descriptor,
                            uint64_t guest_cluster)
{
  bool zero_flag = !geometry->extended_l2 && (descriptor & L2_ENTRY_ZERO) != 0;

  if (zero_flag && (descriptor & TABLE_OFFSET_MASK) == 0 && guest_cluster != 0)
    return false;
  return qcow2_l2_entry_is_allocated(geometry, descriptor);
}

const char *qcow2_l2_entry_offset_problem(const struct qcow2_geometry *geometry,
                                          uint64_t descriptor)
{
  if (!is_aligned(descriptor & TABLE_OFFSET_MASK, geometry->cluster_size))
    return "its host cluster offset is not a multiple of the cluster size";
  return NULL;
}

const char *qcow2_subcluster_bitmap_problem(uint64_t bitmap, bool is_allocated)
{
  uint32_t has_data = (uint32_t) bitmap, has_zero = (uint32_t) (bitmap >> 32);

  if ((has_data & has_zero) != 0)
    return "its bitmap marks a subcluster both allocated and zero";
  if (has_data != 0 && !is_allocated)
    return "its bitmap marks a subcluster allocated, but it has no host cluster";
  return NULL;
}

/* In version 1 all bits of an entry belong to its offset: none is masked out. */
static const char *version_1_offset_problem(const struct qcow2_geometry *geometry, uint64_t entry)
{
  if ((entry & ~TABLE_OFFSET_MASK) != 0 || !is_aligned(entry, geometry->cluster_size))
    return "its offset is not a multiple of the cluster size below 2^56";
  return NULL;
}

const char *qcow2_l1_entry_problem(const struct qcow2_geometry *geometry, uint64_t l1_entry)
{
  if (geometry->version == 1)
    return version_1_offset_problem(geometry, l1_entry);
  if (!is_aligned(l1_entry & TABLE_OFFSET_MASK, geometry->cluster_size))
    return "its L2 table offset is not a multiple of the cluster size";
  return NULL;
}

/* ---- Decoding ------------------------------------------------------------ */

static struct qcow2_cluster_part part_invalid(uint32_t length, const char *problem)
{
  return (struct qcow2_cluster_part){ .kind = QCOW2_CLUSTER_INVALID,
                                      .length = length,
                                      .host_offset = QCOW2_NO_OFFSET,
                                      .problem = problem };
}

/* A part without host bytes. */
static struct qcow2_cluster_part part_plain(enum qcow2_cluster_kind kind, uint32_t length)
{
  return (struct qcow2_cluster_part){
    .kind = kind,
    .length = length,
    .host_offset = QCOW2_NO_OFFSET,
  };
}

static struct qcow2_cluster_part part_allocated(enum qcow2_cluster_kind kind, uint32_t length,
                                                uint64_t host_offset)
{
  return (struct qcow2_cluster_part){ .kind = kind, .length = length, .host_offset = host_offset };
}

/* "Compressed Clusters Descriptor": the offset has x bits, the number of additional sectors the
   rest. */
static struct qcow2_cluster_part decode_compressed(const struct qcow2_geometry *geometry,
                                                   uint64_t descriptor, uint32_t length)
{
  unsigned x = 62 - (geometry->cluster_bits - 8);
  uint64_t host_offset = descriptor & ((UINT64_C(1) << x) - 1);
  uint32_t sectors = (uint32_t) ((descriptor & (L2_ENTRY_COMPRESSED - 1)) >> x) + 1;

  if (geometry->has_data_file)
    return part_invalid(length,
                        "it is compressed, which an image with an external data file cannot have");
  return (struct qcow2_cluster_part){ .kind = QCOW2_CLUSTER_COMPRESSED,
                                      .length = length,
                                      .host_offset = host_offset,
                                      .host_bytes = sectors * 512 -
                                                    (uint32_t) (host_offset & 511) };
}

/* "Standard Cluster Descriptor". */
static struct qcow2_cluster_part decode_standard(const struct qcow2_geometry *geometry,
                                                 uint64_t descriptor, bool allocated,
                                                 uint64_t host_offset, uint32_t length)
{
  bool zero = (descriptor & L2_ENTRY_ZERO) != 0;

  if (zero && geometry->version < 3)
    return part_invalid(length, "it has the zero flag, which version 2 does not know");
  if (!allocated)
    return part_plain(zero ? QCOW2_CLUSTER_ZERO : QCOW2_CLUSTER_UNALLOCATED, length);
  return part_allocated(zero ? QCOW2_CLUSTER_ZERO_ALLOCATED : QCOW2_CLUSTER_NORMAL, length,
                        host_offset);
}

/* The number of equal bits from bit 0 of `bits` on, at most 32. */
static uint32_t equal_bits(uint32_t bits)
{
  uint32_t changes = (bits & 1) != 0 ? ~bits : bits;

  return changes == 0 ? 32 : (uint32_t) __builtin_ctz(changes);
}

/* "Extended L2 Entries": the run of subclusters, from the one asked for, that have equal bits. */
static struct qcow2_cluster_part decode_extended(const struct qcow2_geometry *geometry,
                                                 uint64_t bitmap, bool allocated,
                                                 uint64_t host_offset, uint32_t in_cluster)
{
  uint32_t first = in_cluster / geometry->subcluster_size;
  uint32_t in_subcluster = in_cluster % geometry->subcluster_size;
  uint32_t has_data = (uint32_t) bitmap >> first;
  uint32_t has_zero = (uint32_t) (bitmap >> 32) >> first;
  uint32_t count = (uint32_t) min_u64(min_u64(equal_bits(has_data), equal_bits(has_zero)),
                                      SUBCLUSTERS_PER_CLUSTER - first);
  uint32_t length = count * geometry->subcluster_size - in_subcluster;
  const char *problem = qcow2_subcluster_bitmap_problem(bitmap >> first & SUBCLUSTER_0_BITS,
                                                        allocated);

  if (problem != NULL)
    return part_invalid(length, problem);
  if ((has_data & 1) != 0)
    return part_allocated(QCOW2_CLUSTER_NORMAL, length, host_offset);
  if ((has_zero & 1) != 0 && allocated)
    return part_allocated(QCOW2_CLUSTER_ZERO_ALLOCATED, length, host_offset);
  return part_plain((has_zero & 1) != 0 ? QCOW2_CLUSTER_ZERO : QCOW2_CLUSTER_UNALLOCATED, length);
}

static struct qcow2_cluster_part decode_version_1(const struct qcow2_geometry *geometry,
                                                  uint64_t descriptor, uint32_t in_cluster,
                                                  uint32_t length)
{
  unsigned x = 63 - geometry->cluster_bits;
  const char *problem = version_1_offset_problem(geometry, descriptor);

  if ((descriptor & L2_ENTRY_COMPRESSED_V1) != 0)
    return (struct qcow2_cluster_part){
      .kind = QCOW2_CLUSTER_COMPRESSED,
      .length = length,
      .host_offset = descriptor & ((UINT64_C(1) << x) - 1),
      .host_bytes = (uint32_t) (descriptor >> x) & (geometry->cluster_size - 1),
    };
  if (problem != NULL)
    return part_invalid(length, problem);
  return descriptor == 0 ? part_plain(QCOW2_CLUSTER_UNALLOCATED, length)
                         : part_allocated(QCOW2_CLUSTER_NORMAL, length, descriptor + in_cluster);
}

struct qcow2_cluster_part qcow2_l2_entry_decode(const struct qcow2_geometry *geometry,
                                                const struct qcow2_l2_entry *entry,
                                                uint64_t guest_offset)
{
  uint32_t in_cluster = geometry_in_cluster(geometry, guest_offset);
  uint32_t length = geometry->cluster_size - in_cluster;
  uint64_t host_cluster = entry->descriptor & TABLE_OFFSET_MASK;
  bool allocated = is_allocated_at(geometry, entry->descriptor, guest_offset - in_cluster);
  const char *problem = qcow2_l2_entry_offset_problem(geometry, entry->descriptor);

  if (geometry->version == 1)
    return decode_version_1(geometry, entry->descriptor, in_cluster, length);
  if ((entry->descriptor & L2_ENTRY_COMPRESSED) != 0)
    return decode_compressed(geometry, entry->descriptor, length);
  if (problem != NULL)
    return part_invalid(length, problem);
  if (geometry->has_data_file && allocated && host_cluster != guest_offset - in_cluster)
    return part_invalid(length,
                        "its offset in the external data file differs from its guest offset");
  if (geometry->extended_l2)
    return decode_extended(geometry, entry->subcluster_bitmap, allocated, host_cluster + in_cluster,
                           in_cluster);
  return decode_standard(geometry, entry->descriptor, allocated, host_cluster + in_cluster, length);
}
