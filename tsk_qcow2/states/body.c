/* SPDX-License-Identifier: MIT */
#include "body.h"

#include <stdio.h>
#include <string.h>
#include <tsk/libtsk.h>

/* Which letter a permission has, with and without the special bit that shares its place. */
static char letter(uint32_t mode, uint32_t bit, char plain, uint32_t special_bit, char both,
                   char special)
{
  bool is_set = (mode & bit) != 0;

  if ((mode & special_bit) == 0 && !is_set)
    return '-';
  if ((mode & special_bit) == 0)
    return plain;
  if (is_set)
    return both;
  return special;
}

static void write_permissions(uint32_t mode, char out[10])
{
  out[0] = letter(mode, TSK_FS_META_MODE_IRUSR, 'r', 0, 0, 0);
  out[1] = letter(mode, TSK_FS_META_MODE_IWUSR, 'w', 0, 0, 0);
  out[2] = letter(mode, TSK_FS_META_MODE_IXUSR, 'x', TSK_FS_META_MODE_ISUID, 's', 'S');
  out[3] = letter(mode, TSK_FS_META_MODE_IRGRP, 'r', 0, 0, 0);
  out[4] = letter(mode, TSK_FS_META_MODE_IWGRP, 'w', 0, 0, 0);
  out[5] = letter(mode, TSK_FS_META_MODE_IXGRP, 'x', TSK_FS_META_MODE_ISGID, 's', 'S');
  out[6] = letter(mode, TSK_FS_META_MODE_IROTH, 'r', 0, 0, 0);
  out[7] = letter(mode, TSK_FS_META_MODE_IWOTH, 'w', 0, 0, 0);
  out[8] = letter(mode, TSK_FS_META_MODE_IXOTH, 'x', TSK_FS_META_MODE_ISVTX, 't', 'T');
  out[9] = '\0';
}

const char *body_type(unsigned meta_type)
{
  return meta_type < TSK_FS_META_TYPE_STR_MAX ? tsk_fs_meta_type_str[meta_type] : "-";
}

void body_mode(const char *of_name, unsigned meta_type, uint32_t mode, bool has_meta, char out[16])
{
  char permissions[10] = "---------";

  if (has_meta)
    write_permissions(mode, permissions);
  snprintf(out, 16, "%s/%s%s", of_name, has_meta ? body_type(meta_type) : "-", permissions);
}

char *body_escape(const char *name, char *out, size_t out_size)
{
  size_t used = 0;

  for (; *name != '\0' && used + 4 <= out_size; name++)
    if (*name == '|' || *name == '%')
      used += (size_t) snprintf(out + used, out_size - used, "%%%02X", (unsigned) *name);
    else
      out[used++] = *name;
  out[used] = '\0';
  return out;
}
