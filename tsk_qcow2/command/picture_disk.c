/* SPDX-License-Identifier: MIT */
/* Pictures of a disk. */
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "pictures.h"

/* Layers with a colour of their own; the others share one. */
#define LAYERS_SHOWN 7u
#define LAYER_OTHERS LAYERS_SHOWN
#define LAYER_NONE (LAYERS_SHOWN + 1)
#define NAME_BYTES 36

static const struct picture_class KINDS[RUN_KINDS] = {
  [RUN_DATA] = { "stored data", "#0072b2", "#ffffff", PATTERN_PLAIN },
  [RUN_COMPRESSED] = { "compressed data", "#56b4e9", "#00314d", PATTERN_DOTS },
  [RUN_ZERO] = { "zeros, not stored", "#d9d9d9", "#5c5c5c", PATTERN_HORIZONTAL },
  [RUN_ZERO_ALLOCATED] = { "zeros over a kept cluster", "#cc79a7", "#4a1230", PATTERN_RISING },
  [RUN_HOLE] = { "holes of a raw file", "#d9d9d9", "#5c5c5c", PATTERN_VERTICAL },
  [RUN_UNALLOCATED] = { "unallocated", "", "", PATTERN_EMPTY },
  [RUN_INVALID] = { "invalid table entries", "#d55e00", "#ffffff", PATTERN_FALLING },
  [RUN_UNREADABLE] = { "unreadable tables", "#d55e00", "#ffffff", PATTERN_GRID },
};

static const struct picture_class LAYERS[] = {
  { "", "#0072b2", "#ffffff", PATTERN_PLAIN },    { "", "#e69f00", "#4d3500", PATTERN_RISING },
  { "", "#009e73", "#ffffff", PATTERN_DOTS },     { "", "#cc79a7", "#4a1230", PATTERN_HORIZONTAL },
  { "", "#56b4e9", "#00314d", PATTERN_FALLING },  { "", "#f0e442", "#4d4800", PATTERN_GRID },
  { "", "#8a6d3b", "#ffffff", PATTERN_VERTICAL }, { "", "#999999", "#1a1a1a", PATTERN_GRID },
  { "no file has it", "", "", PATTERN_EMPTY },
};

/* "1: base.qcow2" */
static void name_layer(const struct qcow2_image *image, size_t index, char label[])
{
  struct qcow2_layer_info layer;
  char name[NAME_BYTES];
  const char *base;

  if (qcow2_layer_get(image, index, &layer, NULL) != 0 || layer.path == NULL) {
    snprintf(label, PICTURE_TEXT_BYTES, "file %zu", index);
    return;
  }
  base = strrchr(layer.path, '/');
  base = base == NULL ? layer.path : base + 1;
  snprintf(label, PICTURE_TEXT_BYTES, "%zu: %s", index,
           qcow2_text_escape(base, strlen(base), name, sizeof(name)));
}

static void start_layers(const struct qcow2_image *image, struct picture *picture)
{
  memcpy(picture->classes, LAYERS, sizeof(LAYERS));
  picture->class_count = sizeof(LAYERS) / sizeof(LAYERS[0]);
  for (size_t i = 0; i < LAYERS_SHOWN && i < qcow2_layer_count(image); i++)
    name_layer(image, i, picture->classes[i].label);
  snprintf(picture->classes[LAYER_OTHERS].label, PICTURE_TEXT_BYTES, "all files from %u on",
           LAYERS_SHOWN);
}

static unsigned layer_class(const struct run *run)
{
  if (run->kind == RUN_UNALLOCATED || run->kind == RUN_UNREADABLE)
    return LAYER_NONE;
  return run->layer < LAYERS_SHOWN ? (unsigned) run->layer : LAYER_OTHERS;
}

static bool add_run(void *context, const struct run *run)
{
  struct picture_pair *pair = context;

  picture_add(&pair->kinds, run->kind, run->start, run->length);
  picture_add(&pair->layers, layer_class(run), run->start, run->length);
  if (run->kind == RUN_INVALID || run->kind == RUN_UNREADABLE) {
    picture_mark(&pair->kinds, run->start, run->length);
    picture_mark(&pair->layers, run->start, run->length);
  }
  return true;
}

static uint64_t cluster_size(const struct qcow2_image *image)
{
  struct qcow2_layer_info layer;

  return qcow2_layer_get(image, 0, &layer, NULL) == 0 && layer.header != NULL
             ? UINT64_C(1) << layer.header->cluster_bits
             : 512;
}

int pictures_of_disk(const struct qcow2_image *image, struct qcow2_view *view,
                     struct picture_pair **result, struct qcow2_error *error)
{
  struct picture_pair *pair = malloc(sizeof(*pair));
  const struct runs_listener listener = { .context = pair, .run = add_run };
  int code;

  if (pair == NULL)
    return tsk_qcow2_complain_nomem(error);
  picture_start(&pair->kinds, qcow2_view_size(view), cluster_size(image));
  pair->layers = pair->kinds;
  pair->kinds.id = "disk-kinds";
  pair->kinds.title = "The disk, by what is stored for each part of it";
  pair->kinds.whole = pair->layers.whole = "disk";
  pair->kinds.note = "";
  memcpy(pair->kinds.classes, KINDS, sizeof(KINDS));
  pair->kinds.class_count = RUN_KINDS;
  pair->layers.id = "disk-layers";
  pair->layers.title = "The disk, by the file of the chain that provides each part of it";
  pair->layers.note = "Zeros that a file states are that file's.";
  start_layers(image, &pair->layers);
  code = runs_find(image, view, &listener, error);
  if (code == 0)
    *result = pair;
  else
    free(pair);
  return code;
}
