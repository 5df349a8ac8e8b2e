/* SPDX-License-Identifier: MIT */
/* The most important of what the sections say. */
#include <string.h>

#include "report.h"

static json_int_t count_damaged_files(const struct report *report)
{
  const json_t *states = report_data(report, SECTION_STATES, "states");
  json_int_t count = 0;

  for (size_t i = 0; i < json_array_size(states); i++)
    count += json_integer_value(json_object_get(json_array_get(states, i), "damaged_file_count"));
  return count;
}

static bool has_damage(const struct report *report)
{
  const json_t *states = report_data(report, SECTION_HASHES, "states");

  for (size_t i = 0; i < json_array_size(states); i++) {
    const json_t *state = json_array_get(states, i);

    if (json_integer_value(json_object_get(state, "bad_range_count")) > 0 ||
        json_is_string(json_object_get(state, "error")))
      return true;
  }
  return false;
}

/* Bytes of residue in sectors that are not all zeros. */
static json_int_t count_residue(const struct report *report)
{
  json_t *where = report_data(report, SECTION_RESIDUE, "where"), *value;
  json_int_t bytes = 0;
  const char *key;

  json_object_foreach(where, key, value)
      bytes += json_integer_value(json_object_get(value, "data_bytes"));
  return bytes;
}

static void add_result(const struct report *report, json_t *summary)
{
  static const char *const results[] = { "good", "damaged", "readable", "incomplete", "changed" };
  const char *result = json_string_value(report_data(report, SECTION_HASHES, "result"));
  char key[32];

  for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
    snprintf(key, sizeof(key), "is_%s", results[i]);
    json_object_set_new(summary, key,
                        json_boolean(result != NULL && strcmp(result, results[i]) == 0));
  }
}

void report_summarize(struct report *report)
{
  const json_t *snapshots = report_data(report, SECTION_FACTS, "snapshots");
  json_t *warnings = report_data(report, SECTION_HASHES, "warnings"), *summary;

  if (warnings == NULL)
    warnings = report_data(report, SECTION_FACTS, "warnings");
  summary = json_pack("{s:I, s:I, s:I, s:b, s:b, s:b, s:b, s:o}", "snapshots",
                      (json_int_t) json_array_size(snapshots), "damaged_files",
                      count_damaged_files(report), "residue_data", count_residue(report),
                      "has_damage", has_damage(report), "has_findings",
                      json_array_size(report_data(report, SECTION_CONSISTENCY, "findings")) > 0,
                      "has_old_snapshots",
                      json_array_size(report_data(report, SECTION_RESIDUE, "snapshots")) > 0,
                      "has_readable_snapshots",
                      json_array_size(report_data(report, SECTION_RESIDUE, "deleted")) > 0,
                      "warnings", warnings == NULL ? json_array() : json_copy(warnings));
  add_result(report, summary);
  json_object_set_new(report->root, "summary", summary);
}
