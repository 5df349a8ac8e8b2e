/* SPDX-License-Identifier: MIT */
/*
 * A picture of a disk or a file, in SVG: squares for parts of equal length, row by row, each with
 * the colours of what is in it, stacked by their share. There are at most PICTURE_SQUARES_MAX, so a
 * picture has a bounded size, however large the disk is.
 */
#ifndef TSK_QCOW2_PICTURE_H
#define TSK_QCOW2_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PICTURE_SQUARES_MAX 1024u
#define PICTURE_CLASSES_MAX 10u
#define PICTURE_TEXT_BYTES 160u

/* What tells classes apart without colours. */
enum picture_pattern {
  PATTERN_PLAIN,
  PATTERN_RISING, /* diagonal lines */
  PATTERN_FALLING,
  PATTERN_DOTS,
  PATTERN_HORIZONTAL,
  PATTERN_VERTICAL,
  PATTERN_GRID,
  PATTERN_EMPTY /* as the background */
};

struct picture_class {
  char label[PICTURE_TEXT_BYTES];
  const char *colour; /* "#0072b2" */
  const char *ink;    /* of the pattern's lines */
  enum picture_pattern pattern;
};

struct picture {
  const char *id;    /* a word that no other picture in the document has */
  const char *title; /* a sentence without a full stop */
  const char *whole; /* what it shows: "disk", "file" */
  const char *note;  /* what else its reader must know, in sentences; "" */
  uint64_t size;     /* bytes */
  unsigned shift;    /* a square stands for 1 << shift bytes */
  size_t square_count, class_count;
  struct picture_class classes[PICTURE_CLASSES_MAX];
  uint64_t bytes[PICTURE_CLASSES_MAX]; /* of each class */
  uint64_t shares[PICTURE_SQUARES_MAX][PICTURE_CLASSES_MAX];
  bool is_damaged[PICTURE_SQUARES_MAX], has_damage;
  bool is_incomplete; /* what it shows was not all looked at */
};

/* Begin a picture: squares of at least `least` bytes, a power of two. The caller then sets the
   texts and classes. */
void picture_start(struct picture *picture, uint64_t size, uint64_t least);

/* Add a part that is of a class. */
void picture_add(struct picture *picture, unsigned class_index, uint64_t start, uint64_t length);

/* Mark a part as damaged. */
void picture_mark(struct picture *picture, uint64_t start, uint64_t length);

/* Write it as an SVG element, `y` below the start of what contains it. Returns its height; 0: no
   memory. */
unsigned picture_write(const struct picture *picture, unsigned y, FILE *out);

/* The width of every picture. */
#define PICTURE_WIDTH 784u

#endif
