/* SPDX-License-Identifier: MIT */
/* Drawings of the chain, and of the snapshots on a time line, in SVG. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report.h"
#include "../command/markup.h"

#define WIDTH 784u
#define TEXT_MAX 64u /* bytes of a name that fit */

static const char STYLE[] =
    "<style>.dr text{font:12px system-ui,sans-serif;fill:#1a1a1a}.dr .name{font-weight:600}\n"
    ".dr .box{fill:#eef4fa;stroke:#0072b2}.dr .line{stroke:#767676;fill:none}\n"
    ".dr .dot{fill:#d55e00}.dr .at{text-anchor:middle;font-size:11px}\n"
    "@media screen and (prefers-color-scheme:dark){.dr text{fill:#e6e6e6}\n"
    ".dr .box{fill:#152636;stroke:#56b4e9}.dr .line{stroke:#8c8c8c}.dr .dot{fill:#ff9d5c}}\n"
    "</style>\n";

static void start(FILE *out, unsigned height, const char *id, const char *title,
                  const char *description)
{
  fprintf(out,
          "<svg class=\"dr\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" "
          "width=\"%u\" height=\"%u\" role=\"img\" aria-labelledby=\"%s-title %s-text\">\n"
          "<title id=\"%s-title\">%s</title>\n<desc id=\"%s-text\">%s</desc>\n%s",
          WIDTH, height, WIDTH, height, id, id, id, title, id, description, STYLE);
}

static uint64_t number_of(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);

  return json_is_real(value) ? (uint64_t) json_real_value(value)
                             : (uint64_t) json_integer_value(value);
}

/* A text, or "-" if there is none. */
static const char *text_of(const json_t *object, const char *key)
{
  const char *text = json_string_value(json_object_get(object, key));

  return text == NULL ? "-" : text;
}

static const char *base_name(const char *path)
{
  const char *slash = strrchr(path, '/');

  return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* ---- The chain ---------------------------------------------------------------------- */

#define BOXES_MAX 12u
#define BOX_HEIGHT 46u
#define BOX_PITCH 82u
#define BOX_WIDTH 480u

static void draw_layer(FILE *out, size_t index, const json_t *layer)
{
  unsigned y = 4 + (unsigned) index * BOX_PITCH;
  const json_t *data_path = json_object_get(layer, "data_path");
  char size[MARKUP_SIZE_BYTES], file[MARKUP_SIZE_BYTES];

  fprintf(out,
          "<rect class=\"box\" x=\"4\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"4\"/>\n"
          "<text class=\"name\" x=\"16\" y=\"%u\">%zu: ",
          y, BOX_WIDTH, BOX_HEIGHT, y + 19, index);
  markup_write_cut(out, base_name(text_of(layer, "path")), TEXT_MAX);
  fprintf(out, "</text>\n<text x=\"16\" y=\"%u\">", y + 37);
  markup_write_all(out, text_of(layer, "format"));
  fprintf(out, ", a disk of %s in a file of %s</text>\n",
          markup_size(number_of(layer, "virtual_size"), size),
          markup_size(number_of(layer, "file_size"), file));
  if (json_is_string(data_path)) {
    fprintf(out,
            "<path class=\"line\" d=\"M%u %uh24\"/><text x=\"%u\" y=\"%u\">its data file:</text>"
            "<text class=\"name\" x=\"%u\" y=\"%u\">",
            BOX_WIDTH + 4, y + BOX_HEIGHT / 2, BOX_WIDTH + 34, y + 19, BOX_WIDTH + 34, y + 37);
    markup_write_cut(out, base_name(json_string_value(data_path)), TEXT_MAX / 2);
    fputs("</text>\n", out);
  }
}

/* What stands between two files. */
static void draw_arrow(FILE *out, size_t above)
{
  unsigned y = 4 + (unsigned) above * BOX_PITCH + BOX_HEIGHT;

  fprintf(out,
          "<path class=\"line\" d=\"M40 %uv%um-5-7l5 7l5-7\"/>\n"
          "<text x=\"54\" y=\"%u\">what it does not have is read from its backing file</text>\n",
          y, BOX_PITCH - BOX_HEIGHT, y + 22);
}

void report_draw_chain(struct report *report)
{
  const json_t *layers = report_data(report, SECTION_FACTS, "layers");
  size_t count = json_array_size(layers), shown = count < BOXES_MAX ? count : BOXES_MAX, size;
  FILE *out = count == 0 ? NULL : open_memstream(&report->drawings[DRAWING_CHAIN].markup, &size);

  if (out == NULL)
    return;
  start(out, (unsigned) shown * BOX_PITCH - BOX_PITCH + BOX_HEIGHT + (shown < count ? 32 : 10),
        "chain", "The chain of files",
        "The image is at the top. Each file takes what it does not have from the file below it.");
  for (size_t i = 0; i < shown; i++) {
    draw_layer(out, i, json_array_get(layers, i));
    if (i + 1 < shown)
      draw_arrow(out, i);
  }
  if (shown < count)
    fprintf(out, "<text x=\"16\" y=\"%u\">and %zu more files below</text>\n",
            (unsigned) shown * BOX_PITCH - BOX_PITCH + BOX_HEIGHT + 22, count - shown);
  fputs("</svg>\n", out);
  fclose(out);
}

/* ---- Snapshots on a time line ------------------------------------------------------------- */

#define ROWS_MAX 60u
#define ROW_HEIGHT 20u
#define AXIS_LEFT 60u
#define AXIS_WIDTH 380u

struct axis {
  uint64_t first, last; /* seconds */
  unsigned bottom;      /* y */
};

static unsigned axis_x(const struct axis *axis, uint64_t seconds)
{
  uint64_t span = axis->last - axis->first;

  return AXIS_LEFT +
         (span == 0 ? AXIS_WIDTH / 2
                    : (unsigned) ((double) (seconds - axis->first) * AXIS_WIDTH / (double) span));
}

static struct axis find_axis(const json_t *snapshots)
{
  struct axis axis = { .first = UINT64_MAX };

  for (size_t i = 0; i < json_array_size(snapshots); i++) {
    uint64_t seconds = number_of(json_array_get(snapshots, i), "date_seconds");

    axis.first = seconds < axis.first ? seconds : axis.first;
    axis.last = seconds > axis.last ? seconds : axis.last;
  }
  return axis;
}

static void write_moment(FILE *out, uint64_t seconds)
{
  time_t when = (time_t) seconds;
  struct tm moment;
  char text[64] = "";

  if (gmtime_r(&when, &moment) != NULL)
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &moment);
  fputs(text, out);
}

static void draw_snapshot(FILE *out, const struct axis *axis, size_t index, const json_t *snapshot)
{
  uint64_t seconds = number_of(snapshot, "date_seconds");
  unsigned y = 14 + (unsigned) index * ROW_HEIGHT, x = axis_x(axis, seconds);

  fprintf(out,
          "<path class=\"line\" d=\"M%u %uV%u\" stroke-dasharray=\"1 3\"/>"
          "<circle class=\"dot\" cx=\"%u\" cy=\"%u\" r=\"4.5\"/>\n<text x=\"%u\" y=\"%u\">",
          x, y, axis->bottom, x, y, AXIS_LEFT + AXIS_WIDTH + 24, y + 4);
  write_moment(out, seconds);
  fputs("  ", out);
  markup_write_cut(out, text_of(snapshot, "name"), 28);
  fputs("</text>\n", out);
}

static void draw_axis(FILE *out, const struct axis *axis)
{
  fprintf(out,
          "<path class=\"line\" d=\"M%u %uh%um-7-4l7 4l-7 4\"/>\n<text class=\"at\" x=\"%u\" "
          "y=\"%u\">",
          AXIS_LEFT - 12, axis->bottom, AXIS_WIDTH + 24, axis_x(axis, axis->first),
          axis->bottom + 16);
  write_moment(out, axis->first);
  if (axis->last > axis->first) {
    fprintf(out, "</text>\n<text class=\"at\" x=\"%u\" y=\"%u\">", axis_x(axis, axis->last),
            axis->bottom + 16);
    write_moment(out, axis->last);
  }
  fputs("</text>\n", out);
}

void report_draw_snapshots(struct report *report)
{
  const json_t *snapshots = report_data(report, SECTION_FACTS, "snapshots");
  size_t count = json_array_size(snapshots), shown = count < ROWS_MAX ? count : ROWS_MAX, size;
  struct axis axis = find_axis(snapshots);
  FILE *out = count == 0 ? NULL
                         : open_memstream(&report->drawings[DRAWING_SNAPSHOTS].markup, &size);

  if (out == NULL)
    return;
  axis.bottom = 10 + (unsigned) shown * ROW_HEIGHT;
  start(out, axis.bottom + 24, "snapshots", "The snapshots on a time line",
        "Each snapshot has a row, in the order of the table. Its dot stands above its time.");
  for (size_t i = 0; i < shown; i++)
    draw_snapshot(out, &axis, i, json_array_get(snapshots, i));
  draw_axis(out, &axis);
  fputs("</svg>\n", out);
  fclose(out);
}
