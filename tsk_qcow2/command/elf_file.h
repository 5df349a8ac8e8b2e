/* SPDX-License-Identifier: MIT */
/* The dynamic symbols of a program or library, read from its file. The file is not loaded or
   run. */
#ifndef TSK_QCOW2_ELF_FILE_H
#define TSK_QCOW2_ELF_FILE_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A program or library of this machine's kind. One that is linked statically has no dynamic entries
   and no symbols. */
struct elf_file {
  ElfW(Dyn) * dynamic;
  size_t dynamic_count;
  ElfW(Sym) * symbols;
  size_t symbol_count;
  bool *is_relocated; /* for each symbol: does a relocation name it, so that the loader resolves it?
                         NULL: not read */
  char *strings;      /* of the symbols and the dynamic entries; ends with a zero */
  size_t strings_bytes;
};

/* Read `path`. The caller frees with elf_file_free(). False: it cannot be read, or is no such
   file. */
bool elf_file_read(const char *path, bool with_relocations, struct elf_file *file);

/* All zero is allowed. */
void elf_file_free(struct elf_file *file);

/* The string of the `index`-th dynamic entry with this tag, such as DT_NEEDED. NULL: there are
   fewer. */
const char *elf_file_dynamic(const struct elf_file *file, int64_t tag, size_t index);

const char *elf_file_symbol_name(const struct elf_file *file, size_t index);

/* True if the file defines this symbol for other files. */
bool elf_file_defines(const struct elf_file *file, const char *name);

/* True if a relocation names the symbol. They must have been read. */
bool elf_file_relocates(const struct elf_file *file, const char *name);

/* True if the file is for this machine, and contains the text somewhere. */
bool elf_file_contains(const char *path, const char *text);

#endif
