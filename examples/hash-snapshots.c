/* SPDX-License-Identifier: MIT */
/*
 * List the snapshots of a qcow2 image, with the SHA-256 of each one's disk:
 *
 *   cc hash-snapshots.c -o hash-snapshots $(pkg-config --cflags --libs qcow2core libgcrypt)
 *   ./hash-snapshots disk.qcow2
 */
#include <gcrypt.h>
#include <inttypes.h>
#include <qcow2core.h>
#include <stdio.h>

#define BLOCK_BYTES 1048576

/* Print the SHA-256 of everything that the view reads. Returns 0, or an error of the library. */
static int print_hash(struct qcow2_view *view, struct qcow2_error *error)
{
  static char block[BLOCK_BYTES];
  uint64_t size = qcow2_view_size(view);
  const unsigned char *digest;
  gcry_md_hd_t hash;
  int code = 0;

  if (gcry_md_open(&hash, GCRY_MD_SHA256, 0) != 0)
    return QCOW2_ERROR_NOMEM;
  for (uint64_t at = 0; code == 0 && at < size; at += BLOCK_BYTES) {
    size_t length = size - at < BLOCK_BYTES ? (size_t) (size - at) : BLOCK_BYTES;

    code = qcow2_view_read(view, at, block, length, error);
    if (code == 0)
      gcry_md_write(hash, block, length);
  }
  digest = gcry_md_read(hash, GCRY_MD_SHA256);
  for (unsigned i = 0; code == 0 && i < gcry_md_get_algo_dlen(GCRY_MD_SHA256); i++)
    printf("%02x", digest[i]);
  gcry_md_close(hash);
  return code;
}

/* Print one line about the snapshot. */
static int print_snapshot(struct qcow2_image *image, size_t index, struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index);
  struct qcow2_view *view;
  char name[256]; /* any bytes can be in a name: print them harmlessly */
  int code = qcow2_view_open(image, index, &view, error);

  if (code != 0)
    return code;
  code = print_hash(view, error);
  if (code == 0)
    printf("  %" PRIu64 " bytes  %s\n", qcow2_view_size(view),
           qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)));
  qcow2_view_close(view);
  return code;
}

/* Print what is wrong with the image though it could be opened. Returns 1 if there are snapshots
   that cannot be listed, else 0. */
static int print_warnings(const struct qcow2_image *image)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_warning(image, i)) != NULL; i++)
    fprintf(stderr, "warning: %s\n", warning);
  return qcow2_snapshot_lost_count(image) > 0;
}

int main(int argc, char *argv[])
{
  struct qcow2_error error = { .message = "out of memory" };
  struct qcow2_image *image;
  int code, lost = 0;

  if (argc != 2) {
    fprintf(stderr, "usage: %s IMAGE\n", argv[0]);
    return 2;
  }
  gcry_check_version(NULL);
  gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
  code = qcow2_image_open(argv[1], NULL, &image, &error);
  if (code == 0) {
    lost = print_warnings(image);
    for (size_t i = 0; code == 0 && i < qcow2_snapshot_count(image); i++)
      code = print_snapshot(image, i, &error);
    qcow2_image_close(image);
  }
  if (code != 0)
    fprintf(stderr, "%s: %s\n", argv[1], error.message);
  return code == 0 && !lost ? 0 : 1;
}
