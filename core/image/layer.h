/* SPDX-License-Identifier: MIT */
/* One file of the chain: a qcow2 image with its data file, or a file that contains the bytes of the
   disk itself, which is raw, or in a format that the caller opened. */
#ifndef QCOW2_LAYER_H
#define QCOW2_LAYER_H

#include "contents.h"
#include "../format/geometry.h"
#include "../format/header.h"
#include "../read/cluster_reader.h"
#include "../read/mapping.h"
#include "../storage/gate.h"

/* It cannot be copied or moved: it contains pointers to its own members. */
struct qcow2_layer {
  struct qcow2_opened_file file;
  struct qcow2_opened_file data_file; /* none unless the image has an external data file */
  bool is_raw;                        /* its bytes are those of the disk */
  const char *format;                 /* static */
  const char *data_format;            /* of the data file; static, NULL: none */
  bool is_probed; /* no image declared its format, so no reference of it is followed */
  char warning[QCOW2_FOREIGN_WARNING_BYTES]; /* from open_foreign, for it or its data file; empty:
                                                none */
  uint64_t file_size;                        /* bytes */
  uint64_t size;                             /* virtual size, bytes */
  bool is_killed;                            /* wiped as XCP-ng does it, as the survey found out */
  uint64_t needed_size; /* bytes that the file must have, as far as the survey found out */
  /* Of a qcow2 file only: */
  struct qcow2_metadata metadata;
  struct qcow2_geometry geometry;
  struct qcow2_tables tables; /* of the active disk */
  bool is_given;              /* the layout is the caller's (layout.h) */
  unsigned layout_flags;      /* of that: QCOW2_LAYOUT_... */
  char *lost_header; /* why its header cannot be read; NULL: it can. Nothing reads refcounts then */
  struct qcow2_cipher *cipher; /* NULL: not encrypted, or not unlocked */
  /* Of both: */
  struct qcow2_cluster_source source;
};

/* What the layers of an image share. */
struct qcow2_shared {
  struct qcow2_cache *coarse_cache;  /* large blocks for small reads */
  struct qcow2_cache *small_cache;   /* small blocks for small reads, and table slices */
  struct qcow2_cache *cluster_cache; /* decoded clusters */
  struct qcow2_decompressor_pool *pool;
  struct qcow2_ahead *ahead; /* NULL: QCOW2_OPEN_NO_THREADS */
};

/* Make a layer of an opened file, which it owns from the call on, also on failure. `number` is its
   number in the chain, which is part of the keys of its blocks in the caches. The caller frees it
   with qcow2_layer_free(). `header_length` replaces the header's length if that cannot be right; 0:
   none is given. Errors: NOMEM; for qcow2 also those of the header. */
int qcow2_layer_new_raw(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                        uint64_t number, const struct qcow2_contents *contents,
                        struct qcow2_layer **layer, struct qcow2_error *error);
int qcow2_layer_new_qcow2(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                          uint64_t number, uint32_t header_length, struct qcow2_layer **layer,
                          struct qcow2_error *error);

/* The same, of metadata that the header says or would say. The layer owns it from the call on, also
   on failure. Errors: NOMEM. */
int qcow2_layer_new_of(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                       uint64_t number, struct qcow2_metadata *metadata, struct qcow2_layer **layer,
                       struct qcow2_error *error);

/* Read and decode the header of a file. On success the caller frees *metadata with
   qcow2_metadata_free(). Errors: those of the header, IO, NOMEM. */
int qcow2_layer_read_header(const struct qcow2_opened_file *file, uint32_t header_length,
                            struct qcow2_metadata *metadata, struct qcow2_error *error);

/* True if there is no L1 table: the caller said so. */
static inline bool qcow2_layer_has_no_l1(const struct qcow2_layer *layer)
{
  return (layer->layout_flags & QCOW2_LAYOUT_NO_L1) != 0;
}

/* NULL is allowed. */
void qcow2_layer_free(struct qcow2_layer *layer);

/* Give a qcow2 layer its data file, which the layer then owns. `contents` is how it was opened. */
void qcow2_layer_set_data_file(struct qcow2_layer *layer, struct qcow2_opened_file *data_file,
                               const struct qcow2_contents *contents);

/* Give a qcow2 layer the cipher for its normal clusters, which the layer then owns. */
void qcow2_layer_set_cipher(struct qcow2_layer *layer, struct qcow2_cipher *cipher);

/* Find out by the file's first bytes if it is a qcow2 image, and of which version: see
   qcow2_format_qcow_version(). Errors: IO. */
int qcow2_layer_probe(const struct qcow2_opened_file *file, uint32_t *version,
                      struct qcow2_error *error);

/* Map `guest_offset` in this layer alone, for at most `length` bytes. `tables` and `size` are those
   of the layer, or of a snapshot. Bytes past `size` are ZERO: no lower layer is read there. Errors:
   those of qcow2_mapping_find(). */
int qcow2_layer_map(const struct qcow2_layer *layer, const struct qcow2_tables *tables,
                    uint64_t size, uint64_t guest_offset, uint64_t length,
                    struct qcow2_mapping *mapping, struct qcow2_error *error);

/* End a run of stored bytes at the end of the file. The bytes that are missing are another run,
   which fails at its first byte. An encrypted sector can only be read as a whole. */
void qcow2_layer_cut_at_file_end(const struct qcow2_layer *layer, struct qcow2_mapping *mapping);

/* True if the mapping is of bytes that read as zeros, but have a host cluster in a standard L2
   entry. Not for subclusters: it is not known whether their stored bytes were ever read by the
   guest. */
bool qcow2_layer_is_covered(const struct qcow2_layer *layer, const struct qcow2_mapping *mapping);

/* Turn such a mapping into one of the stored bytes. */
void qcow2_layer_uncover(const struct qcow2_layer *layer, struct qcow2_mapping *mapping);

#endif
