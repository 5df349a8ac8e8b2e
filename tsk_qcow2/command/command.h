/* SPDX-License-Identifier: MIT */
/* The sub-commands of tsk-qcow2, and what they share. */
#ifndef TSK_QCOW2_COMMAND_H
#define TSK_QCOW2_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "open_names.h"

/* Exit statuses. */
#define EXIT_OK 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_NOT_ENABLED 3 /* status: the loader does not pick the plugin */
#define EXIT_DAMAGED 4     /* verify, diff: some of it cannot be read; check: it is corrupt */
#define EXIT_LEAKS 5       /* check: leaks or doubts, and nothing else */
#define EXIT_INCOMPLETE 6  /* check: nothing serious was found, but not everything was checked */
#define EXIT_CHANGED 7     /* verify: a file changed while it was read */

/* Each gets the arguments after its own name, NULL-terminated, and returns an exit status. */
int command_bitmap(int argc, char *argv[]);
int command_check(int argc, char *argv[]);
int command_diff(int argc, char *argv[]);
int command_disable(int argc, char *argv[]);
int command_enable(int argc, char *argv[]);
int command_help(int argc, char *argv[]);
int command_info(int argc, char *argv[]);
int command_map(int argc, char *argv[]);
int command_mount(int argc, char *argv[]);
int command_report(int argc, char *argv[]);
int command_residue(int argc, char *argv[]);
int command_run(int argc, char *argv[]);
int command_selector(int argc, char *argv[]);
int command_snapshots(int argc, char *argv[]);
int command_status(int argc, char *argv[]);
int command_timeline(int argc, char *argv[]);
int command_verify(int argc, char *argv[]);

/* Print "tsk-qcow2: " and a sentence on stderr; returns EXIT_FAILED. */
int complain_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, with a hint at the help that complain_set_topic() chose, or else at --help; returns
   EXIT_USAGE. */
int complain_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Usage errors from now on lead to this topic of the help. Static storage. */
void complain_set_topic(const char *topic);

/* Print the warnings of what was opened on stderr. */
void complain_warnings(const struct tsk_qcow2_opened *opened);

/* Print a warning on stderr for each file of the image that changed since it was opened. */
void complain_changes(const struct tsk_qcow2_opened *opened);

/* Print them on stdout, as a part of what is reported about it. */
void print_warnings(const struct tsk_qcow2_opened *opened);

/* Print an overview of all commands and of image names. */
void help_print_all(FILE *out);

/* Print what info prints, as JSON, on stdout. Returns an exit status: EXIT_DAMAGED if something
   that is printed there cannot be read. */
int info_print_json(const struct tsk_qcow2_opened *opened);

/* Write to `path` the library that the dynamic loader picks for libtsk's soname in this process,
   with its LD_LIBRARY_PATH. False: none can be loaded, and `path` says why. */
bool loader_picks(char *path, size_t path_size);

/* True if `path`, as loader_picks() gave it, is the drop-in. */
bool loader_is_dropin(const char *path);

/* True if `path` is the libtsk that the drop-in loads, whatever the name in `path` is. */
bool loader_is_real(const char *path);

/* Whether the fls in PATH lists qcow2 among its image types: it may load another libtsk than the
   drop-in does. */
enum loader_answer {
  LOADER_NO_FLS,
  LOADER_FLS_WITHOUT_QCOW2,
  LOADER_FLS_WITH_QCOW2
};
enum loader_answer loader_ask_fls(void);

#endif
