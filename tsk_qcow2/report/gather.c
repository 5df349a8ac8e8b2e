/* SPDX-License-Identifier: MIT */
/* The facts of a report come from the other commands: each is started, and the JSON that it prints
   is taken. So a report says what they say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "report.h"
#include "../command/command.h"
#include "../command/companion.h"

#define PATH_BYTES 4096
/* How many damaged ranges of a state are listed. Files that lie on these are named. */
#define LISTED_MAX "2000"
#define WHY_BYTES (CHILD_COMPLAINT_BYTES + 64)

/* ---- One command --------------------------------------------------------------------------- */

/* The JSON that a command printed. Integers above 2^63 - 1 become reals, if there are some. */
static json_t *parse(const struct child *child)
{
  json_t *value = json_loadb(child->output, child->length, 0, NULL);

  if (value == NULL)
    value = json_loadb(child->output, child->length, JSON_DECODE_INT_AS_REAL, NULL);
  return value;
}

static void set_failed(struct report *report, enum report_section section,
                       const struct child *child)
{
  static const char prefix[] = "tsk-qcow2: ";
  const char *line = child->complaint;
  char why[WHY_BYTES], complaint[CHILD_COMPLAINT_BYTES];

  if (strncmp(line, prefix, strlen(prefix)) == 0)
    line += strlen(prefix);
  qcow2_text_escape(line, strcspn(line, "\n"), complaint, sizeof(complaint));
  if (child->is_too_long)
    snprintf(why, sizeof(why), "there is more to say than a report can hold (%zu MiB)",
             CHILD_OUTPUT_MAX >> 20);
  else if (complaint[0] != '\0')
    snprintf(why, sizeof(why), "%s", complaint);
  else
    snprintf(why, sizeof(why), "the command ended with status %d", child->status);
  report_set_failed(report, section, why);
}

/* Run a command for a section. What it prints becomes the section's data. */
static void ask(struct report *report, enum report_section section, const char *path,
                const char *const argv[], const char *input)
{
  struct child child;
  json_t *data = NULL;

  if (!child_run(path, argv, input, &child)) {
    report_set_failed(report, section, "out of memory");
    child_free(&child);
    return;
  }
  if (!child.is_too_long && child.status >= 0 && child.status != EXIT_FAILED &&
      child.status != EXIT_USAGE)
    data = parse(&child);
  if (data == NULL) {
    set_failed(report, section, &child);
    report_add_status(report, EXIT_INCOMPLETE);
  } else {
    report_set_done(report, section, data);
    report_add_status(report, child.status);
  }
  child_free(&child);
}

/* Run a command of tsk-qcow2 itself. `options` ends with NULL. */
static void ask_self(struct report *report, enum report_section section, const char *command,
                     const char *const options[])
{
  const char *argv[12] = { "tsk-qcow2", command, "--json" };
  int count = 3;

  if (!report->options.wants[section])
    return;
  for (size_t i = 0; options[i] != NULL; i++)
    argv[count++] = options[i];
  argv[count++] = "--";
  argv[count] = report->options.name;
  ask(report, section, "/proc/self/exe", argv, NULL);
}

/* ---- States --------------------------------------------------------------------------------- */

/* "Active disk", `Snapshot ID 1 "before"`: as the other sections call the states. */
static void add_titles(json_t *states)
{
  for (size_t i = 0; i < json_array_size(states); i++) {
    json_t *state = json_array_get(states, i);
    const char *kind = json_string_value(json_object_get(state, "state"));
    const char *id = json_string_value(json_object_get(state, "id"));
    const char *name = json_string_value(json_object_get(state, "name"));

    json_object_set_new(state, "title",
                        id == NULL || name == NULL || kind == NULL
                            ? json_string("Active disk")
                            : json_sprintf("%s ID %s \"%s\"",
                                           strcmp(kind, "vm_state") == 0 ? "VM state of snapshot"
                                                                         : "Snapshot",
                                           id, name));
  }
}

/* The labels of what is left of deleted snapshots that are not 0, as lists: a template goes through
   lists only. */
static void add_label_lists(json_t *snapshots)
{
  for (size_t i = 0; i < json_array_size(snapshots); i++) {
    json_t *snapshot = json_array_get(snapshots, i), *list = json_array(), *bytes;
    const char *label;

    json_object_foreach(json_object_get(snapshot, "labels"), label,
                        bytes) if (json_integer_value(bytes) > 0)
        json_array_append_new(list, json_pack("{s:s, s:O}", "label", label, "bytes", bytes));
    json_object_set_new(snapshot, "label_list", list);
  }
}

static void ask_states(struct report *report)
{
  const json_t *hashes = report_section(report, SECTION_HASHES);
  json_t *verified = json_object_get(hashes, "data");
  char *input = verified == NULL ? NULL : json_dumps(verified, JSON_COMPACT);
  const char *argv[] = { "tsk-qcow2-states",
                         "survey",
                         input == NULL ? "--" : "--verified",
                         input == NULL ? report->options.name : "--",
                         NULL,
                         NULL };
  char path[COMPANION_PATH_BYTES], library[PATH_BYTES], why[PATH_BYTES + 128];

  if (input != NULL)
    argv[4] = report->options.name;
  if (!loader_picks(library, sizeof(library))) {
    snprintf(why, sizeof(why), "file systems are read by libtsk, which cannot be loaded: %s",
             library);
    report_set_failed(report, SECTION_STATES, why);
  } else {
    companion_find("tsk-qcow2-states", path);
    ask(report, SECTION_STATES, path, argv, input);
  }
  free(input);
}

/* ---- All ---------------------------------------------------------------------------------------
 */

void report_gather(struct report *report)
{
  const char *const none[] = { NULL }, *const chain[] = { "--chain", NULL };
  const char *verify[5] = { "--list", LISTED_MAX };
  int count = 2;

  if (report->options.vm_states)
    verify[count++] = "--vmstate";
  if (report->options.no_hash)
    verify[count++] = "--no-hash";
  ask_self(report, SECTION_FACTS, "info", chain);
  ask_self(report, SECTION_HASHES, "verify", verify);
  ask_self(report, SECTION_CONSISTENCY, "check", none);
  ask_self(report, SECTION_RESIDUE, "residue", none);
  add_titles(report_data(report, SECTION_HASHES, "states"));
  add_label_lists(report_data(report, SECTION_RESIDUE, "deleted"));
  if (report->options.wants[SECTION_STATES])
    ask_states(report);
}
