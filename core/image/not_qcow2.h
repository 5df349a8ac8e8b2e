/* SPDX-License-Identifier: MIT */
/* A file that was given as a qcow2 image, and does not start as one: what is it, and is there a
   qcow2 image inside it? */
#ifndef QCOW2_NOT_QCOW2_H
#define QCOW2_NOT_QCOW2_H

#include "../storage/opened_file.h"

/* The limit of the bytes at the start of a file in which an image is looked for. A logical volume
   usually begins at this byte of its disk, so the byte at the limit is looked at, too. */
#define NOT_QCOW2_SEARCHED_BYTES (UINT32_C(1) << 20)
/* The limit of the members of a tar archive that are looked at. */
#define NOT_QCOW2_MEMBERS_MAX 10000u

/* Make the error for such a file, with what would help. Returns NOT_QCOW2, or IO or NOMEM if that
   could not be found out. */
int qcow2_not_qcow2_explain(const struct qcow2_storage *storage, struct qcow2_error *error);

/* Let the image begin at this byte of the file. A member of a tar archive ends where its header
   says: what follows belongs to the next member. Errors: ARGUMENT, NOMEM. */
int qcow2_not_qcow2_begin_at(struct qcow2_opened_file *file, uint64_t offset,
                             struct qcow2_error *error);

/* Find out if the name of the file says that it is a packed qcow2 image, and if it is packed.
   Errors: IO. */
int qcow2_not_qcow2_probe(const struct qcow2_opened_file *file, bool *is_packed_qcow2,
                          struct qcow2_error *error);

#endif
