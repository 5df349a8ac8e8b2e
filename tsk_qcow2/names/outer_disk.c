/* SPDX-License-Identifier: MIT */
#include "outer_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "damage.h"

#define QUOTED_BYTES 256

struct outer_disk {
  struct tsk_qcow2_opened opened;
  char name[QUOTED_BYTES]; /* for messages */
  struct tsk_qcow2_damage damage;
  qcow2_damage_sentence *report; /* NULL: damage is not reported */
  void *report_context;
  uint64_t failures; /* any thread adds */
};

/* ---- Damage -------------------------------------------------------------------- */

/* Note a damaged range, and report it if it is new. While nobody can be told, only zeros that were
   given for it count: an error is told by whatever it makes fail. */
static void meet_damage(void *context, const struct qcow2_error *damage)
{
  struct outer_disk *disk = context;
  char sentence[sizeof(damage->message) + QUOTED_BYTES + 32];

  __atomic_add_fetch(&disk->failures, 1, __ATOMIC_RELAXED);
  if ((disk->report == NULL && !disk->opened.errors_zero) ||
      !tsk_qcow2_damage_add(&disk->damage, damage) || disk->report == NULL)
    return;
  snprintf(sentence, sizeof(sentence), "of the disk around it, \"%s\": %s", disk->name,
           damage->message);
  disk->report(disk->report_context, sentence);
}

/* What was met before anyone could be told is counted. */
static void report_earlier(struct outer_disk *disk)
{
  bool is_complete;
  uint64_t bytes;
  size_t count = tsk_qcow2_damage_count(&disk->damage, &bytes, &is_complete);
  char sentence[QUOTED_BYTES + 160];

  if (count == 0)
    return;
  snprintf(sentence, sizeof(sentence),
           "%s%zu damaged range%s (%" PRIu64 " bytes) of the disk around it, \"%s\", %s read while "
           "the image was being opened",
           is_complete ? "" : "more than ", count, count == 1 ? "" : "s", bytes, disk->name,
           count == 1 ? "was" : "were");
  disk->report(disk->report_context, sentence);
}

static void outer_report(void *context, qcow2_damage_sentence *report, void *report_context)
{
  struct outer_disk *disk = context;

  tsk_qcow2_inside_report(disk->opened.inside, report, report_context);
  disk->report = report;
  disk->report_context = report_context;
  if (report != NULL)
    report_earlier(disk);
}

static uint64_t outer_failures(void *context)
{
  const struct outer_disk *disk = context;

  return __atomic_load_n(&disk->failures, __ATOMIC_RELAXED) +
         tsk_qcow2_inside_failures(disk->opened.inside);
}

/* ---- The storage ------------------------------------------------------------------- */

static int outer_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  struct outer_disk *disk = context;
  struct qcow2_view *view = disk->opened.view;
  struct qcow2_error error;
  int code = disk->opened.errors_zero
                 ? qcow2_view_salvage(view, offset, buffer, length, meet_damage, disk, &error)
                 : qcow2_view_read(view, offset, buffer, length, &error);

  if (code == 0)
    return 0;
  if (error.guest_length > 0)
    meet_damage(disk, &error);
  return code == QCOW2_ERROR_NOMEM ? ENOMEM : EIO;
}

static void outer_close(void *context)
{
  struct outer_disk *disk = context;

  tsk_qcow2_opened_close(&disk->opened);
  tsk_qcow2_damage_free(&disk->damage);
  free(disk);
}

int tsk_qcow2_outer_disk_new(const struct tsk_qcow2_opened *opened, const char *name,
                             struct tsk_qcow2_outer *outer, struct qcow2_error *error)
{
  struct outer_disk *disk = calloc(1, sizeof(*disk));
  struct tsk_qcow2_opened owned = *opened;

  if (disk == NULL) {
    tsk_qcow2_opened_close(&owned);
    return tsk_qcow2_complain_nomem(error);
  }
  disk->opened = owned;
  qcow2_text_escape(name, strlen(name), disk->name, sizeof(disk->name));
  tsk_qcow2_damage_init(&disk->damage);
  *outer = (struct tsk_qcow2_outer){ .storage = { .context = disk,
                                                  .size = qcow2_view_size(owned.view),
                                                  .read = outer_read,
                                                  .close = outer_close },
                                     .report = outer_report,
                                     .failures = outer_failures };
  return 0;
}

/* ---- Storages inside another disk ------------------------------------------------- */

struct wrapped {
  struct qcow2_storage storage;
  struct tsk_qcow2_inside *inside; /* in which the storage lies */
};

static int wrapped_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct wrapped *wrapped = context;

  return wrapped->storage.read(wrapped->storage.context, offset, buffer, length);
}

static void wrapped_report(void *context, qcow2_damage_sentence *report, void *report_context)
{
  const struct wrapped *wrapped = context;

  tsk_qcow2_inside_report(wrapped->inside, report, report_context);
}

static uint64_t wrapped_failures(void *context)
{
  const struct wrapped *wrapped = context;

  return tsk_qcow2_inside_failures(wrapped->inside);
}

static void wrapped_close(void *context)
{
  struct wrapped *wrapped = context;

  wrapped->storage.close(wrapped->storage.context);
  tsk_qcow2_inside_close(wrapped->inside);
  free(wrapped);
}

int tsk_qcow2_outer_disk_wrap(struct tsk_qcow2_opened *opened, const struct qcow2_storage *storage,
                              struct tsk_qcow2_outer *outer, struct qcow2_error *error)
{
  struct wrapped *wrapped = malloc(sizeof(*wrapped));

  if (wrapped == NULL) {
    storage->close(storage->context);
    return tsk_qcow2_complain_nomem(error);
  }
  *wrapped = (struct wrapped){ *storage, opened->inside };
  opened->inside = NULL;
  *outer = (struct tsk_qcow2_outer){ .storage = { .context = wrapped,
                                                  .size = storage->size,
                                                  .read = wrapped_read,
                                                  .close = wrapped_close },
                                     .report = wrapped_report,
                                     .failures = wrapped_failures };
  return 0;
}
