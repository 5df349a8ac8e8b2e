/* SPDX-License-Identifier: MIT */
/*
 * What the parts of a check share. References are counted for a part of the file's clusters at a
 * time, so that memory is bounded: the tables are walked once for each part. What is wrong with an
 * entry itself is found in the first walk.
 */
#ifndef QCOW2_CHECK_CHECKER_H
#define QCOW2_CHECK_CHECKER_H

#include "../base/error.h"
#include "../image/image.h"
#include "tally.h"

/* Tables are read in pieces of this many bytes; entries do not straddle them. */
#define CHECK_PIECE_BYTES 65536u
/* The work of looking at an entry that is not zero, in addition to its bytes. */
#define CHECK_ENTRY_BYTES 24u

struct qcow2_checker;
struct qcow2_reference_made;
struct qcow2_checked_l1_entry;
struct qcow2_checked_l2_entry;

/* What is done with what a walk meets. A check counts references, and reports what is wrong; its
   visitor is in check.c. Those that return false end the walk. */
struct qcow2_checker_visitor {
  /* Something refers to [offset, offset + length), bytes: not an L1 or an L2 entry. */
  void (*reference)(struct qcow2_checker *checker, const struct qcow2_reference_made *reference,
                    uint64_t offset, uint64_t length);
  /* An L1 entry that is not zero. */
  bool (*l1_entry)(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *entry);
  /* True if the entries of the L2 table that the L1 entry names are wanted. NULL: all are. */
  bool (*wants_l2)(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *entry);
  /* An L2 entry that is not zero. */
  bool (*l2_entry)(struct qcow2_checker *checker, const struct qcow2_checked_l2_entry *entry);
};

/* What is reported of the clusters' uses (uses.c). */
struct qcow2_checker_uses {
  struct qcow2_cluster_run run; /* that may go on; its length is 0: there is none */
  uint64_t end;                 /* bytes: up to here all is reported, or in the run */
  uint64_t stored_end;          /* bytes: up to here it is known whether the file stores them: */
  bool is_stored;
};

struct qcow2_checker {
  const struct qcow2_checker_visitor *visitor;
  void *context; /* the visitor's */
  const struct qcow2_layer *layer;
  const struct qcow2_snapshots *snapshots;
  const struct qcow2_bitmaps *bitmaps;
  const struct qcow2_storage *storage;
  struct qcow2_check_options options;
  struct qcow2_check_result *result;
  bool enough[QCOW2_FINDING_KINDS]; /* the caller wants no more of the kind */
  uint64_t work;                    /* left, see struct qcow2_check_options */
  bool is_first_walk;
  uint64_t file_end;    /* bytes: the file's size, rounded up to whole sectors as in QEMU */
  uint64_t cluster_end; /* clusters below this are compared: those of the file, and those after its
                           end that a reference may reach */
  struct qcow2_tally tally;
  struct qcow2_peeked *peeked;           /* refcounts that were looked at */
  uint8_t *l1_piece, *l2_piece;          /* CHECK_PIECE_BYTES each */
  struct qcow2_checked_streams *streams; /* NULL: streams are not decoded */
  bool is_out_of_memory;                 /* a stream could not be decoded for that */
  struct qcow2_checker_uses uses;
};

/* Make ready for walks of the file that checker->layer is, within checker->options.work_bytes; the
   tally is the caller's. The caller ends it with qcow2_checker_end(), also after an error. Errors:
   NOMEM. */
int qcow2_checker_start(struct qcow2_checker *checker, struct qcow2_error *error);
void qcow2_checker_end(struct qcow2_checker *checker);

/* ---- Findings (findings.c) --------------------------------------------------- */

/* A finding without offsets. */
#define FINDING(a_kind, a_weight)                                           \
  (struct qcow2_finding)                                                    \
  {                                                                         \
    .kind = (a_kind), .weight = (a_weight), .host_offset = QCOW2_NO_OFFSET, \
    .guest_offset = QCOW2_NO_OFFSET, .table_offset = QCOW2_NO_OFFSET,       \
    .snapshot_index = QCOW2_ACTIVE                                          \
  }

/* Count a finding, and report it, unless the caller wants no more of its kind. */
void qcow2_checker_report(struct qcow2_checker *checker, const struct qcow2_finding *finding,
                          const char *format, ...) __attribute__((format(ERROR_PRINTF, 3, 4)));

/* ---- Reading within the bound (tables.c) --------------------------------------- */

/* Take work from what is left. False: it is not enough; the check ends. */
bool qcow2_checker_work(struct qcow2_checker *checker, uint64_t bytes);

/* Read a part of a table. What is after the end of the file, or cannot be read, becomes zeros. What
   cannot be read makes the check incomplete, and is reported if `report` or if it is the first.
   False: the bound is reached. */
bool qcow2_checker_read(struct qcow2_checker *checker, const char *table, bool report,
                        uint64_t offset, uint8_t *buffer, size_t length);

/* ---- Refcounts as stored (refcounts.c) ----------------------------------------- */

struct qcow2_peeked *qcow2_peeked_new(void);
void qcow2_peeked_free(struct qcow2_peeked *peeked);

/* The number of entries of the refcount table; 0 if it is not valid. */
uint64_t qcow2_checker_refcount_blocks(const struct qcow2_checker *checker);

/* An entry of the refcount table. False: the bound is reached. */
bool qcow2_checker_refcount_entry(struct qcow2_checker *checker, uint64_t index, uint64_t *entry);

/* The refcount of a cluster. *is_known is false if its refcount block is not valid. False: the
   bound is reached. */
bool qcow2_checker_refcount(struct qcow2_checker *checker, uint64_t cluster, uint64_t *refcount,
                            bool *is_known);

/* Note in the tally which refcounts are 1. This reads the refcounts in order, while table entries
   lead to clusters in any order. False: the bound is reached. */
bool qcow2_checker_load_refcounts(struct qcow2_checker *checker);

/* Mark the clusters of the refcount table and its blocks, to find out if they are used as something
   else. */
bool qcow2_checker_mark_refcounts(struct qcow2_checker *checker);

/* Count the references to the blocks. This comes last, because a block must have no other
   reference. */
bool qcow2_checker_count_refcount_blocks(struct qcow2_checker *checker);

/* Call `visit` for the clusters of all valid refcount blocks below the cluster `end` and within the
   tally. With `report` the first walk reports the others. */
bool qcow2_checker_each_refcount_block(struct qcow2_checker *checker, uint64_t end, bool report,
                                       void (*visit)(struct qcow2_checker *checker, uint64_t index,
                                                     uint64_t cluster));

/* ---- References (references.c) --------------------------------------------------- */

/* One thing that refers to clusters. */
struct qcow2_reference_made {
  uint32_t use;          /* USE_... */
  const char *what;      /* for sentences: "the L1 table" */
  uint64_t guest_offset; /* as in struct qcow2_finding */
  uint64_t table_offset;
  size_t snapshot_index;
};

/* Count its references to the clusters of [offset, offset + length), bytes. */
void qcow2_checker_count(struct qcow2_checker *checker,
                         const struct qcow2_reference_made *reference, uint64_t offset,
                         uint64_t length);

/* Report if bit 63 of an entry of the active disk is not what the refcount of the cluster at
   finding->host_offset requires. `finding` is what is reported; `what` names the table. False: the
   bound is reached. */
bool qcow2_checker_copied(struct qcow2_checker *checker, const char *what, bool copied,
                          const struct qcow2_finding *finding);

/* Compare the refcounts with the references, for the clusters in the tally. False: the bound is
   reached. */
bool qcow2_checker_compare(struct qcow2_checker *checker);

/* ---- What clusters are used as (uses.c) ------------------------------------------- */

/* Report what the tally has for a cluster, with its refcount, and that nothing refers to those
   between it and the one before. The clusters come in ascending order. */
void qcow2_checker_add_use(struct qcow2_checker *checker, uint64_t cluster, uint64_t refcount);

/* Report what is left, up to a host offset to which nothing more refers. */
void qcow2_checker_end_uses(struct qcow2_checker *checker, uint64_t end);

/* ---- What refers to clusters (disks.c, entries.c) ------------------------------- */

/* The L1 table of the active disk, or of a snapshot. */
struct qcow2_checked_disk {
  size_t snapshot_index; /* or QCOW2_ACTIVE */
  uint64_t l1_offset;
  uint32_t l1_size; /* entries */
};

/* One L1 entry, and where it is. */
struct qcow2_checked_l1_entry {
  const struct qcow2_checked_disk *disk;
  uint64_t entry;
  uint64_t guest_offset; /* the first that its L2 table maps */
  uint64_t table_offset; /* host offset of the entry */
};

/* Check an L1 entry, and count its reference. False: the bound is reached. */
bool qcow2_checker_l1_entry(struct qcow2_checker *checker,
                            const struct qcow2_checked_l1_entry *entry);

/* Walk all L1 tables: count them and their L2 tables. False: the bound is reached. */
bool qcow2_checker_walk_l1(struct qcow2_checker *checker);

/* Walk all L2 tables: count what their entries refer to. False: the bound is reached. */
bool qcow2_checker_walk_l2(struct qcow2_checker *checker);

/* One L2 entry, and where it is. */
struct qcow2_checked_l2_entry {
  const struct qcow2_checked_disk *disk;
  struct qcow2_l2_entry entry;
  uint64_t guest_offset; /* bytes */
  uint64_t table_offset; /* host offset of the entry */
};

/* Check an entry, and count its references. False: the bound is reached. */
bool qcow2_checker_entry(struct qcow2_checker *checker,
                         const struct qcow2_checked_l2_entry *checked);

/* ---- Compressed clusters (streams.c) ---------------------------------------------- */

/* What is known of streams, and the means to decode them. NULL: no memory. */
struct qcow2_checked_streams *qcow2_checked_streams_new(const struct qcow2_layer *layer);
void qcow2_checked_streams_free(struct qcow2_checked_streams *streams);

/* Decode the stream that the entry refers to, and report if that fails, or it may be damaged.
   False: there is no memory. */
bool qcow2_checker_stream(struct qcow2_checker *checker,
                          const struct qcow2_checked_l2_entry *checked);

/* ---- The rest of the file (directories.c) ------------------------------------------- */

/* Count the header, the snapshot table, the LUKS header, and the bitmaps. False: the bound is
   reached. */
bool qcow2_checker_directories(struct qcow2_checker *checker);

#endif
