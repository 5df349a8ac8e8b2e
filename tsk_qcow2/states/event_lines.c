/* SPDX-License-Identifier: MIT */
#include "event_lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <qcow2core.h>

#define LINE_NAME_BYTES (ENTRY_PATH_BYTES + 8192u)
#define STREAM_BYTES 1024u

/* What all lines of a name begin with. */
struct line {
  struct event_source *source;
  const TSK_FS_FILE *file;
  const char *path;
};

/* ---- One line -------------------------------------------------------------------------- */

/* What fls adds to names that are not in use. */
static const char *deleted_mark(const TSK_FS_FILE *file)
{
  if (file->name == NULL || (file->name->flags & TSK_FS_NAME_FLAG_UNALLOC) == 0)
    return "";
  return file->meta != NULL && (file->meta->flags & TSK_FS_META_FLAG_ALLOC) != 0
             ? " (deleted-realloc)"
             : " (deleted)";
}

static const char *name_type(const TSK_FS_FILE *file)
{
  unsigned type = file->name == NULL ? 0 : (unsigned) file->name->type;

  return type < TSK_FS_NAME_TYPE_STR_MAX ? tsk_fs_name_type_str[type] : "-";
}

/* The facts that do not depend on the attribute. */
static void set_facts(const TSK_FS_FILE *file, struct body_facts *facts)
{
  const TSK_FS_META *meta = file->meta;

  memset(facts, 0, sizeof(*facts));
  snprintf(facts->inode, sizeof(facts->inode), "%" PRIu64,
           (uint64_t) (file->name == NULL ? 0 : file->name->meta_addr));
  body_mode(name_type(file), meta == NULL ? 0 : (unsigned) meta->type,
            meta == NULL ? 0 : (uint32_t) meta->mode, meta != NULL, facts->mode);
  if (meta == NULL)
    return;
  facts->uid = (uint32_t) meta->uid;
  facts->gid = (uint32_t) meta->gid;
  facts->size = meta->size;
  facts->times[TIME_MODIFIED] = meta->mtime;
  facts->times[TIME_ACCESSED] = meta->atime;
  facts->times[TIME_CHANGED] = meta->ctime;
  facts->times[TIME_BORN] = meta->crtime;
}

static void set_attribute(const TSK_FS_FILE *file, const TSK_FS_ATTR *attr,
                          struct body_facts *facts)
{
  snprintf(facts->inode, sizeof(facts->inode), "%" PRIu64 "-%u-%u",
           (uint64_t) file->name->meta_addr, (unsigned) attr->type, (unsigned) attr->id);
  facts->size = attr->size;
}

/* The times of the name itself, which NTFS keeps too. */
static void set_name_times(const TSK_FS_META *meta, struct body_facts *facts)
{
  facts->times[TIME_MODIFIED] = meta->time2.ntfs.fn_mtime;
  facts->times[TIME_ACCESSED] = meta->time2.ntfs.fn_atime;
  facts->times[TIME_CHANGED] = meta->time2.ntfs.fn_ctime;
  facts->times[TIME_BORN] = meta->time2.ntfs.fn_crtime;
}

static void add_line(const struct line *line, const char *suffix, const struct body_facts *facts)
{
  const TSK_FS_META *meta = line->file->meta;
  char name[LINE_NAME_BYTES], link[STREAM_BYTES] = "";

  if (meta != NULL && meta->link != NULL)
    qcow2_text_escape(meta->link, strlen(meta->link), link, sizeof(link));
  snprintf(name, sizeof(name), "%s%s%s%s%s%s", line->source->prefix, line->path, suffix,
           link[0] == '\0' ? "" : " -> ", link, deleted_mark(line->file));
  if (!events_add(line->source->events, line->source->state, name, facts))
    line->source->is_out_of_memory = true;
}

/* ---- NTFS ---------------------------------------------------------------------------------- */

/* The name of a stream as fls prints it, after a colon; "" for those that every file has. */
static void stream_suffix(const TSK_FS_ATTR *attr, char out[STREAM_BYTES + 1])
{
  bool is_index = attr->type == TSK_FS_ATTR_TYPE_NTFS_IDXROOT;
  const char *name = attr->name == NULL ? "" : attr->name;

  out[0] = '\0';
  if (name[0] == '\0' || strcmp(name, is_index ? "$I30" : "$Data") == 0)
    return;
  out[0] = ':';
  qcow2_text_escape(name, strlen(name), out + 1, STREAM_BYTES);
}

/* Add the line of an attribute, if fls has one. */
static bool add_attribute(const struct line *line, const TSK_FS_ATTR *attr)
{
  struct body_facts facts;
  char suffix[STREAM_BYTES + 1];

  set_facts(line->file, &facts);
  set_attribute(line->file, attr, &facts);
  switch ((unsigned) attr->type) {
  case TSK_FS_ATTR_TYPE_NTFS_DATA:
  case TSK_FS_ATTR_TYPE_NTFS_IDXROOT: stream_suffix(attr, suffix); break;
  case TSK_FS_ATTR_TYPE_NTFS_FNAME:
    if (attr->id != line->file->meta->time2.ntfs.fn_id)
      return false;
    set_name_times(line->file->meta, &facts);
    snprintf(suffix, sizeof(suffix), " ($FILE_NAME)");
    break;
  default: return false;
  }
  add_line(line, suffix, &facts);
  return attr->type != TSK_FS_ATTR_TYPE_NTFS_FNAME;
}

/* Add the lines of all attributes. False: there is no content. */
static bool add_attributes(const struct line *line, TSK_FS_FILE *file)
{
  bool has_content = false;

  if (tsk_fs_file_attr_getsize(file) <= 0 || file->meta->attr == NULL)
    return false;
  for (const TSK_FS_ATTR *attr = file->meta->attr->head; attr != NULL; attr = attr->next)
    if ((attr->flags & TSK_FS_ATTR_INUSE) != 0)
      has_content = add_attribute(line, attr) || has_content;
  return has_content;
}

/* ---- Any file system ------------------------------------------------------------------------ */

void event_lines_add(void *context, TSK_FS_FILE *file, const struct entries *entries, size_t index)
{
  char path[ENTRY_PATH_BYTES];
  struct line line = { .source = context, .file = file };
  struct body_facts facts;

  if (file == NULL || file->name == NULL)
    return;
  line.path = entry_path(entries, index, path);
  if (TSK_FS_TYPE_ISNTFS(file->fs_info->ftype) && file->meta != NULL && add_attributes(&line, file))
    return;
  set_facts(file, &facts);
  add_line(&line, "", &facts);
}
