/* SPDX-License-Identifier: MIT */
/* What the parts of `tsk-qcow2 verify` share. */
#ifndef TSK_QCOW2_VERIFY_H
#define TSK_QCOW2_VERIFY_H

#include <jansson.h>
#include <pthread.h>

#include "open_names.h"
#include "progress.h"

/* What is wrong with the tables and refcounts of the chain's files, whether or not reading the
   states met it. */
struct verify_tables {
  uint64_t finding_count;  /* because of which reading may fail, or give other bytes than were
                              written */
  uint64_t refcount_count; /* of wrong refcounts, which reading does not use */
  uint64_t leak_count;     /* clusters whose refcount is higher than their number of references */
  uint64_t unreferenced_count, unreferenced_bytes; /* clusters that nothing refers to */
  uint64_t unfinished_count;                       /* files that were not checked to the end */
  const char *first_path; /* of the first file with any of these. Borrowed; NULL: it has none, or
                             there is no such file */
  json_t *files;          /* NULL unless JSON is wanted */
};

struct verify {
  struct tsk_qcow2_opened opened;
  bool hash, vm_states, json;
  uint64_t listed_max;         /* ranges of a state that are listed. All are counted */
  uint64_t state_count;        /* states that were read */
  uint64_t bad_state_count;    /* states that cannot be read as a whole */
  uint64_t closed_state_count; /* states that cannot be read at all */
  uint64_t gap_state_count;    /* states that may be shown wrongly */
  uint64_t bad_range_count, bad_bytes;
  uint64_t doubtful_range_count, doubtful_bytes; /* that can be read, but may be damaged */
  bool has_view_warnings;
  struct verify_tables tables;
  pthread_mutex_t lock;     /* while states are read, guards: */
  struct progress progress; /* of the states that are read side by side */
  uint64_t done;            /* bytes of these */
};

/* What can be read of an image. */
struct verify_choice {
  size_t index; /* of the snapshot; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;
};

/* The most states that are read side by side. */
size_t verify_states_max(const struct verify *verify);

/* Read states side by side (at most verify_states_max()), and print the results in their order.
   Returns EXIT_OK, even if there is damage, or EXIT_FAILED after complaining. */
int verify_states(struct verify *verify, const struct verify_choice *choices, size_t count);

/* Print which files the states are read from. For JSON print nothing. */
void verify_print_files(const struct verify *verify);

/* Check the tables and refcounts of the chain's files, and print the result, or put it into
   verify->tables.files. Returns EXIT_OK, or EXIT_FAILED after complaining. */
int verify_check_files(struct verify *verify);

#endif
