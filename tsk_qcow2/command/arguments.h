/* SPDX-License-Identifier: MIT */
/* The arguments of sub-commands that take an image. */
#ifndef TSK_QCOW2_ARGUMENTS_H
#define TSK_QCOW2_ARGUMENTS_H

#include "open_names.h"

/* Options. Each sub-command chooses which of them it takes. */
enum {
  ARGUMENT_CHAIN = 1,          /* --chain */
  ARGUMENT_JSON = 2,           /* --json */
  ARGUMENT_VM_STATE = 4,       /* --vmstate */
  ARGUMENT_NO_HASH = 8,        /* --no-hash */
  ARGUMENT_RANGES = 16,        /* --ranges */
  ARGUMENT_DELETED = 32,       /* --deleted */
  ARGUMENT_BODY = 64,          /* --body */
  ARGUMENT_CSV = 128,          /* --csv */
  ARGUMENT_FOREGROUND = 256,   /* --foreground */
  ARGUMENT_ALLOW_OTHER = 512,  /* --allow-other */
  ARGUMENT_STREAMS = 1024,     /* --streams DIRECTORY */
  ARGUMENT_DECODE = 2048,      /* --decode */
  ARGUMENT_SVG = 4096,         /* --svg */
  ARGUMENT_SVG_DISK = 8192,    /* --svg=disk */
  ARGUMENT_SVG_LAYERS = 16384, /* --svg=layers */
  ARGUMENT_SVG_FILE = 32768,   /* --svg=file */
  ARGUMENT_REBUILD = 65536,    /* --rebuild */
  ARGUMENT_MAP = 131072,       /* --map NAME */
  ARGUMENT_LIST = 262144,      /* --list NUMBER */
  ARGUMENT_RECOVERED = 524288  /* --recovered */
};

struct arguments {
  const char *command; /* its name, for messages */
  int operands_wanted; /* 1 or 2 */
  const char *wanted;  /* what they are, for messages; NULL: "one image" */
  unsigned known;      /* ARGUMENT_... */
  unsigned given;      /* those that were there */
  const char *operands[2];
  int operand_count;
  const char *streams; /* the value of --streams */
  const char *map;     /* of --map */
  const char *list;    /* the value of --list */
};

/* Parse argv into the last fields, from `given` on. The caller has set the others. Returns EXIT_OK,
   or EXIT_USAGE after complaining. */
int arguments_parse(int argc, char *argv[], struct arguments *arguments);

/* Open an operand, counted from 0. If a backing or data file is in one of libtsk's formats, libtsk
   is loaded for it. The caller closes. Returns EXIT_OK, or EXIT_FAILED after complaining. */
int arguments_open(const struct arguments *arguments, int operand, enum tsk_qcow2_depth depth,
                   struct tsk_qcow2_opened *opened);

/* Close the image, and make sure that all output was written. Returns `status`; EXIT_DAMAGED in
   place of EXIT_OK if a disk around the image may be shown wrongly; or EXIT_FAILED after
   complaining. */
int arguments_finish(struct tsk_qcow2_opened *opened, int status);

#endif
