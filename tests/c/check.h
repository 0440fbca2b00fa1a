/* Checks for tests in C: a failed one is said with its place, the test goes on, and the exit code tells. */
#ifndef LINNET_TESTS_C_CHECK_H
#define LINNET_TESTS_C_CHECK_H

#include <stdio.h>
#include <string.h>

extern int checks_made, checks_failed;

#define CHECK(condition) check_that((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_TEXT(found, expected) check_text((found), (expected), __FILE__, __LINE__)

static inline int check_that(int holds, const char* what, const char* file, int line) {
  ++checks_made;
  if (!holds) {
    ++checks_failed;
    fprintf(stderr, "%s:%d: FAILED: %s\n", file, line, what);
  }
  return holds;
}
/* That `found` holds `expected`. */
static inline int check_text(const char* found, const char* expected, const char* file, int line) {
  const int holds = strstr(found, expected) != NULL;
  ++checks_made;
  if (!holds) {
    ++checks_failed;
    fprintf(stderr, "%s:%d: FAILED: \"%s\" does not hold \"%s\"\n", file, line, found, expected);
  }
  return holds;
}

#endif
