/* What the C tests share: checks that say what was expected, found, and where. */

#ifndef DURALOG_TESTS_CHECK_H
#define DURALOG_TESTS_CHECK_H

#include <duralog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures = 0;
static int check_count = 0;

static void check_status(int line, const char *what, duralog_status_t found,
                         duralog_status_t expected)
{
    check_count++;
    if (found != expected) {
        duralog_error_t error = DURALOG_ERROR_INIT;
        duralog_last_error(&error);
        fprintf(stderr, "line %d: %s: expected %s, found %s (last error: %s)\n", line, what,
                duralog_status_name(expected), duralog_status_name(found), error.message);
        check_failures++;
    }
}

static void check_that(int line, const char *what, int holds)
{
    check_count++;
    if (!holds) {
        fprintf(stderr, "line %d: does not hold: %s\n", line, what);
        check_failures++;
    }
}

/* The call returns this status. */
#define GIVES(expected, call) check_status(__LINE__, #call, (call), (expected))
/* The condition holds. */
#define HOLDS(condition) check_that(__LINE__, #condition, (condition))

/* Where the bytes of a text are. */
#define BYTES(text) ((const uint8_t *)(text))

/* What main returns. */
static int check_result(void)
{
    printf("%d checks, %d failed\n", check_count, check_failures);
    return check_failures == 0 ? 0 : 1;
}

#endif
