/* SPDX-License-Identifier: MIT */
/* What the parts of `tsk-qcow2 report` share. */
#ifndef TSK_QCOW2_REPORT_H
#define TSK_QCOW2_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "open_names.h"
#include "template.h"

enum report_section {
  SECTION_FILES,
  SECTION_FACTS,
  SECTION_PICTURES,
  SECTION_STATES,
  SECTION_HASHES,
  SECTION_CONSISTENCY,
  SECTION_RESIDUE,
  SECTIONS
};

/* What the user wants. */
struct report_options {
  const char *name;                      /* the image's name, as typed */
  const char *output, *hash_list, *date; /* NULL: not given */
  bool is_json, no_hash, vm_states;
  bool wants[SECTIONS];
  int argc; /* of the command line, which the report quotes */
  char **argv;
};

enum report_drawing {
  DRAWING_CHAIN,
  DRAWING_SNAPSHOTS,
  DRAWING_KINDS,
  DRAWING_LAYERS,
  DRAWING_FILE,
  DRAWINGS
};

struct report {
  struct report_options options;
  struct tsk_qcow2_opened opened;
  json_t *root;    /* everything, as --json prints it */
  char *hash_list; /* in the format of sha256sum; NULL: none */
  struct drawing drawings[DRAWINGS + 1];
  int status; /* the worst exit status of what was asked */
};

/* The JSON of a section, with "is_done", "is_asked" and, if it could not be done, "why". */
json_t *report_section(struct report *report, enum report_section section);
void report_set_done(struct report *report, enum report_section section, json_t *data);
void report_set_failed(struct report *report, enum report_section section, const char *why);

/* A member of what a section has found; NULL: it is not there. */
json_t *report_data(const struct report *report, enum report_section section, const char *key);

/* Note the status of a part. */
void report_add_status(struct report *report, int status);

/* Ask the other commands (gather.c). */
void report_gather(struct report *report);

/* Describe and hash the files of the chain (files.c). */
void report_add_files(struct report *report);

/* Draw the chain and the snapshots (drawings.c), and the disk and the file (pictures.c). Names do
   not reach them but as text. */
void report_draw_chain(struct report *report);
void report_draw_snapshots(struct report *report);
void report_draw_pictures(struct report *report);

/* By what, when and where the report was made (made.c). */
json_t *report_made(const struct report_options *options);
json_t *report_versions(void);

/* Add the most important of what the sections say (summary.c). */
void report_summarize(struct report *report);

/* Shorten lists so that what is made of the values has a bounded size (trim.c). Where a list "x"
   was cut, "x_more" is the number of items that were removed. */
void report_trim(json_t *values);

/* The template that the HTML is made with. */
extern const char report_template[];

#endif
