/* SPDX-License-Identifier: MIT */
/* The pictures of `map --svg`, with what reading found to be damaged. */
#include <stdlib.h>

#include "report.h"
#include "../command/command.h"
#include "../command/pictures.h"

static uint64_t number_of(const json_t *object, const char *key)
{
  return (uint64_t) json_integer_value(json_object_get(object, key));
}

/* Mark what could not be read of the active disk, which is what the pictures show. */
static void mark_unreadable(const struct report *report, struct picture *picture)
{
  const json_t *states = report_data(report, SECTION_HASHES, "states");
  const json_t *ranges = json_object_get(json_array_get(states, 0), "bad_ranges");

  for (size_t i = 0; i < json_array_size(ranges); i++)
    picture_mark(picture, number_of(json_array_get(ranges, i), "start"),
                 number_of(json_array_get(ranges, i), "length"));
}

static void draw(struct report *report, enum report_drawing drawing, const struct picture *picture)
{
  size_t size;
  FILE *out = open_memstream(&report->drawings[drawing].markup, &size);

  if (out == NULL)
    return;
  (void) picture_write(picture, 0, out);
  fclose(out);
}

/* The picture's numbers, for programs. */
static json_t *classes_value(const struct picture *picture)
{
  json_t *list = json_array();

  for (size_t i = 0; i < picture->class_count; i++)
    if (picture->bytes[i] > 0)
      json_array_append_new(list, json_pack("{s:s, s:I}", "what", picture->classes[i].label,
                                            "bytes", (json_int_t) picture->bytes[i]));
  return list;
}

static int draw_disk(struct report *report, json_t *data, struct qcow2_error *error)
{
  struct picture_pair *pair = NULL;
  struct qcow2_view *view = NULL;
  int code = tsk_qcow2_open_state(&report->opened, QCOW2_ACTIVE, false, &view, error);

  if (code == 0)
    code = pictures_of_disk(report->opened.image, view, &pair, error);
  if (code == 0) {
    mark_unreadable(report, &pair->kinds);
    mark_unreadable(report, &pair->layers);
    draw(report, DRAWING_KINDS, &pair->kinds);
    json_object_set_new(data, "disk", classes_value(&pair->kinds));
    json_object_set_new(data, "layers", classes_value(&pair->layers));
    if (qcow2_layer_count(report->opened.image) > 1)
      draw(report, DRAWING_LAYERS, &pair->layers);
  }
  free(pair);
  qcow2_view_close(view);
  return code;
}

/* A version of the format that has no refcounts has no such picture. */
static void draw_file(struct report *report, json_t *data)
{
  struct picture *picture = NULL;
  struct qcow2_error error;

  if (picture_of_file(report->opened.image, &picture, &error) == 0) {
    draw(report, DRAWING_FILE, picture);
    report_add_status(report, picture->is_incomplete ? EXIT_INCOMPLETE : EXIT_OK);
    json_object_set_new(data, "file", classes_value(picture));
  } else {
    json_object_set_new(data, "no_file", json_string(error.message));
    report_add_status(report, EXIT_INCOMPLETE);
  }
  free(picture);
}

void report_draw_pictures(struct report *report)
{
  json_t *data = json_object();
  struct qcow2_error error;

  if (draw_disk(report, data, &error) == 0) {
    draw_file(report, data);
    report_set_done(report, SECTION_PICTURES, data);
  } else {
    json_decref(data);
    report_set_failed(report, SECTION_PICTURES, error.message);
    report_add_status(report, EXIT_INCOMPLETE);
  }
}
