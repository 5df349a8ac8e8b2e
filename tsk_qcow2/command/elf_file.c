/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger parts are not read. Browsers have tables of a few MiB. */
#define PART_BYTES_MAX ((size_t) 64 << 20)
#define SECTIONS_MAX 4096u

/* ELF(X): Elf64_X or Elf32_X, as on this machine. */
#define ELF(name) ELF_OF(__ELF_NATIVE_CLASS, name)
#define ELF_OF(bits, name) ELF_PASTE(bits, name)
#define ELF_PASTE(bits, name) ELF##bits##_##name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_DATA ELFDATA2LSB
#else
#define NATIVE_DATA ELFDATA2MSB
#endif

/* ---- Parts of the file --------------------------------------------------------- */

static bool read_exactly(int descriptor, uint64_t offset, void *buffer, size_t bytes)
{
  char *out = buffer;

  while (bytes > 0) {
    ssize_t count = offset > INT64_MAX ? -1 : pread(descriptor, out, bytes, (off_t) offset);

    if (count <= 0)
      return false;
    out += count;
    offset += (size_t) count;
    bytes -= (size_t) count;
  }
  return true;
}

/* Allocate a part and read it, with a zero after it. NULL: it is too large, or after the end of the
   file, or there is no memory. */
static void *read_part(int descriptor, uint64_t offset, uint64_t bytes)
{
  char *part = bytes > PART_BYTES_MAX ? NULL : malloc((size_t) bytes + 1);

  if (part == NULL)
    return NULL;
  part[bytes] = '\0';
  if (read_exactly(descriptor, offset, part, (size_t) bytes))
    return part;
  free(part);
  return NULL;
}

static bool read_header(int descriptor, ElfW(Ehdr) * header)
{
  return read_exactly(descriptor, 0, header, sizeof(*header)) &&
         memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
         header->e_ident[EI_CLASS] == (__ELF_NATIVE_CLASS == 64 ? ELFCLASS64 : ELFCLASS32) &&
         header->e_ident[EI_DATA] == NATIVE_DATA;
}

/* The section headers, header->e_shnum of them. NULL: there are none that can be read. */
static ElfW(Shdr) * read_sections(int descriptor, const ElfW(Ehdr) * header)
{
  if (header->e_shentsize != sizeof(ElfW(Shdr)) || header->e_shnum == 0 ||
      header->e_shnum > SECTIONS_MAX)
    return NULL;
  return read_part(descriptor, header->e_shoff, header->e_shnum * sizeof(ElfW(Shdr)));
}

/* The first section of a type; NULL: none. */
static const ElfW(Shdr) * find_section(const ElfW(Shdr) * sections, size_t count, uint32_t type)
{
  for (size_t i = 0; i < count; i++)
    if (sections[i].sh_type == type)
      return &sections[i];
  return NULL;
}

/* ---- The tables ---------------------------------------------------------------- */

/* The dynamic section and the dynamic symbols. They share their strings. */
static bool read_tables(int descriptor, const ElfW(Shdr) * sections, size_t count,
                        struct elf_file *file)
{
  const ElfW(Shdr) *dynamic = find_section(sections, count, SHT_DYNAMIC);
  const ElfW(Shdr) *symbols = find_section(sections, count, SHT_DYNSYM);
  const ElfW(Shdr) * strings;

  if (dynamic == NULL || symbols == NULL)
    return true;
  if (dynamic->sh_link != symbols->sh_link || symbols->sh_link >= count)
    return false;
  strings = &sections[symbols->sh_link];
  file->dynamic = read_part(descriptor, dynamic->sh_offset, dynamic->sh_size);
  file->symbols = read_part(descriptor, symbols->sh_offset, symbols->sh_size);
  file->strings = read_part(descriptor, strings->sh_offset, strings->sh_size);
  if (file->dynamic == NULL || file->symbols == NULL || file->strings == NULL)
    return false;
  file->dynamic_count = dynamic->sh_size / sizeof(file->dynamic[0]);
  file->symbol_count = symbols->sh_size / sizeof(file->symbols[0]);
  file->strings_bytes = strings->sh_size;
  return true;
}

static void note_relocated(struct elf_file *file, uint64_t symbol)
{
  if (symbol < file->symbol_count)
    file->is_relocated[symbol] = true;
}

/* Note which symbols the relocations of a section name. */
static bool read_relocations(int descriptor, const ElfW(Shdr) * section, struct elf_file *file)
{
  void *part = read_part(descriptor, section->sh_offset, section->sh_size);
  const ElfW(Rela) *with_addend = part;
  const ElfW(Rel) *without = part;

  if (part == NULL)
    return false;
  if (section->sh_type == SHT_RELA)
    for (size_t i = 0; i < section->sh_size / sizeof(*with_addend); i++)
      note_relocated(file, ELF(R_SYM)(with_addend[i].r_info));
  else
    for (size_t i = 0; i < section->sh_size / sizeof(*without); i++)
      note_relocated(file, ELF(R_SYM)(without[i].r_info));
  free(part);
  return true;
}

static bool read_all_relocations(int descriptor, const ElfW(Shdr) * sections, size_t count,
                                 struct elf_file *file)
{
  file->is_relocated = calloc(file->symbol_count + 1, sizeof(file->is_relocated[0]));
  if (file->is_relocated == NULL)
    return false;
  for (size_t i = 0; i < count; i++)
    if ((sections[i].sh_type == SHT_RELA || sections[i].sh_type == SHT_REL) &&
        sections[i].sh_link < count && sections[sections[i].sh_link].sh_type == SHT_DYNSYM &&
        !read_relocations(descriptor, &sections[i], file))
      return false;
  return true;
}

static bool read_file(int descriptor, bool with_relocations, struct elf_file *file)
{
  ElfW(Ehdr) header;
  ElfW(Shdr) * sections;
  bool is_read;

  if (!read_header(descriptor, &header))
    return false;
  sections = read_sections(descriptor, &header);
  is_read = sections != NULL && read_tables(descriptor, sections, header.e_shnum, file) &&
            (!with_relocations || read_all_relocations(descriptor, sections, header.e_shnum, file));
  free(sections);
  return is_read;
}

/* Open a regular file for reading. -1: it is no regular file, or cannot be opened. */
static int open_regular(const char *path)
{
  struct stat status;

  if (stat(path, &status) != 0 || !S_ISREG(status.st_mode))
    return -1;
  return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

bool elf_file_read(const char *path, bool with_relocations, struct elf_file *file)
{
  int descriptor = open_regular(path);
  bool is_read;

  memset(file, 0, sizeof(*file));
  is_read = descriptor >= 0 && read_file(descriptor, with_relocations, file);
  if (descriptor >= 0)
    close(descriptor);
  if (!is_read)
    elf_file_free(file);
  return is_read;
}

void elf_file_free(struct elf_file *file)
{
  free(file->dynamic);
  free(file->symbols);
  free(file->is_relocated);
  free(file->strings);
  memset(file, 0, sizeof(*file));
}

/* ---- Looking things up ------------------------------------------------------------ */

static const char *string_at(const struct elf_file *file, uint64_t offset)
{
  return offset < file->strings_bytes ? file->strings + offset : "";
}

const char *elf_file_dynamic(const struct elf_file *file, int64_t tag, size_t index)
{
  for (size_t i = 0; i < file->dynamic_count && file->dynamic[i].d_tag != DT_NULL; i++)
    if (file->dynamic[i].d_tag == tag && index-- == 0)
      return string_at(file, file->dynamic[i].d_un.d_val);
  return NULL;
}

const char *elf_file_symbol_name(const struct elf_file *file, size_t index)
{
  return string_at(file, file->symbols[index].st_name);
}

bool elf_file_defines(const struct elf_file *file, const char *name)
{
  for (size_t i = 0; i < file->symbol_count; i++)
    if (file->symbols[i].st_shndx != SHN_UNDEF && strcmp(elf_file_symbol_name(file, i), name) == 0)
      return true;
  return false;
}

bool elf_file_relocates(const struct elf_file *file, const char *name)
{
  for (size_t i = 0; i < file->symbol_count; i++)
    if (file->is_relocated[i] && strcmp(elf_file_symbol_name(file, i), name) == 0)
      return true;
  return false;
}

/* ---- Text ----------------------------------------------------------------------------- */

/* True if the rest of the file, from `offset` on, contains the text. Pieces overlap by the text's
   length. */
static bool search(int descriptor, const char *text)
{
  static char piece[1 << 20];
  size_t length = strlen(text), kept = 0;
  ssize_t count;

  while ((count = read(descriptor, piece + kept, sizeof(piece) - kept)) > 0) {
    size_t filled = kept + (size_t) count;

    if (memmem(piece, filled, text, length) != NULL)
      return true;
    kept = filled < length - 1 ? filled : length - 1;
    memmove(piece, piece + filled - kept, kept);
  }
  return false;
}

bool elf_file_contains(const char *path, const char *text)
{
  int descriptor = open_regular(path);
  ElfW(Ehdr) header;
  bool is_found = descriptor >= 0 && read_header(descriptor, &header) && search(descriptor, text);

  if (descriptor >= 0)
    close(descriptor);
  return is_found;
}
