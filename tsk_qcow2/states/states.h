/* SPDX-License-Identifier: MIT */
/* The program that `tsk-qcow2` starts for what needs libtsk's file systems. */
#ifndef TSK_QCOW2_STATES_H
#define TSK_QCOW2_STATES_H

#include <stdbool.h>

struct diff_options {
  bool is_json, is_body, with_deleted;
};

/* Compare two states by their files. Returns an exit status. */
int states_diff(const char *const names[2], const struct diff_options *options);

struct timeline_options {
  bool is_csv, with_recovered;
};

/* Put all states of an image on one timeline, deleted snapshots only if asked for. If the name
   chooses a state, only that one. Returns an exit status. */
int states_timeline(const char *name, const struct timeline_options *options);

/* Describe all states of an image, as JSON: file systems, and what changed from one to the next.
   With `has_verified`, stdin has what `verify --json` printed, and files on ranges that cannot be
   read are named. Returns an exit status. */
int states_survey(const char *name, bool has_verified);

#endif
