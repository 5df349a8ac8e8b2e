/* SPDX-License-Identifier: MIT */
/* By what, when and where a report was made. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <zlib.h>
#include <zstd.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#ifdef HAVE_LIBGCRYPT
#include <gcrypt.h>
#endif

#include "report.h"
#include "shell.h"

#define COMMAND_BYTES 8192

/* ---- By what ------------------------------------------------------------------------- */

static void add_version(json_t *list, const char *name, const char *version)
{
  json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "version", version));
}

json_t *report_versions(void)
{
  json_t *list = json_array();

  add_version(list, "tsk-qcow2", qcow2_version());
  add_version(list, "zlib", zlibVersion());
  add_version(list, "libzstd", ZSTD_versionString());
#ifdef HAVE_LIBDEFLATE
  add_version(list, "libdeflate", LIBDEFLATE_VERSION_STRING);
#endif
#ifdef HAVE_LIBGCRYPT
  add_version(list, "libgcrypt", gcry_check_version(NULL));
#endif
  add_version(list, "jansson", JANSSON_VERSION);
  return list;
}

/* ---- When and where ---------------------------------------------------------------------- */

static json_t *date_value(const char *given)
{
  time_t now = time(NULL);
  struct tm moment;
  char text[64] = "";

  if (given != NULL)
    return json_string(given);
  if (gmtime_r(&now, &moment) != NULL)
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &moment);
  return json_string(text);
}

/* The command as it can be typed again. */
static json_t *command_value(const struct report_options *options)
{
  char *text = calloc(1, COMMAND_BYTES), word[COMMAND_BYTES / 2];
  size_t used = 0;
  json_t *value;

  if (text == NULL)
    return NULL;
  used = (size_t) snprintf(text, COMMAND_BYTES, "tsk-qcow2 report");
  for (int i = 0; i < options->argc && used < COMMAND_BYTES; i++) {
    const char *argument = options->argv[i];

    if (strspn(argument,
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,=@:+") ==
            strlen(argument) ||
        !tsk_qcow2_shell_quote(argument, word, sizeof(word)))
      qcow2_text_escape(argument, strlen(argument), word, sizeof(word));
    used += (size_t) snprintf(text + used, COMMAND_BYTES - used, " %s", word);
  }
  value = json_string(text);
  if (value == NULL) /* cut inside a character */
    value = json_string("tsk-qcow2 report ...");
  free(text);
  return value;
}

static json_t *host_value(void)
{
  struct utsname system;
  char name[256], text[512];

  if (uname(&system) != 0)
    return json_null();
  qcow2_text_escape(system.nodename, strlen(system.nodename), name, sizeof(name));
  snprintf(text, sizeof(text), "%s (%s %s, %s)", name, system.sysname, system.release,
           system.machine);
  return json_string(text);
}

json_t *report_made(const struct report_options *options)
{
  return json_pack("{s:o, s:s, s:o, s:o}", "date", date_value(options->date), "zone", "UTC", "host",
                   options->date != NULL ? json_null() : host_value(), "command",
                   command_value(options));
}
