/* SPDX-License-Identifier: MIT */
/* Everything that can be asked of an opened image, compared with what it said without faults. */
#ifndef TESTS_FAULTS_EXAMINE_H
#define TESTS_FAULTS_EXAMINE_H

#include <stdio.h>

#include "../../tsk_qcow2/names/open_names.h"
#include "inject.h"

#define TEXT_BYTES 65536u
#define PIECE_BYTES 100003u /* of a read: no multiple of anything */
#define VIEWS_MAX 8u
#define WARNINGS_MAX 8u
#define UNTOUCHED 0xa5 /* fills an error before each call */

struct text {
  char bytes[TEXT_BYTES];
  size_t used;
};

enum section {
  LAYERS,
  ENCRYPTION,
  SNAPSHOTS,
  BITMAPS,
  SECTIONS
};

struct view_content {
  size_t snapshot_index;
  bool is_vm_state;
  uint64_t size;
  uint8_t *bytes;
  struct text map;
};

/* What the image is without faults. */
struct expected {
  int open_code;
  struct text sections[SECTIONS];
  char warnings[WARNINGS_MAX][1024];
  size_t warning_count;
  struct view_content views[VIEWS_MAX];
  size_t view_count;
};
extern struct expected expected;

/* The run that is on. */
struct run {
  const char *const *names;
  size_t name_count;
  bool is_reference;
  enum fault_kind kind;
  unsigned long number;
  bool stays;
  struct tsk_qcow2_opened opened;
  size_t warning_count;
  struct text text;
  /* what the current step is about */
  const struct view_content *content;
  struct qcow2_view *view;
  uint64_t offset;
  size_t length;
  uint8_t buffer[PIECE_BYTES];
  FILE *nowhere;
};
extern struct run run;

/* Say that something is wrong, with the fault that is on. After many complaints the program
   ends. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
int complaint_count(void);

/* Append to a text. */
void say(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Complain unless the error that a step has filled in is one that the fault explains. */
void check_error(const char *what, int code, const struct qcow2_error *error);

/* Do a step, and once more if that fails but the fault is over. Returns whether it went well. */
bool perform(const char *what, int (*step)(struct qcow2_error *error));

/* Ask run.opened everything, and read all of it: that is expected from now on (run.is_reference),
   or compared with what is. */
void examine(void);

#endif
