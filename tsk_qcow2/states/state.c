/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "state.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "disk.h"
#include "../command/command.h"
#include "../plugin/backend.h"

/* ---- libtsk's reads ---------------------------------------------------------------- */

typedef ssize_t read_function(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len);

static read_function *real_read;

static void find_real_read(void)
{
  void *symbol = dlsym(RTLD_NEXT, "tsk_img_read");

  memcpy(&real_read, &symbol, sizeof(symbol)); /* ISO C has no cast from an object to a function */
}

/* libtsk's own calls come here, as they go to the drop-in in other programs: so no error is hidden,
   and libtsk's small cache is left out. */
TSK_QCOW2_API ssize_t tsk_img_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  if (img != NULL && tsk_qcow2_owns(img))
    return tsk_qcow2_read(img, off, buf, len);
  pthread_once(&once, find_real_read);
  return real_read == NULL ? -1 : real_read(img, off, buf, len);
}

/* ---- States ----------------------------------------------------------------------- */

static void tell_damage(void *context, const char *sentence)
{
  (void) context;
  complain_failed("%s", sentence);
}

static void tell_change(void *context, const char *sentence)
{
  (void) context;
  complain_failed("warning: %s", sentence);
}

static bool take_image(TSK_IMG_INFO *img, struct state *state)
{
  memset(state, 0, sizeof(*state));
  if (img == NULL) {
    complain_failed("%s", tsk_error_get_errstr());
    return false;
  }
  state->img = img;
  tsk_qcow2_report_damage(img, tell_damage, NULL);
  tsk_qcow2_report_changes(img, tell_change, NULL);
  state->disk = tsk_qcow2_img_disk(img);
  state->view = qcow2_disk_view(state->disk);
  return true;
}

bool state_open(const char *name, struct state *state)
{
  const TSK_TCHAR *names[] = { name };
  const char *warning;

  if (!take_image(tsk_qcow2_open(1, names, 0), state))
    return false;
  for (size_t i = 0; (warning = tsk_qcow2_warning(state->img, i)) != NULL; i++)
    complain_failed("warning: %s", warning);
  return true;
}

bool state_open_one(const struct qcow2_disk *image, const char *name,
                    const struct tsk_qcow2_state *wanted, struct state *state)
{
  const char *warning;

  if (!take_image(tsk_qcow2_img_open_state(image, name, wanted), state))
    return false;
  for (size_t i = 0; (warning = qcow2_view_warning(state->view, i)) != NULL; i++)
    complain_failed("warning: %s", warning);
  return true;
}

void state_close(struct state *state)
{
  if (state->img != NULL)
    tsk_img_close(state->img);
  memset(state, 0, sizeof(*state));
}

const struct tsk_qcow2_opened *state_opened(const struct state *state)
{
  return tsk_qcow2_disk_opened(state->disk);
}

uint64_t state_failures(const struct state *state)
{
  return tsk_qcow2_disk_failures(state->disk);
}
