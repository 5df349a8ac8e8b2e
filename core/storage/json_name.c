/* SPDX-License-Identifier: MIT */
#include "json_name.h"

#include <string.h>

/* A longer text than any path of the system is not looked at. */
#define TEXT_BYTES 4096u

struct scanner {
  const char *at;
  unsigned depth;        /* of braces and brackets */
  unsigned skip_depth;   /* > 0: what is at this depth, or deeper, is about another file */
  char text[TEXT_BYTES]; /* the last string */
};

static const char *skip_blanks(const char *at)
{
  return at + strspn(at, " \t\r\n");
}

/* The value of up to four hexadecimal digits. */
static unsigned hexadecimal(const char *digits)
{
  static const char DIGITS[] = "0123456789abcdef0123456789ABCDEF";
  unsigned value = 0;

  for (int i = 0; i < 4; i++) {
    const char *found = digits[i] == '\0' ? NULL : strchr(DIGITS, digits[i]);

    if (found == NULL)
      return 0;
    value = value << 4 | (unsigned) ((found - DIGITS) & 15);
  }
  return value;
}

/* Take the character after a backslash. Only those of ASCII are known: of others *is_known becomes
   false. */
static char take_escaped(const char **at, bool *is_known)
{
  static const char LETTERS[] = "bfnrt", VALUES[] = "\b\f\n\r\t";
  const char *letter = **at == '\0' ? NULL : strchr(LETTERS, **at);
  unsigned value;

  if (letter != NULL) {
    ++*at;
    return VALUES[letter - LETTERS];
  }
  if (**at != 'u')
    return *(*at)++;
  value = hexadecimal(*at + 1);
  if (value == 0 || value > 0x7f) {
    *is_known = false;
    return '?';
  }
  *at += 5;
  return (char) value;
}

/* Take the string that begins at the quotation mark. False: it does not end, or cannot be kept. */
static bool take_string(struct scanner *scanner)
{
  bool is_known = true;
  size_t length = 0;

  for (scanner->at++; *scanner->at != '"'; length++) {
    char letter = *scanner->at;

    if (letter == '\0' || length + 1 >= sizeof(scanner->text))
      return false;
    scanner->at++;
    if (letter == '\\' && *scanner->at == '\0')
      return false;
    if (letter == '\\')
      letter = take_escaped(&scanner->at, &is_known);
    scanner->text[length] = letter;
  }
  scanner->text[length] = '\0';
  scanner->at++;
  return is_known;
}

static bool begins_with(const char *text, const char *start)
{
  return strncmp(text, start, strlen(start)) == 0;
}

/* True if the key, or what a dotted key begins with, is about another file. */
static bool is_of_another_file(const char *key)
{
  return strcmp(key, "backing") == 0 || strcmp(key, "data-file") == 0 ||
         begins_with(key, "backing.") || begins_with(key, "data-file.");
}

static bool is_file_name(const char *key)
{
  const char *dot = strrchr(key, '.');

  return strcmp(dot == NULL ? key : dot + 1, "filename") == 0;
}

/* A key was taken: *is_name says if its value is a file name. False: the text makes no sense. */
static bool take_key(struct scanner *scanner, bool *is_name)
{
  bool is_other = is_of_another_file(scanner->text);

  *is_name = !is_other && scanner->skip_depth == 0 && is_file_name(scanner->text);
  scanner->at = skip_blanks(scanner->at + 1);
  if (is_other && scanner->skip_depth == 0 && (*scanner->at == '{' || *scanner->at == '['))
    scanner->skip_depth = scanner->depth + 1;
  *is_name = *is_name && *scanner->at == '"';
  return !*is_name || take_string(scanner);
}

static void take_bracket(struct scanner *scanner)
{
  bool opens = *scanner->at == '{' || *scanner->at == '[';

  if (opens)
    scanner->depth++;
  else if (scanner->depth > 0 && scanner->depth-- == scanner->skip_depth)
    scanner->skip_depth = 0;
  scanner->at++;
}

bool qcow2_json_file_name(const char *json, char *out, size_t out_size)
{
  struct scanner scanner = { .at = json };
  size_t found = 0;

  while (*scanner.at != '\0') {
    bool is_name = false;

    if (strchr("{}[]", *scanner.at) != NULL) {
      take_bracket(&scanner);
      continue;
    }
    if (*scanner.at != '"') {
      scanner.at++;
      continue;
    }
    if (!take_string(&scanner))
      return false;
    scanner.at = skip_blanks(scanner.at);
    if (*scanner.at == ':' && !take_key(&scanner, &is_name))
      return false;
    if (!is_name)
      continue;
    if (strlen(scanner.text) >= out_size || (found > 0 && strcmp(out, scanner.text) != 0))
      return false;
    strcpy(out, scanner.text);
    found++;
  }
  return found > 0;
}
