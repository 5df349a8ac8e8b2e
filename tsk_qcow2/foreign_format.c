/* SPDX-License-Identifier: MIT */
/* Which format a backing file is in that is neither qcow2 nor raw: by names and declarations, never by content. */
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "complain.h"
#include "qcow2names.h"

/* A format of libtsk's, by its name there. */
struct format {
  const char *type;
  const char *declared;   /* QEMU's name; NULL: QEMU has none */
  const char *extensions; /* of file names, each between dots */
  bool leads_further;     /* a file of this format can name others */
};

static const struct format FORMATS[] = {
  { "vmdk", "vmdk", ".vmdk.", true },
  { "vhd", "vpc", ".vhd.vpc.", false },
  { "ewf", NULL, ".e01.ex01.s01.", true },
  { "aff", NULL, ".aff.", false },
  { "afd", NULL, ".afd.", true },
  { "afm", NULL, ".afm.", true },
};

static bool has_extension(const char *path, const char *extensions)
{
  const char *dot = strrchr(path, '.');
  size_t length = dot == NULL || strchr(dot, '/') != NULL ? 0 : strlen(dot);

  for (const char *at = extensions; length > 1 && at[1] != '\0'; at = strchr(at + 1, '.'))
    if (strncasecmp(at, dot, length) == 0 && at[length] == '.')
      return true;
  return false;
}

/* The format of the file: what the user's name for it says, else what the image declares. NULL: none of ours. */
static const struct format *choose_format(const struct qcow2_foreign *file)
{
  const size_t count = sizeof(FORMATS) / sizeof(FORMATS[0]);

  for (size_t i = 0; file->is_callers_word && i < count; i++)
    if (has_extension(file->path, FORMATS[i].extensions))
      return &FORMATS[i];
  for (size_t i = 0; file->declared_format != NULL && i < count; i++)
    if (FORMATS[i].declared != NULL && strcmp(FORMATS[i].declared, file->declared_format) == 0)
      return &FORMATS[i];
  return NULL;
}

int qcow2_foreign_choose(const struct qcow2_foreign *file, const char **format_name,
                         struct qcow2_error *error)
{
  const struct format *format = choose_format(file);
  struct qcow2_error unwanted;

  if (format == NULL)
    return QCOW2_NOT_FOREIGN;
  if (format->leads_further && !file->is_callers_word)
    return tsk_qcow2_complain(error == NULL ? &unwanted : error, QCOW2_ERROR_DENIED,
                              "the backing file is declared to be of format \"%s\", which can lead to further files, so it "
                              "needs your word: add \",backing=PATH\" to the image name", format->type);
  *format_name = format->type;
  return 0;
}
