/* SPDX-License-Identifier: MIT */
#include "layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"

/* What only a header that can be read says. */
#define HEADER_FLAGS                                                             \
  ((unsigned) (QCOW2_LAYOUT_EXTENDED_L2 | QCOW2_LAYOUT_ZSTD | QCOW2_LAYOUT_AES | \
               QCOW2_LAYOUT_DATA_FILE))
#define L1_FLAGS ((unsigned) (QCOW2_LAYOUT_NO_L1 | QCOW2_LAYOUT_BY_ORDER))
/* Of a header that is lost: that of an image that QEMU makes. Nothing reads refcounts then. */
#define REFCOUNT_ORDER_USUAL 4u

/* A layout that cannot be. */
static int refuse(struct qcow2_error *error, const char *problem)
{
  return qcow2_error_add_help(error, qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "%s", problem),
                              QCOW2_HELP_LAYOUT, 0);
}

static bool has_no_l1(const struct qcow2_layout *layout)
{
  return (layout->flags & QCOW2_LAYOUT_NO_L1) != 0;
}

/* ---- What the header says -------------------------------------------------------- */

/* Without a header, the layout must have all that only the caller can know. */
static int begin_without_header(const struct qcow2_layout *layout, const struct qcow2_error *lost,
                                struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  char problem[sizeof(lost->message)];

  if (layout->cluster_bits == 0 || layout->size == 0 ||
      (layout->l1_offset == 0 && !has_no_l1(layout))) {
    snprintf(problem, sizeof(problem),
             "the header cannot be read (%.600s), so the cluster size, the disk's size and the L1 "
             "table must all be given",
             lost->message);
    return refuse(error, problem);
  }
  memset(metadata, 0, sizeof(*metadata));
  metadata->header.version = 3;
  metadata->header.header_length = HEADER_BYTES_V3;
  metadata->header.refcount_order = REFCOUNT_ORDER_USUAL;
  return 0;
}

/* The fields that a header does not say, or that are lost with it. */
static void set_lost_fields(const struct qcow2_layout *layout, bool has_data_file,
                            struct qcow2_metadata *metadata)
{
  struct qcow2_header *header = &metadata->header;

  if ((layout->flags & QCOW2_LAYOUT_EXTENDED_L2) != 0)
    header->incompatible_features |= QCOW2_INCOMPATIBLE_EXTENDED_L2;
  if ((layout->flags & QCOW2_LAYOUT_ZSTD) != 0) {
    header->incompatible_features |= QCOW2_INCOMPATIBLE_COMPRESSION;
    header->compression = QCOW2_COMPRESSION_ZSTD;
  }
  if (has_data_file || (layout->flags & QCOW2_LAYOUT_DATA_FILE) != 0)
    header->incompatible_features |= QCOW2_INCOMPATIBLE_DATA_FILE;
  if ((layout->flags & QCOW2_LAYOUT_AES) != 0)
    header->crypt_method = CRYPT_METHOD_AES;
  if (layout->luks_offset == 0)
    return;
  header->crypt_method = CRYPT_METHOD_LUKS;
  metadata->has_luks = true;
  metadata->luks_offset = layout->luks_offset;
  metadata->luks_length = INT64_MAX - layout->luks_offset;
}

static int apply(const struct qcow2_layout *layout, struct qcow2_header *header,
                 struct qcow2_error *error)
{
  struct qcow2_geometry geometry;

  header->cluster_bits = layout->cluster_bits != 0 ? layout->cluster_bits : header->cluster_bits;
  header->size = layout->size != 0 ? layout->size : header->size;
  header->l1_offset = layout->l1_offset != 0 ? layout->l1_offset : header->l1_offset;
  geometry = qcow2_geometry_of(header);
  if (geometry.extended_l2 && header->cluster_bits < CLUSTER_BITS_MIN_EXTENDED)
    return refuse(error, "extended L2 entries need clusters of at least 2^14 bytes");
  header->l1_size = (uint32_t) min_u64(qcow2_geometry_l1_entries(&geometry, header->size),
                                       UINT32_MAX);
  if (has_no_l1(layout))
    header->l1_offset = geometry.cluster_size; /* only the size is checked */
  switch (qcow2_geometry_l1_problem(&geometry, header->l1_offset, header->l1_size)) {
  case L1_TOO_LARGE:
    return refuse(error, "the size that is given needs an L1 table of more than 32 MiB");
  case L1_UNALIGNED:
  case L1_TOO_FAR:
  case L1_OVER_HEADER:
    return refuse(error, "the L1 table must be at a multiple of the cluster size below 2^63");
  case L1_FITS: break;
  }
  if (has_no_l1(layout))
    header->l1_offset = header->l1_size = 0;
  return 0;
}

static int check(const struct qcow2_layout *layout, struct qcow2_error *error)
{
  if ((layout->flags & ~(HEADER_FLAGS | L1_FLAGS)) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the layout has unknown flags");
  if (has_no_l1(layout) && layout->l1_offset != 0)
    return refuse(error, "the layout says where the L1 table is, and that there is none");
  if ((layout->flags & QCOW2_LAYOUT_AES) != 0 && layout->luks_offset != 0)
    return refuse(error, "an image is encrypted with legacy AES or with LUKS, not with both");
  if (layout->cluster_bits != 0 &&
      (layout->cluster_bits < CLUSTER_BITS_MIN || layout->cluster_bits > CLUSTER_BITS_MAX))
    return refuse(error, "the cluster size that is given must be 2^9 to 2^21 bytes");
  if (layout->luks_offset > INT64_MAX)
    return refuse(error, "no LUKS header is at 2^63 or after it");
  return 0;
}

/* ---- Opening --------------------------------------------------------------------- */

/* Decode the header, or make one of the layout alone. *lost becomes why there is none. */
static int read_metadata(const struct qcow2_opened_file *file,
                         const struct qcow2_open_options *options, struct qcow2_metadata *metadata,
                         char **lost, struct qcow2_error *error)
{
  const struct qcow2_layout *layout = options->layout;
  struct qcow2_error failure;
  int code = qcow2_layer_read_header(file, options->header_length, metadata, &failure);

  *lost = NULL;
  if (code == QCOW2_ERROR_NOMEM)
    return qcow2_error_set_nomem(error);
  if (code != 0) {
    code = begin_without_header(layout, &failure, metadata, error);
    if (code != 0)
      return code;
    *lost = qcow2_text_duplicate(failure.message);
    if (*lost == NULL)
      return qcow2_error_set_nomem(error);
    set_lost_fields(layout, options->data_file != NULL, metadata);
  } else if ((layout->flags & HEADER_FLAGS) != 0 || layout->luks_offset != 0)
    code = qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image has a header, which says how its L2 entries, its compressed "
                           "clusters and its encryption are: leave these out");
  if (code == 0)
    code = apply(layout, &metadata->header, error);
  if (code != 0)
    qcow2_metadata_free(metadata);
  return code;
}

int qcow2_layout_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                      const struct qcow2_shared *shared, struct qcow2_layer **out,
                      struct qcow2_error *error)
{
  struct qcow2_metadata metadata;
  char *lost = NULL;
  int code = check(options->layout, error);

  if (code == 0)
    code = read_metadata(file, options, &metadata, &lost, error);
  if (code != 0) {
    free(lost);
    qcow2_opened_file_close(file);
    return code;
  }
  code = qcow2_layer_new_of(file, shared, 0, &metadata, out, error);
  if (code != 0) {
    free(lost);
    return code;
  }
  (*out)->is_given = true;
  (*out)->layout_flags = options->layout->flags;
  (*out)->lost_header = lost;
  return 0;
}

/* ---- Warnings ---------------------------------------------------------------------- */

int qcow2_layout_warn(const struct qcow2_layer *layer, bool is_alone,
                      struct qcow2_warnings *warnings, struct qcow2_error *error)
{
  const struct qcow2_header *header = &layer->metadata.header;
  bool has_l1 = !qcow2_layer_has_no_l1(layer);
  char sentence[sizeof(error->message) + 400], offset[24] = "";
  int code;

  if (!layer->is_given)
    return 0;
  if (has_l1)
    snprintf(offset, sizeof(offset), "%" PRIu64, header->l1_offset);
  snprintf(sentence, sizeof(sentence),
           "guessed: %s%s%s the image is read by the layout that was given, with clusters of "
           "%" PRIu32 " bytes, a disk of %" PRIu64 " bytes, and %s%s",
           layer->lost_header == NULL ? "in place of what its header says," : "without a header (",
           layer->lost_header == NULL ? "" : layer->lost_header,
           layer->lost_header == NULL ? "" : "),", layer->geometry.cluster_size, header->size,
           has_l1 ? "the L1 table at host offset " : "no L1 table", offset);
  code = qcow2_warnings_add(warnings, layer->file.path, sentence, error);
  if (code != 0 || layer->lost_header == NULL || !is_alone)
    return code;
  return qcow2_warnings_add(warnings, layer->file.path,
                            "guessed: whether the image had a backing file is not known; what its "
                            "tables do not allocate reads as zeros",
                            error);
}
