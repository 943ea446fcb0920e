/*
 * What every checker of tests/powercut.rs needs: what had been acknowledged, and how to complain.
 */

#ifndef DURALOG_TESTS_POWERCUT_ACKS_H
#define DURALOG_TESTS_POWERCUT_ACKS_H

#include <duralog.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *format, ...)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    if (duralog_last_error(&error) != DURALOG_OK)
        printf(" (last error: %s: %s)", duralog_status_name(error.status), error.message);
    printf("\n");
    exit(1);
}

/* What had been printed before the cut. */
static FILE *open_acks(void)
{
    const char *name = getenv("POWERCUT_ACKS");
    FILE *file = name == NULL ? NULL : fopen(name, "r");
    if (file == NULL)
        fail("no POWERCUT_ACKS");
    return file;
}

#endif
