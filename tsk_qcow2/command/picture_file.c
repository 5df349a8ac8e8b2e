/* SPDX-License-Identifier: MIT */
/* A picture of the image file. */
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "pictures.h"

enum file_class {
  FILE_ACTIVE,
  FILE_SHARED,
  FILE_SNAPSHOT,
  FILE_TABLES,
  FILE_REFCOUNTS,
  FILE_LEAKED,
  FILE_RESIDUE,
  FILE_HOLE,
  FILE_UNCHECKED,
  FILE_CLASSES
};

static const struct picture_class CLASSES[FILE_CLASSES] = {
  [FILE_ACTIVE] = { "data: active disk only", "#0072b2", "#ffffff", PATTERN_PLAIN },
  [FILE_SHARED] = { "data: active disk and snapshots", "#009e73", "#ffffff", PATTERN_RISING },
  [FILE_SNAPSHOT] = { "data: snapshots only", "#56b4e9", "#00314d", PATTERN_DOTS },
  [FILE_TABLES] = { "header and tables", "#cc79a7", "#4a1230", PATTERN_HORIZONTAL },
  [FILE_REFCOUNTS] = { "refcounts", "#f0e442", "#4d4800", PATTERN_VERTICAL },
  [FILE_LEAKED] = { "leaked: only marked as used", "#e69f00", "#4d3500", PATTERN_GRID },
  [FILE_RESIDUE] = { "residue: free, but stored", "#8c8c8c", "#ffffff", PATTERN_FALLING },
  [FILE_HOLE] = { "holes", "", "", PATTERN_EMPTY },
  [FILE_UNCHECKED] = { "not looked at", "#ffffff", "#5c5c5c", PATTERN_GRID },
};

static enum file_class class_of(const struct qcow2_cluster_run *run)
{
  if ((run->uses & QCOW2_USE_REFCOUNTS) != 0)
    return FILE_REFCOUNTS;
  if ((run->uses & ~(unsigned) (QCOW2_USE_DATA | QCOW2_USE_COMPRESSED)) != 0)
    return FILE_TABLES;
  if (run->uses != 0)
    return !run->of_snapshot ? FILE_ACTIVE : run->of_active ? FILE_SHARED : FILE_SNAPSHOT;
  if (run->is_leaked)
    return FILE_LEAKED;
  return run->is_stored ? FILE_RESIDUE : FILE_HOLE;
}

static void add_clusters(void *context, const struct qcow2_cluster_run *run)
{
  picture_add(context, class_of(run), run->host_offset, run->length);
}

/* Mark what is wrong, except that space is wasted. */
static int mark_finding(void *context, const struct qcow2_finding *finding)
{
  struct picture *picture = context;

  if (finding->weight == QCOW2_WEIGHT_LEAK)
    return 1; /* all findings of this kind are leaks */
  if (finding->table_offset != QCOW2_NO_OFFSET)
    picture_mark(picture, finding->table_offset, 1);
  else if (finding->host_offset != QCOW2_NO_OFFSET)
    picture_mark(picture, finding->host_offset, 1);
  return 0;
}

static void start_file(struct picture *picture, const struct qcow2_layer_info *layer)
{
  picture_start(picture, layer->file_size, UINT64_C(1) << layer->header->cluster_bits);
  picture->id = "image-file";
  picture->title = "The image file, by what each cluster of it is";
  picture->whole = "file";
  picture->note = layer->header->data_file != NULL || layer->data_format != NULL ||
                          (layer->header->incompatible_features & QCOW2_INCOMPATIBLE_DATA_FILE) != 0
                      ? "The data of the disk are in another file, which is not shown."
                      : "Residue inside of clusters that are in use is not shown.";
  memcpy(picture->classes, CLASSES, sizeof(CLASSES));
  picture->class_count = FILE_CLASSES;
}

int picture_of_file(const struct qcow2_image *image, struct picture **result,
                    struct qcow2_error *error)
{
  struct picture *picture = malloc(sizeof(*picture));
  struct qcow2_check_options options = { .struct_size = sizeof(options),
                                         .report = mark_finding,
                                         .context = picture,
                                         .clusters = add_clusters };
  struct qcow2_check_result found;
  struct qcow2_layer_info layer;
  uint64_t done = 0;
  int code = picture == NULL ? tsk_qcow2_complain_nomem(error)
                             : qcow2_layer_get(image, 0, &layer, error);

  if (code == 0) {
    start_file(picture, &layer);
    code = qcow2_image_check(image, &options, &found, error);
  }
  if (code != 0) {
    free(picture);
    return code;
  }
  for (unsigned i = 0; i < FILE_CLASSES; i++)
    done += picture->bytes[i];
  picture_add(picture, FILE_UNCHECKED, done, layer.file_size - done);
  picture->is_incomplete = !found.is_complete || qcow2_snapshot_lost_count(image) > 0 ||
                           qcow2_bitmap_lost_count(image) > 0;
  if (picture->is_incomplete)
    picture->note = "Not all tables could be looked at, so some of this may be wrong.";
  *result = picture;
  return 0;
}
