/* SPDX-License-Identifier: MIT */
/* A state that `tsk-qcow2 verify` reads, and what is printed of it. */
#ifndef TSK_QCOW2_VERIFY_RESULT_H
#define TSK_QCOW2_VERIFY_RESULT_H

#include <stdio.h>

#include "sha256.h"
#include "verify.h"

#define VERIFY_TITLE_BYTES 640

/* Ranges that have the same fault. */
struct verify_ranges {
  bool has_last; /* there is one that may go on: */
  struct qcow2_error last;
  uint64_t count, bytes;
  json_t *list;
};

struct verify_state {
  struct verify *verify;
  size_t index; /* of the snapshot; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;
  char title[VERIFY_TITLE_BYTES];
  struct qcow2_view *view; /* NULL: it cannot be read at all, because of this error: */
  struct qcow2_error failure;
  uint64_t size, position;        /* bytes; how many of them were read */
  bool is_parked;                 /* it is read on when its turn has come */
  struct sha256 *sha256;          /* NULL: no hash */
  char digits[SHA256_TEXT_BYTES]; /* "": no hash */
  bool is_its_turn;               /* its ranges are printed at once. Else they are kept: */
  FILE *kept;                     /* a stream into `kept_text`; NULL: nothing is kept */
  char *kept_text;
  size_t kept_bytes;
  bool is_out_of_memory;         /* a range could not be kept */
  struct verify_ranges bad;      /* that cannot be read */
  struct verify_ranges doubtful; /* that can be read, but may be damaged */
  json_t *warnings;
};

/* Why the state cannot be read at all; NULL: it can. */
static inline const char *verify_result_failure(const struct verify_state *state)
{
  return state->view == NULL ? state->failure.message : NULL;
}

/* Set the title. What a deleted snapshot is called is known once its view is open. */
void verify_result_set_title(struct verify_state *state);

/* A range of the state that cannot be read (`is_bad`), or may be damaged. */
void verify_result_print_range(FILE *out, const struct verify_state *state, bool is_bad,
                               const struct qcow2_error *range);
json_t *verify_result_range(const struct qcow2_error *range);

/* The state, after it was read. The value shares the lists of the state. */
void verify_result_print(const struct verify_state *state);
json_t *verify_result_value(const struct verify_state *state);

#endif
