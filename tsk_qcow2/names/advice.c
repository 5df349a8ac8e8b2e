/* SPDX-License-Identifier: MIT */
#include "advice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "name_compose.h"

static const char *path_option(const struct qcow2_error *error)
{
  return (error->help_options & QCOW2_OPTION_BACKING_PATHS) != 0 ? "backing" : "data-file";
}

static void advise_file(const struct qcow2_error *error, const struct tsk_qcow2_name *name,
                        char out[ADVICE_BYTES])
{
  bool by_search = (error->help_options & QCOW2_OPTION_SEARCH_DIRECTORIES) != 0;
  const char *by_path = "";

  if ((error->help_options & QCOW2_OPTION_BACKING_PATHS) != 0)
    by_path = name->outer == NULL
                  ? "\",backing=PATH\" (once for each layer, the topmost first; \",backing=none\" "
                    "examines the overlay alone)"
                  : "\",backing=//START/PATH\" (in the same disk), \",backing=PATH\" (of this "
                    "machine; once for each layer, the topmost first; \",backing=none\" examines "
                    "the overlay alone)";
  else if ((error->help_options & QCOW2_OPTION_DATA_FILE) != 0)
    by_path = "\",data-file=PATH\"";
  snprintf(out, ADVICE_BYTES, "To say where it is, add %s%s%s%s to the image name", by_path,
           by_path[0] != '\0' && by_search ? " or " : "", by_search ? "\",search=DIRECTORY\"" : "",
           by_search && name->search.count > 0 ? " with another directory than those searched"
                                               : "");
}

static void advise_format(const struct qcow2_error *error, char out[ADVICE_BYTES])
{
  const char *option = path_option(error);

  if (error->help_format == NULL)
    snprintf(out, ADVICE_BYTES,
             "To say that it is raw, add \",%s=PATH,format=raw\" to the image name", option);
  else
    snprintf(
        out, ADVICE_BYTES,
        "To say what it is, add \",%s=PATH,format=%s\" or \",%s=PATH,format=raw\" to the image "
        "name",
        option, error->help_format, option);
}

static void advise_key(const struct tsk_qcow2_name *name, char out[ADVICE_BYTES])
{
  snprintf(out, ADVICE_BYTES, "%s",
           name->key_files.count == 0
               ? "Add \",key-file=PATH\" to the image name, where PATH is a file that holds the "
                 "passphrase"
               : "Give another one by \",key-file=PATH\" in the image name");
}

static void advise_snapshots(const char *before, const char *path, char out[ADVICE_BYTES])
{
  char command[SHELL_COMMAND_BYTES];

  snprintf(out, ADVICE_BYTES, "%s: %s", before,
           tsk_qcow2_shell_command("snapshots", path, command));
}

static void advise_another_reader(const struct qcow2_error *error, const char *path,
                                  char out[ADVICE_BYTES])
{
  static const char extension[] = ".qcow2";
  size_t length = path == NULL ? 0 : strlen(path);
  char command[SHELL_COMMAND_BYTES];

  if (error->help_format == NULL && length >= sizeof(extension) &&
      strcmp(path + length + 1 - sizeof(extension), extension) == 0)
    snprintf(out, ADVICE_BYTES, "If its beginning was overwritten: %s",
             tsk_qcow2_shell_command("residue --rebuild", path, command));
  else
    snprintf(out, ADVICE_BYTES, "To read it with The Sleuth Kit, leave out \"-i qcow2\"");
}

/* tsk_qcow2_map_path: as it is. */
static char *same_path(void *context, const char *path)
{
  (void) context;
  return strdup(path);
}

/* The command that opens the image at an offset of the file. */
static void advise_offset(const struct qcow2_error *error, const struct tsk_qcow2_name *name,
                          const char *path, char out[ADVICE_BYTES])
{
  struct tsk_qcow2_name there = *name;
  char command[SHELL_COMMAND_BYTES];
  char *text;

  there.offset += error->host_offset;
  text = path == NULL ? NULL : tsk_qcow2_name_compose(&there, same_path, NULL);
  if (text == NULL)
    snprintf(out, ADVICE_BYTES, "To open it, add \",offset=%" PRIu64 "\" to the image name",
             there.offset);
  else
    snprintf(out, ADVICE_BYTES, "To open it: %s", tsk_qcow2_shell_command("info", text, command));
  free(text);
}

/* The command that unpacks the file into the working directory. No file of the user's is called as
   the new one is. */
static void advise_unpacking(const struct qcow2_error *error, const char *path,
                             char out[ADVICE_BYTES])
{
  static const struct {
    const char *format, *before, *after;
  } PROGRAMS[] = {
    { "xz", "xz -dc", " > unpacked.qcow2" },
    { "gzip", "gzip -dc", " > unpacked.qcow2" },
    { "bzip2", "bzip2 -dc", " > unpacked.qcow2" },
    { "zstd", "zstd -dc", " > unpacked.qcow2" },
    { "lz4", "lz4 -dc", " > unpacked.qcow2" },
    { "lzop", "lzop -dc", " > unpacked.qcow2" },
    { "zip", "unzip -n", "" },
    { "7z", "7z x -aos", "" },
    { "tar", "tar --keep-old-files -xf", "" },
  };
  char quoted[SHELL_COMMAND_BYTES];

  if (path == NULL || !tsk_qcow2_shell_quote(path, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "FILE");
  for (size_t i = 0; i < sizeof(PROGRAMS) / sizeof(PROGRAMS[0]); i++)
    if (error->help_format != NULL && strcmp(error->help_format, PROGRAMS[i].format) == 0)
      snprintf(out, ADVICE_BYTES, "To unpack it into the working directory: %s %s%s",
               PROGRAMS[i].before, quoted, PROGRAMS[i].after);
}

char *tsk_qcow2_advice(const struct qcow2_error *error, const struct tsk_qcow2_name *name,
                       const char *path, char out[ADVICE_BYTES])
{
  char command[SHELL_COMMAND_BYTES];

  out[0] = '\0';
  switch ((enum qcow2_help) error->help) {
  case QCOW2_HELP_NONE:
  case QCOW2_HELP_REFERRER: break;
  case QCOW2_HELP_NAME_FILE: advise_file(error, name, out); break;
  case QCOW2_HELP_FORMAT: advise_format(error, out); break;
  case QCOW2_HELP_END_CHAIN:
    snprintf(out, ADVICE_BYTES,
             "To end it before that, add \",backing=PATH\" for each layer above, and then "
             "\",backing=none\", to the image name");
    break;
  case QCOW2_HELP_PASSPHRASE: advise_key(name, out); break;
  case QCOW2_HELP_LEAVE_OUT:
    snprintf(out, ADVICE_BYTES, "%s",
             (error->help_options & QCOW2_OPTION_PASSPHRASES) != 0
                 ? "Leave out each \",key-file=\" that nothing needs"
             : (error->help_options & QCOW2_OPTION_HEADER_LENGTH) != 0
                 ? "Leave out \",header-length=\""
                 : "Leave out \",data-file=\"");
    break;
  case QCOW2_HELP_SNAPSHOT_KEY:
    advise_snapshots("Choose one with @id=ID, @name=NAME or @index=N, as listed by", path, out);
    break;
  case QCOW2_HELP_SNAPSHOT_LIST: advise_snapshots("To list all", path, out); break;
  case QCOW2_HELP_LAYOUT:
    snprintf(out, ADVICE_BYTES, "To find out what it can be: %s",
             tsk_qcow2_shell_command("residue --rebuild", path, command));
    break;
  case QCOW2_HELP_DELETED_KEY:
    snprintf(out, ADVICE_BYTES,
             "Choose one by \"@deleted-l1=OFFSET\" in the image name, where OFFSET is where its L1 "
             "table is");
    break;
  case QCOW2_HELP_DELETED_LIST:
    snprintf(out, ADVICE_BYTES, "To see what is left in the file: %s",
             tsk_qcow2_shell_command("residue", path, command));
    break;
  case QCOW2_HELP_ABANDONED:
    snprintf(out, ADVICE_BYTES, "To open that, write \"@abandoned\" before the options");
    break;
  case QCOW2_HELP_ANOTHER_READER:
    if (name->outer != NULL)
      snprintf(out, ADVICE_BYTES,
               "Inside a disk, only qcow2 images can be read: extract it, with icat");
    else if (name->offset == 0)
      advise_another_reader(error, path, out);
    break;
  case QCOW2_HELP_OFFSET: advise_offset(error, name, path, out); break;
  case QCOW2_HELP_UNPACK: advise_unpacking(error, path, out); break;
  case QCOW2_HELP_HEADER_LENGTH:
    snprintf(out, ADVICE_BYTES, "To read it so, add \",header-length=104\" to the image name");
    break;
  }
  return out;
}

bool tsk_qcow2_advice_adds(const struct qcow2_error *error)
{
  switch ((enum qcow2_help) error->help) {
  case QCOW2_HELP_NAME_FILE:
  case QCOW2_HELP_FORMAT:
  case QCOW2_HELP_END_CHAIN:
  case QCOW2_HELP_HEADER_LENGTH:
  case QCOW2_HELP_PASSPHRASE: return true;
  case QCOW2_HELP_NONE:
  case QCOW2_HELP_REFERRER:
  case QCOW2_HELP_LEAVE_OUT:
  case QCOW2_HELP_SNAPSHOT_KEY:
  case QCOW2_HELP_SNAPSHOT_LIST:
  case QCOW2_HELP_ANOTHER_READER:
  case QCOW2_HELP_LAYOUT:
  case QCOW2_HELP_OFFSET:
  case QCOW2_HELP_UNPACK:
  case QCOW2_HELP_DELETED_KEY:
  case QCOW2_HELP_DELETED_LIST:
  case QCOW2_HELP_ABANDONED: break;
  }
  return false;
}
