/* SPDX-License-Identifier: MIT */
/* An image name in its parts. */
#ifndef TSK_QCOW2_PARSED_NAME_H
#define TSK_QCOW2_PARSED_NAME_H

#include <stdbool.h>

#include "name_text.h"
#include "selection.h"

/* How many images can lie one inside the other, not counting the outermost. */
#define TSK_QCOW2_NESTED_MAX 4u

/* A parsed image name. Owns its strings, and `outer`. */
struct tsk_qcow2_name {
  char *path;                   /* inside a disk: "//START/PATH" */
  struct tsk_qcow2_name *outer; /* the disk inside which it lies; NULL: `path` is this machine's */
  struct tsk_qcow2_selection selection;     /* what is after "@" */
  struct tsk_qcow2_strings backing;         /* backing=, in order */
  struct tsk_qcow2_strings backing_formats; /* the format= of each of them; NULL: not given */
  struct tsk_qcow2_strings search;    /* search=, in order, and the environment's after them */
  size_t own_search_count;            /* of those, the name's own */
  struct tsk_qcow2_strings key_files; /* key-file=, in order */
  char *data_file;                    /* data-file=; NULL: not given */
  char *data_format;                  /* its format=; NULL: not given */
  char **last_format;                 /* while parsing: where a format= belongs; NULL: nowhere */
  uint64_t offset;            /* offset=: where in its file the image begins, bytes; 0: not given */
  uint32_t header_length;     /* header-length=: bytes; 0: not given */
  bool errors_zero;           /* errors=zero: what cannot be read reads as zeros, and is reported */
  bool vm_state;              /* vmstate: the snapshot's saved memory instead of its disk */
  bool residue;               /* residue: what nothing refers to, instead of a disk */
  bool only_kept;             /* only=kept: of a deleted snapshot, only what is surely its own */
  bool by_neighbours;         /* by-neighbours: clusters that no table names, placed by guess */
  bool under_zeros;           /* under-zeros: zero, allocated clusters read as what is stored */
  bool has_layout;            /* one of the options that `layout` has was given */
  struct qcow2_layout layout; /* l1=, size=, cluster-bits=, extended-l2, compression=, luks=,
                                 encryption= */
};

/* Append a backing file, of which no format is given. Returns 0 or QCOW2_ERROR_NOMEM. */
int tsk_qcow2_name_add_backing(struct tsk_qcow2_name *name, const char *path,
                               struct qcow2_error *error);

/* The name of the outermost disk. */
const struct tsk_qcow2_name *tsk_qcow2_name_outermost(const struct tsk_qcow2_name *name);

/* True if a path in the name's options leads into the disk inside which the image lies. */
bool tsk_qcow2_name_leads_inside(const struct tsk_qcow2_name *name, const char *path);

/* All zero is allowed. */
void tsk_qcow2_name_free(struct tsk_qcow2_name *name);

#endif
