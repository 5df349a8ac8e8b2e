/* SPDX-License-Identifier: MIT */
/* The backing chain: the image, its backing file, and so on. */
#ifndef QCOW2_CHAIN_H
#define QCOW2_CHAIN_H

#include "../format/luks.h"
#include "layer.h"

/* A chain of more files than this is refused. libvirt's limit is 200. */
#define CHAIN_DEPTH_MAX 256u
/* The limit of the hashes for unlocking all LUKS files of a chain (LUKS_WORK_MAX: for one file). */
#define CHAIN_LUKS_WORK_MAX (2 * LUKS_WORK_MAX)

struct qcow2_chain {
  struct qcow2_layer **layers; /* the topmost first */
  size_t count;
  size_t encrypted_count; /* layers that were unlocked */
  uint64_t luks_work;     /* hashes that may still be used for unlocking */
  bool is_complete;       /* false: opened with QCOW2_OPEN_NO_CHAIN */
};

/* Open the topmost image from its file, which the chain owns from the call on, then its data file
   and its backing files, as the options and the gate allow. The caller frees the chain with
   qcow2_chain_free(), also after an error. Errors: those of qcow2_image_open(). */
int qcow2_chain_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                     const struct qcow2_shared *shared, struct qcow2_chain *chain,
                     struct qcow2_error *error);

/* True if all bytes of the chain are in files, none in a storage of the caller. */
bool qcow2_chain_is_of_files(const struct qcow2_chain *chain);

/* Free the layers; an all-zero chain is allowed. */
void qcow2_chain_free(struct qcow2_chain *chain);

#endif
