/* SPDX-License-Identifier: MIT */
/* The compressed clusters of an image, and the bytes of its file. */
#include <stddef.h>
#include <stdint.h>

#include "qcow2core.h"

struct compressed_image {
  struct qcow2_header header;
  struct qcow2_extent *streams; /* one for each compressed cluster of the active disk, in order */
  size_t count;
  const uint8_t *file; /* mapped into memory */
  uint64_t file_bytes;
};

/* Open an image. Ends the program if that fails, or if no cluster is compressed. What is allocated
   lives as long as the program. */
struct compressed_image compressed_image_open(const char *path);
