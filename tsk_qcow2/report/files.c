/* SPDX-License-Identifier: MIT */
/* The files of the chain, each with its size, times and SHA-256. They are read as they are opened:
   a path is not opened a second time, since it could lead to another file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"
#include "../command/command.h"
#include "../command/progress.h"
#include "../command/sha256.h"

#define PIECE_BYTES ((size_t) 1 << 20)

struct hashing {
  const struct qcow2_image *image;
  size_t layer;
  enum qcow2_layer_file file;
  const char *path;
  uint64_t offset; /* where in the file the image begins: the bytes before it are not hashed */
  bool is_file;    /* the path leads to a file of the system, whose `status` this is */
  struct stat status;
  char digits[SHA256_TEXT_BYTES]; /* "": it has none */
  const char *why;                /* if so */
  struct qcow2_error error;
};

/* ---- SHA-256 -------------------------------------------------------------------------- */

static bool read_all(struct hashing *hashing, struct sha256 *sha256, uint8_t *piece)
{
  uint64_t size = qcow2_layer_file_size(hashing->image, hashing->layer, hashing->file);
  struct progress progress;
  bool is_read = true;

  progress_start(&progress, "Hashing the files", size);
  for (uint64_t at = 0; is_read && at < size;) {
    size_t length = size - at < PIECE_BYTES ? (size_t) (size - at) : PIECE_BYTES;

    is_read = qcow2_layer_read(hashing->image, hashing->layer, hashing->file, at, piece, length,
                               &hashing->error) == 0;
    if (is_read)
      sha256_add(sha256, piece, length);
    at += length;
    progress_show(&progress, at);
  }
  progress_hide(&progress);
  return is_read;
}

static void hash_file(struct hashing *hashing)
{
  uint8_t *piece = malloc(PIECE_BYTES);
  struct sha256 *sha256 = sha256_start();
  char digits[SHA256_TEXT_BYTES];
  uint8_t first;

  if (piece == NULL || sha256 == NULL)
    hashing->why = "this build has no SHA-256";
  else if (qcow2_layer_read(hashing->image, hashing->layer, hashing->file, 0, &first, 1,
                            &hashing->error) != 0 ||
           !read_all(hashing, sha256, piece))
    hashing->why = hashing->error.message;
  if (sha256 != NULL)
    sha256_finish(sha256, digits);
  if (hashing->why == NULL)
    memcpy(hashing->digits, digits, sizeof(digits));
  free(piece);
}

/* ---- The list for sha256sum ------------------------------------------------------------- */

/* sha256sum escapes some characters of names, and then begins the line with a backslash. */
static void write_line(FILE *out, const char *digits, const char *path)
{
  if (strpbrk(path, "\\\n\r") != NULL)
    putc('\\', out);
  fprintf(out, "%s  ", digits);
  for (; *path != '\0'; path++)
    switch (*path) {
    case '\\': fputs("\\\\", out); break;
    case '\n': fputs("\\n", out); break;
    case '\r': fputs("\\r", out); break;
    default: putc(*path, out);
    }
  putc('\n', out);
}

/* ---- One file ---------------------------------------------------------------------------- */

static json_t *path_value(const char *path)
{
  char *text;
  json_t *value;

  if (path == NULL)
    return json_null();
  text = malloc(4 * strlen(path) + 1);
  if (text == NULL)
    return NULL;
  value = json_string(qcow2_text_escape(path, strlen(path), text, 4 * strlen(path) + 1));
  free(text);
  return value;
}

static json_t *optional(const char *text)
{
  return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *file_value(const struct hashing *hashing, const char *role, const char *format,
                          uint64_t size)
{
  const struct stat *status = hashing->is_file ? &hashing->status : NULL;

  return json_pack("{s:o, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "path",
                   path_value(hashing->path), "role", role, "format", format, "offset",
                   (json_int_t) hashing->offset, "size", (json_int_t) size, "modified_seconds",
                   status != NULL ? json_integer((json_int_t) status->st_mtime) : json_null(),
                   "changed_seconds",
                   status != NULL ? json_integer((json_int_t) status->st_ctime) : json_null(),
                   "sha256", optional(hashing->digits), "no_sha256", optional(hashing->why));
}

static void add_file(struct report *report, json_t *list, FILE *hash_list, struct hashing *hashing,
                     const char *role, const char *format, uint64_t size)
{
  if (report->options.no_hash)
    hashing->why = "not asked for";
  else
    hash_file(hashing);
  /* A file inside of a disk has a name that only we know. */
  hashing->is_file = hashing->path != NULL && stat(hashing->path, &hashing->status) == 0;
  if (hashing->digits[0] != '\0' && hashing->is_file && hashing->offset == 0)
    write_line(hash_list, hashing->digits, hashing->path);
  json_array_append_new(list, file_value(hashing, role, format, size));
}

static json_t *add_all(struct report *report, FILE *hash_list)
{
  const struct qcow2_image *image = report->opened.image;
  struct qcow2_layer_info layer;
  json_t *list = json_array();

  for (size_t i = 0; qcow2_layer_get(image, i, &layer, NULL) == 0; i++) {
    struct hashing hashing = { .image = image,
                               .layer = i,
                               .file = QCOW2_FILE_IMAGE,
                               .path = layer.path,
                               .offset = layer.offset };

    add_file(report, list, hash_list, &hashing, i == 0 ? "image" : "backing file", layer.format,
             layer.file_size);
    if (layer.data_format == NULL)
      continue;
    hashing = (struct hashing){
      .image = image, .layer = i, .file = QCOW2_FILE_DATA, .path = layer.data_path
    };
    add_file(report, list, hash_list, &hashing, "data file", layer.data_format,
             qcow2_layer_file_size(image, i, QCOW2_FILE_DATA));
  }
  return list;
}

void report_add_files(struct report *report)
{
  size_t size;
  FILE *hash_list = open_memstream(&report->hash_list, &size);
  json_t *list;

  if (hash_list == NULL) {
    report_set_failed(report, SECTION_FILES, "out of memory");
    return;
  }
  list = add_all(report, hash_list);
  fclose(hash_list);
  report_set_done(report, SECTION_FILES, json_pack("{s:o}", "list", list));
}
