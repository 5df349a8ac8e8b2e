/* SPDX-License-Identifier: MIT */
#include "snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"

/* The length of the extra data from which on a field is present. */
#define EXTRA_WITH_VM_STATE_SIZE 8u
#define EXTRA_WITH_DISK_SIZE 16u
#define EXTRA_WITH_ICOUNT 24u

int qcow2_snapshot_measure(const uint8_t fixed[SNAPSHOT_FIXED_BYTES], uint64_t host_offset,
                           struct qcow2_snapshot_lengths *lengths, struct qcow2_error *error)
{
  lengths->id = be16_get(fixed + 12);
  lengths->name = be16_get(fixed + 14);
  lengths->extra = be32_get(fixed + 36);
  if (lengths->extra > SNAPSHOT_EXTRA_BYTES_MAX)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                              "the snapshot table's entry at host offset %" PRIu64 " has %" PRIu32
                              " bytes of extra data; at most 1024 are allowed",
                              host_offset, lengths->extra);
  return 0;
}

static void decode_extra(const uint8_t *extra, uint32_t length, struct qcow2_snapshot *snapshot)
{
  if (length >= EXTRA_WITH_VM_STATE_SIZE)
    snapshot->vm_state_size = be64_get(extra);
  if (length >= EXTRA_WITH_DISK_SIZE) {
    snapshot->disk_size = be64_get(extra + 8);
    snapshot->has_disk_size = 1;
  }
  if (length >= EXTRA_WITH_ICOUNT)
    snapshot->icount = (int64_t) be64_get(extra + 16);
}

/* Copy a string and a NUL to *out, and advance it. Returns where the copy is. */
static char *copy_string(char **out, const uint8_t *text, uint32_t length)
{
  char *start = *out;

  if (length > 0)
    memcpy(start, text, length);
  start[length] = '\0';
  *out += length + 1;
  return start;
}

/* Keep ID, name and unknown extra data in one allocation, which begins with the ID. */
static int keep_texts(const uint8_t *variable, const struct qcow2_snapshot_lengths *lengths,
                      struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  uint32_t known = lengths->extra < EXTRA_WITH_ICOUNT ? lengths->extra : EXTRA_WITH_ICOUNT;
  char *out = malloc((size_t) lengths->id + lengths->name + lengths->extra + 3);

  if (out == NULL)
    return qcow2_error_set_nomem(error);
  snapshot->id = copy_string(&out, variable + lengths->extra, lengths->id);
  snapshot->id_length = lengths->id;
  snapshot->name = copy_string(&out, variable + lengths->extra + lengths->id, lengths->name);
  snapshot->name_length = lengths->name;
  snapshot->unknown_extra_length = lengths->extra - known;
  if (snapshot->unknown_extra_length > 0)
    snapshot->unknown_extra = (const uint8_t *) copy_string(&out, variable + known,
                                                            lengths->extra - known);
  return 0;
}

int qcow2_snapshot_decode(const uint8_t fixed[SNAPSHOT_FIXED_BYTES], const uint8_t *variable,
                          const struct qcow2_snapshot_lengths *lengths, uint64_t active_size,
                          struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  *snapshot = (struct qcow2_snapshot){
    .l1_offset = be64_get(fixed),
    .l1_size = be32_get(fixed + 8),
    .date_seconds = be32_get(fixed + 16),
    .date_nanoseconds = be32_get(fixed + 20),
    .vm_clock_nanoseconds = be64_get(fixed + 24),
    .vm_state_size = be32_get(fixed + 32),
    .disk_size = active_size,
    .icount = -1,
  };
  decode_extra(variable, lengths->extra, snapshot);
  return keep_texts(variable, lengths, snapshot, error);
}

/* ---- Is it one? ------------------------------------------------------------- */

/* Why there can be no L1 table at the offset in the entry; NULL: there can. An empty disk has
   none. */
static const char *l1_problem(const struct qcow2_geometry *geometry,
                              const struct qcow2_snapshot *snapshot)
{
  switch (qcow2_geometry_l1_problem(geometry, snapshot->l1_offset, snapshot->l1_size)) {
  case L1_FITS: break;
  case L1_TOO_LARGE: return "is larger than 32 MiB";
  case L1_UNALIGNED: return "does not start at a multiple of the cluster size";
  case L1_TOO_FAR: return "starts at 2^63 or more, where no file reaches";
  case L1_OVER_HEADER: return "starts where the header is";
  }
  return NULL;
}

const char *qcow2_snapshot_disk_problem(const struct qcow2_geometry *geometry,
                                        const struct qcow2_snapshot *snapshot)
{
  const char *problem = l1_problem(geometry, snapshot);

  if (problem != NULL)
    return problem;
  if (snapshot->l1_size == 0 && snapshot->disk_size > 0)
    return "has no entries";
  /* If the snapshot does not record its size, its disk may be smaller than the active one. */
  if (snapshot->has_disk_size &&
      qcow2_geometry_l1_entries(geometry, snapshot->disk_size) > snapshot->l1_size)
    return "is too small for the snapshot's disk size";
  return NULL;
}

const char *qcow2_snapshot_vm_state_problem(const struct qcow2_geometry *geometry,
                                            const struct qcow2_snapshot *snapshot)
{
  uint64_t start = qcow2_geometry_l1_entries(geometry, snapshot->disk_size);

  if (snapshot->vm_state_size == 0 ||
      range_fits(start, qcow2_geometry_l1_entries(geometry, snapshot->vm_state_size),
                 snapshot->l1_size))
    return NULL;
  return "is too small for the VM state after the disk";
}

bool qcow2_snapshot_is_entry(const struct qcow2_geometry *geometry,
                             const struct qcow2_snapshot *snapshot)
{
  return snapshot->id_length > 0 || snapshot->name_length > 0 ||
         (snapshot->l1_offset > 0 && qcow2_snapshot_disk_problem(geometry, snapshot) == NULL);
}

void qcow2_snapshot_free(struct qcow2_snapshot *snapshot)
{
  free((void *) (uintptr_t) snapshot->id);
  memset(snapshot, 0, sizeof(*snapshot));
}
