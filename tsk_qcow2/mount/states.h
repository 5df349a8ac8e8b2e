/* SPDX-License-Identifier: MIT */
/* The states of one image, which are opened when they are first used. */
#ifndef TSK_QCOW2_MOUNT_STATES_H
#define TSK_QCOW2_MOUNT_STATES_H

#include "../names/disk.h"

struct states;

/* Gets a sentence about damage in a state, or a warning of what is in it. Any thread. */
typedef void states_report(void *context, size_t state, bool is_damage, const char *sentence);

/* For states of the image that `image` has open (borrowed). NULL: no memory. The caller frees it
   with states_free(). */
struct states *states_new(const struct qcow2_disk *image, states_report *report, void *context);

/* Close all; nothing reads any more. NULL is allowed. */
void states_free(struct states *states);

/* Add a state. *number is its number from now on: they are counted from 0. Add all of them before
   the first is used. If the caller never opened it (`is_new`), its warnings, and why it cannot be
   opened, are reported at its first use. False: no memory. */
bool states_add(struct states *states, const struct tsk_qcow2_state *state, bool is_new,
                size_t *number);

/* Begin to use a state. Each success is followed by a states_release(). Any thread. Errors: those
   of qcow2_view_open(). */
int states_use(struct states *states, size_t number, struct qcow2_error *error);
void states_release(struct states *states, size_t number);

/* As tsk_qcow2_disk_read_once(), of a state in use. Any thread. */
int states_read(struct states *states, size_t number, uint64_t offset, void *buffer, size_t length,
                struct qcow2_error *error);

/* True if damage was met. */
bool states_are_damaged(const struct states *states);

#endif
