/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 report: one document of what the other commands know. What --json prints is described
   in report-json.md. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../command/command.h"

/* ---- Sections ----------------------------------------------------------------------- */

/* The name of a section, as in options and in JSON. */
static const char *section_name(enum report_section section)
{
  static const char *const names[SECTIONS] = { "files",  "facts",       "pictures", "states",
                                               "hashes", "consistency", "residue" };

  return names[section];
}

json_t *report_section(struct report *report, enum report_section section)
{
  const char *name = section_name(section);

  if (json_object_get(report->root, name) == NULL)
    json_object_set_new(report->root, name,
                        json_pack("{s:b, s:b, s:s}", "is_asked", report->options.wants[section],
                                  "is_done", 0, "why",
                                  report->options.wants[section] ? "it was not reached"
                                                                 : "it was not asked for"));
  return json_object_get(report->root, name);
}

void report_set_done(struct report *report, enum report_section section, json_t *data)
{
  json_t *object = report_section(report, section);

  json_object_set_new(object, "is_done", json_true());
  json_object_set_new(object, "why", json_null());
  json_object_set_new(object, "data", data);
}

void report_set_failed(struct report *report, enum report_section section, const char *why)
{
  complain_failed("the report has no section \"%s\": %s", section_name(section), why);
  json_object_set_new(report_section(report, section), "why", json_string(why));
}

json_t *report_data(const struct report *report, enum report_section section, const char *key)
{
  const json_t *object = json_object_get(report->root, section_name(section));

  return json_object_get(json_object_get(object, "data"), key);
}

void report_add_status(struct report *report, int status)
{
  static const int order[] = { EXIT_OK, EXIT_LEAKS, EXIT_INCOMPLETE, EXIT_DAMAGED, EXIT_CHANGED };
  size_t old = 0, new = 0;

  for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
    old = report->status == order[i] ? i : old;
    new = status == order[i] ? i : new;
  }
  report->status = order[new > old ? new : old];
}

/* ---- Arguments ------------------------------------------------------------------------- */

/* True if the text looks as the pattern does, where "0" stands for any digit. */
static bool looks_like(const char *text, const char *pattern)
{
  for (; *text != '\0' && *pattern != '\0'; text++, pattern++)
    if (*pattern == '0' ? *text < '0' || *text > '9' : *text != *pattern)
      return false;
  return *text == *pattern;
}

static bool is_date(const char *text)
{
  return looks_like(text, "0000-00-00") || looks_like(text, "0000-00-00T00:00:00Z");
}

static int take_sections(struct report_options *options, const char *list)
{
  size_t length;

  for (int i = 0; i < SECTIONS; i++)
    options->wants[i] = false;
  for (; *list != '\0'; list += length + (list[length] == ',')) {
    bool is_known = false;

    length = strcspn(list, ",");
    for (int i = 0; i < SECTIONS; i++)
      if (strlen(section_name((enum report_section) i)) == length &&
          strncmp(list, section_name((enum report_section) i), length) == 0)
        is_known = options->wants[i] = true;
    if (!is_known)
      return complain_usage("there is no section \"%.*s\"; those that there are: files, facts, "
                            "pictures, states, hashes, consistency, residue",
                            (int) length, list);
  }
  return EXIT_OK;
}

/* Take an option, and its value from `next`. *taken is the number of arguments that these are. */
static int take_option(struct report_options *options, const char *option, const char *next,
                       int *taken)
{
  const char **values[] = { &options->output, &options->hash_list, &options->date };
  static const char *const names[] = { "-o", "--hash-list", "--date" };
  bool is_sections = strcmp(option, "--sections") == 0;

  *taken = 1;
  options->is_json = options->is_json || strcmp(option, "--json") == 0;
  options->no_hash = options->no_hash || strcmp(option, "--no-hash") == 0;
  options->vm_states = options->vm_states || strcmp(option, "--vmstate") == 0;
  if (strcmp(option, "--json") == 0 || strcmp(option, "--no-hash") == 0 ||
      strcmp(option, "--vmstate") == 0)
    return EXIT_OK;
  for (size_t i = 0; i < 3; i++)
    if (strcmp(option, names[i]) == 0 && next != NULL) {
      *values[i] = next;
      *taken = 2;
      return EXIT_OK;
    }
  if (is_sections && next != NULL) {
    *taken = 2;
    return take_sections(options, next);
  }
  if (is_sections || strcmp(option, "-o") == 0 || strcmp(option, "--hash-list") == 0 ||
      strcmp(option, "--date") == 0)
    return complain_usage("report: %s needs a value", option);
  return complain_usage("report has no option %s", option);
}

static int parse(int argc, char *argv[], struct report_options *options)
{
  bool no_more_options = false;
  int status = EXIT_OK;

  for (int i = 0; i < SECTIONS; i++)
    options->wants[i] = true;
  options->argc = argc;
  options->argv = argv;
  for (int i = 0, taken = 1; i < argc && status == EXIT_OK; i += taken, taken = 1) {
    bool is_option = argv[i][0] == '-' && argv[i][1] != '\0' && !no_more_options;

    if (is_option && strcmp(argv[i], "--") == 0)
      no_more_options = true;
    else if (is_option)
      status = take_option(options, argv[i], argv[i + 1], &taken);
    else if (options->name != NULL)
      status = complain_usage("report takes one image; backing files are named in the image name: "
                              "'TOP,backing=NEXT,backing=BASE'");
    else
      options->name = argv[i];
  }
  if (status != EXIT_OK)
    return status;
  if (options->name == NULL)
    return complain_usage("report needs one image");
  for (int i = 0; i < 2; i++) {
    const char *path = i == 0 ? options->output : options->hash_list;

    if (path != NULL && access(path, F_OK) == 0)
      return complain_failed("%s is already there, and is not overwritten", path);
  }
  if (options->date != NULL && !is_date(options->date))
    return complain_usage("--date needs a date such as 2026-11-26 or 2026-11-26T21:30:00Z");
  return EXIT_OK;
}

/* ---- Writing ---------------------------------------------------------------------------- */

/* Write a new file. What exists is never overwritten: it could be evidence. */
static int write_file(const char *path, const char *text)
{
  int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "w");
  bool is_written;

  if (descriptor < 0 && errno == EEXIST)
    return complain_failed("%s is already there, and is not overwritten", path);
  if (file == NULL)
    return complain_failed("cannot write %s: %s", path, strerror(errno));
  is_written = fputs(text, file) >= 0;
  if (fclose(file) == 0 && is_written)
    return EXIT_OK;
  unlink(path);
  return complain_failed("cannot write %s: %s", path, strerror(errno));
}

static char *make_json(struct report *report)
{
  char *text = json_dumps(report->root, JSON_INDENT(2)), *with_newline = NULL;
  size_t length = text == NULL ? 0 : strlen(text);

  if (text != NULL)
    with_newline = realloc(text, length + 2);
  if (with_newline != NULL)
    memcpy(with_newline + length, "\n", 2);
  else
    free(text);
  return with_newline;
}

static char *make_html(struct report *report)
{
  char *text = NULL;
  const char *mistake = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  bool is_filled;

  if (out == NULL)
    return NULL;
  report_trim(report->root);
  is_filled = template_fill(report_template, report->root, report->drawings, out, &mistake);
  if (fclose(out) == 0 && is_filled)
    return text;
  if (mistake != NULL)
    complain_failed("the report's template has a mistake: %.40s", mistake);
  free(text);
  return NULL;
}

static int write_report(struct report *report)
{
  char *text = report->options.is_json ? make_json(report) : make_html(report);
  int status = EXIT_OK;

  if (text == NULL)
    return complain_failed("cannot make the report: out of memory");
  if (report->options.hash_list != NULL)
    status = write_file(report->options.hash_list,
                        report->hash_list == NULL ? "" : report->hash_list);
  if (status == EXIT_OK && report->options.output != NULL)
    status = write_file(report->options.output, text);
  else if (status == EXIT_OK)
    fputs(text, stdout);
  free(text);
  return status;
}

/* ---- The command --------------------------------------------------------------------------- */

static void start(struct report *report)
{
  static const char *const names[DRAWINGS] = { "drawing_chain", "drawing_snapshots",
                                               "drawing_kinds", "drawing_layers", "drawing_file" };
  const char *name = report->options.name;
  char text[1024];

  for (size_t i = 0; i < DRAWINGS; i++)
    report->drawings[i].name = names[i];
  report->root = json_pack("{s:s, s:o, s:o}", "image",
                           qcow2_text_escape(name, strlen(name), text, sizeof(text)), "made",
                           report_made(&report->options), "versions", report_versions());
  for (int i = 0; i < SECTIONS; i++)
    (void) report_section(report, (enum report_section) i);
}

static void fill(struct report *report)
{
  if (report->options.wants[SECTION_FILES])
    report_add_files(report);
  report_gather(report);
  if (report->options.wants[SECTION_PICTURES])
    report_draw_pictures(report);
  report_summarize(report);
  report_draw_chain(report);
  report_draw_snapshots(report);
}

static void finish(struct report *report)
{
  for (size_t i = 0; i < DRAWINGS; i++)
    free(report->drawings[i].markup);
  free(report->hash_list);
  json_decref(report->root);
  tsk_qcow2_opened_close(&report->opened);
}

int command_report(int argc, char *argv[])
{
  struct report report = { .status = EXIT_OK };
  struct qcow2_error error;
  int status = parse(argc, argv, &report.options);

  if (status != EXIT_OK)
    return status;
  if (tsk_qcow2_open_names(1, &report.options.name, TSK_QCOW2_CHAIN_ONLY, NULL, &report.opened,
                           &error) != 0)
    return complain_failed("%s", error.message);
  if (tsk_qcow2_opened_is_one(&report.opened))
    status = complain_usage("a report is about a whole image, with all its snapshots: name it "
                            "without \"@\" and \",residue\"");
  else {
    start(&report);
    fill(&report);
    status = write_report(&report);
  }
  finish(&report);
  if (fflush(stdout) != 0 || ferror(stdout))
    return complain_failed("cannot write the output");
  return status == EXIT_OK ? report.status : status;
}
