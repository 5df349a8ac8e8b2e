/* SPDX-License-Identifier: MIT */
/*
 * The fragments of a file of ext4, read from its extent tree. libtsk before 4.13 (and 4.14) cannot
 * read a tree with more than one block of extents, which a file has from 341 fragments on: its
 * function for the blocks of the tree numbers them all 0. See
 * https://github.com/sleuthkit/sleuthkit/pull/2842. It is asked first all the same.
 */
#ifndef TSK_QCOW2_EXT4_EXTENTS_H
#define TSK_QCOW2_EXT4_EXTENTS_H

#include <qcow2core.h>

/* Make a storage of the file with this inode. `disk` lasts longer; the file system begins at byte
   `start` of it. Errors: UNSUPPORTED (no extent tree, or another layout than usual), CORRUPT,
   IO, NOMEM. */
int tsk_qcow2_ext4_open(const struct qcow2_storage *disk, uint64_t start, uint64_t inode,
                        struct qcow2_storage *storage, struct qcow2_error *error);

#endif
