/* SPDX-License-Identifier: MIT */
#include "contents.h"

#include <stdio.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"
#include "../storage/storage.h"

#define PART_NAME_BYTES 512u

/* What indicates the format of a file. NULL: nothing. */
struct evidence {
  const struct qcow2_file_format *named;    /* by the extension of a path that the options give */
  const struct qcow2_file_format *declared; /* by the image */
  bool declares_unknown;                    /* the image declares a format that is not known */
  const struct qcow2_file_format *content;  /* by the first and last bytes */
};

/* ---- Messages ------------------------------------------------------------------ */

/* "the backing file "PATH"". */
#define FILE_TEXT_BYTES (TEXT_ESCAPED_BYTES + 32u)

static const char *file_text(const struct qcow2_contents_question *question,
                             const struct qcow2_opened_file *file, char out[FILE_TEXT_BYTES])
{
  char quoted[TEXT_ESCAPED_BYTES];

  snprintf(out, FILE_TEXT_BYTES, "the %s \"%s\"",
           question->is_outer       ? "disk"
           : question->is_data_file ? "data file"
                                    : "backing file",
           qcow2_text_quote(file->path, quoted));
  return out;
}

/* What the image says about the format, as a clause. */
static const char *declared_text(const struct qcow2_contents_question *question,
                                 char out[FILE_TEXT_BYTES])
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (question->is_outer)
    return "its name says that it is raw";
  if (question->is_data_file)
    return "a data file holds the disk as it is";
  if (question->declared == NULL || question->declared[0] == '\0')
    return "the image does not declare its format";
  snprintf(out, FILE_TEXT_BYTES, "the image declares its format as \"%s\"",
           qcow2_text_quote(question->declared, quoted));
  return out;
}

/* The option that names the file. */
static int naming_option(const struct qcow2_contents_question *question)
{
  return question->is_data_file ? QCOW2_OPTION_DATA_FILE : QCOW2_OPTION_BACKING_PATHS;
}

/* Add to the error that the caller can give the format: raw, or this one (NULL: only raw). Returns
   `code`. */
static int add_format_help(const struct qcow2_contents_question *question, int code,
                           const char *format, struct qcow2_error *error)
{
  if (question->is_outer) /* no option names it */
    return code;
  if (error != NULL)
    error->help_format = format;
  return qcow2_error_add_help(error, code, QCOW2_HELP_FORMAT, naming_option(question));
}

static bool is_use(const struct qcow2_file_format *format, enum qcow2_format_use use)
{
  return format != NULL && format->use == use;
}

/* True for formats that neither the core nor open_foreign reads. A data file is never qcow2. */
static bool is_unreadable(const struct qcow2_contents_question *question,
                          const struct qcow2_file_format *format)
{
  return format->use == FORMAT_PACKED || format->use == FORMAT_UNREADABLE ||
         (question->is_data_file && format->use == FORMAT_QCOW2);
}

/* The error for a file whose bytes are of another format than its name or the image says. */
static int content_error(const struct qcow2_contents_question *question,
                         const struct qcow2_opened_file *file,
                         const struct qcow2_file_format *content, struct qcow2_error *error)
{
  char path[FILE_TEXT_BYTES], declared[FILE_TEXT_BYTES];
  const int code = question->named_by == NAMED_BY_IMAGE ? QCOW2_ERROR_DENIED : QCOW2_ERROR_ARGUMENT;
  const char *format = NULL;

  file_text(question, file, path);
  if (content->use == FORMAT_PACKED)
    qcow2_error_set(error, code,
                    "%s is %s by %s: unpack it first, unless the disk itself starts so", path,
                    strcmp(content->name, "tar") == 0 ? "packed" : "compressed", content->title);
  else if (is_unreadable(question, content))
    qcow2_error_set(error, code,
                    "%s starts as %s does, which cannot be read here: convert it to raw first, "
                    "unless the disk itself starts so",
                    path, content->title);
  else {
    qcow2_error_set(error, code, "%s starts as %s does, but %s", path, content->title,
                    declared_text(question, declared));
    format = content->name;
  }
  return add_format_help(question, code, format, error);
}

/* The error for a file that does not start as the format that its name or the image says. */
static int missing_error(const struct qcow2_contents_question *question,
                         const struct qcow2_opened_file *file, const char *format,
                         struct qcow2_error *error)
{
  char path[FILE_TEXT_BYTES], quoted[TEXT_ESCAPED_BYTES];

  qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                  "%s should be of format \"%s\", but does not start as such a file does",
                  file_text(question, file, path), qcow2_text_quote(format, quoted));
  return add_format_help(question, QCOW2_ERROR_CORRUPT, NULL, error);
}

static int unreadable_error(const struct qcow2_contents_question *question,
                            const struct qcow2_opened_file *file, const char *format,
                            struct qcow2_error *error)
{
  char path[FILE_TEXT_BYTES], quoted[TEXT_ESCAPED_BYTES];

  qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                  "%s is of format \"%s\", which cannot be read here: convert it to raw, and use "
                  "the new file",
                  file_text(question, file, path), qcow2_text_quote(format, quoted));
  return qcow2_error_add_help(error, QCOW2_ERROR_UNSUPPORTED, QCOW2_HELP_NAME_FILE,
                              naming_option(question));
}

/* ---- Deciding --------------------------------------------------------------------- */

int qcow2_contents_recognise(const struct qcow2_storage *storage,
                             const struct qcow2_file_format **content, struct qcow2_error *error)
{
  uint8_t start[FORMAT_START_BYTES], end[FORMAT_END_BYTES];
  size_t length = storage->size < sizeof(start) ? (size_t) storage->size : sizeof(start);
  bool has_end = storage->size > sizeof(end);
  int code = qcow2_storage_read(storage, 0, start, length, error);

  if (code == 0 && has_end)
    code = qcow2_storage_read(storage, storage->size - sizeof(end), end, sizeof(end), error);
  if (code == 0)
    *content = qcow2_format_by_content(start, length, has_end ? end : NULL);
  return code;
}

/* The options give the format. Only qcow2 has to be checked: other formats fail when they are
   opened. */
static int choose_by_option(const struct qcow2_contents_question *question,
                            const struct qcow2_opened_file *file, const struct evidence *evidence,
                            const struct qcow2_file_format **format, struct qcow2_error *error)
{
  *format = qcow2_format_by_name(question->given);
  if (*format == NULL || is_unreadable(question, *format))
    return unreadable_error(question, file, question->given, error);
  return (*format)->use == FORMAT_QCOW2 && evidence->content != *format
             ? missing_error(question, file, question->given, error)
             : 0;
}

/* Only the image names the file: its declaration decides. If it declares nothing, the file is raw
   unless its bytes look like another format. */
static int choose_for_image(const struct qcow2_contents_question *question,
                            const struct qcow2_opened_file *file, const struct evidence *evidence,
                            const struct qcow2_file_format **format, struct qcow2_error *error)
{
  const struct qcow2_file_format *declared = evidence->declared, *content = evidence->content;

  *format = declared;
  if (evidence->declares_unknown || is_use(declared, FORMAT_UNREADABLE))
    return unreadable_error(question, file, question->declared, error);
  if (is_use(declared, FORMAT_QCOW2) && content != declared)
    return missing_error(question, file, declared->name, error);
  if (declared != NULL)
    return 0;
  *format = content != NULL ? content : qcow2_format_by_name("raw");
  return content == NULL || content->use == FORMAT_QCOW2
             ? 0
             : content_error(question, file, content, error);
}

/* The bytes look like no known format: the file may be raw, and is, unless its name or the
   declaration says something else. */
static int choose_unknown(const struct qcow2_contents_question *question,
                          const struct qcow2_opened_file *file, const struct evidence *evidence,
                          const struct qcow2_file_format **format, struct qcow2_error *error)
{
  const struct qcow2_file_format *declared = evidence->declared;

  *format = qcow2_format_by_name("raw");
  if (is_use(declared, FORMAT_QCOW2) || is_use(evidence->named, FORMAT_QCOW2))
    return missing_error(question, file, "qcow2", error);
  if (is_use(evidence->named, FORMAT_RAW))
    return 0;
  if (is_use(declared, FORMAT_FOREIGN)) {
    *format = declared;
    return 0;
  }
  return (declared == NULL && !evidence->declares_unknown) || is_use(declared, FORMAT_RAW)
             ? 0
             : missing_error(question, file, question->declared, error);
}

/* The options name the file. The image's declaration is about the file that the machine used, which
   may have been converted since. So the name and the content decide too. */
static int choose_for_path(const struct qcow2_contents_question *question,
                           const struct qcow2_opened_file *file, const struct evidence *evidence,
                           const struct qcow2_file_format **format, struct qcow2_error *error)
{
  const struct qcow2_file_format *content = evidence->content, *declared = evidence->declared,
                                 *named = evidence->named;
  bool is_said = content == declared || content == named;

  *format = is_use(named, FORMAT_FOREIGN) ? named : content;
  if (is_use(named, FORMAT_FOREIGN))
    return content == NULL || content == named ? 0 : content_error(question, file, content, error);
  if (content == NULL)
    return choose_unknown(question, file, evidence, format, error);
  if (content->may_be_guests && (is_use(declared, FORMAT_RAW) || is_use(named, FORMAT_RAW))) {
    *format = qcow2_format_by_name("raw");
    return 0;
  }
  if (content->use == FORMAT_QCOW2 && !is_use(declared, FORMAT_RAW) && !is_use(named, FORMAT_RAW))
    is_said = true;
  return is_said && !is_unreadable(question, content)
             ? 0
             : content_error(question, file, content, error);
}

/* The disk around an image, which nothing declares. Its content decides, unless its extension is
   that of another format. */
static int choose_for_outer(const struct qcow2_contents_question *question,
                            const struct qcow2_opened_file *file, const struct evidence *evidence,
                            const struct qcow2_file_format **format, struct qcow2_error *error)
{
  const struct qcow2_file_format *content = evidence->content, *named = evidence->named;

  *format = content;
  if (is_use(content, FORMAT_QCOW2))
    return 0;
  if (content != NULL && content->may_be_guests)
    content = NULL;
  if (content != NULL)
    return (is_use(content, FORMAT_FOREIGN) && !is_use(named, FORMAT_RAW)) || content == named
               ? 0
               : content_error(question, file, content, error);
  *format = qcow2_format_by_name("raw");
  return named == NULL || is_use(named, FORMAT_RAW)
             ? 0
             : missing_error(question, file, named->name, error);
}

static int choose(const struct qcow2_contents_question *question,
                  const struct qcow2_opened_file *file, const struct qcow2_file_format **format,
                  struct qcow2_error *error)
{
  const char *driver = question->is_data_file ? "raw" : question->declared;
  struct evidence evidence = { NULL, NULL, false, NULL };
  int code;

  if (driver != NULL && driver[0] != '\0') {
    evidence.declared = qcow2_format_by_driver(driver);
    evidence.declares_unknown = evidence.declared == NULL;
  }
  if (question->named_by == NAMED_BY_IMAGE && evidence.declared != NULL &&
      evidence.declared->use != FORMAT_QCOW2)
    return choose_for_image(question, file, &evidence, format, error);
  code = qcow2_contents_recognise(&file->storage, &evidence.content, error);
  if (code != 0)
    return qcow2_error_add_file(error, code, file->path);
  if (question->given != NULL)
    return choose_by_option(question, file, &evidence, format, error);
  if (question->named_by == NAMED_BY_IMAGE)
    return choose_for_image(question, file, &evidence, format, error);
  evidence.named = qcow2_format_by_extension(file->path);
  if (question->is_outer)
    return choose_for_outer(question, file, &evidence, format, error);
  if (question->is_data_file && is_use(evidence.named, FORMAT_QCOW2))
    evidence.named = NULL; /* a data file is never qcow2, whatever its name */
  return choose_for_path(question, file, &evidence, format, error);
}

/* ---- Opening ------------------------------------------------------------------------ */

/* True if the file is the first part of a raw disk that was split into several. */
static bool has_next_part(const struct qcow2_opened_file *file)
{
  const char *slash = file->path == NULL ? NULL : strrchr(file->path, '/');
  char next[PART_NAME_BYTES];

  return slash != NULL && qcow2_format_next_part(slash + 1, next, sizeof(next)) &&
         qcow2_opened_file_lies_beside(file, next);
}

/* Only the caller may name files that can refer to other files, or that continue in others. */
static int check_trust(const struct qcow2_contents_question *question,
                       const struct qcow2_opened_file *file, const struct qcow2_file_format *format,
                       struct qcow2_error *error)
{
  char path[FILE_TEXT_BYTES];

  if (question->named_by == NAMED_BY_CALLER ||
      (question->named_by == NAMED_BY_IMAGE && !format->leads_further))
    return 0;
  qcow2_error_set(error, QCOW2_ERROR_DENIED,
                  "%s is of format \"%s\", and reading it can lead to further files, so it is "
                  "opened only if you name it",
                  file_text(question, file, path), format->name);
  return question->named_by == NAMED_BY_REFERRER
             ? qcow2_error_add_help(error, QCOW2_ERROR_DENIED, QCOW2_HELP_REFERRER, 0)
             : qcow2_error_add_help(error, QCOW2_ERROR_DENIED, QCOW2_HELP_NAME_FILE,
                                    naming_option(question));
}

static int open_foreign(const struct qcow2_contents_question *question,
                        const struct qcow2_open_options *options,
                        const struct qcow2_file_format *format, struct qcow2_opened_file *file,
                        char *warning, struct qcow2_error *error)
{
  char path[64], text[FILE_TEXT_BYTES]; /* leads to the file that passed the gate, even if another
                                           has its path now */
  bool by_caller = question->named_by == NAMED_BY_CALLER;
  const struct qcow2_foreign foreign = { .path = by_caller ? file->path : path,
                                         .format = format->name,
                                         .named_by_caller = by_caller };
  struct qcow2_storage storage = { 0 };
  int code = check_trust(question, file, format, error);

  if (code != 0)
    return code;
  if (file->file_system != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "%s is of format \"%s\"%s, which cannot be read inside a disk: extract "
                           "it first, with icat",
                           file_text(question, file, text), format->name,
                           format->use == FORMAT_RAW ? " in several parts" : "");
  if (options->open_foreign == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "%s is of format \"%s\"%s, which this program does not read",
                           file_text(question, file, text), format->name,
                           format->use == FORMAT_RAW ? " in several parts" : "");
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file->descriptor);
  code = options->open_foreign(options->foreign_context, &foreign, &storage, warning, error);
  if (code != 0)
    return qcow2_error_add_file(error, code, file->path);
  qcow2_storage_close(&file->storage);
  file->storage = storage;
  file->descriptor = -1;
  return 0;
}

/* True if open_foreign must open the file. */
static bool goes_to_caller(const struct qcow2_contents_question *question,
                           const struct qcow2_opened_file *file,
                           const struct qcow2_file_format *format)
{
  return format->use == FORMAT_FOREIGN ||
         (format->use == FORMAT_RAW && question->named_by != NAMED_BY_IMAGE && has_next_part(file));
}

int qcow2_contents_open(const struct qcow2_contents_question *question,
                        const struct qcow2_open_options *options, struct qcow2_opened_file *file,
                        struct qcow2_contents *contents, struct qcow2_error *error)
{
  const struct qcow2_file_format *format = qcow2_format_by_name("raw"); /* until it is chosen */
  int code = choose(question, file, &format, error);

  memset(contents, 0, sizeof(*contents));
  if (code != 0)
    return code;
  contents->file_size = file->storage.size;
  contents->format = format->name;
  contents->is_qcow2 = format->use == FORMAT_QCOW2;
  contents->is_probed = contents->is_qcow2 && question->given == NULL &&
                        (question->declared == NULL ||
                         strcmp(question->declared, format->name) != 0);
  return goes_to_caller(question, file, format)
             ? open_foreign(question, options, format, file, contents->warning, error)
             : 0;
}

int qcow2_foreign_probe(const char *path, const char *format_name)
{
  const struct qcow2_contents_question question = { .named_by = NAMED_BY_CALLER,
                                                    .given = format_name };
  const struct qcow2_file_format *format = qcow2_format_by_name("raw");
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  int is_foreign = 1;

  if (path == NULL || qcow2_gate_open_named(path, &file, NULL) != 0)
    return 1;
  if (choose(&question, &file, &format, NULL) == 0)
    is_foreign = goes_to_caller(&question, &file, format);
  qcow2_opened_file_close(&file);
  return is_foreign;
}
