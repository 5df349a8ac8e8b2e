/* SPDX-License-Identifier: MIT */
#include "notes.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A raw file is as long as its disk. So an incomplete copy looks like a base whose overlay was
   enlarged. */
static bool note_short(const struct qcow2_image *image, size_t index,
                       const struct qcow2_layer_info *layer, char *out)
{
  struct qcow2_layer_info above;

  if (!layer->is_raw || index == 0 || qcow2_layer_get(image, index - 1, &above, NULL) != 0 ||
      layer->size >= above.size)
    return false;
  snprintf(out, TSK_QCOW2_NOTE_BYTES,
           "the disk in this file is %" PRIu64
           " bytes shorter than that of the layer above, which reads zeros there; that is legal, "
           "but it is also what an incomplete copy looks like",
           above.size - layer->size);
  return true;
}

static bool note_ewf(const char *format, char *out)
{
  if (format == NULL || strcmp(format, "ewf") != 0)
    return false;
  snprintf(out, TSK_QCOW2_NOTE_BYTES,
           "only the parts of this EWF image that are read are checked; use ewfverify to find out "
           "whether all of it is as it was acquired");
  return true;
}

static bool note_version_1(const char *format, char *out)
{
  if (strcmp(format, "qcow") != 0)
    return false;
  snprintf(
      out, TSK_QCOW2_NOTE_BYTES,
      "this file is of qcow version 1, which has no refcounts; so its tables cannot be checked "
      "against them");
  return true;
}

static bool note_hidden(const struct qcow2_layer_info *layer, char *out)
{
  if (layer->is_hidden == 0)
    return false;
  snprintf(
      out, TSK_QCOW2_NOTE_BYTES,
      "XCP-ng marks this image as hidden: no disk of a machine, but an internal copy that others "
      "are based on");
  return true;
}

const char *tsk_qcow2_note(const struct qcow2_image *image, size_t layer, size_t index, char *out)
{
  struct qcow2_layer_info info;

  if (qcow2_layer_get(image, layer, &info, NULL) != 0)
    return NULL;
  if (note_short(image, layer, &info, out) && index-- == 0)
    return out;
  if (note_version_1(info.format, out) && index-- == 0)
    return out;
  if (note_hidden(&info, out) && index-- == 0)
    return out;
  if ((note_ewf(info.format, out) || note_ewf(info.data_format, out)) && index == 0)
    return out;
  return NULL;
}
