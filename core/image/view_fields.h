/* SPDX-License-Identifier: MIT */
/* What a view consists of: view_open.c makes it, view.c reads it. */
#ifndef QCOW2_VIEW_FIELDS_H
#define QCOW2_VIEW_FIELDS_H

#include "accelerate.h"
#include "stack.h"
#include "warnings.h"

/* A guest offset counts from the start of what the L1 table maps, as in the format; there, a VM
   state is after the disk. A view offset, which callers use, counts from the start of the view. */
struct qcow2_view {
  struct qcow2_stack stack;
  struct qcow2_chain own;              /* of one layer, if the view is not of the image's chain */
  void (*close_tables)(void *context); /* of the stack's top_context; NULL: it has none */
  size_t first_layer;                  /* index in the chain of the stack's topmost layer */
  uint64_t start;                      /* guest offset */
  uint64_t size;                       /* bytes */
  struct qcow2_warnings warnings;
  struct qcow2_accelerator accelerator;
};

/* Read a block in the ordinary way. `context`: the view. */
qcow2_blocks_load qcow2_view_load_block;

#endif
