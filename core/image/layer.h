/* SPDX-License-Identifier: MIT */
/* One file of the chain: a qcow2 image with its data file, or a file whose bytes are the disk's: a
   raw one, or one in another format that the caller opened. */
#ifndef QCOW2_LAYER_H
#define QCOW2_LAYER_H

#include "contents.h"
#include "../format/geometry.h"
#include "../format/header.h"
#include "../read/cluster_reader.h"
#include "../read/mapping.h"
#include "../storage/gate.h"

/* Does not move once made: its parts point at one another. */
struct qcow2_layer {
  struct qcow2_opened_file file;
  struct qcow2_opened_file data_file; /* none unless the image has an external data file */
  bool is_raw;                        /* its bytes are the disk's */
  const char *format;                 /* static */
  const char *data_format;            /* of the data file; static, NULL: none */
  bool is_probed; /* no image declared its format: what it refers to needs the user's word */
  char warning[QCOW2_FOREIGN_WARNING_BYTES]; /* of the caller who opened it or its data file; empty:
                                                none */
  uint64_t file_size;                        /* bytes */
  uint64_t size;                             /* virtual size, bytes */
  uint64_t needed_size; /* bytes that the file must have, as far as its tables were looked over */
  /* Of a qcow2 file only: */
  struct qcow2_metadata metadata;
  struct qcow2_geometry geometry;
  struct qcow2_tables tables;  /* of the active disk */
  struct qcow2_cipher *cipher; /* NULL: not encrypted, or not unlocked */
  /* Of both: */
  struct qcow2_cluster_source source;
};

/* What the layers of an image share. */
struct qcow2_shared {
  struct qcow2_cache *coarse_cache;  /* guest bytes for small reads, */
  struct qcow2_cache *small_cache;   /* those of them that take work, and table slices */
  struct qcow2_cache *cluster_cache; /* decoded clusters */
  struct qcow2_decompressor_pool *pool;
  struct qcow2_ahead *ahead; /* NULL: no threads are wanted */
};

/* Make a layer of an opened file, which it owns from the call on, also when it fails. `number`, its
   place in the chain, tells its blocks in the caches from other layers'. The caller frees it with
   qcow2_layer_free(). Errors: for qcow2 those of reading and decoding a header. */
int qcow2_layer_new_raw(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                        uint64_t number, const struct qcow2_contents *contents,
                        struct qcow2_layer **layer, struct qcow2_error *error);
int qcow2_layer_new_qcow2(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                          uint64_t number, struct qcow2_layer **layer, struct qcow2_error *error);

/* NULL is allowed. */
void qcow2_layer_free(struct qcow2_layer *layer);

/* Give a qcow2 layer its data file, which it owns from now on, and which was opened as `contents`
   says. */
void qcow2_layer_set_data_file(struct qcow2_layer *layer, struct qcow2_opened_file *data_file,
                               const struct qcow2_contents *contents);

/* Give a qcow2 layer the cipher of its normal clusters, which it owns from now on. */
void qcow2_layer_set_cipher(struct qcow2_layer *layer, struct qcow2_cipher *cipher);

/* Look at the file's first bytes: is it a qcow2 image? Errors: IO. */
int qcow2_layer_probe(const struct qcow2_opened_file *file, bool *is_qcow2,
                      struct qcow2_error *error);

/* What lies at `guest_offset` in this layer alone, for at most `length` bytes. `tables` and `size`
   are the layer's own, or a snapshot's. What lies past `size` is ZERO: it hides what is below.
   Errors: those of qcow2_mapping_find(). */
int qcow2_layer_map(const struct qcow2_layer *layer, const struct qcow2_tables *tables,
                    uint64_t size, uint64_t guest_offset, uint64_t length,
                    struct qcow2_mapping *mapping, struct qcow2_error *error);

/* True if the mapping is of bytes that read as zeros though a standard L2 entry keeps a host
   cluster for them. Of subclusters it cannot be told whether what is stored ever was the guest's
   there. */
bool qcow2_layer_is_covered(const struct qcow2_layer *layer, const struct qcow2_mapping *mapping);

/* Let such a mapping be one of what is stored. */
void qcow2_layer_uncover(const struct qcow2_layer *layer, struct qcow2_mapping *mapping);

#endif
