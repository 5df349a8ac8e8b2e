/* SPDX-License-Identifier: MIT */
/* Which programs the plugin reaches, from what their files contain. */
#ifndef TSK_QCOW2_PROGRAM_H
#define TSK_QCOW2_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

enum program_kind {
  PROGRAM_OTHER,       /* as far as can be seen, a program that does not use libtsk, such as a
                          script */
  PROGRAM_UNDERSTANDS, /* loads libtsk, and understands qcow2 with the plugin */
  /* These take a qcow2 image for a raw disk: */
  PROGRAM_OWN_LIBTSK,   /* contains a libtsk of its own */
  PROGRAM_OTHER_LIBTSK, /* needs a libtsk of the soname in `detail` */
  PROGRAM_RUN_PATH,     /* finds the libtsk in `detail` before the plugin */
  PROGRAM_BYPASSES, /* opens images inside libtsk, by the symbol in `detail`, where the plugin is
                       not called */
};

struct program_answer {
  enum program_kind kind;
  char detail[512];
};

/* Look at a program. `is_enabled`: the loader finds the plugin by its configuration; else by the
   library path, as with `run`. */
void program_ask(const char *path, bool is_enabled, struct program_answer *answer);

/* Why a program takes a qcow2 image for a raw disk, as a predicate that follows its name in a
   sentence. */
void program_explain(const struct program_answer *answer, char *text, size_t text_size);

/* Find the file that a shell would run. False: there is none. */
bool program_find(const char *name, char *path, size_t path_size);

/* True if libtsk's calls of its own functions do not reach the plugin (-Bsymbolic-functions). */
bool program_libtsk_binds_calls(void);

/* Call `visit` for each program in PATH that loads or contains a libtsk. */
typedef void program_visit(void *context, const char *path, const struct program_answer *answer);
void program_each_in_path(bool is_enabled, program_visit *visit, void *context);

#endif
