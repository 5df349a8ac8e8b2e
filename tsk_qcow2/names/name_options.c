/* SPDX-License-Identifier: MIT */
#include "name_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"

#define QUOTED_BYTES 256

static int take_backing(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code = tsk_qcow2_name_add_backing(name, value, error);

  if (code == 0)
    name->last_format = strcmp(value, QCOW2_BACKING_NONE) == 0
                            ? NULL
                            : &name->backing_formats.items[name->backing_formats.count - 1];
  return code;
}

static int check_format(const char *value, bool is_data_file, struct qcow2_error *error)
{
  static const char *const FORMATS[] = { "raw", "vmdk", "vhd",   "ewf", "aff",
                                         "afd", "afm",  "qcow2", "qcow" };
  const size_t count = sizeof(FORMATS) / sizeof(FORMATS[0]) - (is_data_file ? 2 : 0);
  char quoted[QUOTED_BYTES];

  for (size_t i = 0; i < count; i++)
    if (strcmp(FORMATS[i], value) == 0)
      return 0;
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the option \"format\" of the image name takes raw, vmdk, vhd, ewf, aff, "
                         "afd, afm%s, not \"%s\"",
                         is_data_file ? "" : ", qcow2 or qcow",
                         qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
}

/* The format of the file that the option right before this one names. */
static int take_format(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code;

  if (name->last_format == NULL)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"format\" of the image name belongs right after the file that it is about: "
        "backing=PATH,format=FORMAT or data-file=PATH,format=FORMAT");
  code = check_format(value, name->last_format == &name->data_format, error);
  if (code != 0)
    return code;
  *name->last_format = strdup(value);
  return *name->last_format == NULL ? tsk_qcow2_complain_nomem(error) : 0;
}

static int take_search(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return tsk_qcow2_strings_add(&name->search, value, strlen(value), error);
}

static int take_key_file(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return tsk_qcow2_strings_add(&name->key_files, value, strlen(value), error);
}

static int take_data_file(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  if (name->data_file != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the option \"data-file\" is given twice");
  name->data_file = strdup(value);
  name->last_format = &name->data_format;
  return name->data_file == NULL ? tsk_qcow2_complain_nomem(error) : 0;
}

/* Read a decimal number of bytes, not below `lowest` (above 0), into *bytes, which must be 0. */
static int take_bytes(const char *option, const char *value, uint64_t lowest, uint64_t highest,
                      uint64_t *bytes, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES], *end;
  unsigned long long number;

  if (*bytes != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the option \"%s\" is given twice", option);
  errno = 0;
  number = strtoull(value, &end, 10);
  if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < lowest ||
      number > highest)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"%s\" of the image name takes a decimal number of bytes above "
        "%" PRIu64 ", not \"%s\"",
        option, lowest - 1, qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
  *bytes = number;
  return 0;
}

static int take_offset(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return take_bytes("offset", value, 1, UINT64_MAX, &name->offset, error);
}

static int take_header_length(struct tsk_qcow2_name *name, const char *value,
                              struct qcow2_error *error)
{
  uint64_t bytes = name->header_length;
  int code = take_bytes("header-length", value, 104, UINT32_MAX, &bytes, error);

  name->header_length = (uint32_t) bytes;
  return code;
}

static int take_vm_state(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  (void) value;
  if (name->selection.kind == TSK_QCOW2_SELECT_NOTHING)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"vmstate\" needs a snapshot: IMAGE@SNAPSHOT,vmstate");
  name->vm_state = true;
  return 0;
}

/* Check the value of an option that takes only one. `more` ends the error. */
static int check_only_value(const char *option, const char *only, const char *value,
                            const char *more, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];

  return strcmp(value, only) == 0
             ? 0
             : qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                               "the option \"%s\" of the image name takes the value \"%s\" only, "
                               "not \"%s\"%s",
                               option, only,
                               qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)),
                               more);
}

static int take_errors(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code = check_only_value("errors", "zero", value, "", error);

  name->errors_zero = code == 0;
  return code;
}

static int take_under_zeros(struct tsk_qcow2_name *name, const char *value,
                            struct qcow2_error *error)
{
  (void) value;
  (void) error;
  name->under_zeros = true;
  return 0;
}

static int take_residue(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  (void) value;
  (void) error;
  name->residue = true;
  return 0;
}

/* Options of a layout that is given: numbers, in decimal. */
static int take_number(struct tsk_qcow2_name *name, const char *option, const char *value,
                       uint64_t *number, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES], *end = NULL;
  unsigned long long given = 0;

  errno = 0;
  if (value[0] >= '1' && value[0] <= '9')
    given = strtoull(value, &end, 10);
  if (end == NULL || *end != '\0' || errno != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"%s\" of the image name takes a decimal number from 1 on, "
                           "not \"%s\"",
                           option, qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
  *number = given;
  name->has_layout = true;
  return 0;
}

static int take_l1(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  if (strcmp(value, "none") == 0 || strcmp(value, "by-order") == 0) {
    name->layout.flags |= (unsigned) QCOW2_LAYOUT_NO_L1 |
                          (value[0] == 'b' ? (unsigned) QCOW2_LAYOUT_BY_ORDER : 0);
    name->has_layout = true;
    return 0;
  }
  return take_number(name, "l1", value, &name->layout.l1_offset, error);
}

static int take_size(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return take_number(name, "size", value, &name->layout.size, error);
}

static int take_luks(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return take_number(name, "luks", value, &name->layout.luks_offset, error);
}

static int take_cluster_bits(struct tsk_qcow2_name *name, const char *value,
                             struct qcow2_error *error)
{
  uint64_t bits = 0;
  int code = take_number(name, "cluster-bits", value, &bits, error);

  if (code == 0 && (bits < 9 || bits > 21))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"cluster-bits\" of the image name takes 9 to 21: clusters "
                           "of 512 bytes to 2 MiB");
  name->layout.cluster_bits = (uint32_t) bits;
  return code;
}

static int take_extended_l2(struct tsk_qcow2_name *name, const char *value,
                            struct qcow2_error *error)
{
  (void) value;
  (void) error;
  name->layout.flags |= QCOW2_LAYOUT_EXTENDED_L2;
  name->has_layout = true;
  return 0;
}

static int take_compression(struct tsk_qcow2_name *name, const char *value,
                            struct qcow2_error *error)
{
  int code = check_only_value("compression", "zstd", value, ": without it, it is deflate", error);

  if (code != 0)
    return code;
  name->layout.flags |= QCOW2_LAYOUT_ZSTD;
  name->has_layout = true;
  return 0;
}

static int take_encryption(struct tsk_qcow2_name *name, const char *value,
                           struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];

  if (strcmp(value, "aes") != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"encryption\" of the image name takes the value \"aes\" "
                           "only, not \"%s\": LUKS "
                           "is luks=OFFSET",
                           qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
  name->layout.flags |= QCOW2_LAYOUT_AES;
  name->has_layout = true;
  return 0;
}

static int take_only(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code = check_only_value("only", "kept", value, "", error);

  if (code != 0)
    return code;
  if (!tsk_qcow2_selection_is_deleted(&name->selection))
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"only=kept\" needs a deleted snapshot or an abandoned state: "
        "IMAGE@deleted=NAME,only=kept");
  name->only_kept = true;
  return 0;
}

static int take_by_neighbours(struct tsk_qcow2_name *name, const char *value,
                              struct qcow2_error *error)
{
  (void) value;
  if (!tsk_qcow2_selection_is_deleted(&name->selection))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"by-neighbours\" needs an abandoned state or a deleted "
                           "snapshot: IMAGE@abandoned,by-neighbours");
  name->by_neighbours = true;
  return 0;
}

static const struct option {
  const char *name;
  const char *value; /* what messages show after "="; NULL: the option takes no value */
  int (*take)(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error);
} OPTIONS[] = {
  { "backing", "PATH", take_backing },
  { "data-file", "PATH", take_data_file },
  { "format", "FORMAT", take_format },
  { "search", "DIRECTORY", take_search },
  { "vmstate", NULL, take_vm_state },
  { "errors", "zero", take_errors },
  { "key-file", "PATH", take_key_file },
  { "under-zeros", NULL, take_under_zeros },
  { "residue", NULL, take_residue },
  { "offset", "BYTES", take_offset },
  { "l1", "OFFSET", take_l1 }, /* or none, by-order */
  { "size", "BYTES", take_size },
  { "cluster-bits", "BITS", take_cluster_bits },
  { "extended-l2", NULL, take_extended_l2 },
  { "compression", "zstd", take_compression },
  { "luks", "OFFSET", take_luks },
  { "encryption", "aes", take_encryption },
  { "header-length", "BYTES", take_header_length },
  { "only", "kept", take_only },
  { "by-neighbours", NULL, take_by_neighbours },
};

static const struct option *find_option(const char *text, size_t length)
{
  for (size_t i = 0; i < sizeof(OPTIONS) / sizeof(OPTIONS[0]); i++)
    if (strlen(OPTIONS[i].name) == length && memcmp(OPTIONS[i].name, text, length) == 0)
      return &OPTIONS[i];
  return NULL;
}

/* Check that there is a value if the option takes one, and none if it does not. */
static int check_value(const struct option *option, const char *value, struct qcow2_error *error)
{
  if (option->value == NULL && value != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"%s\" of the image name takes no value", option->name);
  if (option->value != NULL && (value == NULL || value[0] == '\0'))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"%s\" of the image name needs a value: %s=%s", option->name,
                           option->name, option->value);
  return 0;
}

int tsk_qcow2_name_apply_option(struct tsk_qcow2_name *name, const char *text,
                                struct qcow2_error *error)
{
  size_t name_length = strcspn(text, "=");
  const struct option *option = find_option(text, name_length);
  const char *value = text[name_length] == '=' ? text + name_length + 1 : NULL;
  char quoted[QUOTED_BYTES];
  int code;

  if (option == NULL)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the image name has an unknown option \"%s\"; there are backing=PATH, "
        "backing=none, data-file=PATH, format=FORMAT, search=DIRECTORY, "
        "key-file=PATH, offset=BYTES, header-length=BYTES, vmstate, under-zeros, residue, "
        "only=kept, by-neighbours, errors=zero and, if the header is lost, l1=OFFSET, l1=none, "
        "l1=by-order, size=BYTES, cluster-bits=BITS, extended-l2, compression=zstd, luks=OFFSET "
        "and encryption=aes "
        "(\",,\" stands for a comma)",
        qcow2_text_escape(text, name_length, quoted, sizeof(quoted)));
  code = check_value(option, value, error);
  if (code == 0) {
    code = option->take(name, value, error);
    if (option->take != take_backing && option->take != take_data_file)
      name->last_format = NULL;
  }
  return code;
}

bool tsk_qcow2_name_gives_layout(const char *rest)
{
  static const char *const STARTS[] = { ",l1=", ",size=", ",cluster-bits=" };

  for (size_t i = 0; i < sizeof(STARTS) / sizeof(STARTS[0]); i++)
    if (strstr(rest, STARTS[i]) != NULL)
      return true;
  return false;
}

bool tsk_qcow2_name_is_option(const char *text, size_t length)
{
  return find_option(text, length) != NULL;
}
