/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAULTS_LEFTOVERS_H
#define TESTS_FAULTS_LEFTOVERS_H

/* Ask run.opened what is left in its file: that is expected from now on (run.is_reference), or
   compared with what is. */
void examine_leftovers(void);

#endif
