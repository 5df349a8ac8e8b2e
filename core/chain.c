/* SPDX-License-Identifier: MIT */
#include "chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "encryption.h"
#include "referrer.h"
#include "storage/storage.h"

static const char PROBED_DISTRUST[] =
    "no image declares the format of the file that refers to it, and what a qcow2 image found by "
    "looking refers to is not followed";

/* How a file is named in messages. */
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

/* True if the file is one of the images of the chain already. */
static bool chain_holds(const struct qcow2_chain *chain, const struct qcow2_opened_file *file)
{
  for (size_t i = 0; i < chain->count; i++)
    if (qcow2_opened_file_same(&chain->layers[i]->file, file))
      return true;
  return false;
}

/* ---- The external data file --------------------------------------------- */

/* A path that the caller's options give: the caller's word, unless it comes from a referrer. Errors: those of the gate. */
static int open_given(const struct qcow2_open_options *options, const char *path, const char *role,
                      struct qcow2_opened_file *file, struct qcow2_error *error)
{
  return options->referrer == NULL ? qcow2_gate_open_named(path, file, error)
                                   : qcow2_referrer_open_file(options->referrer, path, role, file, error);
}

static int open_data_file(const struct qcow2_chain *chain, struct qcow2_layer *layer,
                          const struct qcow2_open_options *options, struct qcow2_error *error)
{
  const char *given = layer == chain->layers[0] ? options->data_file : NULL;
  struct qcow2_reference reference = { .from = &layer->file,
                                       .name = layer->metadata.data_file,
                                       .role = "data file",
                                       .advice = layer == chain->layers[0] ? "\",data-file=PATH\"" : "",
                                       .distrust = layer->is_probed ? PROBED_DISTRUST : NULL,
                                       .search_directories = options->search_directories,
                                       .search_count = options->search_count };
  struct qcow2_opened_file file;
  char quoted[TEXT_ESCAPED_BYTES];
  int code;

  qcow2_referrer_share_search(options->referrer, options->referrer_search_count, &reference);
  if (given == NULL && reference.name == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_DENIED,
                           "\"%s\" keeps its data in an external data file, but does not name it (or by more than %u bytes); "
                           "add \",data-file=PATH\" to the image name", layer_name(layer, quoted),
                           EXTENSION_NAME_BYTES_MAX);
  code = given != NULL ? open_given(options, given, "data file", &file, error)
                       : qcow2_gate_open_reference(&reference, &file, error);
  if (code != 0)
    return code;
  if (chain_holds(chain, &file)) {
    qcow2_opened_file_close(&file);
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "the external data file of \"%s\" is an image of the chain itself",
                           layer_name(layer, quoted));
  }
  qcow2_opened_file_close_directory(&file);
  qcow2_layer_set_data_file(layer, &file);
  return 0;
}

/* ---- Encryption --------------------------------------------------------- */

/* Unlock the layer with the passphrase that is its own, or the last one. */
static int unlock_layer(struct qcow2_chain *chain, struct qcow2_layer *layer,
                        const struct qcow2_open_options *options, struct qcow2_error *error)
{
  size_t count = options->passphrase_count, index = chain->encrypted_count;
  const struct qcow2_passphrase *passphrase =
      count == 0 ? NULL : &options->passphrases[index < count ? index : count - 1];
  int code = qcow2_encryption_unlock(layer, passphrase, &chain->luks_work, error);

  if (code == 0)
    chain->encrypted_count++;
  return code;
}

/* A passphrase that nothing needed is a mistake: of the image, or of the passphrases' order. */
static int check_passphrases(const struct qcow2_chain *chain,
                             const struct qcow2_open_options *options, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (options->passphrase_count <= chain->encrypted_count)
    return 0;
  if (chain->encrypted_count == 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "a passphrase was given, but neither \"%s\" nor a backing file of it is encrypted",
                           layer_name(chain->layers[0], quoted));
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "%zu passphrases were given, but the chain of \"%s\" has only %zu encrypted file%s",
                         options->passphrase_count, layer_name(chain->layers[0], quoted),
                         chain->encrypted_count, chain->encrypted_count == 1 ? "" : "s");
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
    code = qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "a data file was given, but \"%s\" has no external data file",
                           layer_name(layer, quoted));
  if (code == 0 && layer->metadata.header.crypt_method != 0)
    code = unlock_layer(chain, layer, options, error);
  return code;
}

/* ---- The backing file --------------------------------------------------- */

/* Where the next layer comes from. */
enum next_layer {
  NEXT_NONE,     /* the chain ends here */
  NEXT_GIVEN,    /* the user's path */
  NEXT_REFERRED, /* a path of the referrer's */
  NEXT_REFERENCE /* the image's word */
};

/* Decide where the layer below the lowest one comes from. Errors: ARGUMENT. */
static int choose_next(const struct qcow2_chain *chain, const struct qcow2_open_options *options,
                       enum next_layer *next, struct qcow2_error *error)
{
  const struct qcow2_layer *lowest = chain->layers[chain->count - 1];
  size_t given = chain->count - 1;
  bool refers = !lowest->is_raw && lowest->metadata.backing_file != NULL;
  char quoted[TEXT_ESCAPED_BYTES];

  *next = refers ? NEXT_REFERENCE : NEXT_NONE;
  if (given >= options->backing_count)
    return 0;
  if (strcmp(options->backing_paths[given], QCOW2_BACKING_NONE) == 0) {
    *next = NEXT_NONE;
    return given + 1 == options->backing_count
               ? 0
               : qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                                 "backing=none ends the chain, but more backing files are given after it");
  }
  if (!refers)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "a backing file was given for \"%s\", which %s",
                           layer_name(lowest, quoted),
                           lowest->is_raw ? "is raw and has none" : "refers to none");
  *next = options->referrer == NULL ? NEXT_GIVEN : NEXT_REFERRED;
  return 0;
}

static int open_backing(const struct qcow2_chain *chain, const struct qcow2_open_options *options,
                        enum next_layer next, struct qcow2_opened_file *file,
                        struct qcow2_error *error)
{
  const struct qcow2_layer *lowest = chain->layers[chain->count - 1];
  struct qcow2_reference reference = { .from = &lowest->file,
                                       .name = lowest->metadata.backing_file,
                                       .role = "backing file",
                                       .advice = "\",backing=PATH\" (once for each layer, the topmost first; "
                                                 "\",backing=none\" examines the overlay alone)",
                                       .distrust = lowest->is_probed ? PROBED_DISTRUST : NULL,
                                       .search_directories = options->search_directories,
                                       .search_count = options->search_count };

  if (next == NEXT_GIVEN || next == NEXT_REFERRED)
    return open_given(options, options->backing_paths[chain->count - 1], reference.role, file, error);
  qcow2_referrer_share_search(options->referrer, options->referrer_search_count, &reference);
  return qcow2_gate_open_reference(&reference, file, error);
}

/* Refuse a chain that is too deep or leads back into itself. */
static int check_backing(const struct qcow2_chain *chain, const struct qcow2_opened_file *file,
                         struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (chain_holds(chain, file))
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "the backing chain is a loop: it comes back to \"%s\"",
                           qcow2_text_quote(file->path, quoted));
  if (chain->count >= CHAIN_DEPTH_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the backing chain has more than %u files", CHAIN_DEPTH_MAX);
  return 0;
}

enum declared_format { DECLARED_NONE, DECLARED_RAW, DECLARED_QCOW2, DECLARED_OTHER };

static enum declared_format declared_format(const struct qcow2_layer *layer)
{
  const char *format = layer->metadata.backing_format;

  if (format == NULL || format[0] == '\0')
    return DECLARED_NONE;
  if (strcmp(format, "qcow2") == 0)
    return DECLARED_QCOW2;
  /* "file" and "host_device" are QEMU's names for a file's and a device's plain bytes. */
  if (strcmp(format, "raw") == 0 || strcmp(format, "file") == 0 ||
      strcmp(format, "host_device") == 0)
    return DECLARED_RAW;
  return DECLARED_OTHER;
}

static int format_error(const struct qcow2_layer *above, const struct qcow2_opened_file *file,
                        int code, const char *rule, struct qcow2_error *error)
{
  char backing[TEXT_ESCAPED_BYTES], image[TEXT_ESCAPED_BYTES], format[TEXT_ESCAPED_BYTES];

  return qcow2_error_set(error, code, "\"%s\" declares its backing file to be of format \"%s\", %s: \"%s\"",
                         layer_name(above, image),
                         qcow2_text_quote(above->metadata.backing_format, format), rule,
                         qcow2_text_quote(file->path, backing));
}

/* Nobody declares the format, and the file starts as one does that is not read here. It is not taken for raw unless the user names
   it. */
static int undeclared_error(const struct qcow2_opened_file *file, const char *format,
                            struct qcow2_error *error)
{
  char backing[TEXT_ESCAPED_BYTES];

  return qcow2_error_set(error, QCOW2_ERROR_DENIED,
                         "the format of the backing file \"%s\" is not declared, and it starts as %s does; to have it read, as "
                         "%s if its name ends so and otherwise as raw, add \",backing=PATH\" to the image name",
                         qcow2_text_quote(file->path, backing), format, format);
}

/* Find out whether the backing file is qcow2 or raw: by what the image above declares, else by its first bytes. Those must be
   readable then: a file is not taken for raw because of a fault. *looks_like is a format that an undeclared file starts as; NULL: none. */
static int find_format(const struct qcow2_layer *above, enum next_layer next,
                       const struct qcow2_opened_file *file, bool *is_qcow2, const char **looks_like,
                       struct qcow2_error *error)
{
  enum declared_format declared = declared_format(above);
  int code;

  *is_qcow2 = false;
  *looks_like = NULL;
  if (declared == DECLARED_RAW)
    return 0;
  if (declared == DECLARED_OTHER)
    return format_error(above, file, QCOW2_ERROR_UNSUPPORTED,
                        "which cannot be read here (raw and qcow2 can)", error);
  code = qcow2_layer_probe(file, is_qcow2, looks_like, error);
  if (code != 0)
    return qcow2_error_add_file(error, code, file->path);
  if (declared == DECLARED_QCOW2 && !*is_qcow2)
    return format_error(above, file, QCOW2_ERROR_CORRUPT, "but it is not a qcow2 image", error);
  if (next != NEXT_GIVEN && *looks_like != NULL)
    return undeclared_error(file, *looks_like, error);
  return 0;
}

/* Make a layer of the backing file, in the format that the image above it declares. */
static int new_backing_layer(const struct qcow2_layer *above, enum next_layer next,
                             struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                             uint64_t space, struct qcow2_layer **layer, struct qcow2_error *error)
{
  const char *looks_like;
  bool is_qcow2;
  int code = find_format(above, next, file, &is_qcow2, &looks_like, error);

  if (code != 0) {
    qcow2_opened_file_close(file);
    return code;
  }
  code = is_qcow2 ? qcow2_layer_new_qcow2(file, shared, space, layer, error)
                  : qcow2_layer_new_raw(file, shared, space, layer, error);
  if (code != 0)
    return code;
  (*layer)->is_probed = declared_format(above) == DECLARED_NONE;
  (*layer)->looks_like = looks_like;
  qcow2_metadata_drop_data(&(*layer)->metadata); /* megabytes, which nobody asks for */
  return 0;
}

/* Offer the backing file to the caller, who may know its format. QCOW2_NOT_FOREIGN: the file is left as it was. Otherwise it
   belongs to the layer, or is closed. */
static int offer_foreign(const struct qcow2_layer *above, enum next_layer next,
                         const struct qcow2_open_options *options,
                         const struct qcow2_shared *shared, uint64_t space,
                         struct qcow2_opened_file *file, struct qcow2_layer **layer,
                         struct qcow2_error *error)
{
  char path[64]; /* leads to the very file that passed the gate */
  struct qcow2_foreign foreign = { .path = next == NEXT_GIVEN ? file->path : path,
                                   .declared_format = above->metadata.backing_format,
                                   .is_callers_word = next == NEXT_GIVEN };
  struct qcow2_storage storage = { 0 };
  const char *format = NULL;
  int code;

  if (options->open_foreign == NULL ||
      (next != NEXT_GIVEN && declared_format(above) != DECLARED_OTHER))
    return QCOW2_NOT_FOREIGN;
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file->descriptor);
  code = options->open_foreign(options->foreign_context, &foreign, &storage, &format, error);
  if (code == QCOW2_NOT_FOREIGN)
    return code;
  if (code != 0) {
    qcow2_opened_file_close(file);
    return code;
  }
  code = qcow2_layer_new_raw(file, shared, space, layer, error);
  if (code == 0)
    qcow2_layer_set_foreign(*layer, &storage, format);
  else
    qcow2_storage_close(&storage);
  return code;
}

/* Add the layer below the lowest one. *more is false when the chain is complete. */
static int add_backing(struct qcow2_chain *chain, const struct qcow2_open_options *options,
                       const struct qcow2_shared *shared, bool *more, struct qcow2_error *error)
{
  struct qcow2_layer *above = chain->layers[chain->count - 1], *layer;
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  enum next_layer next;
  int code = choose_next(chain, options, &next, error);

  *more = next != NEXT_NONE;
  if (code != 0 || next == NEXT_NONE)
    return code;
  code = open_backing(chain, options, next, &file, error);
  if (code != 0)
    return code;
  code = check_backing(chain, &file, error);
  if (code != 0) {
    qcow2_opened_file_close(&file);
    return code;
  }
  code = offer_foreign(above, next, options, shared, chain->count, &file, &layer, error);
  if (code == QCOW2_NOT_FOREIGN)
    code = new_backing_layer(above, next, &file, shared, chain->count, &layer, error);
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
  code = qcow2_layer_new_qcow2(file, shared, 0, &top, error);
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
