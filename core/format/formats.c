/* SPDX-License-Identifier: MIT */
#include "formats.h"

#include <stdio.h>
#include <string.h>

#include "../base/bytes.h"

/* ---- Names --------------------------------------------------------------- */

static const struct qcow2_file_format FORMATS[] = {
  { "raw", "raw", "raw", ".raw.dd.", FORMAT_RAW, false, false },
  { "qcow2", "qcow2", "qcow2", ".qcow2.", FORMAT_QCOW2, false, false },
  { "qcow", "qcow version 1", "qcow", NULL, FORMAT_QCOW2, false, false },
  { "vmdk", "VMDK", "vmdk", ".vmdk.", FORMAT_FOREIGN, true, false },
  { "vhd", "VHD", "vpc", ".vhd.vpc.", FORMAT_FOREIGN, false, false },
  { "ewf", "EWF (E01)", NULL, ".e01.ex01.s01.", FORMAT_FOREIGN, true, false },
  { "aff", "AFF", NULL, ".aff.", FORMAT_FOREIGN, false, false },
  { "afd", "AFD", NULL, ".afd.", FORMAT_FOREIGN, true, false },
  { "afm", "AFM", NULL, ".afm.", FORMAT_FOREIGN, true, false },
  { "vhdx", "VHDX", "vhdx", NULL, FORMAT_UNREADABLE, false, false },
  { "vdi", "VDI", "vdi", NULL, FORMAT_UNREADABLE, false, false },
  { "qed", "QED", "qed", NULL, FORMAT_UNREADABLE, false, false },
  { "parallels", "a Parallels disk", "parallels", NULL, FORMAT_UNREADABLE, false, false },
  { "dmg", "DMG", "dmg", NULL, FORMAT_UNREADABLE, false, false },
  { "luks", "LUKS", "luks", NULL, FORMAT_UNREADABLE, false, true },
  { "gzip", "gzip", NULL, NULL, FORMAT_PACKED, false, false },
  { "xz", "xz", NULL, NULL, FORMAT_PACKED, false, false },
  { "bzip2", "bzip2", NULL, NULL, FORMAT_PACKED, false, false },
  { "zstd", "zstd", NULL, NULL, FORMAT_PACKED, false, false },
  { "lz4", "lz4", NULL, NULL, FORMAT_PACKED, false, false },
  { "lzop", "lzop", NULL, NULL, FORMAT_PACKED, false, false },
  { "zip", "zip", NULL, NULL, FORMAT_PACKED, false, false },
  { "tar", "tar", NULL, NULL, FORMAT_PACKED, false, true },
  { "7z", "7-Zip", NULL, NULL, FORMAT_PACKED, false, false },
};
#define FORMAT_COUNT (sizeof(FORMATS) / sizeof(FORMATS[0]))

const struct qcow2_file_format *qcow2_format_by_name(const char *name)
{
  for (size_t i = 0; i < FORMAT_COUNT; i++)
    if (strcmp(FORMATS[i].name, name) == 0)
      return &FORMATS[i];
  return NULL;
}

const struct qcow2_file_format *qcow2_format_by_driver(const char *driver)
{
  /* "file" and "host_device" are QEMU's names for a file's and a device's plain bytes. */
  if (strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0)
    driver = "raw";
  for (size_t i = 0; i < FORMAT_COUNT; i++)
    if (FORMATS[i].driver != NULL && strcmp(FORMATS[i].driver, driver) == 0)
      return &FORMATS[i];
  return NULL;
}

/* As tolower(), whatever the locale. */
static int lower(char letter)
{
  return letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter;
}

/* True if the extension, in upper or lower case, is one of `extensions`. */
static bool has_extension(const char *extensions, const char *extension)
{
  for (const char *at = extensions; at[1] != '\0'; at = strchr(at + 1, '.')) {
    size_t i = 0;

    while (extension[i] != '\0' && lower(extension[i]) == at[1 + i])
      i++;
    if (extension[i] == '\0' && at[1 + i] == '.')
      return true;
  }
  return false;
}

const struct qcow2_file_format *qcow2_format_by_extension(const char *path)
{
  const char *dot = path == NULL ? NULL : strrchr(path, '.');

  if (dot == NULL || dot[1] == '\0' || strchr(dot, '/') != NULL)
    return NULL;
  for (size_t i = 0; i < FORMAT_COUNT; i++)
    if (FORMATS[i].extensions != NULL && has_extension(FORMATS[i].extensions, dot + 1))
      return &FORMATS[i];
  return NULL;
}

bool qcow2_format_name_says_packed(const char *path)
{
  static const char mark[] = ".qcow2.";
  const char *slash = path == NULL ? NULL : strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;

  for (; name != NULL && *name != '\0'; name++) {
    size_t i = 0;

    while (mark[i] != '\0' && lower(name[i]) == mark[i])
      i++;
    if (mark[i] == '\0' && name[i] != '\0')
      return true;
  }
  return false;
}

/* ---- Content ---------------------------------------------------------------- */

static const struct signature {
  const char *format;
  bool at_end; /* FORMAT_END_BYTES before the end */
  size_t length;
  const char *bytes;
} SIGNATURES[] = {
  { "vmdk", false, 4, "KDMV" },
  { "vmdk", false, 4, "COWD" },
  { "vmdk", false, 21, "# Disk DescriptorFile" },
  { "vhd", false, 8, "conectix" },
  { "ewf", false, 8, "EVF\x09\x0d\x0a\xff\x00" },
  { "ewf", false, 8, "EVF2\x0d\x0a\x81\x00" },
  { "aff", false, 8, "AFF10\x0d\x0a\x00" },
  { "vhdx", false, 8, "vhdxfile" },
  { "vdi", false, 4, "<<< " },
  { "qed", false, 4, "QED\x00" },
  { "parallels", false, 16, "WithoutFreeSpace" },
  { "parallels", false, 16, "WithouFreSpacExt" },
  { "luks", false, 6, "LUKS\xba\xbe" },
  { "gzip", false, 3, "\x1f\x8b\x08" },
  { "xz", false, 6,
    "\xfd"
    "7zXZ\x00" },
  { "bzip2", false, 10, NULL }, /* below: the fourth byte is a digit */
  { "zstd", false, 4, "\x28\xb5\x2f\xfd" },
  { "lz4", false, 4, "\x04\x22\x4d\x18" },
  { "lzop", false, 9, "\x89LZO\x00\x0d\x0a\x1a\x0a" },
  { "zip", false, 4, "PK\x03\x04" },
  { "7z", false, 6, "7z\xbc\xaf\x27\x1c" },
  { "vhd", true, 8, "conectix" },
  { "dmg", true, 4, "koly" },
};

/* Where the mark of a tar archive is in its first header. */
#define TAR_MARK_OFFSET 257u

/* "BZh", the block size, and a block's or the end's mark. */
static bool starts_as_bzip2(const uint8_t *start)
{
  return memcmp(start, "BZh", 3) == 0 && start[3] >= '1' && start[3] <= '9' &&
         (memcmp(start + 4, "1AY&SY", 6) == 0 ||
          memcmp(start + 4, "\x17\x72\x45\x38\x50\x90", 6) == 0);
}

static bool starts_as_tar(const uint8_t *start, size_t length)
{
  return length >= TAR_MARK_OFFSET + 5 && memcmp(start + TAR_MARK_OFFSET, "ustar", 5) == 0;
}

static bool matches(const struct signature *signature, const uint8_t *start, size_t length,
                    const uint8_t *end)
{
  if (signature->at_end)
    return end != NULL && memcmp(end, signature->bytes, signature->length) == 0;
  if (length < signature->length)
    return false;
  return signature->bytes == NULL ? starts_as_bzip2(start)
                                  : memcmp(start, signature->bytes, signature->length) == 0;
}

uint32_t qcow2_format_qcow_version(const uint8_t *start, size_t length)
{
  return length >= 8 && memcmp(start, "QFI\xfb", 4) == 0 ? be32_get(start + 4) : 0;
}

const struct qcow2_file_format *qcow2_format_by_content(const uint8_t *start, size_t length,
                                                        const uint8_t *end)
{
  uint32_t version = qcow2_format_qcow_version(start, length);

  if (version > 0)
    return qcow2_format_by_name(version == 1 ? "qcow" : "qcow2");
  for (size_t i = 0; i < sizeof(SIGNATURES) / sizeof(SIGNATURES[0]); i++)
    if (matches(&SIGNATURES[i], start, length, end))
      return qcow2_format_by_name(SIGNATURES[i].format);
  return starts_as_tar(start, length) ? qcow2_format_by_name("tar") : NULL;
}

/* ---- Split disks ---------------------------------------------------------------- */

static bool ends_with(const char *text, const char *suffix)
{
  size_t length = strlen(text), of_suffix = strlen(suffix);

  if (length < of_suffix)
    return false;
  for (size_t i = 0; i < of_suffix; i++)
    if (lower(text[length - of_suffix + i]) != suffix[i])
      return false;
  return true;
}

bool qcow2_format_next_part(const char *first, char *next, size_t size)
{
  static const char *const COUNTED[] = { ".001", "_001", ".000", "_000", ".01", "_01", ".00",
                                         "_00",  ".aaa", "xaaa", "_aaa", ".aa", "xaa", "_aa" };
  size_t length = strlen(first);

  if (length + sizeof("002.dmgpart") > size)
    return false;
  memcpy(next, first, length + 1);
  for (size_t i = 0; i < sizeof(COUNTED) / sizeof(COUNTED[0]); i++)
    if (ends_with(first, COUNTED[i])) {
      next[length - 1]++;
      return true;
    }
  if (ends_with(first, ".dmg"))
    snprintf(next + length - 3, size - length + 3, "002.dmgpart");
  else if (ends_with(first, ".bin"))
    snprintf(next + length - 4, size - length + 4, "(2).bin");
  else
    return false;
  return true;
}
