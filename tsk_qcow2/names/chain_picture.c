/* SPDX-License-Identifier: MIT */
#include "chain_picture.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define TEXT_BYTES 1024
#define DATE_BYTES 64

static const char *escape(const char *text, char out[TEXT_BYTES])
{
  return qcow2_text_escape(text == NULL ? "" : text, text == NULL ? 0 : strlen(text), out,
                           TEXT_BYTES);
}

static const char *base_name(const char *path)
{
  const char *slash = path == NULL ? NULL : strrchr(path, '/');

  return slash == NULL ? path : slash + 1;
}

static const char *date_of(const struct qcow2_layer_info *layer, char out[DATE_BYTES])
{
  time_t seconds = (time_t) (layer->written / 1000000000);
  struct tm parts;

  if (layer->written == 0 || gmtime_r(&seconds, &parts) == NULL ||
      strftime(out, DATE_BYTES, "%Y-%m-%d %H:%M:%S (UTC)", &parts) == 0)
    snprintf(out, DATE_BYTES, "at an unknown time");
  return out;
}

static void print_file(FILE *out, const struct qcow2_layer_info *layer)
{
  char name[TEXT_BYTES], date[DATE_BYTES];

  fprintf(out, "  %s  (%s%s, %" PRIu64 " bytes, written %s; a disk of %" PRIu64 " bytes)\n",
          escape(base_name(layer->path), name), layer->format, layer->is_hidden ? ", hidden" : "",
          layer->file_size, date_of(layer, date), layer->size);
}

static void print_reference(FILE *out, const struct qcow2_layer_info *above,
                            const struct qcow2_layer_info *below)
{
  char name[TEXT_BYTES], path[TEXT_BYTES];
  const char *written = above->header == NULL ? NULL : above->header->backing_file;

  fprintf(out, "    | is based on \"%s\", found at \"%s\"\n", escape(written, name),
          escape(below->path, path));
}

void tsk_qcow2_chain_picture(FILE *out, const struct qcow2_image *image)
{
  size_t count = qcow2_layer_count(image);
  struct qcow2_layer_info layer, below;

  if (count < 2)
    return;
  fprintf(out, "Chain, the oldest at the bottom:\n");
  for (size_t i = 0; i < count && qcow2_layer_get(image, i, &layer, NULL) == 0; i++) {
    print_file(out, &layer);
    if (qcow2_layer_get(image, i + 1, &below, NULL) == 0)
      print_reference(out, &layer, &below);
  }
}
