/* SPDX-License-Identifier: MIT */
/* Tests of what makes images of names (tsk_qcow2/). */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../tsk_qcow2/names/complain.h"
#include "../../tsk_qcow2/names/damage.h"
#include "../../tsk_qcow2/names/image_name.h"
#include "../../tsk_qcow2/names/selector.h"
#include "unit.h"

/* ---- Messages ---------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
  return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static size_t count_quotes(const char *text)
{
  size_t count = 0;

  for (; *text != '\0'; text++)
    count += *text == '"';
  return count;
}

/* What to type stands whole at the end, whatever the length of what is wrong. */
void test_long_complaints(void)
{
  static const char advice[] = "To say where it is, add \",backing=PATH\"";
  struct qcow2_error error;
  char text[1200];

  for (size_t length = 0; length < sizeof(text); length++) {
    memset(text, 'x', length);
    text[length] = '\0';
    qcow2_error_set(&error, QCOW2_ERROR_DENIED, "the file \"%s\" was not opened", text);
    tsk_qcow2_complain_more(&error, advice);
    CHECK(ends_with(error.message, advice));
    CHECK(count_quotes(error.message) % 2 == 0);
    CHECK(strlen(error.message) > length || length > 800);
  }
  for (size_t shift = 0; shift < 4; shift++) { /* characters of four bytes are not cut inside */
    size_t at;

    memset(text, 'x', shift);
    for (at = shift; at + 5 < sizeof(text); at += 4)
      memcpy(text + at, "\xf0\x9f\x92\xbe", 5);
    qcow2_error_set(&error, QCOW2_ERROR_DENIED, "%s", text);
    tsk_qcow2_complain_more(&error, advice);
    at = strcspn(error.message, ".");
    CHECK(at % 4 == shift % 4 && ends_with(error.message, advice));
  }
}

/* ---- Image names ------------------------------------------------------------ */

void test_image_names(void)
{
  static const struct {
    const char *rest;
    int code;
    const char *snapshot; /* NULL: none */
    enum tsk_qcow2_selection_kind kind;
    const char *backing, *data_file; /* the first backing=; NULL: none */
  } cases[] = {
    { "", 0, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { "@snap", 0, "snap", TSK_QCOW2_SELECT_ID_OR_NAME, NULL, NULL },
    { "@", 0, "", TSK_QCOW2_SELECT_ID_OR_NAME, NULL, NULL },
    { "@id=7", 0, "7", TSK_QCOW2_SELECT_ID, NULL, NULL },
    { "@name=id=7", 0, "id=7", TSK_QCOW2_SELECT_NAME, NULL, NULL },
    { "@index=3", 0, "3", TSK_QCOW2_SELECT_INDEX, NULL, NULL },
    { "@name=index=3", 0, "index=3", TSK_QCOW2_SELECT_NAME, NULL, NULL },
    { "@a@b=c", 0, "a@b=c", TSK_QCOW2_SELECT_ID_OR_NAME, NULL, NULL },
    { "@a,,b,,,backing=x,,y", 0, "a,b,", TSK_QCOW2_SELECT_ID_OR_NAME, NULL, NULL },
    { "@a,,b,backing=x,,y", 0, "a,b", TSK_QCOW2_SELECT_ID_OR_NAME, "x,y", NULL },
    { ",backing=a=b,data-file=d", 0, NULL, TSK_QCOW2_SELECT_NOTHING, "a=b", "d" },
    { ",backing=none", 0, NULL, TSK_QCOW2_SELECT_NOTHING, "none", NULL },
    { "@a,vmstate", 0, "a", TSK_QCOW2_SELECT_ID_OR_NAME, NULL, NULL },
    { ",vmstate", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { "@a,vmstate=1", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",search=a,search=b", 0, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",backing=", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",backing", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",backingx=a", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",Backing=a", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",backing=a,format=raw", 0, NULL, TSK_QCOW2_SELECT_NOTHING, "a", NULL },
    { ",data-file=d,format=ewf,backing=a,format=qcow2", 0, NULL, TSK_QCOW2_SELECT_NOTHING, "a",
      "d" },
    { ",format=raw", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",backing=none,format=raw", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL,
      NULL },
    { ",backing=a,search=b,format=raw", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL,
      NULL },
    { ",backing=a,format=raw,format=raw", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING,
      NULL, NULL },
    { ",backing=a,format=vdi", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL, NULL },
    { ",data-file=a,format=qcow2", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL,
      NULL },
    { ",data-file=a,data-file=b", QCOW2_ERROR_ARGUMENT, NULL, TSK_QCOW2_SELECT_NOTHING, NULL,
      NULL },
  };

  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    struct tsk_qcow2_name name = { 0 };
    struct qcow2_error error;
    int code = tsk_qcow2_name_parse_rest(cases[i].rest, &name, &error);

    check_number((uint64_t) (int64_t) code, (uint64_t) (int64_t) cases[i].code, "status",
                 cases[i].rest);
    if (code == 0) {
      const char *text = name.selection.text;

      check_number(text != NULL, cases[i].snapshot != NULL, "having a snapshot", cases[i].rest);
      CHECK(text == NULL || (cases[i].snapshot != NULL && strcmp(text, cases[i].snapshot) == 0));
      check_number((uint64_t) name.selection.kind, (uint64_t) cases[i].kind, "kind", cases[i].rest);
      if (cases[i].backing != NULL)
        CHECK(name.backing.count == 1 && strcmp(name.backing.items[0], cases[i].backing) == 0);
      if (cases[i].data_file != NULL)
        CHECK(name.data_file != NULL && strcmp(name.data_file, cases[i].data_file) == 0);
    }
    tsk_qcow2_name_free(&name);
  }
}

/* ---- Damaged ranges ---------------------------------------------------------- */

void test_damaged_ranges(void)
{
  static const struct {
    uint64_t start, end;
    int code;
    bool told;
    size_t count;
    uint64_t bytes;
  } steps[] = {
    { 1000, 2000, QCOW2_ERROR_CORRUPT, true, 1, 1000 },
    { 1000, 2000, QCOW2_ERROR_CORRUPT, false, 1, 1000 }, /* the same again */
    { 1500, 1501, QCOW2_ERROR_CORRUPT, false, 1, 1000 }, /* inside */
    { 5000, 6000, QCOW2_ERROR_TRUNCATED, true, 2, 2000 },
    { 6000, 7000, QCOW2_ERROR_TRUNCATED, false, 2, 3000 }, /* going on */
    { 4000, 5000, QCOW2_ERROR_TRUNCATED, false, 2, 4000 },
    { 2000, 3000, QCOW2_ERROR_CORRUPT, true, 3, 5000 }, /* another entry's, side by side */
    { 0, 10, QCOW2_ERROR_IO, true, 4, 5010 },
    { 9000, 9001, QCOW2_ERROR_IO, true, 5, 5011 },
    { 500, 8000, QCOW2_ERROR_IO, false, 3, 7511 }, /* over three of them */
    { 20, 30, QCOW2_ERROR_IO, true, 4, 7521 },
    { 0, 10000, QCOW2_ERROR_CORRUPT, false, 1, 10000 },
  };
  struct tsk_qcow2_damage damage;
  struct qcow2_error error = { .code = 0 };
  bool is_complete;
  uint64_t bytes;

  tsk_qcow2_damage_init(&damage);
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
    error.code = steps[i].code;
    error.guest_offset = steps[i].start;
    error.guest_length = steps[i].end - steps[i].start;
    check_number(tsk_qcow2_damage_add(&damage, &error), steps[i].told, "told", "damaged ranges");
    check_number(tsk_qcow2_damage_count(&damage, &bytes, &is_complete), steps[i].count, "count",
                 "damaged ranges");
    check_number(bytes, steps[i].bytes, "bytes", "damaged ranges");
    CHECK(is_complete);
  }
  tsk_qcow2_damage_free(&damage);
}

/* Far more ranges than are kept: memory stays bounded, few are reported, and the count says that it
   is not all. */
void test_damaged_ranges_without_end(void)
{
  struct tsk_qcow2_damage damage;
  struct qcow2_error error = { .code = QCOW2_ERROR_CORRUPT, .guest_length = 1 };
  bool is_complete;
  uint64_t bytes;
  size_t told = 0;

  tsk_qcow2_damage_init(&damage);
  for (uint64_t i = 0; i < 200000; i++) {
    error.guest_offset = i * 2;
    told += tsk_qcow2_damage_add(&damage, &error);
  }
  CHECK(told == 100 && damage.room <= 65536);
  CHECK(tsk_qcow2_damage_count(&damage, &bytes, &is_complete) == bytes && !is_complete);
  tsk_qcow2_damage_free(&damage);
  tsk_qcow2_damage_init(&damage);
  for (uint64_t i = 0; i < 65536; i++) {
    error.guest_offset = i * 2;
    tsk_qcow2_damage_add(&damage, &error);
  }
  CHECK(tsk_qcow2_damage_count(&damage, &bytes, &is_complete) == 65536 && is_complete);
  tsk_qcow2_damage_free(&damage);
}

/* ---- Selector files ----------------------------------------------------------- */

#define MAC_DIGITS "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

void test_selectors(void)
{
  static const struct {
    const char *text;
    int code;
    const char *name;
    bool has_mac;
  } cases[] = {
    { "TSK-QCOW2-SELECTOR 1\nd@1", 0, "d@1", false },
    { "TSK-QCOW2-SELECTOR 1\r\n d \r\n\r\n", 0, " d ", false },
    { "TSK-QCOW2-SELECTOR 1\nd\nMAC " MAC_DIGITS, 0, "d", true },
    { "TSK-QCOW2-SELECTOR 1\nd\nMAC " MAC_DIGITS "\r\n \t", 0, "d", true },
    { "TSK-QCOW2-SELECTOR 1\nd\n\nMAC " MAC_DIGITS, QCOW2_ERROR_ARGUMENT, NULL, false },
    { "TSK-QCOW2-SELECTOR 1\nd\nMAC " MAC_DIGITS "0", QCOW2_ERROR_ARGUMENT, NULL, false },
    { "TSK-QCOW2-SELECTOR 1\n", QCOW2_ERROR_ARGUMENT, NULL, false },
    { "TSK-QCOW2-SELECTOR 1", QCOW2_ERROR_ARGUMENT, NULL, false },
    { "TSK-QCOW2-SELECTOR 1 \nd", QCOW2_ERROR_UNSUPPORTED, NULL, false },
    { "TSK-QCOW2-SELECTOR ", QCOW2_ERROR_UNSUPPORTED, NULL, false },
    { "TSK-QCOW2-SELECTOR", QCOW2_ERROR_ARGUMENT, NULL, false },
    { "", QCOW2_ERROR_ARGUMENT, NULL, false },
  };

  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    struct tsk_qcow2_selector selector, again;
    struct qcow2_error error;
    int code = tsk_qcow2_selector_parse(cases[i].text, strlen(cases[i].text), &selector, &error);
    char *text;

    check_number((uint64_t) -code, (uint64_t) -cases[i].code, "code", cases[i].text);
    if (code != 0)
      continue;
    CHECK(strcmp(selector.name, cases[i].name) == 0 && selector.has_mac == cases[i].has_mac);
    text = tsk_qcow2_selector_format(&selector); /* and what is written is read as the same */
    CHECK(tsk_qcow2_selector_parse(text, strlen(text), &again, &error) == 0);
    CHECK(strcmp(again.name, selector.name) == 0 &&
          memcmp(again.mac, selector.mac, sizeof(again.mac)) == 0);
    CHECK(!selector.has_mac || selector.mac[31] == 0xff);
    free(text);
    tsk_qcow2_selector_free(&selector);
    tsk_qcow2_selector_free(&again);
  }
}
