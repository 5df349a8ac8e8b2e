/* SPDX-License-Identifier: MIT */
#include "chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"
#include "contents.h"
#include "encryption.h"
#include "given.h"
#include "layout.h"
#include "referrer.h"
#include "../storage/storage.h"

static const char PROBED_DISTRUST[] =
    "no image declares the format of the file that refers to it, so this reference is not followed";

/* What messages call the layer. */
static const char *layer_name(const struct qcow2_layer *layer, char quoted[TEXT_ESCAPED_BYTES])
{
  return qcow2_text_quote(layer->file.path == NULL ? "the image" : layer->file.path, quoted);
}

/* ---- Layers ------------------------------------------------------------- */

static int chain_add(struct qcow2_chain *chain, struct qcow2_layer *layer,
                     struct qcow2_error *error)
{
  struct qcow2_layer **layers = realloc(chain->layers, (chain->count + 1) * sizeof(layers[0]));

  if (layers == NULL) {
    qcow2_layer_free(layer);
    return qcow2_error_set_nomem(error);
  }
  chain->layers = layers;
  layers[chain->count++] = layer;
  return 0;
}

void qcow2_chain_free(struct qcow2_chain *chain)
{
  for (size_t i = 0; i < chain->count; i++)
    qcow2_layer_free(chain->layers[i]);
  free(chain->layers);
  memset(chain, 0, sizeof(*chain));
}

/* True if the file is already one of the images of the chain, which is the context. */
static bool chain_holds(const void *context, const struct qcow2_opened_file *file)
{
  const struct qcow2_chain *chain = context;

  for (size_t i = 0; i < chain->count; i++)
    if (qcow2_opened_file_same(&chain->layers[i]->file, file))
      return true;
  return false;
}

/* Set where the reference is searched for, by the options. Images of the chain are skipped. */
static void add_search(const struct qcow2_chain *chain, const struct qcow2_open_options *options,
                       struct qcow2_reference *reference)
{
  reference->search_directories = options->search_directories;
  reference->search_count = options->search_count;
  reference->search_variable = options->search_variable;
  reference->search_variable_count = options->search_variable_count;
  reference->is_of_image = true;
  reference->is_taken = chain_holds;
  reference->taken_context = chain;
  qcow2_referrer_share_search(options->referrer, options->referrer_search_count, reference);
}

/* ---- The external data file --------------------------------------------- */

/* The error for a data file that cannot be used. `help_options` are those that can name another. */
static int complain_data_file(const struct qcow2_layer *layer, int code, const char *problem,
                              int help_options, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  qcow2_error_set(error, code, "\"%s\" keeps its data in an external data file, but %s",
                  layer_name(layer, quoted), problem);
  return qcow2_error_add_help(error, code,
                              help_options == 0 ? QCOW2_HELP_NONE : QCOW2_HELP_NAME_FILE,
                              help_options);
}

static int open_data_file(const struct qcow2_chain *chain, struct qcow2_layer *layer,
                          const struct qcow2_open_options *options, struct qcow2_error *error)
{
  const bool is_top = layer == chain->layers[0];
  const char *given = is_top ? options->data_file : NULL;
  struct qcow2_reference reference = { .from = &layer->file,
                                       .name = layer->metadata.data_file,
                                       .role = "data file",
                                       .help_options = is_top ? QCOW2_OPTION_DATA_FILE : 0,
                                       .distrust = layer->is_probed ? PROBED_DISTRUST : NULL };
  const struct qcow2_contents_question question = {
    .named_by = given == NULL ? NAMED_BY_IMAGE : qcow2_given_by(options),
    .is_data_file = true,
    .given = given == NULL ? NULL : options->data_format
  };
  struct qcow2_contents contents;
  struct qcow2_opened_file file;
  int code;

  add_search(chain, options, &reference);
  if (given == NULL && reference.name == NULL)
    return complain_data_file(layer, QCOW2_ERROR_DENIED,
                              "does not name it, or by more than 4095 bytes",
                              reference.help_options, error);
  code = given != NULL ? qcow2_given_open(options, given, "data file", &file, error)
                       : qcow2_gate_open_reference(&reference, &file, error);
  if (code != 0)
    return code;
  code = chain_holds(chain, &file)
             ? complain_data_file(layer, QCOW2_ERROR_CORRUPT,
                                  "that is an image of the chain itself", reference.help_options,
                                  error)
             : qcow2_contents_open(&question, options, &file, &contents, error);
  if (code != 0) {
    qcow2_opened_file_close(&file);
    return code;
  }
  qcow2_opened_file_close_directory(&file);
  qcow2_layer_set_data_file(layer, &file, &contents);
  return 0;
}

/* ---- Encryption --------------------------------------------------------- */

/* Add to the error which of the encrypted files the passphrase was for. */
static void explain_key_order(size_t index, struct qcow2_error *error)
{
  const struct qcow2_error failure = *error;

  snprintf(error->message, sizeof(error->message),
           "%.*s. It is encrypted file %zu of the chain, from the top, and the passphrases are for "
           "these in turn",
           (int) sizeof(error->message) - 160, failure.message, index + 1);
}

/* Unlock the layer with its own passphrase, or with the last one if there are no more. */
static int unlock_layer(struct qcow2_chain *chain, struct qcow2_layer *layer,
                        const struct qcow2_open_options *options, struct qcow2_error *error)
{
  size_t count = options->passphrase_count, index = chain->encrypted_count;
  const struct qcow2_passphrase *passphrase =
      count == 0 ? NULL : &options->passphrases[index < count ? index : count - 1];
  int code = qcow2_encryption_unlock(layer, passphrase, &chain->luks_work, error);

  if (code == 0)
    chain->encrypted_count++;
  else if (code == QCOW2_ERROR_KEY && (index > 0 || count > 1) && error != NULL)
    explain_key_order(index, error);
  return code;
}

/* A passphrase that was not used is an error: it may be in the wrong place of the order. */
static int check_passphrases(const struct qcow2_chain *chain,
                             const struct qcow2_open_options *options, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (options->passphrase_count <= chain->encrypted_count)
    return 0;
  layer_name(chain->layers[0], quoted);
  if (chain->encrypted_count == 0)
    qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                    "a passphrase was given, but neither \"%s\" nor a backing file of it is "
                    "encrypted",
                    quoted);
  else
    qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                    "%zu passphrases were given, but the chain of \"%s\" has only %zu encrypted "
                    "file%s",
                    options->passphrase_count, quoted, chain->encrypted_count,
                    chain->encrypted_count == 1 ? "" : "s");
  return qcow2_error_add_help(error, QCOW2_ERROR_ARGUMENT, QCOW2_HELP_LEAVE_OUT,
                              QCOW2_OPTION_PASSPHRASES);
}

/* ---- The header's length ------------------------------------------------- */

/* A length that no header needed is an error: it may be meant for another image. */
static int check_header_length(const struct qcow2_chain *chain,
                               const struct qcow2_open_options *options, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];
  bool is_used = options->header_length == 0;

  for (size_t i = 0; i < chain->count; i++)
    is_used = is_used || chain->layers[i]->metadata.is_header_length_corrected;
  if (is_used)
    return 0;
  qcow2_error_set(
      error, QCOW2_ERROR_ARGUMENT,
      "a header length of %" PRIu32
      " was given, but neither the header of \"%s\" nor that of a backing file of it has "
      "a length that is larger and cannot be right",
      options->header_length, layer_name(chain->layers[0], quoted));
  return qcow2_error_add_help(error, QCOW2_ERROR_ARGUMENT, QCOW2_HELP_LEAVE_OUT,
                              QCOW2_OPTION_HEADER_LENGTH);
}

/* ---- Both --------------------------------------------------------------- */

/* Open what the layer needs besides its own file. */
static int complete_layer(struct qcow2_chain *chain, struct qcow2_layer *layer,
                          const struct qcow2_open_options *options, struct qcow2_error *error)
{
  bool is_top = layer == chain->layers[0];
  char quoted[TEXT_ESCAPED_BYTES];
  int code = 0;

  if (layer->geometry.has_data_file)
    code = open_data_file(chain, layer, options, error);
  else if (is_top && options->data_file != NULL)
    code = qcow2_error_add_help(
        error,
        qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                        "a data file was given, but \"%s\" has no external data file",
                        layer_name(layer, quoted)),
        QCOW2_HELP_LEAVE_OUT, QCOW2_OPTION_DATA_FILE);
  if (code == 0 && layer->metadata.header.crypt_method != 0)
    code = unlock_layer(chain, layer, options, error);
  return code;
}

/* ---- The backing file --------------------------------------------------- */

/* Find out whether there is a layer below the lowest one, and who names it. Errors: ARGUMENT. */
static int choose_next(const struct qcow2_chain *chain, const struct qcow2_open_options *options,
                       bool *more, enum qcow2_named_by *named_by, struct qcow2_error *error)
{
  const struct qcow2_layer *lowest = chain->layers[chain->count - 1];
  size_t given = chain->count - 1;
  bool refers = !lowest->is_raw && lowest->metadata.backing_file != NULL;
  bool may_refer = refers || lowest->lost_header != NULL;
  char quoted[TEXT_ESCAPED_BYTES];

  *more = refers;
  *named_by = NAMED_BY_IMAGE;
  if (given >= options->backing_count)
    return 0;
  if (strcmp(options->backing_paths[given], QCOW2_BACKING_NONE) == 0) {
    *more = false;
    return given + 1 == options->backing_count
               ? 0
               : qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                                 "the backing file \"none\" ends the chain, but more are given "
                                 "after it; leave out one or the other");
  }
  *more = true;
  if (!may_refer)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "a backing file was given for \"%s\", which %s",
                           layer_name(lowest, quoted),
                           lowest->is_raw
                               ? "has none (of a disk in several segments, name the first only)"
                               : "refers to none; leave it out");
  *named_by = qcow2_given_by(options);
  return 0;
}

static int open_backing(const struct qcow2_chain *chain, const struct qcow2_open_options *options,
                        enum qcow2_named_by named_by, struct qcow2_opened_file *file,
                        struct qcow2_error *error)
{
  const struct qcow2_layer *lowest = chain->layers[chain->count - 1];
  struct qcow2_reference reference = { .from = &lowest->file,
                                       .name = lowest->metadata.backing_file,
                                       .role = "backing file",
                                       .help_options = QCOW2_OPTION_BACKING_PATHS,
                                       .distrust = lowest->is_probed
                                                       ? PROBED_DISTRUST
                                                       : lowest->metadata.backing_problem };

  if (named_by != NAMED_BY_IMAGE)
    return qcow2_given_open(options, options->backing_paths[chain->count - 1], reference.role, file,
                            error);
  add_search(chain, options, &reference);
  return qcow2_gate_open_reference(&reference, file, error);
}

/* Refuse a chain that is too deep, or is a loop. */
static int check_backing(const struct qcow2_chain *chain, const struct qcow2_opened_file *file,
                         struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (chain_holds(chain, file))
    return qcow2_error_add_help(
        error,
        qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                        "the backing chain is a loop: it comes back to \"%s\"",
                        qcow2_text_quote(file->path, quoted)),
        QCOW2_HELP_END_CHAIN, QCOW2_OPTION_BACKING_PATHS);
  if (chain->count >= CHAIN_DEPTH_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the backing chain has more than %u files; \"qemu-img convert -O qcow2 "
                           "IMAGE NEW\" makes one of them",
                           CHAIN_DEPTH_MAX);
  return 0;
}

/* The format that the options give the next backing file; NULL: none. */
static const char *given_format(const struct qcow2_chain *chain,
                                const struct qcow2_open_options *options)
{
  size_t index = chain->count - 1;

  return options->backing_formats != NULL && index < options->backing_count
             ? options->backing_formats[index]
             : NULL;
}

/* Make a layer of the backing file, which it owns from the call on, also on failure. */
static int new_backing_layer(const struct qcow2_chain *chain, enum qcow2_named_by named_by,
                             const struct qcow2_open_options *options,
                             const struct qcow2_shared *shared, struct qcow2_opened_file *file,
                             struct qcow2_layer **layer, struct qcow2_error *error)
{
  const struct qcow2_layer *above = chain->layers[chain->count - 1];
  const struct qcow2_contents_question question = { .named_by = named_by,
                                                    .given = given_format(chain, options),
                                                    .declared = above->metadata.backing_format };
  struct qcow2_contents contents;
  int code = qcow2_contents_open(&question, options, file, &contents, error);

  if (code != 0) {
    qcow2_opened_file_close(file);
    return code;
  }
  code = contents.is_qcow2
             ? qcow2_layer_new_qcow2(file, shared, chain->count, options->header_length, layer,
                                     error)
             : qcow2_layer_new_raw(file, shared, chain->count, &contents, layer, error);
  if (code != 0)
    return code;
  (*layer)->is_probed = contents.is_probed;
  qcow2_metadata_drop_data(&(*layer)->metadata); /* it may be megabytes, and is not needed */
  return 0;
}

/* Add the layer below the lowest one. *more is false when the chain is complete. */
static int add_backing(struct qcow2_chain *chain, const struct qcow2_open_options *options,
                       const struct qcow2_shared *shared, bool *more, struct qcow2_error *error)
{
  struct qcow2_layer *above = chain->layers[chain->count - 1], *layer;
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  enum qcow2_named_by named_by;
  int code = choose_next(chain, options, more, &named_by, error);

  if (code != 0 || !*more)
    return code;
  code = open_backing(chain, options, named_by, &file, error);
  if (code != 0)
    return code;
  code = check_backing(chain, &file, error);
  if (code != 0) {
    qcow2_opened_file_close(&file);
    return code;
  }
  code = new_backing_layer(chain, named_by, options, shared, &file, &layer, error);
  if (code == 0)
    code = chain_add(chain, layer, error);
  if (code == 0 && !layer->is_raw)
    code = complete_layer(chain, layer, options, error);
  qcow2_opened_file_close_directory(&above->file);
  return code;
}

int qcow2_chain_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                     const struct qcow2_shared *shared, struct qcow2_chain *chain,
                     struct qcow2_error *error)
{
  struct qcow2_layer *top;
  bool more = true;
  int code;

  memset(chain, 0, sizeof(*chain));
  chain->luks_work = CHAIN_LUKS_WORK_MAX;
  code = options->layout == NULL
             ? qcow2_layer_new_qcow2(file, shared, 0, options->header_length, &top, error)
             : qcow2_layout_open(file, options, shared, &top, error);
  if (code == 0)
    code = chain_add(chain, top, error);
  if (code != 0 || (options->flags & QCOW2_OPEN_NO_CHAIN) != 0)
    return code;
  code = complete_layer(chain, top, options, error);
  while (code == 0 && more)
    code = add_backing(chain, options, shared, &more, error);
  if (code == 0)
    code = check_passphrases(chain, options, error);
  if (code == 0)
    code = check_header_length(chain, options, error);
  if (code == 0)
    qcow2_opened_file_close_directory(&chain->layers[chain->count - 1]->file);
  chain->is_complete = code == 0;
  return code;
}

bool qcow2_chain_is_of_files(const struct qcow2_chain *chain)
{
  for (size_t i = 0; i < chain->count; i++)
    if (!qcow2_storage_is_file(&chain->layers[i]->file.storage) ||
        !qcow2_storage_is_file(chain->layers[i]->source.data))
      return false;
  return true;
}
