/* SPDX-License-Identifier: MIT */
/* L1, L2 and refcount tables look alike: what they point to tells which they are. */
#include <stdlib.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../format/cluster.h"
#include "inventory.h"

/* The most entries of a table that are followed. Of these, the most whose clusters are read, to see
   whether they are refcount blocks. */
#define FOLLOWED_MAX 32u
#define BLOCKS_READ_MAX 2u

/* What the entries of a table lead to. */
struct leads {
  unsigned count, tables, blocks;
  bool has_compressed, has_flags;
};

static int compare_clusters(const void *one, const void *other)
{
  const uint64_t *a = one, *b = other;

  return *a < *b ? -1 : *a > *b;
}

/* True if the cluster looks like a table, or is an L2 table that is in use. */
static bool is_l2(const struct qcow2_inventory *inventory, uint64_t cluster)
{
  return qcow2_residue_map_is_walked(&inventory->window.map, cluster) ||
         bsearch(&cluster, inventory->tables, inventory->table_count, sizeof(cluster),
                 compare_clusters) != NULL;
}

static bool is_block(const struct qcow2_inventory *inventory, uint64_t host_offset)
{
  qcow2_inventory_read(inventory, host_offset, inventory->mask,
                       inventory->looks.geometry->cluster_size);
  return qcow2_residue_classify(&inventory->looks, inventory->mask) == QCOW2_RESIDUE_REFCOUNT_BLOCK;
}

/* Follow entries of the table whose bytes are at hand. */
static struct leads follow(const struct qcow2_inventory *inventory)
{
  const struct qcow2_geometry *geometry = inventory->looks.geometry;
  struct leads leads = { .count = 0 };

  for (uint32_t at = 0; at < geometry->cluster_size && leads.count < FOLLOWED_MAX; at += 8) {
    uint64_t word = be64_get(inventory->bytes + at), offset = word & TABLE_OFFSET_MASK;

    leads.has_flags = leads.has_flags || (word & ~TABLE_OFFSET_MASK) != 0;
    leads.has_compressed = leads.has_compressed || (word & L2_ENTRY_COMPRESSED) != 0;
    if (offset == 0 || !is_aligned(offset, geometry->cluster_size))
      continue;
    leads.tables += is_l2(inventory, offset >> geometry->cluster_bits);
    leads.blocks += leads.count < BLOCKS_READ_MAX && !leads.has_flags &&
                    is_block(inventory, offset);
    leads.count++;
  }
  return leads;
}

static enum qcow2_residue_kind tell(const struct qcow2_inventory *inventory)
{
  struct leads leads = follow(inventory);

  if (leads.count == 0 || leads.has_compressed ||
      (inventory->looks.geometry->has_data_file &&
       qcow2_residue_is_used_l2(&inventory->looks, inventory->bytes)))
    return QCOW2_RESIDUE_L2;
  if (!leads.has_flags &&
      leads.blocks == (leads.count < BLOCKS_READ_MAX ? leads.count : BLOCKS_READ_MAX))
    return QCOW2_RESIDUE_REFCOUNT_TABLE;
  return leads.tables * 2 >= leads.count ? QCOW2_RESIDUE_L1 : QCOW2_RESIDUE_L2;
}

void qcow2_inventory_tables(struct qcow2_inventory *inventory)
{
  uint32_t size = inventory->looks.geometry->cluster_size;

  for (size_t i = 0; i < inventory->table_count; i++) {
    uint64_t offset = inventory->tables[i] * size;
    enum qcow2_residue_kind kind;

    qcow2_inventory_read(inventory, offset, inventory->bytes, size);
    kind = tell(inventory);
    inventory->result->kind_bytes[kind] += min_u64(size, inventory->storage->size - offset);
    qcow2_inventory_report(inventory, kind, offset);
  }
}
