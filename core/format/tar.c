/* SPDX-License-Identifier: MIT */
#include "tar.h"

#include <string.h>

#include "../base/checked.h"

/* Fields of a header: offset and length in bytes. */
#define NAME_OFFSET 0u
#define NAME_BYTES 100u
#define SIZE_OFFSET 124u
#define SIZE_BYTES 12u
#define CHECKSUM_OFFSET 148u
#define CHECKSUM_BYTES 8u
#define TYPE_OFFSET 156u
#define MAGIC_OFFSET 257u
#define PREFIX_OFFSET 345u
#define PREFIX_BYTES 155u

/* An octal number, after spaces, up to the first byte that is no digit. */
static uint64_t octal_get(const uint8_t *field, size_t length)
{
  uint64_t value = 0;
  size_t i = 0;

  while (i < length && field[i] == ' ')
    i++;
  for (; i < length && field[i] >= '0' && field[i] <= '7'; i++)
    value = value << 3 | (uint64_t) (field[i] - '0');
  return value;
}

/* A size of 8 GiB or more has bit 7 of the first byte set, and is binary. */
static uint64_t size_get(const uint8_t *field)
{
  uint64_t value = 0;

  if ((field[0] & 0x80) == 0)
    return octal_get(field, SIZE_BYTES);
  for (size_t i = SIZE_BYTES - sizeof(value); i < SIZE_BYTES; i++)
    value = value << 8 | field[i];
  return value;
}

/* The checksum is the sum of the header's bytes, with spaces in its own place. */
static bool has_checksum(const uint8_t *block)
{
  uint64_t sum = CHECKSUM_BYTES * ' ';

  for (size_t i = 0; i < TAR_BLOCK_BYTES; i++)
    if (i < CHECKSUM_OFFSET || i >= CHECKSUM_OFFSET + CHECKSUM_BYTES)
      sum += block[i];
  return sum == octal_get(block + CHECKSUM_OFFSET, CHECKSUM_BYTES);
}

static void append_text(char *out, const uint8_t *field, size_t length)
{
  size_t used = strlen(out), text = 0;

  while (text < length && field[text] != '\0')
    text++;
  memcpy(out + used, field, text);
  out[used + text] = '\0';
}

/* The name: "PREFIX/NAME". GNU's headers have other things where the prefix is. */
static void name_get(const uint8_t *block, char name[TAR_NAME_BYTES])
{
  bool has_prefix = memcmp(block + MAGIC_OFFSET, "ustar", 6) == 0 && block[PREFIX_OFFSET] != '\0';

  name[0] = '\0';
  if (has_prefix) {
    append_text(name, block + PREFIX_OFFSET, PREFIX_BYTES);
    append_text(name, (const uint8_t *) "/", 1);
  }
  append_text(name, block + NAME_OFFSET, NAME_BYTES);
}

/* True if the member only says something about the next one. */
static bool is_about_next(uint8_t type)
{
  return type == 'x' || type == 'L' || type == 'K';
}

bool qcow2_tar_decode(const uint8_t block[TAR_BLOCK_BYTES], uint64_t archive_size,
                      struct qcow2_tar_member *member)
{
  const struct qcow2_tar_member told = *member;
  uint8_t type = block[TYPE_OFFSET];
  bool about_next = is_about_next(type);

  *member = (struct qcow2_tar_member){ .data_offset = told.next_offset + TAR_BLOCK_BYTES };
  if (memcmp(block + MAGIC_OFFSET, "ustar", 5) != 0 || !has_checksum(block))
    return false;
  member->size = !about_next && told.told_size > 0 ? told.told_size : size_get(block + SIZE_OFFSET);
  member->next_offset = range_fits(member->data_offset, member->size, archive_size)
                            ? member->data_offset +
                                  divide_up(member->size, TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
                            : archive_size;
  member->is_regular = type == '0' || type == '\0' || type == '7';
  member->has_records = type == 'x';
  member->told_size = about_next ? told.told_size : 0;
  member->is_name_told = type == 'L' || (about_next && told.is_name_told);
  if (!told.is_name_told)
    name_get(block, member->name);
  return true;
}

/* A number at `at`, which advances to the first byte that is no digit. */
static uint64_t decimal_take(const uint8_t *text, size_t end, size_t *at)
{
  uint64_t value = 0;

  for (; *at < end && text[*at] >= '0' && text[*at] <= '9'; ++*at)
    value = value * 10 + (uint64_t) (text[*at] - '0');
  return value;
}

static bool has_key(const uint8_t *records, size_t at, size_t end, const char *key)
{
  return end - at >= strlen(key) && memcmp(records + at, key, strlen(key)) == 0;
}

/* A record is "LENGTH KEY=VALUE\n", where the length is that of the whole record. */
void qcow2_tar_take_records(const uint8_t *records, size_t length, struct qcow2_tar_member *member)
{
  for (size_t start = 0; start < length;) {
    size_t at = start;
    uint64_t bytes = decimal_take(records, length, &at);
    size_t end;

    if (at == start || at == length || records[at] != ' ' || bytes <= at - start)
      return;
    end = (size_t) min_u64(length, start + min_u64(bytes, length));
    at++;
    if (at < end && has_key(records, at, end, "path="))
      member->is_name_told = true;
    if (at < end && has_key(records, at, end, "size=")) {
      at += strlen("size=");
      member->told_size = decimal_take(records, end, &at);
    }
    start = end;
  }
}
