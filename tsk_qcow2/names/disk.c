/* SPDX-License-Identifier: MIT */
/* The functions of qcow2names.h: an image that is opened by its names, reading it, and reporting
   its damage. */
#include "disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "damage.h"
#include "image_name.h"
#include "name_options.h"
#include "open_names.h"
#include "report.h"
#include "selector_follow.h"

struct qcow2_disk {
  struct tsk_qcow2_opened opened;
  struct tsk_qcow2_damage damage;
  qcow2_damage_sentence *report; /* NULL: damage is not reported */
  void *report_context;
  qcow2_damage_sentence *report_change; /* NULL: changes are not reported */
  void *change_context;
  uint64_t failures; /* how often a read met damage; any thread adds */
  bool was_filled;   /* zeros were given together with an error; any thread sets it */
  bool is_state;     /* the image is another disk's */
};

/* ---- Opening ---------------------------------------------------------------- */

int qcow2_name_probe(const char *name)
{
  struct qcow2_error error;
  size_t length = 0;
  char *path;
  int is_ours;

  if (tsk_qcow2_name_path_length(name, &length, &error) != 0)
    return error.os_errno != EACCES; /* as qcow2_image_probe() */
  if (length == 0)
    return 0;
  if (tsk_qcow2_name_inner(name + length) != NULL || strstr(name + length, ",offset=") != NULL)
    return 1;                                     /* no other reader knows what that means */
  if (tsk_qcow2_name_gives_layout(name + length)) /* its header may be lost */
    return 1;
  path = strndup(name, length);
  is_ours = path == NULL ? 1 : qcow2_image_probe(path);
  if (is_ours < 0)
    is_ours = 1;
  if (is_ours == 0) {
    int is_selector = tsk_qcow2_is_selector(path, &error);

    is_ours = is_selector < 0 ? error.os_errno != EACCES : is_selector;
  }
  free(path);
  return is_ours;
}

static int open_names(size_t count, const char *const names[], enum tsk_qcow2_depth depth,
                      qcow2_open_foreign *open_foreign, struct qcow2_disk **disk,
                      struct qcow2_error *error)
{
  struct qcow2_disk *made = calloc(1, sizeof(*made));
  /* This failure is not reported: opening may succeed with the key file of the environment. */
  struct qcow2_error unwanted, failure;
  int code;

  if (error == NULL)
    error = &unwanted;
  if (made == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = count == 0 || names[0] == NULL
             ? qcow2_error_set(&failure, QCOW2_ERROR_ARGUMENT, "there is no image name")
             : tsk_qcow2_open_names(count, names, depth, open_foreign, &made->opened, &failure);
  if (code != 0) {
    free(made);
    *error = failure;
    return code;
  }
  tsk_qcow2_damage_init(&made->damage);
  *disk = made;
  return 0;
}

int qcow2_disk_open(size_t count, const char *const names[], qcow2_open_foreign *open_foreign,
                    struct qcow2_disk **disk, struct qcow2_error *error)
{
  return open_names(count, names, TSK_QCOW2_WHOLE, open_foreign, disk, error);
}

int tsk_qcow2_disk_open_chain(const char *name, struct qcow2_disk **disk, struct qcow2_error *error)
{
  return open_names(1, &name, TSK_QCOW2_CHAIN_ONLY, NULL, disk, error);
}

static int open_state_view(const struct tsk_qcow2_opened *opened,
                           const struct tsk_qcow2_state *state, struct qcow2_view **view,
                           struct qcow2_error *error)
{
  unsigned flags = (state->is_alone ? (unsigned) QCOW2_VIEW_ALONE : 0) |
                   (opened->under_zeros ? (unsigned) QCOW2_VIEW_UNDER_ZEROS : 0);

  if (state->layer > 0 || state->is_alone)
    return qcow2_view_open_layer(opened->image, state->layer, flags, view, error);
  if (state->deleted_l1 != 0)
    return tsk_qcow2_open_deleted(opened, state->deleted_l1, state->is_vm_state, view, error);
  return tsk_qcow2_open_state(opened, state->snapshot_index, state->is_vm_state, view, error);
}

int tsk_qcow2_disk_open_state(const struct qcow2_disk *image, const struct tsk_qcow2_state *state,
                              struct qcow2_disk **disk, struct qcow2_error *error)
{
  struct qcow2_disk *made = calloc(1, sizeof(*made));
  int code;

  if (made == NULL)
    return tsk_qcow2_complain_nomem(error);
  made->opened = image->opened;
  made->opened.snapshot_index = state->snapshot_index;
  made->opened.is_vm_state = state->is_vm_state;
  if (state->deleted_l1 != 0)
    made->opened.deleted_l1 = state->deleted_l1;
  made->opened.is_residue = made->opened.is_residue || state->is_residue;
  made->is_state = true;
  code = open_state_view(&made->opened, state, &made->opened.view, error);
  if (code != 0) {
    free(made);
    return code;
  }
  tsk_qcow2_damage_init(&made->damage);
  *disk = made;
  return 0;
}

void qcow2_disk_close(struct qcow2_disk *disk)
{
  if (disk == NULL)
    return;
  tsk_qcow2_disk_report_count(disk);
  if (disk->is_state) {
    qcow2_view_close(disk->opened.view);
    memset(&disk->opened, 0, sizeof(disk->opened));
  }
  tsk_qcow2_opened_close(&disk->opened);
  tsk_qcow2_damage_free(&disk->damage);
  free(disk);
}

struct qcow2_image *qcow2_disk_image(const struct qcow2_disk *disk)
{
  return disk->opened.image;
}

struct qcow2_view *qcow2_disk_view(const struct qcow2_disk *disk)
{
  return disk->opened.view;
}

const char *qcow2_disk_warning(const struct qcow2_disk *disk, size_t index)
{
  return tsk_qcow2_opened_warning(&disk->opened, index);
}

int qcow2_disk_is_recovered(const struct qcow2_disk *disk)
{
  return tsk_qcow2_opened_is_recovered(&disk->opened);
}

const struct tsk_qcow2_opened *tsk_qcow2_disk_opened(const struct qcow2_disk *disk)
{
  return &disk->opened;
}

void qcow2_disk_print(const struct qcow2_disk *disk, FILE *out)
{
  (void) tsk_qcow2_report_print(out, &disk->opened);
}

/* ---- Reading, and reporting damage ------------------------------------------- */

void qcow2_disk_report_damage(struct qcow2_disk *disk, qcow2_damage_sentence *report, void *context)
{
  disk->report = report;
  disk->report_context = context;
  tsk_qcow2_disk_report_changes(disk, report, context);
  if (!disk->is_state) /* the image that it is a state of reports for the disk around it */
    tsk_qcow2_inside_report(disk->opened.inside, report, context);
}

void tsk_qcow2_disk_report_changes(struct qcow2_disk *disk, qcow2_damage_sentence *report,
                                   void *context)
{
  disk->report_change = report;
  disk->change_context = context;
}

/* Note a damaged range, and report it if it is new. */
static void meet_damage(void *context, const struct qcow2_error *damage)
{
  struct qcow2_disk *disk = context;

  __atomic_add_fetch(&disk->failures, 1, __ATOMIC_RELAXED);
  if (tsk_qcow2_damage_add(&disk->damage, damage) && disk->report != NULL)
    disk->report(disk->report_context, damage->message);
}

int qcow2_disk_read(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer, size_t length,
                    struct qcow2_error *error)
{
  struct qcow2_view *view = disk->opened.view;
  struct qcow2_error unwanted;
  int code;

  if (error == NULL)
    error = &unwanted;
  code = disk->opened.errors_zero
             ? qcow2_view_salvage(view, guest_offset, buffer, length, meet_damage, disk, error)
             : qcow2_view_read(view, guest_offset, buffer, length, error);
  if (code != 0 && error->guest_length > 0)
    meet_damage(disk, error);
  return code;
}

int tsk_qcow2_disk_read_once(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                             size_t length, struct qcow2_error *error)
{
  int code = qcow2_disk_read(disk, guest_offset, buffer, length, error);

  if (code != 0)
    qcow2_view_salvage(disk->opened.view, guest_offset, buffer, length, meet_damage, disk, NULL);
  return code;
}

int tsk_qcow2_disk_read_filled(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                               size_t length, struct qcow2_error *error)
{
  int code = qcow2_disk_read(disk, guest_offset, buffer, length, error);
  struct qcow2_error unwanted, lost;

  if (code == 0)
    return 0;
  __atomic_store_n(&disk->was_filled, true, __ATOMIC_RELAXED);
  if (qcow2_view_salvage(disk->opened.view, guest_offset, buffer, length, meet_damage, disk,
                         &unwanted) == 0)
    return code;
  memset(buffer, 0, length);
  lost = *error;
  lost.guest_offset = guest_offset;
  lost.guest_length = length;
  meet_damage(disk, &lost);
  return code;
}

uint64_t tsk_qcow2_disk_failures(const struct qcow2_disk *disk)
{
  return __atomic_load_n(&disk->failures, __ATOMIC_RELAXED) +
         tsk_qcow2_inside_failures(disk->opened.inside);
}

/* What the reads of damaged ranges gave. */
static const char *fate(const struct qcow2_disk *disk)
{
  if (disk->opened.errors_zero)
    return "lost bytes were replaced by zeros";
  if (__atomic_load_n(&disk->was_filled, __ATOMIC_RELAXED))
    return "these reads failed, and this libtsk may have passed zeros on without an error "
           "(\",errors=zero\" after the image name always gives zeros; "
           "\"tsk-qcow2 verify\" lists all damage)";
  return "these reads failed (\",errors=zero\" after the image name gives zeros instead; "
         "\"tsk-qcow2 verify\" lists all damage)";
}

/* The files belong to the disk that opened them. */
static void report_changed_files(struct qcow2_disk *disk)
{
  const struct qcow2_image *image = disk->opened.image;
  char sentence[QCOW2_CHANGED_BYTES];

  if (disk->report_change == NULL || disk->is_state)
    return;
  for (size_t i = 0; i < qcow2_layer_count(image); i++)
    if (qcow2_layer_changed(image, i, sentence, sizeof(sentence)))
      disk->report_change(disk->change_context, sentence);
  disk->report_change = NULL;
}

static void report_damage_count(struct qcow2_disk *disk)
{
  bool is_complete;
  uint64_t bytes;
  size_t count = tsk_qcow2_damage_count(&disk->damage, &bytes, &is_complete);
  char sentence[320];

  if (count == 0 || disk->report == NULL)
    return;
  snprintf(sentence, sizeof(sentence),
           "%s%zu damaged range%s (%" PRIu64 " bytes) of the image %s read; %s",
           is_complete ? "" : "more than ", count, count == 1 ? "" : "s", bytes,
           count == 1 ? "was" : "were", fate(disk));
  disk->report(disk->report_context, sentence);
  disk->report = NULL;
}

void tsk_qcow2_disk_report_count(struct qcow2_disk *disk)
{
  report_damage_count(disk);
  report_changed_files(disk);
}
