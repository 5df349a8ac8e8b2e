/* SPDX-License-Identifier: MIT */
#include "partitions.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECTOR_BYTES 512u
#define BLOCK_BYTES_MAX 65536u
/* The most partitions that are listed, and of the text about one. */
#define LISTED_MAX 6u
#define DESCRIPTION_BYTES 32

static struct tsk_qcow2_vs *open_table(struct tsk_qcow2_inner_image *image)
{
  struct tsk_qcow2_vs *vs = tsk_qcow2_libtsk()->vs_open(tsk_qcow2_inner_image_img(image), 0, 0);

  if (vs != NULL && vs->tag != LIBTSK_VS_TAG)
    return NULL;
  return vs;
}

unsigned tsk_qcow2_partitions_unit(struct tsk_qcow2_inner_image *image)
{
  struct tsk_qcow2_vs *vs = open_table(image);
  unsigned unit = SECTOR_BYTES;

  if (vs == NULL)
    return unit;
  if (vs->block_bytes > unit && vs->block_bytes <= BLOCK_BYTES_MAX)
    unit = vs->block_bytes;
  tsk_qcow2_libtsk()->vs_close(vs);
  return unit;
}

char *tsk_qcow2_partitions_list(struct tsk_qcow2_inner_image *image, char out[PARTITIONS_BYTES])
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  struct tsk_qcow2_vs *vs = open_table(image);
  const struct tsk_qcow2_part *part;
  char description[DESCRIPTION_BYTES];
  size_t used, listed = 0;

  if (vs == NULL) {
    snprintf(out, PARTITIONS_BYTES, "mmls finds no partition table; without one, START is 0");
    return out;
  }
  used = (size_t) snprintf(out, PARTITIONS_BYTES, "partitions begin at sector");
  for (uint32_t i = 0; (part = libtsk->vs_part_get(vs, i)) != NULL; i++) {
    if (part->tag != LIBTSK_PART_TAG || (part->flags & LIBTSK_PART_ALLOCATED) == 0)
      continue;
    if (listed == LISTED_MAX) {
      snprintf(out + used, PARTITIONS_BYTES - used, ", and more");
      break;
    }
    qcow2_text_escape(part->description, strlen(part->description), description,
                      sizeof(description));
    used += (size_t) snprintf(out + used, PARTITIONS_BYTES - used, "%s %" PRIu64 " (%s)",
                              listed == 0 ? "" : ",", part->start, description);
    listed++;
  }
  if (listed == 0)
    snprintf(out, PARTITIONS_BYTES, "its partition table is empty");
  libtsk->vs_close(vs);
  return out;
}
