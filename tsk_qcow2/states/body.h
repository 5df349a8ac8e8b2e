/* SPDX-License-Identifier: MIT */
/* Lines of mactime's body format. */
#ifndef TSK_QCOW2_STATES_BODY_H
#define TSK_QCOW2_STATES_BODY_H

#include "entries.h"

/* What a line says, but for the name. */
struct body_facts {
  char inode[48]; /* as fls prints it */
  char mode[16];  /* the name's type, "/", the file's type and permissions */
  uint32_t uid, gid;
  int64_t size;
  int64_t times[ENTRY_TIMES];
};

/* Write types and permissions as fls -m does, such as "r/rrwxr-xr-x". `of_name` is a letter as in
   tsk_fs_name_type_str; `meta_type` a TSK_FS_META_TYPE_ENUM, which is used with has_meta only. */
void body_mode(const char *of_name, unsigned meta_type, uint32_t mode, bool has_meta, char out[16]);

/* The letter of a file's own type, as in tsk_fs_meta_type_str. */
const char *body_type(unsigned meta_type);

/* Write a name so that mactime reads it back: it takes "%XX" for a byte, and "|" ends it. Returns
   `out`; what does not fit is left out. */
char *body_escape(const char *name, char *out, size_t out_size);

#endif
