/* SPDX-License-Identifier: MIT */
/* Walking a view that has labels: what they say, and what it reads. */
#ifndef TESTS_FUZZ_LABELLED_H
#define TESTS_FUZZ_LABELLED_H

#include "fuzz.h"

/* Runs of a view that are looked at. */
#define FUZZ_RUNS_MAX 400u

/* Check that what is lost is an error; that the labels cover the view; that what is kept, or placed
   by its neighbours, is nothing that a state of the image reads; and that the same bytes are read
   in whatever pieces. */
void fuzz_check_labels(struct qcow2_image *image, struct qcow2_view *view);

#endif
