/* SPDX-License-Identifier: MIT */
/* What cluster 0 of an image says, decoded ("Header", "Header extensions"). */
#ifndef QCOW2_FORMAT_METADATA_H
#define QCOW2_FORMAT_METADATA_H

#include <stdbool.h>

#include "../qcow2core.h"

#define HEADER_BYTES_V2 72u
#define HEADER_BYTES_V3 104u
#define BACKING_NAME_BYTES_MAX 1023u

/* Values of crypt_method; 0: not encrypted. */
#define CRYPT_METHOD_AES 1u
#define CRYPT_METHOD_LUKS 2u

/* Types of header extensions. */
#define EXTENSION_END UINT32_C(0)
#define EXTENSION_BACKING_FORMAT UINT32_C(0xE2792ACA)
#define EXTENSION_FEATURE_NAMES UINT32_C(0x6803F857)
#define EXTENSION_BITMAPS UINT32_C(0x23852875)
#define EXTENSION_ENCRYPTION UINT32_C(0x0537BE77)
#define EXTENSION_DATA_FILE UINT32_C(0x44415441)
#define EXTENSION_XCP_NG UINT32_C(0x76617465) /* 8 bytes, the first of which says "hidden" */

#define FEATURE_NAME_BYTES 46u
#define BITMAPS_EXTENSION_BYTES 24u

/* The most header extensions that are kept to be shown. Programs write a handful, but cluster 0 has
   room for 260,000 empty ones. */
#define EXTENSIONS_KEPT_MAX 1024u
/* The longest name of a format or file that is kept. No path of the system is longer. */
#define EXTENSION_NAME_BYTES_MAX 4095u

/* One entry of the feature name table. */
struct qcow2_feature_entry {
  uint8_t type; /* enum qcow2_feature_type */
  uint8_t bit;
  char name[FEATURE_NAME_BYTES + 1];
};

/* All that cluster 0 says. Owns its memory. */
struct qcow2_metadata {
  struct qcow2_header header;
  struct qcow2_extension *extensions; /* the first EXTENSIONS_KEPT_MAX */
  size_t extension_count;
  bool has_more_extensions;
  uint8_t *extension_data; /* what the extensions' `data` point into */
  struct qcow2_feature_entry *features;
  size_t feature_count;
  bool has_bitmaps;               /* there is a bitmaps extension: */
  struct qcow2_extension bitmaps; /* without its data, of which these are the first bytes: */
  uint8_t bitmaps_data[BITMAPS_EXTENSION_BYTES];
  bool has_luks; /* there is an encryption header extension, which says where the LUKS header is: */
  uint64_t luks_offset; /* host offset, bytes */
  uint64_t luks_length; /* bytes, for the header and its key material */
  char *backing_file, *backing_format, *data_file;
  /* If the backing file's name is not where it must be, or too long: why it is not followed, as a
     clause. Then backing_file is empty, unless qcow2_metadata_keep_name() was called. */
  const char *backing_problem;
  uint64_t backing_name_offset;    /* host offset, bytes */
  uint32_t backing_name_length;    /* bytes */
  bool is_hidden;                  /* by XCP-ng's extension */
  bool is_header_length_corrected; /* the caller's header_length was used */
};

/* Keep the name of the backing file that lies outside of cluster 0: metadata->backing_name_length
   bytes. Errors: NOMEM. */
int qcow2_metadata_keep_name(struct qcow2_metadata *metadata, const uint8_t *name,
                             struct qcow2_error *error);

/* Free what the metadata owns; all-zero metadata is allowed. */
void qcow2_metadata_free(struct qcow2_metadata *metadata);

/* Free what only the topmost image is asked for: the data of the extensions (not the extensions
   themselves) and the feature names. */
void qcow2_metadata_drop_data(struct qcow2_metadata *metadata);

/* The name of a feature bit: from the image's table, or else from the format, or else NULL. */
const char *qcow2_metadata_feature_name(const struct qcow2_metadata *metadata,
                                        enum qcow2_feature_type type, unsigned bit);

#endif
